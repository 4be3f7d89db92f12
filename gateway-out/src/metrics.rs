//! `/metrics`: what gateway-out shows to Prometheus, from its status and its counters. No patient data.

use serde_json::Value;
use service::metrics::{self, Kind, Text};

use crate::{app::Shared, status};

pub(crate) async fn render(shared: &Shared) -> String {
    let status = status::status(shared).await;
    let mut text = Text::new("sluis_gateway_out");
    metrics::common(&mut text, &status, &card_ends(shared));
    let ready = u8::from(status::readiness(shared) == service::admin::Readiness::Ready);
    text.one(
        "ready",
        Kind::Gauge,
        "1 while instances are taken, and no relay's log broke its promise.",
        ready,
    );
    metrics::relays(&mut text, &status);
    metrics::disk(&mut text, &shared.settings.outbox.dir);
    shared.counters.show(&mut text);
    clocks(&mut text, shared);
    watched(&mut text, shared);
    if let Some(queue) = status.get("queue") {
        queued(&mut text, queue);
    }
    text.finish()
}

/// Deliveries by route and state, and how old the oldest is that has not ended.
fn queued(text: &mut Text, queue: &Value) {
    let rows = |name: &str| queue.get(name).and_then(Value::as_array).into_iter().flatten();
    fn said<'a>(row: &'a Value, name: &str) -> &'a str {
        row.get(name).and_then(Value::as_str).unwrap_or("?")
    }
    let number = |row: &Value, name: &str| row.get(name).and_then(Value::as_u64).unwrap_or(0);
    let counts: Vec<_> = rows("counts")
        .map(|row| {
            let labels = [
                ("route", said(row, "route")),
                ("destination", said(row, "destination")),
                ("state", said(row, "state")),
            ];
            (labels, number(row, "deliveries"), number(row, "bytes"))
        })
        .collect();
    let figures = counts.iter().map(|(labels, deliveries, _)| (&labels[..], deliveries));
    text.family("deliveries", Kind::Gauge, "Deliveries in the outbox's index, by route and state.", figures);
    let figures = counts.iter().map(|(labels, _, bytes)| (&labels[..], bytes));
    text.family("delivery_bytes", Kind::Gauge, "Their sealed bytes.", figures);
    let oldest: Vec<_> = rows("oldest")
        .map(|row| {
            ([("route", said(row, "route")), ("destination", said(row, "destination"))], number(row, "age_s"))
        })
        .collect();
    let figures = oldest.iter().map(|(labels, age)| (&labels[..], age));
    let help = "Age of the oldest instance that is owed, by route: the alarm to have.";
    text.family("oldest_age_seconds", Kind::Gauge, help, figures);
}

/// Watched folders, by their numbers: a path may be named after somebody.
fn watched(text: &mut Text, shared: &Shared) {
    let folders: Vec<_> = shared
        .folders
        .now()
        .iter()
        .map(|folder| {
            let place = folder.number().to_string();
            (place, folder.watched().ae.to_string(), folder.counts(), u8::from(folder.hindrance().is_some()))
        })
        .collect();
    let labels: Vec<_> =
        folders.iter().map(|(place, ae, ..)| [("folder", place.as_str()), ("ae", ae.as_str())]).collect();
    let kinds = [
        ("watched_files", Kind::Gauge, "Files that wait in a watched folder."),
        ("watched_taken_total", Kind::Counter, "Files of it that are in custody."),
        ("watched_failed_total", Kind::Counter, "Files of it that lie in `failed`."),
    ];
    for (i, (name, kind, help)) in kinds.into_iter().enumerate() {
        let figures = folders.iter().map(|(_, _, counts, _)| counts.get(i).copied().unwrap_or(0));
        text.family(name, kind, help, labels.iter().map(|labels| &labels[..]).zip(figures));
    }
    let figures = folders.iter().map(|(.., hindered)| *hindered);
    let help = "1 while the files of a watched folder do not go on; `status` says why.";
    text.family("watched_hindered", Kind::Gauge, help, labels.iter().map(|labels| &labels[..]).zip(figures));
}

/// Clocks of receiving gateways.
fn clocks(text: &mut Text, shared: &Shared) {
    let all = shared.heard.clocks.all();
    let all: Vec<_> = all.iter().map(|(name, ahead)| ([("peer", name.as_str())], ahead / 1000)).collect();
    let help = "By how much a receiving gateway's clock is ahead of ours at least, or behind, as its last receipt shows.";
    let figures = all.iter().map(|(labels, seconds)| (&labels[..], seconds));
    text.family("peer_clock_ahead_seconds", Kind::Gauge, help, figures);
}

fn card_ends(shared: &Shared) -> Vec<(String, u64)> {
    let own = shared.own.now();
    let legs = shared.settings.routes.legs();
    let relays = shared.pinned_relays.now();
    let cards = std::iter::once(&own.card)
        .chain(legs.iter().map(|leg| &leg.receiver))
        .chain(relays.iter().map(|relay| &relay.card));
    metrics::card_ends(cards)
}
