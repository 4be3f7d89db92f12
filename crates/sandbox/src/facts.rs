//! What the kernel says of a process, read from outside by somebody who may (root, for a process that is not dumpable).

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::lock::hash_of;
use crate::memory::{SwapFacts, swap_facts};

/// A mount that is backed by something, with what is written there in mind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The path that was asked about.
    pub path: PathBuf,
    /// Where its file system is mounted.
    pub mounted_at: PathBuf,
    /// `ext4`, `tmpfs`, …
    pub kind: String,
    /// The device or other source.
    pub source: String,
}

/// Read from `/proc/PID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// 2: a filter is installed.
    pub seccomp: Option<u32>,
    /// How many filters.
    pub seccomp_filters: Option<u32>,
    /// Whether a started program could gain rights.
    pub no_new_privs: Option<bool>,
    /// Effective capabilities, hexadecimal.
    pub capabilities: Option<String>,
    /// The kernel's word for "would dump core" (`CoreDumping` says only whether it does so now).
    pub core_bytes_max: Option<String>,
    /// Largest file that it may write.
    pub file_bytes_max: Option<String>,
    /// Whether other processes of its user are kept out of its `/proc` entry: they are where it is not dumpable.
    pub proc_owned_by_root: Option<bool>,
    /// kB of locked memory.
    pub locked_kb: Option<u64>,
    /// kB of memory in RAM.
    pub resident_kb: Option<u64>,
    /// kB of memory in swap.
    pub swapped_kb: Option<u64>,
    /// Bytes that it caused to be written to block devices.
    pub write_bytes: Option<u64>,
    /// Swap of the machine and of its control group.
    pub swap: SwapFacts,
    /// Regular files that it has open, with `r` or `w`.
    pub regular_files: Vec<String>,
    /// SHA-256 of the program that runs.
    pub build: Option<String>,
    /// The file systems of the folders that it may write.
    pub mounts: Vec<Mount>,
}

/// Reads them. Fails where `/proc/PID` may not be read; single facts that this kernel does not have stay None.
pub fn facts_of(pid: u32, writable: &[PathBuf]) -> io::Result<Facts> {
    let text = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
    // `status` is readable by everybody; `io` and `fd` are what a dumpable process shows to its own user only.
    let (status, limits, io) = (text("status")?, text("limits")?, text("io")?);
    let field = |name: &str| field(&status, name);
    let mounts = text("mountinfo")?;
    Ok(Facts {
        seccomp: field("Seccomp").and_then(number),
        seccomp_filters: field("Seccomp_filters").and_then(number),
        no_new_privs: field("NoNewPrivs").map(|flag| flag == "1"),
        capabilities: field("CapEff").map(str::to_owned),
        core_bytes_max: limit(&limits, "Max core file size"),
        file_bytes_max: limit(&limits, "Max file size"),
        proc_owned_by_root: owned_by_root(pid),
        locked_kb: field("VmLck").and_then(number),
        resident_kb: field("VmRSS").and_then(number),
        swapped_kb: field("VmSwap").and_then(number),
        write_bytes: io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).and_then(number),
        swap: swap_facts(&pid.to_string())?,
        regular_files: regular_files(pid)?,
        build: File::open(format!("/proc/{pid}/exe")).and_then(hash_of).ok(),
        mounts: writable.iter().filter_map(|path| mount_of(&mounts, path)).collect(),
    })
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The first word, as a number.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.split_whitespace().next()?.parse().ok()
}

/// The hard limit: the soft one can be raised to it.
fn limit(limits: &str, name: &str) -> Option<String> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().nth(1).map(str::to_owned)
}

/// The kernel gives the files below `/proc/PID` to root where the process is not dumpable; for a process of root both are.
fn owned_by_root(pid: u32) -> Option<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Some(fs::metadata(format!("/proc/{pid}/mem")).ok()?.uid() == 0)
}

fn regular_files(pid: u32) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        // A pipe or socket has no file behind its name.
        if !target.is_absolute() || !fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", entry.file_name().display()))?;
        let flags =
            info.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim).unwrap_or_default();
        let writes =
            i32::from_str_radix(flags, 8).is_ok_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY);
        files.push(format!("{} {}", if writes { 'w' } else { 'r' }, target.display()));
    }
    files.sort();
    Ok(files)
}

/// The mount with the longest path above this one.
fn mount_of(mounts: &str, path: &std::path::Path) -> Option<Mount> {
    let mounts = mounts.lines().filter_map(|line| {
        let (place, origin) = line.split_once(" - ")?;
        let mounted_at = PathBuf::from(place.split_whitespace().nth(4)?);
        let mut origin = origin.split_whitespace();
        let (kind, source) = (origin.next()?.to_owned(), origin.next()?.to_owned());
        path.starts_with(&mounted_at).then(|| Mount { path: path.to_owned(), mounted_at, kind, source })
    });
    mounts.max_by_key(|mount| mount.mounted_at.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_in_the_kernels_texts() {
        let status = "Name:\trelay\nVmLck:\t   1024 kB\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t2\n";
        assert_eq!(field(status, "VmLck").and_then(number::<u64>), Some(1024));
        assert_eq!(field(status, "Seccomp"), Some("2"));
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max file size             0                    unlimited            bytes     \n";
        assert_eq!(limit(limits, "Max file size").as_deref(), Some("unlimited"));
        let mounts =
            "22 1 254:0 / / rw - ext4 /dev/vda rw\n30 22 0:25 / /var/log rw shared:1 - tmpfs tmpfs rw\n";
        assert_eq!(mount_of(mounts, "/var/log/relay".as_ref()).map(|m| m.kind).as_deref(), Some("tmpfs"));
        assert_eq!(mount_of(mounts, "/var/logs".as_ref()).map(|m| m.kind).as_deref(), Some("ext4"));
    }

    #[test]
    fn this_process_can_look_at_itself() {
        let facts = facts_of(std::process::id(), &[PathBuf::from("/tmp")]).unwrap();
        assert!(facts.resident_kb > Some(0) && facts.build.is_some_and(|hash| hash.len() == 64));
        assert_eq!(facts.mounts.len(), 1);
    }
}
