use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use base::Hasher;
use thiserror::Error;
use tracing::{error, info, warn};

use crate::filter::{self, FilterError};
use crate::memory::{self, MemoryError};
use crate::output::{self, Output, OutputError};
use crate::paths::{self, PathError};
use crate::plan::{Files, Memory, Network, Plan};
use crate::report::{MemoryProof, Report, remember};
use crate::{calls, limits};

/// Why a process is not locked down; it must not go on.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another thread would stay outside of Landlock.
    #[error("the process has {0} threads already; it is locked down before the second one starts")]
    Threads(usize),
    /// Log lines would be lost.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Memory might reach a disk.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A limit or flag.
    #[error("the kernel refuses {what}; --no-sandbox starts without")]
    Limit {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Landlock.
    #[error(transparent)]
    Paths(#[from] PathError),
    /// seccomp.
    #[error(transparent)]
    Calls(#[from] FilterError),
    /// `/proc` is needed once, before the lock-down.
    #[error("cannot read {path}")]
    Proc {
        /// Which file.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Takes from this process, for good, what the plan does not name. To be called before a second thread starts, with all
/// sockets bound and all keys read.
pub fn lock_down(plan: &Plan) -> Result<&'static Report, LockError> {
    let threads = threads()?;
    if threads != 1 {
        return Err(LockError::Threads(threads));
    }
    let output = Output::both();
    // A process that lives in memory writes its lines to no file, wherever it may write.
    if matches!(plan.memory, Memory::Resident(_)) {
        output::no_regular_file(output)?;
    }
    // /proc and the program's file are out of reach afterwards.
    let mut report = described(output);
    report.memory = match plan.memory {
        Memory::Resident(swap) => memory::keep_resident(swap)?,
        Memory::Pageable => MemoryProof::NotAsked,
    };
    let limit = |what: &'static str| move |source: io::Error| LockError::Limit { what, source };
    limits::no_dumps().map_err(limit("to switch core dumps off"))?;
    if plan.files == Files::Never {
        limits::no_file_bytes().map_err(limit("a file size limit of 0"))?;
    }
    limits::no_new_rights().map_err(limit("no_new_privs"))?;
    report.landlock_abi = paths::restrict(plan)?;
    if plan.network == Network::Bound {
        limits::no_capabilities().map_err(limit("to give up capabilities"))?;
    }
    report.refused_calls = filter::install(&calls::refused(plan))?;
    report.enforced = true;
    report.readable.clone_from(&plan.read);
    if let Files::Beneath(folders) = &plan.files {
        report.writable.clone_from(folders);
    }
    report.network = match plan.network {
        Network::Bound => "UDP, and TCP connections that come to the bound port".to_owned(),
        Network::Connects => "connections to anywhere; no new TCP port".to_owned(),
    };
    if report.memory == MemoryProof::SwapAccepted {
        warn!("memory may be written to a swap device: [sandbox] swap = \"accept\"");
    }
    info!(memory = ?report.memory, landlock = report.landlock_abi, calls = report.refused_calls, writable = ?report.writable, "locked down");
    Ok(remember(report))
}

/// Notes, and says loudly, that this process runs without: `--no-sandbox`.
pub fn unlocked() -> &'static Report {
    error!(
        "--no-sandbox: nothing keeps this process from writing files, starting programs or leaving a core dump"
    );
    remember(described(Output::both()))
}

fn threads() -> Result<usize, LockError> {
    let path = "/proc/self/task";
    Ok(fs::read_dir(path).map_err(|source| LockError::Proc { path, source })?.count())
}

/// The facts that need `/proc`, with nothing enforced yet.
fn described(output: (Output, Output)) -> Report {
    Report {
        enforced: false,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build: hash_of_program().unwrap_or_else(|error| format!("unknown: {error}")),
        executable: fs::read_link("/proc/self/exe").unwrap_or_else(|_| PathBuf::from("unknown")),
        memory: MemoryProof::NotAsked,
        landlock_abi: 0,
        readable: Vec::new(),
        writable: Vec::new(),
        network: "anything".to_owned(),
        refused_calls: 0,
        output,
    }
}

fn hash_of_program() -> io::Result<String> {
    hash_of(File::open("/proc/self/exe")?)
}

pub(crate) fn hash_of(mut file: File) -> io::Result<String> {
    let (mut hasher, mut buffer) = (Hasher::new(b""), vec![0; 1 << 20]);
    loop {
        let read = io::Read::read(&mut file, &mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
    }
    Ok(hasher.finish().to_string())
}
