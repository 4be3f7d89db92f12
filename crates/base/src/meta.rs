use crate::{AeTitle, Phi, Uid};

/// What travels beside a data set: the parts of the C-STORE-RQ and of the association that the far side
/// needs to issue the same C-STORE again (PS3.7 §9.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceMeta {
    /// Affected SOP Class UID (0000,0002).
    pub sop_class: Uid,
    /// Affected SOP Instance UID (0000,1000).
    pub sop_instance: Phi<Uid>,
    /// The transfer syntax of the presentation context the data set came in.
    pub transfer_syntax: Uid,
    /// Calling AE title of the association it came in.
    pub calling: AeTitle,
    /// Called AE title of the association it came in. Information, never routing.
    pub called: AeTitle,
    /// Who caused the C-STORE by a C-MOVE, if anybody did.
    pub move_originator: Option<MoveOriginator>,
    /// Priority (0000,0700).
    pub priority: Priority,
}

/// Move Originator Application Entity Title (0000,1030) and Message ID (0000,1031).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveOriginator {
    /// Who asked for the C-MOVE. Kept as received.
    pub ae: AeTitle,
    /// The C-MOVE-RQ's message id.
    pub message_id: u16,
}

/// Priority of a C-STORE (0000,0700).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Priority {
    /// 0002H
    Low,
    /// 0000H
    Medium,
    /// 0001H
    High,
}

impl Priority {
    /// The code of element (0000,0700); anything unknown counts as medium.
    pub fn from_code(code: u16) -> Self {
        match code {
            1 => Self::High,
            2 => Self::Low,
            _ => Self::Medium,
        }
    }

    /// The code of element (0000,0700).
    pub fn code(self) -> u16 {
        match self {
            Self::Medium => 0,
            Self::High => 1,
            Self::Low => 2,
        }
    }
}
