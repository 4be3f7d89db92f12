//! What a destination's answer means for custody. The one place where a status becomes a decision.

pub mod stow;

use std::collections::BTreeMap;

use base::Status;
use dimse::{Retry, Service, StatusRow};
use serde::{Deserialize, Serialize};

/// What follows from a destination's answer (CUSTODY, "What ends custody").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The destination has the instance: a receipt that ends custody.
    Stored,
    /// The destination will not have it: a receipt that parks the instance at the sender.
    Refused,
    /// Not now: the sender waits and deposits again.
    Deferred,
}

/// What a row of [`dimse::STATUSES`], the one table of statuses (PS3.4 Table B.2-1, PS3.7 Annex C), means for custody: done is
/// stored, worth another try is deferred, and what helps only after a change is refused. What is in no row is deferred.
pub const fn of_retry(retry: Retry) -> Verdict {
    match retry {
        Retry::Done => Verdict::Stored,
        Retry::Later => Verdict::Deferred,
        Retry::AfterChange => Verdict::Refused,
    }
}

/// The rows of C-STORE, in the order in which they are looked at; [`DUPLICATE_SOP_INSTANCE`] has a rule of its own.
pub fn status_rows() -> impl Iterator<Item = &'static StatusRow> {
    let of_store = |row: &&StatusRow| row.services.contains(&Service::Store);
    dimse::STATUSES.iter().filter(of_store).filter(|row| row.code != DUPLICATE_SOP_INSTANCE.0)
}

/// Duplicate SOP instance: no C-STORE status, but archives send it. It means "stored" only where an
/// earlier attempt of ours may have stored the instance.
pub const DUPLICATE_SOP_INSTANCE: Status = Status(0x0111);

/// Our wording for a status.
pub fn meaning(status: Status) -> &'static str {
    if status == DUPLICATE_SOP_INSTANCE {
        return "duplicate SOP instance";
    }
    dimse::status_row(Service::Store, status).map_or("unlisted status", |row| row.meaning)
}

/// `[destination.status]`: codes that a destination uses in another sense than the table, such as a
/// PACS that answers C000 while its database is down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Verdict>", into = "BTreeMap<String, Verdict>")]
pub struct StatusOverrides(BTreeMap<String, Verdict>);

/// Why a key of `[destination.status]` is not a status.
#[derive(Debug, thiserror::Error)]
#[error(
    "status {0:?} is not four hexadecimal digits, the last ones possibly \"x\" (as in \"C000\" or \"A7xx\")"
)]
pub struct StatusPatternError(String);

impl TryFrom<BTreeMap<String, Verdict>> for StatusOverrides {
    type Error = StatusPatternError;

    fn try_from(map: BTreeMap<String, Verdict>) -> Result<Self, StatusPatternError> {
        for key in map.keys() {
            let digits = key.trim_end_matches(['x', 'X']);
            if key.len() != 4 || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(StatusPatternError(key.clone()));
            }
        }
        Ok(Self(map))
    }
}

impl From<StatusOverrides> for BTreeMap<String, Verdict> {
    fn from(overrides: StatusOverrides) -> Self {
        overrides.0
    }
}

impl StatusOverrides {
    fn verdict(&self, status: Status) -> Option<Verdict> {
        let code = format!("{:04X}", status.0);
        let matches = |key: &str| code.starts_with(&key.trim_end_matches(['x', 'X']).to_ascii_uppercase());
        // The most specific pattern wins: "C001" before "Cxxx".
        self.0
            .iter()
            .filter(|(key, _)| matches(key))
            .max_by_key(|(key, _)| key.trim_end_matches(['x', 'X']).len())
            .map(|(_, verdict)| *verdict)
    }
}

/// Decides about one answer. `may_be_stored` says that an earlier attempt of ours ended without an
/// answer after its last fragment had left.
pub fn verdict(status: Status, overrides: &StatusOverrides, may_be_stored: bool) -> Verdict {
    if let Some(verdict) = overrides.verdict(status) {
        return verdict;
    }
    if status == DUPLICATE_SOP_INSTANCE {
        return if may_be_stored { Verdict::Stored } else { Verdict::Deferred };
    }
    of_retry(dimse::retry(Service::Store, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_ends_as_the_custody_rules_say() {
        use Verdict::{Deferred, Refused, Stored};
        let cases = [
            (0x0000, Stored),
            (0x0001, Stored),
            (0x0107, Stored),
            (0x0116, Stored),
            (0xB000, Stored),
            (0xB006, Stored),
            (0xBFFF, Stored),
            (0xA700, Deferred),
            (0xA7FF, Deferred),
            (0x0110, Deferred),
            (0x0213, Deferred),
            (0x0111, Deferred),
            (0x0118, Deferred),
            (0xFE00, Deferred),
            (0xFF00, Deferred),
            (0xA800, Deferred),
            (0xA900, Refused),
            (0xA9FE, Refused),
            (0xC000, Refused),
            (0xCFFF, Refused),
            (0x0112, Refused),
            (0x0117, Refused),
            (0x0122, Refused),
            (0x0124, Refused),
            (0x0210, Refused),
            (0x0211, Refused),
            (0x0212, Refused),
        ];
        for (code, want) in cases {
            assert_eq!(verdict(Status(code), &StatusOverrides::default(), false), want, "{code:04X}");
        }
    }

    #[test]
    fn a_duplicate_counts_as_stored_only_after_an_attempt_of_unknown_outcome() {
        let none = StatusOverrides::default();
        assert_eq!(verdict(DUPLICATE_SOP_INSTANCE, &none, true), Verdict::Stored);
        assert_eq!(verdict(DUPLICATE_SOP_INSTANCE, &none, false), Verdict::Deferred);
    }

    #[test]
    fn a_destination_may_move_codes_between_the_classes() {
        let map = [("C000", Verdict::Deferred), ("Cxxx", Verdict::Refused), ("A7xx", Verdict::Refused)];
        let overrides = StatusOverrides::try_from(
            map.map(|(k, v)| (k.to_owned(), v)).into_iter().collect::<BTreeMap<_, _>>(),
        )
        .unwrap();
        assert_eq!(verdict(Status(0xC000), &overrides, false), Verdict::Deferred);
        assert_eq!(verdict(Status(0xC001), &overrides, false), Verdict::Refused);
        assert_eq!(verdict(Status(0xA701), &overrides, false), Verdict::Refused);
        for bad in ["", "C0", "xxxx", "G000", "C0x0", "C0000"] {
            let map = BTreeMap::from([(bad.to_owned(), Verdict::Stored)]);
            assert!(StatusOverrides::try_from(map).is_err(), "{bad:?}");
        }
    }
}
