use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{DeliveryId, EpochId, Name, Secret, Timestamp};
use identity::LogKey;
use ledger::log::{Checkpoint, Salt, verify_consistency, verify_inclusion};

use super::*;
use crate::log::{Log, LogLimits};

fn log(entries: u64) -> Log {
    let key = LogKey::generate(Name::parse("relay-1").unwrap(), &Secret::new([1; 64]));
    let limits = LogLimits { interval: Duration::from_secs(1), entries_max: 10_000 };
    let (start, wall) = (Instant::now(), Timestamp(1_700_000_000_000));
    let mut log = Log::new(Arc::new(key), EpochId([2; 16]), limits, start, wall);
    for number in 0..entries {
        let digest = Digest::of(&number.to_be_bytes());
        log.accepted(&DeliveryId(digest.0), &digest, Salt([1; 16]), wall);
    }
    log.checkpoint(start + Duration::from_secs(1), wall);
    log
}

fn ask(view: &LogView, uri: &str) -> Answer {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let status = json!({ "name": "relay<1>", "blobs": 3, "counters": { "offers": 7 } });
    respond(&Ask { path: path.to_owned(), query }, view, &status).unwrap_or_else(|refused| refused)
}

fn json_of(view: &LogView, uri: &str) -> Value {
    let answer = ask(view, uri);
    assert_eq!(answer.status(), 200, "{uri}");
    serde_json::from_slice(answer.body()).unwrap()
}

fn digest(value: &Value) -> Digest {
    Digest::from_hex(value.as_str().unwrap()).unwrap()
}

#[test]
fn proofs_in_json_lead_to_the_signed_head() {
    let log = log(300);
    let view = log.view();
    let text = String::from_utf8(ask(&view, "/checkpoint").body().to_vec()).unwrap();
    let head = Checkpoint::parse(&text, log.public()).unwrap().head().clone();
    let path = |value: &Value| value["path"].as_array().unwrap().iter().map(digest).collect::<Vec<_>>();
    let proof = json_of(&view, "/log/inclusion?index=77");
    assert_eq!((digest(&proof["root"]), proof["size"].as_u64()), (head.root, Some(300)));
    assert_eq!(verify_inclusion(&digest(&proof["leaf_hash"]), 77, 300, &path(&proof), &head.root), Ok(()));
    let proof = json_of(&view, "/log/consistency?old=100");
    let old = digest(&proof["old_root"]);
    assert_eq!(verify_consistency((100, &old), (300, &head.root), &path(&proof)), Ok(()));
    let earlier = json_of(&view, "/log/inclusion?index=77&size=100");
    assert_eq!(digest(&earlier["root"]), old);

    let listed = json_of(&view, "/v2/ct/log?limit=2");
    assert_eq!((listed["ok"].as_bool(), digest(&listed["root"])), (Some(true), head.root));
    let entries = listed["entries"].as_array().unwrap();
    assert_eq!(entries.iter().map(|e| e["index"].as_u64().unwrap()).collect::<Vec<_>>(), [298, 299]);
    assert_eq!(digest(&entries[1]["tree_hash"]), head.root);
    assert_eq!(json_of(&view, "/v2/ct/log")["entries"].as_array().map(Vec::len), Some(20));
    assert_eq!(
        json_of(&view, "/log/entries?start=290&limit=256")["entries"].as_array().map(Vec::len),
        Some(10)
    );
    assert_eq!(ask(&view, "/tile/0/000").body().len(), 8192);
}

#[test]
fn what_cannot_be_answered_is_refused_as_json() {
    let view = log(300).view();
    let cases = [
        ("/v2/ct/log?limit=0", 400),
        ("/v2/ct/log?limit=257", 400),
        ("/v2/ct/log?limit=-1", 400),
        ("/v2/ct/log?limit=%2B1", 400),
        ("/v2/ct/log?limit=+1", 400),
        ("/v2/ct/log?limit=99999999999999999999", 400),
        ("/log/inclusion", 400),
        ("/log/inclusion?index=x", 400),
        ("/log/inclusion?index=300", 404),
        ("/log/inclusion?index=1&size=301", 404),
        ("/log/inclusion?index=100&size=100", 404),
        ("/log/consistency", 400),
        ("/log/consistency?old=301", 404),
        ("/log/consistency?old=1&new=301", 404),
        ("/log/consistency?old=200&new=100", 400),
        ("/log/entries?start=301", 404),
        ("/tile/0/001", 404),
        ("/tile/0/002.p/1", 404),
        ("/tile/0/1", 400),
        ("/tile/", 400),
        ("/tile/../checkpoint", 400),
    ];
    for (uri, status) in cases {
        let answer = ask(&view, uri);
        assert_eq!(answer.status(), status, "{uri}");
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert!(body["ok"] == json!(false) && body["error"].is_string(), "{uri}");
    }
}

#[test]
fn the_page_says_what_should_alarm_its_reader() {
    let view = log(3).view();
    let gateway = |revoked: Value| json!({ "name": "g1", "fingerprint": "ab", "deposit_for": ["g<2>"], "revoked": revoked });
    let cases = [
        (json!({}), "unknown</span>"),
        (json!({ "sandbox": { "enforced": true, "build": "c0ffee" } }), "c0ffee"),
        (json!({ "sandbox": { "enforced": false } }), "OFF</span> (--no-sandbox)"),
        (json!({ "alarms": ["the card of <g1> has ended"] }), "the card of &lt;g1&gt; has ended"),
        (json!({ "admission": [gateway(json!(null))] }), "not connected</td><td>g&lt;2&gt;"),
        (json!({ "admission": [gateway(json!("2026-01-01"))] }), "revoked</span> 2026-01-01"),
        (
            json!({ "admission": [gateway(json!(null))], "tenants": [{ "name": "g1", "sender": true }] }),
            "connected to deposit",
        ),
    ];
    for (status, says) in cases {
        let page = page::render(&view, &status, &[]);
        assert!(page.contains(says), "{status}: {page}");
    }
}

#[test]
fn the_page_runs_nothing_and_the_figures_are_there() {
    let view = log(30).view();
    let page = String::from_utf8(ask(&view, "/").body().to_vec()).unwrap();
    assert!(page.contains("relay&lt;1&gt;") && !page.contains("<script") && !page.contains("relay<1>"));
    assert!(page.contains("30 entries") && page.contains("2023-11-14T22:13:20Z"), "{page}");
    let figures = String::from_utf8(ask(&view, "/metrics").body().to_vec()).unwrap();
    for line in [
        "sluis_relay_blobs 3",
        "sluis_relay_offers_total 7",
        "sluis_relay_log_size 30",
        "sluis_relay_log_unsigned 0",
    ] {
        assert!(figures.lines().any(|it| it == line), "{line}: {figures}");
    }
}
