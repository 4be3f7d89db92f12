//! Rules that were written for the crate dicom-anonymization become `[[override]]` tables.

use std::fmt::Write as _;

use pseudonym::{Override, OverrideAction, Plan, Profile, WordList};
use serde::Deserialize;

/// Its configuration, as far as there is something like it here.
#[derive(Debug, Deserialize)]
struct Theirs {
    #[serde(default)]
    tag_actions: serde_json::Map<String, serde_json::Value>,
}

/// One of its actions.
#[derive(Debug, Deserialize)]
struct TheirAction {
    action: String,
    value: Option<String>,
}

/// The text of a `rules` file, with a comment for each of its rules that cannot be taken over.
pub fn import(json: &str) -> Result<String, serde_json::Error> {
    // An object: a struct alone would also be read from a list.
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json)?;
    let theirs: Theirs = serde_json::from_value(object.into())?;
    let mut text = String::from(
        "# From a configuration of dicom-anonymization. Read it before you use it: all else is as PS3.15 Table E.1-1 says,\n\
         # hashes are keyed here and none has a length of its own, and UIDs have the root 2.25.\n",
    );
    let mut taken = Vec::new();
    for (tag, action) in &theirs.tag_actions {
        match rule(tag, action) {
            Ok(rule) => {
                let mut with = taken.clone();
                with.push(rule.clone());
                match Plan::new(
                    Profile { overrides: with.clone(), ..Profile::default() },
                    WordList::default(),
                    "",
                ) {
                    Ok(_) => {
                        taken = with;
                        let _ = write!(text, "\n{}", table(&rule));
                    }
                    Err(why) => comment(&mut text, tag, &why.to_string()),
                }
            }
            Err(why) => comment(&mut text, tag, &why),
        }
    }
    Ok(text)
}

fn rule(tag: &str, action: &serde_json::Value) -> Result<Override, String> {
    let theirs: TheirAction =
        serde_json::from_value(action.clone()).map_err(|_| "it has no action".to_owned())?;
    let action = match theirs.action.as_str() {
        "keep" | "none" => OverrideAction::Keep,
        "empty" => OverrideAction::Empty,
        "remove" => OverrideAction::Remove,
        "replace" => OverrideAction::Replace,
        "hash" => OverrideAction::Hash,
        "hashuid" => OverrideAction::HashUid,
        "hashdate" => OverrideAction::HashDate,
        other => return Err(format!("there is no action {other:?}")),
    };
    let value = theirs.value.filter(|_| action == OverrideAction::Replace);
    Ok(Override { tag: tag.to_owned(), action, value })
}

fn table(rule: &Override) -> String {
    // A string of JSON is one of TOML as well.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let action = serde_json::to_value(rule.action).unwrap_or_default();
    let value =
        rule.value.as_deref().map_or_else(String::new, |value| format!("value = {}\n", quoted(value)));
    format!("[[override]]\ntag = {}\naction = {action}\n{value}", quoted(&rule.tag))
}

fn comment(text: &mut String, tag: &str, why: &str) {
    let line = |text: &str| text.replace(['\n', '\r'], " ");
    let _ = write!(text, "\n# {} is not taken over: {}\n", line(tag), line(why));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_taken_over_is_and_the_rest_is_said() {
        let theirs = r#"{ "uid_root": "1.2.3", "remove_private_tags": true, "tag_actions": {
            "(0008,103E)": { "action": "keep" },
            "00081090": { "action": "replace", "value": "A \"model\"" },
            "(0010,0020)": { "action": "hash", "length": 16 },
            "(0018,1000)": { "action": "shred" },
            "(0008,0020)": { "action": "hashdate" } } }"#;
        let text = import(theirs).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rules.toml"), &text).unwrap();
        let path = dir.path().join("rules.toml");
        let rules =
            service::config::load_with::<crate::pseudonymize::Rules>(&path, "SLUIS_", Vec::new()).unwrap();
        let taken: Vec<_> = rules.config.overrides.iter().map(|one| (one.tag.as_str(), one.action)).collect();
        let want = [
            ("(0008,0020)", OverrideAction::HashDate),
            ("(0008,103E)", OverrideAction::Keep),
            ("00081090", OverrideAction::Replace),
        ];
        assert_eq!(taken, want);
        assert!(text.contains("# (0010,0020) is not taken over: (0010,0020) cannot be overridden"), "{text}");
        assert!(text.contains("# (0018,1000) is not taken over: there is no action \"shred\""));
        assert!(import("[]").is_err());
    }
}
