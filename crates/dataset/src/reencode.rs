//! One layout of elements into another, as they pass.

use base::Uid;
use dicom_dictionary_std::uids;
use thiserror::Error;

use crate::element::{Content, DictionaryVr, ElementHeader, Length, Tag, Vr};
use crate::inflate::InflateError;
use crate::stream::{Extent, Pump, Stage};
use crate::syntax::{Encoding, Syntax};
use crate::token::{Event, TokenError, Tokenizer};
use crate::write;

/// Turns Implicit VR Little Endian, Explicit VR Little Endian and Deflated Explicit VR Little Endian into each other.
/// Values are copied; of a sequence's and an element's header the layout changes. Memory does not grow with the data set.
///
/// Where the layout changes, sequences and items get undefined length: a header is longer in one layout than in the
/// other, so that a length could be known only after the whole sequence, which may be as long as the instance. Every
/// reader must take both forms (PS3.5 §7.5). Group lengths are left out (PS3.5 §7.2). Between Explicit and Deflated all
/// bytes stay.
///
/// Where implicit becomes explicit, the dictionary gives each value representation: US or SS as Pixel Representation
/// (0028,0103) of the same or the nearest outer level says, US where none has come before; OW for what may be OB, OW or
/// US; UN for what is private or unknown, or too long for a 16 bit length (PS3.5 §6.2.2); LO for private creators.
///
/// Any split of the input gives the same output. One byte of a deflated data set can become a thousand: feed it in
/// pieces of PDV size.
pub struct Reencoder {
    pump: Pump<Converter>,
}

/// What becomes of a private element whose value representation implicit VR cannot say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrivateVr {
    /// The data set is refused.
    #[default]
    Keep,
    /// It is lost; the value stays.
    Lose,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reencoded {
    /// Private elements whose value representation was lost.
    pub private_vr_lost: u64,
    /// Elements written as UN, since their value representation is not known or has no room for their length.
    pub unknown_vr: u64,
    /// The data set as it came.
    pub before: Extent,
    /// The data set as it went.
    pub after: Extent,
}

/// Why a data set was not re-encoded, and must not be passed on. No message has patient data in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReencodeError {
    /// One of the two is no transfer syntax of this kind. The caller has to ask [`Reencoder::is_possible`].
    #[error(
        "transfer syntax {from} cannot become {to}: only Implicit, Explicit and Deflated Little Endian can become each other"
    )]
    NotPossible {
        /// As it is.
        from: Uid,
        /// As it should be.
        to: Uid,
    },
    /// No element at all. Whoever wrote it has to act.
    #[error("data set is missing: not one element came")]
    Empty,
    /// Its elements. Whoever wrote it has to act.
    #[error(transparent)]
    Structure(#[from] TokenError),
    /// Its compression. Whoever wrote it has to act.
    #[error(transparent)]
    Deflate(#[from] InflateError),
    /// Pixels are never touched.
    #[error("{tag} is encapsulated, which this transfer syntax does not allow (PS3.5 A.4)")]
    Encapsulated {
        /// The element.
        tag: Tag,
    },
    /// It would be lost, and nobody has allowed that.
    #[error(
        "private element {tag} would lose its value representation {vr} in implicit VR; set private_vr = \"lose\" to allow it"
    )]
    PrivateVr {
        /// The element.
        tag: Tag,
        /// Its value representation.
        vr: Vr,
    },
    /// Implicit VR would make a sequence of a value.
    #[error("{tag} has value representation {vr}, but is a sequence in the dictionary")]
    Contradiction {
        /// The element.
        tag: Tag,
        /// Its value representation.
        vr: Vr,
    },
}

impl Reencoder {
    /// From one transfer syntax to another.
    pub fn new(from: &Uid, to: &Uid, private_vr: PrivateVr) -> Result<Self, ReencodeError> {
        let not_possible = || ReencodeError::NotPossible { from: from.clone(), to: to.clone() };
        let (source, target) = (plain(from).ok_or_else(not_possible)?, plain(to).ok_or_else(not_possible)?);
        let converter = Converter::new(source.encoding, target.encoding, private_vr);
        Ok(Self { pump: Pump::new(converter, source, target, source == target) })
    }

    /// Whether both are of the three.
    pub fn is_possible(from: &Uid, to: &Uid) -> bool {
        plain(from).is_some() && plain(to).is_some()
    }

    /// Takes the next bytes and appends to `out` what can go on. After an error each call gives that error again, and
    /// what went on before must not become a whole data set.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ReencodeError> {
        self.pump.feed(bytes, out)
    }

    /// Ends the data set; here truncation is found. Appends the rest to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<Reencoded, ReencodeError> {
        let (before, after) = self.pump.finish(out)?;
        let Converter { private_vr_lost, unknown_vr, .. } = self.pump.stage;
        Ok(Reencoded { private_vr_lost, unknown_vr, before, after })
    }
}

/// The layout of one of the three.
fn plain(transfer_syntax: &Uid) -> Option<Syntax> {
    let known = [
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ];
    known.contains(&transfer_syntax.as_str()).then(|| Syntax::of(transfer_syntax)).flatten()
}

struct Converter {
    /// `None` after the end.
    tokens: Option<Tokenizer>,
    to: Encoding,
    /// The layout stays.
    same: bool,
    private_vr: PrivateVr,
    /// Pixel Representation of the data set, then of each item around.
    signed: Vec<Option<bool>>,
    /// The value of (0028,0103) while it passes.
    representation: Option<Vec<u8>>,
    /// The running value is left out.
    dropping: bool,
    begun: bool,
    private_vr_lost: u64,
    unknown_vr: u64,
}

impl Stage for Converter {
    type Error = ReencodeError;

    fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ReencodeError> {
        let Some(mut tokens) = self.tokens.take() else { return Ok(()) };
        let whole = bytes;
        while let Some(event) = tokens.next(&mut bytes)? {
            self.event(event, out)?;
        }
        if self.same {
            out.extend_from_slice(whole);
        }
        self.tokens = Some(tokens);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ReencodeError> {
        let Some(tokens) = self.tokens.take() else { return Ok(()) };
        let zeros = tokens.finish()?;
        if !self.begun {
            return Err(ReencodeError::Empty);
        }
        if !self.same {
            out.resize(out.len() + zeros, 0);
        }
        Ok(())
    }
}

impl Converter {
    fn new(from: Encoding, to: Encoding, private_vr: PrivateVr) -> Self {
        let tokens = Tokenizer::new(from);
        Self {
            // What was once converted without being known is converted now.
            tokens: Some(if from == to { tokens } else { tokens.opening_unknown() }),
            to,
            same: from == to,
            private_vr,
            signed: vec![None],
            representation: None,
            dropping: false,
            begun: false,
            private_vr_lost: 0,
            unknown_vr: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, out: &mut Vec<u8>) -> Result<(), ReencodeError> {
        if let Event::Element(header) = &event {
            self.begun = true;
            if header.content == Content::Fragments {
                return Err(ReencodeError::Encapsulated { tag: header.tag });
            }
        }
        if self.same {
            return Ok(());
        }
        match event {
            Event::Element(header) => self.element(&header, out)?,
            Event::Value(piece) if !self.dropping => {
                out.extend_from_slice(piece);
                if let Some(value) = self.representation.as_mut().filter(|value| value.len() < 2) {
                    value.extend_from_slice(piece.get(..2 - value.len()).unwrap_or(piece));
                }
            }
            Event::ValueEnd => self.value_end(),
            Event::ItemStart(..) => {
                write::item(out, Tag::ITEM, Length::Undefined, self.to);
                self.signed.push(None);
            }
            Event::ItemEnd(_) => {
                write::item(out, Tag::ITEM_DELIMITER, Length::Defined(0), self.to);
                self.signed.pop();
            }
            Event::SequenceEnd(_) => write::item(out, Tag::SEQUENCE_DELIMITER, Length::Defined(0), self.to),
            Event::TrailingZeros(count) => out.resize(out.len() + usize::try_from(count).unwrap_or(0), 0),
            Event::Value(_) | Event::StrayDelimiter(_) | Event::FragmentStart(..) | Event::FragmentEnd => {}
        }
        Ok(())
    }

    fn element(&mut self, header: &ElementHeader, out: &mut Vec<u8>) -> Result<(), ReencodeError> {
        let tag = header.tag;
        if tag.is_group_length() && header.content == Content::Value {
            self.dropping = true;
            return Ok(());
        }
        self.representation = (tag == Tag::PIXEL_REPRESENTATION).then(Vec::new);
        let length = match header.content {
            Content::Sequence => Length::Undefined,
            Content::Value | Content::Fragments => header.length,
        };
        let vr = if self.to.is_explicit() {
            self.explicit_vr(header)
        } else {
            self.check_loss(header)?;
            Vr::UN
        };
        if write::element(out, tag, vr, length, self.to).is_none() {
            self.unknown_vr += 1;
            write::element(out, tag, Vr::UN, length, self.to);
        }
        Ok(())
    }

    fn value_end(&mut self) {
        self.dropping = false;
        let Some(value) = self.representation.take() else { return };
        let signed = match value.as_slice() {
            [0, 0] => Some(false),
            [1, 0] => Some(true),
            _ => None,
        };
        if let Some(level) = self.signed.last_mut() {
            *level = signed;
        }
    }

    /// What implicit VR does not say.
    fn explicit_vr(&mut self, header: &ElementHeader) -> Vr {
        if header.content == Content::Sequence {
            return Vr::SQ;
        }
        match header.tag.dictionary_vr() {
            Some(DictionaryVr::Exact(vr)) => vr,
            Some(DictionaryVr::Words) => Vr::OW,
            Some(DictionaryVr::Sample) => {
                let signed = self.signed.iter().rev().find_map(|signed| *signed);
                if signed == Some(true) { Vr::SS } else { Vr::US }
            }
            None => {
                self.unknown_vr += 1;
                Vr::UN
            }
        }
    }

    /// What implicit VR cannot say.
    fn check_loss(&mut self, header: &ElementHeader) -> Result<(), ReencodeError> {
        let (tag, Some(vr)) = (header.tag, header.vr) else { return Ok(()) };
        if header.content != Content::Value || vr == Vr::UN {
            return Ok(());
        }
        if tag.is_sequence() {
            return Err(ReencodeError::Contradiction { tag, vr });
        }
        if !tag.is_private() || tag.is_private_creator() {
            return Ok(());
        }
        match self.private_vr {
            PrivateVr::Keep => Err(ReencodeError::PrivateVr { tag, vr }),
            PrivateVr::Lose => {
                self.private_vr_lost += 1;
                Ok(())
            }
        }
    }
}
