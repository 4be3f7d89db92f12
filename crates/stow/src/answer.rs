//! The Store Instances Response (PS3.18 §10.5.3, Annex I) in the DICOM JSON model (Annex F), as far as it is about one instance.

use base::{Phi, Uid};
use serde_json::Value;

const FAILED_SOP_SEQUENCE: &str = "00081198";
const REFERENCED_SOP_SEQUENCE: &str = "00081199";
const OTHER_FAILURES_SEQUENCE: &str = "0008119A";
const REFERENCED_SOP_INSTANCE_UID: &str = "00081155";
const WARNING_REASON: &str = "00081196";
const FAILURE_REASON: &str = "00081197";

/// What a service says of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It is stored, perhaps with a Warning Reason (0008,1196).
    Stored(Option<u16>),
    /// It is not, perhaps for a Failure Reason (0008,1197).
    Failed(Option<u16>),
    /// There is no word about this instance, or nothing that can be read.
    Nothing,
}

impl Said {
    /// Of a response's body. What an instance failed by counts, whatever else is said of it. A failure without a name (Other
    /// Failures Sequence) is that of the one instance that was sent.
    pub fn of(body: &[u8], instance: &Phi<Uid>) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(body) else { return Self::Nothing };
        // Some wrap the one data set into an array, as other responses are.
        let sets = match &value {
            Value::Array(sets) => sets.as_slice(),
            one => std::slice::from_ref(one),
        };
        let is_ours = |item: &&Value| {
            let uid = first(item, REFERENCED_SOP_INSTANCE_UID).and_then(Value::as_str);
            uid.and_then(|uid| Uid::parse(uid).ok()).is_some_and(|uid| uid == *instance.reveal())
        };
        let all = |sequence| sets.iter().flat_map(move |set| items(set, sequence));
        let failed = all(FAILED_SOP_SEQUENCE).find(is_ours).or_else(|| all(OTHER_FAILURES_SEQUENCE).next());
        if let Some(item) = failed {
            return Self::Failed(number(item, FAILURE_REASON));
        }
        match all(REFERENCED_SOP_SEQUENCE).find(is_ours) {
            Some(item) => Self::Stored(number(item, WARNING_REASON)),
            None => Self::Nothing,
        }
    }
}

/// The values of an attribute; tags are written in either case.
fn values<'a>(set: &'a Value, tag: &str) -> &'a [Value] {
    let attribute = set.as_object().and_then(|all| all.iter().find(|(key, _)| key.eq_ignore_ascii_case(tag)));
    let values = attribute.and_then(|(_, attribute)| attribute.get("Value")).and_then(Value::as_array);
    values.map_or(&[], Vec::as_slice)
}

fn items<'a>(set: &'a Value, sequence: &str) -> impl Iterator<Item = &'a Value> {
    values(set, sequence).iter()
}

fn first<'a>(set: &'a Value, tag: &str) -> Option<&'a Value> {
    values(set, tag).first()
}

/// Of VR US; some write it as text.
fn number(set: &Value, tag: &str) -> Option<u16> {
    match first(set, tag)? {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_u64().and_then(|number| u16::try_from(number).ok()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const UID: &str = "1.2.3.4";

    fn said(value: &Value) -> Said {
        Said::of(value.to_string().as_bytes(), &Phi::new(Uid::parse(UID).unwrap()))
    }

    fn item(uid: &str, reason: Option<(&str, Value)>) -> Value {
        let mut item = json!({
            "00081150": { "vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"] },
            "00081155": { "vr": "UI", "Value": [uid] },
        });
        if let Some((tag, value)) = reason {
            item[tag] = json!({ "vr": "US", "Value": [value] });
        }
        item
    }

    fn response(sequence: &str, items: &[Value]) -> Value {
        json!({ "00081190": { "vr": "UR", "Value": ["http://x/studies/1"] }, sequence: { "vr": "SQ", "Value": items } })
    }

    #[test]
    fn only_what_names_the_instance_is_about_it() {
        let warned = |value| Some(("00081196", value));
        let failed = |value| Some(("00081197", value));
        let (stored, refused) = (REFERENCED_SOP_SEQUENCE, FAILED_SOP_SEQUENCE);
        let cases = [
            (response(stored, &[item(UID, None)]), Said::Stored(None)),
            (response(stored, &[item("9.9", None), item(UID, None)]), Said::Stored(None)),
            (response(stored, &[item("1.2.3.4\0", None)]), Said::Stored(None)),
            (response(stored, &[item(UID, warned(json!(0xB000)))]), Said::Stored(Some(0xB000))),
            (response(stored, &[item(UID, warned(json!("45056")))]), Said::Stored(Some(0xB000))),
            (json!([response(stored, &[item(UID, None)])]), Said::Stored(None)),
            (response(refused, &[item(UID, failed(json!(272)))]), Said::Failed(Some(0x0110))),
            (response(refused, &[item(UID, failed(json!(70000)))]), Said::Failed(None)),
            (response(refused, &[item(UID, failed(json!(-1)))]), Said::Failed(None)),
            (response(refused, &[item(UID, None)]), Said::Failed(None)),
            (
                response("0008119a", &[json!({ "00081197": { "vr": "US", "Value": [49442] } })]),
                Said::Failed(Some(0xC122)),
            ),
            // Of another instance, of none, and of nothing.
            (response(stored, &[item("1.2.3.40", None)]), Said::Nothing),
            (response(stored, &[item("1.2.3", None)]), Said::Nothing),
            (response(refused, &[item("9.9", failed(json!(272)))]), Said::Nothing),
            (response(stored, &[]), Said::Nothing),
            (json!({ "00081199": { "vr": "SQ" } }), Said::Nothing),
            (json!({ "00081199": [UID] }), Said::Nothing),
            (json!({ "00081155": { "vr": "UI", "Value": [UID] } }), Said::Nothing),
            (json!([]), Said::Nothing),
            (json!(UID), Said::Nothing),
            (json!(null), Said::Nothing),
        ];
        for (value, want) in cases {
            assert_eq!(said(&value), want, "{value}");
        }
        // A contradiction is no success.
        let mut both = response(stored, &[item(UID, None)]);
        both[refused] = json!({ "vr": "SQ", "Value": [item(UID, failed(json!(0xA700)))] });
        assert_eq!(said(&both), Said::Failed(Some(0xA700)));
    }

    #[test]
    fn what_is_no_json_says_nothing() {
        let deep = "[".repeat(100_000);
        for body in ["", "{", "<NativeDicomModel/>", "{\"00081199\"", &deep, "\u{feff}{}"] {
            assert_eq!(Said::of(body.as_bytes(), &Phi::new(Uid::parse(UID).unwrap())), Said::Nothing);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_no_success(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Said::of(&bytes, &Phi::new(Uid::parse(UID).unwrap())), Said::Nothing);
        }
    }
}
