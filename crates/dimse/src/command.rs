//! Command sets (PS3.7 §6.3, Annex E): group 0000 in Implicit VR Little Endian, read and written here.

use std::fmt;

use base::{Phi, Status, Uid};
use bytes::{Buf, Bytes};
use thiserror::Error;

use crate::limits::COMMENT_CHARACTERS_MAX;

/// Elements of group 0000 (PS3.7 Table E.1-1).
pub mod element {
    /// Command Group Length, UL.
    pub const GROUP_LENGTH: u16 = 0x0000;
    /// Affected SOP Class UID, UI.
    pub const AFFECTED_SOP_CLASS: u16 = 0x0002;
    /// Requested SOP Class UID, UI.
    pub const REQUESTED_SOP_CLASS: u16 = 0x0003;
    /// Command Field, US.
    pub const COMMAND_FIELD: u16 = 0x0100;
    /// Message ID, US.
    pub const MESSAGE_ID: u16 = 0x0110;
    /// Message ID Being Responded To, US.
    pub const MESSAGE_ID_RESPONDED_TO: u16 = 0x0120;
    /// Priority, US.
    pub const PRIORITY: u16 = 0x0700;
    /// Command Data Set Type, US.
    pub const DATA_SET_TYPE: u16 = 0x0800;
    /// Status, US.
    pub const STATUS: u16 = 0x0900;
    /// Error Comment, LO.
    pub const ERROR_COMMENT: u16 = 0x0902;
    /// Affected SOP Instance UID, UI.
    pub const AFFECTED_SOP_INSTANCE: u16 = 0x1000;
    /// Requested SOP Instance UID, UI.
    pub const REQUESTED_SOP_INSTANCE: u16 = 0x1001;
    /// Event Type ID, US.
    pub const EVENT_TYPE_ID: u16 = 0x1002;
    /// Action Type ID, US.
    pub const ACTION_TYPE_ID: u16 = 0x1008;
    /// Move Originator Application Entity Title, AE.
    pub const MOVE_ORIGINATOR_AE: u16 = 0x1030;
    /// Move Originator Message ID, US.
    pub const MOVE_ORIGINATOR_MESSAGE_ID: u16 = 0x1031;
}

/// Values of Command Field (0000,0100) (PS3.7 Table E.1-1).
pub mod field {
    /// C-STORE-RQ.
    pub const C_STORE_RQ: u16 = 0x0001;
    /// C-ECHO-RQ.
    pub const C_ECHO_RQ: u16 = 0x0030;
    /// N-EVENT-REPORT-RQ.
    pub const N_EVENT_REPORT_RQ: u16 = 0x0100;
    /// N-ACTION-RQ.
    pub const N_ACTION_RQ: u16 = 0x0130;
    /// C-CANCEL-RQ, which has no response.
    pub const C_CANCEL_RQ: u16 = 0x0FFF;
    /// Set in every response.
    pub const RESPONSE: u16 = 0x8000;
}

/// Command Data Set Type (0000,0800) when no data set follows; any other value announces one.
const NO_DATA_SET: u16 = 0x0101;
/// What we write when one follows.
const DATA_SET: u16 = 0x0001;

/// Why a command set cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CommandError {
    /// An element header or value reaches beyond the end.
    #[error("an element reaches beyond its end")]
    Truncated,
    /// An element outside group 0000.
    #[error("element of group {0:04X}; only group 0000 is allowed")]
    Group(u16),
    /// An element twice.
    #[error("element (0000,{0:04X}) is there twice")]
    Repeated(u16),
    /// An element that every message of this kind has is not there, or not of its size.
    #[error("element (0000,{0:04X}) is missing or not of its size")]
    Missing(u16),
}

/// A command set as it came: elements of group 0000, in their order.
///
/// It prints tags and lengths only: an instance UID is patient data.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CommandSet {
    elements: Vec<(u16, Bytes)>,
}

impl CommandSet {
    /// Reads a complete command set.
    pub fn parse(mut bytes: Bytes) -> Result<Self, CommandError> {
        let mut elements: Vec<(u16, Bytes)> = Vec::new();
        while bytes.has_remaining() {
            if bytes.remaining() < 8 {
                return Err(CommandError::Truncated);
            }
            let (group, element, length) = (bytes.get_u16_le(), bytes.get_u16_le(), bytes.get_u32_le());
            if group != 0 {
                return Err(CommandError::Group(group));
            }
            let length = usize::try_from(length).map_err(|_| CommandError::Truncated)?;
            if bytes.remaining() < length {
                return Err(CommandError::Truncated);
            }
            if elements.iter().any(|(known, _)| *known == element) {
                return Err(CommandError::Repeated(element));
            }
            elements.push((element, bytes.split_to(length)));
        }
        Ok(Self { elements })
    }

    /// The raw value of an element.
    pub fn value(&self, element: u16) -> Option<&[u8]> {
        self.elements.iter().find(|(known, _)| *known == element).map(|(_, value)| &value[..])
    }

    /// Element numbers of group 0000 with their values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.elements.iter().map(|(element, value)| (*element, &value[..]))
    }

    /// The value of a US element.
    pub fn us(&self, element: u16) -> Option<u16> {
        self.value(element)?.try_into().ok().map(u16::from_le_bytes)
    }

    /// The value of a UI element, when it is a UID.
    pub fn uid(&self, element: u16) -> Option<Uid> {
        Uid::from_value(self.value(element)?).ok()
    }

    /// The value of a text element without padding; bytes outside UTF-8 are replaced.
    pub fn text(&self, element: u16) -> Option<String> {
        let text = String::from_utf8_lossy(self.value(element)?);
        Some(text.trim_matches([' ', '\0']).to_owned())
    }

    /// Command Field (0000,0100).
    pub fn command_field(&self) -> Result<u16, CommandError> {
        self.us(element::COMMAND_FIELD).ok_or(CommandError::Missing(element::COMMAND_FIELD))
    }

    /// A data set follows.
    pub fn has_data_set(&self) -> Result<bool, CommandError> {
        let value = self.us(element::DATA_SET_TYPE).ok_or(CommandError::Missing(element::DATA_SET_TYPE))?;
        Ok(value != NO_DATA_SET)
    }

    /// Message ID (0000,0110).
    pub fn message_id(&self) -> Result<u16, CommandError> {
        self.us(element::MESSAGE_ID).ok_or(CommandError::Missing(element::MESSAGE_ID))
    }

    /// Status (0000,0900).
    pub fn status(&self) -> Result<Status, CommandError> {
        self.us(element::STATUS).map(Status).ok_or(CommandError::Missing(element::STATUS))
    }

    /// Error Comment (0000,0902), which may name anything.
    pub fn error_comment(&self) -> Option<Phi<String>> {
        self.text(element::ERROR_COMMENT).filter(|text| !text.is_empty()).map(Phi::new)
    }
}

impl fmt::Debug for CommandSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths =
            self.elements.iter().map(|(element, value)| (format!("(0000,{element:04X})"), value.len()));
        f.debug_map().entries(lengths).finish()
    }
}

/// Writes a command set. Elements must be added by ascending number (PS3.7 §6.3.1).
#[derive(Debug, Clone)]
pub struct CommandWriter {
    bytes: Vec<u8>,
}

impl CommandWriter {
    /// A command set with this Command Field, to which the class and, after it, the other elements are added.
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(256);
        // Group length, filled in by `finish`.
        bytes.extend_from_slice(&[0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        Self { bytes }
    }

    fn header(&mut self, element: u16, length: usize) {
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&element.to_le_bytes());
        self.bytes.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_le_bytes());
    }

    /// Adds a US element.
    #[must_use]
    pub fn us(mut self, element: u16, value: u16) -> Self {
        self.header(element, 2);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Adds a UI element, padded to even length.
    #[must_use]
    pub fn uid(self, element: u16, uid: &Uid) -> Self {
        self.padded(element, uid.as_str().as_bytes(), 0)
    }

    /// Adds a text element, padded to even length.
    #[must_use]
    pub fn text(self, element: u16, text: &str) -> Self {
        self.padded(element, text.as_bytes(), b' ')
    }

    /// Adds a value as it came, if it did.
    #[must_use]
    pub fn raw(self, element: u16, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.padded(element, value, 0),
            None => self,
        }
    }

    /// Adds Error Comment (0000,0902): printable ASCII, at most 64 characters.
    #[must_use]
    pub fn comment(self, comment: Option<&str>) -> Self {
        let Some(comment) = comment else { return self };
        let allowed = |c: &char| (' '..='~').contains(c) && *c != '\\';
        let text: String = comment.chars().filter(allowed).take(COMMENT_CHARACTERS_MAX).collect();
        self.text(element::ERROR_COMMENT, &text)
    }

    /// Adds Command Data Set Type (0000,0800).
    #[must_use]
    pub fn data_set(self, follows: bool) -> Self {
        self.us(element::DATA_SET_TYPE, if follows { DATA_SET } else { NO_DATA_SET })
    }

    fn padded(mut self, element: u16, value: &[u8], padding: u8) -> Self {
        let odd = value.len() % 2;
        self.header(element, value.len() + odd);
        self.bytes.extend_from_slice(value);
        if odd == 1 {
            self.bytes.push(padding);
        }
        self
    }

    /// The bytes, with the group length in front.
    pub fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len().saturating_sub(12)).unwrap_or(0);
        if let Some(place) = self.bytes.get_mut(8..12) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        self.bytes
    }
}

impl Default for CommandWriter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let uid = Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap();
        let bytes = CommandWriter::new()
            .uid(element::AFFECTED_SOP_CLASS, &uid)
            .us(element::COMMAND_FIELD, field::C_STORE_RQ)
            .us(element::MESSAGE_ID, 0xABCD)
            .data_set(true)
            .us(element::STATUS, 0xA700)
            .comment(Some("odd"))
            .finish();
        assert_eq!(bytes.len() % 2, 0);
        assert_eq!(bytes[8..12], (bytes.len() as u32 - 12).to_le_bytes());
        let command = CommandSet::parse(bytes.into()).unwrap();
        assert_eq!(command.uid(element::AFFECTED_SOP_CLASS), Some(uid));
        assert_eq!(command.command_field(), Ok(1));
        assert_eq!(command.message_id(), Ok(0xABCD));
        assert_eq!(command.has_data_set(), Ok(true));
        assert_eq!(command.status(), Ok(Status::OUT_OF_RESOURCES));
        assert_eq!(command.error_comment(), Some(Phi::new("odd".to_owned())));
        assert_eq!(command.us(element::PRIORITY), None);
    }

    #[test]
    fn a_command_set_prints_no_values() {
        let command = CommandWriter::new().text(element::AFFECTED_SOP_INSTANCE, "1.2.3.4").finish();
        let text = format!("{:?}", CommandSet::parse(command.into()).unwrap());
        assert_eq!(text, r#"{"(0000,0000)": 4, "(0000,1000)": 8}"#);
    }

    #[test]
    fn an_element_of_the_wrong_size_is_as_good_as_missing() {
        let command = CommandWriter::new().text(element::COMMAND_FIELD, "four").finish();
        let command = CommandSet::parse(command.into()).unwrap();
        assert_eq!(command.command_field(), Err(CommandError::Missing(element::COMMAND_FIELD)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_command_set_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = CommandSet::parse(bytes.into());
        }

        #[test]
        fn a_command_set_that_is_cut_off_within_an_element_is_refused(cut in 0usize..60) {
            let bytes = CommandWriter::new().us(0x0100, 1).us(0x0110, 1).data_set(false).us(0x0900, 0).finish();
            let is_boundary = cut == 0 || (cut >= 12 && (cut - 12) % 10 == 0);
            let cut_off = Bytes::copy_from_slice(&bytes[..cut.min(bytes.len())]);
            prop_assert_eq!(CommandSet::parse(cut_off).is_ok(), is_boundary || cut >= bytes.len());
        }
    }
}
