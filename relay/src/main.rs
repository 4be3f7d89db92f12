//! The relay's process; everything is in the library, so that another binary can call it.

fn main() -> std::process::ExitCode {
    relay::cli_main(std::env::args_os())
}
