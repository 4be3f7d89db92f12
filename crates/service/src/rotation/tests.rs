use base::Name;
use serde::{Deserialize, Serialize};

use super::*;
use crate::config::{ConfigError, load};

const START: Timestamp = Timestamp(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    identity: IdentityTable,
}

/// A daemon's folder, with one card given out.
struct Bed(tempfile::TempDir);

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = OwnKeys::create(dir.path(), "relay", &Name::parse("relay-1").unwrap()).unwrap();
        keys.write_card(&dir.path().join("relay.card"), &[2], START).unwrap();
        let text = "[identity]\nkey = \"relay.key\"\nlog_key = \"relay-log.key\"\ncard = \"relay.card\"\n";
        fs::write(dir.path().join("relay.toml"), text).unwrap();
        Self(dir)
    }

    fn files(&self) -> KeyFiles {
        let path = |name: &str| self.0.path().join(name);
        KeyFiles { key: path("relay.key"), log_key: path("relay-log.key"), card: path("relay.card") }
    }

    fn own(&self, now: Timestamp) -> Result<Own, ConfigError> {
        let loaded = load::<Config>(&self.0.path().join("relay.toml"), "SLUIS_TEST_ROTATION_").unwrap();
        Own::load_at(&loaded, &loaded.config.identity, now)
    }

    fn begin(&self, now: Timestamp) -> PeerCard {
        card(self.files().rotate(Ask::Begin { overlap: HOUR, switch: false }, now).unwrap())
    }

    /// Names of files, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The same files elsewhere.
    fn copy(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in self.names() {
            fs::copy(self.0.path().join(&name), dir.path().join(&name)).unwrap();
        }
        Self(dir)
    }
}

fn card(rotated: Rotated) -> PeerCard {
    match rotated {
        Rotated::Card { card, .. } => *card,
        Rotated::Finished => panic!("no card"),
    }
}

#[test]
fn which_keys_are_used_follows_from_the_time() {
    let bed = Bed::new();
    let before = bed.own(START).unwrap();
    let new = bed.begin(START);
    assert_eq!((new.serial, new.id(), new.suites.as_slice()), (2, before.id(), &[2][..]));
    assert_eq!(new.check_update(&before.card), Ok(identity::Update::Successor));
    let (half, end) = (START.after(HOUR / 2), START.after(HOUR));
    // (time, whether the new keys are used, whether something is left to be done)
    for (now, used, over) in [
        (START, false, false),
        (Timestamp(half.0 - 1), false, false),
        (half, true, false),
        (Timestamp(end.0 - 1), true, false),
        (end, true, true),
    ] {
        let own = bed.own(now).unwrap();
        assert_eq!(own.card, new, "peers are shown the newest card");
        assert_eq!(own.identity.public() == &new.identity, used, "{now:?}");
        assert_eq!(Some(own.log_key.public()) == new.log.as_ref(), used, "{now:?}");
        assert_eq!(own.first.public(), before.identity.public(), "{now:?}");
        assert_eq!(own.unfinished, over, "{now:?}");
        assert_eq!(own.fingerprints(), [new.identity.fingerprint(), before.identity.fingerprint()]);
        assert_eq!(own.moments(), [half, end]);
    }
    let said = |now| said(&bed.own(now).unwrap(), now).unwrap();
    assert!(said(START).contains("from 2023-11-14T22:43:20Z on"), "{}", said(START));
    assert!(said(half).contains("count until 2023-11-14T23:13:20Z"), "{}", said(half));
    assert!(said(end).contains("key rotate --finish"), "{}", said(end));
    assert_eq!(bed.files().rotate(Ask::Finish, end).unwrap(), Rotated::Finished);
    let own = bed.own(end).unwrap();
    assert_eq!((own.card, own.unfinished, own.first.public()), (new.clone(), false, &new.identity));
    assert!(!bed.names().iter().any(|name| name.contains("next")), "{:?}", bed.names());
}

#[test]
fn a_rotation_after_another_goes_on_from_it() {
    let bed = Bed::new();
    let first = bed.own(START).unwrap().card;
    let second = bed.begin(START);
    let later = START.after(HOUR * 2);
    // Nobody has said --finish.
    let third = bed.begin(later);
    assert_eq!((third.serial, third.id()), (3, first.id()));
    assert_eq!(third.check_update(&second), Ok(identity::Update::Successor));
    assert_eq!(bed.own(later).unwrap().identity.public(), &second.identity);
}

#[test]
fn what_is_killed_before_the_card_counts_for_nothing_and_is_removed() {
    let whole = Bed::new();
    let before = whole.copy();
    whole.begin(START);
    let drafts = ["relay.key.next.4711.new", ".relay.card.next.0123456789abcdef0123456789abcdef"];
    for there in [&["relay.key.next"][..], &["relay.key.next", "relay-log.key.next"], &drafts] {
        let bed = before.copy();
        for name in there {
            let from = whole.0.path().join(name);
            let content = fs::read(from).unwrap_or_default();
            fs::write(bed.0.path().join(name), content).unwrap();
        }
        let files = bed.files();
        fs::set_permissions(&files.key, fs::metadata(whole.files().key).unwrap().permissions()).unwrap();
        let own = bed.own(START).unwrap();
        assert_eq!((own.card.serial, own.moments().len()), (1, 0), "{there:?}");
        let new = bed.begin(START);
        assert_eq!(bed.own(START.after(HOUR)).unwrap().identity.public(), &new.identity, "{there:?}");
        assert_eq!(bed.names().len(), before.names().len() + 3, "{:?}", bed.names());
    }
}

#[test]
fn what_is_killed_while_it_finishes_can_be_read_and_finished() {
    let bed = Bed::new();
    let new = bed.begin(START);
    let end = START.after(HOUR);
    for steps in 0..=3 {
        let bed = bed.copy();
        let files = bed.files();
        for path in [&files.key, &files.log_key, &files.card].into_iter().take(steps) {
            fs::rename(next(path), path).unwrap();
        }
        let own = bed.own(end).unwrap();
        assert_eq!((own.identity.public(), &own.card), (&new.identity, &new), "{steps} steps");
        let finished = files.rotate(Ask::Finish, end);
        assert_eq!(finished.is_ok(), steps < 3, "{finished:?}");
        assert_eq!(bed.own(end).unwrap().card, new);
        assert!(!bed.names().iter().any(|name| name.contains("next")));
    }
}

#[test]
fn the_switch_can_be_made_earlier_by_another_card() {
    let bed = Bed::new();
    let first = bed.own(START).unwrap().card;
    let pending = bed.begin(START);
    let now = START.after(HOUR / 4);
    let switched = card(bed.files().rotate(Ask::Switch, now).unwrap());
    assert_eq!((switched.serial, &switched.identity), (3, &pending.identity));
    // For those who have taken the card before it, and for those who have not.
    assert_eq!(switched.check_update(&pending), Ok(identity::Update::Renewed));
    assert_eq!(switched.check_update(&first), Ok(identity::Update::Successor));
    let own = bed.own(now).unwrap();
    assert_eq!((own.identity.public(), own.moments()[1]), (&pending.identity, START.after(HOUR)));
    let again = bed.files().rotate(Ask::Switch, now).unwrap_err();
    assert!(matches!(again, RotateError::Switched(_)), "{again}");
    let at_once = Bed::new();
    let new = card(at_once.files().rotate(Ask::Begin { overlap: HOUR, switch: true }, START).unwrap());
    assert_eq!(at_once.own(START).unwrap().identity.public(), &new.identity);
}

#[test]
fn whatever_cannot_be_done_changes_nothing() {
    let bed = Bed::new();
    let files = bed.files();
    let begin = |overlap| Ask::Begin { overlap, switch: false };
    let said = |ask, now| files.rotate(ask, now).unwrap_err().to_string();
    assert!(said(Ask::Finish, START).contains("no rotation is under way"));
    assert!(said(Ask::Switch, START).contains("no rotation is under way"));
    assert!(said(begin(Duration::ZERO), START).contains("1s to 366days"));
    assert!(said(begin(HOUR * 24 * 400), START).contains("1s to 366days"));
    let lock = File::open(bed.0.path()).unwrap();
    lock.lock().unwrap();
    assert!(said(begin(HOUR), START).contains("another `key rotate` is at work"));
    drop(lock);
    assert_eq!(bed.names().len(), 4, "{:?}", bed.names());
    bed.begin(START);
    let names = bed.names();
    assert!(said(begin(HOUR), START).contains("under way: its keys are used from 2023-11-14T22:43:20Z on"));
    assert!(said(begin(HOUR), START.after(HOUR * 3 / 4)).contains("under way: its keys are used, the"));
    assert!(said(Ask::Finish, START).contains("count until 2023-11-14T23:13:20Z"));
    assert_eq!(bed.names(), names);

    let other = Bed::new();
    fs::copy(bed.files().card, other.files().card).unwrap();
    let error = other.files().rotate(begin(HOUR), START).unwrap_err().to_string();
    assert!(error.contains("does not name the keys"), "{error}");
    fs::write(other.files().card, "nonsense").unwrap();
    let error = other.files().rotate(begin(HOUR), START).unwrap_err().to_string();
    assert!(error.contains("not a peer card"), "{error}");
}

#[test]
fn a_card_of_other_keys_beside_the_card_is_refused() {
    let (bed, other) = (Bed::new(), Bed::new());
    bed.begin(START);
    other.begin(START);
    fs::copy(next(&other.files().card), next(&bed.files().card)).unwrap();
    let error = bed.own(START).unwrap_err().to_string();
    assert!(error.contains("relay.card.next") && error.contains("does not name these keys"), "{error}");
}

#[tokio::test]
async fn a_daemon_reads_its_keys_again_when_a_moment_comes_and_once_for_each() {
    let (reloads, mut requests) = Reloads::without_signal();
    let stop = CancellationToken::new();
    let soon = Timestamp::now().after(Duration::from_millis(300));
    let moments = vec![Timestamp(1), soon, soon.after(Duration::from_millis(300)), soon.after(HOUR)];
    let watching = tokio::spawn(watch(move || moments.clone(), reloads, stop.clone()));
    for count in 1..=2 {
        let request = requests.next().await;
        assert!(Timestamp::now() >= soon, "{count}");
        request.answer(Ok(serde_json::json!({})));
    }
    let third = tokio::time::timeout(Duration::from_secs(2), requests.next()).await;
    assert!(third.is_err(), "nothing more has come");
    stop.cancel();
    watching.await.unwrap().unwrap();
}
