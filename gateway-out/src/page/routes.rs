//! How each route stands: the first thing that keeps its instances, the gravest first.

use std::time::Duration;

use base::{RouteId, Timestamp};
use service::overview::{RouteLine, Standing, Verdict, words};
use spool::{Count, State};

use super::Queued;
use crate::routes::{Leg, Routes};

/// An instance that has been on its way for longer is held up, whatever the reason.
const SLOW_AFTER: Duration = Duration::from_secs(15 * 60);

/// What a leg's standing follows from.
#[derive(Debug, Default)]
struct Facts {
    /// How many are in which state, zeroes left out.
    states: Vec<(State, u64)>,
    bytes: u64,
    /// Held because they came again and again, not by an operator.
    came_again: u64,
    /// Deferred for good, as by a permanent rejection: somebody has to act at the destination.
    deferred_for_good: u64,
    oldest: Option<Duration>,
    /// When its window opens, if it is closed.
    opens: Option<String>,
    /// A relay is connected and trusted.
    served: bool,
    /// The receiver's card has ended.
    card_ended: bool,
}

impl Facts {
    fn of(&self, state: State) -> u64 {
        self.states.iter().filter(|(it, _)| *it == state).map(|(_, count)| count).sum()
    }

    fn open(&self) -> u64 {
        self.states.iter().filter(|(state, _)| !state.is_ended()).map(|(_, count)| count).sum()
    }

    /// Reasons in the order of their gravity; the first one counts.
    fn verdict(&self) -> Verdict {
        let of = |state| words::count(self.of(state));
        let (open, deferred) = (words::count(self.open()), self.of(State::Deferred));
        let slow = self.oldest.filter(|age| *age >= SLOW_AFTER);
        if self.of(State::Parked) > 0 {
            let why = format!("{} parked: an operator has to retry or discard them", of(State::Parked));
            return Verdict::new(Standing::Alarmed, why);
        }
        if self.came_again > 0 {
            let why =
                format!("{} held: a routing loop or an endless re-send?", words::count(self.came_again));
            return Verdict::new(Standing::Alarmed, why);
        }
        if self.deferred_for_good > 0 {
            let why = "the destination rejects the receiving gateway for good";
            return Verdict::new(Standing::Alarmed, why);
        }
        if self.card_ended {
            return Verdict::new(Standing::Alarmed, "the card of the receiving gateway has ended");
        }
        if !self.served {
            let why = if self.open() > 0 {
                format!("no relay is connected; {open} wait here")
            } else {
                "no relay is connected".to_owned()
            };
            return Verdict::new(Standing::HeldUp, why);
        }
        if self.of(State::Held) > 0 {
            let why = format!("{} held by an operator, until they are released", of(State::Held));
            return Verdict::new(Standing::HeldUp, why);
        }
        if let (Some(opens), true) = (&self.opens, self.open() > 0) {
            return Verdict::new(Standing::Waiting, format!("its window opens {opens}"));
        }
        if deferred > 0 {
            let why = format!("the destination is away or asks to wait: {} deferred", of(State::Deferred));
            return Verdict::new(Standing::HeldUp, why);
        }
        if let Some(age) = slow {
            return Verdict::new(
                Standing::HeldUp,
                format!("the oldest is on its way for {}", words::age(age)),
            );
        }
        match (self.open(), &self.opens) {
            (0, Some(opens)) => {
                Verdict::new(Standing::Good, format!("nothing is owed; its window opens {opens}"))
            }
            (0, None) => Verdict::new(Standing::Good, "nothing is owed"),
            _ => Verdict::new(Standing::Good, format!("{open} on their way")),
        }
    }
}

/// One line a leg, and one for what is owed on routes that are configured no more.
pub(super) fn lines(routes: &Routes, queued: &Queued, served: bool, now: Timestamp) -> Vec<RouteLine> {
    let legs = routes.legs();
    let mut lines: Vec<_> = legs.iter().map(|leg| line(leg, queued, served, now)).collect();
    let mut gone: Vec<RouteId> = Vec::new();
    let is_gone = |count: &&Count| !count.state.is_ended() && !legs.iter().any(|leg| leg.id == count.route);
    for count in queued.counts.iter().filter(is_gone) {
        if gone.contains(&count.route) {
            continue;
        }
        gone.push(count.route);
        let facts = facts(count.route, queued, now);
        let verdict = Verdict::new(Standing::Alarmed, "no route of the configuration leads there any more");
        let to = format!("{} at {}", count.destination, count.receiver);
        lines.push(shown("not configured".to_owned(), to, &facts, verdict));
    }
    lines
}

fn line(leg: &Leg, queued: &Queued, served: bool, now: Timestamp) -> RouteLine {
    let opens = leg.closed_until(now).map(|at| match &leg.windows {
        Some(windows) => windows.clock(at),
        None => service::text::utc(at),
    });
    let card_ended = matches!(leg.receiver.validity(now), identity::Validity::Ended(_));
    let facts = Facts { opens, served, card_ended, ..facts(leg.id, queued, now) };
    let to = format!("{} at {}", leg.destination, leg.receiver.name);
    shown(leg.ae.to_string(), to, &facts, facts.verdict())
}

fn facts(route: RouteId, queued: &Queued, now: Timestamp) -> Facts {
    let mine = || queued.counts.iter().filter(move |count| count.route == route);
    let open = || mine().filter(|count| !count.state.is_ended());
    let oldest = queued.oldest.iter().filter(|oldest| oldest.route == route);
    let alarmed = |state| {
        let rows = queued.alarmed.iter().filter(move |it| it.route == route && it.state == state);
        rows.map(|alarmed| alarmed.deliveries).sum()
    };
    Facts {
        states: open().map(|count| (count.state, count.deliveries)).collect(),
        bytes: open().map(|count| count.bytes).sum(),
        deferred_for_good: alarmed(State::Deferred),
        came_again: alarmed(State::Held),
        oldest: oldest.map(|oldest| now.since(oldest.received_at)).max(),
        ..Facts::default()
    }
}

fn shown(from: String, to: String, facts: &Facts, verdict: Verdict) -> RouteLine {
    let states = facts.states.iter().map(|(state, count)| (state.as_str(), *count)).collect();
    RouteLine { from, to, verdict, oldest: facts.oldest, states, bytes: Some(facts.bytes) }
}

#[cfg(test)]
mod tests {
    use base::{DeliveryId, Name};
    use spool::{Alarmed, Oldest};

    use super::*;
    use crate::testing::route;

    #[test]
    fn the_gravest_reason_is_the_one_that_is_told() {
        use Standing::{Alarmed, Good, HeldUp, Waiting};
        type Change = fn(&mut Facts);
        let cases: [(Change, Standing, &str); 12] = [
            (|_| {}, Good, "nothing is owed"),
            (|it| it.opens = Some("22:00".to_owned()), Good, "nothing is owed; its window opens 22:00"),
            (|it| (it.opens, it.states) = (None, vec![(State::Relayed, 3)]), Good, "3 on their way"),
            (|it| it.oldest = Some(SLOW_AFTER), HeldUp, "the oldest is on its way for 15\u{a0}min"),
            (
                |it| it.states.push((State::Deferred, 2)),
                HeldUp,
                "the destination is away or asks to wait: 2 deferred",
            ),
            (|it| it.opens = Some("22:00".to_owned()), Waiting, "its window opens 22:00"),
            (|it| it.states.push((State::Held, 1)), HeldUp, "1 held by an operator, until they are released"),
            (|it| it.served = false, HeldUp, "no relay is connected; 6 wait here"),
            (|it| it.card_ended = true, Alarmed, "the card of the receiving gateway has ended"),
            (
                |it| it.deferred_for_good = 1,
                Alarmed,
                "the destination rejects the receiving gateway for good",
            ),
            (|it| it.came_again = 1, Alarmed, "1 held: a routing loop or an endless re-send?"),
            (
                |it| it.states.push((State::Parked, 4)),
                Alarmed,
                "4 parked: an operator has to retry or discard them",
            ),
        ];
        // What came before stays, so that each reason is told over all that are less grave.
        let mut facts = Facts { served: true, ..Facts::default() };
        for (change, standing, why) in cases {
            change(&mut facts);
            assert_eq!(facts.verdict(), Verdict::new(standing, why));
        }
    }

    #[test]
    fn what_is_owed_on_a_route_that_is_gone_is_not_forgotten() {
        let known = route("GW");
        let id = known.legs.first().id;
        let routes = Routes::new(vec![std::sync::Arc::new(known)]);
        let name = |text: &str| Name::parse(text).unwrap();
        let count = |route, state, deliveries| Count {
            route,
            receiver: name("site-b"),
            destination: name("archive"),
            state,
            deliveries,
            bytes: 10,
        };
        let gone = RouteId([1; 16]);
        let oldest = Oldest {
            route: gone,
            receiver: name("site-b"),
            destination: name("archive"),
            delivery: DeliveryId([0; 32]),
            received_at: Timestamp(1000),
        };
        let alarmed = Alarmed { route: id, state: State::Deferred, status: None, deliveries: 2 };
        let counts = vec![
            count(id, State::Deferred, 2),
            count(id, State::Purged, 9),
            count(gone, State::Sealed, 1),
            count(gone, State::Parked, 1),
            count(RouteId([2; 16]), State::Purged, 5),
        ];
        let queued = Queued { counts, oldest: vec![oldest], alarmed: vec![alarmed], unreadable: None };
        let lines = lines(&routes, &queued, true, Timestamp(61_000));
        let got: Vec<_> =
            lines.iter().map(|line| (line.from.as_str(), line.verdict.standing, line.bytes)).collect();
        assert_eq!(
            got,
            [("GW", Standing::Alarmed, Some(10)), ("not configured", Standing::Alarmed, Some(20))]
        );
        assert_eq!(lines[1].oldest, Some(Duration::from_secs(60)));
        assert_eq!(lines[1].states, [("sealed", 1), ("parked", 1)]);
    }
}
