//! Command sets: group 0000 elements in Implicit VR Little Endian (PS3.7 §6.3.1, Annex E).

use std::collections::BTreeMap;

use base::{AeTitle, MoveOriginator, Priority, Status, Uid};

/// Elements of group 0000, by element number.
pub mod element {
    /// Affected SOP Class UID
    pub const AFFECTED_SOP_CLASS_UID: u16 = 0x0002;
    /// Command Field
    pub const COMMAND_FIELD: u16 = 0x0100;
    /// Message ID
    pub const MESSAGE_ID: u16 = 0x0110;
    /// Message ID Being Responded To
    pub const MESSAGE_ID_RESPONDED_TO: u16 = 0x0120;
    /// Priority
    pub const PRIORITY: u16 = 0x0700;
    /// Command Data Set Type
    pub const DATA_SET_TYPE: u16 = 0x0800;
    /// Status
    pub const STATUS: u16 = 0x0900;
    /// Error Comment
    pub const ERROR_COMMENT: u16 = 0x0902;
    /// Affected SOP Instance UID
    pub const AFFECTED_SOP_INSTANCE_UID: u16 = 0x1000;
    /// Move Originator Application Entity Title
    pub const MOVE_ORIGINATOR_AE: u16 = 0x1030;
    /// Move Originator Message ID
    pub const MOVE_ORIGINATOR_MESSAGE_ID: u16 = 0x1031;
}

/// Command Field values (PS3.7 Table E.1-1).
pub mod field {
    /// C-STORE-RQ
    pub const C_STORE_RQ: u16 = 0x0001;
    /// C-STORE-RSP
    pub const C_STORE_RSP: u16 = 0x8001;
    /// C-ECHO-RQ
    pub const C_ECHO_RQ: u16 = 0x0030;
    /// C-ECHO-RSP
    pub const C_ECHO_RSP: u16 = 0x8030;
    /// C-CANCEL-RQ
    pub const C_CANCEL_RQ: u16 = 0x0FFF;
    /// Set in every response.
    pub const RESPONSE: u16 = 0x8000;
}

/// Command Data Set Type without a data set.
pub const NO_DATA_SET: u16 = 0x0101;
/// Command Data Set Type with one; any other value than [`NO_DATA_SET`] would do.
const DATA_SET: u16 = 0x0001;
/// Most characters of an error comment (VR LO).
const COMMENT_CHARACTERS_MAX: usize = 64;

/// A command set: what it needs to answer, and all of its elements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandSet(BTreeMap<u16, Vec<u8>>);

impl CommandSet {
    /// Reads a whole command set; `None` where its elements do not add up.
    pub fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut elements = BTreeMap::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_first_chunk::<8>()?;
            let [g0, g1, e0, e1, l0, l1, l2, l3] = *head;
            let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
            if u16::from_le_bytes([g0, g1]) != 0 || rest.len() < length {
                return None;
            }
            let (value, after) = rest.split_at(length);
            elements.insert(u16::from_le_bytes([e0, e1]), value.to_vec());
            bytes = after;
        }
        Some(Self(elements))
    }

    /// An unsigned short (VR US).
    pub fn number(&self, element: u16) -> Option<u16> {
        self.0.get(&element)?.first_chunk::<2>().map(|bytes| u16::from_le_bytes(*bytes))
    }

    /// A UID (VR UI).
    pub fn uid(&self, element: u16) -> Option<Uid> {
        Uid::from_value(self.0.get(&element)?).ok()
    }

    /// Text, without padding.
    pub fn text(&self, element: u16) -> Option<String> {
        let value = self.0.get(&element)?;
        let text = String::from_utf8_lossy(value);
        Some(text.trim_end_matches(['\0', ' ']).trim_start_matches(' ').to_owned())
    }

    /// Command Field (0000,0100).
    pub fn command_field(&self) -> Option<u16> {
        self.number(element::COMMAND_FIELD)
    }

    /// Whether a data set follows (0000,0800).
    pub fn has_data_set(&self) -> bool {
        self.number(element::DATA_SET_TYPE).is_some_and(|kind| kind != NO_DATA_SET)
    }

    /// Move Originator, if both elements are there and usable.
    pub fn move_originator(&self) -> Option<MoveOriginator> {
        let ae = AeTitle::parse(&self.text(element::MOVE_ORIGINATOR_AE)?).ok()?;
        Some(MoveOriginator { ae, message_id: self.number(element::MOVE_ORIGINATOR_MESSAGE_ID)? })
    }

    /// Priority (0000,0700).
    pub fn priority(&self) -> Priority {
        Priority::from_code(self.number(element::PRIORITY).unwrap_or_default())
    }

    fn set_number(mut self, element: u16, value: u16) -> Self {
        self.0.insert(element, value.to_le_bytes().to_vec());
        self
    }

    fn set_text(mut self, element: u16, text: &str, padding: u8) -> Self {
        let mut value = text.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(padding);
        }
        self.0.insert(element, value);
        self
    }

    fn set_uid(self, element: u16, uid: &Uid) -> Self {
        self.set_text(element, uid.as_str(), 0)
    }

    /// C-ECHO-RQ (PS3.7 Table 9.3-12).
    pub fn echo_request(message_id: u16, sop_class: &Uid) -> Self {
        Self::default()
            .set_uid(element::AFFECTED_SOP_CLASS_UID, sop_class)
            .set_number(element::COMMAND_FIELD, field::C_ECHO_RQ)
            .set_number(element::MESSAGE_ID, message_id)
            .set_number(element::DATA_SET_TYPE, NO_DATA_SET)
    }

    /// C-STORE-RQ (PS3.7 Table 9.3-1).
    pub fn store_request(message_id: u16, meta: &base::InstanceMeta) -> Self {
        let command = Self::default()
            .set_uid(element::AFFECTED_SOP_CLASS_UID, &meta.sop_class)
            .set_number(element::COMMAND_FIELD, field::C_STORE_RQ)
            .set_number(element::MESSAGE_ID, message_id)
            .set_number(element::PRIORITY, meta.priority.code())
            .set_number(element::DATA_SET_TYPE, DATA_SET)
            .set_uid(element::AFFECTED_SOP_INSTANCE_UID, meta.sop_instance.reveal());
        match &meta.move_originator {
            Some(originator) => command
                .set_text(element::MOVE_ORIGINATOR_AE, originator.ae.as_str(), b' ')
                .set_number(element::MOVE_ORIGINATOR_MESSAGE_ID, originator.message_id),
            None => command,
        }
    }

    /// The response to a request: its ids repeated (PS3.7 Tables 9.3-2, 9.3-13).
    pub fn response(&self, status: Status, comment: Option<&str>) -> Self {
        let mut response = Self::default();
        for element in [element::AFFECTED_SOP_CLASS_UID, element::AFFECTED_SOP_INSTANCE_UID] {
            if let Some(value) = self.0.get(&element) {
                response.0.insert(element, value.clone());
            }
        }
        response = response
            .set_number(element::COMMAND_FIELD, self.command_field().unwrap_or_default() | field::RESPONSE)
            .set_number(element::MESSAGE_ID_RESPONDED_TO, self.number(element::MESSAGE_ID).unwrap_or_default())
            .set_number(element::DATA_SET_TYPE, NO_DATA_SET)
            .set_number(element::STATUS, status.0);
        match comment {
            Some(text) => {
                let text = text.chars().take(COMMENT_CHARACTERS_MAX).collect::<String>();
                response.set_text(element::ERROR_COMMENT, &text, b' ')
            }
            None => response,
        }
    }

    /// The bytes, group length first.
    pub fn encode(&self) -> Vec<u8> {
        let mut elements = Vec::new();
        for (element, value) in &self.0 {
            if *element != 0 {
                push(&mut elements, *element, value);
            }
        }
        let mut bytes = Vec::with_capacity(12 + elements.len());
        push(&mut bytes, 0, &u32::try_from(elements.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&elements);
        bytes
    }
}

fn push(bytes: &mut Vec<u8>, element: u16, value: &[u8]) {
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&element.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use base::{InstanceMeta, Phi};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_store_request_and_its_response_repeat_the_ids() {
        let meta = InstanceMeta {
            sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
            sop_instance: Phi::new(Uid::parse("1.2.3").unwrap()),
            transfer_syntax: Uid::parse("1.2.840.10008.1.2").unwrap(),
            calling: AeTitle::parse("A").unwrap(),
            called: AeTitle::parse("B").unwrap(),
            move_originator: Some(MoveOriginator { ae: AeTitle::parse("MOVER").unwrap(), message_id: 77 }),
            priority: Priority::High,
        };
        let request = CommandSet::parse(&CommandSet::store_request(9, &meta).encode()).unwrap();
        assert_eq!(request.command_field(), Some(field::C_STORE_RQ));
        assert!(request.has_data_set());
        assert_eq!(request.move_originator(), meta.move_originator);
        assert_eq!(request.priority(), Priority::High);
        let response = request.response(Status(0xA700), Some("outbox full"));
        let response = CommandSet::parse(&response.encode()).unwrap();
        assert_eq!(response.command_field(), Some(field::C_STORE_RSP));
        assert_eq!(response.number(element::MESSAGE_ID_RESPONDED_TO), Some(9));
        assert_eq!(response.number(element::STATUS), Some(0xA700));
        assert_eq!(response.uid(element::AFFECTED_SOP_INSTANCE_UID), Some(Uid::parse("1.2.3").unwrap()));
        assert_eq!(response.text(element::ERROR_COMMENT).as_deref(), Some("outbox full"));
        assert!(!response.has_data_set());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(set) = CommandSet::parse(&bytes) {
                let _ = (set.command_field(), set.has_data_set(), set.move_originator(), set.encode());
            }
        }
    }
}
