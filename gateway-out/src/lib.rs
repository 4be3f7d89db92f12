//! gateway-out: takes instances from a PACS by C-STORE, seals each for one receiving gateway, keeps it
//! durably, deposits it at a relay, and lets go of it when a verified receipt is in.
//!
//! What it does not do: it opens no sealed body, changes no byte of a data set unless its route pseudonymizes, and never
//! deletes anything but on a receipt that says stored or by an operator's named act.
//!
//! Read first: [`routing::choose`] (which route takes an instance), [`pipeline::store`] (when the PACS sees success),
//! [`dispatch`], [`settle`].

pub mod answers;
pub mod app;
mod arriving;
pub mod asks;
mod cli;
mod commands;
pub mod commitment;
pub mod config;
pub mod conformance;
pub mod countersign;
mod delivered;
pub mod dispatch;
pub mod echo;
pub mod flights;
pub mod folders;
mod hindered;
pub mod init;
pub mod intake;
pub mod lanes;
mod logbook;
mod metrics;
pub mod mirror;
pub mod pace;
mod page;
pub mod pipeline;
pub mod pseudonymize;
pub mod queue;
pub mod receipts;
pub mod rejections;
pub mod relays;
pub mod reload;
pub mod rotate;
pub mod route_test;
pub mod routes;
pub mod routing;
pub mod rule;
pub mod send;
pub mod sessions;
pub mod settings;
pub mod settle;
pub mod status;
pub mod strays;
pub mod tail;
#[cfg(test)]
mod testing;
mod trial;
pub mod user_identity;
pub mod waiting;
pub mod windows;

pub use cli::cli_main;

/// A random number from 0 to 1, to spread retries.
pub(crate) fn jitter() -> f64 {
    f64::from(u32::from_le_bytes(base::random_bytes())) / f64::from(u32::MAX)
}
