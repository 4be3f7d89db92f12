//! Checkpoints (C2SP tlog-checkpoint): a tree head as a note, signed by the log with Ed25519 (type 0x01) and ML-DSA-44
//! (type 0x06), and cosigned by gateways with Ed25519 (type 0x04) and ML-DSA-44 (type 0x06).

use base::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::{LogKey, LogPublic, LogVerifyError, NoteName, SignatureType, SignedHead};
use thiserror::Error;

use super::note::{NoteError, SignedNote};

/// Size and root of a log at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Which log.
    pub origin: NoteName,
    /// Its number of entries.
    pub size: u64,
    /// Its Merkle Tree Hash.
    pub root: Digest,
}

/// Why a text is no tree head.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TreeHeadError {
    /// Not three lines: other lines would not be under the ML-DSA-44 signature.
    #[error("a checkpoint of ours has exactly three lines: origin, size and root")]
    Lines,
    /// Not an origin.
    #[error("the origin is not one name")]
    Origin,
    /// Not a number, or not in its one form.
    #[error("the size is not a decimal number without leading zeros")]
    Size,
    /// Not 32 bytes in base64, or not in their one form.
    #[error("the root is not 32 bytes in base64")]
    Root,
}

/// A tree head with the signatures of its log, which have been verified, and perhaps of others, which have not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    head: TreeHead,
    note: SignedNote,
}

/// Why a text is not the checkpoint of a log.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CheckpointError {
    /// Not a note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A note about something else.
    #[error(transparent)]
    Head(#[from] TreeHeadError),
    /// A signature of the log is missing, or there are two.
    #[error("the checkpoint does not carry exactly one {0} signature of its log")]
    Missing(&'static str),
    /// A signature of the log is wrong.
    #[error("the {0} signature of the log does not verify")]
    Signature(&'static str),
}

/// Why a cosignature does not count.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CosignError {
    /// It is missing, or there are two.
    #[error("the checkpoint does not carry exactly one {0} cosignature of that gateway")]
    Missing(&'static str),
    /// It is wrong.
    #[error("the {0} cosignature does not verify")]
    Signature(&'static str),
    /// The two were made at different times.
    #[error("the two cosignatures of the gateway name different times")]
    Times,
}

const ED25519: &str = "Ed25519";
const ML_DSA_44: &str = "ML-DSA-44";

impl TreeHead {
    /// The text of its note: three lines.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// Reads the text of a note.
    pub fn parse(text: &str) -> Result<Self, TreeHeadError> {
        let text = text.strip_suffix('\n').ok_or(TreeHeadError::Lines)?;
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(TreeHeadError::Lines);
        };
        let origin = NoteName::parse(origin).map_err(|_| TreeHeadError::Origin)?;
        let number: u64 = size.parse().map_err(|_| TreeHeadError::Size)?;
        if number.to_string() != size {
            return Err(TreeHeadError::Size);
        }
        let root = STANDARD.decode(root).ok().and_then(|root| Digest::from_slice(&root));
        Ok(Self { origin, size: number, root: root.ok_or(TreeHeadError::Root)? })
    }

    fn signed_by<'a>(&'a self, signer: &'a NoteName, time_s: u64) -> SignedHead<'a> {
        SignedHead { signer, time_s, origin: &self.origin, start: 0, end: self.size, root: self.root }
    }
}

impl Checkpoint {
    /// Signs a head as its log: both signatures under the origin as the key's name.
    pub fn sign(head: TreeHead, key: &LogKey, time_s: u64) -> Self {
        let text = head.text();
        let signatures =
            [key.sign_note(&head.origin, &text), key.sign_head(&head.signed_by(&head.origin, time_s))];
        let mut note = SignedNote::unsigned(text);
        for signature in signatures {
            note.add(&head.origin, signature);
        }
        Self { head, note }
    }

    /// Reads a checkpoint and verifies both signatures of its log. Whether it is the log that was asked for, is to be
    /// seen from the origin.
    pub fn parse(text: &str, log: &LogPublic) -> Result<Self, CheckpointError> {
        let note = SignedNote::parse(text)?;
        let head = TreeHead::parse(note.text())?;
        let find = |kind, what| {
            note.signature(&head.origin, log.key_id(kind, &head.origin)).ok_or(CheckpointError::Missing(what))
        };
        let ed25519 = find(SignatureType::Ed25519, ED25519)?;
        let ml_dsa = find(SignatureType::MlDsa44Cosignature, ML_DSA_44)?;
        log.verify_note(note.text(), ed25519).map_err(|_| CheckpointError::Signature(ED25519))?;
        verify_head(&head, &head.origin, log, ml_dsa).map_err(|_| CheckpointError::Signature(ML_DSA_44))?;
        Ok(Self { head, note })
    }

    /// What was signed.
    pub fn head(&self) -> &TreeHead {
        &self.head
    }

    /// All lines.
    pub fn note(&self) -> &SignedNote {
        &self.note
    }

    /// The checkpoint as text.
    pub fn to_text(&self) -> String {
        self.note.to_text()
    }

    /// When its log signed it, in seconds since 1970: what its ML-DSA-44 signature names.
    pub fn time_s(&self, log: &LogPublic) -> Option<u64> {
        let origin = &self.head.origin;
        let key_id = log.key_id(SignatureType::MlDsa44Cosignature, origin);
        self.note.signature(origin, key_id)?.first_chunk().map(|time| u64::from_be_bytes(*time))
    }

    /// Adds both cosignatures of a gateway that has found it consistent with what it saw before.
    pub fn cosign(&mut self, key: &LogKey, time_s: u64) {
        let name = NoteName::from(key.name());
        let signatures = [
            key.cosign_note(&name, time_s, self.note.text()),
            key.sign_head(&self.head.signed_by(&name, time_s)),
        ];
        for signature in signatures {
            self.note.add(&name, signature);
        }
    }

    /// Verifies both cosignatures of a gateway; gives their time, in seconds since 1970.
    pub fn verify_cosigner(&self, name: &base::Name, key: &LogPublic) -> Result<u64, CosignError> {
        let name = NoteName::from(name);
        let find = |kind, what| {
            self.note.signature(&name, key.key_id(kind, &name)).ok_or(CosignError::Missing(what))
        };
        let ed25519 = find(SignatureType::Ed25519Cosignature, ED25519)?;
        let ml_dsa = find(SignatureType::MlDsa44Cosignature, ML_DSA_44)?;
        let time_s = key
            .verify_cosigned_note(self.note.text(), ed25519)
            .map_err(|_| CosignError::Signature(ED25519))?;
        let signed_s =
            verify_head(&self.head, &name, key, ml_dsa).map_err(|_| CosignError::Signature(ML_DSA_44))?;
        if time_s == signed_s { Ok(time_s) } else { Err(CosignError::Times) }
    }

    /// Takes over the cosignatures of a gateway from another copy of the same head, if they verify.
    pub fn adopt(&mut self, other: &Self, name: &base::Name, key: &LogPublic) -> Result<u64, CosignError> {
        if other.head != self.head {
            return Err(CosignError::Missing("matching"));
        }
        let time_s = other.verify_cosigner(name, key)?;
        let note_name = NoteName::from(name);
        for kind in [SignatureType::Ed25519Cosignature, SignatureType::MlDsa44Cosignature] {
            let key_id = key.key_id(kind, &note_name);
            if let Some(bytes) = other.note.signature(&note_name, key_id) {
                self.note.add(&note_name, identity::NoteSignature { kind, key_id, bytes: bytes.to_vec() });
            }
        }
        Ok(time_s)
    }
}

fn verify_head(
    head: &TreeHead,
    signer: &NoteName,
    key: &LogPublic,
    signature: &[u8],
) -> Result<u64, LogVerifyError> {
    let time_s = signature.first_chunk().map_or(0, |time| u64::from_be_bytes(*time));
    key.verify_head(&head.signed_by(signer, time_s), signature)?;
    Ok(time_s)
}
