//! What has passed, in lines for a person: association items and command sets (PS3.8 §9.3, PS3.7 §6.3). No patient data: an instance
//! UID is shown as what the caller makes of it, and comments, which may name anybody, by their length.

use base::{Status, Uid};
use dicom_ul::pdu::{Pdu, PresentationContextResultReason, UserVariableItem};

use crate::{
    admission::Rejection,
    associate::{self, abort_codes},
    command::{CommandSet, element, field},
    framing::pdu_type,
    onlooker::{Seen, Way},
    sop_class::SopClassKind,
    statuses::STATUSES,
    transfer_syntax::transfer_syntax,
    user_information::{UserIdentityKind, UserInformation},
};

/// What it is, and a line for each thing that it says. `instance` stands for a SOP Instance UID.
pub(crate) fn describe(seen: &Seen<'_>, instance: &dyn Fn(&Uid) -> String) -> (String, Vec<String>) {
    match seen {
        Seen::Pdu { pdu_type, body, .. } => pdu(*pdu_type, body),
        Seen::Command { way, context, command } => command_set(*way, *context, command, instance),
        Seen::DataSet { context, bytes, .. } => {
            (format!("data set of context {context}: {bytes} bytes"), Vec::new())
        }
        Seen::End => ("connection closed".to_owned(), Vec::new()),
    }
}

fn pdu(pdu_type: u8, body: &[u8]) -> (String, Vec<String>) {
    let name = match pdu_type {
        pdu_type::ASSOCIATE_RQ => "A-ASSOCIATE-RQ",
        pdu_type::ASSOCIATE_AC => "A-ASSOCIATE-AC",
        pdu_type::ASSOCIATE_RJ => return (rejection(body), Vec::new()),
        pdu_type::RELEASE_RQ => return ("A-RELEASE-RQ".to_owned(), Vec::new()),
        pdu_type::RELEASE_RP => return ("A-RELEASE-RP".to_owned(), Vec::new()),
        pdu_type::ABORT => {
            let (source, reason) = abort_codes(body);
            let whose = if source == 0 { "service user" } else { "service provider" };
            return (format!("A-ABORT source {source} ({whose}), reason {reason}"), Vec::new());
        }
        other => return (format!("PDU of type {other:02X}H, {} bytes", body.len()), Vec::new()),
    };
    let mut lines = Vec::new();
    match associate::read(pdu_type, body) {
        Ok(Pdu::AssociationRQ(rq)) => {
            lines.push(format!(
                "calling {:?}, called {:?}",
                rq.calling_ae_title.trim(),
                rq.called_ae_title.trim()
            ));
            lines.push(format!("application context {}", printable(&rq.application_context_name)));
            for context in &rq.presentation_contexts {
                lines.push(format!("context {}: {}", context.id, class(&context.abstract_syntax)));
                lines.extend(context.transfer_syntaxes.iter().map(|uid| format!("  in {}", syntax(uid))));
            }
            lines.extend(user(rq.user_variables));
        }
        Ok(Pdu::AssociationAC(ac)) => {
            lines.push(format!("application context {}", printable(&ac.application_context_name)));
            for context in &ac.presentation_contexts {
                let result = match context.reason {
                    PresentationContextResultReason::Acceptance => {
                        format!("accepted in {}", syntax(&context.transfer_syntax))
                    }
                    PresentationContextResultReason::UserRejection => "rejected by the user (1)".to_owned(),
                    PresentationContextResultReason::NoReason => "rejected without a reason (2)".to_owned(),
                    PresentationContextResultReason::AbstractSyntaxNotSupported => {
                        "abstract syntax not supported (3)".to_owned()
                    }
                    PresentationContextResultReason::TransferSyntaxesNotSupported => {
                        "transfer syntaxes not supported (4)".to_owned()
                    }
                };
                lines.push(format!("context {}: {result}", context.id));
            }
            lines.extend(user(ac.user_variables));
        }
        _ => lines.push(format!("its items cannot be read, {} bytes", body.len())),
    }
    (name.to_owned(), lines)
}

/// PS3.8 Table 9-21.
fn rejection(body: &[u8]) -> String {
    let [_, result, source, reason] = *body else { return format!("A-ASSOCIATE-RJ of {} bytes", body.len()) };
    let rejection = Rejection::new(result, source, reason);
    let how = if rejection.is_permanent() { "permanent" } else { "transient" };
    let why = rejection.meaning();
    format!("A-ASSOCIATE-RJ result {result} ({how}), source {source}, reason {reason} ({why})")
}

fn user(items: Vec<UserVariableItem>) -> Vec<String> {
    let Ok(user) = UserInformation::read(items) else {
        return vec!["user information cannot be read".to_owned()];
    };
    let limit = match user.max_pdu {
        0 => "no limit".to_owned(),
        limit => limit.to_string(),
    };
    let mut lines = vec![format!("maximum length {limit}")];
    let class_uid = user.implementation.class_uid.as_ref().map_or("none", Uid::as_str);
    let version = user.implementation.version_name.as_deref().unwrap_or("");
    lines.push(format!("implementation {class_uid} {}", printable(version)).trim_end().to_owned());
    let yes = |is: bool| if is { "yes" } else { "no" };
    for role in &user.roles {
        lines.push(format!(
            "role of {}: SCU {}, SCP {}",
            class(role.sop_class.as_str()),
            yes(role.scu),
            yes(role.scp)
        ));
    }
    if let Some(window) = user.async_window {
        lines.push(format!(
            "asynchronous operations: {} invoked, {} performed",
            window.invoked, window.performed
        ));
    }
    if let Some(identity) = &user.identity {
        let kind = match identity.kind {
            UserIdentityKind::Name => "name",
            UserIdentityKind::NameAndPasscode => "name and passcode",
            UserIdentityKind::KerberosTicket => "Kerberos ticket",
            UserIdentityKind::SamlAssertion => "SAML assertion",
            UserIdentityKind::JsonWebToken => "JSON web token",
        };
        let answer = if identity.positive_response_requested { ", an answer is asked for" } else { "" };
        lines.push(format!("user identity: {kind} (not shown){answer}"));
    }
    if user.identity_response.is_some() {
        lines.push("user identity: accepted".to_owned());
    }
    for item in &user.extended {
        lines.push(format!(
            "extended negotiation of {}: {} bytes",
            class(item.sop_class.as_str()),
            item.information.len()
        ));
    }
    for item in &user.common_extended {
        lines.push(format!("common extended negotiation of {}", class(item.sop_class.as_str())));
    }
    for item in &user.other_items {
        lines.push(format!("item of type {item:02X}H"));
    }
    lines
}

fn command_set(
    way: Way,
    context: u8,
    command: &CommandSet,
    instance: &dyn Fn(&Uid) -> String,
) -> (String, Vec<String>) {
    let what = command.command_field().map_or_else(|_| "command set".to_owned(), command_name);
    let lines = command
        .iter()
        .filter(|(number, _)| *number != element::GROUP_LENGTH && *number != element::COMMAND_FIELD);
    let lines = lines.map(|(number, value)| {
        let said = match number {
            element::AFFECTED_SOP_CLASS | element::REQUESTED_SOP_CLASS => {
                command.text(number).map(|uid| class(&uid))
            }
            element::AFFECTED_SOP_INSTANCE | element::REQUESTED_SOP_INSTANCE => {
                command.uid(number).map(|uid| instance(&uid))
            }
            element::STATUS => command.us(number).map(|status| status_text(Status(status))),
            element::DATA_SET_TYPE => command.us(number).map(|value| match value {
                0x0101 => "0101H, none".to_owned(),
                value => format!("{value:04X}H, a data set follows"),
            }),
            // Ours are made of our own words. Those of others may name a patient.
            element::ERROR_COMMENT if way == Way::Sent => command.text(number).map(|text| printable(&text)),
            element::MOVE_ORIGINATOR_AE => command.text(number).map(|text| printable(&text)),
            _ => command.us(number).map(|value| value.to_string()),
        };
        let said = said.unwrap_or_else(|| format!("{} bytes, not shown", value.len()));
        format!("(0000,{number:04X}) {}: {said}", element_name(number))
    });
    (format!("{what} on context {context}"), lines.collect())
}

/// PS3.7 Table E.1-1.
fn command_name(code: u16) -> String {
    let name = match code & !field::RESPONSE {
        field::C_STORE_RQ => "C-STORE",
        0x0010 => "C-GET",
        0x0020 => "C-FIND",
        0x0021 => "C-MOVE",
        field::C_ECHO_RQ => "C-ECHO",
        field::N_EVENT_REPORT_RQ => "N-EVENT-REPORT",
        0x0110 => "N-GET",
        0x0120 => "N-SET",
        field::N_ACTION_RQ => "N-ACTION",
        0x0140 => "N-CREATE",
        0x0150 => "N-DELETE",
        field::C_CANCEL_RQ => return "C-CANCEL-RQ".to_owned(),
        _ => return format!("command {code:04X}H"),
    };
    format!("{name}-{}", if code & field::RESPONSE == 0 { "RQ" } else { "RSP" })
}

/// PS3.7 Table E.1-1; the data dictionary has no more names.
fn element_name(number: u16) -> &'static str {
    match number {
        element::AFFECTED_SOP_CLASS => "Affected SOP Class UID",
        element::REQUESTED_SOP_CLASS => "Requested SOP Class UID",
        element::MESSAGE_ID => "Message ID",
        element::MESSAGE_ID_RESPONDED_TO => "Message ID Being Responded To",
        element::PRIORITY => "Priority",
        element::DATA_SET_TYPE => "Command Data Set Type",
        element::STATUS => "Status",
        0x0901 => "Offending Element",
        element::ERROR_COMMENT => "Error Comment",
        0x0903 => "Error ID",
        element::AFFECTED_SOP_INSTANCE => "Affected SOP Instance UID",
        element::REQUESTED_SOP_INSTANCE => "Requested SOP Instance UID",
        element::EVENT_TYPE_ID => "Event Type ID",
        0x1005 => "Attribute Identifier List",
        element::ACTION_TYPE_ID => "Action Type ID",
        0x1020 => "Number of Remaining Sub-operations",
        0x1021 => "Number of Completed Sub-operations",
        0x1022 => "Number of Failed Sub-operations",
        0x1023 => "Number of Warning Sub-operations",
        element::MOVE_ORIGINATOR_AE => "Move Originator Application Entity Title",
        element::MOVE_ORIGINATOR_MESSAGE_ID => "Move Originator Message ID",
        _ => "element",
    }
}

fn status_text(status: Status) -> String {
    // The first row that fits, whatever the service: they differ in what is to be done, and hardly in words.
    let row = STATUSES.iter().find(|row| status.0 & row.mask == row.code);
    row.map_or_else(|| format!("{:04X}H", status.0), |row| format!("{:04X}H, {}", status.0, row.meaning))
}

fn class(uid: &str) -> String {
    let uid = uid.trim_end_matches(['\0', ' ']);
    let name = Uid::parse(uid).ok().and_then(|uid| SopClassKind::of(&uid).name());
    name.map_or_else(|| printable(uid), |name| format!("{name} ({uid})"))
}

fn syntax(uid: &str) -> String {
    let uid = uid.trim_end_matches(['\0', ' ']);
    let name = Uid::parse(uid).ok().and_then(|uid| transfer_syntax(&uid)).map(|row| row.name);
    name.map_or_else(|| printable(uid), |name| format!("{name} ({uid})"))
}

/// For a terminal: what a peer sends decides nothing there.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
