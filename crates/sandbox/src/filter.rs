//! seccomp: the table of [`crate::calls`] as programs for the kernel.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads, sock_filter,
};
use thiserror::Error;

use crate::calls::{Refused, UNKNOWN, When};

/// seccomp does not do what was asked of it.
#[derive(Debug, Error)]
pub enum FilterError {
    /// The table makes no program: a fault of ours.
    #[error("the table of refused system calls makes no filter")]
    Table(#[from] seccompiler::BackendError),
    /// The kernel does not take it.
    #[error(
        "the kernel takes no seccomp filter (CONFIG_SECCOMP_FILTER): use another kernel, or --no-sandbox"
    )]
    Kernel(#[from] seccompiler::Error),
}

/// Installs both filters in all threads, for good. Gives the number of calls that fail.
pub(crate) fn install(refused: &[Refused]) -> Result<usize, FilterError> {
    let unknown = UNKNOWN.iter().map(|(name, number)| Refused { name, number: *number, when: Vec::new() });
    let unknown: Vec<_> = unknown.collect();
    for program in [program(&unknown, libc::ENOSYS)?, program(refused, libc::EPERM)?] {
        apply_filter_all_threads(&program)?;
    }
    Ok(refused.len() + unknown.len())
}

fn program(calls: &[Refused], errno: i32) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = BTreeMap::new();
    for call in calls {
        let alternatives = call.when.iter().map(|all| SeccompRule::new(conditions(all)?));
        rules.insert(call.number, alternatives.collect::<Result<Vec<_>, _>>()?);
    }
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture)?;
    let mut program = no_second_numbering();
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

fn conditions(all: &[When]) -> Result<Vec<SeccompCondition>, seccompiler::BackendError> {
    let wide = |value: i32| u64::from(value.cast_unsigned());
    all.iter()
        .map(|when| match *when {
            When::Is(argument, mask, value) => {
                let compare = SeccompCmpOp::MaskedEq(wide(mask));
                SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, wide(value))
            }
            When::Not(argument, value) => {
                SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, wide(value))
            }
        })
        .collect()
}

/// On x86-64 each call has a second number, with bit 30 set (x32), under the same architecture: a list of refused numbers
/// would not see it. Where the kernel has no x32 these numbers do not exist either way.
fn no_second_numbering() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 0, 1, 0x4000_0000),
        step(RETURN, 0, 0, SeccompAction::Errno(libc::EPERM.unsigned_abs()).into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::refused;
    use crate::plan::{Plan, Swap};

    const ALLOWED: u32 = 0x7FFF_0000;

    /// What the kernel would do: the instructions that seccompiler and [`no_second_numbering`] use.
    fn verdict(program: &[sock_filter], number: i64, arguments: [u64; 6]) -> u32 {
        let architecture = if cfg!(target_arch = "x86_64") { 0xC000_003E_u32 } else { 0xC000_00B7 };
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&(number as u32).to_le_bytes());
        data[4..8].copy_from_slice(&architecture.to_le_bytes());
        for (i, argument) in arguments.iter().enumerate() {
            data[16 + 8 * i..24 + 8 * i].copy_from_slice(&argument.to_le_bytes());
        }
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let step = &program[at];
            let jump = |yes: bool| usize::from(if yes { step.jt } else { step.jf });
            at += 1;
            match step.code {
                0x20 => {
                    let from = step.k as usize;
                    accumulator = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
                }
                0x54 => accumulator &= step.k,
                0x05 => at += step.k as usize,
                0x15 => at += jump(accumulator == step.k),
                0x25 => at += jump(accumulator > step.k),
                0x35 => at += jump(accumulator >= step.k),
                0x06 => return step.k,
                code => panic!("an instruction that this test does not know: {code:#x}"),
            }
        }
    }

    fn errno(number: i32) -> u32 {
        0x0005_0000 | number.unsigned_abs()
    }

    fn memory_only() -> BpfProgram {
        program(&refused(&Plan::memory_only(Swap::Refuse, None)), libc::EPERM).unwrap()
    }

    #[test]
    fn every_call_of_the_table_fails_under_both_of_its_numbers() {
        let program = memory_only();
        for call in refused(&Plan::memory_only(Swap::Refuse, None)) {
            if call.when.is_empty() {
                assert_eq!(verdict(&program, call.number, [0; 6]), errno(libc::EPERM), "{}", call.name);
            }
            assert_eq!(
                verdict(&program, call.number | 0x4000_0000, [0; 6]),
                errno(libc::EPERM),
                "{}",
                call.name
            );
        }
    }

    #[test]
    fn arguments_decide_where_the_call_itself_is_needed() {
        let program = memory_only();
        let flags = |flags: i32| flags as u32 as u64;
        let openat =
            |mode: i32| (libc::SYS_openat, [flags(libc::AT_FDCWD), 0x7F00, flags(mode), 0o600, 0, 0]);
        let clone = |mode: i32| (libc::SYS_clone, [flags(mode), 0, 0, 0, 0, 0]);
        let socket = |family: i32, kind: i32| (libc::SYS_socket, [flags(family), flags(kind), 0, 0, 0, 0]);
        let third = |call, value: u64| (call, [0, 4096, value, 0, 0, 0]);
        let prctl = |option: i32| (libc::SYS_prctl, [flags(option), 1, 0, 0, 0, 0]);
        let cloexec = libc::O_CLOEXEC;
        let cases = [
            (openat(libc::O_RDONLY | cloexec), true),
            (openat(libc::O_RDONLY | libc::O_DIRECTORY), true),
            (openat(libc::O_WRONLY), false),
            (openat(libc::O_RDWR | cloexec), false),
            (openat(libc::O_ACCMODE), false),
            (openat(libc::O_RDONLY | libc::O_CREAT), false),
            (openat(libc::O_RDONLY | libc::O_TRUNC), false),
            (openat(libc::O_TMPFILE), false),
            (clone(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND), true),
            (clone(libc::SIGCHLD), false),
            (clone(libc::CLONE_VM | libc::CLONE_VFORK), false),
            (clone(libc::CLONE_NEWUSER), false),
            (socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC), true),
            (socket(libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK), true),
            (socket(libc::AF_INET, libc::SOCK_STREAM), false),
            (socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC), false),
            (socket(libc::AF_UNIX, libc::SOCK_DGRAM), false),
            (socket(libc::AF_PACKET, libc::SOCK_DGRAM), false),
            (socket(libc::AF_NETLINK, libc::SOCK_DGRAM), false),
            (third(libc::SYS_mmap, flags(libc::PROT_READ | libc::PROT_WRITE)), true),
            (third(libc::SYS_mmap, flags(libc::PROT_READ | libc::PROT_EXEC)), false),
            (third(libc::SYS_mprotect, flags(libc::PROT_EXEC)), false),
            (third(libc::SYS_prlimit64, 0), true),
            (third(libc::SYS_prlimit64, 0x7F12_3456_7890), false),
            (third(libc::SYS_prlimit64, 0x7F00_0000_0000), false),
            (prctl(libc::PR_SET_NAME), true),
            (prctl(libc::PR_SET_DUMPABLE), false),
        ];
        for ((number, arguments), allowed) in cases {
            let wanted = if allowed { ALLOWED } else { errno(libc::EPERM) };
            assert_eq!(verdict(&program, number, arguments), wanted, "{number} {arguments:x?}");
        }
        for needed in [
            libc::SYS_read,
            libc::SYS_sendmmsg,
            libc::SYS_recvmmsg,
            libc::SYS_accept4,
            libc::SYS_epoll_wait,
            libc::SYS_futex,
        ] {
            assert_eq!(verdict(&program, needed, [0; 6]), ALLOWED);
        }
    }

    #[test]
    fn a_stateful_process_may_write_and_connect_but_start_nothing() {
        let program = program(&refused(&Plan::stateful(vec![])), libc::EPERM).unwrap();
        let writing = [0, 0, u64::from((libc::O_RDWR | libc::O_CREAT).unsigned_abs()), 0, 0, 0];
        for (number, arguments) in [
            (libc::SYS_openat, writing),
            (libc::SYS_connect, [0; 6]),
            (libc::SYS_renameat2, [0; 6]),
            (libc::SYS_fdatasync, [0; 6]),
        ] {
            assert_eq!(verdict(&program, number, arguments), ALLOWED, "{number}");
        }
        for number in [libc::SYS_execve, libc::SYS_ptrace, libc::SYS_io_uring_setup, libc::SYS_clone] {
            assert_eq!(verdict(&program, number, [0; 6]), errno(libc::EPERM), "{number}");
        }
    }
}
