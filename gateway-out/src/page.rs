//! The status page: what this gateway has in custody, and what keeps it from leaving. Names of the configuration, counts and
//! ages; AE titles of those who were turned away are the only words of others.

mod routes;
mod tables;

use std::{sync::PoisonError, time::Duration};

use base::Timestamp;
use service::{
    admin::Readiness,
    overview::{self, Disk, Figure, Overview, PeerLine, RelayLine, words},
};
use spool::{Alarmed, Count, Oldest, State};

use crate::{app::Shared, status};

/// What the outbox says.
#[derive(Debug, Default)]
struct Queued {
    counts: Vec<Count>,
    oldest: Vec<Oldest>,
    alarmed: Vec<Alarmed>,
    /// Why it says nothing.
    unreadable: Option<String>,
}

impl Queued {
    async fn read(queue: &spool::Queue) -> Self {
        let read = async {
            let (counts, oldest) = (queue.counts().await?, queue.oldest().await?);
            Ok(Self { counts, oldest, alarmed: queue.alarmed().await?, unreadable: None })
        };
        read.await.unwrap_or_else(|error: spool::StoreError| Self {
            unreadable: Some(format!("the outbox cannot be read: {error}")),
            ..Self::default()
        })
    }

    /// Deliveries and bytes of these states.
    fn sum(&self, of: impl Fn(State) -> bool) -> (u64, u64) {
        let chosen = self.counts.iter().filter(|count| of(count.state));
        chosen.fold((0, 0), |(deliveries, bytes), count| (deliveries + count.deliveries, bytes + count.bytes))
    }

    fn oldest_age(&self, now: Timestamp) -> Option<Duration> {
        self.oldest.iter().map(|oldest| now.since(oldest.received_at)).max()
    }
}

/// All of it, as it is now.
pub(crate) async fn overview(shared: &Shared, now: Timestamp) -> Overview {
    let queued = Queued::read(&shared.outbox).await;
    let relays = relays(shared, now);
    let served = shared.uplink().is_some();
    let not_ready = match status::readiness(shared) {
        Readiness::Ready => None,
        Readiness::NotReady(why) => Some(why),
    };
    let reload = shared.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let [taken, stored] = shared.counters.days(now);
    let rate = taken.bytes_per_hour(shared.started_at);
    Overview {
        role: "gateway-out",
        name: shared.name().to_string(),
        version: env!("CARGO_PKG_VERSION"),
        fingerprint: identity::fingerprint_text(&shared.identity().fingerprint()),
        now,
        started_at: shared.started_at,
        not_ready: not_ready.or_else(|| queued.unreadable.clone()),
        alarms: shared.all_alarms(now),
        reload_refused: reload.and_then(|reload| reload.refused().map(str::to_owned)),
        figures: figures(shared, &queued, now),
        series: vec![overview::series("taken in", taken), overview::series("receipts", stored)],
        routes: routes::lines(&shared.settings.routes, &queued, served, now),
        tables: [
            Some(tables::refusals(shared, &queued)),
            Some(tables::rejections(shared, now)),
            tables::folders(shared),
        ]
        .into_iter()
        .flatten()
        .collect(),
        peers: peers(shared, &relays, now),
        relays,
        disks: vec![disk(shared, rate)],
        configuration: shared.files.now().as_ref().clone(),
    }
}

fn figures(shared: &Shared, queued: &Queued, now: Timestamp) -> Vec<Figure> {
    let (owed, bytes) = queued.sum(|state| !state.is_ended());
    let (verified, _) = queued.sum(|state| matches!(state, State::Receipted | State::Purged));
    let (stuck, _) = queued.sum(|state| matches!(state, State::Parked | State::Held));
    let rejected = shared.counters.associations_rejected();
    let last = shared.rejections.alike().first().map(|last| now.since(last.last));
    let oldest = queued.oldest_age(now);
    vec![
        Figure {
            label: "In custody",
            value: words::count(owed),
            note: format!("{} sealed", words::bytes(bytes)),
        },
        Figure {
            label: "Oldest instance",
            value: oldest.map_or_else(|| "–".to_owned(), words::age),
            note: if oldest.is_some() { "in custody".to_owned() } else { "nothing is owed".to_owned() },
        },
        Figure { label: "Need an operator", value: words::count(stuck), note: "parked or held".to_owned() },
        Figure {
            label: "Receipts verified",
            value: words::count(verified),
            note: format!("{} pending", words::count(owed)),
        },
        Figure {
            label: "Rejected associations",
            value: words::count(rejected),
            note: last.map_or_else(
                || "since the start".to_owned(),
                |ago| format!("since the start; last one {} ago", words::age(ago)),
            ),
        },
    ]
}

fn relays(shared: &Shared, now: Timestamp) -> Vec<RelayLine> {
    let links = shared.uplinks.iter().zip(&shared.witnesses);
    let lines = shared.settings.relays.iter().zip(links).map(|(relay, (uplink, witness))| RelayLine {
        name: relay.name.to_string(),
        connected: uplink.is_connected(),
        refused: uplink.refusal(),
        last_contact: shared
            .heard
            .relays
            .last(&relay.name)
            .map(|last| if uplink.is_connected() { now } else { last }),
        log: witness.shown(),
    });
    lines.collect()
}

/// Everybody once, however many routes lead there; we ourselves first.
fn peers(shared: &Shared, relays: &[RelayLine], now: Timestamp) -> Vec<PeerLine> {
    let (heard, legs) = (&shared.heard, shared.settings.routes.legs());
    let mut lines = vec![PeerLine::of(&shared.own.now().card, "this gateway", None, now)];
    let receivers = legs.iter().map(|leg| &leg.receiver);
    for card in receivers {
        if !lines.iter().any(|line| line.name == card.name.as_str()) {
            lines.push(PeerLine::of(card, "receiving gateway", heard.receivers.last(&card.name), now));
        }
    }
    let pinned = shared.pinned_relays.now();
    lines.extend(pinned.iter().map(|relay| {
        let line = relays.iter().find(|line| line.name == relay.name.as_str());
        PeerLine::of(&relay.card, "relay", line.and_then(|line| line.last_contact), now)
    }));
    lines
}

/// What the outbox may still take: of its own limit and of the disk the lesser.
fn disk(shared: &Shared, bytes_per_hour: Option<u64>) -> Disk {
    let left = shared.outbox.usage().ok().map(|usage| {
        let limit = usage.bytes_max.saturating_sub(usage.bytes_used);
        limit.min(usage.bytes_free.saturating_sub(usage.reserve_bytes))
    });
    Disk {
        what: "outbox".to_owned(),
        folder: shared.settings.outbox.dir.clone(),
        left,
        bytes_per_hour,
        provided: "if nothing leaves",
    }
}
