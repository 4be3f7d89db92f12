//! Figures in Prometheus' text format 0.0.4, written from what a daemon knows at that moment: there is no registry beside its own state.
//!
//! Labels are names of the configuration, states and statuses, so that there are as many series as these; never what an instance says.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use identity::PeerCard;
use serde_json::Value;

/// One text, family by family.
#[derive(Debug)]
pub struct Text {
    prefix: &'static str,
    text: String,
}

/// What kind of figures a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It goes up, and starts at 0 with the process.
    Counter,
}

impl Text {
    /// Every name begins with this and an underscore.
    pub fn new(prefix: &'static str) -> Self {
        Self { prefix, text: String::new() }
    }

    /// A family of one figure.
    pub fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help, [(&[][..], value)]);
    }

    /// A family, each of whose figures has labels.
    pub fn family<'a, V: Display>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        figures: impl IntoIterator<Item = (&'a [(&'a str, &'a str)], V)>,
    ) {
        self.header(name, help, if kind == Kind::Gauge { "gauge" } else { "counter" });
        for (labels, value) in figures {
            self.figure(name, labels, value);
        }
    }

    /// A family of one histogram.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.header(name, help, "histogram");
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(&histogram.counts) {
            below += count.load(Ordering::Relaxed);
            let bound = bound.as_secs_f64().to_string();
            self.figure(&format!("{name}_bucket"), &[("le", &bound)], below);
        }
        let all = below + histogram.above.load(Ordering::Relaxed);
        self.figure(&format!("{name}_bucket"), &[("le", "+Inf")], all);
        let sum = Duration::from_micros(histogram.micros.load(Ordering::Relaxed));
        self.figure(&format!("{name}_sum"), &[], sum.as_secs_f64());
        self.figure(&format!("{name}_count"), &[], all);
    }

    /// The whole.
    pub fn finish(self) -> String {
        self.text
    }

    fn header(&mut self, name: &str, help: &str, kind: &str) {
        let prefix = self.prefix;
        let _ = writeln!(self.text, "# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} {kind}");
    }

    fn figure(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{}_{name}", self.prefix);
        for (i, (label, said)) in labels.iter().enumerate() {
            let said = said.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{said}\"", if i == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// Upper bounds of the buckets: from an answer on loopback to an instance that waited for a day.
const BOUNDS: [Duration; 14] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(4 * 3600),
    Duration::from_secs(24 * 3600),
];

/// How long something took, since the start of the process.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS.len()],
    above: AtomicU64,
    micros: AtomicU64,
}

impl Histogram {
    /// It took so long once more.
    pub fn observe(&self, took: Duration) {
        let bucket = BOUNDS.iter().zip(&self.counts).find(|(bound, _)| took <= **bound);
        bucket.map_or(&self.above, |(_, count)| count).fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What every daemon shows: its build, its sandbox, and when its keys and those that it has pinned end.
pub fn common(text: &mut Text, status: &Value, ends: &[(String, u64)]) {
    let string = |name: &str| status.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
    let (version, name) = (string("version"), string("name"));
    let build = [("version", version.as_str()), ("name", name.as_str())];
    text.family(
        "build_info",
        Kind::Gauge,
        "1, with the version and the name on the card.",
        [(&build[..], 1)],
    );
    let enforced = sandbox::report().is_some_and(|report| report.enforced);
    text.one("sandbox_enforced", Kind::Gauge, "1 if the process has locked itself down.", u8::from(enforced));
    let alarms = status.get("alarms").and_then(Value::as_array).map_or(0, Vec::len);
    text.one("alarms", Kind::Gauge, "Alarms that `status` shows.", alarms);
    let labels: Vec<_> = ends.iter().map(|(name, _)| [("name", name.as_str())]).collect();
    let ends = labels.iter().map(|labels| &labels[..]).zip(ends.iter().map(|(_, end)| end / 1000));
    let help = "When our card, or a pinned one, ends, since 1970.";
    text.family("card_end_timestamp_seconds", Kind::Gauge, help, ends);
}

/// When these cards end, by the names on them; one that is there twice counts once.
pub fn card_ends<'a>(cards: impl IntoIterator<Item = &'a PeerCard>) -> Vec<(String, u64)> {
    let ends = cards.into_iter().filter_map(|card| Some((card.name.to_string(), card.not_after?.0)));
    ends.collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// Links to relays, as `status` has them.
pub fn relays(text: &mut Text, status: &Value) {
    let relays = status.get("relays").and_then(Value::as_array).into_iter().flatten();
    let relays: Vec<_> = relays
        .map(|relay| {
            let name = relay.get("name").and_then(Value::as_str).unwrap_or("?");
            let connected = relay.get("connected").and_then(Value::as_bool).unwrap_or(false);
            let trusted = relay.get("log").is_none_or(|log| log.get("distrust").is_none_or(Value::is_null));
            let round_trip = relay.get("round_trip_us").and_then(Value::as_u64).map(Duration::from_micros);
            ([("relay", name)], connected, trusted, round_trip)
        })
        .collect();
    let figures = relays.iter().map(|(labels, connected, ..)| (&labels[..], u8::from(*connected)));
    text.family("relay_connected", Kind::Gauge, "1 while there is a connection.", figures);
    let figures = relays.iter().map(|(labels, _, trusted, _)| (&labels[..], u8::from(*trusted)));
    text.family("relay_trusted", Kind::Gauge, "0 if its log forked or went back: it is not used.", figures);
    let figures =
        relays.iter().filter_map(|(labels, _, _, time)| Some((&labels[..], (*time)?.as_secs_f64())));
    let help = "Round trip to the relay as QUIC measures it, while there is a connection.";
    text.family("relay_rtt_seconds", Kind::Gauge, help, figures);
}

/// Room on the disk of a folder, and how much of it there is in all.
pub fn disk(text: &mut Text, folder: &Path) {
    let Ok(found) = rustix::fs::statvfs(folder) else { return };
    let help = "Bytes that the disk of the state directory has left for us.";
    text.one("disk_free_bytes", Kind::Gauge, help, found.f_bavail.saturating_mul(found.f_frsize));
    let help = "Bytes that it has in all.";
    text.one("disk_bytes", Kind::Gauge, help, found.f_blocks.saturating_mul(found.f_frsize));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_one_header_and_labels_are_quoted() {
        let mut text = Text::new("sluis");
        text.one("up", Kind::Gauge, "It is.", 1);
        let labels = [("ae", "A\"B\\"), ("status", "0000")];
        text.family("stores_total", Kind::Counter, "Answers.", [(&labels[..], 7), (&labels[..1], 8)]);
        let want = "# HELP sluis_up It is.\n# TYPE sluis_up gauge\nsluis_up 1\n# HELP sluis_stores_total Answers.\n\
            # TYPE sluis_stores_total counter\nsluis_stores_total{ae=\"A\\\"B\\\\\",status=\"0000\"} 7\n\
            sluis_stores_total{ae=\"A\\\"B\\\\\"} 8\n";
        assert_eq!(text.finish(), want);
    }

    #[test]
    fn a_histogram_counts_what_is_at_most_its_bound() {
        let histogram = Histogram::default();
        for millis in [5, 6, 100_000_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut text = Text::new("sluis");
        text.histogram("took_seconds", "How long.", &histogram);
        let text = text.finish();
        for line in [
            "sluis_took_seconds_bucket{le=\"0.005\"} 1",
            "sluis_took_seconds_bucket{le=\"0.02\"} 2",
            "sluis_took_seconds_bucket{le=\"86400\"} 2",
            "sluis_took_seconds_bucket{le=\"+Inf\"} 3",
            "sluis_took_seconds_sum 100000.011",
            "sluis_took_seconds_count 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }
}
