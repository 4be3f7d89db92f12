//! What an operator may do in which state, what is audited, and what can be looked up.

use super::*;

/// Brings a fresh delivery into a state.
async fn brought_to(outbox: &Outbox, sample: &Sample, wanted: &str) {
    let (delivery, attempt) = (sample.delivery(), Attempt(1));
    if wanted == "waiting" {
        Sample {
            object: Sample::new(900 + sample.uid, 0, 0).object,
            content: 77,
            cut_through: false,
            ..sample.clone()
        }
        .commit(outbox, T0)
        .await;
    }
    sample.commit(outbox, T0).await;
    let report = match wanted {
        "sealed" => outbox.deposit_failed(delivery, attempt, "connection lost", at(5), T0).await,
        "relayed" => outbox.relayed(delivery, attempt, base::BootId([1; 16]), T0).await,
        "collected" => outbox.collected(delivery, attempt, T0).await,
        "deferred" => outbox.deferred(delivery, attempt, Deferral::default(), 0.5, T0).await,
        "held" => {
            outbox.deposit_failed(delivery, attempt, "connection lost", T0, T0).await.unwrap();
            outbox.hold(delivery, operator(), T0).await.map(|_| Applied::Yes)
        }
        "parked" => outbox.refused(sample.receipt(1, 0xc000), T0).await.map(|one| one.applied),
        "receipted" => outbox.settled_stored(sample.receipt(1, 0), T0).await.map(|one| one.applied),
        "discarded" => outbox.discard(delivery, operator(), T0).await.map(|_| Applied::Yes),
        _ => Ok(Applied::Yes),
    };
    assert_eq!(report, Ok(Applied::Yes), "{wanted}");
}

#[tokio::test]
async fn each_act_is_allowed_in_some_states_only() {
    let states = [
        "sealed",
        "running",
        "relayed",
        "collected",
        "deferred",
        "held",
        "parked",
        "waiting",
        "receipted",
        "discarded",
    ];
    //                  sealed running relayed collected deferred held parked waiting receipted discarded
    let allowed = [
        ("retry", [true, false, false, false, true, false, true, false, false, false], State::Sealed),
        ("hold", [true, false, false, false, true, false, false, true, false, false], State::Held),
        ("release", [false, false, false, false, false, true, false, false, false, false], State::Sealed),
        ("discard", [true, true, true, true, true, true, true, true, false, false], State::Discarded),
    ];
    let place = Place::new();
    let outbox = place.open();
    let mut number = 0;
    for (act, allowed, becomes) in allowed {
        for (wanted, allowed) in states.iter().zip(allowed) {
            number += 1;
            let sample = Sample::new(number, number, 1).cut_through();
            brought_to(&outbox, &sample, wanted).await;
            let (before, acts) =
                (row(&outbox, sample.delivery()).await, outbox.acts(1000).await.unwrap().len());
            let result = match act {
                "retry" => outbox.retry(sample.delivery(), operator(), at(2)).await,
                "hold" => outbox.hold(sample.delivery(), operator(), at(2)).await,
                "release" => outbox.release(sample.delivery(), operator(), at(2)).await,
                _ => outbox.discard(sample.delivery(), operator(), at(2)).await,
            };
            let audited = outbox.acts(1000).await.unwrap();
            if allowed {
                assert_eq!(result, Ok(becomes), "{act} {wanted}");
                assert_eq!(state(&outbox, sample.delivery()).await, becomes, "{act} {wanted}");
                let last = Act {
                    at: at(2),
                    who: "ward".to_owned(),
                    what: act.to_owned(),
                    delivery: Some(sample.delivery()),
                    reason: operator().reason,
                };
                assert_eq!(audited[0], last);
                assert_eq!(has_key(&outbox, &sample).await, act != "discard", "{act} {wanted}");
            } else {
                assert!(matches!(result, Err(DeliveryError::NotNow { .. })), "{act} {wanted}: {result:?}");
                let now = row(&outbox, sample.delivery()).await;
                assert!(now == before || wanted == &"receipted", "{act} {wanted}");
                assert_eq!(audited.len(), acts, "what was not done is not audited as done");
            }
        }
    }
    let unknown = DeliveryId([0xee; 32]);
    assert_eq!(outbox.retry(unknown, operator(), T0).await, Err(DeliveryError::Unknown(unknown)));
    assert!(matches!(outbox.reveal(unknown, operator(), T0).await, Err(BodyError::NoDelivery(_))));
}

#[tokio::test]
async fn a_discarded_instance_stays_findable_and_a_late_receipt_is_kept() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1).cut_through();
    sample.commit(&outbox, T0).await;
    outbox.relayed(sample.delivery(), Attempt(1), base::BootId([1; 16]), T0).await.unwrap();
    outbox.discard(sample.delivery(), operator(), at(1)).await.unwrap();
    let settled = outbox.settled_stored(sample.receipt(1, 0), at(2)).await.unwrap();
    assert_eq!((settled.applied, settled.state), (Applied::Yes, State::Discarded));
    assert_eq!(outbox.receipts_of(sample.delivery()).await.unwrap().len(), 1);
    assert!(history(&outbox, sample.delivery()).await.contains(&EventKind::LateReceipt));
    outbox.close();
    let outbox = place.open();
    assert_eq!(place.bodies().len(), 0);
    let found = outbox.find("1.2.826.1.3", 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].by, found[0].delivery.state), (FoundBy::Instance, State::Discarded));
    let delivery = &found[0].delivery;
    assert_eq!(
        (delivery.status, delivery.reason.as_deref()),
        (Some(Status(0)), Some("the far side lost it"))
    );
}

#[tokio::test]
async fn why_finds_an_instance_by_each_of_its_identifiers() {
    let place = Place::new();
    let outbox = place.open();
    for number in 1..=3 {
        Sample::new(number, number, 1).commit(&outbox, T0).await;
    }
    let sample = Sample::new(2, 2, 1);
    let (delivery, object) = (sample.delivery().to_string(), sample.object.to_string());
    let cases = [
        ("1.2.826.2.3", Some(FoundBy::Instance)),
        (" 1.2.826.2.3\0", Some(FoundBy::Instance)),
        ("1.2.826.2.1", Some(FoundBy::Study)),
        ("1.2.826.2.2", Some(FoundBy::Series)),
        ("ACC2", Some(FoundBy::Accession)),
        ("PAT2 ", Some(FoundBy::Patient)),
        (&delivery, Some(FoundBy::Delivery)),
        (&delivery[..8], Some(FoundBy::Delivery)),
        (&delivery[..9].to_uppercase(), Some(FoundBy::Delivery)),
        (&object, Some(FoundBy::Object)),
        (&object[..11], Some(FoundBy::Object)),
        (&delivery[..7], None),
        (&object[..7], None),
        ("pat2", None),
        ("1.2.826.2", None),
        ("1.2.826.2.30", None),
        ("", None),
        ("zzzzzzzzzz", None),
        ("ééééééé\u{20ac}", None),
    ];
    for (text, want) in cases {
        let found = outbox.find(text, 10).await.unwrap();
        let got: Vec<_> = found.iter().map(|one| (one.by, one.delivery.delivery)).collect();
        assert_eq!(got, want.map(|by| (by, sample.delivery())).into_iter().collect::<Vec<_>>(), "{text:?}");
    }
}

#[tokio::test]
async fn the_queue_is_listed_by_page_state_route_and_alarm() {
    let place = Place::new();
    let outbox = place.open();
    let samples: Vec<_> =
        (1..=9).map(|n| Sample::new(n, n, 1).along(&[(n % 3) as u8 + 1]).cut_through()).collect();
    for sample in &samples {
        sample.commit(&outbox, T0).await;
    }
    outbox.settled_stored(samples[0].receipt(1, 0), T0).await.unwrap();
    outbox.refused(samples[1].receipt(1, 0xc000), T0).await.unwrap();
    outbox.discard(samples[2].delivery(), operator(), T0).await.unwrap();
    let any = || Filter { open: false, ..Filter::default() };
    let cases = [
        (Filter::default(), 7),
        (any(), 9),
        (Filter { alarm: true, ..Filter::default() }, 1),
        (Filter { states: vec![State::Discarded, State::Parked], ..any() }, 2),
        (Filter { states: vec![State::Discarded, State::Parked], ..Filter::default() }, 1),
        (Filter { route: Some(route_id(2)), ..any() }, 3),
        (Filter { object: Some(samples[4].object), ..any() }, 1),
        (Filter { limit: 2, ..any() }, 2),
    ];
    for (filter, want) in cases {
        assert_eq!(outbox.list(filter.clone()).await.unwrap().len(), want, "{filter:?}");
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = outbox.list(Filter { limit: 2, after, ..any() }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.sequence);
        seen.extend(page.iter().map(|row| row.delivery));
    }
    assert_eq!(seen, samples.iter().map(Sample::delivery).collect::<Vec<_>>());
}

#[tokio::test]
async fn counts_and_the_oldest_follow_each_change() {
    let place = Place::new();
    let outbox = place.open();
    let size = Sample::new(1, 1, 1).body().len() as u64;
    let samples: Vec<_> = (1..=4).map(|n| Sample::new(n, n, 1).along(&[1, 2])).collect();
    for (second, sample) in (0..).zip(&samples) {
        sample.commit(&outbox, at(second)).await;
    }
    outbox.hold(samples[1].delivery_on(2), operator(), at(9)).await.unwrap();
    outbox.discard(samples[0].delivery_on(1), operator(), at(9)).await.unwrap();
    let counts = outbox.counts().await.unwrap();
    let got: Vec<_> = counts.iter().map(|one| (one.route, one.state, one.deliveries, one.bytes)).collect();
    let want = [
        (route_id(1), State::Sealed, 3, 3 * size),
        (route_id(1), State::Discarded, 1, size),
        (route_id(2), State::Sealed, 3, 3 * size),
        (route_id(2), State::Held, 1, size),
    ];
    assert_eq!(got, want);
    let oldest = outbox.oldest().await.unwrap();
    let got: Vec<_> = oldest.iter().map(|one| (one.route, one.delivery, one.received_at)).collect();
    let want =
        [(route_id(1), samples[1].delivery_on(1), at(1)), (route_id(2), samples[0].delivery_on(2), T0)];
    assert_eq!(got, want);
}

#[tokio::test]
async fn what_needs_an_operator_is_counted_by_status_until_somebody_acts() {
    let place = Place::new();
    let outbox = place.open();
    let samples: Vec<_> = (1..=4).map(|n| Sample::new(n, n, 1).cut_through()).collect();
    for (sample, status) in samples.iter().zip([0xc000, 0xc000, 0xa900]) {
        sample.commit(&outbox, T0).await;
        outbox.refused(sample.receipt(1, status), at(1)).await.unwrap();
    }
    samples[3].commit(&outbox, T0).await;
    let counts = async || {
        let alarmed = outbox.alarmed().await.unwrap();
        alarmed.iter().map(|one| (one.state, one.status.map(|s| s.0), one.deliveries)).collect::<Vec<_>>()
    };
    let (a900, c000) = (Some(0xa900), Some(0xc000));
    assert_eq!(counts().await, [(State::Parked, a900, 1), (State::Parked, c000, 2)]);
    outbox.discard(samples[0].delivery(), operator(), at(2)).await.unwrap();
    outbox.retry(samples[2].delivery(), operator(), at(2)).await.unwrap();
    assert_eq!(counts().await, [(State::Parked, c000, 1)]);
}

#[tokio::test]
async fn revealing_is_audited_and_shows_whose_it_is() {
    let place = Place::new();
    let outbox = place.open();
    let sample = Sample::new(1, 1, 1);
    sample.commit(&outbox, T0).await;
    let record = outbox.reveal(sample.delivery(), operator(), at(1)).await.unwrap();
    assert_eq!(record, sample.record());
    assert_eq!(outbox.acts(1).await.unwrap()[0].what, "reveal");
    assert!(history(&outbox, sample.delivery()).await.contains(&EventKind::Revealed));
}

#[test]
fn messages_say_what_to_do() {
    let delivery = DeliveryId([0xab; 32]);
    let not_now =
        DeliveryError::NotNow { delivery, state: State::Relayed, remedy: "only what waits can be held" };
    let cases = [
        (not_now.to_string(), "delivery abababab is relayed; only what waits can be held"),
        (
            OpenError::WrongKey.to_string(),
            "the outbox key does not fit this outbox; use the key it was made with or its recovery copy",
        ),
        (
            BeginError::Full { used: 10, bytes_max: 9 }.to_string(),
            "the outbox holds 10 bytes of bytes_max 9; wait, or raise the limit",
        ),
        (
            StoreError::Failed("disk I/O error".to_owned()).to_string(),
            "the store has stopped after a failed write (disk I/O error); check the disk, then start again",
        ),
    ];
    for (got, want) in cases {
        assert_eq!(got, want);
    }
    assert_eq!("waiting-for-earlier".parse(), Ok(State::WaitingForEarlier));
    assert!("gone-fishing".parse::<State>().is_err());
}
