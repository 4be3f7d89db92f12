use base::{Attempt, DeliveryId, Secret};
use thiserror::Error;

use crate::aead::{Cipher, ONE_MESSAGE};
use crate::{BodyContext, TAG_BYTES};

/// The longest plaintext of a record.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;

const SALT_BYTES: usize = 32;

/// Why a sealed record does not open: whoever sealed it did not have this body's content key, or it
/// belongs to another delivery or attempt.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// Shorter or longer than any record.
    #[error("sealed record of {0} bytes; between 48 and {max} are possible", max = RECORD_BYTES_MAX + 48)]
    Length(usize),
    /// Altered, or sealed for something else.
    #[error("sealed record does not verify: altered, or of another delivery or attempt")]
    Tag,
}

/// Seals what the receiver answers (a receipt, a deferral) so that the relay does not see it: under a key
/// derived from the body's content key, the delivery and the attempt. Every call needs fresh random bytes.
pub fn seal_record(
    context: &BodyContext,
    content_key: &Secret<[u8; 32]>,
    delivery: DeliveryId,
    attempt: Attempt,
    random: &[u8; 32],
    plaintext: &[u8],
) -> Vec<u8> {
    let key = context.record_key(content_key, delivery, attempt, random);
    let mut message = Vec::with_capacity(plaintext.len() + TAG_BYTES);
    message.extend_from_slice(plaintext);
    Cipher::new(context.suite, &key).seal(&ONE_MESSAGE, &[], &mut message);
    let mut sealed = Vec::with_capacity(SALT_BYTES + message.len());
    sealed.extend_from_slice(random);
    sealed.extend_from_slice(&message);
    sealed
}

/// Opens a record that [`seal_record`] sealed for the same body, delivery and attempt.
pub fn open_record(
    context: &BodyContext,
    content_key: &Secret<[u8; 32]>,
    delivery: DeliveryId,
    attempt: Attempt,
    sealed: &[u8],
) -> Result<Vec<u8>, RecordError> {
    let Some((salt, message)) = sealed.split_first_chunk::<SALT_BYTES>() else {
        return Err(RecordError::Length(sealed.len()));
    };
    if message.len() < TAG_BYTES || message.len() > RECORD_BYTES_MAX + TAG_BYTES {
        return Err(RecordError::Length(sealed.len()));
    }
    let key = context.record_key(content_key, delivery, attempt, salt);
    let mut message = message.to_vec();
    let plaintext = Cipher::new(context.suite, &key).open(&ONE_MESSAGE, &[], &mut message);
    let length = plaintext.ok_or(RecordError::Tag)?.len();
    message.truncate(length);
    Ok(message)
}
