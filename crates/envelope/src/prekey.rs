use base::limits::CLOCK_SKEW_MAX;
use base::{Digest, PrekeyId, RouteId, Secret, Timestamp};
use identity::{Context, IdentityKey, IdentityPublic};
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::cbor::{self, Signed};
use crate::{BUNDLE_BYTES_MAX, FORMAT_VERSION, Suite, kem};

/// How many sessions a prekey takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum PrekeyKind {
    /// One. Each goes to one relay only, which hands it out once.
    #[n(1)]
    OneTime,
    /// Several until it expires: for when the one-time ones are used up.
    #[n(2)]
    LastResort,
}

/// The secret half of a prekey. It lives in memory only: whoever steals the receiver's disk and identity
/// later opens nothing with them.
pub struct PrekeySecret {
    pub(crate) suite: Suite,
    pub(crate) route: RouteId,
    pub(crate) kind: PrekeyKind,
    pub(crate) not_after: Timestamp,
    pub(crate) id: PrekeyId,
    pub(crate) seed: Secret<[u8; 32]>,
    public_key: Vec<u8>,
}

/// Why a sender does not use a bundle.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BundleError {
    /// Not a bundle, or not in its one form.
    #[error("prekey bundle is malformed")]
    Malformed,
    /// Of a format that this version does not know.
    #[error("prekey bundle has format version {0}; this version reads {FORMAT_VERSION}")]
    Version(u8),
    /// Not signed by the recipient: a relay that hands out keys of its own, or another pin is needed.
    #[error("prekey bundle is not signed by the pinned recipient")]
    Signature,
    /// Made for another route.
    #[error("prekey bundle is for route {given}, not {wanted}")]
    Route {
        /// Route in the bundle.
        given: RouteId,
        /// Route asked for.
        wanted: RouteId,
    },
    /// Made for another suite than the route's.
    #[error(
        "prekey bundle is for suite {given}, the route has suite {wanted}; configure the same at both ends"
    )]
    Suite {
        /// Suite in the bundle.
        given: Suite,
        /// The route's suite.
        wanted: Suite,
    },
    /// Older than any clock error explains.
    #[error("prekey bundle expired at {not_after:?}, more than 24 h ago; check both clocks")]
    Expired {
        /// End of its life on the receiver's clock.
        not_after: Timestamp,
    },
    /// Signed, but holds no usable public key.
    #[error("prekey bundle holds no public key of its suite")]
    Key,
}

/// What is signed in a bundle.
#[derive(Encode, Decode)]
struct Body<'a> {
    #[n(0)]
    version: u8,
    #[n(1)]
    route: RouteId,
    #[n(2)]
    id: PrekeyId,
    #[n(3)]
    suite: Suite,
    #[n(4)]
    kind: PrekeyKind,
    #[cbor(b(5), with = "minicbor::bytes")]
    public_key: &'a [u8],
    #[n(6)]
    not_after: Timestamp,
}

impl PrekeySecret {
    /// Makes a prekey for one route from random bytes.
    pub fn generate(
        suite: Suite,
        route: RouteId,
        kind: PrekeyKind,
        not_after: Timestamp,
        random: Secret<[u8; 32]>,
    ) -> Self {
        let public_key = kem::public_key(suite, &random);
        let id = id_of(&public_key);
        Self { suite, route, kind, not_after, id, seed: random, public_key }
    }

    /// What a sender names it by: follows from the public key.
    pub fn id(&self) -> PrekeyId {
        self.id
    }

    /// The route it is for.
    pub fn route(&self) -> RouteId {
        self.route
    }

    /// How many sessions it takes.
    pub fn kind(&self) -> PrekeyKind {
        self.kind
    }

    /// When it stops taking sessions.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The public half, signed by the receiver: what is published through a relay.
    pub fn bundle(&self, receiver: &IdentityKey) -> Vec<u8> {
        let bytes = cbor::encode(&Body {
            version: FORMAT_VERSION,
            route: self.route,
            id: self.id,
            suite: self.suite,
            kind: self.kind,
            public_key: &self.public_key,
            not_after: self.not_after,
        });
        let signature = receiver.sign(Context::PREKEY, &bytes);
        cbor::encode(&Signed { bytes, signature })
    }

    pub(crate) fn public_digest(&self) -> Digest {
        Digest::of(&self.public_key)
    }
}

impl std::fmt::Debug for PrekeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrekeySecret({}, {:?}, suite {})", self.id, self.kind, self.suite)
    }
}

fn id_of(public_key: &[u8]) -> PrekeyId {
    let mut hasher = base::Hasher::new(b"sluis/1 prekey id");
    hasher.field(public_key);
    let Digest(digest) = hasher.finish();
    PrekeyId(*digest.first_chunk().unwrap_or(&[0; PrekeyId::LEN]))
}

/// A bundle that the sender may encapsulate to.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) id: PrekeyId,
    pub(crate) public_key: Vec<u8>,
    pub(crate) not_after: Timestamp,
}

impl Bundle {
    /// Checks everything but the public key itself.
    pub(crate) fn verify(
        bytes: &[u8],
        recipient: &IdentityPublic,
        route: RouteId,
        suite: Suite,
        now: Timestamp,
    ) -> Result<Self, BundleError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::Malformed);
        }
        let signed: Signed = cbor::decode_canonical(bytes).ok_or(BundleError::Malformed)?;
        let body: Body<'_> = cbor::decode_canonical(&signed.bytes).ok_or(BundleError::Malformed)?;
        if body.version != FORMAT_VERSION {
            return Err(BundleError::Version(body.version));
        }
        recipient
            .verify(Context::PREKEY, &signed.bytes, &signed.signature)
            .map_err(|_| BundleError::Signature)?;
        if body.route != route {
            return Err(BundleError::Route { given: body.route, wanted: route });
        }
        if body.suite != suite {
            return Err(BundleError::Suite { given: body.suite, wanted: suite });
        }
        if now > body.not_after.after(CLOCK_SKEW_MAX) {
            return Err(BundleError::Expired { not_after: body.not_after });
        }
        if body.public_key.len() != kem::public_key_bytes(suite) || id_of(body.public_key) != body.id {
            return Err(BundleError::Key);
        }
        Ok(Self { id: body.id, public_key: body.public_key.to_vec(), not_after: body.not_after })
    }
}
