use base::{DeliveryId, Digest};
use identity::PeerCard;
use thiserror::Error;

use crate::log::{
    Entry, EntryKind, Salt, SignedNote, TlogProof, TlogProofError, TreeHead, parse_origin, verify_inclusion,
};
use crate::tree::PathError;

/// That a settlement stands in a relay's log: a C2SP tlog-proof whose extra data is the salt of the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProof {
    proof: TlogProof,
    head: TreeHead,
    entry: Entry,
}

/// Why a proof does not show that a receipt is in a relay's log.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LogProofError {
    /// The text is no such proof.
    #[error(transparent)]
    Proof(#[from] TlogProofError),
    /// It is a proof, but not one of ours.
    #[error("{0}")]
    Form(&'static str),
    /// The proof is of another entry, or of another tree.
    #[error("the proof is not of this receipt: {0}")]
    OtherEntry(PathError),
    /// The log is that of another relay than the card.
    #[error("the proof is from the log {log}, the card is of {card}")]
    OtherRelay {
        /// Origin of the log.
        log: String,
        /// Name on the card.
        card: base::Name,
    },
    /// Signed by a key that was rotated, after it ended.
    #[error("the head of the log is signed by the relay's earlier key, after the end of that key")]
    EarlierKey,
    /// The card has no log key.
    #[error("the card of {0} has no log key; ask for one that has")]
    NoLogKey(base::Name),
}

/// The log's own signatures, and no others: those could not be checked by the relay's card.
const SIGNATURES: usize = 2;

impl LogProof {
    /// Reads a proof and checks that it leads from the settlement with this receipt to the head it names. Whether the
    /// relay signed that head, [`LogProof::verify`] tells.
    pub fn parse(text: &str, delivery: &DeliveryId, receipt: &Digest) -> Result<Self, LogProofError> {
        Self::of(TlogProof::parse(text)?, delivery, receipt)
    }

    /// As [`LogProof::parse`], from its parts.
    pub fn of(proof: TlogProof, delivery: &DeliveryId, receipt: &Digest) -> Result<Self, LogProofError> {
        let salt = proof.extra.as_deref().and_then(|salt| salt.try_into().ok()).map(Salt);
        let salt = salt.ok_or(LogProofError::Form("the proof has no salt of 16 bytes"))?;
        let form = |_| LogProofError::Form("the checkpoint of the proof is damaged");
        let note = SignedNote::parse(&proof.checkpoint).map_err(form)?;
        if note.to_text() != proof.checkpoint || note.lines().len() != SIGNATURES {
            return Err(LogProofError::Form("the checkpoint has not exactly the two signatures of its log"));
        }
        let head = TreeHead::parse(note.text())
            .map_err(|_| LogProofError::Form("the checkpoint of the proof is not a head of a log"))?;
        let entry = Entry::new(EntryKind::Settled, &salt, delivery, receipt);
        verify_inclusion(&entry.leaf_hash(), proof.index, head.size, &proof.path, &head.root)
            .map_err(LogProofError::OtherEntry)?;
        Ok(Self { proof, head, entry })
    }

    /// Checks that the relay of this card signed the head.
    pub fn verify(&self, relay: &PeerCard) -> Result<(), LogProofError> {
        let named = parse_origin(&self.head.origin);
        if !named.is_ok_and(|(name, _)| name == relay.name) {
            let (log, card) = (self.head.origin.to_string(), relay.name.clone());
            return Err(LogProofError::OtherRelay { log, card });
        }
        // The relay's own word on when it signed the head; its earlier key counts for what is before its end.
        let mut refused = None;
        for (key, until) in relay.all_log_keys() {
            match self.proof.verify(&self.entry.leaf_hash(), key) {
                Ok(head) => {
                    let signed_ms = head.time_s(key).unwrap_or(u64::MAX).saturating_mul(1000);
                    match until {
                        Some(until) if signed_ms >= until.0 => refused = Some(LogProofError::EarlierKey),
                        _ => return Ok(()),
                    }
                }
                Err(error) => refused = refused.or_else(|| Some(error.into())),
            }
        }
        Err(refused.unwrap_or_else(|| LogProofError::NoLogKey(relay.name.clone())))
    }

    /// Which entry.
    pub fn index(&self) -> u64 {
        self.proof.index
    }

    /// The head that the proof leads to.
    pub fn head(&self) -> &TreeHead {
        &self.head
    }

    /// The proof as text.
    pub fn to_text(&self) -> String {
        self.proof.to_text()
    }
}
