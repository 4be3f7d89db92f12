//! Every forbidden act is tried in a process of its own: each fails after the lock-down, and what has to go on working does;
//! each succeeds without it, so that a failure means something. A process can be locked down while it has one thread only,
//! so this file is its own harness, speaking as much of the usual one's language as cargo and nextest need.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test without the usual harness"
)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::{fs, io, thread};

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use sandbox::{Files, Memory, Network, Plan, Swap};

const ROLE: &str = "FORBIDDEN_ACTS_ROLE";
const PLACE: &str = "FORBIDDEN_ACTS_PLACE";

/// What came of each act: `ok`, or the error.
type Outcomes = BTreeMap<String, String>;

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        return child(&role, Path::new(&std::env::var(PLACE).unwrap()));
    }
    let tests: [(&str, fn()); 6] = [
        ("a_process_in_memory_only_can_do_none_of_it", memory_only),
        ("a_file_that_was_open_before_takes_no_byte", an_open_file),
        ("with_a_log_directory_it_writes_there_and_nowhere_else", with_a_log_directory),
        ("a_stateful_process_writes_its_folders_and_starts_nothing", stateful),
        ("without_the_sandbox_each_act_succeeds", without),
        ("what_makes_no_sense_refuses_to_start", refused_to_start),
    ];
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        for (name, _) in tests.iter().filter(|_| !has("--ignored")) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    for (name, test) in
        tests.iter().filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted.as_str())))
    {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

const WRITING: [&str; 8] =
    ["create", "overwrite", "append", "truncate", "rename", "remove", "make a folder", "hard link"];
const MARKING: [&str; 2] = ["symbolic link", "change a mode"];
const ANYONE: [&str; 10] = [
    "start a program",
    "memory file",
    "raise a limit",
    "become dumpable",
    "enter a namespace",
    "change root",
    "signal another process",
    "listen on TCP",
    "read elsewhere",
    "write elsewhere",
];
const CALLING: [&str; 4] = ["connect by TCP", "connect by UDP", "local socket", "splice"];

fn memory_only() {
    let outcomes = run("memory-only");
    for act in [&WRITING[..], &MARKING, &ANYONE, &CALLING].concat() {
        assert_ne!(outcomes[act], "ok", "{act}");
    }
    goes_on_working(&outcomes);
}

/// A descriptor from before is no way around: the kernel ends whoever writes to it.
fn an_open_file() {
    let ended = start("open-file", tempfile::tempdir().unwrap().path()).status;
    assert_eq!(ended.signal(), Some(rustix::process::Signal::XFSZ.as_raw()), "{ended}");
}

fn with_a_log_directory() {
    let outcomes = run("with-log");
    for act in [&ANYONE[..], &CALLING, &["symbolic link"]].concat() {
        assert_ne!(outcomes[act], "ok", "{act}");
    }
    for act in WRITING {
        assert_eq!(outcomes[act], "ok", "{act}");
    }
    goes_on_working(&outcomes);
}

fn stateful() {
    let outcomes = run("stateful");
    for act in ANYONE {
        assert_ne!(outcomes[act], "ok", "{act}");
    }
    for act in [&WRITING[..], &["connect by TCP", "connect by UDP"]].concat() {
        assert_eq!(outcomes[act], "ok", "{act}");
    }
    goes_on_working(&outcomes);
}

/// The negative control: an act that fails anyway would prove nothing above.
fn without() {
    let outcomes = run("none");
    let root = rustix::process::geteuid().is_root();
    for (act, outcome) in &outcomes {
        let privileged = ["enter a namespace", "change root", "raise a limit"].contains(&act.as_str());
        assert!(outcome == "ok" || (privileged && !root), "{act}: {outcome}");
    }
}

fn refused_to_start() {
    for (role, reason) in [
        ("with-threads", "before the second one starts"),
        ("missing-folder", "has to be there before"),
        ("to-a-file", "is a regular file, and this process may write none"),
        ("old-kernel", "Linux 6.7 or later"),
    ] {
        let outcomes = run(role);
        assert!(outcomes["lock-down"].contains(reason), "{role}: {outcomes:?}");
    }
}

fn goes_on_working(outcomes: &Outcomes) {
    for act in [
        "read configuration",
        "read replaced configuration",
        "accept TCP",
        "send UDP",
        "new UDP socket",
        "start a thread",
        "write to a pipe",
        "stay clean",
    ] {
        assert_eq!(outcomes[act], "ok", "{act}");
    }
}

fn run(role: &str) -> Outcomes {
    let place = tempfile::tempdir().unwrap();
    let output = start(role, place.path());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{role}: {}, {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(text.trim()).unwrap()
}

/// Starts this file again in a role, with its output in a pipe (or a file, where that is the point).
fn start(role: &str, place: &Path) -> Output {
    for folder in ["configuration", "state", "elsewhere"] {
        fs::create_dir(place.join(folder)).unwrap();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, role).env(PLACE, place).stdout(Stdio::piped());
    command.stderr(match role {
        "to-a-file" => fs::File::create(place.join("lines")).unwrap().into(),
        _ => Stdio::piped(),
    });
    command.output().unwrap()
}

struct Before {
    open: fs::File,
    listener: TcpListener,
    udp: UdpSocket,
    victim: std::process::Child,
    configuration: PathBuf,
    state: PathBuf,
    elsewhere: PathBuf,
}

fn child(role: &str, place: &Path) -> ExitCode {
    let [configuration, state, elsewhere] =
        ["configuration", "state", "elsewhere"].map(|folder| place.join(folder));
    fs::write(configuration.join("file"), "configuration").unwrap();
    fs::write(elsewhere.join("file"), "elsewhere").unwrap();
    for name in ["overwritten", "appended", "truncated", "renamed", "removed", "linked", "marked"] {
        fs::write(state.join(name), "before").unwrap();
    }
    let before = Before {
        open: fs::File::create(state.join("open")).unwrap(),
        listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        victim: quiet(Command::new("sleep").arg("10")),
        configuration,
        state,
        elsewhere,
    };
    // Somebody from outside: calls in, and replaces the configuration as an editor does.
    let address = before.listener.local_addr().unwrap();
    let script = "sleep 0.2; printf replaced > $0/new && mv $0/new $0/replaced; exec 3<>/dev/tcp/127.0.0.1/$1; printf x >&3; sleep 5";
    let mut outside = Command::new("bash");
    let outside = outside.args(["-c", script]).arg(&before.configuration).arg(address.port().to_string());
    let outside = quiet(outside);
    let outcomes = match locked(role, &before) {
        Ok(()) if role == "open-file" => {
            Outcomes::from([("write".to_owned(), format!("{:?}", (&before.open).write_all(b"x")))])
        }
        Ok(()) => attempts(&before),
        Err(error) => Outcomes::from([("lock-down".to_owned(), error)]),
    };
    println!("{}", serde_json::to_string(&outcomes).unwrap());
    // In a sandbox neither signal arrives; both end by themselves.
    for mut other in [outside, before.victim] {
        if other.kill().is_ok() {
            let _ = other.wait();
        }
    }
    ExitCode::SUCCESS
}

/// Its output would keep our reader waiting.
fn quiet(command: &mut Command) -> std::process::Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn locked(role: &str, before: &Before) -> Result<(), String> {
    let plan = match role {
        "none" => return Ok(()),
        "memory-only" | "open-file" | "to-a-file" => Plan::memory_only(Swap::Accept, None),
        "with-log" => Plan::memory_only(Swap::Accept, Some(before.state.clone())),
        "stateful" => Plan::stateful(vec![before.state.clone()]),
        "missing-folder" => Plan::stateful(vec![before.state.join("missing")]),
        "old-kernel" => {
            without_landlock();
            Plan::memory_only(Swap::Accept, None)
        }
        "with-threads" => {
            thread::spawn(thread::park);
            Plan { read: vec![], files: Files::Never, network: Network::Bound, memory: Memory::Pageable }
        }
        other => return Err(format!("no role {other}")),
    };
    let plan = plan.reading(&before.configuration);
    sandbox::lock_down(&plan).map(|_| ()).map_err(|error| error.to_string())
}

/// As a kernel does that does not know Landlock.
fn without_landlock() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let here = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, no_such_call, here).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

fn attempts(before: &Before) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut attempt = |act: &str, result: io::Result<()>| {
        outcomes.insert(act.to_owned(), result.map_or_else(|error| error.to_string(), |()| "ok".to_owned()));
    };
    let Before { state, elsewhere, configuration, .. } = before;
    attempt("create", fs::write(state.join("created"), "x"));
    attempt("overwrite", fs::write(state.join("overwritten"), "x"));
    attempt(
        "append",
        fs::OpenOptions::new()
            .append(true)
            .open(state.join("appended"))
            .and_then(|mut file| file.write_all(b"x")),
    );
    attempt(
        "truncate",
        fs::OpenOptions::new().write(true).open(state.join("truncated")).and_then(|file| file.set_len(0)),
    );
    attempt("rename", fs::rename(state.join("renamed"), state.join("renamed to")));
    attempt("remove", fs::remove_file(state.join("removed")));
    attempt("make a folder", fs::create_dir(state.join("folder")));
    attempt("hard link", fs::hard_link(state.join("linked"), state.join("linked to")));
    attempt("symbolic link", symlink(state.join("linked"), state.join("symbolic")));
    attempt("change a mode", fs::set_permissions(state.join("marked"), fs::Permissions::from_mode(0o640)));
    attempt("write elsewhere", fs::write(elsewhere.join("created"), "x"));
    attempt("read elsewhere", fs::read(elsewhere.join("file")).map(drop));
    attempt("read configuration", fs::read(configuration.join("file")).map(drop));

    attempt("start a program", Command::new("/bin/true").status().map(drop));
    attempt(
        "memory file",
        rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::empty()).map(drop).map_err(io::Error::from),
    );
    let limit = Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
    attempt("raise a limit", rustix::process::setrlimit(Resource::Core, limit).map_err(io::Error::from));
    attempt(
        "become dumpable",
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(io::Error::from),
    );
    attempt("signal another process", signal(&before.victim));

    attempt("listen on TCP", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop));
    attempt("accept TCP", accept(&before.listener));
    attempt("read replaced configuration", fs::read(configuration.join("replaced")).map(drop));
    let own = before.listener.local_addr().unwrap();
    attempt("connect by TCP", TcpStream::connect(own).map(drop));
    attempt("connect by UDP", connect_udp(own));
    attempt("local socket", UnixDatagram::unbound().map(drop));
    attempt("send UDP", before.udp.send_to(b"x", before.udp.local_addr().unwrap()).map(drop));
    attempt("new UDP socket", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(drop));
    attempt("splice", splice());
    attempt(
        "write to a pipe",
        rustix::pipe::pipe()
            .and_then(|(_, to)| rustix::io::write(to, b"x"))
            .map(drop)
            .map_err(io::Error::from),
    );
    attempt("start a thread", thread::Builder::new().spawn(|| ()).map(|thread| thread.join().unwrap()));
    attempt("stay clean", stay_clean());
    // Last: without a sandbox they change what the others would see.
    attempt("change root", rustix::process::chroot(elsewhere.as_path()).map_err(io::Error::from));
    attempt("enter a namespace", namespace());
    outcomes
}

fn signal(victim: &std::process::Child) -> io::Result<()> {
    let pid = rustix::process::Pid::from_child(victim);
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::CONT)?)
}

fn accept(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.read_exact(&mut [0])
}

fn connect_udp(to: SocketAddr) -> io::Result<()> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.connect(to)
}

fn splice() -> io::Result<()> {
    let ((from, filled), (_to, target)) = (rustix::pipe::pipe()?, rustix::pipe::pipe()?);
    rustix::io::write(filled, b"x")?;
    rustix::pipe::splice(from, None, target, None, 1, rustix::pipe::SpliceFlags::empty())?;
    Ok(())
}

fn namespace() -> io::Result<()> {
    #[expect(deprecated, reason = "its successor is unsafe; this process ends now")]
    Ok(rustix::thread::unshare(rustix::thread::UnshareFlags::NEWUTS)?)
}

/// A panic is caught as ever: unwinding needs nothing that was taken.
fn stay_clean() -> io::Result<()> {
    std::panic::set_hook(Box::new(|_| ()));
    match std::panic::catch_unwind(|| panic!("on purpose")) {
        Ok(()) => Err(io::Error::other("no panic")),
        Err(_) => Ok(()),
    }
}
