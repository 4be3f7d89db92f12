//! Peers, relays, routes and commitment peers are read again while gateway-out runs: all of it is taken over at once, or nothing.

use base::RouteId;
use serde_json::{Value, json};
use service::{
    ReloadRequests, Reloaded,
    config::{self, Loaded},
    peers::Relay,
};
use tracing::warn;
use transport::UplinkConfig;

use crate::{app::Shared, config::Config, settings::Settings};

/// Takes over whatever the files say, each time somebody asks. Never ends by itself.
pub async fn run(shared: &Shared, mut requests: ReloadRequests) {
    let mut relays = shared.settings.relays.clone();
    let fixed = tokio::task::block_in_place(|| read(shared)).ok().map(|(loaded, _)| fixed_part(&loaded));
    loop {
        let request = requests.next().await;
        let reloaded = tokio::task::block_in_place(|| reload(shared, &mut relays, fixed.as_ref()));
        shared.reloaded(&reloaded);
        request.answer(reloaded);
    }
}

fn read(shared: &Shared) -> Result<(Loaded<Config>, Settings), config::ConfigError> {
    let loaded = config::load::<Config>(&shared.settings.source, config::ENVIRONMENT_PREFIX)?;
    let settings = Config::check(&loaded)?;
    Ok((loaded, settings))
}

fn reload(shared: &Shared, relays: &mut Vec<Relay>, fixed: Option<&Value>) -> Reloaded {
    let (loaded, settings) = read(shared).map_err(|error| error.to_string())?;
    if Some(&fixed_part(&loaded)) != fixed {
        warn!(
            "only peers, relays, routes, commitment and certificates are taken over; the other changes take effect at the next start"
        );
    }
    if let (Some(running), Some(now)) = (&shared.settings.dicom_tls, &settings.dicom_tls) {
        running.exchange(now);
    }
    shared.settings.commitment.exchange(&settings.commitment);
    let over = shared.settings.routes.exchange(&settings.routes);
    over.iter().for_each(|route: &RouteId| shared.sessions.forget(*route));
    let changed = retarget(shared, relays, &settings.relays);
    shared.dispatch.wake();
    Ok(
        json!({ "routes": settings.routes.iter().count(), "sessions_ended": over.len(), "relays_changed": changed }),
    )
}

/// Links of relays that are gone end, those with another address or card begin anew.
fn retarget(shared: &Shared, relays: &mut Vec<Relay>, now: &[Relay]) -> usize {
    let mut changed = 0;
    for (known, uplink) in shared.settings.relays.iter().zip(&shared.uplinks) {
        let earlier = relays.iter().find(|relay| relay.name == known.name);
        let later = now.iter().find(|relay| relay.name == known.name);
        if earlier != later {
            changed += 1;
            uplink.retarget(later.map(|relay| {
                UplinkConfig::new(relay.address.to_string(), relay.card.clone(), shared.identity())
            }));
        }
    }
    for added in
        now.iter().filter(|relay| !shared.settings.relays.iter().any(|known| known.name == relay.name))
    {
        warn!(relay = %added.name, "a new relay is used from the next start on");
    }
    now.clone_into(relays);
    changed
}

/// What is the same for the whole life of the process.
fn fixed_part(loaded: &Loaded<Config>) -> Value {
    let mut value = serde_json::to_value(&loaded.config).unwrap_or_default();
    if let Value::Object(tables) = &mut value {
        for table in ["peer", "relay", "route", "route_defaults", "groups", "commitment"] {
            tables.remove(table);
        }
    }
    value
}
