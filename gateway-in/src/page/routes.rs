//! How each route stands: whether its relay, its sender's card and its destination let anything pass.

use base::Timestamp;
use identity::Validity;
use service::overview::{RouteLine, Standing, Verdict, words};

use super::{is_up, sorted};
use crate::{app::Status, config::Route};

/// What a route's standing follows from.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// A relay is connected and trusted.
    served: bool,
    /// The destination answers.
    up: bool,
    /// The sender's card has ended.
    card_ended: bool,
    in_flight: u64,
}

impl Facts {
    /// The gravest reason counts.
    fn verdict(self) -> Verdict {
        let Self { served, up, card_ended, in_flight } = self;
        match (card_ended, up, served, in_flight) {
            (true, ..) => Verdict::new(Standing::Alarmed, "the card of the sending gateway has ended"),
            (_, false, ..) => Verdict::new(
                Standing::HeldUp,
                "the destination does not answer: instances wait at their sender",
            ),
            (_, _, false, _) => Verdict::new(Standing::HeldUp, "no relay is connected"),
            (.., 0) => Verdict::new(Standing::Good, "nothing comes just now"),
            (.., count) => Verdict::new(Standing::Good, format!("{} under way", words::count(count))),
        }
    }
}

/// One line a route, in the order of their names.
pub(super) fn lines(status: &Status, served: bool, now: Timestamp) -> Vec<RouteLine> {
    sorted(status).iter().map(|route| line(status, route, served, now)).collect()
}

fn line(status: &Status, route: &Route, served: bool, now: Timestamp) -> RouteLine {
    let (in_flight, since) = status.inbox.in_flight_on(route.id);
    let up = status.inbox.destination(route).is_some_and(|destination| is_up(destination));
    let card_ended = matches!(route.sender.validity(now), Validity::Ended(_));
    RouteLine {
        from: route.from.to_string(),
        to: route.destination.to_string(),
        verdict: Facts { served, up, card_ended, in_flight }.verdict(),
        oldest: since.map(|since| now.since(since)),
        states: vec![("under way", in_flight)],
        bytes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_reason_is_the_one_that_is_told() {
        let good = Facts { served: true, up: true, card_ended: false, in_flight: 0 };
        let cases = [
            (good, Standing::Good, "nothing comes just now"),
            (Facts { in_flight: 12, ..good }, Standing::Good, "12 under way"),
            (Facts { served: false, in_flight: 1, ..good }, Standing::HeldUp, "no relay is connected"),
            (
                Facts { up: false, served: false, ..good },
                Standing::HeldUp,
                "the destination does not answer: instances wait at their sender",
            ),
            (
                Facts { card_ended: true, up: false, ..good },
                Standing::Alarmed,
                "the card of the sending gateway has ended",
            ),
        ];
        for (facts, standing, why) in cases {
            assert_eq!(facts.verdict(), Verdict::new(standing, why), "{facts:?}");
        }
    }
}
