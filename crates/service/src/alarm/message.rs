//! What is told, as a mail and as JSON.

use base::Timestamp;
use serde_json::{Value, json};

use super::memory::{News, Standing};
use crate::text;

/// One message, the same for every way.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// `gateway-out`, `gateway-in` or `relay`.
    pub(super) role: &'a str,
    /// The name on the daemon's card.
    pub(super) name: &'a str,
    /// Of the program that tells.
    pub(super) version: &'a str,
    /// When.
    pub(super) at: Timestamp,
    /// What. `None` for a test.
    pub(super) news: Option<&'a News>,
}

impl Message<'_> {
    /// One line that says how bad it is.
    pub(super) fn subject(&self) -> String {
        let what = match self.news {
            None => "test of the alarms".to_owned(),
            Some(News { raised, over, still }) => match (raised.as_slice(), over.as_slice()) {
                ([one], []) => one.text.clone(),
                ([], [one]) => format!("over: {}", one.text),
                ([], []) => format!("{} still", alarms(still.len())),
                ([], over) => format!("{} over", alarms(over.len())),
                (raised, _) => format!("{} new", alarms(raised.len())),
            },
        };
        format!("[Sluis] {} {}: {what}", self.role, self.name)
    }

    /// All of it, for a person.
    pub(super) fn text(&self) -> String {
        let mut text =
            format!("{} {}, {}, version {}\n", self.role, self.name, text::utc(self.at), self.version);
        let Some(news) = self.news else {
            text.push_str(
                "\nThis is a test: who reads it would be told when something is wrong. Nothing is.\n",
            );
            return text;
        };
        for (heading, list) in [("NEW", &news.raised), ("OVER", &news.over), ("STILL THERE", &news.still)] {
            if list.is_empty() {
                continue;
            }
            text.push_str(&format!("\n{heading}\n"));
            for standing in list {
                text.push_str(&format!("- {} (since {})\n", standing.text, text::utc(standing.since)));
                if heading != "OVER" {
                    text.push_str(&format!("  first: {}\n", standing.remedy));
                }
            }
        }
        text
    }

    /// All of it, for a program. `text` is what chat services show.
    pub(super) fn json(&self) -> Value {
        let list = |of: &[Standing]| -> Vec<Value> {
            let one = |standing: &Standing| json!({ "text": standing.text, "first": standing.remedy, "since": text::utc(standing.since) });
            of.iter().map(one).collect()
        };
        json!({
            "text": format!("{}\n{}", self.subject(), self.text()),
            "subject": self.subject(),
            "role": self.role,
            "name": self.name,
            "version": self.version,
            "at": text::utc(self.at),
            "test": self.news.is_none(),
            "new": self.news.map(|news| list(&news.raised)).unwrap_or_default(),
            "over": self.news.map(|news| list(&news.over)).unwrap_or_default(),
            "still": self.news.map(|news| list(&news.still)).unwrap_or_default(),
        })
    }
}

fn alarms(count: usize) -> String {
    match count {
        1 => "1 alarm".to_owned(),
        count => format!("{count} alarms"),
    }
}
