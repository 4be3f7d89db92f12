//! Which route a called AE title names, and who may use it.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use base::{AeTitle, DeliveryId, Name, ObjectId, RouteId, Uid};
use envelope::Suite;
use identity::PeerCard;
use ipnet::IpNet;

use crate::config::{ChangedContent, Respond};

/// One AE title of ours and the way to one destination behind one receiving gateway.
#[derive(Debug)]
pub struct Route {
    /// Random id shared with the receiver.
    pub id: RouteId,
    /// The AE title that the PACS calls.
    pub ae: AeTitle,
    /// The receiver's pinned entry.
    pub receiver: PeerCard,
    /// The destination's name at the receiver.
    pub destination: Name,
    /// Cipher suite; never negotiated.
    pub suite: Suite,
    /// When the PACS sees success.
    pub respond: Respond,
    /// Who may call; `None` is anybody.
    pub calling: Option<Vec<AeTitle>>,
    /// From which networks.
    pub sources: Vec<IpNet>,
    /// Whether SOP classes outside the storage table pass.
    pub private_sop_classes: bool,
    /// What a known UID with other content gets.
    pub changed_content: ChangedContent,
    /// Transfer syntaxes, most wanted first.
    pub prefer: Vec<Uid>,
}

impl Route {
    /// The id of this object's delivery along this route.
    pub fn delivery(&self, sender: &Name, object: ObjectId) -> DeliveryId {
        DeliveryId::derive(sender, object, self.id, &self.destination)
    }

    fn admits(&self, calling: &AeTitle, source: IpAddr) -> Result<(), Refusal> {
        if !self.sources.iter().any(|net| net.contains(&source)) {
            return Err(Refusal::Source);
        }
        match &self.calling {
            Some(titles) if !titles.contains(calling) => Err(Refusal::Calling),
            _ => Ok(()),
        }
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
pub struct Routes(RwLock<Arc<Vec<Arc<Route>>>>);

impl Routes {
    /// Takes routes whose AE titles and ids are known to be unique.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        Self(RwLock::new(Arc::new(routes)))
    }

    /// The route that this association may use.
    pub fn admit(&self, calling: &AeTitle, called: &AeTitle, source: IpAddr) -> Result<Arc<Route>, Refusal> {
        let route = self.iter().find(|route| route.ae == *called).ok_or(Refusal::Called)?;
        route.admits(calling, source)?;
        Ok(route)
    }

    /// The route with this id.
    pub fn by_id(&self, id: RouteId) -> Option<Arc<Route>> {
        self.iter().find(|route| route.id == id)
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Route>> + use<> {
        self.now().as_ref().clone().into_iter()
    }

    /// Exchanges all of them. Gives those that are gone, or lead to other keys: their sessions are over.
    pub fn exchange(&self, routes: &Self) -> Vec<RouteId> {
        let routes = routes.now();
        let earlier = std::mem::replace(
            &mut *self.0.write().unwrap_or_else(PoisonError::into_inner),
            Arc::clone(&routes),
        );
        let is_over = |route: &&Arc<Route>| {
            !routes.iter().any(|now| {
                now.id == route.id
                    && now.receiver.identity == route.receiver.identity
                    && now.suite == route.suite
            })
        };
        earlier.iter().filter(is_over).map(|route| route.id).collect()
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

    fn now(&self) -> Arc<Vec<Arc<Route>>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::route;

    #[test]
    fn an_association_finds_its_route_or_the_reason_why_not() {
        let mut listed = route("GW_MUNICH");
        listed.calling = Some(vec![AeTitle::parse("CT1").unwrap()]);
        let routes = Routes::new(vec![Arc::new(listed), Arc::new(route("GW_ANY"))]);
        let local = "127.0.0.1".parse().unwrap();
        let cases = [
            ("CT1", "GW_MUNICH", local, None),
            ("ct1", "GW_MUNICH", local, Some(Refusal::Calling)),
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
            let mut made = route("GW");
            let key = identity::IdentityKey::generate(
                made.receiver.name.clone(),
                &base::Secret::new([seed; identity::SEEDS_BYTES]),
            );
            made.id = RouteId([id; 16]);
            made.receiver = key.card(identity::CardFields::new(1, &[]));
            made.sources = vec![sources.parse().unwrap()];
            Arc::new(made)
        };
        let routes = Routes::new(vec![
            with(1, 1, "127.0.0.0/8"),
            with(2, 2, "127.0.0.0/8"),
            with(3, 3, "127.0.0.0/8"),
        ]);
        let held = routes.by_id(RouteId([3; 16])).unwrap();
        let next = Routes::new(vec![
            with(1, 1, "192.0.2.0/24"),
            with(2, 9, "127.0.0.0/8"),
            with(4, 4, "127.0.0.0/8"),
        ]);
        assert_eq!(routes.exchange(&next), [RouteId([2; 16]), RouteId([3; 16])]);
        assert!(routes.by_id(RouteId([3; 16])).is_none() && held.id == RouteId([3; 16]));
        assert_eq!(routes.iter().count(), 3);
    }
}
