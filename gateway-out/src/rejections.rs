//! Who is turned away at the DICOM ports, by which A-ASSOCIATE-RJ, and why. The Conformance Statement has the same rows.
//! Those of late are kept for whoever is asked why a device does not get through.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use base::{AeTitle, Timestamp};
use dimse::RejectReason;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::routes::Refusal;

/// How many are kept.
const KEPT_MAX: usize = 200;

/// Those of late, the latest last. The lock is never held across an await.
#[derive(Debug, Default)]
pub struct Lately(Mutex<VecDeque<Rejected>>);

/// One that was turned away.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// When.
    pub at: Timestamp,
    /// Where it came from.
    pub peer: SocketAddr,
    /// Calling and called AE title, where it came so far.
    pub titles: Option<(AeTitle, AeTitle)>,
    /// The configured AE title that is nearest to the called one.
    pub did_you_mean: Option<AeTitle>,
    /// In words; no patient data.
    pub why: String,
    /// What would let it in, as lines of the configuration.
    pub remedy: Option<String>,
}

/// Several with the same titles and the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alike {
    /// Calling and called AE title, where it came so far.
    pub titles: Option<(AeTitle, AeTitle)>,
    /// In words.
    pub why: String,
    /// How many of those that are kept.
    pub count: u64,
    /// When the last of them came.
    pub last: Timestamp,
}

impl Lately {
    /// Keeps one, and forgets the eldest.
    pub fn add(&self, rejected: Rejected) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT_MAX {
            all.pop_front();
        }
        all.push_back(rejected);
    }

    /// Those that are alike in titles and reason together, the latest first: no addresses.
    pub fn alike(&self) -> Vec<Alike> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups: Vec<Alike> = Vec::new();
        for one in all.iter().rev() {
            match groups.iter_mut().find(|it| it.titles == one.titles && it.why == one.why) {
                Some(known) => known.count += 1,
                None => groups.push(Alike {
                    titles: one.titles.clone(),
                    why: one.why.clone(),
                    count: 1,
                    last: one.at,
                }),
            }
        }
        groups
    }

    /// All of them, the latest first.
    pub fn json(&self) -> Value {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().rev().map(Rejected::json).collect()
    }
}

impl Rejected {
    fn json(&self) -> Value {
        let (calling, called) =
            self.titles.as_ref().map(|(calling, called)| (calling.as_str(), called.as_str())).unzip();
        json!({
            "at": service::text::utc(self.at), "peer": self.peer, "calling": calling, "called": called, "why": self.why,
            "did_you_mean": self.did_you_mean.as_ref().map(AeTitle::as_str), "remedy": self.remedy,
        })
    }
}

/// [`Lately::json`] for people.
pub fn text(all: &Value) -> String {
    let line = |one: &Value| {
        let of = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        let hint = match one.get("did_you_mean").and_then(Value::as_str) {
            Some(title) => format!(" (did you mean {title}?)"),
            None => String::new(),
        };
        let remedy = match one.get("remedy").and_then(Value::as_str) {
            Some(remedy) => format!("    would let it in: {remedy}\n"),
            None => String::new(),
        };
        format!(
            "{}  {:<22} {:<16} → {:<16}  {}{hint}\n{remedy}",
            of("at"),
            of("peer"),
            of("calling"),
            of("called"),
            of("why")
        )
    };
    let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(line).chain([format!("{} of late\n", all.len())]).collect()
}

/// Why an association is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// No route has the called AE title.
    Called,
    /// No route with it lists the calling AE title.
    Calling,
    /// No route with it lists the source address.
    Source,
    /// Its user identity is not accepted.
    Identity,
    /// There are too many associations.
    Crowded,
    /// The outbox takes nothing more.
    OutboxFull,
}

impl TurnedAway {
    /// Every one, for tables and tests.
    pub const ALL: [Self; 6] =
        [Self::Called, Self::Calling, Self::Source, Self::Identity, Self::Crowded, Self::OutboxFull];

    /// The answer.
    pub fn reason(self) -> RejectReason {
        match self {
            Self::Called => RejectReason::CalledAeTitleNotRecognized,
            // PS3.8 Table 9-21 has no closer reason for an address; the log tells them apart.
            Self::Calling | Self::Source => RejectReason::CallingAeTitleNotRecognized,
            // Nor one for a user.
            Self::Identity => RejectReason::NoReasonGiven,
            Self::Crowded | Self::OutboxFull => RejectReason::LocalLimitExceeded,
        }
    }

    /// What would let such a one in, where that is for a configuration to say.
    pub fn remedy(self, calling: &AeTitle, called: &AeTitle, source: IpAddr) -> Option<String> {
        // Both come from strangers: quoted, as JSON quotes and TOML reads text.
        let quoted = |text: &str| json!(text).to_string();
        let route = format!("in the [[route]] with ae = {}", quoted(called.as_str()));
        let network = IpNet::from(source);
        match self {
            Self::Called => Some(format!("a [[route]] with ae = {}", quoted(called.as_str()))),
            Self::Calling => Some(format!("{} in `calling` {route}", quoted(calling.as_str()))),
            Self::Source => Some(format!("{} in `sources` {route}", quoted(&network.to_string()))),
            Self::Crowded => {
                Some("larger associations_max or associations_per_peer_max in [dicom]".to_owned())
            }
            Self::Identity => {
                Some("user_identity = \"accepted\" with `users`, or \"ignored\", in [dicom]".to_owned())
            }
            Self::OutboxFull => None,
        }
    }

    /// What leads to it.
    pub fn when(self) -> &'static str {
        match self {
            Self::Called => "no `[[route]]` has the called AE title; upper and lower case differ",
            Self::Calling => "the route lists calling AE titles, and this one is not among them",
            Self::Source => "the source address is in none of the route's networks",
            Self::Identity => "a user identity comes with it and is refused; see 8.5",
            Self::Crowded => "as many associations are open as are allowed, in all or from this address",
            Self::OutboxFull => {
                "the outbox is above its watermark: running associations may end, new ones have to wait"
            }
        }
    }
}

impl From<Refusal> for TurnedAway {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Called => Self::Called,
            Refusal::Calling => Self::Calling,
            Refusal::Source => Self::Source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_two_hundred_are_kept_the_latest_first() {
        let lately = Lately::default();
        let title = |text: &str| AeTitle::parse(text).unwrap();
        for number in 0..=KEPT_MAX {
            lately.add(Rejected {
                at: Timestamp(0),
                peer: "192.0.2.7:50000".parse().unwrap(),
                titles: (number > 0).then(|| (title("CT1"), title("GW_MUNCIH"))),
                did_you_mean: (number == KEPT_MAX).then(|| title("GW_MUNICH")),
                why: format!("reason {number}"),
                remedy: None,
            });
        }
        let text = text(&lately.json());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), KEPT_MAX + 1);
        assert_eq!(
            lines[0],
            "1970-01-01T00:00:00Z  192.0.2.7:50000        CT1              → GW_MUNCIH         reason 200 (did you mean GW_MUNICH?)"
        );
        assert!(lines[KEPT_MAX - 1].ends_with("reason 1"), "{}", lines[KEPT_MAX - 1]);
        assert_eq!(lines[KEPT_MAX], "200 of late");
    }

    #[test]
    fn what_would_let_it_in_is_quoted_whatever_the_title() {
        let (calling, called) = (AeTitle::parse("CT\"1").unwrap(), AeTitle::parse("GW").unwrap());
        let remedy = |cause: TurnedAway| cause.remedy(&calling, &called, "192.0.2.7".parse().unwrap());
        assert_eq!(
            remedy(TurnedAway::Source).unwrap(),
            "\"192.0.2.7/32\" in `sources` in the [[route]] with ae = \"GW\""
        );
        let text = remedy(TurnedAway::Calling).unwrap();
        assert!(text.starts_with(r#""CT\"1" in `calling`"#), "{text}");
        assert!(
            TurnedAway::ALL.into_iter().filter(|cause| remedy(*cause).is_none()).eq([TurnedAway::OutboxFull])
        );
    }
}
