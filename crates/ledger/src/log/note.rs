//! Signed notes (C2SP signed-note v1.0.0): a text, an empty line, and a line for each signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::{NoteName, NoteSignature};
use thiserror::Error;

/// The longest note that is looked at: sixteen ML-DSA-44 signatures and as many of Ed25519, and room.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// The most signatures that are looked at (the standard wants 16 at least).
pub const NOTE_SIGNATURES_MAX: usize = 32;

/// A text with its signatures, none of them verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    lines: Vec<NoteLine>,
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteLine {
    /// The key's name.
    pub name: NoteName,
    /// The key's id: a hint, not an identity.
    pub key_id: [u8; 4],
    /// What follows it.
    pub signature: Vec<u8>,
}

/// Why a text is no signed note.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NoteError {
    /// More than any note has.
    #[error("a note has at most {NOTE_BYTES_MAX} bytes; this one has {0}")]
    TooLong(usize),
    /// A byte that no note has.
    #[error("a note has no control characters")]
    Control,
    /// No empty line before the signatures, or no line end behind the last.
    #[error("a note is a text, an empty line and signature lines, each with its line end")]
    Shape,
    /// A line that cannot be read as a signature, counted from 1.
    #[error("signature line {0} of the note is damaged")]
    Line(usize),
    /// More signatures than are looked at.
    #[error("a note has at most {NOTE_SIGNATURES_MAX} signatures")]
    TooMany,
}

impl SignedNote {
    /// Without a signature yet. The text ends with a line end and has no control characters.
    pub(crate) fn unsigned(text: String) -> Self {
        debug_assert!(text.ends_with('\n'));
        Self { text, lines: Vec::new() }
    }

    /// Reads a note in its one form; verifies nothing.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong(note.len()));
        }
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Control);
        }
        let at = note.rfind("\n\n").ok_or(NoteError::Shape)?;
        let (text, rest) = note.split_at_checked(at + 1).ok_or(NoteError::Shape)?;
        let lines =
            rest.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n')).ok_or(NoteError::Shape)?;
        let lines: Vec<_> = lines.split('\n').take(NOTE_SIGNATURES_MAX + 1).collect();
        if lines.len() > NOTE_SIGNATURES_MAX {
            return Err(NoteError::TooMany);
        }
        let lines =
            lines.iter().zip(1..).map(|(line, number)| parse_line(line).ok_or(NoteError::Line(number)));
        Ok(Self { text: text.to_owned(), lines: lines.collect::<Result<_, _>>()? })
    }

    /// What is signed, with its last line end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures.
    pub fn lines(&self) -> &[NoteLine] {
        &self.lines
    }

    /// Adds a signature, in place of one of the same name and key id.
    pub fn add(&mut self, name: &NoteName, signature: NoteSignature) {
        let NoteSignature { key_id, bytes, .. } = signature;
        self.lines.retain(|line| line.name != *name || line.key_id != key_id);
        self.lines.push(NoteLine { name: name.clone(), key_id, signature: bytes });
    }

    /// The one signature of a key. None if there is none, or more than one.
    pub fn signature(&self, name: &NoteName, key_id: [u8; 4]) -> Option<&[u8]> {
        let mut found = self.lines.iter().filter(|line| line.name == *name && line.key_id == key_id);
        let line = found.next()?;
        found.next().is_none().then_some(&line.signature)
    }

    /// The note as text.
    pub fn to_text(&self) -> String {
        let mut note = format!("{}\n", self.text);
        for NoteLine { name, key_id, signature } in &self.lines {
            let encoded = STANDARD.encode([&key_id[..], signature].concat());
            note.extend(["\u{2014} ", name.as_str(), " ", &encoded, "\n"]);
        }
        note
    }
}

fn parse_line(line: &str) -> Option<NoteLine> {
    let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (key_id, signature) = bytes.split_first_chunk()?;
    Some(NoteLine { name: NoteName::parse(name).ok()?, key_id: *key_id, signature: signature.to_vec() })
}
