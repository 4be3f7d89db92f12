use std::{sync::Arc, time::Duration};

use base::{AeTitle, Uid};
use dicom_ul::pdu::UserVariableItem;

use crate::{
    admission::RoleSelection,
    limits::MAX_PDU_DEFAULT,
    onlooker::Onlooker,
    user_information::{self, AsyncWindow, CommonExtendedNegotiation, ExtendedNegotiation, UserIdentity},
};

/// What is proposed to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestorConfig {
    /// Calling AE title: ours.
    pub calling: AeTitle,
    /// Called AE title: theirs.
    pub called: AeTitle,
    /// (SOP class, transfer syntax), each a presentation context of its own, so that the peer's answer says
    /// which pairs it takes. At most [`CONTEXTS_MAX`](crate::limits::CONTEXTS_MAX).
    pub contexts: Vec<(Uid, Uid)>,
    /// For the TCP connection and the A-ASSOCIATE together. Default 30 s.
    pub connect_timeout: Duration,
    /// For a response, from the last byte of the request. Default 60 s.
    pub response_timeout: Duration,
    /// For the peer to take the next MiB at most, and for a PDU of its own to become complete. Default 60 s.
    pub progress_timeout: Duration,
    /// The longest P-DATA-TF that is sent, whatever the peer would take; at most
    /// [`MAX_PDU_MAX`](crate::limits::MAX_PDU_MAX). Default 256 KiB.
    pub max_pdu_sent: u32,
    /// Roles to propose (PS3.7 §D.3.3.4); without one we are SCU. Who reports storage commitment proposes SCP.
    pub roles: Vec<RoleSelection>,
    /// Asynchronous operations to propose. Each of our requests waits for its answer all the same, so that this only
    /// says what the peer may ask of us. Default: none proposed.
    pub async_window: Option<AsyncWindow>,
    /// User identity to propose.
    pub user_identity: Option<UserIdentity>,
    /// SOP Class Extended Negotiation items to propose.
    pub extended: Vec<ExtendedNegotiation>,
    /// SOP Class Common Extended Negotiation items to propose.
    pub common_extended: Vec<CommonExtendedNegotiation>,
    /// Who may look on. Default: nobody.
    pub onlooker: Watching,
}

/// An onlooker, if there is one. It is no part of what is proposed: two configurations are equal whoever looks on.
#[derive(Debug, Clone, Default)]
pub struct Watching(pub Option<Arc<dyn Onlooker>>);

impl PartialEq for Watching {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Watching {}

impl RequestorConfig {
    /// With the default limits.
    pub fn new(calling: AeTitle, called: AeTitle, contexts: Vec<(Uid, Uid)>) -> Self {
        Self {
            calling,
            called,
            contexts,
            connect_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(60),
            progress_timeout: Duration::from_secs(60),
            max_pdu_sent: MAX_PDU_DEFAULT,
            roles: Vec::new(),
            async_window: None,
            user_identity: None,
            extended: Vec::new(),
            common_extended: Vec::new(),
            onlooker: Watching::default(),
        }
    }

    pub(super) fn user_information(&self) -> Vec<UserVariableItem> {
        let mut items = user_information::own(MAX_PDU_DEFAULT);
        items.extend(self.async_window.map(user_information::async_window));
        items.extend(self.roles.iter().map(user_information::role));
        items.extend(self.extended.iter().map(user_information::extended));
        items.extend(self.common_extended.iter().map(user_information::common));
        items.extend(self.user_identity.as_ref().map(user_information::identity));
        items
    }
}
