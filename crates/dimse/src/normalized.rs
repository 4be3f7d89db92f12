//! N-ACTION and N-EVENT-REPORT (PS3.7 §10), as far as Storage Commitment needs them (PS3.4 Annex J).

use base::{Phi, Status, Uid};
use bytes::Bytes;

use crate::{
    acceptor::OtherRequest,
    admission::RoleSelection,
    command::{CommandError, CommandSet, CommandWriter, element, field},
};

/// Storage Commitment Push Model SOP Class.
pub const STORAGE_COMMITMENT: &str = "1.2.840.10008.1.20.1";
/// Its well-known SOP Instance.
pub const STORAGE_COMMITMENT_INSTANCE: &str = "1.2.840.10008.1.20.1.1";

/// The role to propose on an association that is opened to report (PS3.4 §J.3.3): we are SCP there.
pub fn commitment_reporter_role() -> RoleSelection {
    RoleSelection { sop_class: crate::storage_commitment(), scu: false, scp: true }
}

/// A message of a normalized service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Normalized {
    /// N-ACTION-RQ.
    Action(ActionRequest),
    /// N-EVENT-REPORT-RQ.
    EventReport(EventReportRequest),
    /// The response to a request of ours.
    Response(NormalizedResponse),
}

/// N-ACTION-RQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionRequest {
    /// Presentation context id.
    pub context: u8,
    /// Message ID (0000,0110).
    pub message_id: u16,
    /// Requested SOP Class UID (0000,0003).
    pub sop_class: Uid,
    /// Requested SOP Instance UID (0000,1001).
    pub sop_instance: Phi<Uid>,
    /// Action Type ID (0000,1008); 1 requests storage commitment.
    pub action_type: u16,
    /// Whether a data set was announced.
    pub has_data_set: bool,
}

/// N-EVENT-REPORT-RQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventReportRequest {
    /// Presentation context id.
    pub context: u8,
    /// Message ID (0000,0110).
    pub message_id: u16,
    /// Affected SOP Class UID (0000,0002).
    pub sop_class: Uid,
    /// Affected SOP Instance UID (0000,1000).
    pub sop_instance: Phi<Uid>,
    /// Event Type ID (0000,1002); 1 says that all is committed, 2 that something failed.
    pub event_type: u16,
    /// Whether a data set was announced.
    pub has_data_set: bool,
}

/// An N-EVENT-REPORT-RQ with its data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventReport {
    /// The command.
    pub request: EventReportRequest,
    /// The transfer syntax of the data set.
    pub transfer_syntax: Uid,
    /// The data set; empty where none was announced.
    pub data: Phi<Bytes>,
}

/// The answer to an N-ACTION or N-EVENT-REPORT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalizedResponse {
    /// Message ID Being Responded To (0000,0120).
    pub message_id: u16,
    /// Status (0000,0900).
    pub status: Status,
    /// Error Comment (0000,0902).
    pub comment: Option<Phi<String>>,
}

impl OtherRequest {
    /// What this message is, if it is one of a normalized service that can be answered: class, instance and type are
    /// there.
    pub fn normalized(&self) -> Option<Normalized> {
        match (self.command_field, self.message_id) {
            (field::N_ACTION_RQ, Some(message_id)) => {
                action(&self.command, self.context, message_id, self.has_data_set).map(Normalized::Action)
            }
            (field::N_EVENT_REPORT_RQ, Some(message_id)) => {
                let report = event_report(&self.command, self.context, message_id, self.has_data_set);
                report.map(Normalized::EventReport)
            }
            (N_ACTION_RSP | N_EVENT_REPORT_RSP, _) => response(&self.command).ok().map(Normalized::Response),
            _ => None,
        }
    }
}

const N_ACTION_RSP: u16 = field::N_ACTION_RQ | field::RESPONSE;
const N_EVENT_REPORT_RSP: u16 = field::N_EVENT_REPORT_RQ | field::RESPONSE;

fn action(command: &CommandSet, context: u8, message_id: u16, has_data_set: bool) -> Option<ActionRequest> {
    Some(ActionRequest {
        context,
        message_id,
        sop_class: command.uid(element::REQUESTED_SOP_CLASS)?,
        sop_instance: Phi::new(command.uid(element::REQUESTED_SOP_INSTANCE)?),
        action_type: command.us(element::ACTION_TYPE_ID)?,
        has_data_set,
    })
}

pub(crate) fn event_report(
    command: &CommandSet,
    context: u8,
    message_id: u16,
    has_data_set: bool,
) -> Option<EventReportRequest> {
    Some(EventReportRequest {
        context,
        message_id,
        sop_class: command.uid(element::AFFECTED_SOP_CLASS)?,
        sop_instance: Phi::new(command.uid(element::AFFECTED_SOP_INSTANCE)?),
        event_type: command.us(element::EVENT_TYPE_ID)?,
        has_data_set,
    })
}

fn response(command: &CommandSet) -> Result<NormalizedResponse, CommandError> {
    let message_id = command.us(element::MESSAGE_ID_RESPONDED_TO);
    Ok(NormalizedResponse {
        message_id: message_id.ok_or(CommandError::Missing(element::MESSAGE_ID_RESPONDED_TO))?,
        status: command.status()?,
        comment: command.error_comment(),
    })
}

/// N-ACTION-RQ (PS3.7 Table 10.3-5).
pub(crate) fn action_request(
    (class, instance): (&Uid, &Uid),
    action_type: u16,
    message_id: u16,
    has_data_set: bool,
) -> Vec<u8> {
    CommandWriter::new()
        .uid(element::REQUESTED_SOP_CLASS, class)
        .us(element::COMMAND_FIELD, field::N_ACTION_RQ)
        .us(element::MESSAGE_ID, message_id)
        .data_set(has_data_set)
        .uid(element::REQUESTED_SOP_INSTANCE, instance)
        .us(element::ACTION_TYPE_ID, action_type)
        .finish()
}

/// N-EVENT-REPORT-RQ (PS3.7 Table 10.3-1).
pub(crate) fn event_report_request(
    (class, instance): (&Uid, &Uid),
    event_type: u16,
    message_id: u16,
    has_data_set: bool,
) -> Vec<u8> {
    CommandWriter::new()
        .uid(element::AFFECTED_SOP_CLASS, class)
        .us(element::COMMAND_FIELD, field::N_EVENT_REPORT_RQ)
        .us(element::MESSAGE_ID, message_id)
        .data_set(has_data_set)
        .uid(element::AFFECTED_SOP_INSTANCE, instance)
        .us(element::EVENT_TYPE_ID, event_type)
        .finish()
}

pub(crate) fn action_response(request: &ActionRequest, status: Status, comment: Option<&str>) -> Vec<u8> {
    CommandWriter::new()
        .uid(element::AFFECTED_SOP_CLASS, &request.sop_class)
        .us(element::COMMAND_FIELD, N_ACTION_RSP)
        .us(element::MESSAGE_ID_RESPONDED_TO, request.message_id)
        .data_set(false)
        .us(element::STATUS, status.0)
        .comment(comment)
        .uid(element::AFFECTED_SOP_INSTANCE, request.sop_instance.reveal())
        .us(element::ACTION_TYPE_ID, request.action_type)
        .finish()
}

pub(crate) fn event_report_response(
    request: &EventReportRequest,
    status: Status,
    comment: Option<&str>,
) -> Vec<u8> {
    CommandWriter::new()
        .uid(element::AFFECTED_SOP_CLASS, &request.sop_class)
        .us(element::COMMAND_FIELD, N_EVENT_REPORT_RSP)
        .us(element::MESSAGE_ID_RESPONDED_TO, request.message_id)
        .data_set(false)
        .us(element::STATUS, status.0)
        .comment(comment)
        .uid(element::AFFECTED_SOP_INSTANCE, request.sop_instance.reveal())
        .us(element::EVENT_TYPE_ID, request.event_type)
        .finish()
}
