use std::time::Duration;

use base::{Attempt, Fingerprint};
use ledger::log::EntryKind;
use wire::{CloseCode, DeclineCode, NoticeKind, RecipientFrame, RelayState, SenderFrame};

use super::world::{
    FirstByte, Heard, LEASE, OTHER, RECIPIENT, ROUTE, SENDER, TTL, Taking, Told, World, delivery, limits,
};
use crate::vault::{Input, Vault};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_read_burns_nothing_and_the_recipients_settlement_does() {
    let mut world = World::connected(limits());
    world.deposit(1, 1, 500_000);
    assert_eq!(world.heard(), [Heard::PrekeysLow(0), Heard::Offer(1, 1)]);
    assert_eq!(world.told(), [Told::Deposited, Told::Collected(1, 1)]);
    let status = world.status();
    assert_eq!((status.blobs, status.bytes_held, status.leases), (1, 500_000, 1));
    world.settle(1, 1);
    assert_eq!(world.told(), [Told::Settlement(1, 1)]);
    let status = world.status();
    assert_eq!((status.blobs, status.bytes_held, status.leases, status.settlements_waiting), (0, 0, 0, 1));
    world.ack(1, 1);
    assert_eq!(world.heard(), [Heard::Acked(1, 1)]);
    let status = world.status();
    assert_eq!((status.settlements_waiting, status.bytes_reserved), (0, 0));
}

#[test]
fn each_admitted_body_and_each_final_answer_is_logged_once() {
    let mut world = World::connected(limits());
    world.deposit(1, 1, 500);
    assert_eq!(
        world.logged.iter().map(|(kind, id, _)| (*kind, *id)).collect::<Vec<_>>(),
        [(EntryKind::Accepted, delivery(1))]
    );
    world.deposit(1, 1, 500);
    assert_eq!(world.logged.len(), 1, "the same deposit again");
    world.deposit(1, 2, 500);
    assert_eq!(world.logged.len(), 2, "another attempt");
    world.settle_as(OTHER, 1, 2);
    assert_eq!(world.logged.len(), 2, "not its recipient's word");
    world.settle(1, 2);
    assert_eq!(
        world.logged.last().map(|(kind, id, _)| (*kind, *id)),
        Some((EntryKind::Settled, delivery(1)))
    );
    world.settle(1, 2);
    assert_eq!(world.logged.len(), 3, "said again until it is acknowledged");
    world.settle(9, 1);
    assert_eq!(
        world.logged.last().map(|(kind, id, _)| (*kind, *id)),
        Some((EntryKind::Settled, delivery(9))),
        "of an earlier run"
    );
    assert_eq!(world.logged.len(), 4);
}

#[test]
fn what_a_gateway_submits_again_is_logged_again_and_does_nothing_else() {
    let mut world = World::connected(limits());
    world.deposit(1, 1, 500);
    world.told();
    let before = (world.logged.len(), world.status());
    let mut submit = |recipient: Fingerprint, signer: Fingerprint| {
        world.sender_says(SenderFrame::Resubmit {
            recipient,
            delivery: delivery(1),
            attempt: Attempt(1),
            settlement: vec![signer.0[0]; 50].into(),
        });
        world.logged.len()
    };
    assert_eq!(submit(OTHER, OTHER), before.0, "of one it may not deposit for");
    assert_eq!(submit(RECIPIENT, OTHER), before.0, "not signed by its recipient");
    assert_eq!(submit(RECIPIENT, RECIPIENT), before.0 + 1);
    let mut submit = |sender: Fingerprint, signer: Fingerprint| {
        world.recipient_says(RecipientFrame::Resubmit {
            sender,
            delivery: delivery(1),
            attempt: Attempt(1),
            settlement: vec![signer.0[0]; 50].into(),
        });
        world.logged.len()
    };
    assert_eq!(submit(OTHER, RECIPIENT), before.0 + 1, "of one that may not deposit for it");
    assert_eq!(submit(SENDER, OTHER), before.0 + 1, "not its own word");
    assert_eq!(submit(SENDER, RECIPIENT), before.0 + 2, "each of the two may ask");
    assert_eq!(world.status(), before.1, "it burns nothing");
    assert_eq!(world.told(), []);
}

/// The deposit key is (delivery, attempt): what an offer meets, and what it is told.
#[test]
fn an_offer_is_answered_by_what_is_there() {
    struct Case {
        name: &'static str,
        /// Brings the vault into its state.
        before: fn(&mut World),
        attempt: u32,
        told: &'static [Told],
        /// Attempt and number of blobs afterwards.
        blobs: u64,
    }
    let cases = [
        Case { name: "nothing", before: |_| {}, attempt: 1, told: &[Told::Deposited], blobs: 1 },
        Case {
            name: "an equal one, held",
            before: |w| {
                w.deposit(1, 2, 1000);
            },
            attempt: 2,
            told: &[Told::Known(RelayState::Relayed)],
            blobs: 1,
        },
        Case {
            name: "an equal one, arriving",
            before: |w| {
                w.deposit_up_to(ROUTE, 1, 2, 1000, Some(1000), 500);
            },
            attempt: 2,
            told: &[Told::Declined(DeclineCode::Running)],
            blobs: 1,
        },
        Case {
            name: "an equal one, collected",
            before: |w| {
                w.connect_recipient(1);
                w.deposit(1, 2, 1000);
            },
            attempt: 2,
            told: &[Told::Known(RelayState::Collected)],
            blobs: 1,
        },
        Case {
            name: "an equal one, settled and not acknowledged",
            before: |w| {
                w.connect_recipient(1);
                w.deposit(1, 2, 1000);
                w.settle(1, 2);
            },
            attempt: 2,
            told: &[Told::Settlement(1, 2), Told::Known(RelayState::Settled)],
            blobs: 0,
        },
        Case {
            name: "an equal one, settled and acknowledged",
            before: |w| {
                w.connect_recipient(0);
                w.deposit(1, 2, 1000);
                w.settle(1, 2);
                w.ack(1, 2);
            },
            attempt: 2,
            told: &[Told::Deposited],
            blobs: 1,
        },
        Case {
            name: "a higher one, held",
            before: |w| {
                w.deposit(1, 2, 1000);
            },
            attempt: 1,
            told: &[Told::Declined(DeclineCode::LowerAttempt)],
            blobs: 1,
        },
        Case {
            name: "a higher one, settled",
            before: |w| {
                w.connect_recipient(0);
                w.settle(1, 2);
            },
            attempt: 1,
            told: &[Told::Declined(DeclineCode::LowerAttempt)],
            blobs: 0,
        },
        Case {
            name: "a lower one, held",
            before: |w| {
                w.deposit(1, 1, 1000);
            },
            attempt: 2,
            told: &[Told::Deposited],
            blobs: 1,
        },
        Case {
            name: "a lower one, arriving",
            before: |w| {
                w.deposit_up_to(ROUTE, 1, 1, 1000, Some(1000), 500);
            },
            attempt: 2,
            told: &[Told::Declined(DeclineCode::LowerAttempt), Told::Deposited],
            blobs: 1,
        },
        Case {
            name: "a lower one, expired",
            before: |w| {
                w.deposit(1, 1, 1000);
                w.pass(TTL);
            },
            attempt: 2,
            told: &[Told::Deposited],
            blobs: 1,
        },
        Case {
            name: "an equal one, expired",
            before: |w| {
                w.deposit(1, 1, 1000);
                w.pass(TTL);
            },
            attempt: 1,
            told: &[Told::Deposited],
            blobs: 1,
        },
    ];
    for Case { name, before, attempt, told, blobs } in cases {
        let mut world = World::new(limits());
        world.connect_sender();
        before(&mut world);
        world.told();
        world.deposit(1, attempt, 1000);
        let mut got = world.told();
        got.retain(|told| !matches!(told, Told::Collected(..)));
        assert_eq!(got, told, "{name}");
        assert_eq!(world.status().blobs, blobs, "{name}");
        assert_eq!(world.closed, [], "{name}");
    }
}

#[test]
fn an_equal_attempt_with_another_body_is_refused() {
    let mut world = World::new(limits());
    world.connect_sender();
    world.deposit(1, 1, 1000);
    world.told();
    let offer = |digest| SenderFrame::Offer {
        transfer: 99,
        delivery: delivery(1),
        attempt: Attempt(1),
        recipient: RECIPIENT,
        route: ROUTE,
        header: vec![].into(),
        size: None,
        digest: Some(base::Digest([digest; 32])),
        urgency: wire::Urgency::Normal,
    };
    world.sender_says(offer(6));
    assert_eq!(world.told(), [Told::Declined(DeclineCode::OtherBody)]);
    world.sender_says(offer(5));
    assert_eq!(world.told(), [Told::Known(RelayState::Relayed)]);
}

#[test]
fn a_higher_attempt_takes_the_lease_of_the_lower_one_away() {
    let mut world = World::connected(limits());
    world.taking.insert(ROUTE, Taking::Frozen);
    world.deposit(1, 1, 1000);
    world.heard();
    world.deposit(1, 2, 2000);
    assert_eq!(world.heard(), [Heard::Withdrawn, Heard::Offer(1, 2)]);
    // A late settlement of the lower attempt is passed on and burns nothing.
    world.told();
    world.settle(1, 1);
    assert_eq!(world.told(), [Told::Settlement(1, 1)]);
    assert_eq!(world.status().blobs, 1);
}

#[test]
fn settlements_are_taken_from_the_recipient_only() {
    let mut world = World::connected(limits());
    world.deposit(1, 1, 1000);
    world.told();
    world.settle_as(OTHER, 1, 1);
    world.settle_as(SENDER, 1, 1);
    assert_eq!(world.told(), []);
    assert_eq!((world.status().blobs, world.status().counters.settlements_refused), (1, 2));
    // Another gateway that signs for itself is not the one this delivery is addressed to.
    let elsewhere = transport::ConnectionId(77);
    world.input(Input::Connected { connection: elsewhere, peer: OTHER, role: wire::Role::Recipient });
    let frame = RecipientFrame::Settlement {
        sender: SENDER,
        delivery: delivery(1),
        attempt: Attempt(1),
        settlement: vec![OTHER.0[0]; 10].into(),
        record: vec![].into(),
    };
    world.input(Input::FromRecipient { connection: elsewhere, frame });
    assert_eq!(world.told(), []);
    assert_eq!(world.status().blobs, 1);
}

/// Whenever a settlement comes, it reaches the sender; whatever was still here is burned.
#[test]
fn a_settlement_counts_at_every_moment() {
    type Before = fn(&mut World);
    let cases: [(&str, Before, &[Told]); 7] = [
        ("of an unknown blob", |_| {}, &[]),
        (
            "before a byte came",
            |w| {
                w.deposit_up_to(ROUTE, 1, 1, 1000, Some(1000), 0);
            },
            &[Told::Known(RelayState::Settled)],
        ),
        (
            "while it arrives",
            |w| {
                w.deposit_up_to(ROUTE, 1, 1, 5 << 20, None, 2 << 20);
            },
            &[Told::Known(RelayState::Settled)],
        ),
        (
            "complete",
            |w| {
                w.deposit(1, 1, 1000);
            },
            &[],
        ),
        (
            "after it expired",
            |w| {
                w.lose_recipient();
                w.deposit(1, 1, 1000);
                w.pass(TTL);
                w.connect_recipient(8)
            },
            &[],
        ),
        (
            "after its lease lapsed",
            |w| {
                w.deposit(1, 1, 1000);
                w.pass(LEASE + SECOND)
            },
            &[],
        ),
        (
            "after it was cancelled",
            |w| {
                w.deposit(1, 1, 1000);
                w.cancel(1, 1)
            },
            &[],
        ),
    ];
    for (name, before, also) in cases {
        let mut world = World::connected(limits());
        before(&mut world);
        world.told();
        world.settle(1, 1);
        // The verdict about a running deposit comes with it.
        let mut want = also.to_vec();
        want.push(Told::Settlement(1, 1));
        assert_eq!(world.told(), want, "{name}");
        let status = world.status();
        assert_eq!(
            (status.blobs, status.bytes_held, status.leases, status.settlements_waiting),
            (0, 0, 0, 1),
            "{name}"
        );
        world.ack(1, 1);
        assert_eq!(world.status().bytes_reserved, 0, "{name}");
    }
}

#[test]
fn answers_are_repeated_until_they_are_acknowledged() {
    let mut world = World::connected(limits());
    world.lose_sender();
    for n in 1..=3 {
        world.settle(n, 1);
    }
    assert_eq!(world.told(), []);
    world.connect_sender();
    assert_eq!(world.told(), [Told::Settlement(1, 1), Told::Settlement(2, 1), Told::Settlement(3, 1)]);
    world.ack(2, 1);
    world.lose_sender();
    world.connect_sender();
    assert_eq!(world.told(), [Told::Settlement(1, 1), Told::Settlement(3, 1)]);
    assert_eq!(world.heard().last(), Some(&Heard::Acked(2, 1)));
}

#[test]
fn only_so_many_answers_are_under_way_at_once_and_all_arrive() {
    let mut world = World::connected(crate::vault::Limits { answers_in_flight: 2, ..limits() });
    for n in 1..=5 {
        world.settle(n, 1);
    }
    assert_eq!(world.told(), [Told::Settlement(1, 1), Told::Settlement(2, 1)]);
    for n in 1..=5 {
        world.ack(n, 1);
    }
    assert_eq!(world.told(), [Told::Settlement(3, 1), Told::Settlement(4, 1), Told::Settlement(5, 1)]);
    assert_eq!(world.status().settlements_waiting, 0);
}

/// What a sender cannot record must not stand in the way of the rest.
#[test]
fn an_answer_that_is_never_acknowledged_is_repeated_behind_the_others() {
    let mut world = World::connected(crate::vault::Limits { answers_in_flight: 2, ..limits() });
    for n in 1..=4 {
        world.settle(n, 1);
    }
    assert_eq!(world.told(), [Told::Settlement(1, 1), Told::Settlement(2, 1)]);
    world.pass(61 * SECOND);
    assert_eq!(world.told(), [Told::Settlement(3, 1), Told::Settlement(4, 1)]);
    world.ack(3, 1);
    world.ack(4, 1);
    assert_eq!(world.told(), [Told::Settlement(1, 1), Told::Settlement(2, 1)]);
    world.pass(61 * SECOND);
    assert_eq!(world.told(), [Told::Settlement(1, 1), Told::Settlement(2, 1)]);
    world.ack(1, 1);
    world.ack(2, 1);
    assert_eq!(world.vault.deadline(), None);
}

#[test]
fn an_unleased_blob_expires_with_a_notice_and_a_leased_one_does_not() {
    let mut world = World::connected(limits());
    world.deposit(1, 1, 1000);
    for _ in 0..100 {
        world.pass(LEASE / 2);
        world.renew();
    }
    assert_eq!(world.status().blobs, 1);
    world.lose_recipient();
    world.told();
    world.pass(TTL - SECOND);
    assert_eq!(world.told(), []);
    world.pass(SECOND);
    assert_eq!(world.told(), [Told::Notice(1, 1, NoticeKind::Expired)]);
    assert_eq!(world.status().blobs, 0);
    world.lose_sender();
    world.connect_sender();
    assert_eq!(world.told(), [Told::Notice(1, 1, NoticeKind::Expired)]);
    world.ack(1, 1);
    assert_eq!((world.status().settlements_waiting, world.status().bytes_reserved), (0, 0));
    // The relay's own notice is no news to the recipient.
    world.connect_recipient(1);
    assert_eq!(world.heard().iter().filter(|heard| matches!(heard, Heard::Acked(..))).count(), 0);
}

#[test]
fn an_arriving_blob_that_nobody_collects_expires_too() {
    let mut world = World::new(limits());
    world.connect_sender();
    world.deposit_up_to(ROUTE, 1, 1, 5 << 20, None, 2 << 20);
    world.pass(TTL);
    let told = world.told();
    assert_eq!(told, [Told::Declined(DeclineCode::Ended), Told::Notice(1, 1, NoticeKind::Expired)]);
    assert_eq!(world.status().bytes_held, 0);
}

#[test]
fn a_whole_blob_is_offered_again_when_its_lease_ends() {
    type End = fn(&mut World);
    let ends: [(&str, End); 3] = [
        ("the connection is lost", |w| {
            w.lose_recipient();
            w.connect_recipient(8)
        }),
        ("the recipient gives it back", |w| {
            let (transfer, _) = w.downloads().remove(0);
            w.release(transfer);
            w.pass(3 * SECOND);
        }),
        ("nobody renews it", |w| w.pass(LEASE + 3 * SECOND)),
    ];
    for (name, end) in ends {
        let mut world = World::connected(limits());
        world.deposit(1, 1, 1000);
        world.deposit(2, 1, 1000);
        world.heard();
        world.settle(2, 1);
        end(&mut world);
        let offers =
            world.heard().into_iter().filter(|heard| matches!(heard, Heard::Offer(..))).collect::<Vec<_>>();
        assert_eq!(offers, [Heard::Offer(1, 1)], "{name}");
        world.settle(1, 1);
        assert_eq!(world.status().blobs, 0, "{name}");
    }
}

#[test]
fn a_blob_that_is_always_given_back_expires_all_the_same() {
    let mut world = World::connected(limits());
    world.deposit(1, 1, 1000);
    world.told();
    for _ in 0..1000 {
        let Some((transfer, _)) = world.downloads().pop() else { break };
        world.release(transfer);
        world.pass(3 * SECOND);
    }
    let told: Vec<_> = world.told().into_iter().filter(|told| *told != Told::Collected(1, 1)).collect();
    assert_eq!(told, [Told::Notice(1, 1, NoticeKind::Expired)]);
}

#[test]
fn blobs_are_offered_in_their_order_also_the_second_time() {
    let mut world = World::connected(limits());
    world.window(ROUTE, 2);
    for n in 1..=5 {
        world.deposit(n, 1, 1000);
    }
    assert_eq!(world.heard()[2..], [Heard::Offer(1, 1), Heard::Offer(2, 1)]);
    world.lose_recipient();
    world.connect_recipient(3);
    let offers: Vec<_> =
        world.heard().into_iter().filter(|heard| matches!(heard, Heard::Offer(..))).collect();
    assert_eq!(offers, [Heard::Offer(1, 1), Heard::Offer(2, 1), Heard::Offer(3, 1)]);
    world.settle(2, 1);
    assert_eq!(world.heard(), [Heard::Offer(4, 1)]);
}

#[test]
fn a_closed_window_offers_nothing_and_takes_nothing_back() {
    let mut world = World::connected(limits());
    world.window(ROUTE, 1);
    world.deposit(1, 1, 1000);
    world.window(ROUTE, 0);
    world.deposit(2, 1, 1000);
    assert_eq!(world.status().leases, 1);
    world.settle(1, 1);
    assert_eq!(world.status().leases, 0);
    world.window(ROUTE, 1);
    assert_eq!(world.heard().last(), Some(&Heard::Offer(2, 1)));
}

/// Where the sender ends a body in the middle, its recipient must not take the half for the whole.
#[test]
fn an_abandoned_body_is_reset_at_its_recipient() {
    type End = fn(&mut World, u64);
    let ends: [(&str, End); 4] = [
        ("reset", |w, t| w.abandon(t)),
        ("abandon frame", |w, t| w.sender_says(SenderFrame::Abandon { transfer: t })),
        ("connection lost", |w, _| w.lose_sender()),
        ("a newer connection", |w, _| w.connect_sender()),
    ];
    for (name, end) in ends {
        let mut world = World::connected(limits());
        let transfer = world.deposit_up_to(ROUTE, 1, 1, 5 << 20, None, 2 << 20);
        assert!(world.downloads()[0].1.received > 1 << 20, "{name}");
        world.heard();
        end(&mut world, transfer);
        assert_eq!(world.heard(), [Heard::Withdrawn], "{name}");
        let status = world.status();
        assert_eq!((status.blobs, status.bytes_reserved, status.leases), (0, 0, 0), "{name}");
    }
}

#[test]
fn what_is_complete_stays_when_its_sender_goes() {
    let mut world = World::connected(limits());
    let transfer = world.deposit(1, 1, 1000);
    world.abandon(transfer);
    world.sender_says(SenderFrame::Abandon { transfer });
    world.lose_sender();
    assert_eq!(world.status().blobs, 1);
}

#[test]
fn cancel_reaches_the_recipient_whether_or_not_the_blob_is_here() {
    let mut world = World::connected(limits());
    world.deposit(1, 2, 1000);
    world.heard();
    world.cancel(1, 1);
    assert_eq!((world.heard(), world.status().blobs), (vec![Heard::Cancelled(1, 1)], 1));
    world.cancel(1, 2);
    assert_eq!((world.heard(), world.status().blobs), (vec![Heard::Withdrawn, Heard::Cancelled(1, 2)], 0));
    world.cancel(9, 1);
    assert_eq!(world.heard(), [Heard::Cancelled(9, 1)]);
}

#[test]
fn a_sender_that_breaks_the_rules_loses_its_connection_and_nothing_else() {
    type Break = fn(&mut World);
    let breaks: [(&str, Break); 2] = [
        ("more than granted", |w| {
            let transfer = w.deposit_up_to(ROUTE, 1, 1, 1000, Some(1000), 0);
            let bytes = vec![0; 1001].into();
            w.input(Input::Body { connection: transport::ConnectionId(1), transfer, bytes });
        }),
        ("shorter than announced", |w| {
            let transfer = w.deposit_up_to(ROUTE, 1, 1, 1000, Some(1000), 500);
            w.input(Input::BodyEnd {
                connection: transport::ConnectionId(1),
                transfer,
                digest: base::Digest([0; 32]),
            });
        }),
    ];
    for (name, rule) in breaks {
        let mut world = World::connected(limits());
        world.deposit(7, 1, 1000);
        rule(&mut world);
        assert_eq!(world.closed, [(transport::ConnectionId(1), CloseCode::Violation)], "{name}");
        assert_eq!(world.status().blobs, 1, "{name}");
        world.connect_sender();
        world.deposit(8, 1, 1000);
        assert_eq!(world.status().blobs, 2, "{name}");
    }
}

#[test]
fn a_newer_connection_of_the_same_peer_replaces_the_older() {
    let mut world = World::connected(limits());
    world.deposit(1, 1, 1000);
    world.connect_recipient(8);
    assert_eq!(world.closed, [(transport::ConnectionId(2), CloseCode::Replaced)]);
    assert_eq!((world.status().blobs, world.status().leases), (1, 1));
    // The end of the old one comes late and changes nothing.
    world.input(Input::Disconnected { connection: transport::ConnectionId(2) });
    assert_eq!(world.status().leases, 1);
}

#[test]
fn one_time_prekeys_are_given_once_and_the_last_resort_after_them() {
    let mut world = World::connected(limits());
    let ask = SenderFrame::PrekeyRequest { recipient: RECIPIENT, route: ROUTE };
    world.sender_says(ask.clone());
    assert_eq!(world.told(), [Told::Prekey(None)]);
    let publish = |replace, one_time: &[u8], last: Option<u8>| RecipientFrame::Publish {
        route: ROUTE,
        replace,
        one_time: one_time.iter().map(|b| vec![*b].into()).collect(),
        last_resort: last.map(|b| vec![b].into()),
    };
    world.recipient_says(publish(true, &[1, 2], Some(9)));
    for want in [1, 2, 9, 9] {
        world.sender_says(ask.clone());
        assert_eq!(world.told(), [Told::Prekey(Some(vec![want]))]);
    }
    world.recipient_says(publish(false, &[3], None));
    for want in [3, 9] {
        world.sender_says(ask.clone());
        assert_eq!(world.told(), [Told::Prekey(Some(vec![want]))]);
    }
    world.recipient_says(publish(true, &[], None));
    world.sender_says(ask.clone());
    assert_eq!(world.told(), [Told::Prekey(None)]);
    assert!(world.heard().contains(&Heard::PrekeysLow(1)));
    world.sender_says(SenderFrame::PrekeyRequest { recipient: OTHER, route: ROUTE });
    assert_eq!(world.told(), [Told::Prekey(None)]);
}

#[test]
fn only_admitted_senders_reach_a_recipient() {
    let mut world = World::connected(limits());
    for recipient in [OTHER, SENDER, Fingerprint([8; 32])] {
        let offer = SenderFrame::Offer {
            transfer: 50,
            delivery: delivery(1),
            attempt: Attempt(1),
            recipient,
            route: ROUTE,
            header: vec![].into(),
            size: None,
            digest: None,
            urgency: wire::Urgency::Normal,
        };
        world.sender_says(offer);
        assert_eq!(world.told(), [Told::Declined(DeclineCode::NotAdmitted)]);
    }
    world.sender_says(SenderFrame::SessionClose {
        recipient: RECIPIENT,
        route: ROUTE,
        bytes: vec![1].into(),
    });
    assert_eq!(world.heard().last(), Some(&Heard::SessionClosed));
}

#[test]
fn a_draining_vault_takes_and_leases_nothing_new_and_becomes_quiet() {
    let mut world = World::connected(limits());
    world.window(ROUTE, 1);
    world.deposit(1, 1, 1000);
    world.deposit(2, 1, 1000);
    let vault: &mut Vault<FirstByte> = &mut world.vault;
    vault.drain();
    assert!(!vault.is_quiet());
    world.told();
    world.deposit(3, 1, 1000);
    assert_eq!(world.told(), [Told::Declined(DeclineCode::Busy)]);
    world.settle(1, 1);
    assert!(!world.vault.is_quiet());
    world.ack(1, 1);
    assert!(world.vault.is_quiet());
    assert_eq!(world.status().leases, 0);
}
