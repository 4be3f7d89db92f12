//! Listening ports, opened before the process has a second thread.

use std::io;
use std::net::SocketAddr;

/// Opens a TCP port, so that a runtime can take it over later (`tokio::net::TcpListener::from_std`).
///
/// A runtime without threads opens it: the standard library's own way keeps only 128 connections waiting.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async { tokio::net::TcpListener::bind(address).await?.into_std() })
}

/// Threads of a runtime. To be asked before the lock-down, while the control group's limit can be read.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get)
}
