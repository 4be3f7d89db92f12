//! Made-up values for tests.

use base::{AeTitle, Name, RouteId, Secret};
use envelope::Suite;
use identity::{CardFields, IdentityKey};

use crate::{
    config::{ChangedContent, Respond},
    routes::Route,
};

/// A route that anybody on loopback may use.
pub(crate) fn route(ae: &str) -> Route {
    let receiver =
        IdentityKey::generate(Name::parse("receiver").unwrap(), &Secret::new([7; identity::SEEDS_BYTES]));
    Route {
        id: RouteId([9; 16]),
        ae: AeTitle::parse(ae).unwrap(),
        receiver: receiver.card(CardFields::new(1, &[Suite::B.code()])),
        destination: Name::parse("PACS").unwrap(),
        suite: Suite::B,
        respond: Respond::Spooled,
        calling: None,
        sources: vec!["127.0.0.0/8".parse().unwrap()],
        private_sop_classes: true,
        changed_content: ChangedContent::Accept,
        prefer: Vec::new(),
    }
}
