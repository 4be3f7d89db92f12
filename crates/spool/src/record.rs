//! The small record that says, while an instance is under way, whose it is. Sealed under the outbox
//! key in the index, erased with the content key.

use base::{AeTitle, Digest, InstanceMeta, MoveOriginator, Phi, Priority, Uid};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::keys::IndexKey;

/// What an operator sees with `queue show --reveal`, and what the index is searched by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceRecord {
    /// The C-STORE-RQ and its association.
    pub meta: InstanceMeta,
    /// Study Instance UID, as received.
    pub study: Option<Phi<Uid>>,
    /// Series Instance UID, as received.
    pub series: Option<Phi<Uid>>,
    /// Accession Number, as received.
    pub accession: Option<Phi<String>>,
    /// Patient ID, as received.
    pub patient_id: Option<Phi<String>>,
    /// SHA-256 of the data set, for the check of a receipt.
    pub data_digest: Digest,
}

#[derive(Encode, Decode)]
struct Wire {
    #[n(0)]
    sop_class: String,
    #[n(1)]
    sop_instance: String,
    #[n(2)]
    transfer_syntax: String,
    #[n(3)]
    calling: String,
    #[n(4)]
    called: String,
    #[n(5)]
    originator: Option<String>,
    #[n(6)]
    originator_id: Option<u16>,
    #[n(7)]
    priority: u16,
    #[n(8)]
    study: Option<String>,
    #[n(9)]
    series: Option<String>,
    #[n(10)]
    accession: Option<String>,
    #[n(11)]
    patient_id: Option<String>,
    #[n(12)]
    data_digest: Digest,
}

impl InstanceRecord {
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let uid = |uid: &Phi<Uid>| uid.reveal().as_str().to_owned();
        let originator = self.meta.move_originator.as_ref();
        let wire = Wire {
            sop_class: self.meta.sop_class.as_str().to_owned(),
            sop_instance: uid(&self.meta.sop_instance),
            transfer_syntax: self.meta.transfer_syntax.as_str().to_owned(),
            calling: self.meta.calling.as_str().to_owned(),
            called: self.meta.called.as_str().to_owned(),
            originator: originator.map(|one| one.ae.as_str().to_owned()),
            originator_id: originator.map(|one| one.message_id),
            priority: self.meta.priority.code(),
            study: self.study.as_ref().map(uid),
            series: self.series.as_ref().map(uid),
            accession: self.accession.as_ref().map(|text| text.reveal().clone()),
            patient_id: self.patient_id.as_ref().map(|text| text.reveal().clone()),
            data_digest: self.data_digest,
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        #[expect(clippy::expect_used, reason = "a vector takes any number of bytes")]
        minicbor::encode(&wire, &mut *bytes).expect("a vector takes any number of bytes");
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let wire: Wire = minicbor::decode(bytes).ok()?;
        let optional = |text: Option<String>| match text {
            None => Some(None),
            Some(text) => Uid::parse(&text).ok().map(|uid| Some(Phi::new(uid))),
        };
        let move_originator = match (wire.originator, wire.originator_id) {
            (Some(ae), Some(message_id)) => {
                Some(MoveOriginator { ae: AeTitle::parse(&ae).ok()?, message_id })
            }
            _ => None,
        };
        let meta = InstanceMeta {
            sop_class: Uid::parse(&wire.sop_class).ok()?,
            sop_instance: Phi::new(Uid::parse(&wire.sop_instance).ok()?),
            transfer_syntax: Uid::parse(&wire.transfer_syntax).ok()?,
            calling: AeTitle::parse(&wire.calling).ok()?,
            called: AeTitle::parse(&wire.called).ok()?,
            move_originator,
            priority: Priority::from_code(wire.priority),
        };
        Some(Self {
            meta,
            study: optional(wire.study)?,
            series: optional(wire.series)?,
            accession: wire.accession.map(Phi::new),
            patient_id: wire.patient_id.map(Phi::new),
            data_digest: wire.data_digest,
        })
    }

    pub(crate) fn hashes(&self, key: &IndexKey) -> Hashes {
        let uid = |kind, uid: &Phi<Uid>| identifier(key, kind, uid.reveal().as_str());
        Hashes {
            instance: uid(Identifier::Instance, &self.meta.sop_instance),
            study: self.study.as_ref().map(|one| uid(Identifier::Study, one)),
            series: self.series.as_ref().map(|one| uid(Identifier::Series, one)),
            accession: self
                .accession
                .as_ref()
                .map(|text| identifier(key, Identifier::Accession, text.reveal())),
            patient: self.patient_id.as_ref().map(|text| identifier(key, Identifier::Patient, text.reveal())),
            content: self.content_hash(key),
            calling: title(key, &self.meta.calling),
            called: title(key, &self.meta.called),
        }
    }

    /// What makes two instances the same: class, UID, transfer syntax and every byte of the data set.
    /// Kept whole: two contents under one hash would mean that the second is never sent.
    fn content_hash(&self, key: &IndexKey) -> [u8; 32] {
        let meta = &self.meta;
        let parts = [
            meta.sop_class.as_str().as_bytes(),
            meta.sop_instance.reveal().as_str().as_bytes(),
            meta.transfer_syntax.as_str().as_bytes(),
            self.data_digest.as_bytes(),
        ];
        key.hash(b"sluis/1 index content", &parts)
    }
}

/// What the index knows of an instance for ever.
#[derive(Debug, Clone)]
pub(crate) struct Hashes {
    pub(crate) instance: [u8; 16],
    pub(crate) study: Option<[u8; 16]>,
    pub(crate) series: Option<[u8; 16]>,
    pub(crate) accession: Option<[u8; 16]>,
    pub(crate) patient: Option<[u8; 16]>,
    pub(crate) content: [u8; 32],
    pub(crate) calling: [u8; 16],
    pub(crate) called: [u8; 16],
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Identifier {
    Instance,
    Study,
    Series,
    Accession,
    Patient,
    Title,
    Transaction,
}

/// The keyed hash of an AE title.
pub(crate) fn title(key: &IndexKey, title: &AeTitle) -> [u8; 16] {
    identifier(key, Identifier::Title, title.as_str())
}

/// The keyed hash of an identifier: 128 bits, its own domain per attribute, padding removed as DICOM
/// does not count it (PS3.5 §6.2).
pub(crate) fn identifier(key: &IndexKey, kind: Identifier, text: &str) -> [u8; 16] {
    let domain: &[u8] = match kind {
        Identifier::Instance => b"sluis/1 index instance",
        Identifier::Study => b"sluis/1 index study",
        Identifier::Series => b"sluis/1 index series",
        Identifier::Accession => b"sluis/1 index accession",
        Identifier::Patient => b"sluis/1 index patient",
        Identifier::Title => b"sluis/1 index AE title",
        Identifier::Transaction => b"sluis/1 index transaction",
    };
    let whole = key.hash(domain, &[text.trim_matches([' ', '\0']).as_bytes()]);
    let mut half = [0u8; 16];
    half.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    half
}
