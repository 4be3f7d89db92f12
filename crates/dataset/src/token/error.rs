use std::fmt;

use thiserror::Error;

use crate::element::Tag;
use crate::limits::{SEQUENCE_DEPTH_MAX, TRAILING_ZEROS_MAX};

/// A place in the structure of a data set, for an error's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// Tag, VR and length of an element or item.
    Header,
    /// An element's value.
    Value(Tag),
    /// One fragment of encapsulated pixel data.
    Fragment(Tag),
    /// An item of this sequence.
    Item(Tag),
    /// This sequence, between its items.
    Sequence(Tag),
    /// The fragments of this element, between two of them.
    Fragments(Tag),
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("an element's header"),
            Self::Value(tag) => write!(f, "the value of {tag}"),
            Self::Fragment(tag) => write!(f, "a fragment of {tag}"),
            Self::Item(tag) => write!(f, "an item of sequence {tag}"),
            Self::Sequence(tag) => write!(f, "sequence {tag}"),
            Self::Fragments(tag) => write!(f, "the encapsulated fragments of {tag}"),
        }
    }
}

/// What is wrong with a data set. Whoever wrote it has to act; offsets count bytes of the (inflated) data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// The bytes end too early.
    #[error("data set is truncated: it ends at byte {offset} inside {inside}; send the whole instance again")]
    Truncated {
        /// Where it ends.
        offset: u64,
        /// The innermost thing that is not complete.
        inside: Structure,
    },
    /// Something is longer than what contains it.
    #[error("{tag} at byte {offset} needs {needed} bytes, but {inside} has {left} left")]
    Overrun {
        /// Where the header starts.
        offset: u64,
        /// The element or item.
        tag: Tag,
        /// Bytes it needs, header included.
        needed: u64,
        /// What contains it.
        inside: Structure,
        /// Bytes up to the end of that.
        left: u64,
    },
    /// Not an explicit VR header.
    #[error(
        "element {tag} at byte {offset} has no value representation; the data set is damaged or not in its transfer syntax"
    )]
    InvalidVr {
        /// Where the header starts.
        offset: u64,
        /// The element's tag, if it is one.
        tag: Tag,
    },
    /// An item or delimiter where none can be, or something else where one must be.
    #[error(
        "{tag} at byte {offset} cannot stand inside {inside}; the data set is damaged or not in its transfer syntax"
    )]
    Unexpected {
        /// Where the header starts.
        offset: u64,
        /// What was found.
        tag: Tag,
        /// Where it was found.
        inside: Structure,
    },
    /// As [`TokenError::Unexpected`], outside every sequence.
    #[error("{tag} at byte {offset} cannot stand outside a sequence; the data set is damaged")]
    UnexpectedOutside {
        /// Where the header starts.
        offset: u64,
        /// What was found.
        tag: Tag,
    },
    /// Undefined length where only a defined one is allowed (PS3.5 §7.1.2, A.4).
    #[error("{tag} at byte {offset} has an undefined length, which its kind of element cannot have")]
    UndefinedLength {
        /// Where the header starts.
        offset: u64,
        /// The element or fragment.
        tag: Tag,
    },
    /// Too many sequences within each other.
    #[error("sequence {tag} at byte {offset} is nested deeper than {max} sequences", max = SEQUENCE_DEPTH_MAX)]
    TooDeep {
        /// Where the header starts.
        offset: u64,
        /// The innermost sequence.
        tag: Tag,
    },
    /// Zero bytes after the last element, and then something else, or too many of them.
    #[error(
        "after the last element there is more than zero padding, or more than {max} bytes of it, at byte {offset}",
        max = TRAILING_ZEROS_MAX
    )]
    TrailingBytes {
        /// Where.
        offset: u64,
    },
}
