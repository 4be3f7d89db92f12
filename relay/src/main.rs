//! The relay's process; everything is in the library, so that another binary can call it.

/// Whatever the process frees is wiped, also what passed through the buffers of libraries.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> std::process::ExitCode {
    relay::cli_main(std::env::args_os())
}
