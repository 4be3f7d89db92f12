//! `check --connect`: relays, destinations, room, clock and cards, tried out. [`far_lines`] is what `check` has the administrator
//! of a destination enter.

use std::collections::BTreeMap;

use anyhow::Result;
use base::Timestamp;
use service::{admin, config::Loaded, peers::admin_access, trial::Trial};
use transport::{Downlink, DownlinkConfig};

use crate::{
    commands::answers,
    config::{Config, Settings, Target},
};

/// What has to be entered at each destination.
pub(crate) fn far_lines(settings: &Settings) -> Vec<String> {
    let sorted: BTreeMap<_, _> = settings.destinations.iter().collect();
    let web = |target: &crate::config::StowTarget| {
        let how = match target.credentials.now() {
            Some(_) => "this gateway's credentials",
            None => "this gateway, which shows no credentials,",
        };
        format!(
            "have {} let {how} store, from this host's address: POST {}/studies",
            target.url.authority(),
            target.url.path()
        )
    };
    let line = |target: &crate::config::DicomTarget| {
        let calling = match &target.calling {
            Some(calling) => format!("calling AE title {calling}"),
            None => "the calling AE titles of the senders' PACS (`calling` makes it one)".to_owned(),
        };
        format!(
            "enter at {} ({}): {calling}, from this host's address; it calls {}",
            target.ae, target.address, target.ae
        )
    };
    let lines = sorted.values().filter_map(|one| match &one.target {
        Target::Dicom(target) => Some(line(target)),
        Target::Stow(target) => Some(web(target)),
        Target::Folder(_) => None,
    });
    lines.collect()
}

/// Tries everything out and fails when something does not work.
pub(crate) async fn run(loaded: &Loaded<Config>, settings: &Settings) -> Result<()> {
    let (mut trial, now) = (Trial::default(), Timestamp::now());
    let senders = settings.routes.values().map(|route| (&route.from, &route.sender));
    trial.gateway(&settings.ledger_dir, &settings.own.card, senders, now).await;
    let status = admin::fetch_status(admin_access(loaded.path())?).await.ok();
    for relay in &settings.relays {
        trial.card(&format!("card of relay {}", relay.name), &relay.card, now);
        match &status {
            Some(status) => trial.relay_of_daemon(relay.name.as_str(), status),
            None => {
                let address = relay.address.to_string();
                let config = DownlinkConfig::new(address.clone(), relay.card.clone(), &settings.own.identity);
                let (downlink, _events, task) = Downlink::start(config);
                let refusal = || downlink.refusal();
                trial.relay(relay.name.as_str(), &address, || downlink.is_connected(), refusal).await;
                task.stop().await;
            }
        }
    }
    let sorted: BTreeMap<_, _> = settings.destinations.iter().collect();
    for (name, destination) in sorted {
        let what = match &destination.target {
            Target::Dicom(target) => {
                format!("destination {name}, C-ECHO of {} at {}", target.ae, target.address)
            }
            Target::Stow(target) => {
                format!("destination {name}, a POST of nothing to {}/studies", target.url)
            }
            Target::Folder(folder) => format!("destination {name}, folder {}", folder.display()),
        };
        trial.outcome(&what, answers(loaded, destination, status.is_some()).await);
    }
    trial.finish()
}
