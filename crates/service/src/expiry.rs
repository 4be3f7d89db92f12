//! Cards that end soon: said in the log once a day, and in `status`, while there is time to make and exchange new ones.

use std::convert::Infallible;
use std::time::Duration;

use base::Timestamp;
use identity::{PeerCard, Validity};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::own::{Own, describe};
use crate::rotation;

/// How often the log says it again.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// A line for each card that ends within [`PeerCard::EXPIRY_NOTICE`], or has ended.
pub fn alarms<'a>(cards: impl IntoIterator<Item = &'a PeerCard>, now: Timestamp) -> Vec<String> {
    let ends = |card: &&PeerCard| matches!(card.validity(now), Validity::EndsSoon(_) | Validity::Ended(_));
    let mut lines: Vec<_> = cards
        .into_iter()
        .filter(ends)
        .map(|card| format!("the card of {} {}", card.name, describe(card, now)))
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

/// As [`alarms`], for our own card and those that we have pinned, with what our own rotation wants of an operator.
pub fn all_alarms<'a>(
    own: &'a Own,
    pinned: impl IntoIterator<Item = &'a PeerCard>,
    now: Timestamp,
) -> Vec<String> {
    let mut lines = alarms(pinned.into_iter().chain([&own.card]), now);
    lines.extend(rotation::said(own, now));
    lines
}

/// Logs what `look` finds, now and once a day, until the token is cancelled.
pub async fn watch(
    look: impl Fn(Timestamp) -> Vec<String> + Send,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        for alarm in look(Timestamp::now()) {
            warn!(alarm, "expiry");
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use base::{Name, Secret};
    use identity::{CardFields, IdentityKey};

    use super::*;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    fn card(name: &str, not_after: Option<Timestamp>) -> PeerCard {
        let key = IdentityKey::generate(Name::parse(name).unwrap(), &Secret::random());
        key.card(CardFields { not_after, ..CardFields::new(1, &[]) })
    }

    #[test]
    fn an_alarm_begins_thirty_days_before_the_end_and_stays() {
        let end = Timestamp(100 * DAY_MS);
        let (ends, endless) = (card("ends", Some(end)), card("endless", None));
        // (day, whether there is an alarm)
        for (day, want) in [(0, false), (69, false), (70, true), (99, true), (100, true), (500, true)] {
            let alarms = alarms([&ends, &endless, &ends], Timestamp(day * DAY_MS));
            assert_eq!(alarms.len(), usize::from(want), "day {day}: {alarms:?}");
            assert!(alarms.iter().all(|alarm| alarm.starts_with("the card of ends expire")), "{alarms:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_says_it_once_a_day() {
        let (said, saying) = std::sync::mpsc::channel();
        let stop = CancellationToken::new();
        let look = move |_| {
            let _ = said.send(());
            vec!["soon".to_owned()]
        };
        let watching = tokio::spawn(watch(look, stop.clone()));
        tokio::time::sleep(EVERY * 3 + EVERY / 2).await;
        assert_eq!(saying.try_iter().count(), 4);
        stop.cancel();
        watching.await.unwrap().unwrap();
    }
}
