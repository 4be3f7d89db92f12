//! The opening of a session: what the sender signs once, and what both sides put into HPKE's `info`.

use base::{Digest, Fingerprint, PrekeyId, RouteId, SessionId, Timestamp};
use identity::{Context, IdentityKey, IdentityPublic};
use minicbor::{Decode, Encode};

use crate::cbor::{self, Signed};
use crate::{HeaderError, Suite, kem};

/// Everything that a session's keys depend on besides the encapsulation.
#[derive(Clone, Copy, Encode, Decode)]
pub(crate) struct Info {
    #[n(0)]
    pub(crate) version: u8,
    #[n(1)]
    pub(crate) suite: Suite,
    #[n(2)]
    pub(crate) route: RouteId,
    #[n(3)]
    pub(crate) sender: Fingerprint,
    #[n(4)]
    pub(crate) receiver: Fingerprint,
    #[n(5)]
    pub(crate) prekey: PrekeyId,
    #[n(6)]
    pub(crate) session: SessionId,
}

/// What is signed in an opening.
#[derive(Encode, Decode)]
struct Statement<'a> {
    #[cbor(b(0), with = "minicbor::bytes")]
    info: &'a [u8],
    #[cbor(b(1), with = "minicbor::bytes")]
    encapsulated: &'a [u8],
    #[n(2)]
    prekey_digest: Digest,
    #[n(3)]
    not_after: Timestamp,
}

impl Info {
    pub(crate) fn encode(&self) -> Vec<u8> {
        cbor::encode(self)
    }
}

/// Signs an opening. `not_after` is the prekey's, on the receiver's clock.
pub(crate) fn sign(
    sender: &IdentityKey,
    info: &[u8],
    encapsulated: &[u8],
    prekey_digest: Digest,
    not_after: Timestamp,
) -> Vec<u8> {
    let bytes = cbor::encode(&Statement { info, encapsulated, prekey_digest, not_after });
    let signature = sender.sign(Context::SESSION, &bytes);
    cbor::encode(&Signed { bytes, signature })
}

/// An opening as read; nothing in it is to be believed before [`Opening::verify`].
pub(crate) struct Opening {
    pub(crate) info: Info,
    pub(crate) info_bytes: Vec<u8>,
    pub(crate) encapsulated: Vec<u8>,
    pub(crate) prekey_digest: Digest,
    pub(crate) not_after: Timestamp,
    signed: Signed,
}

impl Opening {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let signed: Signed = cbor::decode_canonical(bytes).ok_or(HeaderError::Malformed)?;
        let statement: Statement<'_> = cbor::decode_canonical(&signed.bytes).ok_or(HeaderError::Malformed)?;
        let info: Info = cbor::decode_canonical(statement.info).ok_or(HeaderError::Malformed)?;
        if statement.encapsulated.len() != kem::encapsulated_bytes(info.suite) {
            return Err(HeaderError::Malformed);
        }
        Ok(Self {
            info,
            info_bytes: statement.info.to_vec(),
            encapsulated: statement.encapsulated.to_vec(),
            prekey_digest: statement.prekey_digest,
            not_after: statement.not_after,
            signed,
        })
    }

    pub(crate) fn verify(&self, sender: &IdentityPublic) -> Result<(), HeaderError> {
        sender
            .verify(Context::SESSION, &self.signed.bytes, &self.signed.signature)
            .map_err(|_| HeaderError::BadSignature)
    }
}
