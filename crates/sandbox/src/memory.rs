//! Whether memory can reach a disk: locked, or nothing to swap to.

use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::plan::Swap;
use crate::report::MemoryProof;

/// Memory might be written to a disk.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// None of the three proofs holds.
    #[error(
        "memory could be swapped to {devices}: raise the limit of locked memory (systemd: LimitMEMLOCK=infinity, shell: ulimit -l unlimited), \
         or give the service MemorySwapMax=0, or switch swap off; `[sandbox] swap = \"accept\"` starts all the same"
    )]
    Swappable {
        /// The swap devices.
        devices: String,
    },
    /// The kernel's list of swap devices cannot be read.
    #[error("cannot tell whether there is swap: /proc/swaps is not readable")]
    Unknown(#[source] io::Error),
}

/// What the kernel says about swap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapFacts {
    /// Devices and files in use, from `/proc/swaps`.
    pub devices: Vec<String>,
    /// `memory.swap.max` of the process's control group (version 2), the smallest on the way to the root.
    pub cgroup_swap_max: Option<String>,
}

/// Reads the facts about swap for a process, `self` or a number.
pub fn swap_facts(process: &str) -> io::Result<SwapFacts> {
    let swaps = fs::read_to_string("/proc/swaps")?;
    let devices =
        swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    Ok(SwapFacts { devices, cgroup_swap_max: cgroup_swap_max(process) })
}

/// A limit above the process's own group binds as well.
fn cgroup_swap_max(process: &str) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounted = PathBuf::from("/sys/fs/cgroup");
    let mut limits = mounted
        .join(own)
        .ancestors()
        .take_while(|group| group.starts_with(&mounted))
        .filter_map(|group| fs::read_to_string(group.join("memory.swap.max")).ok())
        .map(|text| text.trim().to_owned())
        .collect::<Vec<_>>();
    limits.sort_by_key(|limit| limit.parse::<u64>().unwrap_or(u64::MAX));
    limits.into_iter().next()
}

/// Keeps memory in RAM, or finds out why it stays there anyway.
pub(crate) fn keep_resident(swap: Swap) -> Result<MemoryProof, MemoryError> {
    if lock_all().is_ok() {
        return Ok(MemoryProof::Locked);
    }
    verdict(&swap_facts("self").map_err(MemoryError::Unknown)?, swap)
}

/// Where memory is not locked.
fn verdict(facts: &SwapFacts, swap: Swap) -> Result<MemoryProof, MemoryError> {
    match (facts.cgroup_swap_max.as_deref(), facts.devices.is_empty(), swap) {
        (Some("0"), _, _) => Ok(MemoryProof::CgroupWithoutSwap),
        (_, true, _) => Ok(MemoryProof::NoSwapDevice),
        (_, false, Swap::Accept) => Ok(MemoryProof::SwapAccepted),
        (_, false, Swap::Refuse) => Err(MemoryError::Swappable { devices: facts.devices.join(", ") }),
    }
}

/// With a limit below infinity, a lock that succeeds now would let an allocation fail later.
fn lock_all() -> io::Result<()> {
    let unlimited = Rlimit { current: None, maximum: None };
    if getrlimit(Resource::Memlock).current.is_some() {
        setrlimit(Resource::Memlock, unlimited)?;
    }
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_device_needs_a_limit_of_nothing_or_the_operators_word() {
        let facts = |devices: &[&str], limit: Option<&str>| SwapFacts {
            devices: devices.iter().map(|device| (*device).to_owned()).collect(),
            cgroup_swap_max: limit.map(str::to_owned),
        };
        let disk = ["/dev/sda2"];
        for (facts, swap, wanted) in [
            (facts(&[], None), Swap::Refuse, Some(MemoryProof::NoSwapDevice)),
            (facts(&[], Some("max")), Swap::Refuse, Some(MemoryProof::NoSwapDevice)),
            (facts(&disk, Some("0")), Swap::Refuse, Some(MemoryProof::CgroupWithoutSwap)),
            (facts(&disk, Some("0")), Swap::Accept, Some(MemoryProof::CgroupWithoutSwap)),
            (facts(&disk, Some("4096")), Swap::Refuse, None),
            (facts(&disk, Some("max")), Swap::Refuse, None),
            (facts(&disk, None), Swap::Refuse, None),
            (facts(&disk, None), Swap::Accept, Some(MemoryProof::SwapAccepted)),
        ] {
            assert_eq!(verdict(&facts, swap).ok(), wanted, "{facts:?} {swap:?}");
        }
    }

    #[test]
    fn the_refusal_names_the_device_and_the_ways_out() {
        let facts = SwapFacts { devices: vec!["/dev/sda2".to_owned()], cgroup_swap_max: None };
        let text = verdict(&facts, Swap::Refuse).unwrap_err().to_string();
        for word in ["/dev/sda2", "LimitMEMLOCK", "MemorySwapMax=0", "swap = \"accept\""] {
            assert!(text.contains(word), "{text}");
        }
    }
}
