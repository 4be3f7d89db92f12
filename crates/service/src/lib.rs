//! What each of the three daemons needs around its own work: configuration, logs, an admin port, tasks, exit codes.
//!
//! What it does not do: it knows nothing of DICOM, envelopes or the relay, and starts nothing by itself. Each part works
//! alone; a daemon's `main` puts them together.
//!
//! Read first: [`config::load`], [`Tasks`], [`admin::Admin`]; for what people see, [`overview::Overview`].

pub mod admin;
pub mod alarm;
mod backoff;
mod clocks;
pub mod config;
mod contacts;
pub mod exit;
pub mod expiry;
pub mod files;
pub mod html;
mod live;
pub mod manual;
pub mod metrics;
pub mod overview;
pub mod own;
pub mod pages;
pub mod peers;
pub mod pins;
pub mod ports;
pub mod receipt;
pub mod reload;
pub mod rotation;
mod silence;
mod supervisor;
pub mod support;
mod tasks;
pub mod telemetry;
pub mod text;
pub mod throughput;
mod tls;
pub mod trace;
pub mod trial;
pub mod trust;
pub mod watch;
pub mod witness;

pub use backoff::Backoff;
pub use clocks::Clocks;
pub use contacts::Contacts;
pub use live::Live;
pub use reload::{Fixed, LastReload, ReloadRequest, ReloadRequests, Reloaded, Reloads};
pub use silence::TransparencyTable;
pub use supervisor::Supervisor;
pub use tasks::{Drained, End, Ended, Tasks, shutdown_signal};
pub use tls::{Access, AdminTls, AdminTlsError, AdminTlsTable};
