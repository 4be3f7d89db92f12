//! The relay over real sockets on the loopback interface, each file one behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is the test's result"
)]

mod commands;
mod common;
mod fairness;
mod interruptions;
mod memory;
mod passage;
mod rates;
mod revocation;
