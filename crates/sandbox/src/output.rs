//! What standard output and error are connected to.

use std::os::fd::AsFd;

use rustix::fs::{FileType, fstat};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where the lines of a process go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// A pipe.
    Pipe,
    /// A socket, as the journal's.
    Socket,
    /// A terminal or `/dev/null`.
    Device,
    /// A regular file.
    RegularFile,
    /// Closed, or something else.
    Other,
}

/// A process that may write no file writes its lines to one.
#[derive(Debug, Error)]
#[error(
    "{stream} is a regular file, and this process may write none: give it a pipe (`… run … 2>&1 | cat >> relay.log`), run it under systemd, \
     or use --no-sandbox"
)]
pub struct OutputError {
    stream: &'static str,
}

impl Output {
    fn of(stream: impl AsFd) -> Self {
        match fstat(stream).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Fifo) => Self::Pipe,
            Ok(FileType::Socket) => Self::Socket,
            Ok(FileType::CharacterDevice) => Self::Device,
            Ok(FileType::RegularFile) => Self::RegularFile,
            _ => Self::Other,
        }
    }

    /// Of standard output and standard error.
    pub(crate) fn both() -> (Self, Self) {
        (Self::of(std::io::stdout()), Self::of(std::io::stderr()))
    }
}

/// Refuses regular files.
pub(crate) fn no_regular_file((output, error): (Output, Output)) -> Result<(), OutputError> {
    match (output, error) {
        (_, Output::RegularFile) => Err(OutputError { stream: "standard error" }),
        (Output::RegularFile, _) => Err(OutputError { stream: "standard output" }),
        _ => Ok(()),
    }
}
