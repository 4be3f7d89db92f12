//! A connection to a peer for what is DICOM but no DIMSE: the web services of PS3.18 are reached like any other peer, with the
//! same TLS (PS3.15 B.12).

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::PoisonError,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use crate::{
    dialer::Dialer,
    failure::ConnectError,
    link::Socket,
    tls::{TlsConnector, TlsFailure},
};

/// Bytes to and from a peer, with TLS or without.
pub struct Stream(Box<dyn Socket>);

impl Dialer {
    /// Connects. `within` is for TCP and TLS together.
    pub async fn stream(&self, address: SocketAddr, within: Duration) -> Result<Stream, ConnectError> {
        let tls = self.tls.as_ref().map(|tls| tls.read().unwrap_or_else(PoisonError::into_inner).clone());
        timeout(within, open(address, tls)).await.unwrap_or(Err(ConnectError::TimedOut(within)))
    }
}

async fn open(address: SocketAddr, tls: Option<TlsConnector>) -> Result<Stream, ConnectError> {
    let stream = TcpStream::connect(address).await.map_err(ConnectError::Unreachable)?;
    stream.set_nodelay(true).map_err(ConnectError::Unreachable)?;
    match tls {
        Some(tls) => Ok(Stream(Box::new(tls.connect(stream).await.map_err(TlsFailure::from)?))),
        None => Ok(Stream(Box::new(stream))),
    }
}

impl Stream {
    /// Makes its end a reset: nobody can take what was sent for all that was to be sent.
    pub fn reset_on_close(&self) {
        self.0.reset_on_close();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}
