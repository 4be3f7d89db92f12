use base::{Attempt, DeliveryId, Fingerprint, Timestamp};
use ledger::{Class, RootCache, Settlement};
use tracing::debug;

use crate::admission::LiveKeys;
use crate::vault::{SettlementCheck, Verdict};

/// Batch roots whose signatures are remembered as verified.
const ROOTS_MAX: usize = 1024;

/// Verifies settlements against the pinned cards; the two signatures of a batch once.
pub struct LedgerCheck {
    keys: LiveKeys,
    roots: RootCache,
}

impl LedgerCheck {
    /// Against these keys.
    pub fn new(keys: LiveKeys) -> Self {
        Self { keys, roots: RootCache::new(ROOTS_MAX) }
    }
}

impl SettlementCheck for LedgerCheck {
    fn check(
        &mut self,
        recipient: &Fingerprint,
        delivery: DeliveryId,
        attempt: Attempt,
        settlement: &[u8],
    ) -> Option<Verdict> {
        let settlement = match Settlement::decode(settlement) {
            Ok(settlement) => settlement,
            Err(error) => {
                debug!(%error, "settlement cannot be decoded");
                return None;
            }
        };
        if settlement.delivery() != delivery || settlement.attempt() != attempt {
            return None;
        }
        let keys = self.keys.keys();
        let signers = keys.card(recipient)?.identities(Timestamp::now());
        match settlement.verify_any(signers, &mut self.roots) {
            Ok(()) => Some(match settlement.core.class {
                Class::Final(receipt) => Verdict::Final(receipt),
                Class::Deferred(_) | Class::Nack(_) => Verdict::Passing,
            }),
            Err(error) => {
                debug!(%error, "settlement signature");
                None
            }
        }
    }
}
