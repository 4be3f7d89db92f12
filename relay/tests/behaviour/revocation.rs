//! The real process: who is admitted changes while bodies pass.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use transport::{DepositError, Downlink, DownlinkConfig, Uplink, UplinkConfig, UplinkEvent};

use crate::common::{PATIENCE, ROUTE, Recipient, Sender, body, delivery, key, settle_all, soon};

/// A relay process whose tenants are admitted by its own commands.
struct Process {
    dir: tempfile::TempDir,
    child: Child,
    quic: String,
    card: identity::PeerCard,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn relay(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_relay")).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Process {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (udp, tcp) = (free_udp(), free_tcp());
        let quic = format!("127.0.0.1:{udp}");
        let path = dir.path().to_str().unwrap();
        let made = relay(&["init", "--dir", path, "--listen", &quic, "--admin", &format!("127.0.0.1:{tcp}")]);
        assert!(made.status.success(), "{}", said(&made));
        let card = std::fs::read_to_string(dir.path().join("relay.card")).unwrap();
        let card = identity::PeerCard::parse(&card).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_relay"))
            .args(["run", "--config"])
            .arg(dir.path().join("relay.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Self { dir, child, quic, card };
        let up = Instant::now();
        while !process.command("status", &[]).status.success() {
            assert!(up.elapsed() < PATIENCE, "the relay does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("relay.toml")
    }

    fn command(&self, command: &str, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_relay"))
            .arg(command)
            .args(args)
            .arg("--config")
            .arg(self.config())
            .output()
            .unwrap()
    }

    fn done(&self, command: &str, args: &[&str]) -> String {
        let output = self.command(command, args);
        assert!(output.status.success(), "{command} {args:?}: {}", said(&output));
        said(&output)
    }

    fn card_file(&self, key: &identity::IdentityKey) -> String {
        let path = self.dir.path().join(format!("{}.received", key.name()));
        std::fs::write(&path, key.card(identity::CardFields::new(1, &[])).to_line()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn fragments(&self) -> Vec<String> {
        names(&self.dir.path().join("conf.d/relay"))
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn free_udp() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn free_tcp() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_sender_is_out_within_five_seconds_in_the_middle_of_a_body_and_comes_back() {
    let relay = Process::start();
    let (out, inn) = (key("hospital-out"), std::sync::Arc::new(key("clinic-in")));
    relay.done("admit", &[&relay.card_file(&inn)]);
    let said = relay.done("admit", &[&relay.card_file(&out), "--deposit-for", "clinic-in"]);
    assert!(said.contains("the running relay has taken it over: 2 tenants"), "{said}");
    assert!(said.contains(&identity::fingerprint_text(&out.fingerprint())), "{said}");

    let (link, events, task) =
        Downlink::start(DownlinkConfig::new(relay.quic.clone(), relay.card.clone(), &inn));
    let mut recipient = Recipient { link, events, task, key: inn.clone() };
    let (link, events, task) = Uplink::start(UplinkConfig::new(relay.quic.clone(), relay.card.clone(), &out));
    let mut sender = Sender { link, events, task, recipient: inn.fingerprint() };
    recipient.ready(4).await;
    let boot = sender.connected().await;

    // The recipient takes a little of a large body and then stands still: the transfer is under way for good.
    let size = 48 << 20;
    let id = delivery();
    let depositing = {
        let (link, offer) = (sender.link.clone(), sender.offer(id, ROUTE, Some(size)));
        tokio::spawn(async move { link.deposit(offer, body(usize::try_from(size).unwrap())).await })
    };
    let offer = recipient.offered().await;
    let mut arriving = offer.accept(1 << 20).await.unwrap();
    soon("the first bytes", arriving.next()).await.unwrap();

    let started = Instant::now();
    let said = tokio::task::block_in_place(|| relay.done("revoke", &["hospital-out"]));
    assert!(said.contains("1 connections closed"), "{said}");
    soon("the end", async { while sender.next().await != UplinkEvent::Disconnected {} }).await;
    let seconds = started.elapsed().as_secs_f64();
    println!("revoked sender out after {seconds:.3} s, the command's own start included");
    assert!(seconds < 5.0, "{seconds}");
    let ended = soon("the deposit's end", depositing).await.unwrap();
    assert!(matches!(ended, Err(DepositError::Disconnected)) || ended.is_ok(), "{ended:?}");
    soon("a reason", async {
        while sender.link.refusal().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let listed = relay.done("tenants", &[]);
    assert!(listed.lines().any(|line| line.contains("hospital-out") && line.contains("REVOKED")), "{listed}");
    assert!(
        listed.lines().any(|line| line.contains("clinic-in") && line.contains("connected as recipient")),
        "{listed}"
    );
    assert!(relay.done("status", &[]).contains("holds 0 bodies, 0 bytes"), "{listed}");
    // The lease of its half body ends at the recipient, which stays connected.
    drop(arriving);

    relay.done("admit", &[&relay.card_file(&out)]);
    let again = sender.connected().await;
    assert_ne!(again, boot, "what the relay held is gone, and its sender has to hear that");
    assert_eq!(sender.link.refusal(), None);
    let settling = settle_all(recipient, 4 << 20);
    sender.link.deposit(sender.offer(id, ROUTE, Some(1 << 20)), body(1 << 20)).await.unwrap();
    assert!(matches!(sender.answer().await, UplinkEvent::Settlement { .. }));
    settling.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_changes_nothing_and_status_says_so() {
    let relay = Process::start();
    let out = key("hospital-out");
    relay.done("admit", &[&relay.card_file(&key("clinic-in"))]);
    relay.done("admit", &[&relay.card_file(&out), "--deposit-for", "clinic-in", "--budget", "64 MiB"]);
    let bad = relay.dir.path().join("conf.d/relay/zz.toml");
    std::fs::write(&bad, "[[tenant]]\nname = \"x\"\n").unwrap();
    let pid = relay.child.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let started = Instant::now();
    let status = loop {
        let status = relay.done("status", &[]);
        if status.contains("refused") {
            break status;
        }
        assert!(started.elapsed() < PATIENCE, "{status}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.contains("zz.toml:1:1: key `tenant[2].card` is missing"), "{status}");
    assert!(status.contains("hospital-out"), "{status}");
    let refused = relay.command("admit", &[&relay.card_file(&key("late"))]);
    assert_eq!(refused.status.code(), Some(64), "{}", said(&refused));
    assert!(said(&refused).contains("zz.toml:1:1"), "{}", said(&refused));

    // A revocation does not wait for the file to be mended: by name, and by fingerprint.
    let revoked = relay.command("revoke", &["hospital-out"]);
    assert!(revoked.status.success(), "{}", said(&revoked));
    for word in [
        "zz.toml:1:1",
        "the revocation is made all the same",
        "1 tenants, 1 revoked",
        "nothing else of its configuration",
    ] {
        assert!(said(&revoked).contains(word), "{word}: {}", said(&revoked));
    }
    let status = relay.done("status", &[]);
    assert!(status.contains("REVOKED") && status.contains("zz.toml:1:1"), "{status}");
    let digits = key_digits(&relay, "clinic-in");
    assert!(relay.command("revoke", &[&digits]).status.success());
    assert!(relay.done("tenants", &[]).matches("REVOKED").count() == 2);

    std::fs::remove_file(bad).unwrap();
    assert!(relay.done("revoke", &["hospital-out"]).contains("0 tenants, 2 revoked"));
    assert!(!relay.done("status", &[]).contains("refused"));
}

/// The beginning of a tenant's fingerprint, as `tenants` shows it.
fn key_digits(relay: &Process, name: &str) -> String {
    let listed = relay.done("tenants", &[]);
    let line = listed.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn drafts_of_a_killed_command_are_removed_by_the_next() {
    let relay = Process::start();
    let card = relay.card_file(&key("clinic-in"));
    relay.done("admit", &[&card]);
    let folder = relay.dir.path().join("conf.d/relay");
    let [old, young] = [1u8, 2].map(|n| folder.join(format!(".tenant-x.toml.{}", base::ObjectId([n; 16]))));
    for draft in [&old, &young] {
        std::fs::write(draft, "half of a ta").unwrap();
    }
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(hour_ago).unwrap();
    relay.done("revoke", &["clinic-in"]);
    assert!(!old.exists() && young.exists(), "one may be being written");
}

#[test]
fn admit_and_revoke_write_whole_files_and_take_back_what_is_no_configuration() {
    let relay = Process::start();
    let [out, inn] = ["hospital-out", "clinic-in"].map(key);
    // Its recipient is not there yet: nothing stays of the attempt.
    let early = relay.command("admit", &[&relay.card_file(&out), "--deposit-for", "clinic-in"]);
    assert_eq!(early.status.code(), Some(64), "{}", said(&early));
    assert!(said(&early).contains("there is no [[tenant]] called clinic-in"), "{}", said(&early));
    assert!(relay.fragments().is_empty() && names(&relay.dir.path().join("cards")).is_empty());

    relay.done("admit", &[&relay.card_file(&out)]);
    relay.done("admit", &[&relay.card_file(&inn), "--deposit-from", "hospital-out"]);
    assert_eq!(relay.fragments(), ["tenant-clinic-in.toml", "tenant-hospital-out.toml"]);
    assert!(relay.done("check", &[]).contains("tenant hospital-out deposits for clinic-in"));
    relay.done(
        "admit",
        &[&relay.card_file(&out), "--bytes-per-second", "20 MB", "--deliveries-per-second", "50"],
    );
    let table =
        std::fs::read_to_string(relay.dir.path().join("conf.d/relay/tenant-hospital-out.toml")).unwrap();
    assert!(table.contains("bytes_per_second = \"20 MB\"\ndeliveries_per_second = 50\n"), "{table}");

    // Other keys under a known name are somebody else, until a person says otherwise.
    let other = key("hospital-out");
    let foreign = relay.command("admit", &[&relay.card_file(&other)]);
    assert_eq!(foreign.status.code(), Some(1));
    assert!(said(&foreign).contains("other identity keys"), "{}", said(&foreign));
    let mixed = relay.command("admit", &[&relay.dir.path().join("relay.toml").display().to_string()]);
    assert_eq!(mixed.status.code(), Some(1));

    let digits = &inn.fingerprint().to_string()[..12];
    assert!(relay.done("revoke", &[digits]).contains("revoked      clinic-in"));
    assert!(relay.done("revoke", &["hospital-out"]).contains("0 tenants, 2 revoked"));
    for unknown in ["nobody", "1234", "ffffffffffff"] {
        assert_eq!(relay.command("revoke", &[unknown]).status.code(), Some(1), "{unknown}");
    }
    assert!(relay.done("admit", &[&relay.card_file(&other), "--replace"]).contains("1 tenants, 1 revoked"));
    // The old keys stay out, whatever they are called.
    assert_eq!(relay.fragments().iter().filter(|name| name.starts_with("revoked-")).count(), 2);
    assert!(names(relay.dir.path()).iter().all(|name| !name.starts_with('.')), "no draft stays behind");
}

#[test]
fn commands_that_are_killed_at_any_moment_leave_a_configuration_that_can_be_used() {
    let relay = Process::start();
    let [out, inn] = ["hospital-out", "clinic-in"].map(key);
    relay.done("admit", &[&relay.card_file(&inn)]);
    let (card, mut delays) = (relay.card_file(&out), testkit::Random::new(5));
    for round in 0..60 {
        let args: &[&str] = match round % 3 {
            0 => &["admit", &card, "--deposit-for", "clinic-in"],
            1 => &["revoke", "hospital-out"],
            _ => &["admit", &card, "--budget", "32 MiB"],
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_relay"))
            .args(args)
            .arg("--config")
            .arg(relay.config())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(delays.below(12_000)));
        let _ = child.kill();
        child.wait().unwrap();
        let checked = relay.command("check", &[]);
        assert!(checked.status.success(), "round {round}: {}", said(&checked));
    }
    // Whatever is left of it, the next command has its way.
    relay.done("admit", &[&card, "--deposit-for", "clinic-in"]);
    assert!(
        relay
            .done("tenants", &[])
            .lines()
            .any(|line| line.contains("hospital-out") && !line.contains("REVOKED"))
    );
    relay.done("revoke", &["hospital-out"]);
    assert!(relay.done("tenants", &[]).contains("REVOKED"));
}
