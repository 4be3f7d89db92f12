//! The relay's figures in Prometheus' text format 0.0.4, from one view and one status: no state of its own.

use std::fmt::Write as _;

use serde_json::Value;

use crate::log::LogView;

const PREFIX: &str = "sluis_relay";

pub(super) fn render(view: &LogView, status: &Value) -> String {
    let mut text = String::new();
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
        family(&mut text, name, "gauge", help, number(status.get(name)));
    }
    for (name, value) in status.get("counters").and_then(Value::as_object).into_iter().flatten() {
        let help = format!("{name} since the start, as `status` counts them.");
        family(&mut text, &format!("{name}_total"), "counter", &help, number(Some(value)));
    }
    family(&mut text, "log_size", "gauge", "Entries of the log below its signed head.", view.size());
    family(&mut text, "log_unsigned", "gauge", "Entries after it.", view.unsigned());
    let log = |name: &str| status.get("log").and_then(|log| log.get(name));
    let failing = log("failing").and_then(Value::as_bool).unwrap_or(false);
    family(
        &mut text,
        "log_failing",
        "gauge",
        "1 while the log directory takes nothing: no head is signed.",
        failing.into(),
    );
    let skipped = number(log("skipped"));
    family(&mut text, "log_skipped_total", "counter", "Entries that found no place in the log.", skipped);
    let signed = view.signed().0 / 1000;
    family(
        &mut text,
        "log_signed_timestamp_seconds",
        "gauge",
        "When that head was signed, since 1970.",
        signed,
    );
    let bytes = u64::try_from(view.bytes()).unwrap_or(u64::MAX);
    family(&mut text, "log_bytes", "gauge", "Bytes of the log in memory.", bytes);
    let enforced =
        status.get("sandbox").and_then(|sandbox| sandbox.get("enforced")) == Some(&Value::Bool(true));
    family(
        &mut text,
        "sandbox_enforced",
        "gauge",
        "1 if the process has locked itself down.",
        enforced.into(),
    );
    header(
        &mut text,
        "card_end_timestamp_seconds",
        "gauge",
        "When the card of an admitted gateway or of this relay ends, since 1970.",
    );
    let name = |of: &Value| of.get("name").and_then(Value::as_str).unwrap_or("?").to_owned();
    let own = status.get("card").and_then(|card| card.get("ends")).and_then(Value::as_u64);
    let gateways = status.get("admission").and_then(Value::as_array).into_iter().flatten();
    let ends = gateways.map(|entry| (name(entry), entry.get("card_ends").and_then(Value::as_u64)));
    for (name, end) in std::iter::once((name(status), own)).chain(ends) {
        if let Some(end) = end {
            let _ = writeln!(text, "{PREFIX}_card_end_timestamp_seconds{{name=\"{name}\"}} {}", end / 1000);
        }
    }
    header(&mut text, "log_cosigned_size", "gauge", "Entries of the largest head that a gateway cosigned.");
    for (name, cosigned) in view.cosigners() {
        // A peer's name needs no quoting.
        let _ = writeln!(text, "{PREFIX}_log_cosigned_size{{gateway=\"{name}\"}} {}", cosigned.size);
    }
    text
}

fn number(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or(0)
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    header(text, name, kind, help);
    let _ = writeln!(text, "{PREFIX}_{name} {value}");
}

fn header(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} {kind}");
}
