//! What destinations accept, as far as it was found out: kept on disk with its time, asked again at most daily while a
//! sender has a use for it, told to senders signed. A probe that fails takes nothing away.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::{Fingerprint, Name, RouteId, Timestamp, Uid};
use enquiry::{Finding, Findings, NegotiationTable, NoTable, TableAnswer};
use identity::IdentityKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::files::{self, Readable};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::{DicomTarget, Probe, Target},
    destination::{Ahead, Destination, probe},
};

/// A table is found out again after this time.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// While a sender has asked within this time, somebody has a use for it.
const WANTED: Duration = Duration::from_secs(2 * 24 * 3600);
/// After a probe that failed.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// Commands that wait for one probe.
const COMMANDS_MAX: usize = 16;

/// What a command gets.
pub type Probed = Result<Value, String>;

/// The table of one destination.
#[derive(Debug)]
pub struct Table {
    destination: Arc<Destination>,
    /// Of the destination and of what is asked: a table of another archive is not this one's.
    target: String,
    path: PathBuf,
    reencodes: bool,
    // Never held across an await.
    state: Mutex<State>,
    wanted: Notify,
    commands: mpsc::Sender<oneshot::Sender<Probed>>,
}

#[derive(Debug, Default)]
struct State {
    kept: Option<Kept>,
    /// The last probe, where it failed.
    failed: Option<(Timestamp, String)>,
    /// A sender asked last.
    wanted_at: Option<Timestamp>,
    /// What is kept was found out with another list of classes and syntaxes.
    other_list: bool,
}

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    target: String,
    serial: u64,
    reencodes: bool,
    probed_at: Timestamp,
    accepted: Vec<(Uid, Uid)>,
    rejected: Vec<(Uid, Uid)>,
    unknown: Vec<(Uid, Uid)>,
}

impl Kept {
    fn new(target: String, serial: u64, reencodes: bool, probed_at: Timestamp, findings: &Findings) -> Self {
        let of = |wanted: Finding| {
            let pairs = findings.iter().filter(|(.., finding)| *finding == wanted);
            pairs.map(|(class, syntax, _)| (class.clone(), syntax.clone())).collect()
        };
        let (accepted, rejected, unknown) =
            (of(Finding::Accepted), of(Finding::Rejected), of(Finding::Unknown));
        Self { target, serial, reencodes, probed_at, accepted, rejected, unknown }
    }

    fn findings(&self) -> Findings {
        let each = [
            (&self.accepted, Finding::Accepted),
            (&self.rejected, Finding::Rejected),
            (&self.unknown, Finding::Unknown),
        ];
        let pairs =
            each.into_iter().flat_map(|(pairs, finding)| pairs.iter().map(move |pair| (pair, finding)));
        pairs.map(|(pair, finding)| (pair.clone(), finding)).collect()
    }
}

impl Table {
    /// Reads what is kept of a destination. Starts its prober, where it is an application entity.
    pub fn open(dir: &Path, destination: &Arc<Destination>, tasks: &mut service::Tasks) -> Arc<Self> {
        let name = &destination.settings.name;
        let path = dir.join(format!("accepts-{name}.json"));
        let (commands, asked) = mpsc::channel(COMMANDS_MAX);
        let (target, reencodes) = (target_text(destination), destination.settings.reencodes());
        let kept = read(&path, name).filter(|kept| kept.target == target);
        let table = Arc::new(Self {
            destination: Arc::clone(destination),
            target,
            path,
            reencodes,
            state: Mutex::new(State {
                other_list: is_other_list(kept.as_ref(), destination),
                kept,
                ..State::default()
            }),
            wanted: Notify::new(),
            commands,
        });
        if let Target::Dicom(target) = &destination.settings.target {
            let prober = Prober { table: Arc::clone(&table), target: target.clone() };
            tasks.spawn(format!("destination {name} table"), prober.run(asked, tasks.token()));
        }
        table
    }

    /// What a sender is told who has this serial number already.
    pub fn tell(
        &self,
        receiver: &IdentityKey,
        route: RouteId,
        sender: Fingerprint,
        known: Option<u64>,
    ) -> TableAnswer {
        let Target::Dicom(target) = &self.destination.settings.target else {
            return TableAnswer::None(NoTable::TakesAll);
        };
        let kept = self.with(|state| {
            state.wanted_at = Some(Timestamp::now());
            state.kept.clone()
        });
        self.wanted.notify_one();
        let Some(kept) = kept else {
            let off = target.probe.when == Probe::Off || target.probe_calling().is_none();
            return TableAnswer::None(if off { NoTable::Off } else { NoTable::NotYet });
        };
        if known == Some(kept.serial) {
            return TableAnswer::Unchanged;
        }
        let table = NegotiationTable {
            route,
            sender,
            serial: kept.serial,
            probed_at: kept.probed_at,
            reencodes: kept.reencodes,
            findings: kept.findings(),
        };
        match table.sign(receiver) {
            Ok(signed) => TableAnswer::Table(signed.to_bytes().into()),
            // The configuration keeps below the limits.
            Err(error) => {
                warn!(destination = %self.destination.settings.name, %error, "table cannot be told");
                TableAnswer::None(NoTable::NotYet)
            }
        }
    }

    /// Has the destination asked now. Whoever asks meanwhile gets the same answer.
    pub async fn probe_now(&self) -> Probed {
        if self.destination.dicom().is_none() {
            return Err(not_asked(&self.destination.settings.name));
        }
        let (reply, answer) = oneshot::channel();
        let stopping = || "the daemon is stopping".to_owned();
        self.commands.try_send(reply).map_err(|_| "too many wait for a probe already".to_owned())?;
        answer.await.map_err(|_| stopping())?
    }

    /// For `status`: how old it is, and what is in it.
    pub fn json(&self) -> Value {
        let now = Timestamp::now();
        self.with(|state| {
            let failed = state.failed.as_ref();
            json!({
                "age_s": state.kept.as_ref().map(|kept| now.since(kept.probed_at).as_secs()),
                "accepted": state.kept.as_ref().map(|kept| kept.accepted.len()),
                "rejected": state.kept.as_ref().map(|kept| kept.rejected.len()),
                "unknown": state.kept.as_ref().map(|kept| kept.unknown.len()),
                "last_failed": failed.map(|(at, why)| format!("{}: {why}", service::text::utc(*at))),
            })
        })
    }

    /// When it is to be found out without a command; never, where nobody has a use for it.
    fn due_in(&self, target: &DicomTarget, now: Timestamp) -> Option<Duration> {
        if target.probe.when == Probe::Off || target.probe_calling().is_none() {
            return None;
        }
        self.with(|state| due_in(state, now))
    }

    /// Takes over what was found out. Durable first.
    fn learn(&self, findings: Findings, now: Timestamp) -> Result<Value, String> {
        let earlier = self.with(|state| state.kept.clone());
        let findings = match &earlier {
            Some(earlier) => findings.or_earlier(&earlier.findings()),
            None => findings,
        };
        let serial = earlier.map_or(0, |earlier| earlier.serial + 1).max(now.0);
        let kept = Kept::new(self.target.clone(), serial, self.reencodes, now, &findings);
        write(&self.path, &kept).map_err(|error| format!("{}: {error}", self.path.display()))?;
        info!(
            destination = %self.destination.settings.name, accepted = kept.accepted.len(), rejected = kept.rejected.len(),
            unknown = kept.unknown.len(), "found out what the destination accepts"
        );
        self.with(|state| {
            state.kept = Some(kept);
            (state.failed, state.other_list) = (None, false);
        });
        Ok(shown(&self.destination.settings.name, &findings, Some(now)))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whatever the kind of what is not asked: a folder, or a web service.
pub(crate) fn not_asked(destination: &Name) -> String {
    format!(
        "destination {destination} is no application entity: it negotiates nothing, and is sent everything"
    )
}

fn is_other_list(kept: Option<&Kept>, destination: &Destination) -> bool {
    let Target::Dicom(target) = &destination.settings.target else { return false };
    let (classes, syntaxes) = (&target.probe.classes, &target.probe.syntaxes);
    kept.is_some_and(|kept| kept.findings().axes() != (classes.clone(), syntaxes.clone()))
}

fn due_in(state: &State, now: Timestamp) -> Option<Duration> {
    let wanted = state.wanted_at.filter(|at| now.since(*at) < WANTED);
    wanted?;
    let next = match (&state.failed, &state.kept) {
        (Some((at, _)), _) => at.after(AGAIN),
        (None, Some(kept)) if !state.other_list => kept.probed_at.after(DAY),
        (None, _) => now,
    };
    Some(next.since(now))
}

struct Prober {
    table: Arc<Table>,
    target: DicomTarget,
}

impl Prober {
    async fn run(
        self,
        mut commands: mpsc::Receiver<oneshot::Sender<Probed>>,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        self.flag_changed();
        loop {
            let due = self.table.due_in(&self.target, Timestamp::now());
            let wait = async {
                match due {
                    Some(wait) => sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            let mut asking = Vec::new();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.table.wanted.notified() => continue,
                Some(command) = commands.recv() => asking.push(command),
                () = wait => {}
            }
            let probed = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                probed = self.probe() => probed,
            };
            while let Ok(command) = commands.try_recv() {
                asking.push(command);
            }
            for command in asking {
                let _ = command.send(probed.clone());
            }
        }
    }

    async fn probe(&self) -> Probed {
        let Ahead { contexts, associations } = Ahead::of(&self.target);
        let name = &self.table.destination.settings.name;
        info!(destination = %name, contexts, associations, "asking the destination what it accepts");
        let probed = probe(&self.target, self.table.destination.dicom()).await;
        let now = Timestamp::now();
        let learnt = match probed {
            Ok(findings) => tokio::task::block_in_place(|| self.table.learn(findings, now)),
            Err(error) => Err(error.to_string()),
        };
        learnt.inspect_err(|reason| {
            let age_s = self.table.with(|state| {
                state.failed = Some((now, reason.clone()));
                state.kept.as_ref().map(|kept| now.since(kept.probed_at).as_secs())
            });
            warn!(destination = %name, reason, age_s, "the destination could not be asked what it accepts; what is known of it stays");
        })
    }

    /// Whether we re-encode is part of the table: where that has changed, it is another one.
    fn flag_changed(&self) {
        let table = &self.table;
        let kept = table.with(|state| state.kept.clone().filter(|kept| kept.reencodes != table.reencodes));
        let Some(mut kept) = kept else { return };
        kept.reencodes = table.reencodes;
        kept.serial = (kept.serial + 1).max(Timestamp::now().0);
        match tokio::task::block_in_place(|| write(&table.path, &kept)) {
            Ok(()) => table.with(|state| state.kept = Some(kept)),
            Err(error) => warn!(%error, "table cannot be written; it is told as it was"),
        }
    }
}

/// What is asked of whom: another address, title or list makes a table worthless.
fn target_text(destination: &Destination) -> String {
    match &destination.settings.target {
        Target::Folder(_) => "folder".to_owned(),
        Target::Stow(_) => "stow".to_owned(),
        Target::Dicom(target) => {
            let calling = target.probe_calling().map_or("nobody", |title| title.as_str());
            format!("{}@{} as {calling}", target.ae, target.address)
        }
    }
}

fn read(path: &Path, destination: &Name) -> Option<Kept> {
    let read = match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => Err(error.to_string()),
    };
    // It can be found out again; nothing is lost with it but a probe.
    read.inspect_err(|error| warn!(%destination, path = %path.display(), error, "table cannot be read; it is found out anew"))
        .ok()
}

fn write(path: &Path, kept: &Kept) -> std::io::Result<()> {
    let text = serde_json::to_vec(kept).map_err(std::io::Error::other)?;
    files::replace(path, &text, Readable::Owner)
}

/// The whole table, for a command.
pub fn shown(destination: &Name, findings: &Findings, at: Option<Timestamp>) -> Value {
    let (classes, syntaxes) = findings.axes();
    let word = |finding| match finding {
        Some(Finding::Accepted) => "accepted",
        Some(Finding::Rejected) => "rejected",
        Some(Finding::Unknown) => "unknown",
        None => "not asked",
    };
    let of_class = |class: &Uid| {
        let each =
            syntaxes.iter().map(|syntax| (syntax.to_string(), json!(word(findings.of(class, syntax)))));
        json!({
            "uid": class, "name": dimse::SopClassKind::of(class).name(),
            "syntaxes": each.collect::<serde_json::Map<_, _>>(),
        })
    };
    let syntax = |uid: &Uid| json!({ "uid": uid, "name": dimse::transfer_syntax(uid).map(|row| row.name) });
    json!({
        "destination": destination,
        "probed_at": at.map(service::text::utc),
        "accepted": findings.count(Finding::Accepted),
        "rejected": findings.count(Finding::Rejected),
        "unknown": findings.count(Finding::Unknown),
        "syntaxes": syntaxes.iter().map(syntax).collect::<Vec<_>>(),
        "classes": classes.iter().map(of_class).collect::<Vec<_>>(),
    })
}

/// [`shown`] for people: a column for each syntax, a line for each class.
pub fn text(shown: &Value) -> String {
    use std::fmt::Write as _;
    let list = |key: &str| shown.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let of = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let (syntaxes, mut text) = (list("syntaxes"), String::new());
    for (number, syntax) in (1..).zip(&syntaxes) {
        let _ = writeln!(text, "{number:>3}  {:<28} {}", of(syntax, "uid"), of(syntax, "name"));
    }
    let heads: String = (1..=syntaxes.len()).map(|number| format!("{number:>3}")).collect();
    let _ = writeln!(text, "{heads}   + accepted, - rejected, ? no clear answer");
    for class in list("classes") {
        for syntax in &syntaxes {
            let finding = class.get("syntaxes").map(|each| of(each, &of(syntax, "uid"))).unwrap_or_default();
            text.push_str(match finding.as_str() {
                "accepted" => "  +",
                "rejected" => "  -",
                "unknown" => "  ?",
                _ => "   ",
            });
        }
        let name = of(&class, "name");
        let _ = writeln!(text, "   {}", if name.is_empty() { of(&class, "uid") } else { name });
    }
    let count = |key: &str| shown.get(key).and_then(Value::as_u64).unwrap_or(0);
    let _ = writeln!(
        text,
        "{} accepted, {} rejected, {} without a clear answer",
        count("accepted"),
        count("rejected"),
        count("unknown")
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(probed_at: u64) -> Kept {
        let pair = |class: &str| (Uid::parse(class).unwrap(), Uid::parse("1.2").unwrap());
        Kept {
            target: "A@127.0.0.1:104 as B".to_owned(),
            serial: 5,
            reencodes: false,
            probed_at: Timestamp(probed_at),
            accepted: vec![pair("1.2.3")],
            rejected: vec![pair("1.2.4")],
            unknown: vec![pair("1.2.5")],
        }
    }

    #[test]
    fn a_destination_is_asked_at_most_daily_and_only_while_somebody_has_a_use_for_it() {
        let (day, quarter) = (24 * 3600 * 1000, 15 * 60 * 1000);
        let now = Timestamp(10 * day);
        let failed = |ago: u64| Some((Timestamp(now.0 - ago), "no".to_owned()));
        let cases = [
            (None, None, None, None),
            (Some(0), None, None, Some(0)),
            (Some(2 * day - 1), None, None, Some(0)),
            (Some(2 * day), None, None, None),
            (Some(0), Some(1000), None, Some(day - 1000)),
            (Some(0), Some(day), None, Some(0)),
            (Some(0), Some(5 * day), None, Some(0)),
            (Some(0), Some(5 * day), failed(0), Some(quarter)),
            (Some(0), None, failed(quarter + 5), Some(0)),
            (None, Some(5 * day), None, None),
        ];
        for (wanted_ago, probed_ago, failed, want) in cases {
            let mut state = State {
                kept: probed_ago.map(|ago| kept(now.0 - ago)),
                failed,
                wanted_at: wanted_ago.map(|ago| Timestamp(now.0 - ago)),
                other_list: false,
            };
            let want = want.map(Duration::from_millis);
            assert_eq!(due_in(&state, now), want, "{wanted_ago:?} {probed_ago:?} {:?}", state.failed);
            // With another list it is due at once, but for a failure.
            state.other_list = true;
            let want = want.map(|wait| if state.failed.is_some() { wait } else { Duration::ZERO });
            assert_eq!(due_in(&state, now), want, "{wanted_ago:?} {probed_ago:?} {:?}", state.failed);
        }
    }

    #[test]
    fn a_file_gives_back_what_was_kept_and_a_damaged_one_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, name) = (dir.path().join("accepts-x.json"), Name::parse("x").unwrap());
        assert_eq!(read(&path, &name), None);
        write(&path, &kept(7)).unwrap();
        assert_eq!(read(&path, &name), Some(kept(7)));
        let whole = std::fs::read(&path).unwrap();
        for at in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(read(&path, &name), None, "cut at {at}");
        }
        let again = Kept::new(kept(7).target, 5, false, Timestamp(7), &kept(7).findings());
        assert_eq!(again, kept(7));
    }

    #[test]
    fn the_table_is_printed_by_class_and_syntax() {
        let ct = Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap();
        let private = Uid::parse("1.2.3.4").unwrap();
        let [implicit, explicit] =
            ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"].map(|uid| Uid::parse(uid).unwrap());
        let findings: Findings = [
            ((ct.clone(), implicit.clone()), Finding::Rejected),
            ((ct, explicit.clone()), Finding::Accepted),
            ((private.clone(), implicit), Finding::Unknown),
            ((private, explicit), Finding::Rejected),
        ]
        .into_iter()
        .collect();
        let text = text(&shown(&Name::parse("archive").unwrap(), &findings, None));
        assert_eq!(
            text,
            "  1  1.2.840.10008.1.2            Implicit VR Little Endian\n\
             \u{20} 2  1.2.840.10008.1.2.1          Explicit VR Little Endian\n\
             \u{20} 1  2   + accepted, - rejected, ? no clear answer\n\
             \u{20} ?  -   1.2.3.4\n\
             \u{20} -  +   CT Image Storage\n\
             1 accepted, 2 rejected, 1 without a clear answer\n"
        );
    }
}
