//! Whether a destination answers now: one C-ECHO on an association of its own, or a POST of nothing, for whoever asks from afar
//! or here.

use std::time::Duration;

use base::AeTitle;
use dimse::{AssociationError, ConnectError, EchoError};
use enquiry::{EchoAnswer, EchoOutcome};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout},
};
use tracing::warn;

use super::{Destination, Running, dial::dial, stow::echo_stow};
use crate::config::{DicomTarget, Target};

/// An answer of this age still counts as now: a destination is asked once in it at most, whoever asks how often.
const FRESH: Duration = Duration::from_secs(1);

/// What came last. The lock is held while the destination is asked, so that askers stand in line, and those
/// behind get the answer of the one in front.
#[derive(Debug, Default)]
pub(super) struct Echoes(Mutex<Option<Last>>);

#[derive(Debug)]
struct Last {
    at: Instant,
    asker: Option<AeTitle>,
    answer: EchoAnswer,
}

impl Echoes {
    pub(super) async fn ask(&self, of: &Destination, asker: Option<AeTitle>, within: Duration) -> EchoAnswer {
        let began = Instant::now();
        let asking = async {
            let mut last = self.0.lock().await;
            if let Some(last) = last.as_ref().filter(|last| last.at.elapsed() < FRESH) {
                if last.asker == asker {
                    return last.answer;
                }
                // What the destination says to one AE title is no answer to another.
                sleep_until(last.at + FRESH).await;
            }
            let left = within.saturating_sub(began.elapsed());
            let asked = Instant::now();
            let outcome = once(of, asker.clone(), left).await;
            let answer = EchoAnswer { outcome, took_ms: millis(asked.elapsed()) };
            *last = Some(Last { at: Instant::now(), asker, answer });
            answer
        };
        let late = EchoAnswer { outcome: EchoOutcome::TimedOut, took_ms: millis(within) };
        timeout(within, asking).await.unwrap_or(late)
    }
}

async fn once(of: &Destination, asker: Option<AeTitle>, within: Duration) -> EchoOutcome {
    match (&of.kind, &of.settings.target) {
        (Running::Dicom(destination), Target::Dicom(target)) => {
            destination.give_way();
            echo_dicom(target, asker, within).await
        }
        (Running::Folder(folder, _), _) => {
            let folder = folder.clone();
            match tokio::task::spawn_blocking(move || folder.try_write()).await {
                Ok(Ok(())) => EchoOutcome::Answered,
                _ => EchoOutcome::Folder,
            }
        }
        (Running::Stow(_), Target::Stow(target)) => echo_stow(target, within).await,
        (Running::Dicom(_) | Running::Stow(_), _) => EchoOutcome::Gone,
    }
}

/// One C-ECHO. The AE title is that which the destination knows us by; where it is to see the original one, that of
/// whoever asks, and for want of one that of a probe, or its own.
pub async fn echo_dicom(target: &DicomTarget, asker: Option<AeTitle>, within: Duration) -> EchoOutcome {
    let known = target.calling.clone().or(asker).or_else(|| target.probe.calling.clone());
    let calling = known.unwrap_or_else(|| target.ae.clone());
    let verification = (dimse::verification(), dimse::implicit_little_endian());
    let asking = async {
        let mut association = match dial(target, calling, vec![verification], within).await {
            Ok(association) => association,
            Err(error) => {
                if matches!(error, ConnectError::Tls(_)) {
                    warn!(ae = %target.ae, address = %target.address, %error, "no TLS with the destination");
                }
                return not_connected(&error);
            }
        };
        let answered = association.echo().await;
        association.release().await;
        match answered {
            Ok(status) if status.0 == 0 => EchoOutcome::Answered,
            Ok(status) => EchoOutcome::Status(status.0),
            Err(EchoError::NotAccepted) => EchoOutcome::NotAccepted,
            Err(EchoError::Failed(AssociationError::TimedOut(_))) => EchoOutcome::TimedOut,
            Err(_) => EchoOutcome::Ended,
        }
    };
    timeout(within, asking).await.unwrap_or(EchoOutcome::TimedOut)
}

fn not_connected(error: &ConnectError) -> EchoOutcome {
    match error {
        ConnectError::Rejected(why) => {
            EchoOutcome::Rejected(why.result_code(), why.source_code(), why.reason_code())
        }
        ConnectError::TimedOut(_) => EchoOutcome::TimedOut,
        ConnectError::Failed(_) => EchoOutcome::Ended,
        _ => EchoOutcome::Unreachable,
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
