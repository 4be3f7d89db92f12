//! Prekey bundles, handed out once each. Opaque here: their senders verify them.

use std::collections::{HashMap, VecDeque};

use base::{Fingerprint, RouteId};
use transport::ConnectionId;
use wire::{Octets, ToRecipient, ToSender};

use super::{Command, SettlementCheck, Vault};

/// Routes of one recipient.
pub(super) const ROUTES_MAX: usize = 1024;
/// One-time bundles of one route; the oldest go.
const ONE_TIME_MAX: usize = 64;
/// From here on down a recipient is asked for more.
const LOW: usize = 8;

/// What recipients have published.
#[derive(Debug, Default)]
pub(super) struct Prekeys {
    routes: HashMap<Fingerprint, HashMap<RouteId, Bundles>>,
}

#[derive(Debug, Default)]
struct Bundles {
    one_time: VecDeque<Octets>,
    last_resort: Option<Octets>,
}

impl Prekeys {
    fn left(&self, recipient: &Fingerprint, route: &RouteId) -> usize {
        self.routes
            .get(recipient)
            .and_then(|routes| routes.get(route))
            .map_or(0, |bundles| bundles.one_time.len())
    }

    /// Forgets what others than these have published.
    pub(super) fn retain(&mut self, keep: impl Fn(&Fingerprint) -> bool) {
        self.routes.retain(|recipient, _| keep(recipient));
    }

    fn take(&mut self, recipient: &Fingerprint, route: &RouteId) -> Option<Octets> {
        let bundles = self.routes.get_mut(recipient)?.get_mut(route)?;
        bundles.one_time.pop_front().or_else(|| bundles.last_resort.clone())
    }
}

impl<C: SettlementCheck> Vault<C> {
    pub(super) fn publish(
        &mut self,
        recipient: Fingerprint,
        route: RouteId,
        replace: bool,
        one_time: Vec<Octets>,
        last_resort: Option<Octets>,
    ) {
        let routes = self.prekeys.routes.entry(recipient).or_default();
        if routes.len() >= ROUTES_MAX && !routes.contains_key(&route) {
            return;
        }
        let bundles = routes.entry(route).or_default();
        if replace {
            *bundles = Bundles::default();
        }
        let fits = |bundle: &Octets| bundle.len() <= wire::BUNDLE_BYTES_MAX;
        bundles.one_time.extend(one_time.into_iter().filter(fits));
        let over = bundles.one_time.len().saturating_sub(ONE_TIME_MAX);
        bundles.one_time.drain(..over);
        if let Some(bundle) = last_resort.filter(fits) {
            bundles.last_resort = Some(bundle);
        }
    }

    pub(super) fn give_prekey(
        &mut self,
        connection: ConnectionId,
        sender: Fingerprint,
        recipient: Fingerprint,
        route: RouteId,
    ) {
        let admitted = self.policy.may_deposit(&sender, &recipient);
        let bundle = if admitted { self.prekeys.take(&recipient, &route) } else { None };
        self.commands.push(Command::ToSender(connection, ToSender::Prekey { recipient, route, bundle }));
        if admitted && let Some(connection) = self.connection_of(&recipient) {
            self.tell_prekeys_low(connection, recipient, route);
        }
    }

    pub(super) fn tell_prekeys_low(
        &mut self,
        connection: ConnectionId,
        recipient: Fingerprint,
        route: RouteId,
    ) {
        let left = self.prekeys.left(&recipient, &route);
        if left <= LOW {
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            self.commands.push(Command::ToRecipient(connection, ToRecipient::PrekeysLow { route, left }));
        }
    }
}
