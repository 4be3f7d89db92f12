//! A DICOM data set as a stream of elements, in constant memory.
//!
//! [`Tokenizer`] cuts a data set into [`Event`]s as its bytes come in; [`Walker`] consumes them to find
//! truncation, broken structure and the identifiers of the first level, and changes no byte; [`part10`]
//! reads and writes what stands before a data set in a file. [`Rewriter`] changes elements of a data set as it passes:
//! an [`Edit`] decides about each, and [`Rules`] is an edit from a table (set, replace, prefix, copy, remove, with the
//! previous values in Original Attributes Sequence). [`Reencoder`] turns Implicit, Explicit and Deflated Little Endian
//! into each other. Both take bytes and append bytes, and say at the end what they did, with the digests of both data
//! sets; what they do not act on they copy.
//!
//! [`Selector`] reads some elements from the beginning of a data set, for whoever has to decide before the rest is here.
//!
//! [`commitment`] reads and writes the data sets of Storage Commitment.
//!
//! What it does not do: no IO beyond [`part10::read_file_meta`]'s reader, no decoding of pixels,
//! no data set in memory, no repair. It checks structure (PS3.5 §7 and Annex A), not the contents that an
//! information object definition asks for.
//!
//! Three things no walker can know, and who answers for them:
//! - A data set that ends exactly between two first-level elements is a whole data set to it. The caller
//!   compares [`Findings`] with what it was promised.
//! - Inside a value, and inside UN and private implicit VR elements of defined length, bytes are bytes.
//! - Of a transfer syntax it does not know (see [`Syntax::of`]) it looks at nothing and says so.
//!
//! Read first: [`Walker`], [`Tokenizer`], [`Event`]; to change data sets, [`Rewriter`] and [`Edit`].

mod charset;
pub mod commitment;
mod element;
mod inflate;
pub mod part10;
mod reencode;
mod rewrite;
mod rules;
mod select;
mod stream;
mod syntax;
mod token;
mod walk;
mod write;

pub use charset::{CharacterSet, TextReader};
pub use element::{Content, DictionaryVr, ElementHeader, Length, Raw, Tag, Vr};
pub use inflate::InflateError;
pub use reencode::{PrivateVr, ReencodeError, Reencoded, Reencoder};
pub use rewrite::{
    Change, Decision, Edit, EditError, Fragment, NewElement, Outcome, Place, RewriteError, Rewriter,
    Rewritten, Step, WholeElement,
};
pub use rules::{Action, NewValue, OriginalAttributes, Rule, RuleError, Rules};
pub use select::{Selecting, Selection, Selector};
pub use stream::Extent;
pub use syntax::{Encoding, Syntax};
pub use token::{Event, Structure, TokenError, Tokenizer};
pub use walk::{Findings, WalkError, Walker};

/// Limits of this crate. None of them depends on the size of an instance.
pub mod limits {
    /// Sequences within sequences. The deepest content trees in use have about a dozen levels.
    pub const SEQUENCE_DEPTH_MAX: usize = 64;
    /// Zero bytes tolerated after the last element: some writers fill up to a block or an even length.
    pub const TRAILING_ZEROS_MAX: u64 = 64 * 1024;
    /// Bytes kept of one first-level text value; a longer one counts as absent. An LO of 64 characters
    /// has at most 256 bytes in UTF-8, and more than that only with many code extensions.
    pub const VALUE_BYTES_MAX: usize = 512;
    /// Different tags that are listed of what a rewriter changed. More of them are only counted.
    pub const CHANGED_TAGS_MAX: usize = 4096;
    /// Bytes of a Specific Character Set (0008,0005) that count: only its first value does.
    pub const CHARACTER_SET_BYTES_MAX: usize = 64;
    /// Bytes of one element that a rule can look at or keep as the previous value.
    pub const RULE_BYTES_MAX: usize = 64 * 1024;
    /// How far the beginning of a data set is read for whoever decides by it: routing rules. Before pixel data there is
    /// seldom more than 64 KiB, enhanced multi-frame instances apart.
    pub const HEADER_BYTES_MAX: u64 = 1024 * 1024;
    /// What a deflated data set may expand to before its ratio counts.
    pub const INFLATED_FREE_BYTES: u64 = 4 * 1024 * 1024 * 1024;
    /// Bytes out per byte in beyond that. Deflate itself ends at 1032.
    pub const INFLATED_RATIO_MAX: u64 = 256;
    /// The most that is searched for the end of a file's group 0002.
    pub const FILE_META_BYTES_MAX: usize = 1024 * 1024;
}
