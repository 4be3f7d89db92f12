use base::{Attempt, DeliveryId, Digest, Secret, SessionId};
use minicbor::bytes::{ByteArray, ByteSlice};
use minicbor::{Decode, Encode};

use crate::aead::{Cipher, ONE_MESSAGE};
use crate::kem::Exporter;
use crate::{BodyContext, Commitment, FORMAT_VERSION, HEADER_BYTES_MAX, HeaderError, Suite, TAG_BYTES, cbor};

/// What a header says about one attempt to deliver one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFields {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The attempt.
    pub attempt: Attempt,
    /// What the body was sealed for.
    pub body: BodyContext,
    /// The body's key commitment.
    pub commitment: Commitment,
}

/// A header ready to be sent, and what the sender remembers of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedHeader {
    /// The header.
    pub bytes: Vec<u8>,
    /// Its session.
    pub session: SessionId,
    /// Its sequence number in that session.
    pub sequence: u32,
}

/// The session's opening, or its digest once the receiver has it.
#[derive(Encode, Decode)]
pub(crate) enum OpeningPart<'a> {
    #[n(0)]
    Known(#[n(0)] Digest),
    #[n(1)]
    Full(#[b(0)] &'a ByteSlice),
}

/// The canonical header without the wrapped key: the AAD of the wrapped key.
#[derive(Encode, Decode)]
pub(crate) struct Core<'a> {
    #[n(0)]
    pub(crate) version: u8,
    #[n(1)]
    pub(crate) session: SessionId,
    #[b(2)]
    pub(crate) opening: OpeningPart<'a>,
    #[n(3)]
    pub(crate) sequence: u32,
    #[n(4)]
    pub(crate) delivery: DeliveryId,
    #[n(5)]
    pub(crate) attempt: Attempt,
    #[n(6)]
    pub(crate) body: BodyContext,
    #[n(7)]
    pub(crate) commitment: Commitment,
}

const WRAPPED_BYTES: usize = 32 + TAG_BYTES;

#[derive(Encode, Decode)]
struct Outer<'a> {
    #[b(0)]
    core: &'a ByteSlice,
    #[n(1)]
    wrapped: ByteArray<WRAPPED_BYTES>,
}

/// A header as read; nothing in it is to be believed before [`Header::unwrap`].
pub(crate) struct Header<'a> {
    pub(crate) core: Core<'a>,
    aad: &'a [u8],
    wrapped: [u8; WRAPPED_BYTES],
}

impl<'a> Header<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        if bytes.len() > HEADER_BYTES_MAX {
            return Err(HeaderError::Malformed);
        }
        let outer: Outer<'a> = cbor::decode_canonical(bytes).ok_or(HeaderError::Malformed)?;
        let core: Core<'a> = cbor::decode_canonical(outer.core).ok_or(HeaderError::Malformed)?;
        if core.version != FORMAT_VERSION {
            return Err(HeaderError::Version);
        }
        Ok(Self { core, aad: outer.core, wrapped: *outer.wrapped })
    }

    pub(crate) fn unwrap(
        &self,
        suite: Suite,
        exporter: &dyn Exporter,
    ) -> Result<Secret<[u8; 32]>, HeaderError> {
        let mut wrapped = self.wrapped;
        let cipher = wrap_cipher(suite, exporter, self.core.sequence);
        let key = cipher.open(&ONE_MESSAGE, self.aad, &mut wrapped).ok_or(HeaderError::BadTag)?;
        let key = <[u8; 32]>::try_from(&*key).map_err(|_| HeaderError::Malformed)?;
        zeroize::Zeroize::zeroize(&mut wrapped);
        Ok(Secret::new(key))
    }
}

/// The whole header: the core, and the content key wrapped with the core as AAD.
pub(crate) fn seal(
    core: &Core<'_>,
    suite: Suite,
    exporter: &dyn Exporter,
    content_key: &Secret<[u8; 32]>,
) -> Vec<u8> {
    let aad = cbor::encode(core);
    let mut wrapped = Vec::with_capacity(WRAPPED_BYTES);
    wrapped.extend_from_slice(content_key.expose());
    wrap_cipher(suite, exporter, core.sequence).seal(&ONE_MESSAGE, &aad, &mut wrapped);
    let mut fixed = ByteArray::from([0; WRAPPED_BYTES]);
    fixed.copy_from_slice(&wrapped);
    cbor::encode(&Outer { core: aad.as_slice().into(), wrapped: fixed })
}

/// A key for exactly one header: a sender never uses a sequence number twice.
fn wrap_cipher(suite: Suite, exporter: &dyn Exporter, sequence: u32) -> Cipher {
    let context = [&b"sluis/1 wrap"[..], &sequence.to_be_bytes()].concat();
    Cipher::new(suite, &exporter.export(&context))
}

/// Authenticates "this session ends after `count` headers": only its two ends can compute it.
pub(crate) fn close_tag(exporter: &dyn Exporter, count: u32) -> Secret<[u8; 32]> {
    exporter.export(&[&b"sluis/1 close"[..], &count.to_be_bytes()].concat())
}

/// The sender's word that a session ends.
#[derive(Encode, Decode)]
pub(crate) struct Close {
    #[n(0)]
    pub(crate) version: u8,
    #[n(1)]
    pub(crate) session: SessionId,
    #[n(2)]
    pub(crate) count: u32,
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(crate) tag: [u8; 32],
}
