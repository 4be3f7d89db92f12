use std::collections::BTreeMap;

use base::{Digest, Phi, Uid};
use dataset::Tag;

use crate::option::{MethodCode, ProfileOption};
use crate::plan::Plan;

/// What was done to elements of one tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Done {
    /// They are not there any more.
    Removed,
    /// They have no value any more.
    Emptied,
    /// They have a dummy value.
    Dummied,
    /// Their UIDs are pseudonyms.
    Uid,
    /// They were moved by days.
    Shifted,
    /// Only reviewed words are left.
    Cleaned,
    /// They have a keyed pseudonym.
    Pseudonym,
    /// They have the value that an override gives.
    Replaced,
    /// Private, and safe to keep.
    KeptPrivate,
    /// A rule lets it pass as it is, unseen.
    KeptUnseen,
    /// Parts of its pixels are black.
    Masked,
}

impl Done {
    /// As reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Emptied => "emptied",
            Self::Dummied => "dummy value",
            Self::Uid => "UID replaced",
            Self::Shifted => "moved by days",
            Self::Cleaned => "cleaned",
            Self::Pseudonym => "pseudonym",
            Self::Replaced => "replaced",
            Self::KeptPrivate => "kept (safe private)",
            Self::KeptUnseen => "kept (by a rule, not cleaned)",
            Self::Masked => "masked",
        }
    }
}

/// Different tags that a report lists; more are only counted.
const TAGS_MAX: usize = 4096;

/// What was done to an instance: tags and counts, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How often what was done to which attribute, at every depth. Private elements count under their tag.
    pub done: BTreeMap<(Tag, Done), u64>,
    /// What did not fit into `done`.
    pub more: u64,
    /// Words of names that were found, and are clinical words as well.
    pub clinical: u64,
    /// The codes that were written.
    pub codes: Vec<MethodCode>,
    /// Names the profile with its lists and tables.
    pub plan: Digest,
    /// Names the site key.
    pub key: Digest,
}

impl Report {
    pub(crate) fn new(plan: &Plan, key: Digest, masked: bool) -> Self {
        let mut codes: Vec<_> = plan.codes().collect();
        codes.extend(masked.then(|| ProfileOption::CleanPixelData.code()));
        codes.sort_unstable();
        Self { done: BTreeMap::new(), more: 0, clinical: 0, codes, plan: plan.digest(), key }
    }

    pub(crate) fn note(&mut self, tag: Tag, done: Done) {
        if self.done.len() >= TAGS_MAX && !self.done.contains_key(&(tag, done)) {
            self.more += 1;
        } else {
            *self.done.entry((tag, done)).or_default() += 1;
        }
    }

    /// As it is kept and printed: its SHA-256 is what a receipt binds. Of one report there is one text.
    pub fn to_text(&self) -> String {
        let codes: Vec<_> = self.codes.iter().map(|code| code.value).collect();
        let mut text = format!(
            "sluis pseudonymization report 1\nprofile {}\nkey {}\ncodes {}\n",
            self.plan,
            self.key,
            codes.join(" ")
        );
        for ((tag, done), count) in &self.done {
            text.push_str(&format!("{tag} {count} {}\n", done.as_str()));
        }
        text.push_str(&format!("further {}\nclinical words {}\n", self.more, self.clinical));
        text
    }
}

/// A pseudonymized instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pseudonymized {
    /// What was done.
    pub report: Report,
    /// Its SOP Class UID.
    pub sop_class: String,
    /// Its new SOP Instance UID.
    pub sop_instance: Uid,
    /// The SOP Instance UID that it came with.
    pub sop_instance_before: Phi<String>,
    /// The Study Instance UID that it came with; empty where it has none.
    pub study_before: Phi<String>,
}
