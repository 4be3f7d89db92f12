use std::fmt;

use base::{DeliveryId, Digest};
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use super::checkpoint::TreeHead;
use super::tree::{ENTRY_BYTES, leaf_hash};

/// Random bytes that keep an entry from being guessed by those who were not given them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Salt(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

/// What an entry says about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum EntryKind {
    /// The relay admitted a body; the digest is that of its sealed header.
    #[n(1)]
    Accepted = 1,
    /// Its recipient settled it for good; the digest is that of the receipt.
    #[n(2)]
    Settled = 2,
    /// The last head known of an earlier epoch.
    #[n(3)]
    Linked = 3,
}

/// One entry of the log: a kind and a commitment, 33 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// What it says.
    pub kind: EntryKind,
    /// About what: opened by salt, delivery id and digest.
    pub commitment: Digest,
}

const LABEL: &[u8] = b"sluis/1 log\n";

impl EntryKind {
    /// Its byte in the entry.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// By its byte.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Accepted),
            2 => Some(Self::Settled),
            3 => Some(Self::Linked),
            _ => None,
        }
    }

    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Settled => "settled",
            Self::Linked => "linked",
        }
    }
}

impl Entry {
    /// Commits to one delivery and one digest.
    pub fn new(kind: EntryKind, salt: &Salt, delivery: &DeliveryId, digest: &Digest) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(LABEL);
        hasher.update([kind.code()]);
        hasher.update(salt.0);
        hasher.update(delivery.0);
        hasher.update(digest.0);
        Self { kind, commitment: Digest(hasher.finalize().into()) }
    }

    /// Links a head of an earlier epoch: open to everybody, so without a salt.
    pub fn linked(head: &TreeHead) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(LABEL);
        hasher.update([EntryKind::Linked.code()]);
        hasher.update(head.text());
        Self { kind: EntryKind::Linked, commitment: Digest(hasher.finalize().into()) }
    }

    /// As the tree holds it.
    pub fn to_bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [self.kind.code(); ENTRY_BYTES];
        if let Some((_, commitment)) = bytes.split_first_mut() {
            commitment.copy_from_slice(&self.commitment.0);
        }
        bytes
    }

    /// From the bytes in the tree; none of another kind or length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (code, commitment) = bytes.split_first()?;
        Some(Self { kind: EntryKind::from_code(*code)?, commitment: Digest::from_slice(commitment)? })
    }

    /// The hash of it as a leaf.
    pub fn leaf_hash(&self) -> Digest {
        leaf_hash(&self.to_bytes())
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt")
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({}, {})", self.kind.as_str(), self.commitment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_bound_to_each_of_its_parts_and_reads_back() {
        let (salt, delivery, digest) = (Salt([1; 16]), DeliveryId([2; 32]), Digest([3; 32]));
        let entry = Entry::new(EntryKind::Accepted, &salt, &delivery, &digest);
        let mut message = b"sluis/1 log\n\x01".to_vec();
        message.extend([1; 16]);
        message.extend([2; 32]);
        message.extend([3; 32]);
        assert_eq!(entry.commitment, Digest::of(&message));
        assert_eq!(entry.to_bytes()[0], 1);
        assert_eq!(entry.leaf_hash(), Digest::of(&[&[0, 1], &entry.commitment.0[..]].concat()));
        assert_eq!(Entry::from_bytes(&entry.to_bytes()), Some(entry));
        let others = [
            Entry::new(EntryKind::Settled, &salt, &delivery, &digest),
            Entry::new(EntryKind::Accepted, &Salt([9; 16]), &delivery, &digest),
            Entry::new(EntryKind::Accepted, &salt, &DeliveryId([9; 32]), &digest),
            Entry::new(EntryKind::Accepted, &salt, &delivery, &Digest([9; 32])),
        ];
        for other in others {
            assert_ne!(other.commitment, entry.commitment);
        }
    }

    #[test]
    fn bytes_of_another_kind_or_length_are_no_entry() {
        let good = Entry { kind: EntryKind::Settled, commitment: Digest([7; 32]) }.to_bytes();
        for kind in [0, 4, 255] {
            let mut bad = good;
            bad[0] = kind;
            assert_eq!(Entry::from_bytes(&bad), None, "{kind}");
        }
        for bad in [&good[..32], &[&good[..], &[0]].concat(), &[]] {
            assert_eq!(Entry::from_bytes(bad), None);
        }
    }
}
