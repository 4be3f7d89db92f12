use dataset::{RewriteError, Tag};
use thiserror::Error;

/// Why an instance is not let go. No message has patient data in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Its identifier is missing, or one that identifies nobody.
    #[error("no patient: Patient ID (0010,0020) is empty or one that stands for nobody")]
    NoPatient,
    /// A SOP class that is not covered.
    #[error("SOP class {0} is not one that can be pseudonymized without a rule for it")]
    SopClass(String),
    /// Nobody says that there is no text in its pixels.
    #[error("its pixels may show who the patient is: {0}")]
    Pixels(&'static str),
    /// Something of the patient is left.
    #[error("{tag} still has {what} of the patient in it")]
    Residual {
        /// Where.
        tag: Tag,
        /// What it is.
        what: &'static str,
    },
    /// The transfer syntax.
    #[error("its transfer syntax is not known, so that nothing in it can be found")]
    TransferSyntax,
    /// Before the pixels.
    #[error("more than {max} bytes stand before the pixel data; they have to be looked at as a whole")]
    HeaderTooLong {
        /// The limit.
        max: usize,
    },
    /// Which key it has to be under is not known, or that key is gone.
    #[error("its study was pseudonymized under a site key that is not there any more")]
    NoKey,
    /// What was taken away has to go with it, and cannot.
    #[error("its original attributes could not be encrypted")]
    NotEncrypted,
    /// It is not what the header of the message says.
    #[error("SOP Class UID (0008,0016) or SOP Instance UID (0008,0018) is missing or no UID")]
    NoInstance,
    /// The data set itself, or an element that cannot be rewritten.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
}
