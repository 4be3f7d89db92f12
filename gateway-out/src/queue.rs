//! `queue` and `why`: what an operator sees of deliveries, and the few things that may be done to them.

use anyhow::{Context as _, Result, anyhow};
use base::{DeliveryId, Timestamp};
use serde_json::{Value, json};
use service::exit::UsageError;
use spool::{Delivery, Event, Filter, Found, FoundBy, Operator, Queue, State};

/// Deliveries listed at most, unless asked otherwise.
pub const LIST_MAX: u32 = 1000;
/// Deliveries that `why` shows at most.
pub const FOUND_MAX: u32 = 100;

/// A delivery as `queue ls --json` shows it. No patient data.
pub fn delivery_json(row: &Delivery, now: Timestamp) -> Value {
    json!({
        "delivery": row.delivery,
        "object": row.object,
        "route": row.route,
        "receiver": row.receiver,
        "destination": row.destination,
        "sop_class": row.sop_class,
        "state": row.state.as_str(),
        "attempt": row.attempt.0,
        "status": row.status.map(|status| format!("{:04X}", status.0)),
        "meaning": row.status.and_then(meaning),
        "reason": row.reason,
        "alarm": row.alarm,
        "changed_content": row.changed_content,
        "deferrals": row.deferrals,
        "nacks": row.nacks,
        "joined": row.joined,
        "sealed_bytes": row.sealed.sealed_len,
        "data_bytes": row.sealed.data_len,
        "received_at": row.received_at,
        "next_at": row.next_at,
        "ended_at": row.ended_at,
        "age_s": now.since(row.received_at).as_secs(),
    })
}

/// What a destination says with a status of a C-STORE; gateway-in says 0122, too, of what its destination accepted no presentation
/// context for.
pub(crate) fn meaning(status: base::Status) -> Option<&'static str> {
    match status.0 {
        0x0122 => Some("refused: SOP class not supported, or not in this transfer syntax"),
        0xC010 => {
            Some("cannot understand, or the receiving gateway could not re-encode it: the receipt says which")
        }
        0xC011 => {
            Some("cannot understand, or the receiving gateway could not coerce it: the receipt says which")
        }
        _ => dimse::status_row(dimse::Service::Store, status).map(|row| row.meaning),
    }
}

/// One line of `queue ls`.
pub fn delivery_line(row: &Delivery, now: Timestamp) -> String {
    let status = row.status.map_or_else(|| "-".to_owned(), |status| format!("{:04X}", status.0));
    format!(
        "{}  {:<20} {:>7} s  try {:<3} {status}  {} → {}  {}{}",
        row.delivery.short(),
        row.state.as_str(),
        now.since(row.received_at).as_secs(),
        row.attempt.0,
        row.receiver,
        row.destination,
        if row.alarm { "! " } else { "" },
        row.reason.as_deref().unwrap_or(""),
    )
}

/// What `queue ls` lists.
#[derive(Debug)]
pub struct Listed {
    /// The oldest, as many as were asked for.
    pub rows: Vec<Delivery>,
    /// Whether there are others behind them.
    pub more: bool,
}

/// Deliveries that have not ended, or all of a state.
pub async fn list(queue: &Queue, state: Option<State>, all: bool, limit: u32) -> Result<Listed> {
    let filter = Filter {
        states: state.into_iter().collect(),
        open: !all && state.is_none(),
        // One more tells whether there are more.
        limit: limit.saturating_add(1),
        ..Filter::default()
    };
    let mut rows = queue.list(filter).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > shown;
    rows.truncate(shown);
    Ok(Listed { rows, more })
}

/// What is said, beside the list, of a list that has no end.
pub fn more_text(shown: usize) -> String {
    format!(
        "the oldest {shown} are listed and there are more; --limit lists more of them, `status` counts all"
    )
}

/// The delivery with this id, or with this beginning of an id.
pub async fn one(queue: &Queue, id: &str) -> Result<Delivery> {
    if let Ok(id) = DeliveryId::from_hex(id) {
        return queue.delivery(id).await?.ok_or_else(|| anyhow!("no delivery {id}"));
    }
    let mut found = queue.find(id, 2).await?;
    match (found.pop(), found.pop()) {
        (Some(one), None) => Ok(one.delivery),
        (None, _) => Err(anyhow!("no delivery begins with {id}; `queue ls --all` lists them")),
        (Some(_), Some(_)) => Err(anyhow!("several deliveries begin with {id}; give more digits")),
    }
}

/// What an operator means: one delivery, or all open ones that a UID, accession number or patient id leads to. What could mean two things
/// is refused: short numbers are patient ids here and accession numbers there.
pub async fn meant(queue: &Queue, text: &str) -> Result<Vec<Delivery>> {
    let text = text.trim();
    if DeliveryId::from_hex(text).is_ok() {
        return Ok(vec![one(queue, text).await?]);
    }
    let mut found = queue.find(text, u32::MAX).await?;
    // An identifier that is one says more than the first digits of a delivery that happen to be the same.
    let is_prefix = |found: &Found| matches!(found.by, FoundBy::Delivery | FoundBy::Object);
    if found.iter().any(|one| !is_prefix(one)) {
        found.retain(|one| !is_prefix(one));
    } else if found.len() > 1 {
        return Err(anyhow!("several deliveries begin with {text}; give more digits"));
    }
    if let (Some(first), Some(other)) =
        (found.first(), found.iter().find(|one| Some(one.by) != found.first().map(|first| first.by)))
    {
        let (first, other) = (first.by, other.by);
        return Err(anyhow!(
            "{text} is a {first} of one and a {other} of another; name the study by its UID"
        ));
    }
    let mut rows: Vec<Delivery> = found.into_iter().map(|found| found.delivery).collect();
    rows.retain(|row| !row.state.is_ended());
    match rows.is_empty() {
        true => Err(anyhow!("nothing that has not ended goes by {text}; `queue ls --all` lists all")),
        false => Ok(rows),
    }
}

/// One delivery by its id or the first digits of it, never by what else might be the same.
pub async fn by_id(queue: &Queue, id: &str) -> Result<Delivery> {
    let row = one(queue, id.trim()).await?;
    match row.delivery.to_string().starts_with(&id.trim().to_lowercase()) {
        true => Ok(row),
        false => Err(anyhow!("no delivery begins with {id}; `queue ls --all` lists them")),
    }
}

/// Who does it: the login name, which goes into the audit table.
pub fn operator(reason: &str) -> Result<Operator> {
    if reason.trim().is_empty() {
        return Err(UsageError("give a --reason; it goes into the audit table".to_owned()).into());
    }
    let who = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    Ok(Operator { who: who.unwrap_or_else(|| "unknown".to_owned()), reason: reason.trim().to_owned() })
}

/// The life of a delivery, for `queue show` and `why`.
pub async fn life(queue: &Queue, row: &Delivery) -> Result<(Vec<Event>, Value)> {
    let events = queue.history(row.delivery).await.context("its history cannot be read")?;
    let lines = events.iter().map(|event| {
        json!({
            "at": event.at,
            "what": event.kind.as_str(),
            "attempt": event.attempt.0,
            "status": event.status.map(|status| format!("{:04X}", status.0)),
            "detail": event.detail,
        })
    });
    let mut value = delivery_json(row, Timestamp::now());
    if let Value::Object(map) = &mut value {
        map.insert("history".to_owned(), Value::Array(lines.collect()));
    }
    Ok((events, value))
}

/// As text.
pub fn life_text(row: &Delivery, events: &[Event]) -> String {
    let mut text = format!(
        "delivery {}\n  object {}\n  to {} at {}, route {}\n  {} of {} bytes, SOP class {}\n",
        row.delivery,
        row.object,
        row.destination,
        row.receiver,
        row.route,
        row.state,
        row.sealed.data_len,
        row.sop_class
    );
    if let Some(status) = row.status {
        let meaning = meaning(status).map_or_else(String::new, |meaning| format!(": {meaning}"));
        text.push_str(&format!("  last status {:04X}{meaning}\n", status.0));
    }
    if let Some(reason) = &row.reason {
        text.push_str(&format!("  {reason}\n"));
    }
    for event in events {
        let status = event.status.map_or_else(String::new, |status| format!(" {:04X}", status.0));
        let detail = event.detail.as_deref().unwrap_or("");
        text.push_str(&format!(
            "  {}  try {}  {}{status}  {detail}\n",
            utc(event.at),
            event.attempt.0,
            event.kind
        ));
    }
    text
}

/// Everything that a UID, accession number, patient id or delivery id leads to.
pub async fn why(queue: &Queue, text: &str) -> Result<Vec<(Delivery, Vec<Event>, Value)>> {
    let mut lives = Vec::new();
    for found in queue.find(text, FOUND_MAX).await? {
        let (events, mut value) = life(queue, &found.delivery).await?;
        if let Value::Object(map) = &mut value {
            map.insert("found_by".to_owned(), json!(found.by.to_string()));
        }
        lives.push((found.delivery, events, value));
    }
    Ok(lives)
}

/// Coordinated universal time, to the millisecond.
pub fn utc(at: Timestamp) -> String {
    let nanos = i128::from(at.0) * 1_000_000;
    time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| at.0.to_string())
}
