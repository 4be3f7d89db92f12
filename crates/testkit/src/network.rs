use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// An address on which nobody listens now. Only for a process that cannot take a bound socket or port 0: until it
/// binds, somebody else may take it.
pub fn free_tcp_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// As [`free_tcp_address`], for UDP.
pub fn free_udp_address() -> io::Result<SocketAddr> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_address_can_be_bound() {
        TcpListener::bind(free_tcp_address().unwrap()).unwrap();
        UdpSocket::bind(free_udp_address().unwrap()).unwrap();
    }
}
