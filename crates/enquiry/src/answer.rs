use std::fmt;

use base::{AeTitle, Status};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::{Malformed, decode, encode};

/// What a sender asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Does the destination of this route answer a C-ECHO now?
    Echo {
        /// The AE title of whoever asks, for a destination to which the original one is presented.
        calling: Option<AeTitle>,
    },
    /// What does the destination of this route accept?
    Table {
        /// The serial number of the table that the sender has.
        known: Option<u64>,
    },
}

/// What the receiver answers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To [`Question::Echo`].
    #[n(0)]
    Echo(#[n(0)] EchoAnswer),
    /// To [`Question::Table`].
    #[n(1)]
    Table(#[n(0)] TableAnswer),
    /// The receiver does not know such a question: it runs an older version.
    #[n(2)]
    NotUnderstood,
}

/// How the last leg answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EchoAnswer {
    /// What came of it.
    #[n(0)]
    pub outcome: EchoOutcome,
    /// From the connection to the answer.
    #[n(1)]
    pub took_ms: u32,
}

/// What came of a C-ECHO to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EchoOutcome {
    /// It answered with success; a folder can be written.
    #[n(0)]
    Answered,
    /// It answered with another status.
    #[n(1)]
    Status(#[n(0)] u16),
    /// It rejected the association: result, source, reason (PS3.8 Table 9-21).
    #[n(2)]
    Rejected(#[n(0)] u8, #[n(1)] u8, #[n(2)] u8),
    /// It accepted the association, but not Verification.
    #[n(3)]
    NotAccepted,
    /// No connection.
    #[n(4)]
    Unreachable,
    /// No answer in time.
    #[n(5)]
    TimedOut,
    /// The association ended before the answer.
    #[n(6)]
    Ended,
    /// The receiving gateway has no such destination any more.
    #[n(7)]
    Gone,
    /// The folder cannot be written.
    #[n(8)]
    Folder,
    /// The web service refused, or could not serve, what it was asked: HTTP status.
    #[n(9)]
    Http(#[n(0)] u16),
}

impl EchoOutcome {
    /// The destination is there.
    pub fn is_answered(self) -> bool {
        self == Self::Answered
    }
}

impl fmt::Display for EchoOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("answered"),
            Self::Status(status) => write!(f, "answered with status {}", Status(*status)),
            Self::Rejected(result, source, reason) => {
                write!(f, "rejected the association (result {result}, source {source}, reason {reason})")
            }
            Self::NotAccepted => f.write_str("does not accept Verification"),
            Self::Unreachable => f.write_str("cannot be reached"),
            Self::TimedOut => f.write_str("did not answer in time"),
            Self::Ended => f.write_str("ended the association before it answered"),
            Self::Gone => f.write_str("is not configured any more"),
            Self::Folder => f.write_str("cannot be written"),
            Self::Http(status) => write!(f, "answered with HTTP status {status}"),
        }
    }
}

/// What is known of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TableAnswer {
    /// The table that the sender has.
    #[n(0)]
    Unchanged,
    /// A [`SignedTable`](crate::SignedTable).
    #[n(1)]
    Table(#[n(0)] ByteVec),
    /// There is none.
    #[n(2)]
    None(#[n(0)] NoTable),
}

/// Why there is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum NoTable {
    /// The destination is being asked, or could not be asked yet.
    #[n(0)]
    NotYet,
    /// The receiver is configured not to ask.
    #[n(1)]
    Off,
    /// A folder takes everything.
    #[n(2)]
    TakesAll,
}

impl fmt::Display for NoTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotYet => "the receiver has not been able to ask the destination yet",
            Self::Off => {
                "the receiver does not ask the destination (probe = \"off\", or no AE title to ask with)"
            }
            Self::TakesAll => "the destination negotiates nothing and is sent everything",
        })
    }
}

#[derive(Encode, Decode)]
enum Form {
    #[n(0)]
    Echo(#[n(0)] Option<String>),
    #[n(1)]
    Table(#[n(0)] Option<u64>),
}

impl Question {
    /// What is sealed.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&match self {
            Self::Echo { calling } => Form::Echo(calling.as_ref().map(|title| title.as_str().to_owned())),
            Self::Table { known } => Form::Table(*known),
        })
    }

    /// What was opened.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        Ok(match decode(bytes)? {
            Form::Echo(None) => Self::Echo { calling: None },
            Form::Echo(Some(title)) => {
                let calling = AeTitle::parse(&title).map_err(|_| Malformed)?;
                // One form only: what is trimmed by reading was not written by us.
                if calling.as_str() != title {
                    return Err(Malformed);
                }
                Self::Echo { calling: Some(calling) }
            }
            Form::Table(known) => Self::Table { known },
        })
    }
}

impl Answer {
    /// What is sealed.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// What was opened.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn questions_and_answers_come_back_as_they_were() {
        let title = |text: &str| Some(AeTitle::parse(text).unwrap());
        for question in [
            Question::Echo { calling: None },
            Question::Echo { calling: title("CT 1") },
            Question::Table { known: None },
            Question::Table { known: Some(u64::MAX) },
        ] {
            assert_eq!(Question::from_bytes(&question.to_bytes()), Ok(question));
        }
        let echo = |outcome| Answer::Echo(EchoAnswer { outcome, took_ms: 12 });
        for answer in [
            echo(EchoOutcome::Answered),
            echo(EchoOutcome::Rejected(1, 1, 3)),
            echo(EchoOutcome::Status(0x0122)),
            echo(EchoOutcome::Http(401)),
            Answer::Table(TableAnswer::Unchanged),
            Answer::Table(TableAnswer::Table(vec![1, 2].into())),
            Answer::Table(TableAnswer::None(NoTable::Off)),
            Answer::NotUnderstood,
        ] {
            assert_eq!(Answer::from_bytes(&answer.to_bytes()), Ok(answer));
        }
    }

    #[test]
    fn a_title_that_is_written_in_another_form_is_refused() {
        let bytes = encode(&Form::Echo(Some(" CT1".to_owned())));
        assert_eq!(Question::from_bytes(&bytes), Err(Malformed));
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(question) = Question::from_bytes(&bytes) {
                prop_assert_eq!(question.to_bytes(), bytes.clone());
            }
            if let Ok(answer) = Answer::from_bytes(&bytes) {
                prop_assert_eq!(answer.to_bytes(), bytes);
            }
        }
    }
}
