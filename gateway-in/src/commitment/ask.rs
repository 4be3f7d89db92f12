//! Asks one destination: what has waited long enough is made a question, questions are sent, and the association that asked
//! is kept for a while, since some report on it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use base::{AeTitle, Status, Timestamp, random_bytes};
use bytes::Bytes;
use dataset::commitment::{CommitmentRequest, SopReference};
use dimse::{Requestor, Retry, Service};
use spool::{Gathering, Inbound, LedgerKey, PledgeState, Question, QuestionState};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    config::AskSettings,
    told::{Refusal, Reports, transaction_uid},
};
use crate::{
    config::DicomTarget,
    destination::{Destination, dial},
};

/// Request Storage Commitment (PS3.4 Table J.3-1).
const REQUEST: u16 = 1;
/// How often it is looked whether something is to be asked.
const TURN: Duration = Duration::from_millis(500);
/// Questions sent over one association.
const QUESTIONS_MAX: u32 = 64;
/// Between two tries to send a question: doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_LONGEST: Duration = Duration::from_secs(600);

/// What is needed to ask a destination.
pub(super) struct Asker {
    pub(super) destination: Arc<Destination>,
    pub(super) target: DicomTarget,
    pub(super) settings: AskSettings,
    pub(super) inbound: Inbound,
    pub(super) key: Arc<LedgerKey>,
}

impl Asker {
    /// Runs until `stop` ends. What is under way then is taken up after the next start.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(TURN) => {}
            }
            if let Err(error) = self.turn(&stop).await {
                warn!(destination = %self.destination.settings.name, %error, "questions of storage commitment cannot be kept");
            }
        }
    }

    async fn turn(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let open = self.inbound.pledge_counts().await?;
        if !open.iter().any(|(state, _)| matches!(state, PledgeState::Wanted | PledgeState::Asked)) {
            return Ok(());
        }
        let (name, table, now) = (&self.destination.settings.name, &self.settings.table, Timestamp::now());
        let ago = |span: Duration| {
            Timestamp(now.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
        };
        let (late, given_up) = self.inbound.questions_expire(name.clone(), ago(table.timeout.0), now).await?;
        if late > 0 {
            warn!(destination = %name, questions = late, "no commitment report in time; asked anew");
        }
        if given_up > 0 {
            warn!(destination = %name, instances = given_up, "not committed in time; their senders are told");
        }
        let rule = Gathering {
            quiet_since: ago(table.quiet.0),
            waited_since: ago(self.settings.again_after()),
            instances_max: table.instances_max,
        };
        while self.inbound.question_gather(name.clone(), random_bytes(), rule, now).await?.is_some() {}
        let mut due = self.inbound.questions_due(name.clone(), now, QUESTIONS_MAX).await?;
        let Some(calling) = due.first().and_then(|question| self.calling(question)) else {
            return self.unusable(&due).await;
        };
        // One association is of one calling AE title; the others have their turn after it.
        due.retain(|question| self.calling(question).as_ref() == Some(&calling));
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            asked = self.ask(calling, due) => asked,
        }
    }

    fn calling(&self, question: &Question) -> Option<AeTitle> {
        let mut instances = question.instances.iter();
        instances.find_map(|one| Some(self.key.open(one.object, &one.sealed)?.calling))
    }

    /// A question that names nothing any more has ended; one whose names cannot be read waits for the right key.
    async fn unusable(&self, due: &[Question]) -> anyhow::Result<()> {
        let Some(first) = due.first() else { return Ok(()) };
        if first.instances.is_empty() {
            self.inbound.question_told(first.id, Vec::new(), Timestamp::now()).await?;
        } else {
            error!(destination = %first.destination, "what is to be asked for cannot be read: [commitment] key is another one");
            self.put_off(first).await?;
        }
        Ok(())
    }

    async fn put_off(&self, question: &Question) -> anyhow::Result<()> {
        let wait = RETRY_FIRST.saturating_mul(1 << question.tries.min(12)).min(RETRY_LONGEST);
        self.inbound.question_unsent(question.id, Timestamp::now().after(wait)).await?;
        Ok(())
    }

    async fn ask(&self, calling: AeTitle, due: Vec<Question>) -> anyhow::Result<()> {
        // Some destinations serve one association at a time: idle ones give way.
        if let Some(pool) = self.destination.dicom() {
            pool.give_way();
        }
        let class = dimse::storage_commitment();
        let syntaxes = [dimse::EXPLICIT_VR_LITTLE_ENDIAN, dimse::IMPLICIT_VR_LITTLE_ENDIAN];
        let contexts =
            syntaxes.iter().filter_map(|syntax| Some((class.clone(), base::Uid::parse(syntax).ok()?)));
        let name = &self.destination.settings.name;
        let mut association = match dial(&self.target, calling, contexts.collect(), Duration::MAX).await {
            Ok(association) => association,
            Err(error) => {
                warn!(destination = %name, questions = due.len(), %error, "not asked for commitment; tried again later");
                for question in &due {
                    self.put_off(question).await?;
                }
                return Ok(());
            }
        };
        let mut sent = Vec::new();
        for question in &due {
            match self.send(&mut association, question).await {
                Ok(()) => sent.push(question.transaction),
                Err(reason) => {
                    warn!(destination = %name, %reason, "not asked for commitment; tried again later");
                    self.put_off(question).await?;
                }
            }
        }
        self.stay(&mut association, sent).await?;
        association.release().await;
        Ok(())
    }

    /// N-ACTION; the question is durable, and that it was taken is recorded after the answer. After a crash in between it
    /// is sent again, under the same Transaction UID.
    async fn send(&self, association: &mut Requestor, question: &Question) -> anyhow::Result<()> {
        let (class, instance) = (dimse::storage_commitment(), dimse::storage_commitment_instance());
        let syntax = association.transfer_syntax(&class).cloned();
        let syntax =
            syntax.ok_or_else(|| anyhow::anyhow!("the destination does not accept storage commitment"))?;
        let opened = question.instances.iter().filter_map(|one| self.key.open(one.object, &one.sealed));
        let request = CommitmentRequest {
            transaction: transaction_uid(question.transaction)
                .ok_or_else(|| anyhow::anyhow!("no Transaction UID"))?,
            instances: opened
                .map(|one| SopReference { sop_class: one.sop_class, sop_instance: one.sop_instance })
                .collect(),
        };
        let data = Bytes::from(request.write(&syntax)?);
        let answer = association.action((&class, &instance), REQUEST, data).await?;
        match dimse::retry(Service::Action, answer.status) {
            Retry::Done => {}
            Retry::Later | Retry::AfterChange => anyhow::bail!("the destination answered {}", answer.status),
        }
        let until = Timestamp::now().after(self.settings.table.report_timeout.0);
        self.inbound.question_sent(question.id, until).await?;
        let (name, instances) = (&self.destination.settings.name, question.instances.len());
        info!(destination = %name, instances, "storage commitment asked");
        Ok(())
    }

    /// Takes reports until none is owed, or for `stay`.
    async fn stay(&self, association: &mut Requestor, mut sent: Vec<[u8; 16]>) -> anyhow::Result<()> {
        let until = Instant::now() + self.settings.table.stay.0;
        let destinations = [(self.destination.settings.name.clone(), self.settings.again_after())];
        let reports = Reports { inbound: &self.inbound, key: &self.key, destinations: &destinations };
        while !sent.is_empty() && Instant::now() < until {
            let report = match association.next_event_report(TURN).await {
                Ok(report) => report,
                Err(error) => {
                    debug!(destination = %self.destination.settings.name, %error, "the association that asked has ended; the report comes on another");
                    return Ok(());
                }
            };
            if let Some(report) = report {
                let taken =
                    reports.take(&report.request, report.data.reveal(), &report.transfer_syntax).await;
                let (status, comment) = answer(taken);
                if association.respond_event_report(&report, status, comment).await.is_err() {
                    return Ok(());
                }
            }
            // It may have come on an association of the destination's own.
            let mut open = Vec::new();
            for transaction in sent {
                let question = self.inbound.question(transaction).await?;
                if question.is_some_and(|question| question.state != QuestionState::Ended) {
                    open.push(transaction);
                }
            }
            sent = open;
        }
        Ok(())
    }
}

/// Status and comment of an N-EVENT-REPORT-RSP.
pub(super) fn answer(taken: Result<(), Refusal>) -> (Status, Option<&'static str>) {
    match taken {
        Ok(()) => (Status::SUCCESS, None),
        Err(Refusal(status, comment)) => (Status(status), Some(comment)),
    }
}
