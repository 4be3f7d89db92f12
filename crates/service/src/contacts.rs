//! When somebody was heard of last, by name: for a status page, in memory only.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base::{Name, Timestamp};

/// The last contact with each. Names are those of the configuration, so there are only so many. The lock is never held across an
/// await.
#[derive(Debug, Default)]
pub struct Contacts(Mutex<BTreeMap<Name, Timestamp>>);

impl Contacts {
    /// Something verified came from it, or its link stands.
    pub fn heard(&self, name: &Name, now: Timestamp) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get_mut(name) {
            Some(at) => *at = now,
            None => drop(last.insert(name.clone(), now)),
        }
    }

    /// When that was last, since the start of the process.
    pub fn last(&self, name: &Name) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }
}
