//! A folder as destination: what bears a name is complete, and nothing is ever replaced.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base::Uid;
use dataset::part10;
use fixtures::{CtSeries, Subject, TransferSyntax};
use ledger::{Destination, Remark};
use spool::State;

use crate::common::{Bed, Envoy, OUT, Plan, Sample, folder, route_id, sample, send, slice, uid};

/// Final names below the folder, relative to it.
fn names(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let relative = path.strip_prefix(root).unwrap().display().to_string();
        if path.is_dir() {
            walk(root, &path, found);
        } else if !relative.starts_with(".incoming") {
            found.push(relative);
        }
    }
}

fn data_set(path: &PathBuf) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let meta = part10::read_file_meta(std::io::Cursor::new(&bytes)).unwrap();
    bytes[usize::try_from(meta.data_set_offset).unwrap()..].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_becomes_a_file_named_after_it() {
    let bed = Bed::start(Plan::one(folder())).await;
    let series = CtSeries { subject: Subject::new(60), slices: 1, side: 64 };
    let sent = sample(&series.slice(0), &TransferSyntax::ExplicitLittle);
    let study = series.subject.uid("study");
    let stem = format!("{study}/{}/{}", series.series(), sent.uid());
    let changed = sent.changed();
    // Each (what is sent, the names afterwards, the remark).
    let once = vec![format!("{stem}.dcm")];
    let twice = vec![format!("{stem}.dcm"), format!("{stem}_2.dcm")];
    let cases = [
        (&sent, &once, None),
        (&sent, &once, Some(Remark::AlreadyThere)),
        (&changed, &twice, Some(Remark::Numbered)),
        (&changed, &twice, Some(Remark::AlreadyThere)),
    ];
    for (count, (instance, files, remark)) in (1..).zip(cases) {
        assert_eq!(send(bed.dicom, "GW", std::slice::from_ref(instance)).await, [0]);
        let row = bed.all_in(State::Purged, count).await.remove(count - 1);
        let receipt = bed.receipts(&row).await.remove(0);
        assert_eq!((receipt.remark, receipt.kind), (remark, Destination::Folder));
        assert_eq!(&names(&bed.path("files")), files);
    }
    assert_eq!(data_set(&bed.path("files").join(&twice[0])), sent.data);
    assert_eq!(data_set(&bed.path("files").join(&twice[1])), changed.data);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bears_a_name_is_complete() {
    let bed = Bed::start(Plan::one(folder())).await;
    let (dir, sent) = (bed.path("files"), slice(61, 2048));
    let (to, instance) = (bed.dicom, sent.clone());
    let sending = tokio::spawn(async move { send(to, "GW", &[instance]).await });
    let mut looked = 0u64;
    loop {
        looked += 1;
        if let Some(name) = names(&dir).first() {
            assert!(data_set(&dir.join(name)) == sent.data, "a file that is not complete bears its name");
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(sending.await.unwrap(), [0]);
    bed.all_in(State::Purged, 1).await;
    assert!(looked > 1);
    assert_eq!(fs::read_dir(dir.join(".incoming")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_lies_under_unread() {
    let bed = Bed::start(Plan::one(folder())).await;
    let private = TransferSyntax::Private(uid("1.2.826.0.1.3680043.8.498.99"));
    let series = CtSeries { subject: Subject::new(62), slices: 1, side: 64 };
    let sent = sample(&series.slice(0), &private);
    assert_eq!(send(bed.dicom, "GW", std::slice::from_ref(&sent)).await, [0]);
    bed.all_in(State::Purged, 1).await;
    let name = format!("unread/unread/{}.dcm", sent.uid());
    assert_eq!(names(&bed.path("files")), std::slice::from_ref(&name));
    assert_eq!(data_set(&bed.path("files").join(name)), sent.data);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_uid_leads_out_of_the_folder() {
    let bed = Bed::receiving(Plan::one(folder())).await;
    let mut envoy = Envoy::new(&bed, OUT, route_id(1)).await;
    let before = outside(&bed);
    for (study, series, instance) in [("..", "..", ".."), (".", ".", "."), ("..", "1", "..")] {
        let [study, series, instance] = [study, series, instance].map(uid);
        let letter = envoy.seal(&with_uids(study, series, instance));
        envoy.send(&letter).await;
        envoy.answer_to(&letter).await.receipt(&letter);
    }
    assert_eq!(names(&bed.path("files")).len(), 3, "{:?}", names(&bed.path("files")));
    assert!(names(&bed.path("files")).iter().all(|name| name.split('/').count() == 3));
    assert_eq!(outside(&bed), before);
}

/// What lies beside the folder.
fn outside(bed: &Bed) -> Vec<String> {
    let entries = fs::read_dir(bed.dir.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn with_uids(study: Uid, series: Uid, instance: Uid) -> Sample {
    let mut slice = CtSeries { subject: Subject::new(63), slices: 1, side: 64 }.slice(0);
    slice.elements.uid(0x0020_000D, &study);
    slice.elements.uid(0x0020_000E, &series);
    slice.sop_instance = instance;
    sample(&slice, &TransferSyntax::ExplicitLittle)
}
