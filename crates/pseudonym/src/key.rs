//! The site key and what is made with it: the same value always becomes the same pseudonym under one key, and nobody without
//! the key can tell which value it was, not even by trying all that are possible.

use base::{Digest, Secret, Uid};
use data_encoding::{Encoding, Specification};
use dataset::Tag;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::sync::LazyLock;

/// Bytes of a site key.
pub const SITE_KEY_BYTES: usize = 32;
/// Separates this use of the site key from any other.
const SALT: &[u8] = b"sluis/pseudonym/1";
/// UIDs that the standard gives: classes, syntaxes, coding schemes, context groups, templates, well-known frames of reference.
/// They name nobody, and another value would name nothing.
const DICOM_ROOT: &str = "1.2.840.10008.";
/// What these say is always somebody's: no standard gives it.
const IDENTIFYING: [Tag; 3] = [Tag::SOP_INSTANCE, Tag::STUDY, Tag::SERIES];

/// Whether the standard gives this UID. What only begins like one may say anything.
pub(crate) fn is_well_known(uid: &str) -> bool {
    uid.starts_with(DICOM_ROOT) && Uid::parse(uid).is_ok()
}

/// Bits of a patient's or an accession's pseudonym: one in 10^12 that two of a million patients meet.
const ID_BYTES: usize = 10;

/// What a pseudonym stands for. Each has a key of its own, so that the same text in two of them does not look the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    Uid,
    Patient,
    Accession,
    Text,
    Date,
}

impl Domain {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Uid => b"uid",
            Self::Patient => b"patient-id",
            Self::Accession => b"accession",
            Self::Text => b"text",
            Self::Date => b"date",
        }
    }
}

/// A patient as the pseudonyms know one: issuer and identifier, both normalised.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PatientKey {
    pub(crate) issuer: String,
    pub(crate) id: String,
}

impl fmt::Debug for PatientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientKey")
    }
}

impl PatientKey {
    /// Of an issuer and an identifier that are normalised already.
    pub fn new(issuer: impl Into<String>, id: impl Into<String>) -> Self {
        Self { issuer: issuer.into(), id: id.into() }
    }
}

/// Makes pseudonyms under one site key.
#[derive(Clone, Debug)]
pub struct Pseudonyms {
    keys: [Secret<[u8; 32]>; 5],
    id: Digest,
}

impl Pseudonyms {
    /// Derives the keys of all domains (RFC 5869).
    pub fn new(site_key: &Secret<[u8; SITE_KEY_BYTES]>) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(SALT), site_key.expose());
        let derive = |label: &[u8]| {
            let mut key = [0; 32];
            #[expect(
                clippy::expect_used,
                reason = "32 bytes are less than 255 hashes, the only limit of HKDF"
            )]
            hkdf.expand(label, &mut key).expect("32 bytes of HKDF output");
            key
        };
        let keys = [Domain::Uid, Domain::Patient, Domain::Accession, Domain::Text, Domain::Date]
            .map(|domain| Secret::new(derive(domain.label())));
        Self { keys, id: Digest(derive(b"key-id")) }
    }

    /// Names the key without leading to it: for reports and audits.
    pub fn key_id(&self) -> Digest {
        self.id
    }

    /// A UID (PS3.5 B.2: 2.25 and a UUID; of version 8, RFC 9562 5.8).
    pub fn uid(&self, uid: &str) -> Uid {
        let mac = self.mac(Domain::Uid, &[uid.as_bytes()]);
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        let value = u128::from_be_bytes(bytes);
        let uuid = (value & !(0xF << 76) & !(0b11 << 62)) | (8 << 76) | (0b10 << 62);
        #[expect(clippy::expect_used, reason = "5 + 39 digits and dots")]
        Uid::parse(&format!("2.25.{uuid}")).expect("2.25 and a number is a UID")
    }

    /// What stands in an attribute of action U instead of this UID: its pseudonym, or itself where the standard gives it.
    pub fn uid_of(&self, tag: Tag, uid: &str) -> String {
        match is_well_known(uid) && !IDENTIFYING.contains(&tag) {
            true => uid.to_owned(),
            false => self.uid(uid).to_string(),
        }
    }

    /// A patient's identifier.
    pub fn patient_id(&self, patient: &PatientKey) -> String {
        short(&self.mac(Domain::Patient, &[patient.issuer.as_bytes(), patient.id.as_bytes()]))
    }

    /// An accession number.
    pub fn accession(&self, issuer: &str, number: &str) -> String {
        short(&self.mac(Domain::Accession, &[issuer.as_bytes(), number.as_bytes()]))
    }

    /// Any other text.
    pub fn text(&self, text: &str) -> String {
        short(&self.mac(Domain::Text, &[text.as_bytes()]))
    }

    /// By how many days the dates of a patient are moved: from 1 to `days_max`, into the past.
    pub fn days(&self, patient: &PatientKey, days_max: u16) -> i64 {
        let mac = self.mac(Domain::Date, &[patient.issuer.as_bytes(), patient.id.as_bytes()]);
        let value = mac.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        // Of 2^64 values, the remainder favours none by more than 2^-48.
        -(1 + i64::try_from(value % u64::from(days_max.max(1))).unwrap_or(0))
    }

    fn mac(&self, domain: Domain, fields: &[&[u8]]) -> [u8; 32] {
        let [uid, patient, accession, text, date] = &self.keys;
        let key = match domain {
            Domain::Uid => uid,
            Domain::Patient => patient,
            Domain::Accession => accession,
            Domain::Text => text,
            Domain::Date => date,
        };
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("a key of 32 bytes");
        for field in fields {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Crockford's base 32 of the first 80 bits: 16 characters, as many as an SH may have, none of them mistaken for another.
fn short(mac: &[u8; 32]) -> String {
    static CROCKFORD: LazyLock<Encoding> = LazyLock::new(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
        #[expect(clippy::expect_used, reason = "a constant of 32 different symbols")]
        specification.encoding().expect("an alphabet of 32")
    });
    CROCKFORD.encode(mac.first_chunk::<ID_BYTES>().map_or(&[][..], |bytes| bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pseudonyms(seed: u8) -> Pseudonyms {
        Pseudonyms::new(&Secret::new([seed; SITE_KEY_BYTES]))
    }

    fn patient(issuer: &str, id: &str) -> PatientKey {
        PatientKey { issuer: issuer.into(), id: id.into() }
    }

    /// Computed once with Python's hmac and hashlib, from the description in these comments alone.
    #[test]
    fn the_construction_is_what_it_is_said_to_be() {
        let made = pseudonyms(7);
        assert_eq!(made.uid("1.2.3").as_str(), "2.25.212026578287170966897235263399791708036");
        assert_eq!(made.patient_id(&patient("NORTH", "4711")), "AFKGAQJJ4YGT0MC0");
        assert_eq!(made.accession("NORTH", "4711"), "QVPV5FZ6KGXEMW7J");
        assert_eq!(made.days(&patient("NORTH", "4711"), 3650), -1702);
    }

    #[test]
    fn another_key_issuer_or_domain_gives_another_pseudonym() {
        let (one, other) = (pseudonyms(1), pseudonyms(2));
        let id = |made: &Pseudonyms, issuer, id| made.patient_id(&patient(issuer, id));
        assert_eq!(id(&one, "A", "1"), id(&one, "A", "1"));
        assert_ne!(id(&one, "A", "1"), id(&other, "A", "1"));
        assert_ne!(id(&one, "A", "1"), id(&one, "B", "1"));
        assert_ne!(id(&one, "A", "11"), id(&one, "A1", "1"), "fields have lengths");
        assert_ne!(id(&one, "A", "1"), one.accession("A", "1"));
        assert_ne!(one.key_id(), other.key_id());
    }

    proptest! {
        #[test]
        fn a_uid_is_a_uuid_of_version_8_and_a_shift_is_within_its_limit(text in "[0-9.]{1,64}", max in 1_u16..) {
            let made = pseudonyms(3);
            let uid = made.uid(&text);
            let uuid: u128 = uid.as_str().strip_prefix("2.25.").unwrap().parse().unwrap();
            prop_assert_eq!(((uuid >> 76) & 0xF, (uuid >> 62) & 0b11), (8, 0b10));
            let days = made.days(&patient("", &text), max);
            prop_assert!((1..=i64::from(max)).contains(&-days));
            prop_assert_eq!(made.text(&text).len(), 16);
        }
    }
}
