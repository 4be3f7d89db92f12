//! What a connection is, and what it refuses to be.

mod handshake;
mod links;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::{BootId, Fingerprint, Name, Secret};
use identity::{IdentityKey, PeerCard};
use tokio::sync::mpsc;
use wire::Role;

use crate::quic::bind;
use crate::{Admission, RelayConfig, RelayEvent, RelayListener, Timing, TlsIdentity};

const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

fn key(name: &str) -> IdentityKey {
    IdentityKey::generate(Name::parse(name).unwrap(), &Secret::random())
}

/// Admits these cards, in any role.
struct Cards(HashMap<Vec<u8>, Fingerprint>);

impl Cards {
    fn of(cards: &[PeerCard]) -> Arc<dyn Admission> {
        Arc::new(Self(
            cards.iter().map(|card| (card.tls_spki.clone(), card.identity.fingerprint())).collect(),
        ))
    }
}

impl Admission for Cards {
    fn peer(&self, tls_spki: &[u8]) -> Option<Fingerprint> {
        self.0.get(tls_spki).copied()
    }

    fn admits(&self, _: &Fingerprint, _: Role) -> bool {
        true
    }
}

fn listen(
    relay: &IdentityKey,
    cards: &[PeerCard],
    timing: Timing,
) -> (RelayListener, mpsc::Receiver<RelayEvent>) {
    let config = RelayConfig {
        boot: BootId([1; 16]),
        hold_max: 1,
        lease: Duration::from_secs(30),
        identity: TlsIdentity::of(relay),
        resets: TlsIdentity::of(relay),
        admission: Cards::of(cards),
        timing,
    };
    RelayListener::start(bind(([127, 0, 0, 1], 0).into()).unwrap(), config).unwrap()
}
