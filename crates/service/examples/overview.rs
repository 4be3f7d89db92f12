//! The status page of a made-up gateway, for whoever works on it: `cargo run -p service --example overview -- quiet|busy|alarmed`.

use std::path::PathBuf;
use std::time::Duration;

use base::{Digest, Timestamp};
use ledger::Head;
use service::config::FilesRead;
use service::overview::{
    Cell, Disk, Figure, Overview, PeerLine, RelayLine, RouteLine, Standing, Table, Verdict, series,
};
use service::throughput::{Day, Throughput};
use service::witness::Shown;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// 13:42 on a Monday in 2027, as a hospital is at its busiest.
const NOW: Timestamp = Timestamp(1_815_399_720_000);

fn main() {
    let asked = std::env::args().nth(1).unwrap_or_default();
    print!("{}", made_up(&asked).render());
}

fn made_up(asked: &str) -> Overview {
    let (busy, alarmed) = (asked == "busy", asked == "alarmed");
    let (taken, stored) = match busy || alarmed {
        true => (day(0, alarmed), day(1, alarmed)),
        false => (Day::empty(NOW), Day::empty(NOW)),
    };
    let days = if busy || alarmed { 11 } else { 0 };
    let started_at = Timestamp(NOW.0 - 3 * MINUTE_MS - days * 24 * HOUR_MS);
    let rate = taken.bytes_per_hour(started_at);
    Overview {
        role: "gateway-out",
        name: "hospital-a".to_owned(),
        version: "0.1.0",
        fingerprint: "2ef2-a283-ecfa-bb31-cc19-b100-f496-f65b".to_owned(),
        now: NOW,
        started_at,
        not_ready: None,
        alarms: match alarmed {
            true => vec!["the card of site-c expires in 12 days: ask for the next one".to_owned()],
            false => Vec::new(),
        },
        reload_refused: None,
        figures: figures(busy, alarmed),
        series: vec![series("taken in", taken), series("receipts", stored)],
        routes: routes(busy, alarmed),
        tables: vec![refusals(alarmed), rejections(busy || alarmed)],
        relays: vec![relay("relay-1", !alarmed, 8_412_077), relay("relay-2", true, 1_204)],
        peers: peers(alarmed),
        disks: vec![Disk {
            what: "outbox".to_owned(),
            folder: PathBuf::from("/var/lib/sluis/outbox"),
            left: Some(1_846_203_117_568),
            bytes_per_hour: rate,
            provided: "if nothing leaves",
        }],
        configuration: FilesRead {
            files: vec![
                (PathBuf::from("/etc/sluis/gateway-out.toml"), Digest::of(b"a")),
                (PathBuf::from("/etc/sluis/conf.d/gateway-out/site-b.toml"), Digest::of(b"b")),
            ],
            at: started_at,
        },
    }
}

/// A working day: little at night, a hump in the morning and one after noon.
fn day(place: u64, alarmed: bool) -> Day {
    let throughput = Throughput::default();
    for slot in (0..144u64).rev() {
        let at = Timestamp(NOW.0 - slot * 10 * MINUTE_MS);
        let hour = (at.0 / HOUR_MS) % 24;
        let usual = match hour {
            0..6 => 6,
            6..8 => 160,
            8..12 => 820,
            12..13 => 380,
            13..17 => 700,
            17..20 => 240,
            _ => 40,
        };
        let wobble = (slot * 7919 + place * 104_729) % 97;
        let wanted = usual * (60 + wobble) / 100;
        let passed = if alarmed && place == 1 && slot < 5 { wanted / 4 } else { wanted };
        (0..passed).for_each(|_| throughput.count(540_000, at));
    }
    throughput.day(NOW)
}

fn figures(busy: bool, alarmed: bool) -> Vec<Figure> {
    let figure =
        |label, value: &str, note: &str| Figure { label, value: value.to_owned(), note: note.to_owned() };
    if !busy && !alarmed {
        return vec![
            figure("In custody", "0", "0 B sealed"),
            figure("Oldest instance", "–", "nothing is owed"),
            figure("Need an operator", "0", "parked or held"),
            figure("Receipts verified", "0", "0 pending"),
            figure("Rejected associations", "0", "since the start"),
        ];
    }
    let stuck = if alarmed { "3" } else { "0" };
    vec![
        figure(
            "In custody",
            if alarmed { "2\u{202f}731" } else { "418" },
            if alarmed { "1.5\u{a0}GB sealed" } else { "226\u{a0}MB sealed" },
        ),
        figure("Oldest instance", if alarmed { "47\u{a0}min" } else { "34\u{a0}s" }, "in custody"),
        figure("Need an operator", stuck, "parked or held"),
        figure(
            "Receipts verified",
            "1\u{202f}204\u{202f}556",
            if alarmed { "2\u{202f}731 pending" } else { "418 pending" },
        ),
        figure("Rejected associations", "12", "since the start; last one 5\u{a0}min 3\u{a0}s ago"),
    ]
}

fn routes(busy: bool, alarmed: bool) -> Vec<RouteLine> {
    let line = |from: &str,
                to: &str,
                standing,
                why: &str,
                oldest: Option<u64>,
                states: &[(&'static str, u64)],
                bytes| RouteLine {
        from: from.to_owned(),
        to: to.to_owned(),
        verdict: Verdict::new(standing, why),
        oldest: oldest.map(Duration::from_secs),
        states: states.to_vec(),
        bytes: Some(bytes),
    };
    if !busy && !alarmed {
        return vec![
            line("GW_MUNICH", "archive at site-b", Standing::Good, "nothing is owed", None, &[], 0),
            line(
                "GW_RESEARCH",
                "anonymous at site-c",
                Standing::Good,
                "nothing is owed; its window opens Mon 20:00",
                None,
                &[],
                0,
            ),
        ];
    }
    let munich = match alarmed {
        true => line(
            "GW_MUNICH",
            "archive at site-b",
            Standing::HeldUp,
            "the destination is away or asks to wait: 2\u{202f}316 deferred",
            Some(2840),
            &[("sealed", 102), ("deferred", 2316)],
            1_306_000_000,
        ),
        false => line(
            "GW_MUNICH",
            "archive at site-b",
            Standing::Good,
            "106 on their way",
            Some(34),
            &[("sealed", 22), ("relayed", 61), ("collected", 23)],
            57_240_000,
        ),
    };
    let night = line(
        "GW_RESEARCH",
        "anonymous at site-c",
        Standing::Waiting,
        "its window opens Mon 20:00",
        Some(18_000),
        &[("sealed", 310)],
        167_400_000,
    );
    let theatre = match alarmed {
        true => line(
            "GW_THEATRE",
            "workstation at site-b",
            Standing::Alarmed,
            "3 parked: an operator has to retry or discard them",
            Some(1501),
            &[("parked", 3)],
            1_620_000,
        ),
        false => line(
            "GW_THEATRE",
            "workstation at site-b",
            Standing::Good,
            "2 on their way",
            Some(1),
            &[("relayed", 2)],
            1_080_000,
        ),
    };
    vec![munich, theatre, night]
}

fn refusals(alarmed: bool) -> Table {
    let row = |by: &str, status: &str, meaning: &str, state: &str, count| {
        vec![
            Cell::Text(by.to_owned()),
            Cell::Noted(status.to_owned(), meaning.to_owned()),
            Cell::Text(state.to_owned()),
            Cell::count(count),
        ]
    };
    let theirs = row("workstation at site-b", "C123", "error: cannot understand", "parked", 3);
    let ours =
        row("GW_MUNICH, to the PACS", "A900", "error: data set does not match SOP class", "answered", 2);
    Table {
        title: "Refusals",
        caption:
            "By DICOM status: what we answered since the start, and what destinations keep from leaving."
                .to_owned(),
        columns: vec!["By", "Status", "State", "Count"],
        rows: if alarmed { vec![ours, theirs] } else { Vec::new() },
        empty: "Nothing was refused since the start, and nothing waits for an operator.",
    }
}

fn rejections(some: bool) -> Table {
    let row = |titles: &str, why: &str, count, minutes: u64| {
        let last = Timestamp(NOW.0 - minutes * MINUTE_MS);
        vec![
            Cell::Text(titles.to_owned()),
            Cell::Text(why.to_owned()),
            Cell::count(count),
            Cell::Time(Some(last), NOW),
        ]
    };
    let rows = vec![
        row("CT_NEW → GW_MUNCIH", "called AE title is no route's", 9, 5),
        row("US_WARD3 → GW_MUNICH", "calling AE title is not listed for the route", 3, 1700),
    ];
    Table {
        title: "Rejected associations",
        caption: "Associations that were turned away of late, the latest first.".to_owned(),
        columns: vec!["Titles", "Reason", "Count", "Last"],
        rows: if some { rows } else { Vec::new() },
        empty: "Nobody was turned away since the start.",
    }
}

fn relay(name: &str, connected: bool, size: u64) -> RelayLine {
    let ago = if connected { 0 } else { 47 * MINUTE_MS };
    RelayLine {
        name: name.to_owned(),
        connected,
        refused: None,
        last_contact: Some(Timestamp(NOW.0 - ago)),
        log: Shown {
            head: Some(Head {
                origin: format!("{name}/900c9dfebd902b6f0951b2899ecdabf9"),
                size,
                root: Digest::of(name.as_bytes()),
            }),
            seen_at: Some(Timestamp(NOW.0 - ago - 700)),
            ..Shown::default()
        },
    }
}

fn peers(alarmed: bool) -> Vec<PeerLine> {
    let peer = |name: &str, part, standing, why: &str, seconds: Option<u64>| PeerLine {
        name: name.to_owned(),
        part,
        card: Verdict::new(standing, why),
        last_contact: seconds.map(|seconds| Timestamp(NOW.0 - seconds * 1000)),
    };
    let soon = match alarmed {
        true => peer(
            "site-c",
            "receiving gateway",
            Standing::Alarmed,
            "2027-07-24, in 12\u{a0}d: rotate",
            Some(50_000),
        ),
        false => {
            peer("site-c", "receiving gateway", Standing::Good, "2028-11-02, in 479\u{a0}d", Some(50_000))
        }
    };
    vec![
        peer("hospital-a", "this gateway", Standing::Good, "2029-02-11, in 580\u{a0}d", None),
        peer("site-b", "receiving gateway", Standing::Good, "2028-12-30, in 537\u{a0}d", Some(1)),
        soon,
        peer(
            "relay-1",
            "relay",
            Standing::Good,
            "2029-01-05, in 543\u{a0}d",
            Some(u64::from(alarmed) * 2820),
        ),
        peer("relay-2", "relay", Standing::Good, "2029-01-05, in 543\u{a0}d", Some(0)),
    ]
}
