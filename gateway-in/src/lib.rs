//! gateway-in: collects sealed instances from relays, opens them, hands them to a destination, and
//! signs what the destination answered.
//!
//! What it does not do: it decides nothing about retries (the sender owns the instance), stores no
//! instance (a folder destination does, as a destination), and changes no byte of a data set unless
//! its operator has written that out ([`change`]).
//!
//! Read first: [`inbox::Inbox`], [`collect`], [`forward::verdict`].

pub mod acks;
pub mod answered;
pub mod app;
pub mod asked;
pub mod body;
pub mod change;
mod cli;
pub mod coercion;
pub mod collect;
mod commands;
pub mod commitment;
pub mod config;
pub mod conformance;
pub mod destination;
pub mod forward;
pub mod inbox;
pub mod init;
pub mod links;
mod logbook;
mod metrics;
pub mod outcome;
mod page;
pub mod receipts;
pub mod reload;
pub mod room;
pub mod signer;

pub mod tables;
mod trial;

pub use cli::cli_main;
