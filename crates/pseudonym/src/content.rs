//! Content trees (PS3.3 C.17.3): what becomes of a content item, by its value type and its concept. The tree keeps its shape: items are
//! referred to by their place in it, so that none is removed.

use dataset::{NewElement, Place, Tag, Vr};
use serde::{Deserialize, Serialize};

use crate::option::{OptionSet, ProfileOption};

pub(crate) const VALUE_TYPE: Tag = Tag(0x0040, 0xA040);
pub(crate) const VERIFICATION_FLAG: Tag = Tag(0x0040, 0xA493);
pub(crate) const VERIFYING_OBSERVER: Tag = Tag(0x0040, 0xA073);
pub(crate) const CONCEPT_NAME: Tag = Tag(0x0040, 0xA043);
const TEXT_VALUE: Tag = Tag(0x0040, 0xA160);
const PERSON_NAME: Tag = Tag(0x0040, 0xA123);
const DATE: Tag = Tag(0x0040, 0xA121);
const DATE_TIME: Tag = Tag(0x0040, 0xA120);
const CONCEPT_CODE: Tag = Tag(0x0040, 0xA168);
const CODE_VALUE: Tag = Tag(0x0008, 0x0100);
const CODING_SCHEME: Tag = Tag(0x0008, 0x0102);
const CODING_SCHEME_VERSION: Tag = Tag(0x0008, 0x0103);
const CODE_MEANING: Tag = Tag(0x0008, 0x0104);
const LONG_CODE_VALUE: Tag = Tag(0x0008, 0x0119);
const URN_CODE_VALUE: Tag = Tag(0x0008, 0x0120);
/// Numeric Value, and what may stand beside it.
const NUMBERS: [Tag; 4] =
    [Tag(0x0040, 0xA30A), Tag(0x0040, 0xA161), Tag(0x0040, 0xA162), Tag(0x0040, 0xA163)];

/// Value types that are understood (PS3.3 C.17.3.2.1). A table holds text of any kind in cells.
const VALUE_TYPES: &[&str] = &[
    "TEXT",
    "NUM",
    "CODE",
    "DATETIME",
    "DATE",
    "TIME",
    "UIDREF",
    "PNAME",
    "COMPOSITE",
    "IMAGE",
    "WAVEFORM",
    "SCOORD",
    "SCOORD3D",
    "TCOORD",
    "CONTAINER",
];

/// SOP classes that are a content tree: they can be cleaned by the option, and not otherwise.
pub(crate) const CLASSES: &[&str] = &[
    "1.2.840.10008.5.1.4.1.1.88.11",
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.35",
    "1.2.840.10008.5.1.4.1.1.88.40",
    "1.2.840.10008.5.1.4.1.1.88.50",
    "1.2.840.10008.5.1.4.1.1.88.59",
    "1.2.840.10008.5.1.4.1.1.88.65",
    "1.2.840.10008.5.1.4.1.1.88.67",
    "1.2.840.10008.5.1.4.1.1.88.68",
    "1.2.840.10008.5.1.4.1.1.88.69",
    "1.2.840.10008.5.1.4.1.1.88.70",
    "1.2.840.10008.5.1.4.1.1.88.71",
    "1.2.840.10008.5.1.4.1.1.88.72",
    "1.2.840.10008.5.1.4.1.1.88.73",
    "1.2.840.10008.5.1.4.1.1.88.74",
    "1.2.840.10008.5.1.4.1.1.88.75",
    "1.2.840.10008.5.1.4.1.1.88.76",
];

/// Schemes that an organisation publishes (PS3.16 Table 8-1): what a code of theirs means is not for a sender to say.
const PUBLIC_SCHEMES: &[&str] = &[
    "ACR",
    "BARI",
    "BI",
    "C4",
    "C5",
    "CD10",
    "CPT4",
    "CST4",
    "CVX",
    "DCM",
    "DCMUID",
    "FMA",
    "HGNC",
    "HPC",
    "I10",
    "I10P",
    "I11",
    "I9",
    "I9C",
    "IBSI",
    "ICDO3",
    "ISO3166_1",
    "ISO639_1",
    "ISO639_2",
    "ITIS_TSN",
    "LN",
    "MA",
    "MDC",
    "MGI",
    "MSH",
    "NCDR",
    "NCIt",
    "NDC",
    "NEU",
    "NICIP",
    "NYUMCCG",
    "PATHLEX",
    "RADELEMENT",
    "RADLEX",
    "RFC3066",
    "RFC5646",
    "RO",
    "SCT",
    "SDM",
    "SNM3",
    "SRT",
    "TNM",
    "UBERON",
    "UCUM",
    "UMLS",
];

/// Concepts that say how a patient is: kept with Retain Patient Characteristics only (PS3.16 TID 1007, 9007; CID 3627).
const CHARACTERISTICS: &[(&str, &str)] = &[
    ("DCM", "121032"),
    ("DCM", "121033"),
    ("DCM", "121039"),
    ("DCM", "121040"),
    ("LN", "8302-2"),
    ("LN", "3137-7"),
    ("LN", "29463-7"),
    ("LN", "3141-9"),
    ("LN", "8277-6"),
    ("LN", "39156-5"),
    ("LN", "46463-6"),
    ("LN", "30525-0"),
    ("SCT", "397669002"),
    ("SCT", "50373000"),
    ("SCT", "27113001"),
    ("SCT", "60621009"),
    ("SCT", "301898006"),
    ("SCT", "263495000"),
    ("SCT", "424144002"),
    ("SRT", "T-D0000"),
    ("SRT", "F-01860"),
    ("SRT", "F-01870"),
];

/// Concepts that say which machine or program observed: kept with Retain Device Identity only (PS3.16 TID 1004).
const DEVICES: &[(&str, &str)] = &[
    ("DCM", "121013"),
    ("DCM", "121014"),
    ("DCM", "121015"),
    ("DCM", "121016"),
    ("DCM", "121017"),
    ("DCM", "110119"),
    ("DCM", "111001"),
    ("DCM", "111003"),
];

/// The date of birth: no option keeps it.
const BIRTH_DATE: (&str, &str) = ("DCM", "121031");

/// `[content]` of a profile: what Clean Structured Content keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContentRules {
    /// Concepts whose text stays as it is, as in `"DCM 121071"`: scheme and code. Default: none, all text is replaced.
    pub keep_text: Vec<String>,
}

/// What becomes of an element of a content item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// It stays, if nothing of the patient is found in it.
    Check,
    /// As `Check`; it also says what the item is.
    Note,
    /// It has a dummy value.
    Dummy,
    /// It has a keyed pseudonym.
    Hash,
    /// This stands in its place.
    Replace(NewElement),
}

/// Where in a content tree the pass is.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    levels: Vec<Level>,
}

#[derive(Clone, Debug, Default)]
struct Level {
    concept: (String, String),
    code: (String, String),
}

impl Tree {
    /// A level begins.
    pub(crate) fn level(&mut self, depth: usize) {
        self.levels.truncate(depth);
        self.levels.resize_with(depth + 1, Level::default);
    }

    /// What becomes of an element; `None`: what any element of a dummy sequence becomes.
    pub(crate) fn decide(
        &self,
        depth: usize,
        tag: Tag,
        options: OptionSet,
        rules: &ContentRules,
    ) -> Option<Part> {
        let level = self.levels.get(depth)?;
        // A number stands in Measured Value Sequence, within the item that has the concept.
        let named = match NUMBERS.contains(&tag) {
            true => self.levels.get(depth.checked_sub(1)?)?,
            false => level,
        };
        let concept = (named.concept.0.as_str(), named.concept.1.as_str());
        let is_characteristic =
            CHARACTERISTICS.contains(&concept) && !options.has(ProfileOption::RetainPatientCharacteristics);
        Some(match tag {
            VALUE_TYPE | CODE_VALUE | CODING_SCHEME => Part::Note,
            // In a scheme of one maker or site, or in none, these are text that anybody wrote.
            CODE_MEANING | LONG_CODE_VALUE | URN_CODE_VALUE | CODING_SCHEME_VERSION => {
                let is_public = PUBLIC_SCHEMES.contains(&level.code.0.as_str());
                if is_public { Part::Check } else { Part::Dummy }
            }
            TEXT_VALUE => {
                let is_device =
                    DEVICES.contains(&concept) && options.has(ProfileOption::RetainDeviceIdentity);
                let is_kept = rules.keep_text.iter().any(|kept| {
                    kept.split_once(' ').is_some_and(|(scheme, code)| (scheme, code.trim()) == concept)
                });
                if is_device || is_kept { Part::Check } else { Part::Dummy }
            }
            PERSON_NAME => Part::Hash,
            DATE | DATE_TIME if concept == BIRTH_DATE => Part::Dummy,
            CONCEPT_CODE if is_characteristic => Part::Replace(unknown()),
            _ if NUMBERS.contains(&tag) && is_characteristic => Part::Dummy,
            _ => return None,
        })
    }

    /// Notes a value of an item; `false`: it is one that nobody understands.
    pub(crate) fn note(&mut self, place: &Place<'_>, tag: Tag, value: &str) -> bool {
        let depth = place.path.len();
        if tag == VALUE_TYPE {
            return VALUE_TYPES.contains(&value);
        }
        let Some(level) = self.levels.get_mut(depth) else { return true };
        match tag {
            CODE_VALUE => value.clone_into(&mut level.code.1),
            CODING_SCHEME => value.clone_into(&mut level.code.0),
            _ => return true,
        }
        let code = level.code.clone();
        // The concept of an item stands in a sequence of its own within it.
        let names = place.path.last().is_some_and(|step| step.sequence == CONCEPT_NAME);
        if let Some(around) = depth.checked_sub(1).filter(|_| names).and_then(|at| self.levels.get_mut(at)) {
            around.concept = code;
        }
        true
    }
}

/// A code that says nothing.
fn unknown() -> NewElement {
    let value = |tag, vr: &[u8; 2], text: &str| NewElement::Value {
        tag,
        vr: Vr(*vr),
        bytes: text.as_bytes().to_vec(),
    };
    NewElement::Sequence {
        tag: CONCEPT_CODE,
        items: vec![vec![
            value(CODE_VALUE, b"SH", "261665006"),
            value(CODING_SCHEME, b"SH", "SCT"),
            value(CODE_MEANING, b"LO", "Unknown"),
        ]],
    }
}
