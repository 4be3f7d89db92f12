//! The crate over real sockets: against a peer of our own that can say anything, and against DCMTK.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "all of this is a test, helpers too"
)]

mod commitment;
mod dcmtk;
mod hostile;
mod negotiation;
mod partial;
mod peer;
mod storing;
mod terms;
mod tls;
