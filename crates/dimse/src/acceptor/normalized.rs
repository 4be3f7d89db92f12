use base::{Status, Uid};
use bytes::Bytes;

use crate::{
    acceptor::Association,
    failure::{AssociationError, NormalizedError},
    fragment::{command_pdus, pdu_length},
    limits::MAX_PDU_DEFAULT,
    normalized::{self, ActionRequest, EventReportRequest},
};

impl Association {
    /// Answers an N-ACTION-RQ; the comment must not hold patient data. What was not read of its data set is skipped.
    pub async fn respond_action(
        &mut self,
        request: &ActionRequest,
        status: Status,
        comment: Option<&str>,
    ) -> Result<(), AssociationError> {
        self.respond(request.context, normalized::action_response(request, status, comment)).await
    }

    /// Answers an N-EVENT-REPORT-RQ; the comment must not hold patient data. What was not read of its data set is
    /// skipped.
    pub async fn respond_event_report(
        &mut self,
        request: &EventReportRequest,
        status: Status,
        comment: Option<&str>,
    ) -> Result<(), AssociationError> {
        self.respond(request.context, normalized::event_report_response(request, status, comment)).await
    }

    /// The transfer syntax in which data sets of this SOP class go over this association, if they can.
    pub fn transfer_syntax(&self, sop_class: &Uid) -> Option<&Uid> {
        let contexts = self.granted.contexts.iter();
        contexts.filter(|context| context.abstract_syntax == *sop_class).map(|c| &c.transfer_syntax).next()
    }

    /// Sends an N-EVENT-REPORT-RQ on the peer's own association, between two of its messages, with a data set in
    /// [`Association::transfer_syntax`]. The answer comes from [`Association::receive`] in its turn: an
    /// [`OtherRequest`](crate::OtherRequest) whose [`normalized`](crate::OtherRequest::normalized) is a response with
    /// the message id that is returned here.
    ///
    /// What was not read of a running data set is skipped. Not cancel-safe: after a cancelled call the association can
    /// only be dropped.
    pub async fn report_event(
        &mut self,
        (class, instance): (&Uid, &Uid),
        event_type: u16,
        data: Bytes,
    ) -> Result<u16, NormalizedError> {
        let context = self.granted.contexts.iter().find(|context| context.abstract_syntax == *class);
        let Some(context) = context.map(|context| context.id) else {
            return Err(NormalizedError::NotAccepted(class.clone()));
        };
        self.skip_data().await?;
        self.message_id = self.message_id.checked_add(1).unwrap_or(1);
        let has_data_set = !data.is_empty();
        let command =
            normalized::event_report_request((class, instance), event_type, self.message_id, has_data_set);
        let peer_max = self.request.proposal.max_pdu;
        let command = command_pdus(context, &command, peer_max);
        let length = pdu_length(peer_max, MAX_PDU_DEFAULT);
        match self.link.send(context, command, has_data_set.then_some(data), length).await {
            Ok(()) => Ok(self.message_id),
            Err(error) => Err(self.link.fail(error).await.into()),
        }
    }
}
