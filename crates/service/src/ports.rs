//! Listening ports, opened before the process has a second thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Opens a TCP port, so that a runtime can take it over later (`tokio::net::TcpListener::from_std`).
///
/// A runtime without threads opens it: the standard library's own way keeps only 128 connections waiting.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async { tokio::net::TcpListener::bind(address).await?.into_std() })
}

/// Where this machine reaches a port of its own that listens there.
pub fn local(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        ip if !ip.is_unspecified() => listen,
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port()),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), listen.port()),
    }
}

/// Where others reach a port that listens there: `host, port 11112`. The host's name stands for all of its addresses.
pub fn reached_at(listen: SocketAddr) -> String {
    let host = match listen.ip() {
        ip if ip.is_unspecified() => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map_or_else(|_| "this host".to_owned(), |name| name.trim().to_owned()),
        ip => ip.to_string(),
    };
    format!("{host}, port {}", listen.port())
}

/// Threads of a runtime. To be asked before the lock-down, while the control group's limit can be read.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_all_addresses_is_reached_on_one_and_shown_by_name() {
        let parsed = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(local(parsed("0.0.0.0:104")), parsed("127.0.0.1:104"));
        assert_eq!(local(parsed("[::]:104")), parsed("[::1]:104"));
        assert_eq!(local(parsed("192.0.2.1:104")), parsed("192.0.2.1:104"));
        assert_eq!(reached_at(parsed("192.0.2.1:104")), "192.0.2.1, port 104");
        assert!(!reached_at(parsed("0.0.0.0:104")).contains("0.0.0.0"));
    }
}
