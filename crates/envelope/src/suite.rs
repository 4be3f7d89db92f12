use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The algorithms of one route. Fixed by configuration at both ends and bound into every key; there is
/// no negotiation and no fallback.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
pub enum Suite {
    /// HPKE with KEM 0x647a MLKEM768-X25519 (X-Wing), HKDF-SHA256 and ChaCha20-Poly1305; bodies with
    /// ChaCha20-Poly1305.
    #[n(1)]
    A,
    /// HPKE with KEM 0x0050 MLKEM768-P256, HKDF-SHA256 and AES-256-GCM; bodies with AES-256-GCM. The
    /// default.
    #[default]
    #[n(2)]
    B,
}

/// Not the name of a suite.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("unknown suite; use \"A\" (X25519, ChaCha20-Poly1305) or \"B\" (P-256, AES-256-GCM)")]
pub struct UnknownSuite;

impl Suite {
    /// All suites.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The code in peer cards and formats.
    pub const fn code(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    /// The suite of a code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.code() == code)
    }
}

impl FromStr for Suite {
    type Err = UnknownSuite;
    fn from_str(text: &str) -> Result<Self, UnknownSuite> {
        match text {
            "A" => Ok(Self::A),
            "B" => Ok(Self::B),
            _ => Err(UnknownSuite),
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}
