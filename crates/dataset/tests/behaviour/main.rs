//! What the crate does to data sets, seen from outside: one program, since each links everything anew.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests"
)]

mod any_split;
mod broken_data_sets;
mod common;
mod part10_files;
mod real_files;
mod reencoding;
mod rewriting;
mod storage_commitment;
