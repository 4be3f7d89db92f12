//! `attest`: what keeps the running relay from writing, and who says so.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sandbox::{Facts, MemoryProof, Report, facts_of};
use serde::Serialize;
use service::admin;
use service::peers::admin_access;

use crate::cli::runtime;

/// One promise, and whether it holds as far as it can be seen from here.
#[derive(Debug, Serialize)]
struct Check {
    promise: &'static str,
    /// None: cannot be seen from here.
    holds: Option<bool>,
    /// `kernel` or `process`.
    says: &'static str,
    value: String,
}

#[derive(Debug, Serialize)]
struct Attestation {
    version: &'static str,
    /// All promises hold.
    enforced: bool,
    checks: Vec<Check>,
    /// The process's own words, from its admin port.
    process: Report,
    /// The kernel's, from /proc; None where this user may not read them.
    kernel: Option<Facts>,
}

pub(crate) fn attest_command(path: &Path, json: bool) -> Result<()> {
    let access = admin_access(path)?;
    let status = runtime()?.block_on(admin::fetch_status(access))?;
    let process =
        status.get("sandbox").cloned().context("the answer has no `sandbox`: not a relay of this version")?;
    let process: Report = serde_json::from_value(process).context("the answer is not a relay's status")?;
    let (kernel, unreadable) = match facts_of(process.pid, &process.writable) {
        Ok(facts) => (Some(facts), None),
        Err(error) => (None, Some(error)),
    };
    let checks = checks(&process, kernel.as_ref());
    let enforced = checks.iter().all(|check| check.holds == Some(true));
    let attestation = Attestation { version: env!("CARGO_PKG_VERSION"), enforced, checks, process, kernel };
    if json {
        println!("{}", serde_json::to_string_pretty(&attestation)?);
    } else {
        print(&attestation);
    }
    if let Some(error) = unreadable {
        eprintln!("/proc/{}: {error}; as root, the kernel's own word is shown too", attestation.process.pid);
    }
    if !enforced {
        bail!("not everything that the relay promises is seen to be enforced");
    }
    Ok(())
}

/// What only the process can say, then what the kernel says of it.
fn checks(process: &Report, kernel: Option<&Facts>) -> Vec<Check> {
    let mut checks = words(process);
    match kernel {
        Some(kernel) => checks.extend(facts(process, kernel)),
        None => checks.push(Check {
            promise: "the kernel agrees",
            holds: None,
            says: "kernel",
            value: "/proc is not readable for this user".to_owned(),
        }),
    }
    checks
}

fn words(process: &Report) -> Vec<Check> {
    let said = |promise, holds, value| Check { promise, holds: Some(holds), says: "process", value };
    let written = match process.writable.as_slice() {
        [] if process.enforced => "nowhere".to_owned(),
        [] => "anywhere".to_owned(),
        folders => {
            format!("beneath {} only", list(folders.iter().map(|folder| folder.display().to_string())))
        }
    };
    let landlock = format!("Landlock ABI {}", process.landlock_abi);
    vec![
        said("it has locked itself down", process.enforced, yes_or_no(process.enforced)),
        said("files are opened where configured only", process.landlock_abi >= 4, landlock),
        said("files are opened for writing", process.enforced, written),
        said("it calls nobody", process.enforced, process.network.clone()),
    ]
}

fn facts(process: &Report, kernel: &Facts) -> Vec<Check> {
    let fact = |promise, holds, value| Check { promise, holds, says: "kernel", value };
    let is = |value: &Option<String>, wanted: &str| value.as_deref().map(|value| value == wanted);
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let (core, size) = (&kernel.core_bytes_max, &kernel.file_bytes_max);
    let capabilities = kernel.capabilities.as_deref().map(|set| set.bytes().all(|digit| digit == b'0'));
    let swapped = kernel.swapped_kb.map_or_else(|| "unknown".to_owned(), |kb| format!("{kb} kB"));
    let elsewhere: Vec<_> =
        kernel.regular_files.iter().filter(|file| is_written_elsewhere(file, process)).collect();
    let mut facts = vec![
        fact(
            "system calls are filtered",
            kernel.seccomp.map(|mode| mode == 2),
            format!("{} filters", kernel.seccomp_filters.unwrap_or(0)),
        ),
        fact("no program could gain rights", kernel.no_new_privs, flag(kernel.no_new_privs)),
        fact("it has no capabilities", capabilities, shown(&kernel.capabilities)),
        fact("no core dump", is(core, "0"), format!("at most {} bytes", shown(core))),
        fact("its memory is closed to its user", kernel.proc_owned_by_root, flag(kernel.proc_owned_by_root)),
        fact("nothing of it is in swap", kernel.swapped_kb.map(|kb| kb == 0), swapped),
        fact("nothing of it can be swapped", Some(stays_resident(process, kernel)), swap(process, kernel)),
        fact("no other file is open for writing", Some(elsewhere.is_empty()), list(elsewhere.iter())),
        fact(
            "its program is what it says",
            kernel.build.as_ref().map(|build| *build == process.build),
            shown(&kernel.build),
        ),
    ];
    if !process.writable.is_empty() {
        let foreign: Vec<_> = kernel.regular_files.iter().filter(|file| is_no_log_file(file)).collect();
        let open = match foreign.as_slice() {
            [] => format!(
                "entries and lock; a size limit of 0 would stop them (it is {}), Landlock is the bound",
                shown(size)
            ),
            _ => list(foreign.iter()),
        };
        facts.push(fact("bytes go to the log's own files only", Some(foreign.is_empty()), open));
    }
    if process.writable.is_empty() {
        facts.push(fact(
            "no byte goes to a regular file",
            is(size, "0"),
            format!("at most {} bytes", shown(size)),
        ));
    }
    facts
}

fn is_written_elsewhere(file: &str, process: &Report) -> bool {
    let Some(path) = file.strip_prefix("w ") else { return false };
    !process.writable.iter().any(|folder| Path::new(path).starts_with(folder))
}

/// Names that the log directory has.
fn is_no_log_file(file: &str) -> bool {
    let Some(path) = file.strip_prefix("w ") else { return false };
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let ours = ["lock", "entries-", "linked-", "checkpoint", ".linked-", ".checkpoint"];
    !ours.iter().any(|ours| name.starts_with(ours))
}

/// The process says by what, the kernel whether it is so now.
fn stays_resident(process: &Report, kernel: &Facts) -> bool {
    match process.memory {
        MemoryProof::Locked => kernel.locked_kb > Some(0),
        MemoryProof::CgroupWithoutSwap => kernel.swap.cgroup_swap_max.as_deref() == Some("0"),
        MemoryProof::NoSwapDevice => kernel.swap.devices.is_empty(),
        MemoryProof::SwapAccepted | MemoryProof::NotAsked => false,
    }
}

fn swap(process: &Report, kernel: &Facts) -> String {
    let proof = match process.memory {
        MemoryProof::Locked => "locked",
        MemoryProof::CgroupWithoutSwap => "its control group may not swap",
        MemoryProof::NoSwapDevice => "no swap device",
        MemoryProof::SwapAccepted => "swap was accepted by configuration",
        MemoryProof::NotAsked => "not asked for",
    };
    let limit = kernel.swap.cgroup_swap_max.as_deref().unwrap_or("none");
    let locked = kernel.locked_kb.unwrap_or(0);
    format!(
        "{proof}; {locked} kB locked, swap devices: {}, memory.swap.max: {limit}",
        list(kernel.swap.devices.iter())
    )
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn flag(value: Option<bool>) -> String {
    value.map_or_else(|| "unknown".to_owned(), yes_or_no)
}

fn print(attestation: &Attestation) {
    let Report { pid, executable, build, .. } = &attestation.process;
    println!("relay {}, pid {pid}, {} ({build})", attestation.version, executable.display());
    for Check { promise, holds, says, value } in &attestation.checks {
        let mark = match holds {
            Some(true) => "ok",
            Some(false) => "NO",
            None => "?",
        };
        println!("{mark:<3} {promise:<40} {says:<8} {value}");
    }
    for mount in attestation.kernel.iter().flat_map(|kernel| &kernel.mounts) {
        println!(
            "    {} is on {} ({}, {})",
            mount.path.display(),
            mount.mounted_at.display(),
            mount.kind,
            mount.source
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        serde_json::from_str(
            r#"{"enforced": true, "pid": 7, "version": "0", "build": "ab", "executable": "/relay", "memory": "locked", "landlock_abi": 6,
                "readable": [], "writable": [], "network": "", "refused_calls": 9, "output": ["pipe", "pipe"]}"#,
        )
        .unwrap()
    }

    fn kernel() -> Facts {
        serde_json::from_str(
            r#"{"seccomp": 2, "seccomp_filters": 2, "no_new_privs": true, "capabilities": "0000", "core_bytes_max": "0", "file_bytes_max": "0",
                "proc_owned_by_root": true, "locked_kb": 1, "resident_kb": 1, "swapped_kb": 0, "write_bytes": 0,
                "swap": {"devices": [], "cgroup_swap_max": null}, "regular_files": ["r /lib/x"], "build": "ab", "mounts": []}"#,
        )
        .unwrap()
    }

    fn holds(report: &Report, kernel: Option<&Facts>) -> bool {
        checks(report, kernel).iter().all(|check| check.holds == Some(true))
    }

    #[test]
    fn one_fact_that_differs_is_enough() {
        assert!(holds(&report(), Some(&kernel())));
        assert!(!holds(&report(), None), "the process's word alone is not enough");
        let changes: [fn(&mut Report, &mut Facts); 14] = [
            |report, _| report.enforced = false,
            |report, _| report.landlock_abi = 3,
            |report, _| report.memory = MemoryProof::SwapAccepted,
            |report, _| report.build = "other".to_owned(),
            |_, kernel| kernel.seccomp = Some(0),
            |_, kernel| kernel.no_new_privs = Some(false),
            |_, kernel| kernel.capabilities = Some("0001".to_owned()),
            |_, kernel| kernel.core_bytes_max = Some("unlimited".to_owned()),
            |_, kernel| kernel.file_bytes_max = Some("1".to_owned()),
            |_, kernel| kernel.proc_owned_by_root = Some(false),
            |_, kernel| kernel.swapped_kb = None,
            |_, kernel| kernel.locked_kb = Some(0),
            |_, kernel| kernel.regular_files.push("w /elsewhere".to_owned()),
            |_, kernel| kernel.build = None,
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let (mut report, mut kernel) = (report(), kernel());
            change(&mut report, &mut kernel);
            assert!(!holds(&report, Some(&kernel)), "change {i} went unnoticed");
        }
    }

    #[test]
    fn a_log_directory_may_be_written_and_nothing_else() {
        let (mut report, mut kernel) = (report(), kernel());
        report.writable = vec!["/var/log/relay".into()];
        kernel.file_bytes_max = Some("unlimited".to_owned());
        kernel.regular_files.push("w /var/log/relay/entries-ab".to_owned());
        assert!(holds(&report, Some(&kernel)));
        let limit =
            checks(&report, Some(&kernel)).into_iter().find(|check| check.promise.starts_with("bytes go to"));
        assert!(limit.unwrap().value.contains("it is unlimited"), "what does not hold is said");
        let mut other = kernel.clone();
        other.regular_files.push("w /var/log/relay/body".to_owned());
        assert!(!holds(&report, Some(&other)), "beneath it, but none of the log's");
        kernel.regular_files.push("w /var/log/relays".to_owned());
        assert!(!holds(&report, Some(&kernel)));
    }
}
