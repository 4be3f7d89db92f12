//! What is urgent goes first, and what is not never starves.

use base::RouteId;
use wire::Urgency;

use super::world::{Heard, MIB, ROUTE, World, limits};

#[test]
fn a_lease_goes_to_the_most_urgent_that_waits() {
    let mut world = World::connected(limits());
    world.window(ROUTE, 1);
    world.urgency = Urgency::Bulk;
    for n in 1..=3 {
        world.deposit(n, 1, 1000);
    }
    world.urgency = Urgency::Urgent;
    world.deposit(4, 1, 1000);
    world.urgency = Urgency::Normal;
    world.deposit(5, 1, 1000);
    world.heard();
    for (settled, next) in [(1, 4), (4, 5), (5, 2), (2, 3)] {
        world.settle(settled, 1);
        assert_eq!(world.heard(), [Heard::Offer(next, 1)]);
    }
}

#[test]
fn a_place_in_memory_goes_to_the_most_urgent_that_waits() {
    const URGENT: RouteId = RouteId([77; 16]);
    let mut limits = limits();
    // Room for one body of a mebibyte.
    limits.budget = 2 * MIB;
    let mut world = World::connected(limits);
    for route in [ROUTE, URGENT] {
        world.window(route, 100);
    }
    world.heard();
    world.urgency = Urgency::Bulk;
    for n in 1..=3 {
        world.deposit(n, 1, MIB);
    }
    world.urgency = Urgency::Urgent;
    world.deposit_up_to(URGENT, 100, 1, MIB, Some(MIB), MIB + 1);
    assert_eq!(world.heard(), [Heard::Offer(1, 1)]);
    world.settle(1, 1);
    assert_eq!(world.heard(), [Heard::Offer(100, 1)]);
}
