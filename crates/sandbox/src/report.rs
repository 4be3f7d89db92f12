use std::path::PathBuf;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::output::Output;

/// Why memory does not reach a swap device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryProof {
    /// `mlockall`: every page stays.
    Locked,
    /// `memory.swap.max` of its control group is 0.
    CgroupWithoutSwap,
    /// The machine had no swap device when the process started.
    NoSwapDevice,
    /// Swap is possible; the operator accepted it.
    SwapAccepted,
    /// Nobody looked: not asked for.
    NotAsked,
}

/// What a process did to itself, in its own words. What the kernel says of it from outside is [`crate::Facts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// False: `--no-sandbox`.
    pub enforced: bool,
    /// Whose report this is.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
    /// SHA-256 of the program file, read before the lock-down.
    pub build: String,
    /// Where it was started from.
    pub executable: PathBuf,
    /// Memory and swap.
    pub memory: MemoryProof,
    /// Landlock's version in the kernel; 0: not used.
    pub landlock_abi: i32,
    /// Folders that may be read.
    pub readable: Vec<PathBuf>,
    /// Folders beneath which files may be written; empty with `enforced`: none anywhere.
    pub writable: Vec<PathBuf>,
    /// What may be done on the network besides using the sockets that it has.
    pub network: String,
    /// How many system calls fail, wholly or with some arguments.
    pub refused_calls: usize,
    /// Standard output and standard error.
    pub output: (Output, Output),
}

static REPORT: OnceLock<Report> = OnceLock::new();

/// What this process did to itself; None before it decided.
pub fn report() -> Option<&'static Report> {
    REPORT.get()
}

/// A process is locked down once.
pub(crate) fn remember(report: Report) -> &'static Report {
    REPORT.get_or_init(|| report)
}
