//! What the admin port tells of the log: checkpoint, tiles, entries and proofs for machines, a page for people, figures
//! for Prometheus. All of it is computed from a view, beside the relay's loop, and goes no further than the signed head.

mod metrics;
mod page;

use std::future::Future;
use std::pin::Pin;

use base::Digest;
use ledger::log::Tile;
use serde_json::{Value, json};
use service::pages::{Answer, Ask};
use tokio::sync::{mpsc, oneshot};

use crate::log::LogView;

/// What is answered here, in axum's notation.
pub(crate) const PATHS: &[&str] = &[
    "/",
    "/checkpoint",
    "/tile/{*path}",
    "/log/entries",
    "/log/inclusion",
    "/log/consistency",
    "/v2/ct/log",
    "/metrics",
];

/// The most entries in one answer.
const ENTRIES_MAX: u64 = 256;
/// Entries where no limit is given, and on the page.
const ENTRIES: u64 = 20;

/// Questions to the loop.
#[derive(Clone, Debug)]
pub(crate) struct Questions {
    /// For the log as it is.
    pub(crate) log: mpsc::Sender<oneshot::Sender<LogView>>,
    /// What the status says before it.
    pub(crate) head: Value,
    /// For the status.
    pub(crate) status: mpsc::Sender<oneshot::Sender<Value>>,
}

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Answers each question with what the loop says now.
pub(crate) fn answer(questions: Questions) -> impl Fn(Ask) -> Answering + Send + Sync + 'static {
    move |ask| {
        let Questions { log, head, status } = questions.clone();
        Box::pin(async move {
            let (Some(view), Some(status)) = (get(&log).await, get(&status).await) else {
                return Answer::refused(503, "the relay is stopping");
            };
            let mut whole = head;
            if let (Some(whole), Value::Object(status)) = (whole.as_object_mut(), status) {
                whole.extend(status);
                whole.insert("sandbox".to_owned(), json!(sandbox::report()));
            }
            respond(&ask, &view, &whole).unwrap_or_else(|refused| refused)
        })
    }
}

async fn get<T>(questions: &mpsc::Sender<oneshot::Sender<T>>) -> Option<T> {
    let (question, answer) = oneshot::channel();
    questions.send(question).await.ok()?;
    answer.await.ok()
}

fn respond(ask: &Ask, view: &LogView, status: &Value) -> Result<Answer, Answer> {
    match ask.path.as_str() {
        "/" => Ok(Answer::html(page::render(view, status, &view.recent(ENTRIES)))),
        "/checkpoint" => Ok(Answer::text(view.checkpoint().to_text())),
        "/log/entries" => entries(ask, view),
        "/log/inclusion" => inclusion(ask, view),
        "/log/consistency" => consistency(ask, view),
        "/v2/ct/log" => recent(ask, view),
        "/metrics" => {
            Ok(Answer::new("text/plain; version=0.0.4; charset=utf-8", metrics::render(view, status)))
        }
        path => tile(path, view),
    }
}

fn tile(path: &str, view: &LogView) -> Result<Answer, Answer> {
    let tile = path.strip_prefix("/tile/").and_then(Tile::parse);
    let tile = tile.ok_or_else(|| Answer::refused(400, "not the path of a tile"))?;
    let bytes =
        view.tile(&tile).ok_or_else(|| Answer::refused(404, "the signed log does not reach so far"))?;
    Ok(Answer::new("application/octet-stream", bytes))
}

fn limit(ask: &Ask) -> Result<u64, Answer> {
    match ask.number("limit", ENTRIES)? {
        limit @ 1..=ENTRIES_MAX => Ok(limit),
        _ => Err(Answer::refused(400, &format!("limit is 1 to {ENTRIES_MAX}"))),
    }
}

fn recent(ask: &Ask, view: &LogView) -> Result<Answer, Answer> {
    let entries = view.recent(limit(ask)?);
    Ok(Answer::json(&json!({ "ok": true, "root": view.checkpoint().head().root, "entries": entries })))
}

fn entries(ask: &Ask, view: &LogView) -> Result<Answer, Answer> {
    let (start, limit) = (ask.number("start", 0)?, limit(ask)?);
    if start > view.size() {
        return Err(Answer::refused(404, "the signed log does not reach so far"));
    }
    let entries: Vec<_> = (start..view.size()).take(usize::try_from(limit).unwrap_or(0)).collect();
    let entries: Vec<_> = entries.into_iter().filter_map(|index| view.entry(index)).collect();
    Ok(Answer::json(&json!({ "ok": true, "size": view.size(), "entries": entries })))
}

fn needed(ask: &Ask, name: &str) -> Result<u64, Answer> {
    if !ask.query.contains_key(name) {
        return Err(Answer::refused(400, &format!("give {name}")));
    }
    ask.number(name, 0)
}

fn within(view: &LogView, name: &str, size: u64) -> Result<Digest, Answer> {
    view.root_at(size).ok_or_else(|| {
        Answer::refused(404, &format!("{name} {size} is beyond the signed size {}", view.size()))
    })
}

fn inclusion(ask: &Ask, view: &LogView) -> Result<Answer, Answer> {
    let (index, size) = (needed(ask, "index")?, ask.number("size", view.size())?);
    let root = within(view, "size", size)?;
    let path = view.prove_inclusion(index, size);
    let path =
        path.ok_or_else(|| Answer::refused(404, &format!("index {index} is not below size {size}")))?;
    let leaf_hash = view.entry(index).map(|entry| entry.leaf_hash);
    let origin = view.checkpoint().head().origin.as_str();
    Ok(Answer::json(&json!({
        "ok": true, "origin": origin, "index": index, "size": size, "leaf_hash": leaf_hash, "root": root, "path": path
    })))
}

fn consistency(ask: &Ask, view: &LogView) -> Result<Answer, Answer> {
    let (old, new) = (needed(ask, "old")?, ask.number("new", view.size())?);
    let new_root = within(view, "new", new)?;
    let old_root = within(view, "old", old)?;
    let path = view.prove_consistency(old, new);
    let path = path.ok_or_else(|| Answer::refused(400, &format!("old {old} is larger than new {new}")))?;
    let origin = view.checkpoint().head().origin.as_str();
    Ok(Answer::json(&json!({
        "ok": true, "origin": origin, "old": old, "new": new, "old_root": old_root, "new_root": new_root, "path": path
    })))
}

#[cfg(test)]
mod tests;
