//! The gateway-out daemon and its commands.

fn main() -> std::process::ExitCode {
    gateway_out::cli_main(std::env::args_os())
}
