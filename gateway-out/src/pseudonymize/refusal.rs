//! Why an instance was not pseudonymized, as the PACS sees it and as an operator does.

use dataset::{InflateError, RewriteError, TokenError};
use pseudonym::Refusal;
use spool::StoreError;
use thiserror::Error;

use crate::answers::Cause;

/// Why nothing of an instance leaves. No message has patient data.
#[derive(Debug, Clone, Error)]
pub enum NotPseudonymized {
    /// The engine refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Under which key its study is cannot be looked up.
    #[error("under which site key its study is cannot be looked up: {0}")]
    Store(#[from] StoreError),
}

/// The answer to the PACS.
pub fn cause(why: &NotPseudonymized) -> Cause {
    match why {
        NotPseudonymized::Store(_) => Cause::OutboxFailed,
        NotPseudonymized::Refused(refusal) => match refusal {
            Refusal::NoPatient => Cause::NoPatient,
            Refusal::SopClass(_) | Refusal::TransferSyntax => Cause::NotCovered,
            Refusal::Pixels(_) => Cause::PixelsMayShow,
            Refusal::Residual { .. } => Cause::StillNames,
            Refusal::NoKey => Cause::NoSiteKey,
            // What is wrong with any route is answered as by any route.
            Refusal::Rewrite(RewriteError::Empty) => Cause::Missing,
            Refusal::Rewrite(
                RewriteError::Structure(TokenError::Truncated { .. })
                | RewriteError::Deflate(InflateError::Truncated { .. }),
            ) => Cause::Truncated,
            Refusal::Rewrite(RewriteError::Structure(_) | RewriteError::Deflate(_)) => Cause::Unreadable,
            Refusal::HeaderTooLong { .. }
            | Refusal::NoInstance
            | Refusal::NotEncrypted
            | Refusal::Rewrite(RewriteError::Edit(_)) => Cause::NotRewritable,
        },
    }
}
