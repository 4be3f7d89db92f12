//! What is done to each attribute: the table, the options and the overrides, worked out once.

use std::collections::HashMap;

use base::{Digest, Hasher};
use dataset::{DictionaryVr, Tag, Vr};

use crate::enveloped::Recipient;
use crate::key::{PatientKey, Pseudonyms};
use crate::option::{MethodCode, OptionSet, ProfileOption};
use crate::profile::{Override, OverrideAction, Profile, ProfileError};
use crate::refusal::Refusal;
use crate::table::{Code, Row, TABLE_E1_1, Table, Tags};
use crate::words::WordList;

/// What is done to an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It stays; the elements of a sequence are asked about one by one.
    Keep,
    /// What the basic profile says.
    Basic(Basic),
    /// It is moved by the patient's number of days, or else.
    Shift(Basic),
    /// Only reviewed words of it stay, or else.
    Clean(Basic),
    /// It is a content tree, whose items are cleaned one by one.
    Content,
    /// It is drawn on an image: what is written there keeps reviewed words only, and all else is as of a dummy value.
    Graphics,
    /// The patient's pseudonym.
    Patient,
    /// The pseudonym of an accession number.
    Accession,
    /// A keyed pseudonym of its text.
    Hash,
    /// This stands in its place.
    Replace(String),
}

/// An action without a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basic {
    Remove,
    Empty,
    Dummy,
    Uid,
}

/// A profile, worked out. It is made once and shared by all instances of a route.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) profile: Profile,
    pub(crate) options: OptionSet,
    pub(crate) words: WordList,
    pub(crate) clinical: WordList,
    actions: HashMap<Tags, Action>,
    /// For whom original values are encrypted.
    pub(crate) recipients: Vec<Recipient>,
    digest: Digest,
}

/// Attributes that are of type 3 in every composite object that has them (PS3.3 C.7.3.1, C.7.5.1, C.12.1): of X/Z, X/D and X/Z/D, X is
/// enough. All others keep the structure, whatever the class.
const TYPE_3: &[Tag] = &[
    Tag(0x0008, 0x0012),
    Tag(0x0008, 0x0021),
    Tag(0x0008, 0x0031),
    Tag(0x0008, 0x0080),
    Tag(0x0008, 0x0082),
    Tag(0x0008, 0x1072),
    Tag(0x0008, 0x1110),
];

/// Words in front of a name, or codes of modalities, that are somebody's name as well: they are no trace of a patient.
const CLINICAL_BUILT_IN: &str =
    "ct mr us cr dx mg nm pt xa rf sc ot io dr pr ko sr rt head neck chest abdomen pelvis hand foot spine";

impl Plan {
    /// Works a profile out. `words` are what stays of descriptors; `clinical` are words of which a match with a name of the
    /// patient is no trace of the patient.
    pub fn new(profile: Profile, words: WordList, clinical: &str) -> Result<Self, ProfileError> {
        let options = profile.in_force();
        check(&profile, options, &words)?;
        let table = Table::get();
        let mut actions: HashMap<Tags, Action> =
            table.rows().iter().map(|row| (row.tags, resolved(row, options))).collect();
        for (tag, action) in [
            (PATIENT_NAME, Action::Patient),
            (Tag::PATIENT_ID, Action::Patient),
            (Tag::ACCESSION, Action::Accession),
        ] {
            actions.insert(Tags::One(tag), action);
        }
        let mut seen = Vec::new();
        for given in &profile.overrides {
            let tag = given.tag()?;
            let action = overridden(tag, given)?;
            if seen.contains(&tag) {
                return Err(ProfileError::Repeated(tag));
            }
            seen.push(tag);
            actions.insert(Tags::One(tag), action);
        }
        let clinical = WordList::parse(&format!("{CLINICAL_BUILT_IN}\n{clinical}"));
        let digest = digest(&profile, options, &words, &clinical);
        Ok(Self { profile, options, words, clinical, actions, recipients: Vec::new(), digest })
    }

    /// Original values of the first level are encrypted for these certificates and go with the instance: Encrypted Attributes
    /// Sequence (0400,0500).
    pub fn with_recipients(mut self, recipients: Vec<Recipient>) -> Self {
        if recipients.is_empty() {
            return self;
        }
        let mut hasher = Hasher::new(b"sluis/pseudonym/plan+recipients/1");
        hasher.field(self.digest.as_bytes());
        recipients.iter().for_each(|one| hasher.field(&one.der()));
        self.digest = hasher.finish();
        self.recipients = recipients;
        self
    }

    /// For whom original values are encrypted.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// Whether the value of a first-level attribute is among what is encrypted: something becomes of it.
    pub(crate) fn is_encrypted(&self, tag: Tag) -> bool {
        let acts = || self.action(tag).is_some_and(|action| *action != Action::Keep);
        !self.recipients.is_empty() && (tag == Tag::CHARACTER_SET || acts())
    }

    /// The options that are in force.
    pub fn options(&self) -> OptionSet {
        self.options
    }

    /// Names the whole of the profile, the lists and the table: what was done is the same where this is the same, and the key.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Who a patient is, or why this is none.
    pub fn patient(&self, issuer: &str, id: &str) -> Result<PatientKey, Refusal> {
        self.profile.patient.patient(issuer, id)
    }

    /// By how many days the dates of a patient are moved, where they are.
    pub fn days(&self, pseudonyms: &Pseudonyms, patient: &PatientKey) -> i64 {
        pseudonyms.days(patient, self.profile.date_shift.0)
    }

    /// Names the profile together with the site key: what is the same under both is treated the same.
    pub fn digest_under(&self, pseudonyms: &Pseudonyms) -> Digest {
        let mut hasher = Hasher::new(b"sluis/pseudonym/profile/1");
        hasher.field(self.digest.as_bytes());
        hasher.field(pseudonyms.key_id().as_bytes());
        hasher.finish()
    }

    /// The codes that are written into De-identification Method Code Sequence (0012,0064).
    pub fn codes(&self) -> impl Iterator<Item = MethodCode> {
        std::iter::once(MethodCode::BASIC).chain(self.options.iter().map(ProfileOption::code))
    }

    /// What is done to an attribute of the standard. `None`: it is in no row.
    pub(crate) fn action(&self, tag: Tag) -> Option<&Action> {
        self.actions.get(&Tags::One(tag)).or_else(|| {
            let row = Table::get().row(tag)?;
            self.actions.get(&row.tags)
        })
    }
}

/// Patient's Name.
pub(crate) const PATIENT_NAME: Tag = Tag(0x0010, 0x0010);

fn check(profile: &Profile, options: OptionSet, words: &WordList) -> Result<(), ProfileError> {
    use ProfileOption::{CleanDescriptors, RetainFullDates, RetainModifiedDates};
    if options.has(RetainFullDates) && options.has(RetainModifiedDates) {
        return Err(ProfileError::Contradiction(RetainFullDates, RetainModifiedDates));
    }
    if let Some(option) = options.iter().find(|option| !option.is_offered()) {
        return Err(ProfileError::NotOffered(option));
    }
    let is_concept = |text: &&String| {
        text.split_once(' ').is_some_and(|(scheme, code)| !scheme.is_empty() && !code.trim().is_empty())
    };
    if let Some(text) = profile.content.keep_text.iter().find(|text| !is_concept(text)) {
        return Err(ProfileError::NoConcept(text.clone()));
    }
    let faults = profile.pixel_rules.iter().map(crate::PixelRule::fault);
    if let Some((place, fault)) = faults.enumerate().find_map(|(place, fault)| Some((place, fault?))) {
        return Err(ProfileError::PixelRule(place, fault));
    }
    let faults = profile.object_rules.iter().map(crate::ObjectRule::fault);
    if let Some((place, fault)) = faults.enumerate().find_map(|(place, fault)| Some((place, fault?))) {
        return Err(ProfileError::ObjectRule(place, fault));
    }
    if options.has(CleanDescriptors) && words.is_empty() {
        return Err(ProfileError::NoWords);
    }
    if options.has(RetainModifiedDates) && profile.date_shift.0 == 0 {
        return Err(ProfileError::NoShift);
    }
    Ok(())
}

fn resolved(row: &Row, options: OptionSet) -> Action {
    use ProfileOption::{
        CleanDescriptors, CleanGraphics, CleanStructuredContent, RetainDeviceIdentity, RetainModifiedDates,
        RetainPatientCharacteristics,
    };
    if row.kept.meets(options) {
        return Action::Keep;
    }
    let Some(basic) = basic(row) else { return Action::Keep };
    let cleans = |option| options.has(option) && row.cleaned.has(option);
    if cleans(CleanStructuredContent) {
        Action::Content
    } else if cleans(CleanGraphics) && matches!(row.tags, Tags::One(_)) {
        // Overlays and curves are pictures of text: the basic code holds for them.
        Action::Graphics
    } else if cleans(RetainModifiedDates) {
        Action::Shift(basic)
    } else if [CleanDescriptors, RetainDeviceIdentity, RetainPatientCharacteristics].into_iter().any(cleans) {
        Action::Clean(basic)
    } else {
        Action::Basic(basic)
    }
}

/// `None`: of a sequence that stays, what is in it is acted on.
fn basic(row: &Row) -> Option<Basic> {
    let Tags::One(tag) = row.tags else { return Some(Basic::Remove) };
    let is_uid = tag.dictionary_vr() == Some(DictionaryVr::Exact(Vr::UI));
    let dummy = if is_uid { Basic::Uid } else { Basic::Dummy };
    Some(match row.basic {
        Code::Remove => Basic::Remove,
        Code::RemoveOrZero if TYPE_3.contains(&tag) => Basic::Remove,
        Code::Zero | Code::RemoveOrZero => Basic::Empty,
        Code::Uid => Basic::Uid,
        Code::RemoveOrDummy | Code::RemoveZeroOrDummy if TYPE_3.contains(&tag) => Basic::Remove,
        Code::Dummy | Code::ZeroOrDummy | Code::RemoveOrDummy | Code::RemoveZeroOrDummy => dummy,
        Code::RemoveZeroOrUids => return None,
    })
}

/// Attributes that say what an instance is, or that it was pseudonymized.
const FIXED: &[(Tag, &str)] = &[
    (Tag::CHARACTER_SET, "it says how all text is written"),
    (Tag::SOP_CLASS, "it says what the instance is"),
    (Tag::SOP_INSTANCE, "use the option retain-uids"),
    (Tag::STUDY, "use the option retain-uids"),
    (Tag::SERIES, "use the option retain-uids"),
    (Tag::PATIENT_ID, "it is what pseudonymized studies are linked by"),
    (Tag(0x0012, 0x0062), "it is written by the pseudonymization"),
    (Tag(0x0012, 0x0063), "it is written by the pseudonymization"),
    (Tag(0x0012, 0x0064), "it is written by the pseudonymization"),
    (Tag(0x0028, 0x0303), "it is written by the pseudonymization"),
    (Tag::PIXEL_DATA, "see the rules for pixels"),
];

fn overridden(tag: Tag, given: &Override) -> Result<Action, ProfileError> {
    if let Some((_, why)) = FIXED.iter().find(|(fixed, _)| *fixed == tag) {
        return Err(ProfileError::Fixed(tag, why));
    }
    if tag.is_private() {
        return Err(ProfileError::Fixed(
            tag,
            "private attributes are kept by the option retain-safe-private only",
        ));
    }
    if (given.action == OverrideAction::Replace) != given.value.is_some() {
        return Err(ProfileError::Value(tag));
    }
    Ok(match (given.action, &given.value) {
        (OverrideAction::Keep, _) => Action::Keep,
        (OverrideAction::Empty, _) => Action::Basic(Basic::Empty),
        (OverrideAction::Remove, _) => Action::Basic(Basic::Remove),
        (OverrideAction::Hash, _) => Action::Hash,
        (OverrideAction::HashUid, _) => Action::Basic(Basic::Uid),
        (OverrideAction::HashDate, _) => Action::Shift(Basic::Remove),
        (OverrideAction::Replace, Some(value)) => Action::Replace(checked(tag, value)?),
        (OverrideAction::Replace, None) => return Err(ProfileError::Value(tag)),
    })
}

fn checked(tag: Tag, value: &str) -> Result<String, ProfileError> {
    let max = match tag.dictionary_vr() {
        Some(DictionaryVr::Exact(vr)) => vr.characters_max().unwrap_or(0),
        _ => 0,
    };
    let printable = value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'\\');
    if !printable || value.len() > max {
        return Err(ProfileError::BadValue(tag, max));
    }
    Ok(value.to_owned())
}

fn digest(profile: &Profile, options: OptionSet, words: &WordList, clinical: &WordList) -> Digest {
    let mut hasher = Hasher::new(b"sluis/pseudonym/plan/1");
    hasher.field(TABLE_E1_1.as_bytes());
    hasher.field(crate::safe_private::TABLE_E3_10_1.as_bytes());
    for option in options.iter() {
        hasher.field(option.code().value.as_bytes());
    }
    // Debug output of plain values: stable for one version of this crate, and a new version is a new profile.
    hasher.field(
        format!(
            "{} {:?} {:?} {:?} {:?} {:?} {:?}",
            env!("CARGO_PKG_VERSION"),
            profile.patient,
            profile.content,
            profile.date_shift,
            profile.overrides,
            profile.pixel_rules,
            profile.object_rules
        )
        .as_bytes(),
    );
    for list in [words, clinical] {
        hasher.field(&(list.sorted().len() as u64).to_be_bytes());
        list.sorted().iter().for_each(|word| hasher.field(word.as_bytes()));
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(options: &[ProfileOption]) -> Result<Plan, ProfileError> {
        let profile = Profile { options: options.to_vec(), ..Profile::default() };
        Plan::new(profile, WordList::parse("thorax"), "")
    }

    fn with(overrides: &[(&str, OverrideAction, Option<&str>)]) -> Result<Plan, ProfileError> {
        let overrides = overrides
            .iter()
            .map(|(tag, action, value)| Override {
                tag: (*tag).into(),
                action: *action,
                value: value.map(str::to_owned),
            })
            .collect();
        Plan::new(Profile { overrides, ..Profile::default() }, WordList::default(), "")
    }

    #[test]
    fn every_row_has_an_action_and_options_change_it() {
        use ProfileOption::*;
        let action = |options: &[ProfileOption], group, element| {
            plan(options).unwrap().action(Tag(group, element)).cloned()
        };
        let basic = |basic| Some(Action::Basic(basic));
        let cases = [
            (&[][..], (0x0010, 0x0020), Some(Action::Patient)),
            (&[], (0x0008, 0x0050), Some(Action::Accession)),
            (&[], (0x0008, 0x0018), basic(Basic::Uid)),
            (&[], (0x006A, 0x0003), basic(Basic::Uid)),
            (&[RetainUids], (0x0008, 0x0018), Some(Action::Keep)),
            (&[], (0x0008, 0x0020), basic(Basic::Empty)),
            (&[RetainFullDates], (0x0008, 0x0020), Some(Action::Keep)),
            (&[RetainModifiedDates], (0x0008, 0x0020), Some(Action::Shift(Basic::Empty))),
            (&[], (0x0008, 0x103E), basic(Basic::Remove)),
            (&[CleanDescriptors], (0x0008, 0x103E), Some(Action::Clean(Basic::Remove))),
            (&[], (0x0008, 0x0021), basic(Basic::Remove)),
            (&[], (0x3008, 0x0250), basic(Basic::Dummy)),
            (&[], (0x0008, 0x1110), basic(Basic::Remove)),
            (&[], (0x0008, 0x1140), Some(Action::Keep)),
            (&[], (0x6004, 0x3000), basic(Basic::Remove)),
            (&[], (0x0028, 0x0010), None),
        ];
        for (options, (group, element), want) in cases {
            assert_eq!(action(options, group, element), want, "{options:?} {group:04X},{element:04X}");
        }
        for row in Table::get().rows() {
            if let Tags::One(tag) = row.tags {
                assert!(plan(&[]).unwrap().action(tag).is_some(), "{}", row.name);
            }
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        use ProfileOption::*;
        assert!(matches!(
            plan(&[RetainFullDates, RetainModifiedDates]),
            Err(ProfileError::Contradiction(..))
        ));
        assert!(matches!(plan(&[CleanPixelData]), Err(ProfileError::NotOffered(CleanPixelData))));
        let profile = Profile { options: vec![CleanDescriptors], ..Profile::default() };
        assert!(matches!(Plan::new(profile, WordList::default(), ""), Err(ProfileError::NoWords)));
        let profile = Profile {
            options: vec![RetainModifiedDates],
            date_shift: crate::profile::DateShift(0),
            ..Profile::default()
        };
        assert!(matches!(Plan::new(profile, WordList::default(), ""), Err(ProfileError::NoShift)));
    }

    #[test]
    fn overrides_name_an_attribute_and_leave_the_foundations_alone() {
        use OverrideAction::*;
        let action = |plan: &Plan| plan.action(Tag(0x0008, 0x103E)).cloned();
        for tag in ["(0008,103E)", "0008103e", "SeriesDescription", " (0008, 103e) "] {
            assert_eq!(action(&with(&[(tag, Keep, None)]).unwrap()), Some(Action::Keep), "{tag}");
        }
        assert_eq!(
            action(&with(&[("SeriesDescription", Replace, Some("CT"))]).unwrap()),
            Some(Action::Replace("CT".into()))
        );
        let refused: &[(&str, OverrideAction, Option<&str>)] = &[
            ("NoSuchThing", Keep, None),
            ("PatientID", Keep, None),
            ("0012,0062", Remove, None),
            ("0009,1001", Keep, None),
            ("SeriesDescription", Replace, None),
            ("SeriesDescription", Keep, Some("x")),
            ("SeriesDescription", Replace, Some("a\\b")),
            ("SeriesDescription", Replace, Some("ä")),
            ("StationName", Replace, Some("seventeen letters")),
            ("PixelData", Remove, None),
        ];
        for one in refused {
            assert!(with(std::slice::from_ref(one)).is_err(), "{one:?}");
        }
        assert!(matches!(
            with(&[("SeriesDescription", Keep, None), ("0008,103E", Keep, None)]),
            Err(ProfileError::Repeated(_))
        ));
    }

    #[test]
    fn another_plan_has_another_digest() {
        let digests = [
            plan(&[]).unwrap().digest(),
            plan(&[ProfileOption::RetainUids]).unwrap().digest(),
            with(&[("SeriesDescription", OverrideAction::Keep, None)]).unwrap().digest(),
            with(&[]).unwrap().digest(),
        ];
        for (i, one) in digests.iter().enumerate() {
            assert!(digests.iter().skip(i + 1).all(|other| other != one), "{i}");
        }
        assert_eq!(plan(&[]).unwrap().digest(), plan(&[]).unwrap().digest());
    }

    #[test]
    fn only_codes_of_what_is_in_force_are_claimed() {
        let profile = Profile { preset: crate::profile::Preset::Longitudinal, ..Profile::default() };
        let plan = Plan::new(profile, WordList::parse("thorax"), "").unwrap();
        let codes: Vec<&str> = plan.codes().map(|code| code.value).collect();
        assert_eq!(codes, ["113100", "113105", "113107", "113108"]);
    }
}
