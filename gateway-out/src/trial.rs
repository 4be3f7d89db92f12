//! `check --connect`: relays, our own AE titles, room, clock and cards, tried out. [`far_lines`] is what `check` has a PACS
//! administrator enter.

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::Result;
use base::{AeTitle, Timestamp};
use dimse::{Requestor, RequestorConfig};
use service::{
    admin,
    config::Loaded,
    peers::admin_access,
    ports::{self, reached_at},
    trial::Trial,
};
use transport::{Uplink, UplinkConfig};

use crate::{config::Config, settings::Settings};

/// The AE title that we present to ourselves.
const CALLING: &str = "SLUIS_CHECK";

/// What has to be entered at the PACS, a line for each AE title.
pub(crate) fn far_lines(settings: &Settings) -> Vec<String> {
    let plain = settings.dicom.listen.map(|address| (address, ""));
    let tls = settings.dicom.tls.as_ref().map(|tls| (tls.listen, " over TLS"));
    let doors: Vec<_> = plain.into_iter().chain(tls).collect();
    let line = |ae: &AeTitle| {
        let at =
            doors.iter().map(|(address, tls)| format!("{}{tls}", reached_at(*address))).collect::<Vec<_>>();
        format!("enter at the PACS: AE title {ae} at {}", at.join(" or "))
    };
    titles(settings).iter().map(line).collect()
}

fn titles(settings: &Settings) -> BTreeSet<AeTitle> {
    settings.routes.iter().map(|route| route.ae.clone()).collect()
}

/// Tries everything out and fails when something does not work.
pub(crate) async fn run(loaded: &Loaded<Config>, settings: &Settings) -> Result<()> {
    let (mut trial, now) = (Trial::default(), Timestamp::now());
    let legs = settings.routes.legs();
    let receivers = legs.iter().map(|leg| (&leg.receiver.name, &leg.receiver));
    trial.gateway(&settings.outbox.dir, &settings.own.card, receivers, now).await;
    let status = admin::fetch_status(admin_access(loaded.path())?).await.ok();
    for relay in &settings.relays {
        trial.card(&format!("card of relay {}", relay.name), &relay.card, now);
        match &status {
            Some(status) => trial.relay_of_daemon(relay.name.as_str(), status),
            None => {
                let address = relay.address.to_string();
                let config = UplinkConfig::new(address.clone(), relay.card.clone(), &settings.own.identity);
                let (uplink, _events, task) = Uplink::start(config);
                trial
                    .relay(relay.name.as_str(), &address, || uplink.is_connected(), || uplink.refusal())
                    .await;
                task.stop().await;
            }
        }
    }
    doors(&mut trial, settings, status.is_some()).await;
    trial.finish()
}

/// The DICOM ports: answered by the running daemon, or free for it.
async fn doors(trial: &mut Trial, settings: &Settings, is_running: bool) {
    if !is_running {
        let tls = settings.dicom.tls.as_ref().map(|tls| tls.listen);
        for address in settings.dicom.listen.into_iter().chain(tls) {
            let free = std::net::TcpListener::bind(address);
            let free = free.map(|_| "free for the daemon, which is not running".to_owned());
            trial.outcome(&format!("port {address}"), free.map_err(|error| error.to_string()));
        }
        return;
    }
    let Some(address) = settings.dicom.listen else {
        return trial.warn("own AE titles", "not asked: there is a TLS port only");
    };
    for ae in titles(settings) {
        trial.outcome(&format!("C-ECHO of {ae} at {address}"), echo(address, &ae).await);
    }
}

async fn echo(address: SocketAddr, ae: &AeTitle) -> Result<String, String> {
    let calling = CALLING.parse::<AeTitle>().map_err(|error| error.to_string())?;
    let contexts = vec![(dimse::verification(), dimse::implicit_little_endian())];
    let config = RequestorConfig::new(calling, ae.clone(), contexts);
    let mut association =
        Requestor::connect(ports::local(address), config).await.map_err(|error| error.to_string())?;
    let answered = association.echo().await;
    association.release().await;
    match answered {
        Ok(status) if status.0 == 0 => Ok("answered".to_owned()),
        Ok(status) => Err(format!("answered with status {status}")),
        Err(error) => Err(error.to_string()),
    }
}
