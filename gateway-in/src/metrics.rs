//! `/metrics`: what gateway-in shows to Prometheus, all of it from its status. No patient data.

use std::path::Path;

use ledger::NackReason;
use serde_json::Value;
use service::metrics::{self, Kind, Text};

pub(crate) fn render(status: &Value, ready: bool, ledger: &Path, card_ends: &[(String, u64)]) -> String {
    let mut text = Text::new("sluis_gateway_in");
    metrics::common(&mut text, status, card_ends);
    text.one("ready", Kind::Gauge, "1 while instances are collected.", u8::from(ready));
    metrics::relays(&mut text, status);
    metrics::disk(&mut text, ledger);
    let destinations = status.get("destinations").and_then(Value::as_array).into_iter().flatten();
    let is = |one: &Value, what: &str| one.get(what).and_then(Value::as_bool).unwrap_or(false);
    let destinations: Vec<_> = destinations
        .filter(|one| is(one, "tried"))
        .map(|one| {
            let name = one.get("name").and_then(Value::as_str).unwrap_or("?");
            ([("destination", name)], is(one, "up"))
        })
        .collect();
    let figures = destinations.iter().map(|(labels, up)| (&labels[..], u8::from(*up)));
    let help = "1 while its routes are open: it answered lately. Absent until it was tried.";
    text.family("destination_up", Kind::Gauge, help, figures);
    let in_flight = number(status.get("in_flight"));
    text.one("in_flight", Kind::Gauge, "Deliveries that are being opened or stored.", in_flight);
    let of = |name: &str| status.get("ledger").and_then(|ledger| ledger.get(name));
    let totals = [
        ("stored_total", "stored", "Final answers of destinations that took an instance, ever."),
        ("refused_total", "refused", "Final answers of destinations that refused one, ever."),
        (
            "repeats_total",
            "repeats_after_unknown_outcome",
            "Instances sent again since nobody knew the outcome, ever.",
        ),
    ];
    for (name, key, help) in totals {
        text.one(name, Kind::Counter, help, number(of(key)));
    }
    let help = "Deliveries that were not stored for a fault on the way, by reason.";
    // Also those that were never given: an alert counts from 0 on.
    let nacks = NackReason::ALL.map(|reason| {
        (
            [("reason", reason.as_str())],
            number(status.get("nacks").and_then(|nacks| nacks.get(reason.as_str()))),
        )
    });
    let figures = nacks.iter().map(|(labels, count)| (&labels[..], count));
    text.family("nacks_total", Kind::Counter, help, figures);
    let help = "Deliveries in the ledger, by state; signed ones wait for their sender's word.";
    by_state(&mut text, "deliveries", help, of("states"));
    let help = "Instances that a destination is asked to commit to, by state.";
    by_state(&mut text, "pledges", help, status.get("commitment"));
    text.finish()
}

fn by_state(text: &mut Text, name: &str, help: &str, states: Option<&Value>) {
    let states = states.and_then(Value::as_object).into_iter().flatten();
    let states: Vec<_> =
        states.map(|(state, count)| ([("state", state.as_str())], number(Some(count)))).collect();
    text.family(name, Kind::Gauge, help, states.iter().map(|(labels, count)| (&labels[..], count)));
}

fn number(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or(0)
}
