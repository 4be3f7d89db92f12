//! Pseudonymization on the way out: what a route says about it ([`PseudonymizeTable`]), the keys ([`KeyRing`]), and the stage
//! of the pipeline (`stage`).
//!
//! The rules of an instance are those of `crates/pseudonym`; this module gives them a key, a place in the pipeline, and words
//! for whoever was refused. What leaves is pseudonymized, not anonymous: who has the key can link it.

mod check;
pub mod crosswalk;
pub mod import;
mod refusal;
mod ring;
pub mod show;
pub(crate) mod stage;
mod table;

use std::sync::Arc;

use base::Timestamp;
use pseudonym::{Plan, ProfileOption, enveloped::Recipient};

pub(crate) use check::check;
pub use refusal::{NotPseudonymized, cause};
pub use ring::{KeyRing, RingError, SiteKey};
pub use table::{ProfileName, PseudonymizeTable, Rules};

/// How a route pseudonymizes.
#[derive(Debug, Clone)]
pub struct Pseudonymization {
    /// What is done to which attribute.
    pub plan: Arc<Plan>,
    /// The site keys.
    pub ring: Arc<KeyRing>,
}

impl Pseudonymization {
    /// For `check`: the codes and the key, never more.
    pub fn line(&self) -> String {
        let codes: Vec<_> = self.plan.codes().map(|code| code.value).collect();
        let earlier = match self.ring.earlier() {
            0 => String::new(),
            count => format!(", {count} earlier kept for studies seen under them"),
        };
        format!(
            "pseudonymized, not anonymous: {} under site key {}{earlier}",
            codes.join(" "),
            self.ring.current().name()
        )
    }

    /// For `check`: who can read the original values that go with each instance.
    pub fn recipients(&self) -> impl Iterator<Item = String> {
        let line = |one: &Recipient| format!("original values go with it, encrypted for {}", one.subject());
        self.plan.recipients().iter().map(line)
    }

    /// What an operator should think about twice.
    pub fn warnings(&self, now: Timestamp) -> Vec<&'static str> {
        let has = |option| self.plan.options().has(option);
        let mut warnings = Vec::new();
        if has(ProfileOption::RetainUids) {
            warnings.push("UIDs are kept: whoever has access to the archive can find the patient by them");
        }
        if has(ProfileOption::RetainFullDates) {
            warnings.push("dates are kept as they are: with a few of them a patient can be found again");
        }
        if self.plan.recipients().iter().any(|one| one.ends_at() < now.0 / 1000) {
            warnings.push(
                "a certificate of `reidentify` has ended; its key still opens what is encrypted for it",
            );
        }
        warnings
    }
}
