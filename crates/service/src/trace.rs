//! `trace`: what passes on the associations of an AE title, as the running daemon sees it, a JSON object a line; and the command
//! that shows it. This module knows nothing of DICOM: it is given values, and who asked for which.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::stream;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::pages::Ask;
use crate::peers::admin_access;

/// Where it is asked for.
pub(crate) const PATH: &str = "/trace";
/// Who may look at one time: each costs the associations that are looked at some work.
const FOLLOWERS_MAX: usize = 4;
/// Nobody forgets it for longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// One who looks, and until when.
struct Follower<T> {
    values: Receiver<T>,
    title: String,
    until: Instant,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

/// `GET /trace?ae=TITLE&seconds=N` answers with what is of that title, as it comes, until the time is over or `stop` ends.
pub fn routes<T, F, O>(follow: F, is_of: O, stop: CancellationToken) -> Router
where
    T: Serialize + Clone + Send + 'static,
    F: Fn() -> Receiver<T> + Send + Sync + 'static,
    O: Fn(&T, &str) -> bool + Clone + Send + Sync + 'static,
{
    let (follow, places) = (Arc::new(follow), Arc::new(Semaphore::new(FOLLOWERS_MAX)));
    let handler = move |request: Request| {
        let ask = Ask::of(request.uri());
        let answer =
            match (ask.number("seconds", 600), ask.query.get("ae"), places.clone().try_acquire_owned()) {
                (Err(refused), ..) => refused.into_response(),
                (_, None, _) => (StatusCode::BAD_REQUEST, "whose? give ae=TITLE\n").into_response(),
                (.., Err(_)) => {
                    (StatusCode::TOO_MANY_REQUESTS, "others look already; one of them has to end\n")
                        .into_response()
                }
                (Ok(seconds), Some(title), Ok(place)) => streamed(
                    Follower {
                        values: follow(),
                        title: percent_decode_str(title).decode_utf8_lossy().into_owned(),
                        until: Instant::now() + Duration::from_secs(seconds).min(LONGEST),
                        stop: stop.clone(),
                        _place: place,
                    },
                    is_of.clone(),
                ),
            };
        async move { answer }
    };
    Router::new().route(PATH, get(handler))
}

fn streamed<T, O>(follower: Follower<T>, is_of: O) -> Response
where
    T: Serialize + Clone + Send + 'static,
    O: Fn(&T, &str) -> bool + Send + Sync + 'static,
{
    let (lines, shown) = mpsc::channel(1);
    tokio::spawn(follow(follower, is_of, lines));
    let lines = stream::unfold(shown, |mut shown| async move {
        let line: Value = shown.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))), shown))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

/// Has a task of its own: one that reads nothing, or has gone, gives up its place like others.
async fn follow<T: Serialize + Clone>(
    mut follower: Follower<T>,
    is_of: impl Fn(&T, &str) -> bool,
    lines: mpsc::Sender<Value>,
) {
    loop {
        let line = tokio::select! {
            () = lines.closed() => return,
            line = next(&mut follower, &is_of) => line,
        };
        let Some(line) = line else { return };
        tokio::select! {
            () = follower.stop.cancelled() => return,
            sent = timeout_at(follower.until, lines.send(line)) => match sent {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            },
        }
    }
}

async fn next<T: Serialize + Clone>(
    follower: &mut Follower<T>,
    is_of: &impl Fn(&T, &str) -> bool,
) -> Option<Value> {
    loop {
        let received = tokio::select! {
            () = follower.stop.cancelled() => return None,
            received = timeout_at(follower.until, follower.values.recv()) => received.ok()?,
        };
        match received {
            Ok(value) if is_of(&value, &follower.title) => return serde_json::to_value(value).ok(),
            Ok(_) => {}
            Err(RecvError::Lagged(count)) => return Some(json!({ "lost": count })),
            Err(RecvError::Closed) => return None,
        }
    }
}

/// Shows what passes until the time is over, or it is interrupted.
pub async fn command(config: &Path, title: &str, seconds: Duration, as_json: bool) -> Result<()> {
    if seconds > LONGEST {
        bail!("an hour is the longest");
    }
    let title = utf8_percent_encode(title, NON_ALPHANUMERIC);
    let path = format!("{PATH}?ae={title}&seconds={}", seconds.as_secs());
    let show = |line: &str| match as_json {
        true => println!("{line}"),
        false => print!("{}", text(line)),
    };
    let following = admin::follow(admin_access(config)?, &path, show);
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        ended = following => Ok(ended?),
    }
}

/// A line for what it is, and one for each of its items.
fn text(line: &str) -> String {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    if let Some(lost) = value.get("lost") {
        return format!("{lost} messages are not shown: they came faster than they were read\n");
    }
    let said = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("?");
    let at = value.get("at").and_then(Value::as_u64).map_or_else(String::new, clock);
    let association = value.get("association").and_then(Value::as_u64).unwrap_or(0);
    let mut text = format!(
        "{at} #{association} {} > {} {} {:<8} {}\n",
        said("calling"),
        said("called"),
        said("peer"),
        said("way"),
        said("what")
    );
    for item in value.get("items").and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!("    {}\n", item.as_str().unwrap_or("?")));
    }
    text
}

/// Time of day in UTC, to the millisecond.
fn clock(millis: u64) -> String {
    let seconds = millis / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60, millis % 1000)
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    #[test]
    fn what_passed_is_a_line_and_its_items_are_below_it() {
        let value = json!({
            "at": 3_723_004_u64, "association": 7, "peer": "192.0.2.1:5", "way": "sent", "calling": "PACS", "called": "CLINIC",
            "what": "A-ASSOCIATE-AC", "items": ["context 1: accepted"],
        });
        assert_eq!(
            text(&value.to_string()),
            "01:02:03.004Z #7 PACS > CLINIC 192.0.2.1:5 sent     A-ASSOCIATE-AC\n    context 1: accepted\n"
        );
        assert_eq!(text(r#"{"lost":3}"#), "3 messages are not shown: they came faster than they were read\n");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_reads_nothing_or_has_gone_gives_up_its_place() {
        let sender = broadcast::Sender::new(4);
        let places = Arc::new(Semaphore::new(1));
        for goes in [false, true] {
            let follower = Follower {
                values: sender.subscribe(),
                title: "B".to_owned(),
                until: Instant::now() + Duration::from_secs(10),
                stop: CancellationToken::new(),
                _place: places.clone().try_acquire_owned().unwrap(),
            };
            let (lines, shown) = mpsc::channel(1);
            let started = Instant::now();
            let running =
                tokio::spawn(follow(follower, |value: &&str, title| value.starts_with(title), lines));
            for value in ["B1", "B2", "B3"] {
                sender.send(value).unwrap();
            }
            let kept = (!goes).then_some(shown);
            running.await.unwrap();
            assert_eq!(started.elapsed().as_secs(), if goes { 0 } else { 10 });
            assert_eq!(places.available_permits(), 1);
            drop(kept);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_sees_his_own_until_the_time_is_over() {
        let (sender, values) = broadcast::channel(2);
        let places = Arc::new(Semaphore::new(1));
        let mut follower = Follower {
            values,
            title: "B".to_owned(),
            until: Instant::now() + Duration::from_secs(10),
            stop: CancellationToken::new(),
            _place: places.try_acquire_owned().unwrap(),
        };
        let is_of = |value: &&str, title: &str| value.starts_with(title);
        for value in ["A1", "B1"] {
            sender.send(value).unwrap();
        }
        assert_eq!(next(&mut follower, &is_of).await, Some(json!("B1")));
        for value in ["B2", "B3", "B4"] {
            sender.send(value).unwrap();
        }
        assert_eq!(next(&mut follower, &is_of).await, Some(json!({ "lost": 1 })));
        assert_eq!(next(&mut follower, &is_of).await, Some(json!("B3")));
        assert_eq!(next(&mut follower, &is_of).await, Some(json!("B4")));
        assert_eq!(next(&mut follower, &is_of).await, None, "ten seconds are over");
        follower.until += Duration::from_secs(60);
        follower.stop.cancel();
        assert_eq!(next(&mut follower, &is_of).await, None);
    }
}
