//! Which route a called AE title names, who may use it, and where its instances go.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base::{AeTitle, DeliveryId, Name, ObjectId, RouteId, Timestamp, Uid};
use envelope::Suite;
use identity::PeerCard;
use ipnet::IpNet;
use wildmatch::WildMatch;
use wire::Urgency;

use crate::{
    config::{ChangedContent, Echo, Negotiate, Respond},
    pace::Pace,
    pseudonymize::Pseudonymization,
    routing::Candidates,
    rule::Rule,
    windows::{Opening, Windows},
};

/// One AE title of ours, who may use it, and the ways that its instances take.
#[derive(Debug)]
pub struct Route {
    /// The AE title that the PACS calls.
    pub ae: AeTitle,
    /// Where its instances go: each of them to all of these.
    pub legs: Legs,
    /// When the PACS sees success.
    pub respond: Respond,
    /// Its place among the `[[route]]` tables, from 0.
    pub index: usize,
    /// Who may call.
    pub calling: Callers,
    /// From which networks.
    pub sources: Vec<IpNet>,
    /// Which instances it takes; `None` is all.
    pub when: Option<Rule>,
    /// Whether SOP classes outside the storage table pass.
    pub private_sop_classes: bool,
    /// What a known UID with other content gets.
    pub changed_content: ChangedContent,
    /// Transfer syntaxes, most wanted first.
    pub prefer: Vec<Uid>,
    /// What the PACS is offered.
    pub negotiate: Negotiate,
    /// Who answers a C-ECHO.
    pub echo: Echo,
    /// The longest wait for the destination's answer to one.
    pub echo_timeout: Duration,
    /// How its instances are pseudonymized; `None`: they pass as they are.
    pub pseudonymize: Option<Pseudonymization>,
}

/// The way to one destination behind one receiving gateway. Each has deliveries, a lane, a session and a queue
/// of its own: one that stands still holds up no other.
#[derive(Debug)]
pub struct Leg {
    /// Random id shared with the receiver.
    pub id: RouteId,
    /// The AE title of its route, for log lines.
    pub ae: AeTitle,
    /// The receiver's pinned entry.
    pub receiver: PeerCard,
    /// The destination's name at the receiver.
    pub destination: Name,
    /// Whether its instances go before those of other legs: at the uplink, at the relay, and at the destination.
    pub urgency: Urgency,
    /// When deposits may begin; `None` is always.
    pub windows: Option<Windows>,
    /// How fast they go.
    pub pace: Pace,
    /// Cipher suite; never negotiated. The body is sealed once, so it is the same for all legs of a route.
    pub suite: Suite,
}

impl Leg {
    /// Until when deposits have to wait for the window, if they have to.
    pub fn closed_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.windows.as_ref()?.at(now) {
            Opening::Open => None,
            Opening::Opens(at) => Some(at),
        }
    }

    /// The id of this object's delivery along this way.
    pub fn delivery(&self, sender: &Name, object: ObjectId) -> DeliveryId {
        DeliveryId::derive(sender, object, self.id, &self.destination)
    }
}

/// The legs of one route, in the order of the file: one at least.
#[derive(Debug, Clone)]
pub struct Legs {
    first: Arc<Leg>,
    others: Vec<Arc<Leg>>,
}

impl Legs {
    /// A route to one destination.
    pub fn one(leg: Leg) -> Self {
        Self { first: Arc::new(leg), others: Vec::new() }
    }

    /// A route to several; `None` where there is none.
    pub fn new(legs: Vec<Leg>) -> Option<Self> {
        let mut legs = legs.into_iter().map(Arc::new);
        Some(Self { first: legs.next()?, others: legs.collect() })
    }

    /// Of legs that are there already.
    #[cfg(test)]
    pub(crate) fn of(legs: Vec<Arc<Leg>>) -> Option<Self> {
        let mut legs = legs.into_iter();
        Some(Self { first: legs.next()?, others: legs.collect() })
    }

    /// The first one, which is the only one of most routes.
    pub fn first(&self) -> &Arc<Leg> {
        &self.first
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Leg>> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// Who may call.
#[derive(Debug, Clone)]
pub enum Callers {
    /// Anybody.
    Any,
    /// Titles that one of these patterns fits: `CT*`, `MR?`. Case-sensitive, as AE titles are.
    Like(Vec<WildMatch>),
}

impl Callers {
    fn contain(&self, calling: &AeTitle) -> bool {
        match self {
            Self::Any => true,
            Self::Like(patterns) => patterns.iter().any(|pattern| pattern.matches(calling.as_str())),
        }
    }
}

impl Route {
    /// Whether an association of this peer may use the route.
    pub fn admits(&self, calling: &AeTitle, source: IpAddr) -> Result<(), Refusal> {
        if !self.sources.iter().any(|net| net.contains(&source)) {
            return Err(Refusal::Source);
        }
        if self.calling.contain(calling) { Ok(()) } else { Err(Refusal::Calling) }
    }
}

/// Why no route serves an association. A source address that is not listed looks to the peer like a
/// calling AE title that is not (PS3.8 Table 9-21 has no closer reason); the log tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No route has this AE title.
    #[error("called AE title is no route's")]
    Called,
    /// The route does not list the calling AE title.
    #[error("calling AE title is not listed for the route")]
    Calling,
    /// The route does not list the source address.
    #[error("source address is not listed for the route")]
    Source,
}

/// All routes. A reload exchanges them; whoever has one already keeps it to the end of what it does.
///
/// The lock guards the list only and is never held across an await.
#[derive(Debug, Default)]
pub struct Routes(RwLock<Arc<Table>>);

#[derive(Debug, Default)]
struct Table {
    routes: Vec<Arc<Route>>,
    /// Of all routes, the most urgent first, else in the order of the file.
    legs: Arc<[Arc<Leg>]>,
    by_id: HashMap<RouteId, Arc<Leg>>,
}

impl Table {
    fn new(routes: Vec<Arc<Route>>) -> Self {
        let mut legs: Vec<_> = routes.iter().flat_map(|route| route.legs.iter()).cloned().collect();
        legs.sort_by_key(|leg| Reverse(leg.urgency));
        let legs: Arc<[_]> = legs.into();
        let by_id = legs.iter().map(|leg| (leg.id, Arc::clone(leg))).collect();
        Self { routes, legs, by_id }
    }
}

impl Routes {
    /// Takes routes in the order of the file. The ids of all their legs are known to be unique.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        Self(RwLock::new(Arc::new(Table::new(routes))))
    }

    /// The routes that this association may use; where there is none, why its first one is closed to it.
    pub fn admit(&self, calling: &AeTitle, called: &AeTitle, source: IpAddr) -> Result<Candidates, Refusal> {
        let (mut open, mut refusal) = (Vec::new(), None);
        for route in self.now().routes.iter().filter(|route| route.ae == *called) {
            match route.admits(calling, source) {
                Ok(()) => open.push(Arc::clone(route)),
                Err(closed) => {
                    refusal.get_or_insert(closed);
                }
            }
        }
        Candidates::new(open).ok_or_else(|| refusal.unwrap_or(Refusal::Called))
    }

    /// The leg with this id.
    pub fn leg(&self, id: RouteId) -> Option<Arc<Leg>> {
        self.now().by_id.get(&id).cloned()
    }

    /// The legs of all routes, the most urgent first, else in the order of the file.
    pub fn legs(&self) -> Arc<[Arc<Leg>]> {
        Arc::clone(&self.now().legs)
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Route>> + use<> {
        self.now().routes.clone().into_iter()
    }

    /// Exchanges all of them. Gives the legs that are gone, or lead to other keys: their sessions are over.
    pub fn exchange(&self, routes: &Self) -> Vec<RouteId> {
        let now = routes.now();
        let earlier =
            std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), Arc::clone(&now));
        let goes_on = |leg: &Arc<Leg>| {
            now.by_id
                .get(&leg.id)
                .is_some_and(|now| now.receiver.continues(&leg.receiver) && now.suite == leg.suite)
        };
        earlier.legs.iter().filter(|leg| !goes_on(leg)).map(|leg| leg.id).collect()
    }

    /// The configured title nearest to one that was refused: "did you mean GW_MUNICH?"
    pub fn nearest(&self, called: &AeTitle) -> Option<AeTitle> {
        let distance = |title: &AeTitle| {
            strsim::damerau_levenshtein(
                &title.as_str().to_ascii_uppercase(),
                &called.as_str().to_ascii_uppercase(),
            )
        };
        self.iter().map(|route| route.ae.clone()).min_by_key(distance).filter(|title| distance(title) <= 4)
    }

    fn now(&self) -> Arc<Table> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{leg, route};

    #[test]
    fn an_association_finds_its_route_or_the_reason_why_not() {
        let mut listed = route("GW_MUNICH");
        listed.calling = Callers::Like(["CT1", "MR?", "US_*"].map(WildMatch::new).into());
        let routes = Routes::new(vec![Arc::new(listed), Arc::new(route("GW_ANY"))]);
        let local = "127.0.0.1".parse().unwrap();
        let cases = [
            ("CT1", "GW_MUNICH", local, None),
            ("ct1", "GW_MUNICH", local, Some(Refusal::Calling)),
            ("CT12", "GW_MUNICH", local, Some(Refusal::Calling)),
            ("MR7", "GW_MUNICH", local, None),
            ("US_ROOM_3", "GW_MUNICH", local, None),
            ("CT1", "gw_munich", local, Some(Refusal::Called)),
            ("CT1", "GW_MUNICH", "192.0.2.1".parse().unwrap(), Some(Refusal::Source)),
            ("OTHER", "GW_ANY", local, None),
        ];
        for (calling, called, source, want) in cases {
            let got = routes
                .admit(&AeTitle::parse(calling).unwrap(), &AeTitle::parse(called).unwrap(), source)
                .err();
            assert_eq!(got, want, "{calling} → {called} from {source}");
        }
        assert_eq!(
            routes.nearest(&AeTitle::parse("GW_MUNCIH").unwrap()).as_ref().map(AeTitle::as_str),
            Some("GW_MUNICH")
        );
        assert_eq!(routes.nearest(&AeTitle::parse("STORESCP").unwrap()), None);
    }

    #[test]
    fn an_exchange_tells_which_sessions_are_over() {
        let with = |id: u8, seed: u8, sources: &str| {
            let key = identity::IdentityKey::generate(
                Name::parse("receiver").unwrap(),
                &base::Secret::new([seed; identity::SEEDS_BYTES]),
            );
            let mut made = route("GW");
            let mut leg = leg("GW");
            leg.id = RouteId([id; 16]);
            leg.receiver = key.card(identity::CardFields::new(1, &[]));
            made.legs = Legs::one(leg);
            made.sources = vec![sources.parse().unwrap()];
            Arc::new(made)
        };
        let routes = Routes::new(vec![
            with(1, 1, "127.0.0.0/8"),
            with(2, 2, "127.0.0.0/8"),
            with(3, 3, "127.0.0.0/8"),
        ]);
        let held = routes.leg(RouteId([3; 16])).unwrap();
        let next = Routes::new(vec![
            with(1, 1, "192.0.2.0/24"),
            with(2, 9, "127.0.0.0/8"),
            with(4, 4, "127.0.0.0/8"),
        ]);
        assert_eq!(routes.exchange(&next), [RouteId([2; 16]), RouteId([3; 16])]);
        assert!(routes.leg(RouteId([3; 16])).is_none() && held.id == RouteId([3; 16]));
        assert_eq!(routes.iter().count(), 3);
    }
}
