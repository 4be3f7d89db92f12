use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An application entity title (PS3.5 §6.2, VR AE; PS3.8 §9.3.2): 1 to 16 characters of the default
/// repertoire without backslash and control characters. Leading and trailing spaces are not
/// significant and are removed; case is significant.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AeTitle(String);

/// Why a text is not an AE title.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AeTitleError {
    /// Nothing but spaces.
    #[error("AE title is empty; give 1 to 16 characters")]
    Empty,
    /// More than 16 significant characters.
    #[error("AE title has {0} characters; at most 16 are allowed")]
    TooLong(usize),
    /// A backslash, a control character or something outside ASCII.
    #[error("AE title has a character that is not allowed; use printable ASCII without backslash")]
    Character,
}

impl AeTitle {
    /// The most significant characters a title can have.
    pub const CHARACTERS_MAX: usize = 16;

    /// Trims spaces and checks length and repertoire.
    pub fn parse(text: &str) -> Result<Self, AeTitleError> {
        let text = text.trim_matches(' ');
        if text.is_empty() {
            return Err(AeTitleError::Empty);
        }
        if text.chars().any(|c| !(' '..='~').contains(&c) || c == '\\') {
            return Err(AeTitleError::Character);
        }
        if text.len() > Self::CHARACTERS_MAX {
            return Err(AeTitleError::TooLong(text.len()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The significant characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AeTitle {
    type Error = AeTitleError;
    fn try_from(text: String) -> Result<Self, AeTitleError> {
        Self::parse(&text)
    }
}

impl From<AeTitle> for String {
    fn from(title: AeTitle) -> Self {
        title.0
    }
}

impl std::str::FromStr for AeTitle {
    type Err = AeTitleError;
    fn from_str(text: &str) -> Result<Self, AeTitleError> {
        Self::parse(text)
    }
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_trimmed_and_bounded() {
        let cases = [
            ("STORESCP", Ok("STORESCP")),
            ("  STORESCP    ", Ok("STORESCP")),
            ("A B", Ok("A B")),
            ("", Err(AeTitleError::Empty)),
            ("                ", Err(AeTitleError::Empty)),
            ("ABCDEFGHIJKLMNOPQ", Err(AeTitleError::TooLong(17))),
            ("A\\B", Err(AeTitleError::Character)),
            ("A\nB", Err(AeTitleError::Character)),
            ("MÜNCHEN", Err(AeTitleError::Character)),
        ];
        for (text, want) in cases {
            assert_eq!(AeTitle::parse(text), want.map(|t| AeTitle(t.to_owned())), "{text:?}");
        }
    }
}
