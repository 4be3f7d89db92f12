//! The gateway-in daemon and its commands.

fn main() -> std::process::ExitCode {
    gateway_in::cli_main(std::env::args_os())
}
