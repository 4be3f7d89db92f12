//! Landlock: which files and TCP ports can be reached by name.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope,
};
use thiserror::Error;

use crate::plan::{Files, Network, Plan};

/// Linux 6.7: the first with rules for TCP. Everything it knows is demanded; what came later is taken where it is there.
const DEMANDED: ABI = ABI::V4;
const WANTED: ABI = ABI::V6;

/// Landlock does not do what was asked of it.
#[derive(Debug, Error)]
pub enum PathError {
    /// Too old, or switched off.
    #[error(
        "this kernel cannot restrict the process as demanded (Landlock ABI 4, Linux 6.7 or later, `landlock` among the boot parameter lsm=): \
         use a newer kernel, or --no-sandbox"
    )]
    Kernel(#[source] RulesetError),
    /// As [`PathError::Kernel`], without an error from the kernel.
    #[error("Landlock is enforced only in part ({0}): use a newer kernel, or --no-sandbox")]
    Partial(String),
    /// A rule needs a folder that is there.
    #[error("{path} cannot be opened: it has to be there before the process is locked down")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a folder of durable state needs; no devices, no programs.
fn writing() -> BitFlags<AccessFs> {
    reading()
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// Applies the plan to this thread and all that it starts. Gives the kernel's ABI.
pub(crate) fn restrict(plan: &Plan) -> Result<i32, PathError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(DEMANDED))
        .and_then(|rules| rules.handle_access(network(plan.network)))
        .map(|rules| rules.set_compatibility(CompatLevel::BestEffort))
        .and_then(|rules| rules.handle_access(AccessFs::from_all(WANTED)))
        .and_then(|rules| rules.scope(Scope::from_all(WANTED)))
        .and_then(Ruleset::create)
        .map_err(PathError::Kernel)?;
    // Later rights are not part of any rule below.
    let mut rules = ruleset.set_compatibility(CompatLevel::HardRequirement);
    for path in &plan.read {
        rules = rules.add_rule(beneath(path, reading())?).map_err(PathError::Kernel)?;
    }
    if let Files::Beneath(folders) = &plan.files {
        for path in folders {
            rules = rules.add_rule(beneath(path, writing())?).map_err(PathError::Kernel)?;
        }
    }
    let status = rules.restrict_self().map_err(PathError::Kernel)?;
    abi_of(&status)
}

/// TCP that is handled and has no rule is refused.
fn network(network: Network) -> BitFlags<AccessNet> {
    match network {
        Network::Bound => AccessNet::BindTcp | AccessNet::ConnectTcp,
        Network::Connects => AccessNet::BindTcp.into(),
    }
}

fn beneath(path: &Path, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, PathError> {
    // An empty parent is the working directory.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let folder = std::fs::metadata(path).and_then(|meta| match meta.is_dir() {
        true => PathFd::new(path).map_err(io::Error::other),
        false => Err(io::ErrorKind::NotADirectory.into()),
    });
    folder
        .map(|fd| PathBeneath::new(fd, access))
        .map_err(|source| PathError::Folder { path: path.to_owned(), source })
}

/// Only the wanted part may be missing on an older kernel; the demanded part failed above.
fn abi_of(status: &RestrictionStatus) -> Result<i32, PathError> {
    match (&status.ruleset, status.landlock) {
        (
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, kernel_abi },
        ) => Ok(kernel_abi.unwrap_or(effective_abi as i32)),
        (ruleset, landlock) => Err(PathError::Partial(format!("{ruleset:?}, {landlock:?}"))),
    }
}
