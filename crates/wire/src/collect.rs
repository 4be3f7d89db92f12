use base::Digest;

use crate::{BodyDecoder, BodyError, Transfer, Violation};

/// A recipient's view of one lease: what it granted, and what came.
#[derive(Debug)]
pub struct Collect {
    transfer: Transfer,
    size: Option<u64>,
    granted: u64,
    decoder: BodyDecoder,
}

impl Collect {
    /// An offer that is being taken, with nothing granted yet.
    pub fn new(transfer: Transfer, size: Option<u64>) -> Self {
        Self { transfer, size, granted: 0, decoder: BodyDecoder::default() }
    }

    /// Raises the grant by `more` bytes, to the body's end at most. Gives the new absolute grant if it changed.
    pub fn grant(&mut self, more: u64) -> Option<u64> {
        let granted = self.granted.saturating_add(more).min(self.size.unwrap_or(u64::MAX));
        (granted > self.granted).then(|| {
            self.granted = granted;
            granted
        })
    }

    /// The absolute offset granted.
    pub fn granted(&self) -> u64 {
        self.granted
    }

    /// Body bytes received.
    pub fn received(&self) -> u64 {
        self.decoder.body_bytes()
    }

    /// How many more bytes would be of use before the body is known to be complete.
    pub fn outstanding(&self) -> u64 {
        self.granted.saturating_sub(self.received())
    }

    /// Takes stream bytes after the preamble; appends body bytes to `out`.
    pub fn feed<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a [u8]> + Clone,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        self.decoder.feed(pieces, out);
        let received = self.received();
        if received > self.granted {
            return Err(Violation::BeyondGrant { transfer: self.transfer, received, granted: self.granted });
        }
        Ok(())
    }

    /// At FIN: the digest, if the length is as announced.
    pub fn finish(self) -> Result<Digest, CollectError> {
        let received = self.received();
        if let Some(announced) = self.size.filter(|announced| *announced != received) {
            return Err(CollectError::Peer(Violation::Length {
                transfer: self.transfer,
                announced,
                received,
            }));
        }
        Ok(self.decoder.finish()?)
    }
}

/// Why a body that came to its end is not complete.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CollectError {
    /// Another length than announced.
    #[error(transparent)]
    Peer(#[from] Violation),
    /// No digest at its end.
    #[error(transparent)]
    Body(#[from] BodyError),
}
