//! What is changed of a data set on its way to a destination, and only where somebody has written that down: a few of its
//! attributes (coercion, PS3.4 B.4.1.3), then the layout of its elements (re-encoding). Both stream: memory does not grow
//! with the data set.

use std::sync::Arc;

use base::{Digest, Status, Timestamp, Uid};
use bytes::{Buf, Bytes};
use dataset::{
    Extent, OriginalAttributes, PrivateVr, ReencodeError, Reencoder, RewriteError, Rewriter, Rules,
};
use ledger::Remark;

use crate::coercion::Coercion;

/// Bytes that are changed in one go: of a deflated data set each can become a thousand.
const FEED_BYTES: usize = 4 * 1024;
/// As much is gathered before it goes on.
const PIECE_BYTES: usize = 64 * 1024;

/// Why an instance is not handed to its destination: we refuse it ourselves. No message has patient data in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The layout.
    #[error("cannot be re-encoded: {0}")]
    Reencode(#[from] ReencodeError),
    /// The attributes.
    #[error("cannot be coerced: {0}")]
    Coerce(#[from] RewriteError),
    /// Nothing is known of how data sets of this transfer syntax are laid out.
    #[error("cannot be coerced: nothing is known of how data sets in transfer syntax {0} are laid out")]
    Layout(Uid),
    /// The rules, with the name of their sender.
    #[error("cannot be coerced: {0}")]
    Rules(#[from] dataset::RuleError),
}

/// The instance cannot be re-encoded for the destination as it is configured.
pub const NOT_REENCODED: Status = Status(0xC010);
/// The instance cannot be coerced for the destination as it is configured.
pub const NOT_COERCED: Status = Status(0xC011);

impl Refusal {
    /// What the sender is told. No `[destination.status]` gives it another sense: the destination has not said it.
    pub fn status(&self) -> Status {
        match self {
            Self::Reencode(_) => NOT_REENCODED,
            Self::Coerce(_) | Self::Layout(_) | Self::Rules(_) => NOT_COERCED,
        }
    }

    /// That it was us.
    pub fn remark(&self) -> Remark {
        match self {
            Self::Reencode(_) => Remark::NotReencoded,
            Self::Coerce(_) | Self::Layout(_) | Self::Rules(_) => Remark::NotCoerced,
        }
    }
}

/// What was done, once all of it has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The transfer syntax in which it came.
    pub from: Uid,
    /// The one in which it was handed over.
    pub to: Uid,
    /// Of the coercion's rules, where there is one.
    pub rules: Option<Digest>,
    /// The data set as it was handed over.
    pub after: Extent,
}

/// The changes of one instance, on the way.
pub struct Change {
    coercing: Option<(Box<Rewriter<Rules>>, Digest)>,
    reencoding: Option<Box<Reencoder>>,
    from: Uid,
    to: Uid,
    /// Between the two.
    between: Vec<u8>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

/// Which changes an instance gets.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The transfer syntax in which it comes.
    pub from: Uid,
    /// The attributes.
    pub coercion: Option<Arc<Coercion>>,
    /// When it was first offered: the same for each attempt, so that a repeat has the same bytes.
    pub first_offered_at: Timestamp,
    /// What becomes of private elements where the layout changes.
    pub private_vr: PrivateVr,
}

impl Wanted {
    /// The changes into this transfer syntax; `None` where nothing changes.
    pub fn change_into(&self, to: &Uid) -> Result<Option<Change>, Refusal> {
        let coercing = match &self.coercion {
            Some(coercion) => Some(self.coercing(coercion)?),
            None => None,
        };
        let reencoding = match self.from == *to {
            true => None,
            false => Some(Box::new(Reencoder::new(&self.from, to, self.private_vr)?)),
        };
        if coercing.is_none() && reencoding.is_none() {
            return Ok(None);
        }
        let (from, to) = (self.from.clone(), to.clone());
        Ok(Some(Change { coercing, reencoding, from, to, between: Vec::new() }))
    }

    fn coercing(&self, coercion: &Coercion) -> Result<(Box<Rewriter<Rules>>, Digest), Refusal> {
        let rules = coercion.rules.clone().keeping_originals(OriginalAttributes {
            when: self.first_offered_at,
            modifying_system: coercion.modifying_system.clone(),
            source_of_previous_values: coercion.source.clone(),
        })?;
        let rewriter = Rewriter::new(&self.from, rules).ok_or_else(|| Refusal::Layout(self.from.clone()))?;
        Ok((Box::new(rewriter), coercion.digest))
    }
}

impl Change {
    /// The transfer syntax in which it is handed over.
    pub fn to(&self) -> &Uid {
        &self.to
    }

    /// Takes bytes of `piece` until enough can go on, or all are taken.
    pub fn feed(&mut self, piece: &mut Bytes) -> Result<Bytes, Refusal> {
        let mut out = Vec::new();
        while piece.has_remaining() && out.len() < PIECE_BYTES {
            let some = piece.split_to(piece.len().min(FEED_BYTES));
            match (&mut self.coercing, &mut self.reencoding) {
                (Some((rewriter, _)), None) => rewriter.feed(&some, &mut out)?,
                (None, Some(reencoder)) => reencoder.feed(&some, &mut out)?,
                (Some((rewriter, _)), Some(reencoder)) => {
                    self.between.clear();
                    rewriter.feed(&some, &mut self.between)?;
                    reencoder.feed(&self.between, &mut out)?;
                }
                (None, None) => out.extend_from_slice(&some),
            }
        }
        Ok(out.into())
    }

    /// The rest, and what was done.
    pub fn finish(self) -> Result<(Bytes, Changed), Refusal> {
        let Self { coercing, reencoding, from, to, mut between } = self;
        let mut out = Vec::new();
        let mut rules = None;
        let mut after = None;
        between.clear();
        if let Some((rewriter, digest)) = coercing {
            let (rewritten, _) = rewriter.finish(&mut between)?;
            (rules, after) = (Some(digest), Some(rewritten.after));
        }
        match reencoding {
            Some(mut reencoder) => {
                reencoder.feed(&between, &mut out)?;
                after = Some(reencoder.finish(&mut out)?.after);
            }
            None => out = between,
        }
        let empty = || Extent { bytes: 0, digest: base::Hasher::new(b"").finish() };
        Ok((out.into(), Changed { from, to, rules, after: after.unwrap_or_else(empty) }))
    }
}
