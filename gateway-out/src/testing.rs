//! Made-up values for tests.

use std::time::Duration;

use base::{AeTitle, Name, RouteId, Secret};
use dimse::{Proposal, ProposedContext};
use envelope::Suite;
use identity::{CardFields, IdentityKey};
use service::own::OwnKeys;

use crate::{
    config::{ChangedContent, Config, Echo, Negotiate, Respond},
    init,
    pace::Pace,
    routes::{Callers, Leg, Legs, Route},
    settings::Settings,
};

/// A route that anybody on loopback may use.
pub(crate) fn route(ae: &str) -> Route {
    Route {
        ae: AeTitle::parse(ae).unwrap(),
        legs: Legs::one(leg(ae)),
        respond: Respond::Spooled,
        index: 0,
        calling: Callers::Any,
        sources: vec!["127.0.0.0/8".parse().unwrap()],
        when: None,
        private_sop_classes: true,
        changed_content: ChangedContent::Accept,
        prefer: Vec::new(),
        negotiate: Negotiate::All,
        echo: Echo::Local,
        echo_timeout: Duration::from_secs(5),
        pseudonymize: None,
    }
}

/// What a PACS proposes with these contexts and nothing else.
pub(crate) fn proposal(contexts: Vec<ProposedContext>) -> Proposal {
    Proposal {
        peer: "127.0.0.1:4000".parse().unwrap(),
        calling: AeTitle::parse("CT1").unwrap(),
        called: AeTitle::parse("GW").unwrap(),
        contexts,
        max_pdu: 16_384,
        implementation: dimse::Implementation::default(),
        roles: Vec::new(),
        async_window: None,
        user_identity: None,
        extended: Vec::new(),
        common_extended: Vec::new(),
        other_items: Vec::new(),
    }
}

/// Its only leg.
pub(crate) fn leg(ae: &str) -> Leg {
    let receiver =
        IdentityKey::generate(Name::parse("receiver").unwrap(), &Secret::new([7; identity::SEEDS_BYTES]));
    Leg {
        id: RouteId([9; 16]),
        ae: AeTitle::parse(ae).unwrap(),
        receiver: receiver.card(CardFields::new(1, &[Suite::B.code()])),
        destination: Name::parse("PACS").unwrap(),
        urgency: wire::Urgency::Normal,
        windows: None,
        pace: Pace::default(),
        suite: Suite::B,
    }
}

/// The checked configuration of a gateway with two peers, site-a and site-b, and these tables; or the error. The tables
/// are a file of their own, `routes.toml`, so that places in it count from 1.
pub(crate) fn checked(tables: &str) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let name = |name: &str| Name::parse(name).unwrap();
    let keys = init::create_keys(&path("keys"), &name("out")).unwrap();
    init::write_card(&path("out.card"), &keys).unwrap();
    for other in ["relay", "site-a", "site-b"] {
        let keys = OwnKeys::create(&path(other), "gateway-in", &name(other)).unwrap();
        init::write_card(&path(&format!("{other}.card")), &keys).unwrap();
    }
    let local = "127.0.0.1:1".parse().unwrap();
    let text = init::config_text(&init::Options {
        listen: local,
        admin: local,
        outbox: "outbox".into(),
        keys: "keys".into(),
        card: "out.card".into(),
        relays: vec![(name("relay"), local, "relay.card".into())],
        peers: ["site-a", "site-b"].map(|peer| (name(peer), format!("{peer}.card").into())).into(),
        routes: Vec::new(),
    });
    std::fs::write(path("x.toml"), text).unwrap();
    std::fs::create_dir_all(path("conf.d/x")).unwrap();
    std::fs::write(path("conf.d/x/routes.toml"), tables).unwrap();
    let loaded = service::config::load_with::<Config>(&path("x.toml"), "SLUIS_", Vec::new());
    let checked = loaded.and_then(|loaded| Config::check(&loaded));
    let folder = format!("{}/", path("conf.d/x").display());
    checked.map_err(|error| error.to_string().replace(&folder, ""))
}
