//! What is wrong now: conditions, from what a daemon says of itself.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::AlarmTable;
use crate::overview::words;

/// Something that somebody should do something about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Stays the same for as long as it stands.
    pub key: String,
    /// What is wrong, in a line.
    pub text: String,
    /// What to do first.
    pub remedy: &'static str,
    /// How long it has to stand before it is told, where that is not `[alarm] after`.
    pub after: Option<Duration>,
}

impl Condition {
    /// One of them.
    pub fn new(key: impl Into<String>, text: impl Into<String>, remedy: &'static str) -> Self {
        // One line, whatever it was made of: it becomes the subject of a mail.
        let line = |text: String| {
            text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "?")
        };
        Self { key: line(key.into()), text: line(text.into()), remedy, after: None }
    }
}

/// What every role says of itself: alarms of `status` (cards, rotation, a log that keeps silent), a configuration that was refused, a
/// process without its sandbox, relays.
pub(super) fn common(status: &Value) -> Vec<Condition> {
    let mut found = Vec::new();
    for alarm in texts(status, "alarms") {
        // Who it is about; what follows counts days, and would be another alarm each day.
        let counted = |word: &str| word.parse::<u64>().is_ok();
        let words = alarm.split_whitespace().map(|word| if counted(word) { "N" } else { word });
        let key = words.take(4).collect::<Vec<_>>().join(" ");
        found.push(Condition::new(key, alarm, "docs/runbook.md; for cards and keys docs/rotating-keys.md"));
    }
    if let Some(why) = status.pointer("/last_reload/refused").and_then(Value::as_str) {
        let text = format!("the last configuration was refused, the earlier one holds: {why}");
        found.push(Condition::new("reload", text, "mend the file, then reload"));
    }
    if status.pointer("/sandbox/enforced") == Some(&Value::Bool(false)) {
        found.push(Condition::new(
            "sandbox",
            "it runs without its sandbox",
            "it was started with --no-sandbox",
        ));
    }
    if let Some(why) = status.pointer("/admin_tls/refused").and_then(Value::as_str) {
        let text = format!("the certificate of the admin port was refused, the earlier one is shown: {why}");
        found.push(Condition::new("admin tls", text, "renew the files of [admin] tls, then reload"));
    }
    found.extend(relays(status));
    found
}

fn relays(status: &Value) -> Vec<Condition> {
    let mut found = Vec::new();
    for relay in list(status, "relays") {
        let name = said(relay, "name");
        if let Some(why) = relay.pointer("/log/distrust").and_then(Value::as_str) {
            let text = format!("relay {name} is not used: {why}");
            let remedy = "keep the evidence that the log names; relay trust NAME --reason TEXT only when it is explained";
            found.push(Condition::new(format!("distrust {name}"), text, remedy));
        }
        if relay.get("connected") == Some(&Value::Bool(false)) {
            let why = relay.get("refused").and_then(Value::as_str);
            let text = match why {
                Some(why) => format!("no connection to relay {name}: {why}"),
                None => format!("no connection to relay {name}"),
            };
            found.push(Condition::new(
                format!("relay {name}"),
                text,
                "UDP to the relay's port, and relay status there",
            ));
        }
    }
    found
}

/// What waits at gateway-out: instances that are too old, and those that need a person.
pub fn queue(status: &Value, table: &AlarmTable) -> Vec<Condition> {
    let mut found = Vec::new();
    let Some(queue) = status.get("queue") else { return found };
    if let Some(why) = queue.get("error").and_then(Value::as_str) {
        found.push(Condition::new(
            "queue",
            format!("the outbox's index cannot be read: {why}"),
            "the disk of the outbox",
        ));
    }
    for oldest in list(queue, "oldest") {
        let age = number(oldest, "age_s");
        if age >= table.oldest.duration().as_secs() {
            let destination = said(oldest, "destination");
            let text =
                format!("an instance for {destination} has waited for {}", plain(Duration::from_secs(age)));
            let remedy = "gateway-out status; gateway-out echo AE shows which leg does not answer";
            found.push(Condition::new(
                format!("oldest {} {destination}", said(oldest, "route")),
                text,
                remedy,
            ));
        }
    }
    for count in list(queue, "counts") {
        let (state, deliveries) = (said(count, "state"), number(count, "deliveries"));
        if state == "parked" && deliveries >= table.parked {
            let destination = said(count, "destination");
            let text = format!("parked for {destination}, until a person decides: {deliveries}");
            let remedy = "gateway-out queue ls --state parked; then queue retry or queue discard --reason";
            found.push(Condition::new(
                format!("parked {} {destination}", said(count, "route")),
                text,
                remedy,
            ));
        }
    }
    found
}

/// Destinations of gateway-in that do not answer.
pub fn destinations(status: &Value) -> Vec<Condition> {
    let down = list(status, "destinations").filter(|one| one.get("up") == Some(&Value::Bool(false)));
    down.map(|one| {
        let name = said(one, "name");
        let text = format!("destination {name} does not answer; its instances wait at their senders");
        Condition::new(format!("destination {name}"), text, "gateway-in echo NAME")
    })
    .collect()
}

/// Room on the disk of a folder.
pub fn disk(folder: &Path, table: &AlarmTable) -> Option<Condition> {
    // The path stays out of it: it may be that of a mount that somebody named after a person.
    let remedy = "find out why instances wait; never remove files of the outbox";
    let Ok(found) = rustix::fs::statvfs(folder) else {
        return Some(Condition::new("disk", "the disk of the daemon's folder cannot be looked at", remedy));
    };
    let is_short = |left: u64, of: u64| {
        let percent = (u128::from(left) * 100).checked_div(u128::from(of));
        percent.is_some_and(|percent| percent < u128::from(table.disk))
    };
    if is_short(found.f_bavail, found.f_blocks) {
        let free = found.f_bavail.saturating_mul(found.f_frsize) as f64 / (1_u64 << 30) as f64;
        let text = format!("less than {} % of the daemon's disk is free: {free:.1} GiB", table.disk);
        return Some(Condition::new("disk", text, remedy));
    }
    // A file system that does not count its files says that it can have none.
    is_short(found.f_favail, found.f_files).then(|| {
        let text = format!(
            "the daemon's disk has room for {} more files, less than {} %",
            found.f_favail, table.disk
        );
        Condition::new("disk", text, remedy)
    })
}

/// Gateways that a relay serves and that are not connected, where `[alarm] silent` asks for them.
pub fn tenants(status: &Value, table: &AlarmTable) -> Vec<Condition> {
    let Some(silent) = table.silent else { return Vec::new() };
    let is_away = |tenant: &&Value| {
        ["sender", "recipient"].iter().all(|role| tenant.get(role) == Some(&Value::Bool(false)))
    };
    let away = list(status, "tenants").filter(is_away);
    away.map(|tenant| {
        let name = said(tenant, "name");
        let text = format!("{name} has not been connected for {silent}");
        let remedy = "its administrator: status there; relay revoke NAME if it is to come no more";
        Condition { after: Some(silent.duration()), ..Condition::new(format!("silent {name}"), text, remedy) }
    })
    .collect()
}

/// For what also goes through gateways of mail and pagers: no spaces but plain ones.
fn plain(age: Duration) -> String {
    words::age(age).replace('\u{a0}', " ")
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn texts(value: &Value, key: &str) -> impl Iterator<Item = String> {
    list(value, key).filter_map(|one| one.as_str().map(str::to_owned)).collect::<Vec<_>>().into_iter()
}

fn said<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("?")
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(found: &[Condition]) -> Vec<&str> {
        found.iter().map(|condition| condition.text.as_str()).collect()
    }

    #[test]
    fn what_a_daemon_says_becomes_conditions_with_keys_that_stay() {
        let status = json!({
            "alarms": ["the card of clinic expires in 29 days: make and exchange a new one now"],
            "last_reload": { "refused": "gateway-out.toml:3:1:\n\u{1b}[31munknown key" },
            "sandbox": { "enforced": false },
            "relays": [
                { "name": "hub", "connected": false, "refused": null, "log": { "distrust": null } },
                { "name": "other", "connected": true, "refused": null, "log": { "distrust": "its log forked" } },
            ],
        });
        let found = common(&status);
        assert_eq!(
            texts(&found),
            [
                "the card of clinic expires in 29 days: make and exchange a new one now",
                "the last configuration was refused, the earlier one holds: gateway-out.toml:3:1: ?[31munknown key",
                "it runs without its sandbox",
                "no connection to relay hub",
                "relay other is not used: its log forked",
            ]
        );
        assert_eq!(found[0].key, "the card of clinic", "the days are counted down");
        assert!(
            common(&json!({ "alarms": [], "relays": [{ "name": "hub", "connected": true }] })).is_empty()
        );
        assert!(common(&json!(null)).is_empty());
    }

    #[test]
    fn limits_are_those_of_the_table() {
        let table = AlarmTable { parked: 3, ..AlarmTable::default() };
        let status = json!({ "queue": {
            "oldest": [
                { "route": "1", "destination": "archive", "age_s": 900 },
                { "route": "2", "destination": "research", "age_s": 899 },
            ],
            "counts": [
                { "route": "1", "destination": "archive", "state": "parked", "deliveries": 3 },
                { "route": "2", "destination": "research", "state": "parked", "deliveries": 2 },
                { "route": "2", "destination": "research", "state": "deferred", "deliveries": 9 },
            ],
        }});
        assert_eq!(
            texts(&queue(&status, &table)),
            [
                "an instance for archive has waited for 15 min",
                "parked for archive, until a person decides: 3"
            ]
        );
        assert_eq!(
            texts(&queue(&json!({ "queue": { "error": "disk I/O error" } }), &table)),
            ["the outbox's index cannot be read: disk I/O error"]
        );
        let tenants_of = |silent| {
            let status = json!({ "tenants": [
                { "name": "clinic", "sender": false, "recipient": false },
                { "name": "hospital", "sender": true, "recipient": false },
            ]});
            tenants(&status, &AlarmTable { silent, ..AlarmTable::default() })
        };
        assert!(tenants_of(None).is_empty());
        let silent = tenants_of(Some(crate::config::Span::from_secs(3600)));
        assert_eq!(texts(&silent), ["clinic has not been connected for 1h"]);
        assert_eq!(silent[0].after, Some(Duration::from_secs(3600)));
    }
}
