//! Peers, relays, routes, watched folders and commitment peers are read again while gateway-out runs: all of it is taken over at once, or nothing.

use std::sync::Arc;

use base::{RouteId, Timestamp};
use serde_json::json;
use service::{
    Fixed, ReloadRequests, Reloaded,
    config::{self, Loaded},
    peers::{LinkChange, Relay, RelaysReloaded},
};
use tracing::info;
use transport::UplinkConfig;

use crate::{app::Shared, config::Config, settings::Settings};

/// Takes over whatever the files say, each time somebody asks. Never ends by itself.
pub async fn run(shared: &Shared, mut requests: ReloadRequests) {
    let mut looked = Timestamp::now();
    let before = tokio::task::block_in_place(|| read(shared)).ok().map(|(loaded, _)| fixed(&loaded));
    loop {
        let request = requests.next().await;
        let reloaded = tokio::task::block_in_place(|| reload(shared, &mut looked, before.as_ref()));
        shared.reloaded(&reloaded);
        request.answer(reloaded);
    }
}

fn read(shared: &Shared) -> Result<(Loaded<Config>, Settings), config::ConfigError> {
    let loaded = config::load::<Config>(&shared.settings.source, config::ENVIRONMENT_PREFIX)?;
    let settings = Config::check(&loaded)?;
    Ok((loaded, settings))
}

/// What is the same for the whole life of the process.
fn fixed(loaded: &Loaded<Config>) -> Fixed {
    const TAKEN_OVER: [&str; 7] =
        ["peer", "relay", "route", "route_defaults", "groups", "commitment", "watch"];
    Fixed::new(&loaded.config, &TAKEN_OVER)
}

fn reload(shared: &Shared, looked: &mut Timestamp, before: Option<&Fixed>) -> Reloaded {
    let (loaded, settings) = read(shared).map_err(|error| error.to_string())?;
    let waiting = before.map_or_else(Vec::new, |before| before.waiting(&fixed(&loaded)));
    if let (Some(running), Some(now)) = (&shared.settings.dicom_tls, &settings.dicom_tls) {
        running.exchange(now);
    }
    shared.settings.commitment.exchange(&settings.commitment);
    let over = shared.settings.routes.exchange(&settings.routes);
    over.iter().for_each(|route: &RouteId| shared.sessions.forget(*route));
    let folders = shared.folders.exchange(&settings.watched);
    let rotated = shared.own.exchange(settings.own);
    if rotated {
        let own = shared.own.now();
        let fingerprint = identity::fingerprint_text(&own.identity.fingerprint());
        info!(fingerprint, card = own.card.serial, "our new keys are used from now on");
        shared.sessions.forget_all();
        shared.witnesses.iter().for_each(|witness| witness.cosign_with(Arc::clone(&own.log_key)));
    }
    shared.files.exchange(Arc::new(settings.files));
    let changed = retarget(shared, looked, settings.relays, rotated);
    shared.dispatch.wake();
    Ok(json!({
        "routes": settings.routes.iter().count(), "folders_changed": folders, "sessions_ended": over.len(),
        "relays_changed": changed, "keys_changed": rotated, "count_from_the_next_start": waiting,
    }))
}

fn retarget(shared: &Shared, looked: &mut Timestamp, later: Vec<Relay>, rotated: bool) -> usize {
    let reloaded = RelaysReloaded::exchange(&shared.pinned_relays, later, looked, rotated);
    let mut changed = 0;
    let links = shared.uplinks.iter().zip(&shared.witnesses);
    for (known, (uplink, witness)) in shared.settings.relays.iter().zip(links) {
        let (change, after) = reloaded.link(&known.name);
        let config = after.map(|relay| {
            witness.pin(&relay.card);
            UplinkConfig::new(relay.address.to_string(), relay.card.clone(), &shared.identity())
        });
        match (change, config) {
            (LinkChange::None, _) => continue,
            (LinkChange::NextTime, Some(config)) => uplink.renew(config),
            (_, config) => uplink.retarget(config),
        }
        changed += 1;
    }
    reloaded.warn_of_new(shared.settings.relays.iter().map(|relay| &relay.name));
    changed
}
