//! C-ECHO end to end: succeeds only if the destination behind the receiving gateway answers one now.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::{AeTitle, Name, RouteId, Status};
use enquiry::{Answer, Question};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::{
    app::Shared,
    asks::{self, Reached},
    config::Echo,
    routes::{Leg, Route},
};

/// An answer of this age still counts as now: a destination is asked once in it at most, whoever asks how often.
const FRESH: Duration = Duration::from_secs(1);

/// What came of it, for one destination.
#[derive(Debug, Clone)]
pub struct Echoed {
    destination: Name,
    receiver: Name,
    /// Where it ended, and why; nothing where the destination answered.
    failed: Option<(Reached, String)>,
    legs: Times,
}

/// How long each leg took, there and back.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    total: Duration,
    relay: Option<Duration>,
    destination: Option<Duration>,
}

/// The last answer about each leg. The lock of a leg is held while it is asked about, so that askers stand in line.
#[derive(Debug, Default)]
pub struct Echoes(Mutex<HashMap<RouteId, Arc<tokio::sync::Mutex<Option<Last>>>>>);

#[derive(Debug)]
struct Last {
    at: Instant,
    calling: AeTitle,
    echoed: Echoed,
}

/// The status of a C-ECHO-RSP (PS3.7 §9.3.5.2): ours alone, or that of the whole path to every destination of every route
/// that the association may use.
pub async fn status(shared: &Shared, routes: &[Arc<Route>], calling: &AeTitle) -> Status {
    let far = routes.iter().filter(|route| route.echo == Echo::EndToEnd);
    let echoes = join_all(far.map(|route| end_to_end(shared, route, calling))).await;
    match echoes.iter().flatten().all(|echoed| echoed.failed.is_none()) {
        true => Status::SUCCESS,
        false => Status::PROCESSING_FAILURE,
    }
}

/// Asks through the whole path, in the name of this AE title: all destinations of a route at one time.
pub async fn end_to_end(shared: &Shared, route: &Route, calling: &AeTitle) -> Vec<Echoed> {
    join_all(route.legs.iter().map(|leg| through(shared, leg, route.echo_timeout, calling))).await
}

async fn through(shared: &Shared, leg: &Leg, within: Duration, calling: &AeTitle) -> Echoed {
    let line = {
        let mut all = shared.echoes.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(leg.id).or_default())
    };
    let mut last = line.lock().await;
    if let Some(last) = last.as_ref().filter(|last| last.at.elapsed() < FRESH) {
        if last.calling == *calling {
            return last.echoed.clone();
        }
        // A destination that sees the original AE title may answer another one otherwise.
        sleep_until(last.at + FRESH).await;
    }
    let echoed = ask(shared, leg, within, calling).await;
    *last = Some(Last { at: Instant::now(), calling: calling.clone(), echoed: echoed.clone() });
    echoed
}

async fn ask(shared: &Shared, leg: &Leg, within: Duration, calling: &AeTitle) -> Echoed {
    let began = Instant::now();
    let question = Question::Echo { calling: Some(calling.clone()) };
    let asked = asks::ask(shared, leg, &question, within).await;
    let mut legs = Times { total: began.elapsed(), ..Times::default() };
    let failed = match asked {
        Err(error) => Some((error.reached(), error.to_string())),
        Ok(replied) => {
            legs.relay = Some(replied.to_relay);
            match replied.answer {
                Answer::Echo(echo) => {
                    legs.destination = Some(Duration::from_millis(u64::from(echo.took_ms)));
                    let failed = !echo.outcome.is_answered();
                    failed.then(|| (Reached::Destination, format!("the destination {}", echo.outcome)))
                }
                _ => Some((Reached::Receiver, "the receiving gateway does not know the question".to_owned())),
            }
        }
    };
    let (destination, receiver) = (leg.destination.clone(), leg.receiver.name.clone());
    let took_ms = legs.total.as_millis();
    match &failed {
        None => info!(ae = %leg.ae, %destination, took_ms, "echo end to end answered"),
        Some((reached, reason)) => {
            warn!(ae = %leg.ae, %destination, %receiver, leg = reached.as_str(), reason, took_ms, "echo end to end failed");
        }
    }
    Echoed { destination, receiver, failed, legs }
}

impl Echoed {
    /// What `gateway-out echo` shows of it.
    fn json(&self) -> Value {
        let ms = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
        let Times { total, relay, destination } = self.legs;
        let between = relay.zip(destination).map(|(a, b)| total.saturating_sub(a).saturating_sub(b));
        json!({
            "destination": self.destination, "receiver": self.receiver, "answered": self.failed.is_none(),
            "failed_leg": self.failed.as_ref().map(|(leg, _)| leg.as_str()),
            "reason": self.failed.as_ref().map(|(_, reason)| reason),
            "total_ms": ms(total),
            "legs_ms": { "relay": relay.map(ms), "gateway-in": between.map(ms), "destination": destination.map(ms) },
        })
    }
}

/// For `gateway-out echo AE`.
pub async fn command(shared: &Shared, ask: &Value) -> Result<Value, String> {
    let title = |key: &str| ask.get(key).and_then(Value::as_str).map(AeTitle::parse);
    let ae = title("ae").ok_or("\"ae\" is missing")?.map_err(|error| error.to_string())?;
    let calling = title("calling").unwrap_or_else(|| Ok(ae.clone())).map_err(|error| error.to_string())?;
    let routes: Vec<_> = shared.settings.routes.iter().filter(|route| route.ae == ae).collect();
    if routes.is_empty() {
        let near = shared.settings.routes.nearest(&ae);
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        return Err(format!("no [[route]] has the AE title {ae}{hint}"));
    }
    let echoes = join_all(routes.iter().map(|route| end_to_end(shared, route, &calling))).await;
    let echoes: Vec<_> = echoes.into_iter().flatten().collect();
    Ok(json!({
        "ae": ae, "answered": echoes.iter().all(|echoed| echoed.failed.is_none()),
        "destinations": echoes.iter().map(Echoed::json).collect::<Vec<_>>(),
    }))
}

/// [`command`] for people.
pub fn text(answer: &Value) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for one in answer.get("destinations").and_then(Value::as_array).into_iter().flatten() {
        let word = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        let place = format!("{} at {}", word("destination"), word("receiver"));
        match one.get("answered") {
            Some(Value::Bool(true)) => {
                let _ = writeln!(text, "{place} answered");
            }
            _ => {
                let _ = writeln!(text, "{place}: failed at {}: {}", word("failed_leg"), word("reason"));
            }
        }
        let ms = |value: Option<&Value>| value.and_then(Value::as_f64);
        let legs = ["relay", "gateway-in", "destination"]
            .map(|leg| (leg, ms(one.pointer(&format!("/legs_ms/{leg}")))));
        for (leg, took) in legs.into_iter().chain([("total", ms(one.get("total_ms")))]) {
            if let Some(took) = took {
                let _ = writeln!(text, "  {leg:<12} {took:>8.1} ms");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_shown_leg_by_leg() {
        let ms = Duration::from_millis;
        let name = |text: &str| Name::parse(text).unwrap();
        let mut echoed = Echoed {
            destination: name("archive"),
            receiver: name("munich"),
            failed: None,
            legs: Times { total: ms(90), relay: Some(ms(20)), destination: Some(ms(12)) },
        };
        let shown = |echoed: &Echoed| text(&json!({ "destinations": [echoed.json()] }));
        assert_eq!(
            shown(&echoed),
            "archive at munich answered\n  relay            20.0 ms\n  gateway-in       58.0 ms\n  destination      12.0 ms\n  total            90.0 ms\n"
        );
        echoed.failed = Some((Reached::Relay, "no relay is connected".to_owned()));
        echoed.legs = Times::default();
        assert_eq!(
            shown(&echoed),
            "archive at munich: failed at relay: no relay is connected\n  total             0.0 ms\n"
        );
    }
}
