use std::time::Duration;

use base::{Phi, Status, Uid};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::{
    Violation,
    command::{CommandSet, field},
    failure::{AssociationError, NormalizedError, TimedOut},
    fragment::command_pdus,
    framing::{Frame, pdu_type},
    limits::{EVENT_REPORT_BYTES_MAX, EVENT_REPORTS_MAX},
    link::Patience,
    message::Event,
    normalized::{self, EventReport, NormalizedResponse},
    requestor::Requestor,
};

impl Requestor {
    /// The transfer syntax in which data sets of this SOP class go over this association, if they can.
    pub fn transfer_syntax(&self, sop_class: &Uid) -> Option<&Uid> {
        let contexts = self.contexts.iter();
        contexts.filter(|context| context.abstract_syntax == *sop_class).map(|c| &c.transfer_syntax).next()
    }

    /// N-ACTION, with a data set in [`Requestor::transfer_syntax`]. After an error the association is over.
    ///
    /// Not cancel-safe: after a cancelled call the association can only be dropped.
    pub async fn action(
        &mut self,
        sop: (&Uid, &Uid),
        action_type: u16,
        data: Bytes,
    ) -> Result<NormalizedResponse, NormalizedError> {
        let make = |message_id, has_data| normalized::action_request(sop, action_type, message_id, has_data);
        self.request(sop.0, field::N_ACTION_RQ, make, data).await
    }

    /// N-EVENT-REPORT, with a data set in [`Requestor::transfer_syntax`]. Whether the peer has granted the role is
    /// [`Requestor::role`]'s to say; some do not answer it and take the report all the same. After an error the
    /// association is over.
    ///
    /// Not cancel-safe: after a cancelled call the association can only be dropped.
    pub async fn report_event(
        &mut self,
        sop: (&Uid, &Uid),
        event_type: u16,
        data: Bytes,
    ) -> Result<NormalizedResponse, NormalizedError> {
        let make =
            |message_id, has_data| normalized::event_report_request(sop, event_type, message_id, has_data);
        self.request(sop.0, field::N_EVENT_REPORT_RQ, make, data).await
    }

    /// An N-EVENT-REPORT of the peer on this association, or `None` when none came in that time.
    ///
    /// Cancel-safe: nothing that came is lost. After an error the association is over.
    pub async fn next_event_report(
        &mut self,
        wait: Duration,
    ) -> Result<Option<EventReport>, NormalizedError> {
        if let Some(report) = self.reports.pop_front() {
            return Ok(Some(report));
        }
        if self.store.is_some() {
            return Err(NormalizedError::OutOfOrder);
        }
        if !self.is_usable() {
            return Err(AssociationError::Ended.into());
        }
        match self.await_report(wait).await {
            Ok(report) => Ok(report),
            Err(error) => Err(self.link.fail(error).await.into()),
        }
    }

    /// Answers an N-EVENT-REPORT; the comment must not hold patient data.
    pub async fn respond_event_report(
        &mut self,
        report: &EventReport,
        status: Status,
        comment: Option<&str>,
    ) -> Result<(), NormalizedError> {
        let command = normalized::event_report_response(&report.request, status, comment);
        let command = command_pdus(report.request.context, &command, self.peer_max_pdu);
        match self.link.send(report.request.context, command, None, self.pdu_length).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.link.fail(error).await.into()),
        }
    }

    async fn request(
        &mut self,
        class: &Uid,
        field: u16,
        make: impl FnOnce(u16, bool) -> Vec<u8>,
        data: Bytes,
    ) -> Result<NormalizedResponse, NormalizedError> {
        if self.store.is_some() {
            return Err(NormalizedError::OutOfOrder);
        }
        if !self.is_usable() {
            return Err(AssociationError::Ended.into());
        }
        let context = self.contexts.iter().find(|context| context.abstract_syntax == *class);
        let Some(context) = context.map(|context| context.id) else {
            return Err(NormalizedError::NotAccepted(class.clone()));
        };
        let message_id = self.next_message_id();
        let has_data_set = !data.is_empty();
        let command = command_pdus(context, &make(message_id, has_data_set), self.peer_max_pdu);
        let sent = self.link.send(context, command, has_data_set.then_some(data), self.pdu_length).await;
        let answered = match sent {
            Ok(()) => self.response(context, message_id, field).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(answer) => {
                Ok(NormalizedResponse { message_id, status: answer.status, comment: answer.comment })
            }
            Err(error) => Err(self.link.fail(error).await.into()),
        }
    }

    async fn await_report(&mut self, wait: Duration) -> Result<Option<EventReport>, AssociationError> {
        let elapsed = TimedOut::Response(wait);
        let patience = Patience::Until(Instant::now() + wait, elapsed);
        self.link.refill();
        loop {
            match self.assembler.poll() {
                Some(Event::Command { context, command }) => {
                    if !self.is_report(context, &command)? {
                        return Err(Violation::Response("nothing was asked").into());
                    }
                }
                Some(Event::DataFragment(bytes)) => self.report_bytes(&bytes)?,
                Some(Event::DataEnd) => self.report_end()?,
                None => {
                    if let Some(report) = self.reports.pop_front() {
                        return Ok(Some(report));
                    }
                    let within = self.arriving.is_some() || self.assembler.is_in_command();
                    let patience = if within { Patience::Progress } else { patience };
                    match self.link.frame(patience, within).await {
                        Ok(Frame::Pdv(pdv)) => self.assembler.handle(pdv)?,
                        Ok(Frame::Control { pdu_type: pdu_type::RELEASE_RQ, .. }) => {
                            return Err(AssociationError::ReleasedInMessage);
                        }
                        Ok(Frame::Control { pdu_type, .. }) => {
                            return Err(Violation::UnexpectedPdu(pdu_type).into());
                        }
                        Err(AssociationError::TimedOut(timer)) if !within && timer == elapsed => {
                            return Ok(None);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Takes an N-EVENT-REPORT-RQ of the peer; false when the command is something else.
    pub(super) fn is_report(&mut self, context: u8, command: &CommandSet) -> Result<bool, AssociationError> {
        if command.command_field().map_err(Violation::from)? != field::N_EVENT_REPORT_RQ {
            return Ok(false);
        }
        let message_id = command.message_id().map_err(Violation::from)?;
        let has_data_set = command.has_data_set().map_err(Violation::from)?;
        let Some(request) = normalized::event_report(command, context, message_id, has_data_set) else {
            return Err(Violation::Response("an event report without class, instance or type").into());
        };
        if self.reports.len() >= EVENT_REPORTS_MAX {
            return Err(Violation::EventReports.into());
        }
        self.arriving = Some((request, BytesMut::new()));
        if !has_data_set {
            self.report_end()?;
        }
        Ok(true)
    }

    pub(super) fn report_bytes(&mut self, bytes: &[u8]) -> Result<(), AssociationError> {
        let Some((_, so_far)) = &mut self.arriving else { return Err(Violation::DataUnexpected.into()) };
        if so_far.len() + bytes.len() > EVENT_REPORT_BYTES_MAX {
            return Err(Violation::EventReports.into());
        }
        so_far.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn report_end(&mut self) -> Result<(), AssociationError> {
        let Some((request, data)) = self.arriving.take() else {
            return Err(Violation::DataUnexpected.into());
        };
        let context = self.contexts.iter().find(|context| context.id == request.context);
        let Some(transfer_syntax) = context.map(|context| context.transfer_syntax.clone()) else {
            return Err(Violation::UnknownContext(request.context).into());
        };
        self.reports.push_back(EventReport { request, transfer_syntax, data: Phi::new(data.freeze()) });
        Ok(())
    }
}
