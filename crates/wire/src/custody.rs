use crate::{Transfer, Violation};

/// The relay's account of one body on its way in: what the sender was granted, and what came.
#[derive(Clone, Copy, Debug)]
pub struct Inflow {
    transfer: Transfer,
    size: Option<u64>,
    granted: Option<u64>,
    received: u64,
}

impl Inflow {
    /// An admitted offer, nothing granted yet.
    pub fn new(transfer: Transfer, size: Option<u64>) -> Self {
        Self { transfer, size, granted: None, received: 0 }
    }

    /// The transfer.
    pub fn transfer(&self) -> Transfer {
        self.transfer
    }

    /// Raises the grant to `up_to`, to the body's end at most. Gives the offset to tell the sender, if it is news.
    pub fn grant(&mut self, up_to: u64) -> Option<u64> {
        let up_to = up_to.min(self.size.unwrap_or(u64::MAX));
        (self.granted < Some(up_to)).then(|| {
            self.granted = Some(up_to);
            up_to
        })
    }

    /// Counts body bytes that came.
    pub fn receive(&mut self, bytes: u64) -> Result<(), Violation> {
        let (received, granted) = (self.received.saturating_add(bytes), self.granted());
        if received > granted {
            return Err(Violation::BeyondGrant { transfer: self.transfer, received, granted });
        }
        self.received = received;
        Ok(())
    }

    /// The digest and FIN came.
    pub fn finish(&self) -> Result<(), Violation> {
        match self.size {
            Some(announced) if announced != self.received => {
                Err(Violation::Length { transfer: self.transfer, announced, received: self.received })
            }
            _ => Ok(()),
        }
    }

    /// The absolute offset granted.
    pub fn granted(&self) -> u64 {
        self.granted.unwrap_or(0)
    }

    /// Body bytes that came.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Granted and not yet here.
    pub fn outstanding(&self) -> u64 {
        self.granted().saturating_sub(self.received)
    }

    /// Granted to its announced end.
    pub fn granted_to_end(&self) -> bool {
        self.granted.is_some() && self.size.is_some_and(|size| self.granted() >= size)
    }
}

/// The relay's account of one lease on its way out: what the recipient granted, what was handed to the
/// stream, and what the stream has taken.
#[derive(Clone, Copy, Debug)]
pub struct Outflow {
    granted: Option<u64>,
    queued: u64,
    written: u64,
    in_flight_max: u64,
}

impl Outflow {
    /// A lease just offered. At most `in_flight_max` bytes are handed to the stream before it has taken them.
    pub fn new(in_flight_max: u64) -> Self {
        Self { granted: None, queued: 0, written: 0, in_flight_max }
    }

    /// The recipient's grant; the first one opens the stream. Gives true if it did.
    pub fn grant(&mut self, up_to: u64) -> bool {
        let first = self.granted.is_none();
        self.granted = self.granted.max(Some(up_to));
        first
    }

    /// True from the first grant on.
    pub fn open(&self) -> bool {
        self.granted.is_some()
    }

    /// Bytes that may be handed to the stream now.
    pub fn room(&self) -> u64 {
        let window = self.written.saturating_add(self.in_flight_max);
        self.granted.unwrap_or(0).min(window).saturating_sub(self.queued)
    }

    /// Bytes were handed to the stream.
    pub fn queue(&mut self, bytes: u64) {
        self.queued += bytes;
    }

    /// The stream has taken bytes; more than were handed to it cannot be.
    pub fn written(&mut self, bytes: u64) {
        self.written = self.written.saturating_add(bytes).min(self.queued);
    }

    /// Offset of the next byte to hand to the stream.
    pub fn next(&self) -> u64 {
        self.queued
    }

    /// Offset up to which the stream has taken the body.
    pub fn taken(&self) -> u64 {
        self.written
    }
}
