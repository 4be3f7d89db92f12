//! The system calls that fail after the lock-down, and why. What is not named here is allowed: Landlock, the limits and the
//! missing capabilities bound it.

use libc::c_long;

use crate::plan::{Files, Network, Plan};

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// (argument, mask, value): its lower 32 bits, masked, are the value.
    Is(u8, i32, i32),
    /// (argument, value): all of it is another one; so a pointer is not null.
    Not(u8, i32),
}

/// A call that fails: always, or where one of the lists of conditions holds as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) name: &'static str,
    pub(crate) number: c_long,
    pub(crate) when: Vec<Vec<When>>,
}

type Calls = &'static [(&'static str, c_long)];

macro_rules! calls {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Other programs, other processes, and ways into the kernel that no daemon needs.
const NOBODY: &[Calls] = &[
    // Another program or process.
    calls!(SYS_execve SYS_execveat),
    // Memory and descriptors of others.
    calls!(SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_process_madvise SYS_pidfd_getfd SYS_kcmp),
    // Work that seccomp does not see, or that comes with its own programs.
    calls!(SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register SYS_bpf SYS_userfaultfd SYS_perf_event_open),
    // Files without a name, or by another way than a path: Landlock does not see them.
    calls!(SYS_memfd_create SYS_memfd_secret SYS_name_to_handle_at SYS_open_by_handle_at),
    // The view of the file system.
    calls!(SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_move_mount SYS_open_tree SYS_fsopen SYS_fsconfig
        SYS_fsmount SYS_fspick SYS_mount_setattr SYS_unshare SYS_setns SYS_mknodat SYS_fanotify_init SYS_fanotify_mark),
    // The machine.
    calls!(SYS_swapon SYS_swapoff SYS_reboot SYS_init_module SYS_finit_module SYS_delete_module SYS_kexec_load SYS_acct
        SYS_quotactl SYS_quotactl_fd SYS_settimeofday SYS_clock_settime SYS_adjtimex SYS_clock_adjtime SYS_sethostname
        SYS_setdomainname SYS_syslog SYS_vhangup),
    // Who we are.
    calls!(SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setfsuid SYS_setfsgid
        SYS_setgroups SYS_capset SYS_personality SYS_add_key SYS_request_key SYS_keyctl),
    // What was locked stays locked.
    calls!(SYS_setrlimit SYS_munlock SYS_munlockall),
    // Memory that outlives the process.
    calls!(SYS_shmget SYS_shmat SYS_shmctl SYS_shmdt SYS_msgget SYS_semget SYS_mq_open),
];

#[cfg(target_arch = "x86_64")]
const NOBODY_HERE: Calls =
    calls!(SYS_fork SYS_vfork SYS_mknod SYS_iopl SYS_ioperm SYS_modify_ldt SYS_kexec_file_load SYS_uselib);
#[cfg(not(target_arch = "x86_64"))]
const NOBODY_HERE: Calls = calls!(SYS_kexec_file_load);

/// Without a peer that it calls: no connection goes out, and no descriptor is filled from another.
const BOUND: Calls = calls!(SYS_connect SYS_listen SYS_splice SYS_tee SYS_vmsplice SYS_sendfile SYS_copy_file_range SYS_inotify_init1);

/// Without any file of its own: nothing is made, changed or removed.
const NO_FILES: Calls = calls!(SYS_renameat SYS_renameat2 SYS_linkat SYS_symlinkat SYS_unlinkat SYS_mkdirat SYS_truncate
    SYS_ftruncate SYS_fallocate SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_setxattr SYS_lsetxattr SYS_fsetxattr
    SYS_removexattr SYS_lremovexattr SYS_fremovexattr SYS_utimensat);

#[cfg(target_arch = "x86_64")]
const NO_FILES_HERE: Calls = calls!(SYS_creat SYS_rename SYS_link SYS_symlink SYS_unlink SYS_mkdir SYS_rmdir SYS_chmod SYS_chown
    SYS_lchown SYS_utime SYS_utimes SYS_futimesat);
#[cfg(not(target_arch = "x86_64"))]
const NO_FILES_HERE: Calls = &[];

/// Answered "no such call", so that the C library takes the older one, whose arguments a filter can see: `openat2` and
/// `clone3` keep theirs in memory.
pub(crate) const UNKNOWN: Calls = calls!(SYS_openat2 SYS_clone3);

/// Everything that fails with EPERM under this plan.
pub(crate) fn refused(plan: &Plan) -> Vec<Refused> {
    let mut calls: Vec<Calls> = NOBODY.to_vec();
    calls.push(NOBODY_HERE);
    let mut sometimes = everywhere();
    if plan.network == Network::Bound {
        calls.push(BOUND);
        sometimes.push(other_sockets());
    }
    if plan.files == Files::Never {
        calls.extend([NO_FILES, NO_FILES_HERE]);
        sometimes.extend(opened_for_writing());
    }
    let always = calls.concat().into_iter().map(|(name, number)| Refused { name, number, when: Vec::new() });
    always.chain(sometimes).collect()
}

fn when(name: &'static str, number: c_long, when: Vec<Vec<When>>) -> Refused {
    Refused { name, number, when }
}

fn everywhere() -> Vec<Refused> {
    use When::{Is, Not};
    let executable = || vec![vec![Is(2, libc::PROT_EXEC, libc::PROT_EXEC)]];
    vec![
        // Threads, but no processes.
        when("SYS_clone", libc::SYS_clone, vec![vec![Is(0, libc::CLONE_THREAD, 0)]]),
        // No code that was not there at the start.
        when("SYS_mmap", libc::SYS_mmap, executable()),
        when("SYS_mprotect", libc::SYS_mprotect, executable()),
        when("SYS_pkey_mprotect", libc::SYS_pkey_mprotect, executable()),
        // Reading a limit is allowed, a new one is not.
        when("SYS_prlimit64", libc::SYS_prlimit64, vec![vec![Not(2, 0)]]),
        when("SYS_prctl", libc::SYS_prctl, vec![vec![Is(0, -1, libc::PR_SET_DUMPABLE)]]),
        // Typing into the terminal of whoever started us.
        when("SYS_ioctl", libc::SYS_ioctl, vec![vec![Is(1, -1, TIOCSTI)], vec![Is(1, -1, TIOCLINUX)]]),
    ]
}

const TIOCSTI: i32 = 0x5412;
const TIOCLINUX: i32 = 0x541C;

/// UDP only: quinn asks a socket of its own what the kernel can do.
fn other_sockets() -> Refused {
    use When::{Is, Not};
    let kinds = [libc::SOCK_STREAM, libc::SOCK_RAW, libc::SOCK_RDM, libc::SOCK_SEQPACKET, libc::SOCK_DCCP];
    let other_kinds = kinds.into_iter().map(|kind| vec![Is(1, 0xF, kind)]);
    let other_families = vec![Not(0, libc::AF_INET), Not(0, libc::AF_INET6)];
    when("SYS_socket", libc::SYS_socket, other_kinds.chain([other_families]).collect())
}

fn opened_for_writing() -> Vec<Refused> {
    let writing = |argument: u8| {
        let modes = [libc::O_WRONLY, libc::O_RDWR, libc::O_ACCMODE];
        let modes = modes.into_iter().map(move |mode| vec![When::Is(argument, libc::O_ACCMODE, mode)]);
        // O_TMPFILE contains O_DIRECTORY; its own bit is what is left.
        let made = [libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE & !libc::O_DIRECTORY];
        let made = made.into_iter().map(move |flag| vec![When::Is(argument, flag, flag)]);
        modes.chain(made).collect()
    };
    vec![
        #[cfg(target_arch = "x86_64")]
        when("SYS_open", libc::SYS_open, writing(1)),
        when("SYS_openat", libc::SYS_openat, writing(2)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::Swap;

    #[test]
    fn no_call_is_named_twice() {
        let plan = Plan::memory_only(Swap::Refuse, None);
        let calls = refused(&plan);
        let numbers: BTreeSet<_> =
            calls.iter().map(|call| call.number).chain(UNKNOWN.iter().map(|(_, n)| *n)).collect();
        assert_eq!(numbers.len(), calls.len() + UNKNOWN.len());
    }

    #[test]
    fn a_wider_plan_refuses_a_part_of_what_a_narrower_one_does() {
        let names = |plan: &Plan| refused(plan).into_iter().map(|call| call.name).collect::<BTreeSet<_>>();
        let memory_only = names(&Plan::memory_only(Swap::Refuse, None));
        let with_log = names(&Plan::memory_only(Swap::Refuse, Some("/log".into())));
        let stateful = names(&Plan::stateful(vec!["/state".into()]));
        assert!(stateful.is_subset(&with_log) && with_log.is_subset(&memory_only));
        assert!(memory_only.contains("SYS_openat") && !with_log.contains("SYS_openat"));
        assert!(with_log.contains("SYS_connect") && !stateful.contains("SYS_connect"));
    }
}
