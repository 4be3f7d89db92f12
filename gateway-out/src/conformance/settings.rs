//! What an operator can change and a peer can notice, with the values of one configuration.

use serde_json::{Value, json};
use statement::{Entity, Setting};

use crate::config::Config;

/// Keys of the configuration, and what they change. The values come from the configuration itself.
#[rustfmt::skip]
const SETTINGS: &[(&str, &str)] = &[
    ("dicom.max_pdu", "maximum PDU length announced, bytes"),
    ("dicom.tls", "the port with TLS, its certificate, and the authorities of peers' certificates"),
    ("dicom.associations_max", "associations at one time"),
    ("dicom.associations_per_peer_max", "associations at one time from one address"),
    ("dicom.handshake_timeout", "limit of the association handshake"),
    ("dicom.idle_timeout", "limit of an association without a message"),
    ("dicom.progress_timeout", "limit of one PDU"),
    ("dicom.async_operations", "operations that a peer may have outstanding; 0 is any number"),
    ("dicom.user_identity", "what becomes of a user identity"),
    ("outbox.bytes_max", "sealed bytes that the outbox holds; C-STORE is answered A700 beyond"),
    ("outbox.reserve", "free disk space that is never used; C-STORE is answered A700 beyond"),
    ("retry.delivered_timeout", "`respond = \"delivered\"`: wait for the destination before A700"),
];

/// The same within a `[[route]]`.
#[rustfmt::skip]
const ROUTE_SETTINGS: &[(&str, &str)] = &[
    ("when", "which instances the route takes, where several routes have one AE title"),
    ("respond", "when success is answered: once the instance is in custody, or once the destination has it"),
    ("calling", "calling AE titles that may use the route"),
    ("sources", "networks that may use the route"),
    ("private_sop_classes", "SOP classes that are in no table are accepted"),
    ("changed_content", "what a known SOP Instance UID with another data set gets"),
    ("prefer", "transfer syntaxes that are taken first"),
    ("negotiate", "what is offered: everything, or what the destinations accept"),
    ("echo", "who answers a C-ECHO: the gateway, or the destinations through the whole path"),
    ("echo_timeout", "how long that may take"),
    ("priority", "what goes first where several routes wait"),
    ("window", "when instances are sent on; they are taken at any time"),
    ("rate", "how fast instances are sent on; they are taken as fast as they come"),
];

/// The same within a `[[commitment]]`.
#[rustfmt::skip]
const COMMITMENT_SETTINGS: &[(&str, &str)] = &[
    ("tls", "it is told over TLS"),
    ("sends_as", "other calling AE titles of the peer, whose instances it may ask for"),
    ("on", "where it is told: on an association of our own, or on the one that asked while it is open"),
    ("means", "what is committed: stored by every destination, or written to our disk"),
    ("timeout", "what is not decided by then is reported as failed"),
    ("arrival", "how long after the request an instance may still come"),
    ("open_max", "open requests of the peer; more are answered 0213"),
    ("instances_max", "instances of one request; more are answered 0213"),
];

/// Lists of others' titles and networks: how many there are says enough.
const COUNTED: &[&str] = &["calling", "sources"];

/// A configuration in which nothing is set that need not be.
pub(super) fn defaults() -> Config {
    let file = "-";
    let value = json!({
        "identity": { "key": file, "log_key": file, "card": file },
        "outbox": { "dir": file, "key": file, "index_key": file },
        "dicom": { "listen": "0.0.0.0:11112" },
        "relay": [],
        "route": [{ "id": "00".repeat(16), "ae": "SLUIS", "to": "far", "destination": "far" }],
        "commitment": [{ "ae": "MODALITY", "address": "127.0.0.1:104" }],
        "admin": { "listen": "127.0.0.1:9180" },
    });
    #[expect(clippy::expect_used, reason = "a constant, parsed by a test")]
    serde_json::from_value(value).expect("a configuration with all that has no default")
}

pub(super) fn rows(config: &Config, configured: bool) -> Vec<Setting> {
    let value = to_value(config);
    let mut rows = of(&value, "", SETTINGS);
    if !configured {
        let first = |table: &str| value.pointer(&format!("/{table}/0")).unwrap_or(&Value::Null);
        rows.extend(of(first("route"), "route.", ROUTE_SETTINGS));
        rows.extend(of(first("commitment"), "commitment.", COMMITMENT_SETTINGS));
    }
    rows
}

pub(super) fn entities(config: &Config) -> Vec<Entity> {
    let value = to_value(config);
    let routes = value.get("route").and_then(Value::as_array).into_iter().flatten();
    let entity = |route: &Value| Entity {
        ae: route.get("ae").and_then(Value::as_str).unwrap_or_default().to_owned(),
        notes: of(route, "", ROUTE_SETTINGS)
            .into_iter()
            .map(|row| format!("`{}` is `{}`: {}", row.key, row.value, row.what))
            .collect(),
    };
    routes.map(entity).collect()
}

fn to_value(config: &Config) -> Value {
    let mut config = config.clone();
    config.complete();
    #[expect(clippy::expect_used, reason = "text keys only")]
    serde_json::to_value(&config).expect("a configuration has a JSON form")
}

fn of(value: &Value, prefix: &str, settings: &[(&str, &str)]) -> Vec<Setting> {
    let row = |(key, what): &(&str, &str)| Setting {
        key: format!("{prefix}{key}"),
        value: shown(key, value.pointer(&format!("/{}", key.replace('.', "/"))).unwrap_or(&Value::Null)),
        what: (*what).to_owned(),
    };
    settings.iter().map(row).collect()
}

fn shown(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        // File names are nobody's business.
        Value::Object(_) if key.ends_with("tls") => "yes".to_owned(),
        Value::Array(all) if all.is_empty() => "none".to_owned(),
        Value::Array(all) if all.iter().any(|one| one == "*") => "any".to_owned(),
        Value::Array(all) if COUNTED.contains(&key) && !is_loopback(all) => format!("{} listed", all.len()),
        Value::Array(all) => all.iter().map(|one| shown("", one)).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn is_loopback(all: &[Value]) -> bool {
    all.iter().all(|one| one.as_str().is_some_and(|net| net.starts_with("127.") || net.starts_with("::1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_a_key_of_the_configuration() {
        let value = to_value(&defaults());
        for (key, _) in SETTINGS {
            assert!(value.pointer(&format!("/{}", key.replace('.', "/"))).is_some(), "{key}");
        }
        for (key, _) in ROUTE_SETTINGS {
            assert!(value.pointer(&format!("/route/0/{key}")).is_some(), "{key}");
        }
        for (key, _) in COMMITMENT_SETTINGS {
            assert!(value.pointer(&format!("/commitment/0/{key}")).is_some(), "{key}");
        }
    }

    #[test]
    fn what_belongs_to_others_is_only_counted() {
        let mut config = defaults();
        config.routes[0].calling = Some(vec!["CT1".to_owned(), "CT2".to_owned()]);
        config.routes[0].sources = Some(vec!["10.1.0.0/16".to_owned()]);
        let text = format!("{:?}", entities(&config));
        assert!(
            text.contains("`calling` is `2 listed`") && text.contains("`sources` is `1 listed`"),
            "{text}"
        );
        assert!(!text.contains("CT1") && !text.contains("10.1."), "{text}");
    }
}
