//! Another policy while bodies pass, and how fast a sender may go.

use std::collections::BTreeSet;
use std::time::Duration;

use base::Fingerprint;
use transport::ConnectionId;
use wire::{CloseCode, DeclineCode, NoticeKind, Role};

use super::world::*;
use crate::vault::{Input, Policy, Rates};

const MS: Duration = Duration::from_millis(1);

fn without(world: &World, gone: &[Fingerprint]) -> Policy {
    let mut policy = world.policy();
    policy.tenants.retain(|peer, _| !gone.contains(peer));
    policy
}

/// Bodies in each phase: complete and leased, arriving, offered without a place.
fn busy() -> World {
    let mut world = World::connected(limits());
    world.taking.insert(ROUTE, Taking::Frozen);
    world.deposit(1, 1, MIB);
    world.deposit_up_to(ROUTE, 2, 1, 8 * MIB, Some(8 * MIB), 100_000);
    world.deposit_up_to(OTHER_ROUTE, 3, 1, 8 * MIB, None, 100_000);
    world.told();
    world.heard();
    assert!(world.status().bytes_held > MIB);
    world
}

#[test]
fn a_revoked_sender_is_out_and_nothing_of_it_stays() {
    let mut world = busy();
    let policy = without(&world, &[SENDER]);
    world.reconfigure(policy, &[]);
    assert_eq!(world.closed, [(ConnectionId(1), CloseCode::Revoked)]);
    let status = world.status();
    assert_eq!((status.blobs, status.bytes_held, status.bytes_reserved, status.leases), (0, 0, 0, 0));
    assert_eq!(status.counters.revoked, 3);
    assert!(status.tenants.iter().all(|tenant| tenant.name != "out"));
    // The recipient hears that its leases are over, and stays.
    assert_eq!(world.heard().iter().filter(|heard| **heard == Heard::Withdrawn).count(), 2);
    assert!(world.told().iter().all(|told| !matches!(told, Told::Notice(..))));
    // What was on its way, and the end of the connection, find nothing.
    world.deposit(4, 1, MIB);
    world.lose_sender();
    assert_eq!(world.status().blobs, 0);
    world.pass(TTL + TTL);
}

#[test]
fn a_handshake_that_a_revocation_overtakes_is_closed() {
    let mut world = World::new(limits());
    let policy = without(&world, &[SENDER]);
    world.reconfigure(policy, &[]);
    for (role, code) in [(Role::Sender, CloseCode::Revoked), (Role::Recipient, CloseCode::Revoked)] {
        world.closed.clear();
        world.input(Input::Connected { connection: ConnectionId(50), peer: SENDER, role });
        assert_eq!(world.closed, [(ConnectionId(50), code)]);
    }
}

#[test]
fn the_sender_to_a_revoked_recipient_hears_of_every_body() {
    let mut world = busy();
    let policy = without(&world, &[RECIPIENT]);
    world.reconfigure(policy, &[]);
    assert_eq!(world.closed, [(ConnectionId(2), CloseCode::Revoked)]);
    let told = world.told();
    for n in 1..=3 {
        assert!(told.contains(&Told::Notice(n, 1, NoticeKind::NotAdmitted)), "{n}: {told:?}");
    }
    assert_eq!(told.iter().filter(|told| **told == Told::Declined(DeclineCode::NotAdmitted)).count(), 2);
    assert_eq!(world.status().bytes_held, 0);
    world.deposit(9, 1, MIB);
    assert_eq!(world.told(), [Told::Declined(DeclineCode::NotAdmitted)]);
    // Re-admitted, it takes what is deposited again.
    let policy = World::new(limits()).policy();
    world.reconfigure(policy, &[]);
    world.taking.clear();
    world.settles = true;
    world.connect_recipient(8);
    world.deposit(1, 2, MIB);
    assert!(world.told().contains(&Told::Settlement(1, 2)));
}

#[test]
fn a_sender_that_may_not_deposit_for_one_recipient_any_more_stays_for_the_others() {
    let mut world = busy();
    let mut policy = world.policy();
    policy.tenants.get_mut(&SENDER).unwrap().deposit_for = BTreeSet::from([OTHER]);
    world.reconfigure(policy, &[]);
    assert_eq!(world.closed, []);
    assert!(world.told().contains(&Told::Notice(1, 1, NoticeKind::NotAdmitted)));
    assert_eq!(world.status().blobs, 0);

    let mut policy = world.policy();
    policy.tenants.get_mut(&SENDER).unwrap().deposit_for.clear();
    world.reconfigure(policy, &[]);
    assert_eq!(world.closed, [(ConnectionId(1), CloseCode::NotAdmitted)]);
}

#[test]
fn the_same_policy_again_disturbs_nothing() {
    let mut world = busy();
    let before = world.status();
    let policy = world.policy();
    world.reconfigure(policy, &[]);
    assert_eq!(world.closed, []);
    assert_eq!(world.status(), before);
    assert_eq!((world.told(), world.heard()), (vec![], vec![]));
}

#[test]
fn a_peer_with_another_key_connects_again_and_keeps_what_it_has() {
    let mut world = busy();
    let policy = world.policy();
    world.reconfigure(policy, &[SENDER]);
    assert_eq!(world.closed, [(ConnectionId(1), CloseCode::Changed)]);
    // The complete one stays; those on their way end with the connection, as when it is lost.
    world.told();
    assert_eq!(world.status().blobs, 1);
    world.connect_sender();
    world.deposit(1, 1, MIB);
    assert!(matches!(world.told().as_slice(), [Told::Known(_)]));
}

#[test]
fn another_budget_counts_from_now_on() {
    let mut world = busy();
    let mut policy = world.policy();
    policy.tenants.get_mut(&SENDER).unwrap().budget = MIB;
    world.reconfigure(policy, &[]);
    assert!(world.status().blobs > 0, "what is here stays");
    world.told();
    world.deposit(7, 1, MIB);
    assert_eq!(world.told(), [], "and what comes waits");
    assert_eq!(world.status().offers_waiting, 1);
    let policy = World::new(limits()).policy();
    world.reconfigure(policy, &[]);
    assert!(world.told().contains(&Told::Deposited));
}

#[test]
fn a_sender_goes_as_fast_as_it_may_and_nothing_is_dropped() {
    let mut world = World::connected(limits());
    world.settles = true;
    let mut policy = world.policy();
    let rates = Rates { bytes_per_second: Some(2 * MIB), deliveries_per_second: None };
    policy.tenants.get_mut(&SENDER).unwrap().rates = rates;
    world.reconfigure(policy, &[]);
    let transfer = world.deposit(1, 1, 12 * MIB);
    // A second's worth at once, and then 2 MiB a second.
    let at_once = world.sent(transfer);
    assert!((MIB..=2 * MIB).contains(&at_once), "{at_once}");
    for second in 1..=4 {
        world.pass(1000 * MS);
        let sent = world.sent(transfer);
        let may = 2 * MIB * (second + 1);
        assert!(sent <= may && sent >= may - MIB, "{sent} after {second} s");
    }
    world.pass(2000 * MS);
    assert!(world.told().contains(&Told::Settlement(1, 1)));
    assert_eq!(world.status().counters.declined, 0);
}

#[test]
fn deliveries_begin_at_their_rate() {
    let mut world = World::connected(limits());
    world.settles = true;
    let mut policy = world.policy();
    let rates = Rates { bytes_per_second: None, deliveries_per_second: Some(2) };
    policy.tenants.get_mut(&SENDER).unwrap().rates = rates;
    world.reconfigure(policy, &[]);
    for n in 1..=9 {
        world.deposit(n, 1, 1000);
    }
    let deposited = |world: &World| world.status().counters.deposited;
    assert_eq!(deposited(&world), 2);
    world.pass(400 * MS);
    assert_eq!(deposited(&world), 2);
    world.pass(100 * MS);
    assert_eq!(deposited(&world), 3);
    world.pass(3000 * MS);
    assert_eq!(deposited(&world), 9);
    assert_eq!(world.status().counters.declined, 0);
}
