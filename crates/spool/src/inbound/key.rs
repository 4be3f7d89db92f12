//! The key that lives outside the ledger's folder, and what it is used for.

use std::path::Path;

use base::{AeTitle, Name, ObjectId, Phi, Secret, Uid};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::{IndexKey, KeyFileError, OutboxKey, keys};

/// Seals the names of instances that a destination is asked to commit, for as long as it is asked. Without it the ledger
/// holds no patient data.
#[derive(Debug, Clone)]
pub struct LedgerKey {
    seal: OutboxKey,
    group: IndexKey,
}

/// An instance as the destination knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PledgedInstance {
    /// SOP Class UID.
    pub sop_class: Uid,
    /// SOP Instance UID.
    pub sop_instance: Phi<Uid>,
    /// The calling AE title under which it was sent.
    pub calling: AeTitle,
}

#[derive(Encode, Decode)]
struct Record {
    #[n(0)]
    sop_class: String,
    #[n(1)]
    sop_instance: String,
    #[n(2)]
    calling: String,
}

impl LedgerKey {
    const KIND: &'static str = "sluis-ledger-key-1";

    /// Takes 32 random bytes.
    pub fn new(root: &Secret<[u8; 32]>) -> Self {
        let derived = |info| keys::derive(root, info);
        Self {
            seal: OutboxKey::new(derived(b"sluis/1 ledger record")),
            group: IndexKey::new(derived(b"sluis/1 ledger group")),
        }
    }

    /// Makes a key and writes it to a new file of mode 0600, durably.
    pub fn generate_file(path: &Path) -> Result<Self, KeyFileError> {
        keys::write_key_file(path, Self::KIND).map(|root| Self::new(&root))
    }

    /// Reads a key file that nobody else may read.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        keys::read_key_file(path, Self::KIND).map(|root| Self::new(&root))
    }

    /// Bound to the object, so that no name can be moved to another row. `None` where the cipher does not take it.
    pub fn seal(&self, object: ObjectId, instance: &PledgedInstance) -> Option<Vec<u8>> {
        let record = Record {
            sop_class: instance.sop_class.as_str().to_owned(),
            sop_instance: instance.sop_instance.reveal().as_str().to_owned(),
            calling: instance.calling.as_str().to_owned(),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        minicbor::encode(&record, &mut *bytes).ok()?;
        self.seal.seal_record(object, &bytes).ok()
    }

    /// `None` under another key, or for another object.
    pub fn open(&self, object: ObjectId, sealed: &[u8]) -> Option<PledgedInstance> {
        let opened = self.seal.open_record(object, sealed).ok()?;
        let record: Record = minicbor::decode(&opened).ok()?;
        Some(PledgedInstance {
            sop_class: Uid::parse(&record.sop_class).ok()?,
            sop_instance: Phi::new(Uid::parse(&record.sop_instance).ok()?),
            calling: AeTitle::parse(&record.calling).ok()?,
        })
    }

    /// What is asked for together: a study of a sender, under one calling AE title.
    pub fn group(&self, sender: &Name, calling: &AeTitle, study: Option<&Phi<Uid>>) -> [u8; 16] {
        let study = study.map_or("", |study| study.reveal().as_str());
        let fields = [sender.as_str().as_bytes(), calling.as_str().as_bytes(), study.as_bytes()];
        let hash = self.group.hash(b"sluis/1 pledge group", &fields);
        let mut group = [0; 16];
        group.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> PledgedInstance {
        PledgedInstance {
            sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
            sop_instance: Phi::new(Uid::parse("1.2.826.1").unwrap()),
            calling: AeTitle::parse("GW").unwrap(),
        }
    }

    #[test]
    fn a_name_opens_for_its_object_under_its_key_only() {
        let (key, other) = (LedgerKey::new(&Secret::new([1; 32])), LedgerKey::new(&Secret::new([2; 32])));
        let sealed = key.seal(ObjectId([3; 16]), &instance()).unwrap();
        assert_eq!(key.open(ObjectId([3; 16]), &sealed), Some(instance()));
        assert_eq!(key.open(ObjectId([4; 16]), &sealed), None);
        assert_eq!(other.open(ObjectId([3; 16]), &sealed), None);
        let text = b"1.2.826.1";
        assert!(!sealed.windows(text.len()).any(|window| window == text));
    }

    #[test]
    fn groups_differ_by_sender_title_study_and_key() {
        let key = LedgerKey::new(&Secret::new([1; 32]));
        let (sender, title) = (Name::parse("utrecht").unwrap(), AeTitle::parse("GW").unwrap());
        let study = Phi::new(Uid::parse("1.2").unwrap());
        let base = key.group(&sender, &title, Some(&study));
        assert_eq!(base, key.group(&sender, &title, Some(&study)));
        for other in [
            key.group(&Name::parse("zeist").unwrap(), &title, Some(&study)),
            key.group(&sender, &AeTitle::parse("GX").unwrap(), Some(&study)),
            key.group(&sender, &title, None),
            LedgerKey::new(&Secret::new([2; 32])).group(&sender, &title, Some(&study)),
        ] {
            assert_ne!(base, other);
        }
    }
}
