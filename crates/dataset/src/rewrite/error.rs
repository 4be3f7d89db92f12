use thiserror::Error;

use crate::inflate::InflateError;
use crate::rewrite::edit::EditError;
use crate::token::TokenError;

/// Why a data set was not rewritten, and must not be passed on. No message has patient data in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RewriteError {
    /// No element at all. Whoever wrote it has to act.
    #[error("data set is missing: not one element came")]
    Empty,
    /// Its elements. Whoever wrote it has to act.
    #[error(transparent)]
    Structure(#[from] TokenError),
    /// Its compression. Whoever wrote it has to act.
    #[error(transparent)]
    Deflate(#[from] InflateError),
    /// The change that is configured does not fit it.
    #[error(transparent)]
    Edit(#[from] EditError),
}
