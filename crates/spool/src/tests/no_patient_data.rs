//! What a stolen state directory says: nothing of a patient, no key, and after the receipt not even a wrapped one.

use std::{fs, path::Path};

use super::*;

/// Whether these bytes are in any file below a folder, as they are or in hexadecimal.
fn is_on_disk(dir: &Path, needle: &[u8]) -> bool {
    let hexed = hex::encode(needle).into_bytes();
    files(dir).iter().any(|content| {
        [needle, &hexed].iter().any(|needle| content.windows(needle.len()).any(|window| window == *needle))
    })
}

fn files(dir: &Path) -> Vec<Vec<u8>> {
    let mut contents = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contents.extend(files(&path));
        } else {
            contents.push(fs::read(path).unwrap());
        }
    }
    contents
}

fn planted(sample: &Sample) -> Vec<Vec<u8>> {
    let record = sample.record();
    let uid = |uid: &Phi<Uid>| uid.reveal().as_str().as_bytes().to_vec();
    vec![
        uid(&record.meta.sop_instance),
        uid(&record.study.unwrap()),
        uid(&record.series.unwrap()),
        record.accession.unwrap().reveal().as_bytes().to_vec(),
        record.patient_id.unwrap().reveal().as_bytes().to_vec(),
        record.data_digest.0.to_vec(),
        sample.key().expose().to_vec(),
        outbox_key().check_value().repeat(2),
        vec![7; 32],
        vec![8; 32],
    ]
}

#[tokio::test]
async fn the_state_directory_holds_no_identifier_and_no_key_at_any_time() {
    let place = Place::new();
    let outbox = place.open();
    let mut sample = Sample::new(1, 424_242_424, 1).cut_through();
    sample.commit(&outbox, T0).await;
    let check = |when: &str| {
        for (number, needle) in planted(&sample).iter().enumerate() {
            assert!(!is_on_disk(&place.dir, needle), "{when}: needle {number}");
        }
    };
    check("accepted");
    outbox.deferred(sample.delivery(), Attempt(1), Deferral::default(), 0.5, T0).await.unwrap();
    outbox.reveal(sample.delivery(), operator(), T0).await.unwrap();
    check("under way");
    outbox.settled_stored(sample.receipt(1, 0), T0).await.unwrap();
    check("settled");
    outbox.close();
    check("closed");
    sample = Sample::new(2, 424_242_424, 2);
    let outbox = place.open();
    outbox.begin_unspooled(sample.new_unspooled(T0), T0).await.unwrap();
    outbox.returned(sample.delivery(), "no answer within 25 s", T0).await.unwrap();
    for (number, needle) in planted(&sample).iter().enumerate() {
        assert!(!is_on_disk(&place.dir, needle), "unspooled: needle {number}");
    }
}

#[tokio::test]
async fn after_the_receipt_the_wrapped_key_and_the_record_are_in_no_file() {
    let place = Place::new();
    let outbox = place.open();
    let (settled, discarded, held) =
        (Sample::new(1, 1, 1).cut_through(), Sample::new(2, 2, 1), Sample::new(3, 3, 1));
    for sample in [&settled, &discarded, &held] {
        sample.commit(&outbox, T0).await;
    }
    let index = rusqlite::Connection::open(place.dir.join("index.db")).unwrap();
    let sealed = |sample: &Sample| {
        let sql = "SELECT wrapped_key, record FROM object WHERE object = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok([row.get::<_, Vec<u8>>(0)?, row.get(1)?]);
        index.query_row(sql, [sample.object.0], read).unwrap()
    };
    let parts = [sealed(&settled), sealed(&discarded), sealed(&held)];
    drop(index);
    assert!(parts.iter().flatten().all(|part| is_on_disk(&place.dir, part)), "they are there until then");
    outbox.settled_stored(settled.receipt(1, 0), T0).await.unwrap();
    outbox.discard(discarded.delivery(), operator(), T0).await.unwrap();
    outbox.close();
    for part in parts[..2].iter().flatten() {
        assert!(!is_on_disk(&place.dir, part));
    }
    assert!(parts[2].iter().all(|part| is_on_disk(&place.dir, part)), "the third is still owed");
}

#[tokio::test]
async fn only_the_owner_may_read_the_state_directory() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let outbox = place.open();
    Sample::new(1, 1, 1).commit(&outbox, T0).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&place.dir), 0o700);
    assert_eq!(mode(&place.dir.join("objects")), 0o700);
    for name in ["index.db", "index.db-wal", "index.db-shm", "lock"] {
        assert_eq!(mode(&place.dir.join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&place.dir.join("objects").join(&place.bodies()[0])), 0o600);
}

#[tokio::test]
async fn nothing_that_is_printed_carries_patient_data() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    let printed = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        sample.new_object(T0),
        sample.new_unspooled(T0),
        sample.record(),
        sample.try_commit(&outbox, T0).await,
        row(&outbox, sample.delivery()).await,
    );
    for needle in ["1.2.826", "ACC1", "PAT1"] {
        assert!(!printed.contains(needle), "{needle}");
    }
}
