//! What is remembered of pseudonymization.

use super::*;

fn study(text: &str) -> Phi<String> {
    Phi::new(text.to_owned())
}

#[tokio::test]
async fn a_study_stays_under_the_key_that_it_was_first_seen_with() {
    let (ring, other_ring) = (Digest([1; 32]), Digest([2; 32]));
    let (old, new) = (Digest([3; 32]), Digest([4; 32]));
    let place = Place::new();
    let outbox = place.open();
    let key = async |outbox: &Outbox, ring, name, current| {
        outbox.study_key(ring, &study(name), current, T0).await.unwrap()
    };
    assert_eq!(key(&outbox, ring, "1.2.3", old).await, old);
    assert_eq!(key(&outbox, ring, "1.2.3", new).await, old);
    outbox.close();
    let outbox = place.open();
    assert_eq!(key(&outbox, ring, "1.2.3\0", new).await, old, "after a restart, and without padding");
    assert_eq!(key(&outbox, ring, "1.2.4", new).await, new);
    assert_eq!(outbox.known_study_key(other_ring, &study("1.2.3")).await.unwrap(), None);
    assert_eq!(key(&outbox, other_ring, "1.2.3", new).await, new);
    assert_eq!(outbox.known_study_key(ring, &study("1.2.3")).await.unwrap(), Some(old));
}

#[tokio::test]
async fn a_refusal_is_found_by_whatever_names_its_instance() {
    let record = Sample::new(1, 1, 1).record();
    let place = Place::new();
    let outbox = place.open();
    let refusal = |status| NewRefusal {
        called: AeTitle::parse("GW").unwrap(),
        status: Status(status),
        reason: "no patient".to_owned(),
        sop_class: record.meta.sop_class.clone(),
        ids: RefusedIds {
            instance: record.meta.sop_instance.clone(),
            study: record.study.clone(),
            series: None,
            accession: None,
            patient_id: Some(Phi::new("4711".to_owned())),
        },
    };
    outbox.pseudonymization_refused(refusal(0xC020), T0);
    outbox.pseudonymization_refused(refusal(0xC021), at(1));
    written(&outbox).await;
    let found = outbox.refusals_of("4711", 10).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].status, found[0].at, found[0].by), (Status(0xC021), at(1), Some(FoundBy::Patient)));
    assert_eq!(outbox.refusals_of(record.meta.sop_instance.reveal().as_str(), 1).await.unwrap().len(), 1);
    assert!(outbox.refusals_of("4712", 10).await.unwrap().is_empty());
    assert_eq!(outbox.refusals(10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_done_is_counted_by_study_and_profile() {
    let place = Place::new();
    let outbox = place.open();
    let deeds = |profile, count| StudyDeeds {
        study: study("1.2.3"),
        profile: Digest([profile; 32]),
        deeds: vec![Deed { attribute: 0x0010_0010, what: "pseudonym".to_owned(), count }],
        report: format!("{count} pseudonyms\n"),
    };
    for (profile, count) in [(1, 2), (1, 3), (2, 1)] {
        outbox.pseudonymized(deeds(profile, count), T0);
    }
    written(&outbox).await;
    let counts = outbox.deeds("1.2.3").await.unwrap();
    let seen: Vec<_> =
        counts.iter().map(|one| (one.profile.0[0], one.instances, one.deeds[0].count)).collect();
    assert_eq!(seen, [(1, 2, 5), (2, 1, 1)]);
    let digest = Digest::of(b"2 pseudonyms\n");
    let mut reports = vec![(digest, 1), (Digest::of(b"3 pseudonyms\n"), 1)];
    reports.sort_unstable();
    assert_eq!(counts[0].reports, reports);
    assert_eq!(outbox.report("1.2.3", digest).await.unwrap().as_deref(), Some("2 pseudonyms\n"));
    assert_eq!(outbox.report("1.2.4", digest).await.unwrap(), None);
    assert!(outbox.deeds("1.2.4").await.unwrap().is_empty());
}

/// What was submitted before is written: one thread does it in turn.
async fn written(outbox: &Outbox) {
    outbox.study_key(Digest([0; 32]), &study("1"), Digest([0; 32]), T0).await.unwrap();
}
