use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::SEALED_CHUNK_BYTES;

/// To which lengths sealed bodies are filled up, so that their size tells less. Padding is part of the
/// sealed body and never forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Padding {
    /// Padmé (Nikitin et al., PETS 2019): at most 12 % more, 3 % for a CT slice, and of the length
    /// only O(log log) bits are left.
    #[default]
    Padme,
    /// As long as the content makes it.
    None,
    /// A multiple of a fixed length.
    Block(PaddingBlock),
}

/// A block length in bytes: a multiple of 1 KiB, up to 64 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaddingBlock(u64);

/// Why a text names no padding.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PaddingError {
    /// Neither of the three forms.
    #[error("unknown padding; use \"padme\", \"none\" or \"block:BYTES\"")]
    Unknown,
    /// A block length out of range.
    #[error(
        "padding block of {0} bytes; use a multiple of 1024 up to 67108864 that is not a multiple of 65552"
    )]
    Block(u64),
}

impl PaddingBlock {
    /// The longest block.
    pub const BYTES_MAX: u64 = 64 * 1024 * 1024;

    /// Checks the length.
    pub fn new(bytes: u64) -> Result<Self, PaddingError> {
        // A multiple of the sealed chunk would ask for a full last chunk, which the format does not have.
        let fits = bytes > 0
            && bytes <= Self::BYTES_MAX
            && bytes.is_multiple_of(1024)
            && !bytes.is_multiple_of(SEALED_CHUNK_BYTES as u64);
        if fits { Ok(Self(bytes)) } else { Err(PaddingError::Block(bytes)) }
    }

    /// The length.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl Padding {
    /// The shortest allowed length that is at least `bytes`.
    pub(crate) fn length(self, bytes: u64) -> u64 {
        match self {
            Self::Padme => padme(bytes),
            Self::None => bytes,
            Self::Block(PaddingBlock(block)) => bytes.next_multiple_of(block),
        }
    }
}

/// Rounds up so that, of a length of E + 1 bits, all but the first log2(E) + 1 are zero.
fn padme(bytes: u64) -> u64 {
    let Some(exponent) = bytes.checked_ilog2() else { return bytes };
    let kept = exponent.checked_ilog2().map_or(0, |bits| bits + 1);
    let step = 1u64 << (exponent - kept);
    bytes.next_multiple_of(step)
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Padme => f.write_str("padme"),
            Self::None => f.write_str("none"),
            Self::Block(block) => write!(f, "block:{}", block.0),
        }
    }
}

impl FromStr for Padding {
    type Err = PaddingError;
    fn from_str(text: &str) -> Result<Self, PaddingError> {
        match text {
            "padme" => Ok(Self::Padme),
            "none" => Ok(Self::None),
            _ => {
                let bytes = text.strip_prefix("block:").ok_or(PaddingError::Unknown)?;
                let bytes = bytes.parse().map_err(|_| PaddingError::Unknown)?;
                PaddingBlock::new(bytes).map(Self::Block)
            }
        }
    }
}

impl TryFrom<String> for Padding {
    type Error = PaddingError;
    fn try_from(text: String) -> Result<Self, PaddingError> {
        text.parse()
    }
}

impl From<Padding> for String {
    fn from(padding: Padding) -> Self {
        padding.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padme_matches_the_paper() {
        // PURBs paper, section 4: L = 9 becomes 10; and the bounds around it.
        let cases = [
            (0, 0),
            (1, 1),
            (2, 2),
            (8, 8),
            (9, 10),
            (10, 10),
            (100, 104),
            (1_000, 1_024),
            (526_000, 540_672),
            (1 << 32, 1 << 32),
            ((1 << 32) + 1, (1 << 32) + (1 << 26)),
        ];
        for (bytes, want) in cases {
            assert_eq!(padme(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn padme_is_monotonic_idempotent_and_costs_at_most_12_percent() {
        let check = |bytes: u64| {
            let padded = padme(bytes);
            assert_eq!(padme(padded), padded);
            assert!(padded >= bytes && (padded - bytes) * 100 <= bytes * 12, "{bytes} {padded}");
            padded
        };
        (1..200_000).fold(0, |before, bytes| {
            let padded = check(bytes);
            assert!(padded >= before, "{bytes}");
            padded
        });
        for exponent in 1..40 {
            check((1 << exponent) - 1);
            check(1 << exponent);
            check((1 << exponent) + 1);
        }
    }

    #[test]
    fn texts_name_paddings() {
        let cases = [
            ("padme", Ok(Padding::Padme)),
            ("none", Ok(Padding::None)),
            ("block:1048576", Ok(Padding::Block(PaddingBlock(1 << 20)))),
            ("block:", Err(PaddingError::Unknown)),
            ("Padme", Err(PaddingError::Unknown)),
            ("block:0", Err(PaddingError::Block(0))),
            ("block:1000", Err(PaddingError::Block(1000))),
            ("block:134217728", Err(PaddingError::Block(134_217_728))),
            ("block:4195328", Err(PaddingError::Block(4_195_328))),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Padding>(), want, "{text}");
            if let Ok(padding) = text.parse::<Padding>() {
                assert_eq!(padding.to_string(), text);
            }
        }
    }
}
