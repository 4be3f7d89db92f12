use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A unique identifier (PS3.5 §9.1): 1 to 64 characters of `0-9.`. The padding NUL (and the space that
/// some systems write instead) is removed. Component rules (no leading zero) are not enforced:
/// archives are full of UIDs that break them, and a router that refused these would lose images.
///
/// A SOP class or transfer syntax UID may be printed; a study, series or instance UID belongs in
/// [`Phi`](crate::Phi).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid(String);

/// Why a text is not a UID.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UidError {
    /// Nothing but padding.
    #[error("UID is empty")]
    Empty,
    /// More than 64 characters.
    #[error("UID has {0} characters; at most 64 are allowed")]
    TooLong(usize),
    /// Something else than digits and dots.
    #[error("UID has a character other than 0-9 and dot")]
    Character,
}

impl Uid {
    /// The most characters a UID can have.
    pub const CHARACTERS_MAX: usize = 64;

    /// Removes trailing padding, then checks length and repertoire.
    pub fn parse(text: &str) -> Result<Self, UidError> {
        let text = text.trim_end_matches(['\0', ' ']).trim_start_matches(' ');
        if text.is_empty() {
            return Err(UidError::Empty);
        }
        if text.len() > Self::CHARACTERS_MAX {
            return Err(UidError::TooLong(text.len()));
        }
        if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(UidError::Character);
        }
        Ok(Self(text.to_owned()))
    }

    /// As [`Uid::parse`], from the bytes of an element's value.
    pub fn from_value(value: &[u8]) -> Result<Self, UidError> {
        std::str::from_utf8(value).map_err(|_| UidError::Character).and_then(Self::parse)
    }

    /// The characters, without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Uid {
    type Error = UidError;
    fn try_from(text: String) -> Result<Self, UidError> {
        Self::parse(&text)
    }
}

impl From<Uid> for String {
    fn from(uid: Uid) -> Self {
        uid.0
    }
}

impl std::str::FromStr for Uid {
    type Err = UidError;
    fn from_str(text: &str) -> Result<Self, UidError> {
        Self::parse(text)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_lose_their_padding_and_nothing_else() {
        let long = "1".repeat(64);
        let cases = [
            ("1.2.840.10008.1.1", Ok("1.2.840.10008.1.1")),
            ("1.2.840.10008.1.1\0", Ok("1.2.840.10008.1.1")),
            ("1.2.3 ", Ok("1.2.3")),
            ("1.02.3", Ok("1.02.3")),
            (long.as_str(), Ok(long.as_str())),
            ("", Err(UidError::Empty)),
            ("\0", Err(UidError::Empty)),
            ("1.2.a", Err(UidError::Character)),
            ("../../etc/passwd", Err(UidError::Character)),
        ];
        for (text, want) in cases {
            assert_eq!(Uid::parse(text), want.map(|t| Uid(t.to_owned())), "{text:?}");
        }
        assert_eq!(Uid::parse(&"1".repeat(65)), Err(UidError::TooLong(65)));
    }
}
