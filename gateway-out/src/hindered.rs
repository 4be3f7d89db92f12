//! What keeps open deliveries from leaving, beside their own state: relays, asked of the running daemon, and time
//! windows, from the configuration.

use std::collections::HashSet;

use base::{RouteId, Timestamp};
use serde_json::{Value, json};
use service::{Access, admin};
use spool::{Delivery, State};

use crate::routes::{Leg, Routes};

/// Until when a delivery waits for its window, if it does.
pub(crate) fn window(routes: &Routes, row: &Delivery, now: Timestamp) -> Option<Timestamp> {
    let waits = matches!(row.state, State::Sealed | State::Deferred) && !row.running;
    waits.then(|| routes.leg(row.route)?.closed_until(now)).flatten()
}

/// One line for each leg whose window keeps one of these deliveries back.
pub(crate) fn by_windows<'a>(
    routes: &Routes,
    rows: impl IntoIterator<Item = &'a Delivery>,
    now: Timestamp,
) -> Vec<String> {
    let kept = rows.into_iter().filter(|row| window(routes, row, now).is_some()).map(|row| row.route);
    let kept: HashSet<RouteId> = kept.collect();
    let legs = routes.legs();
    let legs = legs.iter().filter(|leg| kept.contains(&leg.id));
    legs.filter_map(|leg| Some(window_line(leg, leg.closed_until(now)?))).collect()
}

fn window_line(leg: &Leg, opens: Timestamp) -> String {
    let clock = leg.windows.as_ref().map(|windows| windows.clock(opens)).unwrap_or_default();
    format!("{} at {}: waits for its window until {clock}", leg.destination, leg.receiver.name)
}

/// The legs that wait for their window now, for `status`.
pub(crate) fn closed(routes: &Routes, now: Timestamp) -> Vec<Value> {
    let legs = routes.legs();
    let closed = legs.iter().filter_map(|leg| {
        let opens = leg.closed_until(now)?;
        Some(json!({
            "route": leg.id, "receiver": leg.receiver.name, "destination": leg.destination,
            "opens_at": opens, "text": window_line(leg, opens),
        }))
    });
    closed.collect()
}

/// One line for each relay that is not connected. None where no daemon runs.
pub(crate) async fn by_relays(admin: Access) -> Vec<String> {
    match admin::fetch_status(admin).await {
        Ok(status) => lines(&status),
        Err(_) => Vec::new(),
    }
}

fn lines(status: &Value) -> Vec<String> {
    let relays = status.get("relays").and_then(Value::as_array);
    relays.into_iter().flatten().filter_map(line).collect()
}

fn line(relay: &Value) -> Option<String> {
    if relay.get("connected").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    let name = relay.get("name").and_then(Value::as_str).unwrap_or("?");
    Some(match relay.get("refused").and_then(Value::as_str) {
        Some(reason) => format!("relay {name}: {reason}"),
        None => format!("relay {name}: not connected"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_relay_that_is_not_there_has_a_line_with_the_reason_it_gave() {
        let status = json!({ "relays": [
            { "name": "a", "connected": true, "refused": null },
            { "name": "b", "connected": false, "refused": "revoked" },
            { "name": "c", "connected": false, "refused": null },
        ]});
        assert_eq!(lines(&status), ["relay b: revoked", "relay c: not connected"]);
        for nothing in [json!({}), json!({ "relays": 5 }), json!([])] {
            assert!(lines(&nothing).is_empty());
        }
    }
}
