//! The relay: holds sealed bodies in memory between two gateways, forwards them while they still arrive,
//! and burns each one on its recipient's signed settlement.
//!
//! What it does not do: it opens nothing (it links no DICOM and no decryption), and `run` writes nothing to
//! disk but hashes to the log directory, where one is configured: configuration, cards and identity are read, everything
//! else is in memory and may be lost at any moment, since the sender's outbox owns the data.
//!
//! Read first: [`vault::Vault`] (the custody rules, a pure value), [`run`] (the loop around it), [`Config`].

mod admission;
mod admit;
mod app;
mod attest;
mod cli;
mod config;
mod emergency;
mod http;
pub mod init;
pub mod log;
mod logbook;
mod pages;
mod proofs;
mod reload;
mod settings;
pub mod vault;

pub use admission::LiveKeys;
pub use app::{Listeners, RunError, run};
pub use cli::cli_main;
pub use config::{Config, MemoryTable, QuicTable, RevokedTable, TenantTable, TransparencyTable};
pub use proofs::LedgerCheck;
pub use settings::{Directory, Entry, Keys, Settings};
