//! The vector files under `fixtures/envelope`: each states its verdict, and most are invalid.
//!
//! Both directions are tested: what this crate (or, for what it refuses to make, the plain second
//! writer in `reference.rs`) seals is what the files hold, and what the files hold opens or is refused as
//! they say. `SLUIS_WRITE_VECTORS=1 cargo test -p envelope --test vectors` writes the files anew.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "all of this file is a test"
)]

mod bodies;
mod bundles;
mod files;
mod headers;
mod kem;
mod records;
mod reference;
