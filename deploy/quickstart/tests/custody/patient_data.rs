//! No patient data in a log line at any level, nor in any file of the three roles.

use std::{fs, path::Path};

use fixtures::Subject;
use spool::State;
use testkit::{Logs, PLANTED};

use crate::common::{Act, Bed, Pacs, Plan, dicom, send, slices_of, until};

/// Every file below a folder that contains one of the texts.
fn leaks(dir: &Path, texts: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(leaks(&path, texts));
            continue;
        }
        // A file of a running database may go at any time.
        let Ok(bytes) = fs::read(&path) else { continue };
        let has = |text: &&String| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        found.extend(texts.iter().find(has).map(|_| path.display().to_string()));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_patient_is_logged_or_written() {
    let logs = Logs::of_process();
    let subject = || Subject::new(110).with_patient_name(PLANTED[0]).with_patient_id(PLANTED[1]);
    let samples = slices_of(subject(), 6, 64);
    let uids: Vec<_> = samples.iter().map(|sample| sample.uid()).collect();
    let order = uids.clone();
    // Stored, refused, deferred, aborted, and everything that is said about each.
    let script = move |request: &dimse::StoreRequest, nth| {
        let uid = request.meta.sop_instance.reveal().as_str();
        match (order.iter().position(|one| one == uid).unwrap(), nth) {
            (1, _) => Act::Answer(0xC000),
            (2, 0) => Act::Answer(0xA700),
            (3, 0) => Act::AbortAfter,
            (4, 0) => Act::Answer(0xFE00),
            _ => Act::Answer(0),
        }
    };
    let pacs = Pacs::scripted(script).await;
    let mut bed = Bed::laid_out(Plan::one(dicom(pacs.address)));
    let mut planted: Vec<String> = PLANTED[..2].iter().map(|text| (*text).to_owned()).collect();
    planted.extend(uids);
    planted.push(subject().uid("study").as_str().to_owned());
    planted.push(subject().uid("ct series").as_str().to_owned());
    planted.push("SLUIS000110".to_owned());
    bed.start_out().await;
    assert_eq!(send(bed.dicom, "GW", &samples).await, [0; 6]);
    assert_eq!(send(bed.dicom, "GW", &samples[..1]).await, [0], "joined");
    assert_eq!(leaks(bed.dir.path(), &planted), Vec::<String>::new(), "while all of it waits");
    bed.start_relay().await;
    bed.start_in().await;
    let ended = async || {
        let rows = bed.deliveries().await;
        rows.iter().filter(|row| row.state == State::Purged).count() == 5
            && rows.iter().any(|row| row.state == State::Parked)
    };
    until("five stored, one parked", ended).await;
    let mut broken = samples[0].changed();
    broken.data.truncate(broken.data.len() / 2);
    assert_eq!(send(bed.dicom, "GW", &[broken]).await, [0xC001]);
    let mut other = samples[0].clone();
    other.meta.sop_instance = base::Phi::new(subject().uid("another"));
    planted.push(subject().uid("another").as_str().to_owned());
    assert_eq!(send(bed.dicom, "GW", &[other]).await, [0xA900]);
    assert_eq!(send(bed.dicom, "GW", &[samples[5].changed()]).await, [0]);
    until("the changed one", async || pacs.complete() == 10).await;
    bed.stop_out().await;
    bed.stop_in().await;
    assert_eq!(leaks(bed.dir.path(), &planted), Vec::<String>::new(), "after all of it");
    assert!(logs.lines_with("association opened").len() > 3, "nothing was captured");
    logs.assert_absent(&planted);
}
