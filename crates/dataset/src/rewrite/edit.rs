use std::fmt;

use thiserror::Error;

use crate::charset::CharacterSet;
use crate::element::{ElementHeader, Length, Tag, Vr};
use crate::syntax::Encoding;
use crate::write;

/// One sequence on the way to an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// The sequence.
    pub sequence: Tag,
    /// Its item, from 0.
    pub item: u32,
}

/// Where in the data set an [`Edit`] is asked.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The sequences around it, outermost first; empty on the first level.
    pub path: &'a [Step],
    /// The character set in force, as far as it has come.
    pub characters: &'a CharacterSet,
    /// How elements of this level are encoded.
    pub encoding: Encoding,
}

impl Place<'_> {
    /// An element of a text VR, encoded in the character set in force.
    pub fn text(&self, tag: Tag, vr: Vr, text: &str) -> Result<NewElement, EditError> {
        let bytes = if vr.has_characters() {
            self.characters.encode(text)
        } else {
            text.is_ascii().then(|| text.as_bytes().to_vec())
        };
        Ok(NewElement::Value { tag, vr, bytes: bytes.ok_or(EditError::NotExpressible { tag })? })
    }

    /// Whether the sequences around it are these.
    pub fn is_within(&self, sequences: &[Tag]) -> bool {
        self.path.iter().map(|step| step.sequence).eq(sequences.iter().copied())
    }
}

/// What becomes of an element. [`Decision::Keep`] copies its bytes, whatever it holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stays as it is, with all that is in it.
    Keep,
    /// It goes, with all that is in it.
    Remove,
    /// Something else takes its place.
    Replace(NewElement),
    /// [`Edit::read`] is to decide, with the whole element before it, which may have that many bytes.
    Read {
        /// Header, value and delimiters together; more is an error.
        bytes_max: usize,
    },
    /// It stays, but [`Edit::alter`] sees its value as it passes, piece by piece, and may change bytes, not their number. Only
    /// for a value: what has items or fragments is kept.
    Alter,
    /// [`Edit::convert`] sees its fragments as they pass, and writes the value of defined length that takes their place. Only
    /// for fragments: what else there is is kept.
    Convert {
        /// Not written in implicit VR.
        vr: Vr,
        /// Of the value that will be written; even.
        bytes: u32,
    },
    /// Its items are asked about, element by element. It gets undefined length. What is no sequence is kept.
    Descend,
}

/// A piece of encapsulated pixel data (PS3.5 A.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment<'a> {
    /// A fragment begins; the first is the offset table.
    Begins,
    /// Bytes of it.
    Bytes(&'a [u8]),
    /// It is complete.
    Ends,
    /// There are no more.
    Over,
}

/// What becomes of an element that was read.
#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It stays as it is.
    Keep,
    /// It goes.
    Remove,
    /// Something else takes its place.
    Replace(NewElement),
}

/// An element that was read whole.
#[derive(Clone, Copy)]
pub struct WholeElement<'a> {
    /// Its header.
    pub header: &'a ElementHeader,
    /// All its bytes, header included.
    pub raw: &'a [u8],
}

impl<'a> WholeElement<'a> {
    /// What follows the header: the value with its padding, or items and delimiters.
    pub fn value(&self) -> &'a [u8] {
        self.raw.get(self.header.raw.len()..).unwrap_or_default()
    }
}

/// An element to be written.
#[derive(Clone, PartialEq, Eq)]
pub enum NewElement {
    /// With a value; numbers in the byte order of the data set, padding is added.
    Value {
        /// Group and element.
        tag: Tag,
        /// Not written in implicit VR.
        vr: Vr,
        /// The value.
        bytes: Vec<u8>,
    },
    /// With items, whose elements ascend.
    Sequence {
        /// Group and element.
        tag: Tag,
        /// The items.
        items: Vec<Vec<Self>>,
    },
    /// Whole elements as they stood on a level of the same encoding.
    Raw(Vec<u8>),
}

impl NewElement {
    /// The tag, where it is known.
    pub fn tag(&self) -> Option<Tag> {
        match self {
            Self::Value { tag, .. } | Self::Sequence { tag, .. } => Some(*tag),
            Self::Raw(_) => None,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>, encoding: Encoding) -> Result<(), EditError> {
        match self {
            Self::Raw(bytes) => out.extend_from_slice(bytes),
            Self::Value { tag, vr, bytes } => {
                let padded = bytes.len() + bytes.len() % 2;
                let too_long = EditError::TooLong { tag: *tag, max: write::SHORT_VALUE_BYTES_MAX };
                let length = u32::try_from(padded).map_err(|_| too_long)?;
                write::element(out, *tag, *vr, Length::Defined(length), encoding).ok_or(too_long)?;
                out.extend_from_slice(bytes);
                if padded > bytes.len() {
                    out.push(if vr.is_text() { b' ' } else { 0 });
                }
            }
            Self::Sequence { tag, items } => {
                let mut content = Vec::new();
                for item in items {
                    write_item(&mut content, item, encoding)?;
                }
                let length = Length::Defined(length_of(&content, *tag)?);
                let too_long = EditError::TooLong { tag: *tag, max: write::SHORT_VALUE_BYTES_MAX };
                write::element(out, *tag, Vr::SQ, length, encoding).ok_or(too_long)?;
                out.extend_from_slice(&content);
            }
        }
        Ok(())
    }
}

/// An item of defined length.
pub(crate) fn write_item(
    out: &mut Vec<u8>,
    elements: &[NewElement],
    encoding: Encoding,
) -> Result<(), EditError> {
    let mut content = Vec::new();
    elements.iter().try_for_each(|element| element.write(&mut content, encoding))?;
    write::item(out, Tag::ITEM, Length::Defined(length_of(&content, Tag::ITEM)?), encoding);
    out.extend_from_slice(&content);
    Ok(())
}

fn length_of(content: &[u8], tag: Tag) -> Result<u32, EditError> {
    u32::try_from(content.len())
        .ok()
        .filter(|length| *length != u32::MAX)
        .ok_or(EditError::TooLong { tag, max: u32::MAX as usize })
}

impl fmt::Debug for NewElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { tag, vr, bytes } => write!(f, "{tag} {vr}, {} bytes", bytes.len()),
            Self::Sequence { tag, items } => write!(f, "{tag} SQ, {} items", items.len()),
            Self::Raw(bytes) => write!(f, "{} bytes of elements", bytes.len()),
        }
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("Keep"),
            Self::Remove => f.write_str("Remove"),
            Self::Replace(element) => write!(f, "Replace({element:?})"),
            Self::Read { bytes_max } => write!(f, "Read({bytes_max})"),
            Self::Alter => f.write_str("Alter"),
            Self::Convert { vr, bytes } => write!(f, "Convert({vr}, {bytes})"),
            Self::Descend => f.write_str("Descend"),
        }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("Keep"),
            Self::Remove => f.write_str("Remove"),
            Self::Replace(element) => write!(f, "Replace({element:?})"),
        }
    }
}

/// Decides about a data set, element by element, in the order of its bytes. [`Rules`](crate::Rules) is one from a
/// table; whoever needs more writes its own.
pub trait Edit {
    /// Nothing will be changed: all bytes go on as they came, also where the data set is deflated.
    fn is_identity(&self) -> bool {
        false
    }

    /// UN elements of defined length count as sequences where the dictionary says so; see
    /// [`Tokenizer::opening_unknown`](crate::Tokenizer::opening_unknown).
    fn opens_unknown(&self) -> bool {
        false
    }

    /// A level begins: the data set, or an item of a sequence that was descended into.
    fn level(&mut self, _place: &Place<'_>) {}

    /// What is to be inserted on this level before the element `next`, which has come, or at its end. It is asked
    /// again until it has no more; tags should ascend.
    fn insert(&mut self, _place: &Place<'_>, _next: Option<Tag>) -> Result<Option<NewElement>, EditError> {
        Ok(None)
    }

    /// Decides about an element of which the header has come.
    fn element(&mut self, place: &Place<'_>, header: &ElementHeader) -> Result<Decision, EditError>;

    /// Decides about an element that was to be [read](Decision::Read).
    fn read(&mut self, place: &Place<'_>, element: WholeElement<'_>) -> Result<Outcome, EditError>;

    /// The next bytes of a value that is to be [altered](Decision::Alter), in their order.
    fn alter(&mut self, _bytes: &mut [u8]) {}

    /// The next piece of what is to be [converted](Decision::Convert); what takes its place is appended to `out`.
    fn convert(&mut self, _piece: Fragment<'_>, _out: &mut Vec<u8>) -> Result<(), EditError> {
        Ok(())
    }

    /// Items to be appended to a sequence that was descended into. The place is inside it.
    fn append(&mut self, _place: &Place<'_>, _sequence: Tag) -> Result<Vec<Vec<NewElement>>, EditError> {
        Ok(Vec::new())
    }
}

/// Why an edit cannot be carried out: the data set must not be passed on. No message has patient data in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EditError {
    /// The character set.
    #[error(
        "the new value of {tag} cannot be expressed in the character set of the data set (0008,0005); configure a value in plain ASCII"
    )]
    NotExpressible {
        /// The element to be written.
        tag: Tag,
    },
    /// A new value.
    #[error("the new value of {tag} is longer than the {max} that its value representation allows")]
    TooLong {
        /// The element to be written.
        tag: Tag,
        /// Characters, or bytes where those are the limit.
        max: usize,
    },
    /// A value that has to be looked at, or kept as the previous one.
    #[error("{tag} is longer than the {max} bytes that can be read of one element")]
    UnreadablyLong {
        /// The element that came.
        tag: Tag,
        /// The limit.
        max: usize,
    },
    /// An element after the place where it would have been recorded or used.
    #[error(
        "{tag} comes out of order, after its previous value had to be written; tags must ascend (PS3.5 7.1)"
    )]
    OutOfOrder {
        /// The element that came.
        tag: Tag,
    },
    /// Any other reason of an edit of its own.
    #[error("{tag}: {why}")]
    Refused {
        /// The element.
        tag: Tag,
        /// Says nothing of the value.
        why: &'static str,
    },
}
