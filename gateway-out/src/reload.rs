//! Peers, relays, routes, watched folders and commitment peers are read again while gateway-out runs: all of it is taken over at once, or nothing.

use std::sync::Arc;

use base::{RouteId, Timestamp};
use serde_json::json;
use service::{
    Fixed, ReloadRequests, Reloaded, config,
    peers::{LinkChange, Relay, RelaysReloaded},
};
use tracing::info;
use transport::UplinkConfig;

use crate::{app::Shared, config::Config, folders, settings::Settings};

/// Takes over whatever the files say, each time somebody asks. Never ends by itself.
pub async fn run(shared: &Shared, mut requests: ReloadRequests) {
    let mut looked = Timestamp::now();
    loop {
        let request = requests.next().await;
        let reloaded = tokio::task::block_in_place(|| reload(shared, &mut looked));
        shared.reloaded(&reloaded);
        request.answer(reloaded);
    }
}

/// A configuration that this process can take over.
fn read(shared: &Shared) -> Result<Settings, config::ConfigError> {
    let loaded = config::load::<Config>(&shared.settings.source, config::ENVIRONMENT_PREFIX)?;
    let settings = Config::check(&loaded)?;
    if let Some(why) = shared.own.refuses(&settings.own) {
        return Err(loaded.error("identity", why));
    }
    // Another outbox counts from the next start: until then, what lies in this one must not be taken for something that was dropped.
    shared.settings.ours.refuse(&loaded, &settings.watched, "of the running process: ")?;
    Ok(settings)
}

/// What is the same for the whole life of the process. Paths of certificates are read anew, wherever they lead.
pub(crate) fn fixed(config: &Config) -> Fixed {
    const TAKEN_OVER: [&str; 12] = [
        "peer",
        "relay",
        "route",
        "route_defaults",
        "groups",
        "commitment",
        "watch",
        "dicom.tls.cert",
        "dicom.tls.key",
        "dicom.tls.clients",
        "dicom.user_identity",
        "dicom.users",
    ];
    Fixed::new(config, &TAKEN_OVER)
}

fn reload(shared: &Shared, looked: &mut Timestamp) -> Reloaded {
    let settings = read(shared).map_err(|error| error.to_string())?;
    let mut waiting = shared.settings.fixed.waiting(&settings.fixed);
    if let (Some(running), Some(now)) = (&shared.settings.dicom_tls, &settings.dicom_tls) {
        running.exchange(now);
    }
    shared.settings.identities.exchange(settings.identities.now());
    shared.settings.commitment.exchange(&settings.commitment);
    let over = shared.settings.routes.exchange(&settings.routes);
    over.iter().for_each(|route: &RouteId| shared.sessions.forget(*route));
    let folders = shared.folders.exchange(&settings.watched);
    if folders::wait_for_the_next_start(shared) {
        waiting.push("watch".to_owned());
    }
    let rotated = shared.own.exchange(settings.own);
    if rotated {
        let own = shared.own.now();
        let fingerprint = identity::fingerprint_text(&own.identity.fingerprint());
        info!(fingerprint, card = own.card.serial, "our new keys are used from now on");
        shared.sessions.forget_all();
        shared.witnesses.iter().for_each(|witness| witness.cosign_with(Arc::clone(&own.log_key)));
    }
    shared.files.exchange(Arc::new(settings.files));
    let (changed, relays_waiting) = retarget(shared, looked, settings.relays, rotated);
    waiting.extend(relays_waiting);
    shared.dispatch.wake();
    Ok(json!({
        "routes": settings.routes.iter().count(), "folders_changed": folders, "sessions_ended": over.len(),
        "relays_changed": changed, "keys_changed": rotated, "count_from_the_next_start": waiting,
    }))
}

fn retarget(
    shared: &Shared,
    looked: &mut Timestamp,
    later: Vec<Relay>,
    rotated: bool,
) -> (usize, Vec<String>) {
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
    (changed, reloaded.waiting(shared.settings.relays.iter().map(|relay| &relay.name)))
}
