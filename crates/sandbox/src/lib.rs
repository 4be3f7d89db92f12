//! Locks a daemon down, before it has a second thread, to what its work needs; and says what the kernel enforces.
//!
//! [`lock_down`] comes after configuration, keys and sockets, and before the runtime: limits of the process, Landlock, seccomp,
//! in an order in which no step takes away what the next one needs. It succeeds with everything that was asked for, or
//! not at all: an operator who wants less has to say so (`--no-sandbox`, `[sandbox] swap = "accept"`).
//!
//! What it does not do: it hides nothing from root, a debugger that was there before, the hypervisor or the network
//! card, and knows nothing of DICOM, relays or gateways: a [`Plan`] tells it paths and needs.
//!
//! Read first: [`Plan`], [`lock_down`], [`Report`]; the refused system calls are a table in `calls.rs`.

#[cfg(not(target_os = "linux"))]
compile_error!("the daemons run on Linux: the sandbox is made of its Landlock and seccomp");

mod calls;
mod facts;
mod filter;
mod limits;
mod lock;
mod memory;
mod output;
mod paths;
mod plan;
mod report;

pub use facts::{Facts, facts_of};
pub use lock::{LockError, lock_down, unlocked};
pub use memory::{MemoryError, SwapFacts, swap_facts};
pub use output::{Output, OutputError};
pub use plan::{Files, Memory, Network, Plan, SandboxTable, Swap};
pub use report::{MemoryProof, Report, report};
