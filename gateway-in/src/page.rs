//! The status page: what comes from whom, where it goes, and what destinations say to it. Names of the configuration, counts and
//! ages; a destination's own words stay where they are.

mod routes;
mod tables;

use std::sync::PoisonError;

use base::Timestamp;
use service::{
    admin::Readiness,
    overview::{self, Disk, Figure, Overview, PeerLine, RelayLine, words},
};
use spool::{InboundCounts, InboundState};

use crate::{
    app::Status,
    config::{Route, Target},
    destination::Destination,
};

/// All of it, as it is now.
pub(crate) async fn overview(status: &Status, now: Timestamp) -> Overview {
    let (counts, unreadable) = match status.inbox.inbound.counts().await {
        Ok(counts) => (Some(counts), None),
        Err(error) => (None, Some(format!("the ledger cannot be read: {error}"))),
    };
    let not_ready = match status.readiness() {
        Readiness::Ready => None,
        Readiness::NotReady(why) => Some(why),
    };
    let silent = status.witnesses.iter().filter_map(|witness| witness.alarm());
    let reload = status.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let relays = relays(status, now);
    let served = status.downlinks.iter().zip(&status.witnesses);
    let served = served.into_iter().any(|((_, link), witness)| link.is_connected() && witness.is_trusted());
    Overview {
        role: "gateway-in",
        name: status.settings.own.identity.name().to_string(),
        version: env!("CARGO_PKG_VERSION"),
        fingerprint: identity::fingerprint_text(&status.own.identity().fingerprint()),
        now,
        started_at: status.started_at,
        not_ready: not_ready.or(unreadable),
        alarms: status.alarms(now).into_iter().chain(silent).collect(),
        reload_refused: reload.and_then(|reload| reload.refused().map(str::to_owned)),
        figures: figures(status, counts.as_ref(), now),
        series: vec![overview::series("stored", status.inbox.answers.day(now))],
        routes: routes::lines(status, served, now),
        tables: vec![tables::destinations(status, now), tables::refusals(status)],
        peers: peers(status, &relays, now),
        relays,
        disks: disks(status, now),
        configuration: status.files.now().as_ref().clone(),
    }
}

fn figures(status: &Status, counts: Option<&InboundCounts>, now: Timestamp) -> Vec<Figure> {
    let of = |state| {
        let states = counts.iter().flat_map(|counts| &counts.states);
        states.filter(|(it, _)| *it == state).map(|(_, count)| count).sum::<u64>()
    };
    let total = |of: fn(&InboundCounts) -> u64| counts.map_or(0, of);
    let (signed, acknowledged) = (of(InboundState::Signed), of(InboundState::Acknowledged));
    let routes = status.inbox.all_routes();
    let oldest = routes.filter_map(|route| status.inbox.in_flight_on(route.id).1).min();
    let in_flight = u64::try_from(status.inbox.in_flight()).unwrap_or(u64::MAX);
    vec![
        Figure {
            label: "Under way",
            value: words::count(in_flight),
            note: oldest.map_or_else(
                || "nothing comes just now".to_owned(),
                |since| format!("the oldest since {}", words::age(now.since(since))),
            ),
        },
        Figure {
            label: "Stored",
            value: words::count(total(|counts| counts.stored)),
            note: format!("ever; {} refused", words::count(total(|counts| counts.refused))),
        },
        Figure {
            label: "Outcome unknown",
            value: words::count(of(InboundState::Unknown)),
            note: format!("{} sent again ever", words::count(total(|counts| counts.repeats))),
        },
        Figure {
            label: "Receipts verified",
            value: words::count(acknowledged),
            note: format!("by their senders; {} pending", words::count(signed + of(InboundState::Answered))),
        },
    ]
}

fn relays(status: &Status, now: Timestamp) -> Vec<RelayLine> {
    let links = status.downlinks.iter().zip(&status.witnesses);
    let lines = links.map(|((name, link), witness)| RelayLine {
        name: name.to_string(),
        connected: link.is_connected(),
        refused: link.refusal(),
        last_contact: status.heard.last(name).map(|last| if link.is_connected() { now } else { last }),
        log: witness.shown(),
    });
    lines.collect()
}

/// Everybody once, however many routes come from there; we ourselves first.
fn peers(status: &Status, relays: &[RelayLine], now: Timestamp) -> Vec<PeerLine> {
    let mut lines = vec![PeerLine::of(&status.own.now().card, "this gateway", None, now)];
    for route in sorted(status) {
        if !lines.iter().any(|line| line.name == route.sender.name.as_str()) {
            let last = status.inbox.heard.last(&route.from);
            lines.push(PeerLine::of(&route.sender, "sending gateway", last, now));
        }
    }
    let pinned = status.relays.now();
    lines.extend(pinned.iter().map(|relay| {
        let line = relays.iter().find(|line| line.name == relay.name.as_str());
        PeerLine::of(&relay.card, "relay", line.and_then(|line| line.last_contact), now)
    }));
    lines
}

/// The ledger's disk, and those of folders that instances go to.
fn disks(status: &Status, now: Timestamp) -> Vec<Disk> {
    let ledger = &status.settings.ledger_dir;
    let mut disks = vec![Disk {
        what: "settled ledger".to_owned(),
        folder: ledger.clone(),
        left: overview::bytes_left(ledger),
        bytes_per_hour: None,
        provided: "",
    }];
    for destination in destinations(status) {
        let Target::Folder(dir) = &destination.settings.target else { continue };
        let day = status.inbox.answers.day_of(&destination.settings.name, now);
        disks.push(Disk {
            what: format!("destination {}", destination.settings.name),
            folder: dir.clone(),
            left: overview::bytes_left(dir),
            bytes_per_hour: day.bytes_per_hour(status.started_at),
            provided: "if nothing is removed",
        });
    }
    disks
}

/// By name, so that a page that is loaded again has the same order.
fn destinations(status: &Status) -> Vec<&std::sync::Arc<Destination>> {
    let mut all: Vec<_> = status.inbox.all_destinations().collect();
    all.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
    all
}

fn sorted(status: &Status) -> Vec<std::sync::Arc<Route>> {
    let mut all: Vec<_> = status.inbox.all_routes().collect();
    all.sort_by(|a, b| (&a.from, &a.destination, a.id.0).cmp(&(&b.from, &b.destination, b.id.0)));
    all
}

fn is_up(destination: &Destination) -> bool {
    destination.health.may_be_asked()
}
