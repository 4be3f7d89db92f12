use std::fmt;

use minicbor::{Decode, Encode};
use sha2::Digest as _;
use thiserror::Error;

use crate::Name;

/// Why a text is not the hexadecimal form of an id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("expected {characters} hexadecimal characters")]
pub struct HexError {
    characters: usize,
}

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Reads lower or upper case hexadecimal text of exactly this length.
            pub fn from_hex(text: &str) -> Result<Self, HexError> {
                let mut bytes = [0u8; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| HexError { characters: 2 * $len })?;
                Ok(Self(bytes))
            }

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The bytes of a slice of exactly this length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                Self::from_hex(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::from_hex(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

fixed_bytes!(
    /// One received instance, sealed once.
    ObjectId, 16
);
fixed_bytes!(
    /// One sender's way to one destination behind one receiver: a random id, so that the relay learns no name.
    RouteId, 16
);
fixed_bytes!(
    /// One HPKE encapsulation of a sender to a route.
    SessionId, 16
);
fixed_bytes!(
    /// One HPKE key pair that a receiver has published.
    PrekeyId, 16
);
fixed_bytes!(
    /// One run of a relay process: another boot id means that everything it held is gone.
    BootId, 16
);
fixed_bytes!(
    /// One log of a relay, from its first entry to its last.
    EpochId, 16
);
fixed_bytes!(
    /// One request for storage commitment, from the N-ACTION to the answered N-EVENT-REPORT.
    CommitmentId, 16
);
fixed_bytes!(
    /// SHA-256.
    Digest, 32
);
fixed_bytes!(
    /// SHA-256 over a peer's identity keys.
    Fingerprint, 32
);
fixed_bytes!(
    /// (sender peer, object, route, destination): what queue, relay, ledger, receipt and `why` speak of.
    DeliveryId, 32
);

impl CommitmentId {
    /// The first eight hexadecimal digits, for a log line or a screen.
    pub fn short(&self) -> String {
        hex::encode(self.0.first_chunk::<4>().unwrap_or(&[0; 4]))
    }
}

impl ObjectId {
    /// The first eight hexadecimal digits, for a log line or a screen.
    pub fn short(&self) -> String {
        hex::encode(self.0.first_chunk::<4>().unwrap_or(&[0; 4]))
    }
}

impl DeliveryId {
    /// Derives the id. Both gateways compute it, each from its own pinned entries, so that a rotated
    /// key changes no delivery and a re-addressed one is another delivery.
    pub fn derive(sender: &Name, object: ObjectId, route: RouteId, destination: &Name) -> Self {
        let mut hasher = Hasher::new(b"sluis/1 delivery");
        hasher.field(sender.as_str().as_bytes());
        hasher.field(&object.0);
        hasher.field(&route.0);
        hasher.field(destination.as_str().as_bytes());
        Self(hasher.finish().0)
    }

    /// The first eight hexadecimal digits, for a log line or a screen.
    pub fn short(&self) -> String {
        hex::encode(self.0.first_chunk::<4>().unwrap_or(&[0; 4]))
    }
}

impl Digest {
    /// SHA-256 of one piece.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// SHA-256 over a stream ([`Hasher::update`]) or over unambiguous fields ([`Hasher::field`]).
#[derive(Clone)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Starts with a domain; the empty one gives plain SHA-256 of what follows.
    pub fn new(domain: &[u8]) -> Self {
        let mut hasher = Self(sha2::Sha256::new());
        if !domain.is_empty() {
            hasher.field(domain);
        }
        hasher
    }

    /// Adds bytes as they are.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds a length (eight bytes, big endian) and the bytes, so that no two field lists collide.
    pub fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

/// Counts the deposits of one delivery, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Attempt(#[n(0)] pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Bytes from the operating system's random source. The pure crates take such bytes as arguments;
/// this is where the shells get them.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    #[expect(
        clippy::expect_used,
        reason = "without a random source no key can be made and nothing may go on"
    )]
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_text_round_trips_and_refuses_other_lengths() {
        let id = ObjectId(random_bytes());
        assert_eq!(ObjectId::from_hex(&id.to_string()), Ok(id));
        assert_eq!(ObjectId::from_hex("00"), Err(HexError { characters: 32 }));
    }

    #[test]
    fn a_delivery_changes_with_each_of_its_parts() {
        let (a, b) = (Name::parse("a").unwrap(), Name::parse("b").unwrap());
        let (object, route) = (ObjectId([1; 16]), RouteId([2; 16]));
        let base = DeliveryId::derive(&a, object, route, &b);
        assert_ne!(base, DeliveryId::derive(&b, object, route, &b));
        assert_ne!(base, DeliveryId::derive(&a, ObjectId([3; 16]), route, &b));
        assert_ne!(base, DeliveryId::derive(&a, object, RouteId([3; 16]), &b));
        assert_ne!(base, DeliveryId::derive(&a, object, route, &a));
    }
}
