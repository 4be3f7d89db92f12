//! Opening: keys that fit, what is cleaned up, what is refused.

use std::fs;

use super::*;

fn open_with(place: &Place, outbox: [u8; 32], index: [u8; 32]) -> Result<Outbox, OpenError> {
    Outbox::open(
        place.config.clone(),
        OutboxKey::new(Secret::new(outbox)),
        IndexKey::new(Secret::new(index)),
        T0,
    )
}

#[test]
fn keys_that_do_not_fit_are_refused_and_nothing_is_made_anew() {
    let place = Place::new();
    assert!(matches!(open_with(&place, [1; 32], [8; 32]), Err(OpenError::WrongKey)));
    assert!(matches!(open_with(&place, [7; 32], [1; 32]), Err(OpenError::WrongIndexKey)));
    assert!(open_with(&place, [7; 32], [8; 32]).is_ok());
    let admin = Outbox::open_admin(place.config.clone(), OutboxKey::new(Secret::new([1; 32])), index_key());
    assert!(matches!(admin, Err(OpenError::WrongKey)));
    let again = Outbox::init(&place.dir, &OutboxKey::new(Secret::new([1; 32])), &index_key());
    assert!(matches!(again, Err(OpenError::AlreadyInitialised(_))));
    assert!(open_with(&place, [7; 32], [8; 32]).is_ok(), "the keys it was made with still fit");

    let empty = tempfile::tempdir().unwrap();
    for dir in [empty.path().to_owned(), empty.path().join("nowhere")] {
        let mut config = OutboxConfig::new(&dir);
        config.reserve_bytes = 0;
        let opened = Outbox::open(config.clone(), outbox_key(), index_key(), T0);
        assert!(matches!(opened, Err(OpenError::NotInitialised(_))), "{}", dir.display());
        let admin = Outbox::open_admin(config, outbox_key(), index_key());
        assert!(matches!(admin, Err(OpenError::NotInitialised(_))), "{}", dir.display());
    }
}

#[test]
fn an_init_that_was_interrupted_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::at(dir.path().join("outbox"));
    fs::create_dir(&place.dir).unwrap();
    rusqlite::Connection::open(place.dir.join("index.db")).unwrap();
    fs::create_dir(place.dir.join("objects")).unwrap();
    let half = Outbox::open(place.config.clone(), outbox_key(), index_key(), T0);
    assert!(matches!(half, Err(OpenError::NotInitialised(_))));
    Outbox::init(&place.dir, &outbox_key(), &index_key()).unwrap();
    place.open();
}

#[test]
fn only_one_daemon_runs_on_an_outbox() {
    let place = Place::new();
    let outbox = place.open();
    assert!(matches!(open_with(&place, [7; 32], [8; 32]), Err(OpenError::Locked(_))));
    assert!(matches!(Outbox::init(&place.dir, &outbox_key(), &index_key()), Err(OpenError::Locked(_))));
    outbox.close();
    place.open();
}

#[test]
fn an_index_of_a_newer_version_is_left_alone() {
    let place = Place::new();
    let connection = rusqlite::Connection::open(place.dir.join("index.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    let opened = open_with(&place, [7; 32], [8; 32]);
    assert!(matches!(opened, Err(OpenError::TooNew { found: 99, .. })));
    let admin = || Outbox::open_admin(place.config.clone(), outbox_key(), index_key());
    assert!(matches!(admin(), Err(OpenError::TooNew { found: 99, .. })));
    connection.pragma_update(None, "user_version", 0).unwrap();
    assert!(matches!(admin(), Err(OpenError::TooOld { found: 0, .. })), "a command converts nothing");
}

#[tokio::test]
async fn the_start_removes_bodies_without_a_row_and_nothing_else() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    sample.commit(&outbox, T0).await;
    outbox.close();
    let objects = place.dir.join("objects");
    let strange = ["notes.txt", "00000001", "README"];
    fs::write(objects.join(ObjectId([0xee; 16]).to_string()), b"half a body").unwrap();
    for name in strange {
        fs::write(objects.join(name), b"not ours").unwrap();
    }
    let outbox = place.open();
    let mut want: Vec<_> = strange.iter().map(|name| (*name).to_owned()).collect();
    want.push(sample.object.to_string());
    want.sort();
    assert_eq!(place.bodies(), want);
    assert_eq!(due(&outbox, at(1)).await, [sample.delivery()]);
}

#[tokio::test]
async fn a_row_whose_body_is_missing_is_parked_with_an_alarm() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    sample.commit(&outbox, T0).await;
    outbox.close();
    fs::remove_file(place.dir.join("objects").join(sample.object.to_string())).unwrap();
    let outbox = place.open_at(at(5));
    let row = row(&outbox, sample.delivery()).await;
    assert_eq!((row.state, row.alarm), (State::Parked, true));
    assert_eq!(row.reason.as_deref(), Some("its body is missing from the outbox"));
    assert!(matches!(outbox.body(sample.object), Err(BodyError::Ended(_))));
}

#[tokio::test]
async fn what_was_under_way_is_due_again_after_a_start() {
    let place = Place::new();
    let outbox = place.open();
    let (running, relayed) = (Sample::new(1, 1, 1).cut_through(), Sample::new(2, 2, 1).cut_through());
    running.commit(&outbox, T0).await;
    relayed.commit(&outbox, T0).await;
    outbox.relayed(relayed.delivery(), Attempt(1), base::BootId([1; 16]), T0).await.unwrap();
    outbox.close();
    let outbox = place.open_at(at(7));
    assert_eq!(due(&outbox, at(7)).await, [running.delivery()]);
    assert_eq!(state(&outbox, relayed.delivery()).await, State::Relayed, "the relay may still have it");
    assert_eq!(
        outbox.start_attempt(running.delivery(), at(7)).await,
        Ok(Attempt(2)),
        "never the same number again"
    );
    assert!(history(&outbox, running.delivery()).await.contains(&EventKind::Interrupted));
}

#[tokio::test]
async fn rotation_wraps_everything_again_before_the_old_key_is_given_up() {
    let place = Place::new();
    let outbox = place.open();
    let samples: Vec<_> = (1..=20).map(|number| Sample::new(number, number, 1).cut_through()).collect();
    let (before, after) = samples.split_at(10);
    for sample in before {
        sample.commit(&outbox, T0).await;
    }
    outbox.settled_stored(before[0].receipt(1, 0), T0).await.unwrap();
    let new = || OutboxKey::new(Secret::new([0x77; 32]));
    assert_eq!(outbox.rewrap(new(), operator(), at(1)).await.unwrap(), 9);
    for sample in after {
        sample.commit(&outbox, at(2)).await;
    }
    for sample in &samples[1..] {
        assert!(has_key(&outbox, sample).await);
    }
    assert_eq!(outbox.acts(1).await.unwrap()[0].what, "rewrap");
    outbox.close();
    assert!(matches!(open_with(&place, [7; 32], [8; 32]), Err(OpenError::WrongKey)));
    let outbox = Outbox::open(place.config.clone(), new(), index_key(), T0).unwrap();
    for sample in &samples[1..] {
        assert!(has_key(&outbox, sample).await);
        assert_eq!(outbox.reveal(sample.delivery(), operator(), at(3)).await.unwrap(), sample.record());
    }
}

#[tokio::test]
async fn a_rotation_that_fails_leaves_the_old_key_in_use() {
    use crate::faults::{Action, Kind, Point};
    let place = Place::new();
    let outbox = place.open();
    let (first, second) = (Sample::new(1, 1, 1), Sample::new(2, 2, 1));
    first.commit(&outbox, T0).await;
    place.faults.arm(Point::Commit(Kind::Change), false, 1, Action::Fail(28));
    let new = OutboxKey::new(Secret::new([0x77; 32]));
    assert!(matches!(outbox.rewrap(new, operator(), T0).await, Err(BodyError::Store(StoreError::Full))));
    place.faults.disarm();
    second.commit(&outbox, T0).await;
    outbox.close();
    let outbox = place.open();
    assert!(has_key(&outbox, &first).await && has_key(&outbox, &second).await);
}
