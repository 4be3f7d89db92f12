use std::time::Duration;

use base::{Name, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::cbor::{decode_canonical, encode};
use crate::{Context, IdentityKey, IdentityPublic, LogPublic, Signature, VerifyError};

const MARK: &str = "sluis-card-2";

/// What one peer gives another to be pinned: name, keys, TLS key, log key, suites, a serial number and
/// an end, signed by both identity keys over all of them. As text it is one line, `sluis-card-2:NAME:BASE64URL`.
///
/// A value of this type has verified signatures; only [`PeerCard::parse`] and
/// [`IdentityKey::card`] make one. That a card is genuine does not make it trusted: pinning it is
/// an operator's act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCard {
    /// What the peer calls itself.
    pub name: Name,
    /// Its identity keys.
    pub identity: IdentityPublic,
    /// Its TLS key, SubjectPublicKeyInfo DER.
    pub tls_spki: Vec<u8>,
    /// Codes of the envelope suites it can open, ascending.
    pub suites: Vec<u8>,
    /// Grows with every card the peer gives out.
    pub serial: u64,
    /// Its log key (a relay) or cosigning key (a gateway).
    pub log: Option<LogPublic>,
    /// When the card ends; without it, it does not.
    pub not_after: Option<Timestamp>,
    signature: Signature,
}

/// What a card says besides the name and the keys of the identity that signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardFields {
    /// Must be higher than that of any card given out before.
    pub serial: u64,
    /// Codes of envelope suites, in any order.
    pub suites: Vec<u8>,
    /// As [`PeerCard::log`].
    pub log: Option<LogPublic>,
    /// As [`PeerCard::not_after`].
    pub not_after: Option<Timestamp>,
}

/// How a card stands at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It has no end.
    Unlimited,
    /// It ends after this time.
    Valid(Duration),
    /// It ends within [`PeerCard::EXPIRY_NOTICE`], after this time: rotate now.
    EndsSoon(Duration),
    /// It ended this long ago.
    Ended(Duration),
}

/// Why a text is not a card.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CardError {
    /// Not a card line, or one of another version.
    #[error("not a peer card; expected one line that starts with {MARK}:NAME:")]
    Line,
    /// Longer than any card.
    #[error("a peer card has at most {max} characters; this text has {given}: was more than one line pasted?", max = PeerCard::LINE_BYTES_MAX)]
    TooLong {
        /// Characters given.
        given: usize,
    },
    /// The part after the name is damaged.
    #[error("the peer card is damaged or incomplete; ask for it again")]
    Damaged,
    /// The name in front is not the one that was signed.
    #[error("the peer card was signed for the name {signed}, not for {shown}; ask for it again")]
    Name {
        /// The name before the second colon.
        shown: String,
        /// The name under the signatures.
        signed: Name,
    },
    /// A field was changed after signing.
    #[error("the peer card was altered: {0}")]
    Signature(#[from] VerifyError),
}

/// Why a card does not replace the pinned one. All of them: keep what is pinned.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CardUpdateError {
    /// Another peer's card.
    #[error("the card is of peer {given}, the pinned one of {pinned}")]
    OtherName {
        /// Name in the new card.
        given: Name,
        /// Name in the pinned card.
        pinned: Name,
    },
    /// Other identity keys: only an operator can decide that they are the same peer.
    #[error("the card of {0} has other identity keys; compare fingerprints with the peer and pin it anew")]
    OtherIdentity(Name),
    /// An older card, or another one with the same number.
    #[error("the card of {name} has serial {given}, the pinned one {pinned}; only a higher one replaces it")]
    NotNewer {
        /// The peer.
        name: Name,
        /// Serial of the new card.
        given: u64,
        /// Serial of the pinned card.
        pinned: u64,
    },
}

#[derive(Encode, Decode)]
struct Body {
    #[n(0)]
    version: u8,
    #[n(1)]
    name: Name,
    #[n(2)]
    identity: IdentityPublic,
    #[cbor(n(3), with = "minicbor::bytes")]
    tls_spki: Vec<u8>,
    #[cbor(n(4), with = "minicbor::bytes")]
    suites: Vec<u8>,
    #[n(5)]
    serial: u64,
    #[n(6)]
    log: Option<LogPublic>,
    #[n(7)]
    not_after: Option<Timestamp>,
}

#[derive(Encode, Decode)]
struct Envelope {
    #[cbor(n(0), with = "minicbor::bytes")]
    body: Vec<u8>,
    #[n(1)]
    signature: Signature,
}

impl CardFields {
    /// Without a log key and without an end.
    pub fn new(serial: u64, suites: &[u8]) -> Self {
        Self { serial, suites: suites.to_vec(), log: None, not_after: None }
    }
}

impl PeerCard {
    /// The longest line that is read as a card.
    pub const LINE_BYTES_MAX: usize = 16 * 1024;
    /// The longest TLS key: enough for every curve of TLS 1.3.
    pub const TLS_SPKI_BYTES_MAX: usize = 256;
    /// The most suites a card lists.
    pub const SUITES_MAX: usize = 16;
    /// How long before its end a card is said to end soon.
    pub const EXPIRY_NOTICE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    const VERSION: u8 = 2;

    pub(crate) fn sign(key: &IdentityKey, fields: CardFields) -> Self {
        let CardFields { serial, mut suites, log, not_after } = fields;
        suites.sort_unstable();
        suites.dedup();
        suites.truncate(Self::SUITES_MAX);
        let body = Body {
            version: Self::VERSION,
            name: key.name().clone(),
            identity: key.public().clone(),
            tls_spki: key.tls_spki(),
            suites,
            serial,
            log,
            not_after,
        };
        let signature = key.sign(Context::CARD, &encode(&body));
        Self::from_parts(body, signature)
    }

    fn from_parts(body: Body, signature: Signature) -> Self {
        let Body { version: _, name, identity, tls_spki, suites, serial, log, not_after } = body;
        Self { name, identity, tls_spki, suites, serial, log, not_after, signature }
    }

    fn body(&self) -> Body {
        Body {
            version: Self::VERSION,
            name: self.name.clone(),
            identity: self.identity.clone(),
            tls_spki: self.tls_spki.clone(),
            suites: self.suites.clone(),
            serial: self.serial,
            log: self.log.clone(),
            not_after: self.not_after,
        }
    }

    /// What its successor starts from.
    pub fn fields(&self) -> CardFields {
        CardFields {
            serial: self.serial,
            suites: self.suites.clone(),
            log: self.log.clone(),
            not_after: self.not_after,
        }
    }

    /// How it stands at this time.
    pub fn validity(&self, now: Timestamp) -> Validity {
        let Some(end) = self.not_after else { return Validity::Unlimited };
        match end.since(now) {
            left if left.is_zero() => Validity::Ended(now.since(end)),
            left if left <= Self::EXPIRY_NOTICE => Validity::EndsSoon(left),
            left => Validity::Valid(left),
        }
    }

    /// Reads one line and verifies both signatures over all fields.
    pub fn parse(line: &str) -> Result<Self, CardError> {
        let line = line.trim();
        if line.len() > Self::LINE_BYTES_MAX {
            return Err(CardError::TooLong { given: line.len() });
        }
        let mut parts = line.splitn(3, ':');
        let (Some(MARK), Some(shown), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(CardError::Line);
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CardError::Damaged)?;
        let outer: Envelope = decode_canonical(&bytes).ok_or(CardError::Damaged)?;
        let body: Body = decode_canonical(&outer.body).ok_or(CardError::Damaged)?;
        if body.version != Self::VERSION {
            return Err(CardError::Line);
        }
        body.identity.verify(Context::CARD, &outer.body, &outer.signature)?;
        if body.tls_spki.is_empty()
            || body.tls_spki.len() > Self::TLS_SPKI_BYTES_MAX
            || body.suites.len() > Self::SUITES_MAX
            || !body.suites.is_sorted_by(|a, b| a < b)
        {
            return Err(CardError::Damaged);
        }
        if body.name.as_str() != shown {
            return Err(CardError::Name { shown: shown.chars().take(64).collect(), signed: body.name });
        }
        Ok(Self::from_parts(body, outer.signature))
    }

    /// The card as one line, without a line end.
    pub fn to_line(&self) -> String {
        let outer = Envelope { body: encode(&self.body()), signature: self.signature.clone() };
        format!("{MARK}:{}:{}", self.name, URL_SAFE_NO_PAD.encode(encode(&outer)))
    }

    /// Whether this card may take the place of a pinned one without an operator.
    pub fn supersedes(&self, pinned: &Self) -> bool {
        self.check_update(pinned).is_ok()
    }

    /// As [`PeerCard::supersedes`], with the reason.
    pub fn check_update(&self, pinned: &Self) -> Result<(), CardUpdateError> {
        if self.name != pinned.name {
            return Err(CardUpdateError::OtherName { given: self.name.clone(), pinned: pinned.name.clone() });
        }
        if self.identity != pinned.identity {
            return Err(CardUpdateError::OtherIdentity(self.name.clone()));
        }
        if self.serial <= pinned.serial {
            return Err(CardUpdateError::NotNewer {
                name: self.name.clone(),
                given: self.serial,
                pinned: pinned.serial,
            });
        }
        Ok(())
    }
}
