//! What pseudonymization took away, encrypted for those who may put it back: Encrypted Attributes Sequence (0400,0500), PS3.15 E.1.1,
//! and the way back, E.1.2.
//!
//! It holds the first-level values, not the items of sequences: they say who, when and which study, and by them the originals are found.

use std::collections::BTreeMap;

use base::{Digest, Hasher, Uid};
use dataset::{
    Content, Decision, Edit, EditError, ElementHeader, NewElement, Outcome, Place, Rewriter, Tag, Vr,
    WholeElement,
};
use thiserror::Error;

use crate::enveloped::{self, OpenError, Recipient, SealError};
use crate::mark;
use crate::scan::VALUE_BYTES_MAX;

/// Encrypted Attributes Sequence.
pub(crate) const ENCRYPTED_ATTRIBUTES: Tag = Tag(0x0400, 0x0500);
const CONTENT_TRANSFER_SYNTAX: Tag = Tag(0x0400, 0x0510);
const CONTENT: Tag = Tag(0x0400, 0x0520);
const MODIFIED_ATTRIBUTES: Tag = Tag(0x0400, 0x0550);
const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
/// Bytes of all values of one instance that are encrypted.
const ORIGINALS_BYTES_MAX: usize = 1 << 20;
/// Instances in one file with more encrypted contents than this are nobody's.
const CONTENTS_MAX: usize = 64;

/// Original values of one instance.
#[derive(Default)]
pub(crate) struct Originals {
    elements: BTreeMap<Tag, (Vr, Vec<u8>)>,
    characters: Vec<u8>,
    bytes: usize,
}

impl Originals {
    /// Keeps a value; `false` where there are too many bytes of them.
    #[must_use]
    pub(crate) fn keep(&mut self, tag: Tag, vr: Vr, value: &[u8]) -> bool {
        self.bytes += value.len();
        if self.bytes > ORIGINALS_BYTES_MAX {
            return false;
        }
        if tag == Tag::CHARACTER_SET {
            self.characters = value.to_vec();
        } else {
            self.elements.entry(tag).or_insert_with(|| (vr, value.to_vec()));
        }
        true
    }

    /// The sequence with one item, encrypted, for the instance that goes under this UID.
    pub(crate) fn sealed(&self, recipients: &[Recipient], goes: &Uid) -> Result<NewElement, SealError> {
        let value = |(tag, (vr, bytes)): (&Tag, &(Vr, Vec<u8>))| NewElement::Value {
            tag: *tag,
            vr: *vr,
            bytes: bytes.clone(),
        };
        let items = vec![self.elements.iter().map(value).collect()];
        let characters = (Tag::CHARACTER_SET, (Vr(*b"CS"), self.characters.clone()));
        let writing = Writing {
            characters: (!self.characters.is_empty()).then(|| value((&characters.0, &characters.1))),
            modified: NewElement::Sequence { tag: MODIFIED_ATTRIBUTES, items },
        };
        let content = enveloped::seal(recipients, &bound(encoded(writing).ok_or(SealError)?, goes))?;
        let syntax = EXPLICIT_LITTLE.as_bytes().to_vec();
        let item = vec![
            NewElement::Value { tag: CONTENT_TRANSFER_SYNTAX, vr: Vr::UI, bytes: syntax },
            NewElement::Value { tag: CONTENT, vr: Vr(*b"OB"), bytes: content },
        ];
        Ok(NewElement::Sequence { tag: ENCRYPTED_ATTRIBUTES, items: vec![item] })
    }
}

/// Behind the data set: a private creator, and the header of its one element (Explicit VR Little Endian).
const BINDING: &[u8] = b"\x01\x04\x10\x00LO\x10\x00SLUIS ORIGINALS \x01\x04\x01\x10OB\0\0\x20\0\0\0";

/// Binds a data set to the instance that it goes with. CMS EnvelopedData says nothing about what is changed in it, and who exchanges
/// two of them would give one patient the name of another.
fn bound(mut data_set: Vec<u8>, goes: &Uid) -> Vec<u8> {
    let digest = binding(&data_set, goes.as_str());
    data_set.extend_from_slice(BINDING);
    data_set.extend_from_slice(digest.as_bytes());
    data_set
}

fn binding(data_set: &[u8], goes: &str) -> Digest {
    let mut hasher = Hasher::new(b"sluis/pseudonym/originals/1");
    hasher.field(goes.as_bytes());
    hasher.field(data_set);
    hasher.finish()
}

/// The data set without its binding, if it is the one of this instance.
fn unbound<'a>(bytes: &'a [u8], came: &str) -> Option<&'a [u8]> {
    let at = bytes.len().checked_sub(Digest::LEN)?;
    let (rest, digest) = bytes.split_at_checked(at)?;
    let data_set = rest.strip_suffix(BINDING)?;
    (binding(data_set, came).as_bytes() == digest).then_some(data_set)
}

/// The data set that is encrypted, in Explicit VR Little Endian.
fn encoded(writing: Writing) -> Option<Vec<u8>> {
    let syntax = Uid::parse(EXPLICIT_LITTLE).ok()?;
    let mut out = Vec::new();
    let mut writer = Rewriter::unmeasured(&syntax, writing)?;
    writer.feed(NO_MODIFIED_ATTRIBUTES, &mut out).ok()?;
    writer.finish_edit(&mut out).ok()?;
    Some(out)
}

/// A Modified Attributes Sequence without items.
const NO_MODIFIED_ATTRIBUTES: &[u8] = b"\x00\x04\x50\x05SQ\0\0\0\0\0\0";

/// Makes the data set out of one that has only an empty sequence.
struct Writing {
    characters: Option<NewElement>,
    modified: NewElement,
}

impl Edit for Writing {
    fn insert(&mut self, _place: &Place<'_>, _next: Option<Tag>) -> Result<Option<NewElement>, EditError> {
        Ok(self.characters.take())
    }

    fn element(&mut self, _place: &Place<'_>, _header: &ElementHeader) -> Result<Decision, EditError> {
        Ok(Decision::Replace(self.modified.clone()))
    }

    fn read(&mut self, _place: &Place<'_>, _element: WholeElement<'_>) -> Result<Outcome, EditError> {
        Ok(Outcome::Keep)
    }
}

/// Why an instance cannot be re-identified.
#[derive(Debug, Error)]
pub enum ReidentifyError {
    /// Nothing was encrypted when it was pseudonymized.
    #[error("there is no Encrypted Attributes Sequence (0400,0500) in it: its route had no `reidentify`")]
    Nothing,
    /// The key.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was encrypted is not what went with this instance.
    #[error("what was encrypted was changed, or is of another instance")]
    Changed,
    /// The data set, or what was encrypted.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] dataset::RewriteError),
    /// Its layout is not known.
    #[error("nobody can read its transfer syntax")]
    TransferSyntax,
}

/// The original values of one instance: what [`Reidentifier`] found, for the holder of the key only.
#[derive(Debug)]
pub struct Reidentified {
    /// First-level attributes, with their representations and values as they came.
    pub elements: BTreeMap<Tag, (Vr, Vec<u8>)>,
    /// The same as text, where they are text.
    pub texts: BTreeMap<Tag, String>,
}

/// Finds what was encrypted in a data set as it passes.
pub struct Reidentifier(Rewriter<Contents>);

impl Reidentifier {
    /// For a data set in this transfer syntax.
    pub fn new(transfer_syntax: &Uid) -> Result<Self, ReidentifyError> {
        let contents = Rewriter::unmeasured(transfer_syntax, Contents::default());
        contents.map(Self).ok_or(ReidentifyError::TransferSyntax)
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ReidentifyError> {
        Ok(self.0.feed(bytes, &mut Vec::new())?)
    }

    /// Opens what was found with the private key (PKCS #8 in PEM).
    pub fn finish(self, private_key: &[u8]) -> Result<Reidentified, ReidentifyError> {
        let Contents { sop_instance, contents } = self.0.finish_edit(&mut Vec::new())?;
        let mut last = ReidentifyError::Nothing;
        for content in contents {
            match enveloped::open(private_key, &content) {
                Ok(opened) => {
                    let data_set = unbound(opened.expose(), &sop_instance);
                    return read(data_set.ok_or(ReidentifyError::Changed)?);
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

/// Values of Encrypted Content, and which instance they stand in.
#[derive(Default)]
struct Contents {
    sop_instance: String,
    contents: Vec<Vec<u8>>,
}

impl Edit for Contents {
    fn is_identity(&self) -> bool {
        true
    }

    fn element(&mut self, place: &Place<'_>, header: &ElementHeader) -> Result<Decision, EditError> {
        Ok(match place.path {
            [] if header.tag == ENCRYPTED_ATTRIBUTES => Decision::Descend,
            [] if header.tag == Tag::SOP_INSTANCE => Decision::Read { bytes_max: VALUE_BYTES_MAX },
            [_] if header.tag == CONTENT => Decision::Read { bytes_max: 2 * VALUE_BYTES_MAX },
            _ => Decision::Keep,
        })
    }

    fn read(&mut self, place: &Place<'_>, element: WholeElement<'_>) -> Result<Outcome, EditError> {
        if element.header.tag == Tag::SOP_INSTANCE {
            self.sop_instance = crate::scan::text(place, element.value());
        } else if self.contents.len() < CONTENTS_MAX {
            self.contents.push(element.value().to_vec());
        }
        Ok(Outcome::Keep)
    }
}

fn read(data_set: &[u8]) -> Result<Reidentified, ReidentifyError> {
    let syntax = Uid::parse(EXPLICIT_LITTLE).map_err(|_| ReidentifyError::TransferSyntax)?;
    let reading = Reading(Reidentified { elements: BTreeMap::new(), texts: BTreeMap::new() });
    let mut reader = Rewriter::unmeasured(&syntax, reading).ok_or(ReidentifyError::TransferSyntax)?;
    reader.feed(data_set, &mut Vec::new())?;
    Ok(reader.finish_edit(&mut Vec::new())?.0)
}

/// The items of Modified Attributes Sequence.
struct Reading(Reidentified);

impl Edit for Reading {
    fn is_identity(&self) -> bool {
        true
    }

    fn element(&mut self, place: &Place<'_>, header: &ElementHeader) -> Result<Decision, EditError> {
        Ok(match (place.path, header.content) {
            ([], _) if header.tag == MODIFIED_ATTRIBUTES => Decision::Descend,
            ([_], Content::Value) => Decision::Read { bytes_max: VALUE_BYTES_MAX },
            _ => Decision::Keep,
        })
    }

    fn read(&mut self, place: &Place<'_>, element: WholeElement<'_>) -> Result<Outcome, EditError> {
        let (tag, vr) = (element.header.tag, crate::scan::vr(element.header));
        if vr.is_text() || vr == Vr::UI {
            self.0.texts.insert(tag, crate::scan::text(place, element.value()));
        }
        self.0.elements.insert(tag, (vr, element.value().to_vec()));
        Ok(Outcome::Keep)
    }
}

/// Puts original values back into a data set as it passes (PS3.15 E.1.2): it says itself that it has an identity again.
pub struct Restorer(Rewriter<Restoring>);

impl Restorer {
    /// For a data set in this transfer syntax.
    pub fn new(transfer_syntax: &Uid, originals: &Reidentified) -> Result<Self, ReidentifyError> {
        let value = |(tag, (vr, bytes)): (&Tag, &(Vr, Vec<u8>))| {
            (*tag, NewElement::Value { tag: *tag, vr: *vr, bytes: bytes.clone() })
        };
        let mut elements: BTreeMap<Tag, NewElement> = originals.elements.iter().map(value).collect();
        let identity = mark::identity_is_there();
        elements.insert(identity.0, identity.1);
        let restoring = Restoring { due: elements.into_iter().collect::<std::collections::VecDeque<_>>() };
        let restorer = Rewriter::unmeasured(transfer_syntax, restoring);
        restorer.map(Self).ok_or(ReidentifyError::TransferSyntax)
    }

    /// Takes the next bytes and appends to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ReidentifyError> {
        Ok(self.0.feed(bytes, out)?)
    }

    /// Ends the data set.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), ReidentifyError> {
        self.0.finish_edit(out)?;
        Ok(())
    }
}

struct Restoring {
    due: std::collections::VecDeque<(Tag, NewElement)>,
}

impl Edit for Restoring {
    fn level(&mut self, _place: &Place<'_>) {}

    fn insert(&mut self, place: &Place<'_>, next: Option<Tag>) -> Result<Option<NewElement>, EditError> {
        if !place.path.is_empty() {
            return Ok(None);
        }
        let is_due = self.due.front().is_some_and(|(tag, _)| next.is_none_or(|next| *tag < next));
        Ok(if is_due { self.due.pop_front().map(|(_, element)| element) } else { None })
    }

    fn element(&mut self, place: &Place<'_>, header: &ElementHeader) -> Result<Decision, EditError> {
        let tag = header.tag;
        if !place.path.is_empty() {
            return Ok(Decision::Keep);
        }
        if self.due.front().is_some_and(|(due, _)| *due == tag) {
            return Ok(self
                .due
                .pop_front()
                .map_or(Decision::Keep, |(_, element)| Decision::Replace(element)));
        }
        let is_mark = tag == ENCRYPTED_ATTRIBUTES || mark::TAGS.contains(&tag);
        Ok(if is_mark { Decision::Remove } else { Decision::Keep })
    }

    fn read(&mut self, _place: &Place<'_>, _element: WholeElement<'_>) -> Result<Outcome, EditError> {
        Ok(Outcome::Keep)
    }
}
