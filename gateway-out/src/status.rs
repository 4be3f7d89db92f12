//! What `/status` and `/readyz` say. No patient data.

use std::sync::{
    PoisonError,
    atomic::{AtomicU64, Ordering},
};

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use base::{AeTitle, Status, Timestamp};
use serde_json::{Value, json};
use service::{
    admin::Readiness,
    metrics::{Histogram, Kind, Text},
    throughput::{Day, Throughput},
};

use crate::{answers::Cause, app::Shared};

/// Counts since the start of the process.
#[derive(Debug, Default)]
pub struct Counters {
    associations: AtomicU64,
    rejected: AtomicU64,
    accepted: AtomicU64,
    accepted_bytes: AtomicU64,
    refused: AtomicU64,
    without_route: AtomicU64,
    /// Answers to C-STORE, by called AE title. Both are of our tables: there are only so many.
    answers: ByStatus,
    /// What came of instances whose route pseudonymizes: success, or the status they were refused with.
    pseudonymized: ByStatus,
    answering: Histogram,
    delivering: Histogram,
    /// What came into our custody, or was delivered, in the last day.
    taken: Throughput,
    /// What its destination was proven to have stored.
    stored: Throughput,
}

impl Counters {
    /// An association was accepted.
    pub fn association(&self) {
        self.associations.fetch_add(1, Ordering::Relaxed);
    }

    /// An association was rejected or did not come about.
    pub fn rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// An instance of this many bytes is in our custody, or was delivered.
    pub fn accepted(&self, bytes: u64, now: Timestamp) {
        self.taken.count(bytes, now);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.accepted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// No route could be chosen for an instance; where none takes it, that is counted by itself.
    pub fn without_route(&self, cause: Cause) {
        if cause == Cause::NoRoute {
            self.without_route.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An instance was refused.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A C-STORE was answered so, after this time.
    pub fn answered(&self, called: &AeTitle, status: Status, took: Duration) {
        self.answering.observe(took);
        count(&self.answers, called, status);
    }

    /// An instance for a route that pseudonymizes was taken so, or refused with this status.
    pub fn pseudonymized(&self, called: &AeTitle, status: Status) {
        count(&self.pseudonymized, called, status);
    }

    /// The receipt for an instance of this many bytes came, after this time in our custody.
    pub fn receipted(&self, bytes: u64, took: Duration, now: Timestamp) {
        self.stored.count(bytes, now);
        self.delivering.observe(took);
    }

    /// The last day: what was taken, and what was proven to be stored.
    pub(crate) fn days(&self, now: Timestamp) -> [Day; 2] {
        [self.taken.day(now), self.stored.day(now)]
    }

    /// How many associations were rejected, or did not come about.
    pub(crate) fn associations_rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// How many C-STOREs were not answered with success, by called AE title and status.
    pub(crate) fn refusals(&self) -> Vec<(AeTitle, Status, u64)> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = answers.iter().filter(|((_, status), _)| Status(*status) != Status::SUCCESS);
        refused.map(|((ae, status), count)| (ae.clone(), Status(*status), *count)).collect()
    }

    /// For Prometheus.
    pub fn show(&self, text: &mut Text) {
        let counters = [
            ("associations_total", "Associations accepted.", &self.associations),
            (
                "associations_rejected_total",
                "Associations rejected, or that did not come about.",
                &self.rejected,
            ),
            ("instances_accepted_total", "Instances taken into custody, or delivered.", &self.accepted),
            ("accepted_bytes_total", "Bytes of their data sets.", &self.accepted_bytes),
            ("instances_refused_total", "Instances refused.", &self.refused),
            ("instances_without_route_total", "Instances that no route takes.", &self.without_route),
        ];
        for (name, help, counter) in counters {
            text.one(name, Kind::Counter, help, counter.load(Ordering::Relaxed));
        }
        by_status(text, "cstore_total", "C-STORE responses, by called AE title and status.", &self.answers);
        let help =
            "Data sets for routes that pseudonymize: 0000 pseudonymized, else refused with this status.";
        by_status(text, "pseudonymized_total", help, &self.pseudonymized);
        text.histogram("cstore_seconds", "From a C-STORE request to its response.", &self.answering);
        text.histogram(
            "delivery_seconds",
            "From the end of an instance here to its receipt.",
            &self.delivering,
        );
    }
}

type ByStatus = Mutex<BTreeMap<(AeTitle, u16), u64>>;

fn count(counts: &ByStatus, called: &AeTitle, status: Status) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    *counts.entry((called.clone(), status.0)).or_default() += 1;
}

fn by_status(text: &mut Text, name: &str, help: &str, counts: &ByStatus) {
    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let said: Vec<_> =
        counts.iter().map(|((ae, status), count)| (ae.to_string(), format!("{status:04X}"), count)).collect();
    let said: Vec<_> = said
        .iter()
        .map(|(ae, status, count)| ([("ae", ae.as_str()), ("status", status.as_str())], count))
        .collect();
    text.family(name, Kind::Counter, help, said.iter().map(|(labels, count)| (&labels[..], count)));
}

/// Ready is: the outbox takes instances, and no relay's log broke its promise. A relay that is away makes them wait and is no reason to refuse them.
pub fn readiness(shared: &Shared) -> Readiness {
    let broken = shared.settings.relays.iter().zip(&shared.witnesses);
    if let Some((relay, distrust)) = broken.filter_map(|(relay, log)| Some((relay, log.distrust()?))).next() {
        return Readiness::NotReady(format!("relay {} is not used: {distrust}", relay.name));
    }
    match shared.outbox.health() {
        Ok(()) => Readiness::Ready,
        Err(error) => Readiness::NotReady(error.to_string()),
    }
}

/// The JSON of `/status`.
pub async fn status(shared: &Shared) -> Value {
    let links = shared.uplinks.iter().zip(&shared.witnesses);
    let relays = shared.settings.relays.iter().zip(links).map(|(relay, (uplink, witness))| {
        json!({
            "name": relay.name, "address": relay.address, "connected": uplink.is_connected(),
            "round_trip_us": uplink.round_trip().map(|time| time.as_micros()), "refused": uplink.refusal(), "log": witness.json(),
        })
    });
    let counters = &shared.counters;
    let last_reload = shared.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone();
    json!({
        "role": "gateway-out",
        "version": env!("CARGO_PKG_VERSION"),
        "name": shared.name(),
        "fingerprint": identity::fingerprint_text(&shared.identity().fingerprint()),
        "dicom": shared.settings.dicom.listen,
        "dicom_tls": shared.settings.dicom.tls.as_ref().map(|tls| tls.listen),
        "alarms": shared.all_alarms(Timestamp::now()),
        "last_reload": last_reload.as_ref().map(service::LastReload::json),
        "relays": relays.collect::<Vec<_>>(),
        "windows_closed": crate::hindered::closed(&shared.settings.routes, Timestamp::now()),
        "mirror": shared.tables.json(&crate::mirror::legs(&shared.settings.routes)),
        "queue": queue(&shared.outbox, Timestamp::now()).await,
        "commitment": crate::commitment::show::counts(&shared.outbox, Timestamp::now()).await,
        "watched": shared.folders.now().iter().map(|folder| folder.json()).collect::<Vec<_>>(),
        "since_start": {
            "associations": counters.associations.load(Ordering::Relaxed),
            "associations_rejected": counters.rejected.load(Ordering::Relaxed),
            "instances_accepted": counters.accepted.load(Ordering::Relaxed),
            "bytes_accepted": counters.accepted_bytes.load(Ordering::Relaxed),
            "instances_refused": counters.refused.load(Ordering::Relaxed),
            "instances_without_route": counters.without_route.load(Ordering::Relaxed),
        },
    })
}

/// Counts by route and state, and the age of the oldest that has not ended. Also what `status` shows
/// when the daemon is not running.
pub async fn queue(queue: &spool::Queue, now: Timestamp) -> Value {
    let (counts, oldest) = match (queue.counts().await, queue.oldest().await) {
        (Ok(counts), Ok(oldest)) => (counts, oldest),
        (Err(error), _) | (_, Err(error)) => return json!({ "error": error.to_string() }),
    };
    let counts = counts.iter().map(|count| {
        json!({
            "route": count.route, "receiver": count.receiver, "destination": count.destination,
            "state": count.state.as_str(), "deliveries": count.deliveries, "bytes": count.bytes,
        })
    });
    let oldest = oldest.iter().map(|oldest| {
        json!({
            "route": oldest.route, "destination": oldest.destination, "delivery": oldest.delivery,
            "age_s": now.since(oldest.received_at).as_secs(),
        })
    });
    json!({ "counts": counts.collect::<Vec<_>>(), "oldest": oldest.collect::<Vec<_>>() })
}
