//! What a sending gateway asks the receiving one beside deliveries, and what that answers: whether the destination
//! answers now ([`Question::Echo`]), and what it accepts ([`Question::Table`], a signed [`NegotiationTable`]).
//!
//! What it does not do: it seals nothing (`envelope` does, so that a relay sees opaque bytes of a filled-up length),
//! asks no destination and decides nothing about presentation contexts. No socket, no clock.
//!
//! Read first: [`Question`], [`Answer`], [`NegotiationTable`].

mod answer;
mod findings;
mod table;

pub use answer::{Answer, EchoAnswer, EchoOutcome, NoTable, Question, TableAnswer};
pub use findings::{CLASSES_MAX, Finding, Findings, SYNTAXES_MAX, TooMany};
pub use table::{NegotiationTable, SignedTable, TableError};

use minicbor::{Decode, Encode};
use thiserror::Error;

/// Bytes that are not what they should be, or not in their one form.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a question, answer or table of this version")]
pub struct Malformed;

/// The version that everything of this crate begins with.
const VERSION: u8 = 1;

/// Encodes `[version, value]`.
fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "a Vec takes all bytes and no encoder of this crate fails by itself"
    )]
    minicbor::to_vec((VERSION, value)).expect("encoding into memory")
}

/// Decodes `[version, value]` and refuses every encoding but the one that [`encode`] makes.
fn decode<T: Encode<()> + for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, Malformed> {
    let (version, value): (u8, T) = minicbor::decode(bytes).map_err(|_| Malformed)?;
    if version == VERSION && encode(&value) == bytes { Ok(value) } else { Err(Malformed) }
}
