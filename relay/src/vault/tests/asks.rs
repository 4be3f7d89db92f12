//! Questions and answers: passed on between those who may exchange bodies, bounded, and never kept.

use std::time::Duration;

use base::{Fingerprint, RouteId};
use wire::{Octets, RecipientFrame, SenderFrame, UnansweredCode};

use super::world::*;

const SECOND: Duration = Duration::from_secs(1);

fn ask_to(world: &mut World, id: u64, recipient: Fingerprint, route: RouteId, bytes: usize) {
    let question: Octets = vec![1; bytes].into();
    world.sender_says(SenderFrame::Ask { id, recipient, route, within_ms: 2000, question });
}

fn ask(world: &mut World, id: u64, route: RouteId) {
    ask_to(world, id, RECIPIENT, route, 600);
}

fn answer(world: &mut World, id: u64, bytes: usize) {
    let answer = vec![7; bytes].into();
    world.recipient_says(RecipientFrame::Answer { sender: SENDER, id, answer });
}

fn ready() -> World {
    let mut world = World::connected(limits());
    world.heard();
    world.told();
    world
}

#[test]
fn a_question_is_passed_on_and_its_answer_once() {
    let mut world = ready();
    ask(&mut world, 5, ROUTE);
    assert_eq!((world.heard(), world.told()), (vec![Heard::Ask(5, 2000)], vec![]));
    answer(&mut world, 6, 1);
    assert_eq!(world.told(), [], "to no question");
    answer(&mut world, 5, 3);
    answer(&mut world, 5, 4);
    assert_eq!(world.told(), [Told::Answer(5, vec![7; 3])]);
    ask(&mut world, 5, ROUTE);
    assert_eq!(world.heard(), [Heard::Ask(5, 2000)], "the id is free again");
    let status = world.status();
    assert_eq!((status.counters.asks, status.counters.asks_unanswered), (2, 0));
    assert_eq!((status.bytes_held, status.bytes_reserved), (0, 0));
}

#[test]
fn what_may_not_be_asked_is_answered_at_once() {
    let mut world = ready();
    ask_to(&mut world, 1, OTHER, ROUTE, 600);
    ask_to(&mut world, 2, RECIPIENT, ROUTE, wire::QUESTION_BYTES_MAX + 1);
    assert_eq!(
        world.told(),
        [Told::Unanswered(1, UnansweredCode::NotAdmitted), Told::Unanswered(2, UnansweredCode::Malformed)]
    );
    ask(&mut world, 3, ROUTE);
    ask(&mut world, 4, ROUTE);
    ask(&mut world, 3, OTHER_ROUTE);
    ask(&mut world, 5, OTHER_ROUTE);
    assert_eq!(
        world.told(),
        [Told::Unanswered(4, UnansweredCode::Busy), Told::Unanswered(3, UnansweredCode::Malformed)]
    );
    assert_eq!(world.heard(), [Heard::Ask(3, 2000), Heard::Ask(5, 2000)]);
    answer(&mut world, 3, wire::ANSWER_BYTES_MAX + 1);
    assert_eq!(world.told(), [], "too long to be one");
}

#[test]
fn a_recipient_that_is_away_or_goes_away_or_is_silent_is_said_to_be() {
    let mut world = ready();
    ask(&mut world, 1, ROUTE);
    world.lose_recipient();
    assert_eq!(world.told(), [Told::Unanswered(1, UnansweredCode::Away)]);
    ask(&mut world, 2, ROUTE);
    assert_eq!(world.told(), [Told::Unanswered(2, UnansweredCode::Away)]);
    world.connect_recipient(8);
    ask(&mut world, 3, ROUTE);
    world.pass(2 * SECOND - Duration::from_millis(1));
    assert_eq!(world.told(), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.told(), [Told::Unanswered(3, UnansweredCode::Expired)]);
    answer(&mut world, 3, 1);
    assert_eq!(world.told(), [], "too late");
    assert_eq!(world.vault.deadline(), None, "nothing is kept of any of them");
}

#[test]
fn a_sender_that_is_gone_is_not_answered_on_its_next_connection() {
    let mut world = ready();
    ask(&mut world, 1, ROUTE);
    world.lose_sender();
    world.connect_sender();
    answer(&mut world, 1, 1);
    world.pass(3 * SECOND);
    assert_eq!(world.told(), []);
}

#[test]
fn who_is_not_admitted_any_more_gets_no_answer() {
    let mut world = ready();
    ask(&mut world, 1, ROUTE);
    let mut policy = world.policy();
    policy.tenants.get_mut(&SENDER).unwrap().deposit_for = [OTHER].into();
    world.reconfigure(policy, &[]);
    assert_eq!(world.told(), [Told::Unanswered(1, UnansweredCode::NotAdmitted)]);
    answer(&mut world, 1, 1);
    assert_eq!(world.told(), []);
}

#[test]
fn questions_have_a_pace_and_a_number_at_once() {
    let mut world = ready();
    let route = |n: u8| RouteId([n; 16]);
    for n in 0..64 {
        ask(&mut world, u64::from(n), route(n));
    }
    assert_eq!(world.told(), []);
    ask(&mut world, 64, route(64));
    assert_eq!(world.told(), [Told::Unanswered(64, UnansweredCode::Busy)]);
    for n in 0..64 {
        answer(&mut world, n, 1);
    }
    world.told();
    // 256 at once, then eight a second.
    let mut passed = 0;
    for n in 100..400 {
        ask(&mut world, n, ROUTE);
        answer(&mut world, n, 1);
        passed += usize::from(matches!(world.told()[..], [Told::Answer(..)]));
    }
    assert_eq!(passed, 256 - 64);
    world.pass(SECOND);
    for n in 400..420 {
        ask(&mut world, n, ROUTE);
        answer(&mut world, n, 1);
        passed += usize::from(matches!(world.told()[..], [Told::Answer(..)]));
    }
    assert_eq!(passed, 256 - 64 + 8);
}
