use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use base::{BootId, Digest, Fingerprint, Hasher, Timestamp};
use transport::Admission;
use wire::Role;

use crate::settings::Keys;

/// The pinned gateways' keys as they are at this moment: clones see the same, and a reload exchanges all of them at once.
///
/// The lock guards the two values only and is never held across an await.
#[derive(Clone, Debug)]
pub struct LiveKeys(Arc<RwLock<Live>>);

#[derive(Debug)]
struct Live {
    keys: Arc<Keys>,
    /// How often a peer was revoked in this run.
    revoked: HashMap<Fingerprint, u32>,
}

impl LiveKeys {
    /// Begins with these.
    pub fn new(keys: Keys) -> Self {
        Self(Arc::new(RwLock::new(Live { keys: Arc::new(keys), revoked: HashMap::new() })))
    }

    /// Those of this moment.
    pub fn keys(&self) -> Arc<Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys.clone()
    }

    /// Exchanges all of them. Gives the peers that stay and have other TLS keys throughout.
    pub fn exchange(&self, keys: Keys) -> BTreeSet<Fingerprint> {
        let now = Timestamp::now();
        let mut live = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let earlier = std::mem::replace(&mut live.keys, Arc::new(keys));
        let keys = live.keys.clone();
        for peer in earlier.peers().filter(|peer| !keys.knows(peer)) {
            *live.revoked.entry(*peer).or_default() += 1;
        }
        let goes_on = |peer: &Fingerprint| {
            earlier
                .card(peer)
                .is_some_and(|card| card.tls_keys(now).any(|spki| keys.peer(spki, now) == Some(*peer)))
        };
        earlier.peers().filter(|peer| keys.knows(peer) && !goes_on(peer)).copied().collect()
    }
}

impl Admission for LiveKeys {
    fn peer(&self, tls_spki: &[u8]) -> Option<Fingerprint> {
        self.keys().peer(tls_spki, Timestamp::now())
    }

    fn admits(&self, peer: &Fingerprint, role: Role) -> bool {
        self.keys().admits(peer, role)
    }

    /// What a revoked peer had here was burned: to it this is another run.
    fn boot(&self, peer: &Fingerprint, boot: BootId) -> BootId {
        let live = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(times) = live.revoked.get(peer) else { return boot };
        let mut hasher = Hasher::new(b"sluis/1 boot after revocation");
        hasher.field(boot.as_bytes());
        hasher.field(&times.to_be_bytes());
        let Digest(digest) = hasher.finish();
        BootId(*digest.first_chunk().unwrap_or(boot.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base::{Name, Secret};
    use identity::{IdentityKey, PeerCard};

    use super::*;
    use crate::vault::{Rates, Tenant};

    fn key(name: &str) -> IdentityKey {
        IdentityKey::generate(Name::parse(name).unwrap(), &Secret::random())
    }

    fn keys(cards: &[PeerCard]) -> Keys {
        let tenant = |card: &PeerCard| Tenant {
            name: card.name.clone(),
            budget: 1,
            deposit_for: BTreeSet::new(),
            collects: true,
            rates: Rates::default(),
        };
        let tenants = cards.iter().map(|card| (card.id(), tenant(card)));
        Keys::new(cards, &tenants.collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn a_peer_whose_keys_were_rotated_is_the_same_one_under_both_of_them_until_the_earlier_end() {
        let (old, new) = (key("gateway"), key("gateway"));
        let first = old.card(identity::CardFields::new(1, &[]));
        let now = Timestamp::now();
        let succeed = |until| {
            let overlap = identity::Overlap { switch: now, until };
            new.succeed(&old, &first, identity::CardFields::new(2, &[]), overlap)
        };
        let second = succeed(now.after(std::time::Duration::from_secs(3600)));
        let live = LiveKeys::new(keys(std::slice::from_ref(&first)));
        assert_eq!(live.peer(&new.tls_spki()), None);
        assert!(live.exchange(keys(std::slice::from_ref(&second))).is_empty(), "nobody is put out");
        for key in [&old, &new] {
            assert_eq!(live.peer(&key.tls_spki()), Some(first.id()));
        }
        assert_eq!(live.keys().moments(), [second.earlier.as_ref().unwrap().until]);
        live.exchange(keys(&[succeed(now)]));
        assert_eq!(live.peer(&old.tls_spki()), None, "it is over");
        assert_eq!(live.peer(&new.tls_spki()), Some(first.id()));
    }

    #[test]
    fn a_revoked_peer_is_unknown_at_once_and_finds_another_run_when_it_comes_back() {
        let [stays, goes] = ["stays", "goes"].map(|name| key(name).card(identity::CardFields::new(1, &[])));
        let (boot, gone) = (BootId([7; 16]), goes.identity.fingerprint());
        let live = LiveKeys::new(keys(&[stays.clone(), goes.clone()]));
        let seen_elsewhere = live.clone();
        assert_eq!(seen_elsewhere.peer(&goes.tls_spki), Some(gone));
        assert_eq!(live.boot(&gone, boot), boot);

        assert!(live.exchange(keys(std::slice::from_ref(&stays))).is_empty());
        assert_eq!(seen_elsewhere.peer(&goes.tls_spki), None);
        assert!(seen_elsewhere.keys().card(&gone).is_none());
        assert!(!seen_elsewhere.admits(&gone, Role::Recipient));
        assert_eq!(live.boot(&stays.identity.fingerprint(), boot), boot);

        live.exchange(keys(&[stays.clone(), goes.clone()]));
        assert_eq!(seen_elsewhere.peer(&goes.tls_spki), Some(gone));
        let second = live.boot(&gone, boot);
        assert_ne!(second, boot);
        live.exchange(keys(std::slice::from_ref(&stays)));
        live.exchange(keys(&[stays, goes]));
        assert_ne!(live.boot(&gone, boot), second, "each time another one");
    }
}
