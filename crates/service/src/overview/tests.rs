use std::path::PathBuf;

use base::{Digest, Name, Secret};
use identity::{CardFields, IdentityKey};
use ledger::Head;

use super::*;
use crate::throughput::Throughput;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn card(name: &str, not_after: Option<Timestamp>) -> PeerCard {
    let key = IdentityKey::generate(Name::parse(name).unwrap(), &Secret::new([7; identity::SEEDS_BYTES]));
    key.card(CardFields { not_after, ..CardFields::new(1, &[]) })
}

fn relay(connected: bool) -> RelayLine {
    RelayLine {
        name: "relay-1".to_owned(),
        connected,
        refused: None,
        last_contact: Some(NOW),
        log: Shown {
            head: Some(Head { origin: "relay-1/ab".to_owned(), size: 1234, root: Digest([0xab; 32]) }),
            seen_at: Some(NOW),
            ..Shown::default()
        },
    }
}

fn route(from: &str, standing: Standing, states: &[(&'static str, u64)]) -> RouteLine {
    RouteLine {
        from: from.to_owned(),
        to: "archive at site-b".to_owned(),
        verdict: Verdict::new(standing, "so it is"),
        oldest: (!states.is_empty()).then_some(Duration::from_secs(754)),
        states: states.to_vec(),
        bytes: Some(0),
    }
}

/// A gateway to which nothing has come yet.
fn empty() -> Overview {
    Overview {
        role: "gateway-out",
        name: "hospital-a".to_owned(),
        version: "1.2.3",
        fingerprint: "12345 67890".to_owned(),
        now: NOW,
        started_at: Timestamp(NOW.0 - 60_000),
        not_ready: None,
        alarms: Vec::new(),
        reload_refused: None,
        figures: vec![Figure { label: "In custody", value: "0".to_owned(), note: "0 B sealed".to_owned() }],
        series: vec![series("taken in", Day::empty(NOW)), series("receipts", Day::empty(NOW))],
        routes: vec![route("GW", Standing::Good, &[])],
        tables: vec![rejections(&[])],
        relays: vec![relay(true)],
        peers: vec![PeerLine::of(
            &card("site-b", Some(Timestamp(NOW.0 + 400 * DAY_MS))),
            "receiving gateway",
            None,
            NOW,
        )],
        disks: vec![disk(Some(5_000_000_000), None)],
        configuration: FilesRead {
            files: vec![(PathBuf::from("gateway-out.toml"), Digest([1; 32]))],
            at: NOW,
        },
    }
}

fn disk(left: Option<u64>, bytes_per_hour: Option<u64>) -> Disk {
    Disk {
        what: "outbox".to_owned(),
        folder: PathBuf::from("outbox"),
        left,
        bytes_per_hour,
        provided: "if nothing leaves",
    }
}

fn rejections(titles: &[&str]) -> Table {
    let row =
        |titles: &&str| vec![Cell::Text((*titles).to_owned()), Cell::count(3), Cell::Time(Some(NOW), NOW)];
    Table {
        title: "Rejected associations",
        caption: "Of late.".to_owned(),
        columns: vec!["Titles", "Count", "Last"],
        rows: titles.iter().map(row).collect(),
        empty: "Nobody was turned away.",
    }
}

#[test]
fn an_empty_gateway_is_good_and_says_so_in_words() {
    let page = empty().render();
    for says in [
        "<title>good – gateway-out hospital-a</title>",
        "<span class=\"sign\" aria-hidden=\"true\">✓</span>good",
        "GW → archive at <span class=\"whole\">site-b</span>",
        "Nobody was turned away.",
        "no rate is known",
        "Shaded: before this process started",
        &"01".repeat(32),
        "1\u{202f}234 entries, root abababababababab…",
        "in 400\u{a0}d",
    ] {
        assert!(page.contains(says), "{says}: {page}");
    }
    assert!(!page.contains("id=\"alarms\"") && !page.contains("The same by the hour"), "{page}");
}

#[test]
fn a_busy_gateway_has_bars_and_a_rate() {
    let (taken, stored) = (Throughput::default(), Throughput::default());
    for minutes in (0..600).rev() {
        taken.count(1_000_000, Timestamp(NOW.0 - minutes * 60_000));
    }
    stored.count(1, NOW);
    let (taken, stored) = (taken.day(NOW), stored.day(NOW));
    let rate = taken.bytes_per_hour(Timestamp(0));
    let page = Overview {
        started_at: Timestamp(NOW.0 - 2 * DAY_MS),
        series: vec![series("taken in", taken), series("receipts", stored)],
        routes: vec![route("GW", Standing::Waiting, &[("sealed", 12_000), ("relayed", 2), ("held", 0)])],
        disks: vec![disk(Some(120_000_000_000), rate)],
        ..empty()
    }
    .render();
    assert!(page.matches("class=\"bar-0\"").count() >= 60, "{page}");
    assert_eq!(page.matches("class=\"bar-1\"").count(), 1);
    for says in [
        "<title>waiting – gateway-out",
        "12\u{202f}000\u{a0}sealed, 2\u{a0}relayed<",
        "12\u{a0}min",
        "if nothing leaves, at ",
        "The same by the hour",
    ] {
        assert!(page.contains(says), "{says}: {page}");
    }
    assert!(!page.contains("Shaded"), "all of the day is known");
}

#[test]
fn what_is_wrong_stands_at_the_top_and_the_worst_route_first() {
    let alarmed = Overview {
        alarms: vec!["the card of site-b expires".to_owned()],
        reload_refused: Some("gateway-out.toml:3:1: unknown key".to_owned()),
        not_ready: Some("the disk is gone".to_owned()),
        routes: vec![
            route("FINE", Standing::Good, &[]),
            route("SLOW", Standing::HeldUp, &[("deferred", 1)]),
            route("STUCK", Standing::Alarmed, &[("parked", 4)]),
        ],
        relays: vec![relay(false)],
        disks: vec![disk(None, None)],
        ..empty()
    };
    assert_eq!(alarmed.standing(), Standing::Alarmed);
    let page = alarmed.render();
    let places = [
        "Not ready: the disk is gone",
        "The last reload was refused",
        "the card of site-b expires",
        "STUCK",
        "SLOW",
        "FINE",
    ]
    .map(|says| page.find(says).unwrap_or_else(|| panic!("{says}: {page}")));
    assert!(places.is_sorted(), "{places:?}");
    assert!(page.contains("1 good, 1 held up, 1 alarmed"), "{page}");
    assert!(page.contains("not connected, and there is no other"), "{page}");
}

#[test]
fn each_part_alone_makes_the_whole_worse() {
    let ended = card("site-b", Some(Timestamp(NOW.0 - 1000)));
    let distrusted =
        RelayLine { log: Shown { distrust: Some("forked".to_owned()), ..Shown::default() }, ..relay(true) };
    let cases = [
        (empty(), Standing::Good),
        (Overview { relays: vec![relay(true), relay(false)], ..empty() }, Standing::Waiting),
        (Overview { relays: vec![relay(false)], ..empty() }, Standing::HeldUp),
        (Overview { relays: vec![relay(true), distrusted], ..empty() }, Standing::Alarmed),
        (Overview { peers: vec![PeerLine::of(&ended, "relay", None, NOW)], ..empty() }, Standing::Alarmed),
        (Overview { not_ready: Some("no".to_owned()), ..empty() }, Standing::Alarmed),
        (Overview { reload_refused: Some("no".to_owned()), ..empty() }, Standing::Alarmed),
    ];
    for (number, (overview, want)) in cases.into_iter().enumerate() {
        assert_eq!(overview.standing(), want, "case {number}");
    }
}

#[test]
fn what_others_call_themselves_stays_text() {
    let hostile = ["<script>alert(1)", "\"><img src=x>", "' onload='x", "</table><h1>", "&lt;b&gt;"];
    let page =
        Overview { tables: vec![rejections(&hostile)], alarms: vec!["<b>".to_owned()], ..empty() }.render();
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)") && page.contains("&amp;lt;b&amp;gt;"), "{page}");
    assert_eq!(page.matches("<h1>").count(), 1);
}

#[test]
fn a_page_loads_and_runs_nothing() {
    let page = empty().render();
    for never in ["<script", "src=", "url(", "@import", "<form", "<button", "http://", "https://", "onclick"]
    {
        assert!(!page.contains(never), "{never}");
    }
    assert!(page.contains("<meta http-equiv=\"refresh\" content=\"15\">"));
}
