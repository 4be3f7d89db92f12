//! What the crate promises, over whole data sets.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: what cannot be made is a fault of the test"
)]

mod common;
mod decoding;
mod leaks;
mod masking;
mod passing;
mod reidentifying;
mod reports;
mod unseen;
