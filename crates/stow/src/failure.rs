//! Why there is no answer.

use std::{io, time::Duration};

use thiserror::Error;

/// What happened to a connection. None of it repeats what a server wrote.
#[derive(Debug, Error)]
pub enum Failure {
    /// The server ended it.
    #[error("the service closed the connection")]
    Closed,
    /// The network did, or TLS.
    #[error("connection failed: {0}")]
    Io(io::Error),
    /// It took nothing of what we write.
    #[error("the service took no bytes within {0:?} (`response_timeout`)")]
    NotTaken(Duration),
    /// No answer came, or not all of it.
    #[error("no answer within {0:?} (`response_timeout`)")]
    NoAnswer(Duration),
    /// What came is no HTTP.
    #[error("the answer is no HTTP/1.1: {0}")]
    NotHttp(&'static str),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                Self::Closed
            }
            _ => Self::Io(error),
        }
    }
}

/// Why [`crate::Connection::finish`] gives no answer.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Unfinished(#[from] pub Failure);
