use base::{Fingerprint, RouteId, Timestamp};
use identity::{Context, IdentityKey, IdentityPublic, Signature};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::findings::Matrix;
use crate::{Findings, Malformed, TooMany, decode, encode};

/// What a destination accepts, as the receiving gateway tells one sender for one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiationTable {
    /// The route.
    pub route: RouteId,
    /// For whom it was signed: what another sender has been told counts for that one only.
    pub sender: Fingerprint,
    /// Grows with each table of a destination: a smaller one is older, and refused.
    pub serial: u64,
    /// When the destination was asked, on the receiver's clock.
    pub probed_at: Timestamp,
    /// The receiver turns Implicit, Explicit and Deflated Little Endian into each other where the destination takes
    /// only one of them.
    pub reencodes: bool,
    /// What the destination said.
    pub findings: Findings,
}

/// A table as it is kept and sent: its bytes and the receiver's two signatures.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SignedTable {
    #[n(0)]
    bytes: ByteVec,
    #[n(1)]
    signature: Signature,
}

/// Why a table is not believed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TableError {
    /// Not a table, or not in its one form.
    #[error("negotiation table is malformed")]
    Malformed,
    /// Somebody else's.
    #[error("negotiation table is not signed by the pinned receiver")]
    Signature,
    /// Made for another route or another sender.
    #[error("negotiation table was made for another route or another sender")]
    Other,
    /// A table that came before.
    #[error("negotiation table {given} is older than {known}, which is known already")]
    Older {
        /// Its serial number.
        given: u64,
        /// The one that is known.
        known: u64,
    },
}

impl From<Malformed> for TableError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

#[derive(Encode, Decode)]
struct Body {
    #[n(0)]
    route: RouteId,
    #[n(1)]
    sender: Fingerprint,
    #[n(2)]
    serial: u64,
    #[n(3)]
    probed_at: Timestamp,
    #[n(4)]
    reencodes: bool,
    #[n(5)]
    matrix: Matrix,
}

impl NegotiationTable {
    /// Signs it as its receiver.
    pub fn sign(&self, receiver: &IdentityKey) -> Result<SignedTable, TooMany> {
        let body = Body {
            route: self.route,
            sender: self.sender,
            serial: self.serial,
            probed_at: self.probed_at,
            reencodes: self.reencodes,
            matrix: self.findings.to_matrix()?,
        };
        let bytes = encode(&body);
        let signature = receiver.sign(Context::TABLE, &bytes);
        Ok(SignedTable { bytes: bytes.into(), signature })
    }
}

impl SignedTable {
    /// The bytes that are kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// From the bytes that were kept. Nothing in it is to be believed before [`SignedTable::verify`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        decode(bytes)
    }

    /// The table, where the pinned receiver has signed it for this route and sender. `known` is the serial number of
    /// the table that the sender has: an older one is refused.
    pub fn verify(
        &self,
        receiver: &IdentityPublic,
        route: RouteId,
        sender: Fingerprint,
        known: Option<u64>,
    ) -> Result<NegotiationTable, TableError> {
        receiver.verify(Context::TABLE, &self.bytes, &self.signature).map_err(|_| TableError::Signature)?;
        let body: Body = decode(&self.bytes)?;
        if body.route != route || body.sender != sender {
            return Err(TableError::Other);
        }
        if let Some(known) = known.filter(|known| body.serial < *known) {
            return Err(TableError::Older { given: body.serial, known });
        }
        Ok(NegotiationTable {
            route,
            sender,
            serial: body.serial,
            probed_at: body.probed_at,
            reencodes: body.reencodes,
            findings: body.matrix.to_findings()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use base::{Name, Secret, Uid};

    use super::*;
    use crate::Finding;

    const ROUTE: RouteId = RouteId([3; 16]);
    const SENDER: Fingerprint = Fingerprint([4; 32]);

    fn key(seed: u8) -> IdentityKey {
        IdentityKey::generate(Name::parse("receiver").unwrap(), &Secret::new([seed; identity::SEEDS_BYTES]))
    }

    fn table(serial: u64) -> NegotiationTable {
        let pair = |class: &str, syntax: &str| (Uid::parse(class).unwrap(), Uid::parse(syntax).unwrap());
        let findings = [(pair("1.2.3", "1.2"), Finding::Accepted), (pair("1.2.4", "1.3"), Finding::Rejected)];
        NegotiationTable {
            route: ROUTE,
            sender: SENDER,
            serial,
            probed_at: Timestamp(77),
            reencodes: true,
            findings: findings.into_iter().collect(),
        }
    }

    #[test]
    fn a_table_is_believed_from_its_receiver_for_its_route_and_sender_and_never_after_a_newer_one() {
        let receiver = key(1);
        let signed = table(7).sign(&receiver).unwrap();
        let kept = SignedTable::from_bytes(&signed.to_bytes()).unwrap();
        for known in [None, Some(6), Some(7)] {
            assert_eq!(kept.verify(receiver.public(), ROUTE, SENDER, known), Ok(table(7)));
        }
        let (other_route, other) = (RouteId([9; 16]), Fingerprint([9; 32]));
        let older = TableError::Older { given: 7, known: 8 };
        for (by, route, sender, known, want) in [
            (key(2), ROUTE, SENDER, None, TableError::Signature),
            (key(1), other_route, SENDER, None, TableError::Other),
            (key(1), ROUTE, other, None, TableError::Other),
            (key(1), ROUTE, SENDER, Some(8), older),
        ] {
            assert_eq!(kept.verify(by.public(), route, sender, known), Err(want));
        }
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let receiver = key(1);
        let bytes = table(7).sign(&receiver).unwrap().to_bytes();
        for at in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let read = SignedTable::from_bytes(&changed);
            let believed = read.map(|table| table.verify(receiver.public(), ROUTE, SENDER, None));
            assert!(!matches!(believed, Ok(Ok(_))), "byte {at}");
        }
    }

    /// The largest table must fit into an answer (three blocks of 16 KiB).
    #[test]
    fn the_largest_table_has_less_than_48_kib() {
        let uid = |kind: u8, n: usize| Uid::parse(&format!("{kind}.{n:062}")).unwrap();
        let mut large = table(1);
        let pairs = (0..crate::CLASSES_MAX).flat_map(|c| (0..crate::SYNTAXES_MAX).map(move |s| (c, s)));
        large.findings = pairs.map(|(c, s)| ((uid(1, c), uid(2, s)), Finding::Unknown)).collect();
        let bytes = large.sign(&key(1)).unwrap().to_bytes().len();
        assert!(bytes < 48 * 1024 - 64, "{bytes}");
    }
}
