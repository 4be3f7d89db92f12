//! The relay's figures for Prometheus, from one view and one status: no state of its own.

use serde_json::Value;
use service::metrics::{self, Kind, Text};

use crate::log::LogView;

pub(super) fn render(view: &LogView, status: &Value) -> String {
    let mut text = Text::new("sluis_relay");
    metrics::common(&mut text, status, &card_ends(status));
    let gauges = [
        ("blobs", "Bodies here, complete or arriving."),
        ("bytes_held", "Body bytes in memory."),
        ("bytes_held_peak", "The most of them since the start."),
        ("bytes_reserved", "Bytes that have a place."),
        ("budget", "Bytes that may have one."),
        ("leases", "Bodies under lease."),
        ("offers_waiting", "Offers that wait for a place."),
        ("settlements_waiting", "Settlements and notices that no sender has acknowledged."),
    ];
    for (name, help) in gauges {
        text.one(name, Kind::Gauge, help, number(status.get(name)));
    }
    for (name, value) in status.get("counters").and_then(Value::as_object).into_iter().flatten() {
        let help = format!("{name} since the start, as `status` counts them.");
        text.one(&format!("{name}_total"), Kind::Counter, &help, number(Some(value)));
    }
    text.one("log_size", Kind::Gauge, "Entries of the log below its signed head.", view.size());
    text.one("log_unsigned", Kind::Gauge, "Entries after it.", view.unsigned());
    let log = |name: &str| status.get("log").and_then(|log| log.get(name));
    let failing = log("failing").and_then(Value::as_bool).unwrap_or(false);
    let help = "1 while the log directory takes nothing: no head is signed.";
    text.one("log_failing", Kind::Gauge, help, u8::from(failing));
    let skipped = number(log("skipped"));
    text.one("log_skipped_total", Kind::Counter, "Entries that found no place in the log.", skipped);
    let help = "When that head was signed, since 1970.";
    text.one("log_signed_timestamp_seconds", Kind::Gauge, help, view.signed().0 / 1000);
    text.one("log_bytes", Kind::Gauge, "Bytes of the log in memory.", view.bytes());
    let cosigners: Vec<_> =
        view.cosigners().iter().map(|(name, cosigned)| (name.to_string(), cosigned.size)).collect();
    let labels: Vec<_> = cosigners.iter().map(|(name, _)| [("gateway", name.as_str())]).collect();
    let figures = labels.iter().map(|labels| &labels[..]).zip(cosigners.iter().map(|(_, size)| size));
    let help = "Entries of the largest head that a gateway cosigned.";
    text.family("log_cosigned_size", Kind::Gauge, help, figures);
    text.finish()
}

/// Of this relay and of the gateways that it has admitted.
fn card_ends(status: &Value) -> Vec<(String, u64)> {
    let name = |of: &Value| of.get("name").and_then(Value::as_str).unwrap_or("?").to_owned();
    let own = status.get("card").and_then(|card| card.get("ends")).and_then(Value::as_u64);
    let gateways = status.get("admission").and_then(Value::as_array).into_iter().flatten();
    let ends = gateways.map(|entry| (name(entry), entry.get("card_ends").and_then(Value::as_u64)));
    std::iter::once((name(status), own)).chain(ends).filter_map(|(name, end)| Some((name, end?))).collect()
}

fn number(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or(0)
}
