//! A question of the sender and the receiver's answer, each under a key of its own of the running session. Both are
//! filled up to fixed lengths, so that whoever carries them cannot tell one kind from another.

use base::{Digest, Fingerprint, RouteId, Secret, SessionId};
use minicbor::bytes::ByteSlice;
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::aead::{Cipher, ONE_MESSAGE};
use crate::header::OpeningPart;
use crate::kem::Exporter;
use crate::{FORMAT_VERSION, HEADER_BYTES_MAX, HeaderError, SessionSpent, Suite, TAG_BYTES, cbor};

/// The longest question.
pub const QUESTION_BYTES_MAX: usize = QUESTION_BLOCK_BYTES - LENGTH_BYTES;
/// The longest answer.
pub const ANSWER_BYTES_MAX: usize = ANSWER_BLOCKS_MAX * ANSWER_BLOCK_BYTES - LENGTH_BYTES;
/// Questions that one session carries.
pub(crate) const QUESTIONS_MAX: u32 = 10_000;

/// Every question is filled up to this length.
const QUESTION_BLOCK_BYTES: usize = 512;
/// Every answer is filled up to a multiple of this length: a negotiation table of the usual size fits into one.
const ANSWER_BLOCK_BYTES: usize = 16 * 1024;
const ANSWER_BLOCKS_MAX: usize = 3;
/// In front of a filled plaintext: its true length.
const LENGTH_BYTES: usize = 4;
/// An answer begins with one of these.
const ANSWERED: u8 = 0;
const REFUSED: u8 = 1;

/// The canonical question without what it asks: the AAD of that.
#[derive(Encode, Decode)]
pub(crate) struct Core<'a> {
    #[n(0)]
    pub(crate) version: u8,
    #[n(1)]
    pub(crate) session: SessionId,
    #[b(2)]
    pub(crate) opening: OpeningPart<'a>,
    #[n(3)]
    pub(crate) number: u32,
}

#[derive(Encode, Decode)]
struct Outer<'a> {
    #[b(0)]
    core: &'a ByteSlice,
    #[b(1)]
    sealed: &'a ByteSlice,
}

/// A question ready to be sent, and what opens its answer.
#[derive(Debug)]
pub struct SealedQuestion {
    /// The question.
    pub bytes: Vec<u8>,
    /// Its session.
    pub session: SessionId,
    /// Opens the answer.
    pub answer: AnswerKey,
}

/// A question that verified: from a pinned sender, for this receiver and this route, and asked for the first time.
#[derive(Debug)]
pub struct OpenedQuestion {
    /// The route that the session was opened for.
    pub route: RouteId,
    /// The sender's identity.
    pub sender_fingerprint: Fingerprint,
    /// What it asks.
    pub plaintext: Vec<u8>,
    /// Seals the answer.
    pub answer: AnswerKey,
}

/// The key of exactly one answer, bound to its question.
pub struct AnswerKey {
    suite: Suite,
    key: Secret<[u8; 32]>,
    question: Digest,
}

/// Why a session seals no question.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NoQuestion {
    /// Open another session.
    #[error(transparent)]
    Spent(#[from] SessionSpent),
    /// Longer than any question may be.
    #[error("question of {0} bytes exceeds {QUESTION_BYTES_MAX}")]
    TooLong(usize),
}

/// Why bytes are not the answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AnswerError {
    /// The receiver did not open the question, or so whoever carries the answers says: nobody has signed this. It is
    /// good for another try in a new session and for nothing else.
    #[error("the receiver refuses the question: {0}")]
    Refused(HeaderError),
    /// Not of any form that an answer has.
    #[error("answer is malformed")]
    Malformed,
    /// Altered, or the answer to another question.
    #[error("answer does not verify: altered, or of another question")]
    Tag,
}

/// A question as read; nothing in it is to be believed before [`Question::open`].
pub(crate) struct Question<'a> {
    pub(crate) core: Core<'a>,
    whole: &'a [u8],
    aad: &'a [u8],
    sealed: &'a [u8],
}

impl<'a> Question<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        if bytes.len() > HEADER_BYTES_MAX {
            return Err(HeaderError::Malformed);
        }
        let outer: Outer<'a> = cbor::decode_canonical(bytes).ok_or(HeaderError::Malformed)?;
        let core: Core<'a> = cbor::decode_canonical(outer.core).ok_or(HeaderError::Malformed)?;
        if core.version != FORMAT_VERSION {
            return Err(HeaderError::Version);
        }
        if core.number >= QUESTIONS_MAX || outer.sealed.len() != QUESTION_BLOCK_BYTES + TAG_BYTES {
            return Err(HeaderError::Malformed);
        }
        Ok(Self { core, whole: bytes, aad: outer.core, sealed: outer.sealed })
    }

    pub(crate) fn open(
        &self,
        suite: Suite,
        exporter: &dyn Exporter,
    ) -> Result<(Vec<u8>, AnswerKey), HeaderError> {
        let mut sealed = self.sealed.to_vec();
        let cipher = Cipher::new(suite, &export(exporter, QUESTION_LABEL, self.core.number));
        let filled = cipher.open(&ONE_MESSAGE, self.aad, &mut sealed).ok_or(HeaderError::BadTag)?;
        let plaintext = emptied(filled).ok_or(HeaderError::Malformed)?;
        Ok((plaintext, AnswerKey::new(suite, exporter, self.core.number, self.whole)))
    }
}

/// The whole question.
pub(crate) fn seal(
    core: &Core<'_>,
    suite: Suite,
    exporter: &dyn Exporter,
    plaintext: &[u8],
) -> Result<SealedQuestion, NoQuestion> {
    if plaintext.len() > QUESTION_BYTES_MAX {
        return Err(NoQuestion::TooLong(plaintext.len()));
    }
    let aad = cbor::encode(core);
    let mut sealed = filled(plaintext, QUESTION_BLOCK_BYTES);
    let key = export(exporter, QUESTION_LABEL, core.number);
    Cipher::new(suite, &key).seal(&ONE_MESSAGE, &aad, &mut sealed);
    let bytes = cbor::encode(&Outer { core: aad.as_slice().into(), sealed: sealed.as_slice().into() });
    let answer = AnswerKey::new(suite, exporter, core.number, &bytes);
    Ok(SealedQuestion { bytes, session: core.session, answer })
}

/// What a receiver says to a question that it does not open. It is not sealed: there is no key for it.
pub fn refuse_question(why: HeaderError) -> Vec<u8> {
    vec![REFUSED, why.code()]
}

impl AnswerKey {
    fn new(suite: Suite, exporter: &dyn Exporter, number: u32, question: &[u8]) -> Self {
        Self { suite, key: export(exporter, ANSWER_LABEL, number), question: Digest::of(question) }
    }

    /// Seals the one answer. What is longer than [`ANSWER_BYTES_MAX`] is none.
    pub fn seal(self, plaintext: &[u8]) -> Option<Vec<u8>> {
        if plaintext.len() > ANSWER_BYTES_MAX {
            return None;
        }
        let mut sealed = filled(plaintext, ANSWER_BLOCK_BYTES);
        Cipher::new(self.suite, &self.key).seal(&ONE_MESSAGE, &self.question.0, &mut sealed);
        sealed.insert(0, ANSWERED);
        Some(sealed)
    }

    /// Opens the answer to the question that this key was made for.
    pub fn open(&self, answer: &[u8]) -> Result<Vec<u8>, AnswerError> {
        match answer.split_first() {
            Some((&REFUSED, [code])) => {
                Err(HeaderError::from_code(*code).map_or(AnswerError::Malformed, AnswerError::Refused))
            }
            Some((&ANSWERED, sealed)) => {
                let blocks = sealed.len().saturating_sub(TAG_BYTES);
                let is_whole = blocks.is_multiple_of(ANSWER_BLOCK_BYTES);
                if !is_whole || blocks == 0 || blocks > ANSWER_BLOCKS_MAX * ANSWER_BLOCK_BYTES {
                    return Err(AnswerError::Malformed);
                }
                let mut sealed = sealed.to_vec();
                let cipher = Cipher::new(self.suite, &self.key);
                let filled =
                    cipher.open(&ONE_MESSAGE, &self.question.0, &mut sealed).ok_or(AnswerError::Tag)?;
                emptied(filled).ok_or(AnswerError::Malformed)
            }
            _ => Err(AnswerError::Malformed),
        }
    }
}

impl std::fmt::Debug for AnswerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnswerKey")
    }
}

const QUESTION_LABEL: &[u8] = b"sluis/1 question";
const ANSWER_LABEL: &[u8] = b"sluis/1 answer";

/// One key for each number and direction, which seals one message.
fn export(exporter: &dyn Exporter, label: &[u8], number: u32) -> Secret<[u8; 32]> {
    exporter.export(&[label, &number.to_be_bytes()].concat())
}

/// Length, plaintext, zeros up to a multiple of `block`.
fn filled(plaintext: &[u8], block: usize) -> Vec<u8> {
    let bytes = (LENGTH_BYTES + plaintext.len()).next_multiple_of(block);
    let mut filled = Vec::with_capacity(bytes + TAG_BYTES);
    filled.extend_from_slice(&u32::try_from(plaintext.len()).unwrap_or(u32::MAX).to_be_bytes());
    filled.extend_from_slice(plaintext);
    filled.resize(bytes, 0);
    filled
}

fn emptied(filled: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = filled.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (plaintext, zeros) = rest.split_at_checked(length)?;
    zeros.iter().all(|byte| *byte == 0).then(|| plaintext.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_up_comes_out_again_and_nothing_else_does() {
        for length in [0, 1, 507, QUESTION_BYTES_MAX] {
            let plain = vec![7; length];
            let full = filled(&plain, QUESTION_BLOCK_BYTES);
            assert_eq!(full.len(), QUESTION_BLOCK_BYTES);
            assert_eq!(emptied(&full), Some(plain));
        }
        assert_eq!(
            filled(&[1; QUESTION_BYTES_MAX + 1], QUESTION_BLOCK_BYTES).len(),
            2 * QUESTION_BLOCK_BYTES
        );
        for bad in [&[][..], &[0, 0, 0], &[0, 0, 0, 2, 1], &[255, 255, 255, 255, 1], &[0, 0, 0, 1, 9, 0, 1]] {
            assert_eq!(emptied(bad), None, "{bad:?}");
        }
    }
}
