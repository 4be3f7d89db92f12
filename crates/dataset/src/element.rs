use std::fmt;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, TagRange, VirtualVr};
use dicom_dictionary_std::StandardDataDictionary;

use crate::syntax::Encoding;

/// A data element tag (PS3.5 §7.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u16, pub u16);

impl Tag {
    /// Specific Character Set.
    pub const CHARACTER_SET: Self = Self(0x0008, 0x0005);
    /// Pixel Representation.
    pub const PIXEL_REPRESENTATION: Self = Self(0x0028, 0x0103);
    /// Original Attributes Sequence.
    pub const ORIGINAL_ATTRIBUTES: Self = Self(0x0400, 0x0561);
    /// Item (PS3.5 §7.5).
    pub const ITEM: Self = Self(0xFFFE, 0xE000);
    /// Item Delimitation Item.
    pub const ITEM_DELIMITER: Self = Self(0xFFFE, 0xE00D);
    /// Sequence Delimitation Item.
    pub const SEQUENCE_DELIMITER: Self = Self(0xFFFE, 0xE0DD);
    /// SOP Class UID.
    pub const SOP_CLASS: Self = Self(0x0008, 0x0016);
    /// SOP Instance UID.
    pub const SOP_INSTANCE: Self = Self(0x0008, 0x0018);
    /// Accession Number.
    pub const ACCESSION: Self = Self(0x0008, 0x0050);
    /// Modality.
    pub const MODALITY: Self = Self(0x0008, 0x0060);
    /// Patient ID.
    pub const PATIENT_ID: Self = Self(0x0010, 0x0020);
    /// Issuer of Patient ID.
    pub const PATIENT_ID_ISSUER: Self = Self(0x0010, 0x0021);
    /// Study Instance UID.
    pub const STUDY: Self = Self(0x0020, 0x000D);
    /// Series Instance UID.
    pub const SERIES: Self = Self(0x0020, 0x000E);
    /// Float Pixel Data.
    pub const FLOAT_PIXEL_DATA: Self = Self(0x7FE0, 0x0008);
    /// Double Float Pixel Data.
    pub const DOUBLE_PIXEL_DATA: Self = Self(0x7FE0, 0x0009);
    /// Pixel Data.
    pub const PIXEL_DATA: Self = Self(0x7FE0, 0x0010);

    /// The element that has this keyword in the standard's dictionary (PS3.6 §6), such as `Modality`.
    pub fn of_keyword(keyword: &str) -> Option<Self> {
        let entry = StandardDataDictionary.by_name(keyword)?;
        let dicom_core::Tag(group, element) = entry.tag.inner();
        // Repeating groups and elements have a keyword for a whole range.
        matches!(entry.tag, TagRange::Single(_)).then_some(Self(group, element))
    }

    /// Its keyword in the standard's dictionary.
    pub fn keyword(self) -> Option<&'static str> {
        let entry = StandardDataDictionary.by_tag(dicom_core::Tag(self.0, self.1))?;
        matches!(entry.tag, TagRange::Single(_)).then_some(entry.alias)
    }

    /// Whether the standard's dictionary makes this element a sequence. Private tags are in no dictionary.
    pub fn is_sequence(self) -> bool {
        if self.is_private() {
            return false;
        }
        StandardDataDictionary
            .by_tag(dicom_core::Tag(self.0, self.1))
            .is_some_and(|entry| entry.vr().exact() == Some(dicom_core::VR::SQ))
    }

    /// The value representation that the standard's dictionary gives (PS3.6 §6), and the two it has no row for:
    /// private creators (PS3.5 §7.8.1) and group lengths (PS3.5 §7.2). `None` for what is private or unknown.
    pub fn dictionary_vr(self) -> Option<DictionaryVr> {
        if self.is_private() {
            return self.is_private_creator().then_some(DictionaryVr::Exact(Vr::LO));
        }
        if self.is_group_length() {
            return Some(DictionaryVr::Exact(Vr::UL));
        }
        let entry = StandardDataDictionary.by_tag(dicom_core::Tag(self.0, self.1))?;
        Some(match entry.vr() {
            VirtualVr::Xs => DictionaryVr::Sample,
            VirtualVr::Ox | VirtualVr::Px | VirtualVr::Lt => DictionaryVr::Words,
            VirtualVr::Exact(vr) => DictionaryVr::Exact(Vr(vr.to_bytes())),
            // The enumeration is open; a kind to come is as good as not in the dictionary.
            _ => return None,
        })
    }

    /// Whether the dictionary makes its values codes, titles, dates or numbers, which nobody types freely.
    pub fn has_codes(self) -> bool {
        let coded = |vr: Vr| !vr.has_characters() && !vr.has_long_length();
        matches!(self.dictionary_vr(), Some(DictionaryVr::Exact(vr)) if coded(vr) && vr != Vr::UI)
            || self.dictionary_vr() == Some(DictionaryVr::Sample)
    }

    /// Names the owner of a block of private elements (PS3.5 §7.8.1).
    pub fn is_private_creator(self) -> bool {
        self.is_private() && (0x0010..=0x00FF).contains(&self.1)
    }

    /// (gggg,0000): retired, and of no use in a data set (PS3.5 §7.2).
    pub fn is_group_length(self) -> bool {
        self.1 == 0
    }

    /// Odd groups belong to vendors (PS3.5 §7.8).
    pub fn is_private(self) -> bool {
        self.0 % 2 == 1
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:04X},{:04X})", self.0, self.1)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value representation (PS3.5 §6.2) as the two letters on the wire, so that one from a later edition
/// passes too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vr(pub [u8; 2]);

impl Vr {
    /// Long String.
    pub const LO: Self = Self(*b"LO");
    /// Other Byte.
    pub const OB: Self = Self(*b"OB");
    /// Other Word.
    pub const OW: Self = Self(*b"OW");
    /// Sequence of Items.
    pub const SQ: Self = Self(*b"SQ");
    /// Signed Short.
    pub const SS: Self = Self(*b"SS");
    /// Unique Identifier.
    pub const UI: Self = Self(*b"UI");
    /// Unsigned Long.
    pub const UL: Self = Self(*b"UL");
    /// Unknown.
    pub const UN: Self = Self(*b"UN");
    /// Unsigned Short.
    pub const US: Self = Self(*b"US");

    /// Two capital letters: what a VR of any edition looks like.
    pub(crate) fn is_plausible(self) -> bool {
        self.0.iter().all(u8::is_ascii_uppercase)
    }

    /// Whether an explicit header has two reserved bytes and a 32 bit length (PS3.5 Table 7.1-1). That is
    /// so for every VR but the old ones of Table 7.1-2, and for all VRs to come.
    pub fn has_long_length(self) -> bool {
        !matches!(
            &self.0,
            b"AE"
                | b"AS"
                | b"AT"
                | b"CS"
                | b"DA"
                | b"DS"
                | b"DT"
                | b"FL"
                | b"FD"
                | b"IS"
                | b"LO"
                | b"LT"
                | b"PN"
                | b"SH"
                | b"SL"
                | b"SS"
                | b"ST"
                | b"TM"
                | b"UI"
                | b"UL"
                | b"US"
        )
    }

    /// One of PS3.5 Table 6.2-1.
    /// Whether it is one of PS3.5 Table 6.2-1.
    pub fn is_known(self) -> bool {
        !self.has_long_length()
            || self.is_other()
            || matches!(&self.0, b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV")
    }

    /// Text in the data set's character set (PS3.5 §6.1.2.3).
    pub fn has_characters(self) -> bool {
        matches!(&self.0, b"LO" | b"LT" | b"PN" | b"SH" | b"ST" | b"UC" | b"UT")
    }

    /// Text in any character set, padded with a space (PS3.5 §6.2). A UID is padded with a zero byte.
    pub fn is_text(self) -> bool {
        self.has_characters()
            || matches!(&self.0, b"AE" | b"AS" | b"CS" | b"DA" | b"DS" | b"DT" | b"IS" | b"TM" | b"UR")
    }

    /// The most characters that one value may have (PS3.5 Table 6.2-1), for text.
    pub fn characters_max(self) -> Option<usize> {
        Some(match &self.0 {
            b"AS" => 4,
            b"DA" => 8,
            b"IS" => 12,
            b"AE" | b"CS" | b"DS" | b"SH" | b"TM" => 16,
            b"DT" => 26,
            b"LO" | b"PN" => 64,
            b"ST" => 1024,
            b"LT" => 10_240,
            b"UC" | b"UR" | b"UT" => 65_536,
            _ => return None,
        })
    }

    /// OB, OW and their like, whose value may be encapsulated fragments (PS3.5 A.4).
    pub fn is_other(self) -> bool {
        matches!(&self.0, b"OB" | b"OW" | b"OF" | b"OD" | b"OL" | b"OV")
    }
}

impl fmt::Display for Vr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{}", if byte.is_ascii_graphic() { char::from(byte) } else { '?' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Vr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the dictionary says of an element's value representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DictionaryVr {
    /// This one.
    Exact(Vr),
    /// US or SS, as Pixel Representation (0028,0103) says.
    Sample,
    /// OB, OW or US: in implicit VR little endian it is OW (PS3.5 A.1), and OW is allowed in explicit VR too.
    Words,
}

/// A value length field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Length {
    /// That many bytes.
    Defined(u32),
    /// FFFFFFFFH: up to a delimiter.
    Undefined,
}

impl Length {
    pub(crate) fn from_field(field: u32) -> Self {
        if field == u32::MAX { Self::Undefined } else { Self::Defined(field) }
    }

    /// The byte count, unless undefined.
    pub fn bytes(self) -> Option<u32> {
        match self {
            Self::Defined(bytes) => Some(bytes),
            Self::Undefined => None,
        }
    }
}

/// What follows an element's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Bytes of the given length.
    Value,
    /// Items with elements.
    Sequence,
    /// Items with bytes (PS3.5 A.4).
    Fragments,
}

/// The bytes of a header or delimiter as they were on the wire; empty where a length ended an item or a
/// sequence. Copying these and all values gives the data set back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Raw {
    bytes: [u8; 12],
    len: u8,
}

impl Raw {
    pub(crate) const LEN_MAX: usize = 12;

    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Takes bytes from `input` until `want` are here; true when they are.
    pub(crate) fn fill(&mut self, want: usize, input: &mut &[u8]) -> bool {
        let have = self.len();
        let take = want.min(Self::LEN_MAX).saturating_sub(have).min(input.len());
        let (head, rest) = input.split_at(take);
        if let Some(space) = self.bytes.get_mut(have..have + take) {
            space.copy_from_slice(head);
        }
        #[expect(clippy::cast_possible_truncation, reason = "have + take is at most 12")]
        {
            self.len = (have + take) as u8;
        }
        *input = rest;
        self.len() >= want
    }

    /// The two bytes at `at`; zeros beyond the end, which no caller asks for.
    pub(crate) fn pair(&self, at: usize) -> [u8; 2] {
        self.bytes.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or_default()
    }

    pub(crate) fn quad(&self, at: usize) -> [u8; 4] {
        self.bytes.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or_default()
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.len)
    }
}

/// A data element's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementHeader {
    /// Group and element.
    pub tag: Tag,
    /// The VR on the wire; `None` where it is implicit.
    pub vr: Option<Vr>,
    /// The length on the wire.
    pub length: Length,
    /// What follows.
    pub content: Content,
    /// Sequences around this element: 0 on the first level.
    pub depth: usize,
    /// How this header is encoded: within a sequence that came as UN, another way than around it.
    pub encoding: Encoding,
    /// Where the header starts, in bytes of the (inflated) data set.
    pub offset: u64,
    /// The header as it was on the wire.
    pub raw: Raw,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_tells_sequences_and_nothing_else() {
        assert!(Tag(0x0008, 0x1140).is_sequence());
        assert!(Tag(0x5200, 0x9230).is_sequence());
        assert!(!Tag::PIXEL_DATA.is_sequence());
        assert!(!Tag(0x0009, 0x1140).is_sequence());
    }

    #[test]
    fn keywords_name_single_elements() {
        assert_eq!(Tag::of_keyword("Modality"), Some(Tag::MODALITY));
        assert_eq!(Tag::MODALITY.keyword(), Some("Modality"));
        // (60xx,0010) is a range, and nobody knows a private element.
        for keyword in ["OverlayRows", "modality", "", "PrivateCreator"] {
            assert_eq!(Tag::of_keyword(keyword), None, "{keyword}");
        }
        assert_eq!(Tag(0x0009, 0x1001).keyword(), None);
    }

    #[test]
    fn a_vr_of_a_later_edition_has_a_long_length() {
        for (vr, long) in [(*b"UI", false), (*b"US", false), (*b"OB", true), (*b"UC", true), (*b"ZZ", true)] {
            assert_eq!(Vr(vr).has_long_length(), long, "{}", Vr(vr));
        }
    }

    #[test]
    fn nothing_of_a_header_is_printed_but_its_length() {
        let mut raw = Raw::default();
        raw.fill(8, &mut b"DOE^JANE".as_slice());
        assert_eq!(format!("{raw:?}"), "Raw(8 bytes)");
    }
}
