use base::{AeTitle, Digest, InstanceMeta, MoveOriginator, Phi, Priority, Secret, Uid};
use hmac::{Hmac, KeyInit, Mac};
use minicbor::{Decode, Encode};
use sha2::Sha256;
use zeroize::Zeroize as _;

use crate::cbor;

/// The first record of a body: what the far side needs beside the data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyMeta {
    /// Parts of the C-STORE-RQ and of the association it came in.
    pub instance: InstanceMeta,
    /// Random key for [`BodyMeta::uid_hash`].
    pub uid_hash_key: Secret<[u8; 32]>,
}

/// As [`BodyMeta`], in the order of the format.
#[derive(Encode, Decode)]
struct Wire<'a> {
    #[b(0)]
    sop_class: &'a str,
    #[b(1)]
    sop_instance: &'a str,
    #[b(2)]
    transfer_syntax: &'a str,
    #[b(3)]
    calling: &'a str,
    #[b(4)]
    called: &'a str,
    #[b(5)]
    originator: Option<&'a str>,
    #[n(6)]
    originator_message: Option<u16>,
    #[n(7)]
    priority: u16,
    #[cbor(n(8), with = "minicbor::bytes")]
    uid_hash_key: [u8; 32],
}

impl BodyMeta {
    /// The longest encoding that is read: three UIDs and three titles of full length need 290 bytes.
    pub(crate) const BYTES_MAX: usize = 512;

    /// HMAC-SHA256 of the SOP Instance UID: lets a receipt name the instance to those who know its
    /// UID and have this body's key, and to nobody else.
    pub fn uid_hash(&self) -> Digest {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.uid_hash_key.expose()).expect("any key length");
        mac.update(b"sluis/1 uid\0");
        mac.update(self.instance.sop_instance.reveal().as_str().as_bytes());
        Digest(mac.finalize().into_bytes().into())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let instance = &self.instance;
        let mut wire = Wire {
            sop_class: instance.sop_class.as_str(),
            sop_instance: instance.sop_instance.reveal().as_str(),
            transfer_syntax: instance.transfer_syntax.as_str(),
            calling: instance.calling.as_str(),
            called: instance.called.as_str(),
            originator: instance.move_originator.as_ref().map(|o| o.ae.as_str()),
            originator_message: instance.move_originator.as_ref().map(|o| o.message_id),
            priority: instance.priority.code(),
            uid_hash_key: *self.uid_hash_key.expose(),
        };
        let bytes = cbor::encode(&wire);
        wire.uid_hash_key.zeroize();
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut wire: Wire<'_> = cbor::decode_canonical(bytes)?;
        let uid_hash_key = Secret::new(wire.uid_hash_key);
        wire.uid_hash_key.zeroize();
        let move_originator = match (wire.originator, wire.originator_message) {
            (Some(ae), Some(message_id)) => Some(MoveOriginator { ae: AeTitle::parse(ae).ok()?, message_id }),
            (None, None) => None,
            _ => return None,
        };
        let meta = Self {
            instance: InstanceMeta {
                sop_class: Uid::parse(wire.sop_class).ok()?,
                sop_instance: Phi::new(Uid::parse(wire.sop_instance).ok()?),
                transfer_syntax: Uid::parse(wire.transfer_syntax).ok()?,
                calling: AeTitle::parse(wire.calling).ok()?,
                called: AeTitle::parse(wire.called).ok()?,
                move_originator,
                priority: Priority::from_code(wire.priority),
            },
            uid_hash_key,
        };
        // Parsing trims; a text that was trimmed, or a priority that was guessed, is another encoding.
        (meta.encode() == bytes).then_some(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> BodyMeta {
        let uid = || Uid::parse(&"1".repeat(64)).unwrap();
        let title = || AeTitle::parse(&"A".repeat(16)).unwrap();
        BodyMeta {
            instance: InstanceMeta {
                sop_class: uid(),
                sop_instance: Phi::new(uid()),
                transfer_syntax: uid(),
                calling: title(),
                called: title(),
                move_originator: Some(MoveOriginator { ae: title(), message_id: 0xffff }),
                priority: Priority::Low,
            },
            uid_hash_key: Secret::new([7; 32]),
        }
    }

    #[test]
    fn the_longest_meta_fits_and_survives() {
        let bytes = full().encode();
        assert!(bytes.len() <= BodyMeta::BYTES_MAX, "{}", bytes.len());
        assert_eq!(BodyMeta::decode(&bytes), Some(full()));
    }

    #[test]
    fn other_encodings_of_the_same_meta_are_refused() {
        let mut wire = Wire {
            sop_class: "1.2",
            sop_instance: "1.2",
            transfer_syntax: "1.2",
            calling: "A",
            called: "B",
            originator: None,
            originator_message: None,
            priority: 0,
            uid_hash_key: [7; 32],
        };
        assert!(BodyMeta::decode(&cbor::encode(&wire)).is_some());
        let good = cbor::encode(&wire);
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(BodyMeta::decode(&longer), None, "trailing byte");
        assert_eq!(BodyMeta::decode(&good[..good.len() - 1]), None, "cut");
        wire.calling = "A ";
        assert_eq!(BodyMeta::decode(&cbor::encode(&wire)), None, "padded title");
        wire.calling = "A";
        wire.sop_class = "1.2\0";
        assert_eq!(BodyMeta::decode(&cbor::encode(&wire)), None, "padded UID");
        wire.sop_class = "1.2";
        wire.priority = 3;
        assert_eq!(BodyMeta::decode(&cbor::encode(&wire)), None, "unknown priority");
        wire.priority = 0;
        wire.originator = Some("MOVER");
        assert_eq!(BodyMeta::decode(&cbor::encode(&wire)), None, "originator without message id");
    }

    #[test]
    fn the_uid_hash_depends_on_key_and_uid() {
        let a = full();
        let mut b = full();
        b.uid_hash_key = Secret::new([8; 32]);
        let mut c = full();
        c.instance.sop_instance = Phi::new(Uid::parse("1.2").unwrap());
        assert_ne!(a.uid_hash(), b.uid_hash());
        assert_ne!(a.uid_hash(), c.uid_hash());
        assert_eq!(a.uid_hash(), full().uid_hash());
    }
}
