//! What a destination accepts: associations that propose one SOP class in one transfer syntax per presentation context,
//! one association after another, each released as soon as it is answered.

use std::time::Duration;

use base::{AeTitle, Uid};
use dimse::{ConnectError, ContextAnswer, ContextRejection};
use enquiry::{Finding, Findings};
use tokio::time::{Instant, sleep};

use super::{DicomDestination, dial::dial};
use crate::config::DicomTarget;

/// Presentation contexts of one association (PS3.8 §9.3.2.2).
const CONTEXTS_MAX: usize = dimse::limits::CONTEXTS_MAX;
/// Between two associations of a probe.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a probe waits, before each of its associations, for instances under way to be delivered first.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(250);

/// Why nothing was learnt. What is known from before stays.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailed {
    /// An association was rejected, aborted or did not come in time.
    #[error("association {number} of {of}: {error}")]
    Association {
        /// Which.
        number: usize,
        /// Of how many.
        of: usize,
        /// Why.
        error: ConnectError,
    },
    /// Every context was rejected: no archive is like that for long, and a table of nothing would refuse all.
    #[error("the destination accepted none of {0} presentation contexts; a table of nothing is not believed")]
    Nothing(usize),
    /// There is nothing to propose, or nobody to propose it as.
    #[error("{0}")]
    NotConfigured(&'static str),
}

/// How far a probe is going to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Presentation contexts.
    pub contexts: usize,
    /// Associations.
    pub associations: usize,
}

impl Ahead {
    /// Of this destination.
    pub fn of(target: &DicomTarget) -> Self {
        let contexts = target.probe.classes.len() * target.probe.syntaxes.len();
        Self { contexts, associations: contexts.div_ceil(CONTEXTS_MAX) }
    }
}

/// Asks about every pair. `beside` are the associations of a running gateway, which go first.
pub async fn probe(target: &DicomTarget, beside: Option<&DicomDestination>) -> Result<Findings, ProbeFailed> {
    let Some(calling) = target.probe_calling() else {
        return Err(ProbeFailed::NotConfigured(
            "with calling = \"original\" a probe needs an AE title of its own: set probe_calling",
        ));
    };
    let pairs: Vec<(Uid, Uid)> = target
        .probe
        .syntaxes
        .iter()
        .flat_map(|syntax| target.probe.classes.iter().map(|class| (class.clone(), syntax.clone())))
        .collect();
    let of = Ahead::of(target).associations;
    let mut found = Vec::with_capacity(pairs.len());
    for (number, contexts) in (1..).zip(pairs.chunks(CONTEXTS_MAX)) {
        if let Some(beside) = beside {
            let_pass(beside).await;
        }
        // Gentle, and the time that idle associations take to give way.
        if number > 1 || beside.is_some() {
            sleep(PAUSE).await;
        }
        let answers = associate(target, calling, contexts).await;
        found.extend(answers.map_err(|error| ProbeFailed::Association { number, of, error })?);
    }
    let findings: Findings = found.into_iter().collect();
    match findings.count(Finding::Accepted) {
        0 => Err(ProbeFailed::Nothing(pairs.len())),
        _ => Ok(findings),
    }
}

/// Instances go first, and idle associations give way.
async fn let_pass(beside: &DicomDestination) {
    let until = Instant::now() + PATIENCE;
    while beside.pending() > 0 && Instant::now() < until {
        sleep(LOOK).await;
    }
    beside.give_way();
}

async fn associate(
    target: &DicomTarget,
    calling: &AeTitle,
    contexts: &[(Uid, Uid)],
) -> Result<Vec<((Uid, Uid), Finding)>, ConnectError> {
    let association = dial(target, calling.clone(), contexts.to_vec(), Duration::MAX).await?;
    let results = association.results().iter().map(|result| {
        ((result.abstract_syntax.clone(), result.transfer_syntax.clone()), finding(result.answer))
    });
    let mut found: Vec<_> = results.collect();
    association.release().await;
    // Whatever has no answer at all was asked about all the same.
    let missing: Vec<_> =
        contexts.iter().filter(|pair| !found.iter().any(|(known, _)| known == *pair)).collect();
    found.extend(missing.into_iter().map(|pair| (pair.clone(), Finding::Unknown)));
    Ok(found)
}

/// Only a rejection by name says that a destination does not take something.
fn finding(answer: ContextAnswer) -> Finding {
    match answer {
        ContextAnswer::Accepted => Finding::Accepted,
        ContextAnswer::Rejected(
            ContextRejection::AbstractSyntaxNotSupported | ContextRejection::TransferSyntaxesNotSupported,
        ) => Finding::Rejected,
        ContextAnswer::Rejected(ContextRejection::UserRejection | ContextRejection::NoReason)
        | ContextAnswer::Unclear => Finding::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_results_3_and_4_say_that_something_is_not_accepted() {
        let cases = [
            (ContextAnswer::Accepted, Finding::Accepted),
            (ContextAnswer::Rejected(ContextRejection::UserRejection), Finding::Unknown),
            (ContextAnswer::Rejected(ContextRejection::NoReason), Finding::Unknown),
            (ContextAnswer::Rejected(ContextRejection::AbstractSyntaxNotSupported), Finding::Rejected),
            (ContextAnswer::Rejected(ContextRejection::TransferSyntaxesNotSupported), Finding::Rejected),
            (ContextAnswer::Unclear, Finding::Unknown),
        ];
        for (answer, want) in cases {
            assert_eq!(finding(answer), want, "{answer:?}");
        }
    }
}
