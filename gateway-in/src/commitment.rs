//! Storage Commitment Push Model (PS3.4 Annex J) as SCU: destinations with `means = "committed"` are asked to commit to what
//! they have stored, and senders are told by a second receipt.
//!
//! ```text
//! C-STORE-RSP ─▶ pledge ─▶ question ─▶ N-ACTION ─▶ N-EVENT-REPORT ─▶ written down ─▶ answered
//!                                       first receipt acknowledged ─┬─▶ second receipt ─▶ sender
//!                                                                   └─ what the destination said
//! ```

mod ask;
pub mod config;
mod listen;
mod second;
pub(crate) mod told;

use std::sync::Arc;

use base::Timestamp;
use service::{Tasks, own::LiveOwn};
use spool::{LedgerKey, NewPledge, PledgedInstance};
use tracing::warn;
use transport::Downlink;

pub use config::{AskSettings, AskTable, CommitmentSettings, CommitmentTable, Means};
pub use listen::Ports;
pub(crate) use second::settle_again;

use crate::{config::Target, inbox::Inbox};

/// What is asked for of an instance that a destination has stored.
pub(crate) fn pledge(
    key: &LedgerKey,
    object: base::ObjectId,
    sender: &base::Name,
    instance: &PledgedInstance,
    study: Option<&base::Phi<base::Uid>>,
) -> Option<NewPledge> {
    let group = key.group(sender, &instance.calling, study);
    Some(NewPledge { group, sealed: key.seal(object, instance)? })
}

/// Starts what asks, listens and tells; nothing, where no destination is asked.
pub(crate) async fn start(
    inbox: &Arc<Inbox>,
    settings: Option<&CommitmentSettings>,
    ports: Ports,
    (own, downlinks): (LiveOwn, Vec<Downlink>),
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let mut asked = Vec::new();
    for destination in inbox.all_destinations() {
        let name = destination.settings.name.clone();
        let parts = (&destination.settings.target, &destination.settings.commitment, settings);
        if let (Target::Dicom(target), Some(ask), Some(settings)) = parts {
            asked.push(Arc::clone(&destination.settings));
            let asker = ask::Asker {
                destination: Arc::clone(destination),
                target: target.clone(),
                settings: ask.clone(),
                inbound: inbox.inbound.clone(),
                key: Arc::clone(&settings.key),
            };
            tasks.spawn(format!("commitment of {name}"), asker.run(tasks.token()));
        }
    }
    let is_asked = |name: &base::Name| asked.iter().any(|settings| settings.name == *name);
    for name in inbox.inbound.pledging_destinations().await?.into_iter().filter(|name| !is_asked(name)) {
        // Under an earlier configuration it was asked: whoever waits hears that nothing more will come.
        let now = Timestamp::now();
        let (_, given_up) = inbox.inbound.questions_expire(name.clone(), now, now).await?;
        warn!(destination = %name, instances = given_up, "a destination that was asked to commit is not configured any more, or not to be asked: it counts as silent");
    }
    tasks.spawn("second receipts", second::run(Arc::clone(inbox), own, downlinks, tasks.token()));
    if let (Some(settings), false) = (settings, asked.is_empty()) {
        let desk = listen::Desk {
            inbound: inbox.inbound.clone(),
            key: Arc::clone(&settings.key),
            destinations: asked,
        };
        tasks.spawn("commitment reports", listen::run(Arc::new(desk), ports, tasks.token()));
    }
    Ok(())
}
