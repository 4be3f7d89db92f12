//! What keeps open deliveries from leaving, beside their own state: asked of the running daemon.

use std::net::SocketAddr;

use serde_json::Value;
use service::admin;

/// One line for each relay that is not connected. None where no daemon runs.
pub(crate) async fn by_relays(admin: SocketAddr) -> Vec<String> {
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
