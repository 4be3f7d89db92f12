//! What an operator can change and a destination can notice, with the values of one configuration.

use serde_json::{Value, json};
use statement::{Entity, Setting};

use crate::config::{Config, Kind};

/// Keys within a `[[destination]]` of the kind `dicom`, and what they change. The values come from the configuration itself.
#[rustfmt::skip]
const DESTINATION_SETTINGS: &[(&str, &str)] = &[
    ("calling", "calling AE title: a fixed one, or the one that the sender's PACS used"),
    ("tls", "it is called over TLS"),
    ("max_associations", "associations at one time"),
    ("linger", "how long an idle association is kept open"),
    ("connect_timeout", "limit of connection and handshake"),
    ("response_timeout", "limit of the wait for a C-STORE response"),
    ("max_pdu", "longest PDU sent, bytes"),
    ("reencode", "whether Implicit VR, Explicit VR and Deflated Little Endian become each other"),
    ("private_vr", "what becomes of private elements whose value representation implicit VR cannot say"),
    ("probe_every", "pace of C-ECHO while the destination is down"),
    ("probe", "whether it is asked what it accepts, where a sender has a use for it"),
    ("probe_calling", "calling AE title of that question where `calling` is the sender's PACS's"),
    ("probe_classes", "SOP classes that are asked about beside the standard's storage classes"),
    ("probe_syntaxes", "transfer syntaxes that are asked about; none: the usual ones"),
    ("async_operations", "asynchronous operations that are proposed"),
    ("user", "the user identity that is proposed"),
    ("means", "whether it is asked for storage commitment: `committed` or `delivered`"),
    ("status", "statuses that the destination uses in another sense than Table B.2-1 of PS3.4"),
];

/// Those of the kind `stow` that others have not.
#[rustfmt::skip]
const WEB_SETTINGS: &[(&str, &str)] = &[
    ("url", "kind `stow`: the root of the service; others have none"),
    ("bearer", "kind `stow`: the token that it is shown"),
];

/// Keys of `[collect]`.
#[rustfmt::skip]
const COLLECT_SETTINGS: &[(&str, &str)] = &[
    ("verify_first", "instances up to this size are verified as a whole before the destination sees a byte; larger ones have an association of their own"),
    ("stall_timeout", "a larger one that stalls for this long is aborted"),
];

/// A configuration in which nothing is set that need not be.
pub(super) fn defaults() -> Config {
    let file = "-";
    let value = json!({
        "identity": { "key": file, "log_key": file, "card": file },
        "ledger": { "dir": file },
        "relay": [],
        "destination": [{ "name": "far", "kind": "dicom", "ae": "ARCHIVE", "address": "127.0.0.1:104" }],
        "admin": { "listen": "127.0.0.1:9182" },
    });
    #[expect(clippy::expect_used, reason = "a constant, parsed by a test")]
    serde_json::from_value(value).expect("a configuration with all that has no default")
}

pub(super) fn rows(config: &Config, configured: bool) -> Vec<Setting> {
    let value = to_value(config);
    let collect = value.pointer("/collect").unwrap_or(&Value::Null);
    let mut rows = of(collect, "collect.", COLLECT_SETTINGS);
    if !configured && let Some(destination) = value.pointer("/destination/0") {
        let keys = [
            of(destination, "destination.", DESTINATION_SETTINGS),
            of(destination, "destination.", WEB_SETTINGS),
        ];
        rows.splice(0..0, keys.into_iter().flatten());
    }
    rows
}

/// The titles of destinations; not their addresses.
pub(super) fn entities(config: &Config) -> Vec<Entity> {
    let dicom = config.destinations.iter().filter(|table| table.kind == Kind::Dicom);
    let entity = |table: &crate::config::DestinationTable| Entity {
        ae: table.ae.as_ref().map_or("", |ae| ae.as_str()).to_owned(),
        notes: of(&to_value(table), "", DESTINATION_SETTINGS)
            .into_iter()
            .map(|row| format!("`{}` is `{}`: {}", row.key, row.value, row.what))
            .collect(),
    };
    dicom.map(entity).collect()
}

fn to_value(value: &impl serde::Serialize) -> Value {
    #[expect(clippy::expect_used, reason = "text keys only")]
    serde_json::to_value(value).expect("a configuration has a JSON form")
}

fn of(value: &Value, prefix: &str, settings: &[(&str, &str)]) -> Vec<Setting> {
    let row = |(key, what): &(&str, &str)| Setting {
        key: format!("{prefix}{key}"),
        value: match value.get(*key) {
            // File names are nobody's business.
            Some(Value::Object(_)) if ["tls", "user"].contains(key) => "yes".to_owned(),
            other => shown(other.unwrap_or(&Value::Null)),
        },
        what: (*what).to_owned(),
    };
    settings.iter().map(row).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(all) if all.is_empty() => "none".to_owned(),
        Value::Object(all) => {
            all.iter().map(|(key, one)| format!("{key} {}", shown(one))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_a_key_of_the_configuration() {
        let value = to_value(&defaults());
        for (key, _) in DESTINATION_SETTINGS.iter().chain(WEB_SETTINGS) {
            assert!(value.pointer(&format!("/destination/0/{key}")).is_some(), "{key}");
        }
        for (key, _) in COLLECT_SETTINGS {
            assert!(value.pointer(&format!("/collect/{key}")).is_some(), "{key}");
        }
    }

    #[test]
    fn a_destinations_address_is_not_shown() {
        let text = format!("{:?}", entities(&defaults()));
        assert!(text.contains("ARCHIVE") && !text.contains("127.0.0.1"), "{text}");
    }
}
