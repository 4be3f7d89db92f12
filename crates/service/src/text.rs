//! A status for people: the JSON of `/status` as indented lines.

use std::time::{Duration, UNIX_EPOCH};

use base::Timestamp;
use serde_json::Value;

/// Coordinated universal time, to the second.
pub fn utc(at: Timestamp) -> String {
    match UNIX_EPOCH.checked_add(Duration::from_millis(at.0)) {
        // The year 9999 is the last that the format has.
        Some(time) if at.0 < 253_402_300_800_000 => humantime::format_rfc3339_seconds(time).to_string(),
        _ => "never".to_owned(),
    }
}

/// One line a value; lists of objects with a dash.
pub fn render(status: &Value) -> String {
    let mut text = String::new();
    write(&mut text, status, 0);
    text
}

fn write(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('_', " ");
                match value {
                    Value::Object(inner) if inner.is_empty() => {
                        text.push_str(&format!("{indent}{key}: none\n"))
                    }
                    Value::Array(list) if list.is_empty() => text.push_str(&format!("{indent}{key}: none\n")),
                    Value::Object(_) | Value::Array(_) => {
                        text.push_str(&format!("{indent}{key}:\n"));
                        write(text, value, depth + 1);
                    }
                    _ => text.push_str(&format!("{indent}{key}: {}\n", scalar(value))),
                }
            }
        }
        Value::Array(list) => {
            for item in list {
                match item {
                    Value::Object(map) => {
                        let fields = map
                            .iter()
                            .map(|(key, value)| format!("{} {}", key.replace('_', " "), scalar(value)));
                        text.push_str(&format!("{indent}- {}\n", fields.collect::<Vec<_>>().join(", ")));
                    }
                    _ => text.push_str(&format!("{indent}- {}\n", scalar(item))),
                }
            }
        }
        _ => text.push_str(&format!("{indent}{}\n", scalar(value))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_reads_line_by_line() {
        let status = json!({
            "role": "relay", "bytes_held": 12, "ready": true, "queue": {"counts": [{"state": "sealed", "deliveries": 3}], "oldest": []}
        });
        assert_eq!(
            render(&status),
            "bytes held: 12\nqueue:\n  counts:\n    - deliveries 3, state sealed\n  oldest: none\nready: yes\nrole: relay\n"
        );
    }
}
