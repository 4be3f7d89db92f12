use std::time::Duration;

use proptest::prelude::*;
use wire::{DeclineCode, NoticeKind};

use super::world::{Heard, LEASE, MIB, OTHER_ROUTE, ROUTE, TTL, Taking, Told, World, limits};
use crate::vault::Limits;

fn small() -> Limits {
    Limits::new(8 * MIB, 4 * MIB, TTL, LEASE)
}

#[test]
fn a_window_is_reserved_before_the_first_byte_and_kept_to_the_end() {
    // A known size takes its last page in full.
    for (size, announced, want) in [
        (300, Some(300), 4096),
        (4096, Some(4096), 4096),
        (300, None, MIB),
        (3 * MIB, Some(3 * MIB), MIB),
        (0, Some(0), 0),
    ] {
        let mut world = World::connected(limits());
        world.deposit_up_to(ROUTE, 1, 1, size, announced, 0);
        assert_eq!(world.status().bytes_reserved, want + 100, "{size} {announced:?}");
        assert_eq!(world.status().bytes_held, 0);
    }
}

#[test]
fn a_body_larger_than_the_budget_passes_through_with_a_small_part_of_it() {
    for announced in [true, false] {
        let mut world = World::connected(small());
        world.settles = true;
        let size = 24 * MIB;
        world.deposit_up_to(ROUTE, 1, 1, size, announced.then_some(size), size + 1);
        let told = world.told();
        assert!(told.ends_with(&[Told::Settlement(1, 1)]), "{told:?}");
        assert!(told.contains(&Told::Deposited));
        assert!(world.held_max <= 5 * MIB, "{}", world.held_max);
        assert_eq!(world.status().counters.bytes_out, size);
        world.ack(1, 1);
        assert_eq!(world.status().bytes_reserved, 0);
    }
}

/// Each of them alone is larger than the budget, and each holds a part of it that the other could use.
#[test]
fn bodies_larger_than_the_budget_cannot_deadlock() {
    for (routes, announced) in [([ROUTE; 3], true), ([ROUTE; 3], false), ([ROUTE, OTHER_ROUTE, ROUTE], false)]
    {
        for arrive_first in [true, false] {
            let mut world = World::connected(small());
            world.settles = true;
            world.window(OTHER_ROUTE, 8);
            if arrive_first {
                world.lose_recipient();
            }
            let size = 20 * MIB;
            let transfers: Vec<_> = (1..=3u8)
                .zip(routes)
                .map(|(n, route)| world.deposit_up_to(route, n, 1, size, announced.then_some(size), size + 1))
                .collect();
            assert!(world.held_max <= 8 * MIB);
            if arrive_first {
                assert!(transfers.iter().all(|transfer| world.sent(*transfer) < size));
                world.connect_recipient(8);
                world.window(OTHER_ROUTE, 8);
            }
            let settled = world.told().iter().filter(|told| matches!(told, Told::Settlement(..))).count();
            assert_eq!(settled, 3, "{routes:?} {announced} {arrive_first}");
            assert!(world.held_max <= 8 * MIB);
        }
    }
}

#[test]
fn a_partly_freed_body_is_gone_with_its_lease_and_a_whole_one_is_not() {
    for (size, gone) in [(3 * MIB, false), (24 * MIB, true)] {
        for complete in [true, false] {
            let mut world = World::connected(small());
            let pause = if complete { size + 1 } else { size - 1 };
            world.deposit_up_to(ROUTE, 1, 1, size, Some(size), pause);
            world.told();
            world.lose_recipient();
            let told = world.told();
            let notice = Told::Notice(1, 1, NoticeKind::Gone);
            let want = match (gone, complete) {
                (false, _) => vec![],
                (true, true) => vec![notice],
                (true, false) => vec![Told::Declined(DeclineCode::Ended), notice],
            };
            assert_eq!(told, want, "{size} {complete}");
            assert_eq!(world.status().blobs, u64::from(!gone));
            world.connect_recipient(8);
            assert!(world.heard().contains(&Heard::Offer(1, 1)));
            assert_eq!(world.status().leases, u64::from(!gone));
        }
    }
}

#[test]
fn offers_wait_for_memory_and_are_never_dropped() {
    let mut world = World::new(small());
    world.connect_sender();
    for n in 1..=40 {
        world.deposit(n, 1, MIB);
    }
    let status = world.status();
    assert!(status.blobs >= 4 && status.offers_waiting >= 30, "{status:?}");
    assert!(status.bytes_reserved <= 8 * MIB);
    world.settles = true;
    world.connect_recipient(8);
    for n in 1..=40 {
        world.ack(n, 1);
    }
    let settled: Vec<_> =
        world.told().into_iter().filter(|told| matches!(told, Told::Settlement(..))).collect();
    assert_eq!(settled, (1..=40).map(|n| Told::Settlement(n, 1)).collect::<Vec<_>>());
    assert_eq!(world.status().bytes_reserved, 0);
}

#[test]
fn more_waiting_offers_than_the_limit_are_declined_as_busy() {
    let mut world = World::new(Limits { pending: 3, ..small() });
    world.connect_sender();
    world.taking.insert(ROUTE, Taking::Frozen);
    for n in 1..=20 {
        world.deposit(n, 1, MIB);
    }
    let busy = world.told().iter().filter(|told| **told == Told::Declined(DeclineCode::Busy)).count() as u64;
    let status = world.status();
    assert_eq!(status.offers_waiting, 3);
    assert_eq!(status.blobs + 3 + busy, 20);
}

/// Two destinations of one sender behind one recipient: what the frozen one may take leaves room for the other.
#[test]
fn a_frozen_route_does_not_stop_the_other() {
    for size in [MIB / 2, 20 * MIB] {
        let mut world = World::connected(limits());
        world.settles = true;
        world.taking.insert(ROUTE, Taking::Frozen);
        world.window(OTHER_ROUTE, 8);
        for n in 1..=100 {
            world.deposit_up_to(ROUTE, n, 1, size, Some(size), size + 1);
        }
        for n in 101..=110 {
            world.deposit_up_to(OTHER_ROUTE, n, 1, size, Some(size), size + 1);
            world.ack(n, 1);
        }
        let told = world.told();
        let settled = told.iter().filter(|told| matches!(told, Told::Settlement(..))).count();
        assert_eq!(settled, 10, "{size}");
        assert!(world.status().bytes_reserved <= 64 * MIB);
    }
}

#[test]
fn a_full_vault_of_dead_destinations_empties_with_its_time_to_live() {
    let mut world = World::new(small());
    world.connect_sender();
    for n in 1..=20 {
        world.deposit(n, 1, MIB);
    }
    world.pass(TTL + Duration::from_secs(1));
    let notices = world.told().into_iter().filter(|told| matches!(told, Told::Notice(..))).count();
    assert!(notices >= 4, "{notices}");
    for _ in 0..10 {
        world.pass(TTL + Duration::from_secs(1));
    }
    assert_eq!((world.status().blobs, world.status().offers_waiting), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, the books balance: with nothing left, nothing is reserved.
    #[test]
    fn the_books_balance(steps in proptest::collection::vec((0u8..12, 0u8..6, 0u64..7), 1..80)) {
        let mut world = World::connected(small());
        world.window(OTHER_ROUTE, 2);
        let mut transfers = vec![1];
        for (step, n, size) in steps {
            let size = [0, 1000, 400_000, MIB, 2 * MIB, 6 * MIB, 20 * MIB][size as usize];
            match step {
                0..=2 => {
                    let route = if n % 2 == 0 { ROUTE } else { OTHER_ROUTE };
                    let attempt = 1 + u32::from(step);
                    transfers.push(world.deposit_up_to(route, n, attempt, size, (step == 0).then_some(size), size / 2 + u64::from(n) * MIB));
                }
                3 => world.abandon(transfers[usize::from(n) % transfers.len()]),
                4 => world.settle(n, 1 + (size % 3) as u32),
                5 => world.ack(n, 3),
                6 => world.cancel(n, 2),
                7 => { world.lose_sender(); world.connect_sender(); }
                8 => { world.lose_recipient(); world.connect_recipient(3); }
                9 => world.pass(LEASE / 2),
                10 => world.resume(transfers[usize::from(n) % transfers.len()]),
                _ => { world.taking.insert(ROUTE, if n % 2 == 0 { Taking::Frozen } else { Taking::Ahead(70_000) }); }
            }
            let status = world.status();
            prop_assert!(status.bytes_held <= status.bytes_reserved);
            prop_assert!(status.bytes_held <= 8 * MIB);
        }
        world.lose_sender();
        world.lose_recipient();
        world.pass(TTL * 3);
        world.connect_sender();
        for n in 0..6 {
            world.ack(n, 9);
        }
        let status = world.status();
        prop_assert_eq!((status.blobs, status.bytes_reserved, status.leases, status.settlements_waiting), (0, 0, 0, 0));
        prop_assert_eq!(world.vault.deadline(), None);
    }
}

#[test]
fn a_dead_destination_holds_no_memory_and_stops_nobody_else() {
    let mut world = World::connected(limits());
    world.window(OTHER_ROUTE, 8);
    world.window(ROUTE, 0);
    let waits = world.deposit(1, 1, 300);
    assert_eq!((world.sent(waits), world.status().bytes_reserved), (0, 0));
    let other = world.deposit_up_to(OTHER_ROUTE, 2, 1, 300, Some(300), 301);
    assert_eq!(world.sent(other), 300);
    world.window(ROUTE, 8);
    world.resume(waits);
    assert_eq!(world.sent(waits), 300);
}

#[test]
fn a_recipient_that_goes_away_while_its_destination_is_down_is_waited_for_as_any_other() {
    let mut world = World::connected(limits());
    world.window(ROUTE, 0);
    let waits = world.deposit(1, 1, 300);
    assert_eq!(world.sent(waits), 0);
    world.lose_recipient();
    world.resume(waits);
    assert_eq!(world.sent(waits), 300);
}

#[test]
fn settlements_of_unknown_deliveries_are_bounded_too() {
    let mut world = World::connected(Limits { deliveries: 10, ..limits() });
    world.lose_sender();
    for n in 0..100 {
        world.settle(n, 1);
    }
    let status = world.status();
    assert!((5..=10).contains(&status.settlements_waiting), "{status:?}");
    assert_eq!(status.settlements_waiting + status.counters.settlements_dropped, 100);
}

#[test]
fn route_ids_that_a_sender_makes_up_leave_nothing_behind() {
    let mut world = World::connected(limits());
    for n in 0..100 {
        world.deposit_up_to(base::RouteId([n; 16]), n, 1, 1000, Some(1000), 1001);
        world.cancel(n, 1);
    }
    assert!(world.vault.recipients.values().all(|recipient| recipient.routes.len() <= 2));
}
