//! What an operator configures about one route's pseudonymization, and why it may be refused.

use dataset::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::content::ContentRules;
use crate::objects::ObjectRule;
use crate::option::{OptionSet, ProfileOption};
use crate::patient::PatientRules;
use crate::scope::PixelRule;

/// How the instances of a route are pseudonymized: the basic profile of PS3.15 Annex E, and what is changed about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Options that are often wanted together; `options` adds to them.
    pub preset: Preset,
    /// Options of PS3.15 E.3, by name, for instance `"retain-device-identity"`.
    pub options: Vec<ProfileOption>,
    /// What a patient's identity is.
    pub patient: PatientRules,
    /// The most days that dates are moved by with `retain-modified-dates`. Default 3650.
    pub date_shift: DateShift,
    /// Attributes that are treated otherwise than the table says.
    #[serde(rename = "override")]
    pub overrides: Vec<Override>,
    /// What `clean-structured-content` keeps.
    pub content: ContentRules,
    /// Images that are passed or refused otherwise than by default: the first that fits counts.
    #[serde(rename = "pixels")]
    pub pixel_rules: Vec<PixelRule>,
    /// Objects whose content cannot be cleaned, by SOP class: the first that names it counts.
    #[serde(rename = "object")]
    pub object_rules: Vec<ObjectRule>,
}

/// Options that are often wanted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// None.
    #[default]
    Basic,
    /// Modified dates, patient characteristics and cleaned descriptors: for research over time.
    Longitudinal,
    /// Patient characteristics and cleaned descriptors: for teaching files.
    Teaching,
}

/// Days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DateShift(pub u16);

impl Default for DateShift {
    fn default() -> Self {
        Self(3650)
    }
}

/// One attribute that is treated otherwise than the table says, at every depth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// `"(0008,103E)"`, `"0008103E"`, or a keyword of PS3.6, for instance `"SeriesDescription"`.
    pub tag: String,
    /// What is done.
    pub action: OverrideAction,
    /// With `replace`: what stands there instead, in ASCII.
    pub value: Option<String>,
}

/// The vocabulary of dicom-anonymization, which many sites have written their rules in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverrideAction {
    /// It stays; a sequence's elements are asked about one by one.
    Keep,
    /// It stays without a value.
    Empty,
    /// It goes.
    Remove,
    /// It has another value.
    Replace,
    /// It has a keyed pseudonym of its value.
    Hash,
    /// Each of its UIDs has its pseudonym.
    #[serde(rename = "hashuid")]
    HashUid,
    /// It is moved by the patient's number of days.
    #[serde(rename = "hashdate")]
    HashDate,
}

/// Why a profile cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProfileError {
    /// Two options exclude each other.
    #[error("{} and {} exclude each other; choose one", .0.code().meaning, .1.code().meaning)]
    Contradiction(ProfileOption, ProfileOption),
    /// An option that needs code which is not there.
    #[error("{} ({}) is not offered; instances that need it are refused", .0.code().meaning, .0.code().value)]
    NotOffered(ProfileOption),
    /// Descriptors cannot be cleaned without a list.
    #[error(
        "Clean Descriptors Option needs a reviewed list of words to keep; without one nothing is cleaned, only removed"
    )]
    NoWords,
    /// Not an attribute.
    #[error("{0:?} is neither (gggg,eeee) nor a keyword of PS3.6")]
    UnknownTag(String),
    /// An attribute that the pseudonymization itself depends on.
    #[error("{0} cannot be overridden: {1}")]
    Fixed(Tag, &'static str),
    /// Twice.
    #[error("{0} is overridden twice")]
    Repeated(Tag),
    /// `replace` without, or another action with.
    #[error("{0}: \"replace\" needs a value, and no other action has one")]
    Value(Tag),
    /// A value that the attribute cannot have.
    #[error("{0}: the value must be printable ASCII without a backslash, of at most {1} characters")]
    BadValue(Tag, usize),
    /// Not a concept.
    #[error("{0:?} is no concept; write scheme and code as in \"DCM 121071\"")]
    NoConcept(String),
    /// A rule for pixels, by its place.
    #[error("rule {0} for pixels: {1}")]
    PixelRule(usize, &'static str),
    /// A rule for objects, by its place.
    #[error("rule {0} for objects: {1}")]
    ObjectRule(usize, &'static str),
    /// A shift of no days.
    #[error("date_shift is 0 days: dates would not be moved; give 1 or more")]
    NoShift,
}

impl Profile {
    /// The options that are in force.
    pub fn in_force(&self) -> OptionSet {
        let preset: &[ProfileOption] = match self.preset {
            Preset::Basic => &[],
            Preset::Longitudinal => &[
                ProfileOption::RetainModifiedDates,
                ProfileOption::RetainPatientCharacteristics,
                ProfileOption::CleanDescriptors,
            ],
            Preset::Teaching => {
                &[ProfileOption::RetainPatientCharacteristics, ProfileOption::CleanDescriptors]
            }
        };
        preset.iter().chain(&self.options).copied().collect()
    }
}

impl Override {
    /// The attribute.
    pub(crate) fn tag(&self) -> Result<Tag, ProfileError> {
        let text = self.tag.trim();
        let digits: String = text.chars().filter(|c| !matches!(c, '(' | ')' | ',' | ' ')).collect();
        if digits.len() == 8
            && let Ok(number) = u32::from_str_radix(&digits, 16)
        {
            let [a, b, c, d] = number.to_be_bytes();
            return Ok(Tag(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
        }
        let entry = StandardDataDictionary.by_name(text);
        entry
            .map(|entry| entry.tag())
            .map(|tag| Tag(tag.0, tag.1))
            .ok_or_else(|| ProfileError::UnknownTag(text.to_owned()))
    }
}
