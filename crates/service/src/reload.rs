//! Reading the configuration again while running: on SIGHUP, or when the admin port is asked to.

use std::io;
use std::path::Path;

use anyhow::{Result, bail};
use base::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::admin::{self, RequestError};
use crate::peers::admin_access;

/// Reloads that wait for the running one.
const WAITING_MAX: usize = 16;

/// What changed, or why everything stays as it was.
pub type Reloaded = Result<Value, String>;

/// What of a configuration holds for the whole life of the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fixed(Map<String, Value>);

impl Fixed {
    /// All of it but these keys, which a reload takes over: `table`, or `table.key` (in each table of an array). Tables that have a
    /// `name` are known by it, wherever they stand. `[identity]` is taken over, or refused, by every role; `[alarm]` is no daemon's:
    /// `alarm send` reads it each time.
    pub fn new(config: &impl Serialize, taken_over: &[&str]) -> Self {
        let mut all = serde_json::to_value(config).unwrap_or_default();
        taken_over.iter().chain(&["identity", "alarm"]).for_each(|key| remove(&mut all, key));
        match all {
            Value::Object(tables) => {
                Self(tables.into_iter().map(|(key, table)| (key, by_name(table))).collect())
            }
            _ => Self(Map::new()),
        }
    }

    /// Whether a table that has this name, of an array, is the same in another reading.
    pub fn is_same(&self, later: &Self, array: &str, name: &str) -> bool {
        let of = |fixed: &Self| fixed.0.get(array).and_then(|tables| tables.get(name).cloned());
        of(self) == of(later)
    }

    /// The tables in which another reading differs: they count from the next start, which is warned of.
    pub fn waiting(&self, later: &Self) -> Vec<String> {
        let differ = later.0.iter().filter(|(name, table)| self.0.get(*name) != Some(table));
        let gone = self.0.keys().filter(|name| !later.0.contains_key(*name));
        let waiting: Vec<String> = differ.map(|(name, _)| name).chain(gone).cloned().collect();
        if !waiting.is_empty() {
            warn!(tables = waiting.join(", "), "changed, and taken over at the next start only");
        }
        waiting
    }
}

/// An array of tables with names, as a table of them.
fn by_name(value: Value) -> Value {
    let Value::Array(all) = &value else { return value };
    let name = |one: &Value| Some(one.get("name")?.as_str()?.to_owned());
    let named: Option<Map<String, Value>> = all.iter().map(|one| Some((name(one)?, one.clone()))).collect();
    match named {
        Some(named) if named.len() == all.len() => Value::Object(named),
        _ => value,
    }
}

fn remove(value: &mut Value, key: &str) {
    match (value, key.split_once('.')) {
        (Value::Array(all), _) => all.iter_mut().for_each(|one| remove(one, key)),
        (Value::Object(table), Some((name, rest))) => {
            table.get_mut(name).into_iter().for_each(|inner| remove(inner, rest))
        }
        (Value::Object(table), None) => drop(table.remove(key)),
        _ => {}
    }
}

/// How the last reload ended, for `status`.
#[derive(Clone, Debug)]
pub struct LastReload {
    at: Timestamp,
    refused: Option<String>,
}

/// Asks for the configuration to be read again.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<oneshot::Sender<Reloaded>>);

/// Who asked. A daemon takes one after the other and answers each.
#[derive(Debug)]
pub struct ReloadRequests {
    asked: mpsc::Receiver<oneshot::Sender<Reloaded>>,
    hangups: Option<Signal>,
}

/// One who waits for the answer; nobody does after a signal.
#[derive(Debug)]
pub struct ReloadRequest(Option<oneshot::Sender<Reloaded>>);

impl LastReload {
    /// It ended now.
    pub fn now(reloaded: &Reloaded) -> Self {
        Self { at: Timestamp::now(), refused: reloaded.as_ref().err().cloned() }
    }

    /// Why everything stayed as it was, if it did.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// When, and why everything stayed as it was, if it did.
    pub fn json(&self) -> Value {
        json!({ "at": crate::text::utc(self.at), "refused": self.refused })
    }
}

impl Reloads {
    /// Both ends. From here on SIGHUP does not end the process any more.
    pub fn new() -> io::Result<(Self, ReloadRequests)> {
        let (asking, asked) = mpsc::channel(WAITING_MAX);
        Ok((Self(asking), ReloadRequests { asked, hangups: Some(signal(SignalKind::hangup())?) }))
    }

    /// Both ends of something that only the admin port asks for.
    pub fn without_signal() -> (Self, ReloadRequests) {
        let (asking, asked) = mpsc::channel(WAITING_MAX);
        (Self(asking), ReloadRequests { asked, hangups: None })
    }

    /// Has the configuration read again, and says what came of it.
    pub async fn ask(&self) -> Reloaded {
        let (reply, answer) = oneshot::channel();
        let stopping = || "the daemon is stopping".to_owned();
        self.0.send(reply).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

impl ReloadRequests {
    /// The next who asks. Cancel safe.
    pub async fn next(&mut self) -> ReloadRequest {
        let hangup = async {
            match &mut self.hangups {
                Some(hangups) => hangups.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            signal = hangup => {
                info!("SIGHUP: the configuration is read again");
                if signal.is_none() {
                    self.hangups = None;
                }
                ReloadRequest(None)
            }
            asked = self.asked.recv() => match asked {
                Some(reply) => ReloadRequest(Some(reply)),
                None => std::future::pending().await,
            },
        }
    }
}

impl ReloadRequest {
    /// Says what came of it, in the log and to whoever waits.
    pub fn answer(self, reloaded: Reloaded) {
        match &reloaded {
            Ok(changed) => info!(%changed, "configuration taken over"),
            Err(reason) => error!(reason, "configuration refused; everything stays as it was"),
        }
        self.reply(reloaded);
    }

    /// Says it only to whoever waits.
    pub fn reply(self, answer: Reloaded) {
        if let Some(reply) = self.0 {
            let _ = reply.send(answer);
        }
    }
}

/// `reload`: has the running daemon read its configuration again, and says what came of it.
pub async fn command(config: &Path, as_json: bool) -> Result<()> {
    let changed = match admin::ask_to_reload(admin_access(config)?).await {
        Err(RequestError::Refused { status: 409, text }) => bail!("everything stays as it was: {text}"),
        asked => asked?,
    };
    if as_json {
        println!("{}", serde_json::to_string_pretty(&changed)?);
    } else {
        print!("{}", text(&changed));
    }
    match changed.get("refused").and_then(Value::as_str) {
        Some(reason) => bail!("it took over the revocations, and nothing else: {reason}"),
        None => Ok(()),
    }
}

fn text(changed: &Value) -> String {
    let mut text = "the running daemon has read its configuration again\n".to_owned();
    for (name, value) in changed.as_object().into_iter().flatten() {
        let name = name.replace('_', " ");
        match value {
            Value::Array(tables) if tables.is_empty() => {}
            Value::Array(tables) => {
                let tables: Vec<_> = tables.iter().filter_map(Value::as_str).collect();
                text.push_str(&format!("{name}: {}\n", tables.join(", ")));
            }
            Value::String(said) => text.push_str(&format!("{name}: {said}\n")),
            other => text.push_str(&format!("{name}: {other}\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_a_reload_does_not_take_over_wait() {
        let of = |config: Value| Fixed::new(&config, &["route", "dicom.tls.cert", "to.tls.key"]);
        let before = of(
            json!({ "dicom": { "listen": 1, "tls": { "cert": 1 } }, "log": 2, "route": 3, "to": [{ "ae": 1, "tls": { "key": 1 } }, { "ae": 2 }] }),
        );
        let rest = |tables: Value| {
            let mut all = json!({ "dicom": { "listen": 1, "tls": { "cert": 2 } }, "log": 2, "to": [{ "ae": 1, "tls": { "key": 2 } }, { "ae": 2 }] });
            for (name, table) in tables.as_object().unwrap() {
                all[name] = table.clone();
            }
            all
        };
        // (what is read later, tables that wait)
        let cases = [
            (json!({ "route": 4 }), vec![]),
            (json!({}), vec![]),
            (json!({ "dicom": { "listen": 2, "tls": {} } }), vec!["dicom"]),
            (json!({ "dicom": { "listen": 1, "tls": { "listen": 2 } } }), vec!["dicom"]),
            (json!({ "to": [{ "ae": 1, "tls": {} }, { "ae": 3 }] }), vec!["to"]),
            (json!({ "to": [{ "ae": 1, "tls": {} }], "admin": 1 }), vec!["admin", "to"]),
        ];
        for (tables, want) in cases {
            assert_eq!(before.waiting(&of(rest(tables.clone()))), want, "{tables}");
        }
        let gone = Fixed::new(&json!({ "log": 2 }), &["dicom", "to"]);
        assert_eq!(before.waiting(&gone), ["dicom", "to"]);
        let named = |names: [&str; 2], ae: u8, alarm: u8| {
            let to = names.map(|name| json!({ "name": name, "ae": if name == "a" { ae } else { 7 } }));
            of(json!({ "to": to, "alarm": alarm }))
        };
        assert_eq!(named(["a", "b"], 1, 1).waiting(&named(["b", "a"], 1, 2)), Vec::<String>::new());
        assert_eq!(named(["a", "b"], 1, 1).waiting(&named(["b", "a"], 2, 1)), ["to"]);
        assert_eq!(named(["a", "b"], 1, 1).waiting(&named(["c", "a"], 1, 1)), ["to"]);
        let (one, other) = (named(["a", "b"], 1, 1), named(["b", "a"], 2, 1));
        assert_eq!(["a", "b"].map(|name| one.is_same(&other, "to", name)), [false, true]);
    }

    #[test]
    fn what_came_of_it_is_a_line_each() {
        let changed =
            json!({ "routes": 2, "keys_changed": false, "count_from_the_next_start": ["dicom", "log"] });
        assert_eq!(
            text(&changed),
            "the running daemon has read its configuration again\ncount from the next start: dicom, log\nkeys changed: false\nroutes: 2\n"
        );
        assert_eq!(text(&json!({ "count_from_the_next_start": [] })).lines().count(), 1);
    }

    #[tokio::test]
    async fn whoever_asks_is_answered_one_after_the_other() {
        let (reloads, mut requests) = Reloads::new().unwrap();
        let both = async { tokio::join!(reloads.ask(), reloads.ask()) };
        let daemon = async {
            requests.next().await.answer(Ok(json!({ "tenants": 2 })));
            requests.next().await.answer(Err("x.toml:1:1: no".to_owned()));
        };
        let ((first, second), ()) = tokio::join!(both, daemon);
        assert_eq!(first, Ok(json!({ "tenants": 2 })));
        assert_eq!(second, Err("x.toml:1:1: no".to_owned()));
        drop(requests);
        assert_eq!(reloads.ask().await, Err("the daemon is stopping".to_owned()));
    }
}
