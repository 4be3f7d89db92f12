//! Limits and flags of the process that need no rule set.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

fn zero(resource: Resource) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(0), maximum: Some(0) })?)
}

/// No core file, no `/proc/PID/mem` for others than root, no debugger of the same user.
pub(crate) fn no_dumps() -> io::Result<()> {
    zero(Resource::Core)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Writing to a regular file fails, also to one that was open before.
pub(crate) fn no_file_bytes() -> io::Result<()> {
    zero(Resource::Fsize)
}

/// No program that is started could gain rights.
pub(crate) fn no_new_rights() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}

/// Root keeps its user id and loses what makes it root. Who has nothing to give up asks for nothing: a service manager that has taken all
/// of it usually refuses the call, too (`SystemCallFilter=~@privileged` of systemd).
pub(crate) fn no_capabilities() -> io::Result<()> {
    let CapabilitySets { effective, permitted, inheritable } = capabilities(None)?;
    let none = CapabilitySet::empty();
    if [effective, permitted, inheritable] == [none; 3] {
        return Ok(());
    }
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}
