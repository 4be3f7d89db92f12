//! What tests of several crates share: captured logs, seeded randomness, free ports, waiting with a limit,
//! and what operators write and read.
//!
//! What it does not do: it never stands in `[dependencies]` of a program (`cargo xtask tidy` sees to it), and it fakes
//! no part of Sluis: where a test needs a peer, it runs the real code or somebody else's.
//!
//! Read first: [`Logs`], [`Random`].

mod configurations;
mod documents;
mod logs;
mod network;
mod random;
mod wait;

pub use configurations::{
    ALARM_MISTAKES, Mistake, compare_defaults, compare_snapshot, errors_of_mistakes, keys_documented,
    keys_known,
};
pub use documents::documented_commands;
pub use logs::Logs;
pub use network::{free_tcp_address, free_udp_address};
pub use random::Random;
pub use wait::eventually;

/// Patient data that tests plant, in the order name, id, accession number: nothing else looks like it.
pub const PLANTED: [&str; 3] = ["PLANTED^PATIENT^QZJX", "PID-QZJX-77120", "ACC-QZJX-40417"];
