//! What C2SP signed notes sign, byte for byte: signed-note v1.0.0 (Ed25519, type 0x01) and
//! tlog-cosignature as of July 2026 (Ed25519 cosignature/v1, type 0x04; ML-DSA-44 subtree/v1, type 0x06).

use std::fmt;

use base::Digest;
use thiserror::Error;

/// The name of a key in a signed note, or the origin of a log: 1 to 255 bytes without spaces, control
/// characters or a plus sign.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NoteName(String);

/// Why a text is not such a name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "the name of a log or of a note's key has 1 to 255 bytes and no space, control character or plus sign"
)]
pub struct NoteNameError;

/// What one signature of a note was made with (signed-note, "Signature types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureType {
    /// Ed25519 over the text: a log's own.
    Ed25519 = 0x01,
    /// Ed25519 over a time and the text: a cosigner's.
    Ed25519Cosignature = 0x04,
    /// ML-DSA-44 over name, time, origin, range and root: a log's own and a cosigner's.
    MlDsa44Cosignature = 0x06,
}

/// A tree head as ML-DSA-44 signs it. A checkpoint has `start` 0 and `end` its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHead<'a> {
    /// Who signs.
    pub signer: &'a NoteName,
    /// When, in seconds since 1970; 0 without a statement that this is the largest head seen.
    pub time_s: u64,
    /// Which log.
    pub origin: &'a NoteName,
    /// The first leaf.
    pub start: u64,
    /// The one after the last leaf.
    pub end: u64,
    /// Root hash of that range.
    pub root: Digest,
}

/// One signature as it stands in a note, behind the key's name: key id and what follows it.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// How it was made.
    pub kind: SignatureType,
    /// First four bytes of SHA-256 over the key's name, the type and the key.
    pub key_id: [u8; 4],
    /// The signature, with the time before it where the type has one.
    pub bytes: Vec<u8>,
}

impl NoteName {
    /// Length in bytes at most: ML-DSA-44 cosignatures write it in one byte.
    pub const BYTES_MAX: usize = 255;

    /// Checks length and repertoire.
    pub fn parse(text: &str) -> Result<Self, NoteNameError> {
        let refused = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if text.is_empty() || text.len() > Self::BYTES_MAX || text.contains(refused) {
            return Err(NoteNameError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn length(&self) -> u8 {
        #[expect(clippy::expect_used, reason = "parse refuses more than 255 bytes")]
        u8::try_from(self.0.len()).expect("a name has at most 255 bytes")
    }
}

impl From<&base::Name> for NoteName {
    /// A peer's name has 1 to 64 characters, none of them refused here.
    fn from(name: &base::Name) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl fmt::Display for NoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl SignatureType {
    /// The byte that stands for it in key ids and verifier keys.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Whether eight bytes of time precede the signature proper.
    pub const fn is_timed(self) -> bool {
        matches!(self, Self::Ed25519Cosignature | Self::MlDsa44Cosignature)
    }
}

impl SignedHead<'_> {
    const LABEL: &'static [u8; 12] = b"subtree/v1\n\0";

    /// `cosigned_message` of tlog-cosignature.
    pub(crate) fn message(&self) -> Vec<u8> {
        let Self { signer, time_s, origin, start, end, root } = self;
        let mut message = Vec::with_capacity(128);
        message.extend_from_slice(Self::LABEL);
        message.push(signer.length());
        message.extend_from_slice(signer.as_str().as_bytes());
        message.extend_from_slice(&time_s.to_be_bytes());
        message.push(origin.length());
        message.extend_from_slice(origin.as_str().as_bytes());
        message.extend_from_slice(&start.to_be_bytes());
        message.extend_from_slice(&end.to_be_bytes());
        message.extend_from_slice(&root.0);
        message
    }
}

impl NoteSignature {
    /// The time before the signature proper, in seconds since 1970.
    pub fn time_s(&self) -> Option<u64> {
        let time = self.bytes.first_chunk::<8>().filter(|_| self.kind.is_timed())?;
        Some(u64::from_be_bytes(*time))
    }
}

impl fmt::Debug for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSignature({:?}, {})", self.kind, hex::encode(self.key_id))
    }
}

/// What an Ed25519 cosignature signs: two lines before the text.
pub(crate) fn cosigned_text(time_s: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_would_be_read_otherwise() {
        for text in ["relay-1", "relay-1/0123456789abcdef", "x".repeat(255).as_str(), "é"] {
            assert_eq!(NoteName::parse(text).map(|name| name.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["", " ", "a b", "a\u{a0}b", "a\u{2003}b", "a+b", "a\nb", "a\u{85}b", "a\0", &"x".repeat(256)]
        {
            assert_eq!(NoteName::parse(text), Err(NoteNameError), "{text:?}");
        }
    }

    /// The structure of tlog-cosignature, written out by hand.
    #[test]
    fn a_head_is_signed_in_the_standard_form() {
        let (signer, origin) = (NoteName("w".to_owned()), NoteName("log/1".to_owned()));
        let head = SignedHead {
            signer: &signer,
            time_s: 0x0102,
            origin: &origin,
            start: 0,
            end: 7,
            root: Digest([9; 32]),
        };
        let want = [
            "737562747265652f76310a00",
            "0177",
            "0000000000000102",
            "056c6f672f31",
            "0000000000000000",
            "0000000000000007",
            &"09".repeat(32),
        ];
        assert_eq!(hex::encode(head.message()), want.concat());
        assert_eq!(cosigned_text(7, "log/1\n"), "cosignature/v1\ntime 7\nlog/1\n");
    }
}
