use std::time::Duration;

use base::{Fingerprint, Name, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::cbor::{decode_canonical, encode};
use crate::{Context, Earlier, IdentityKey, IdentityPublic, LogPublic, Overlap, Signature, VerifyError};

const MARK: &str = "sluis-card-";

/// What one peer gives another to be pinned: name, keys, TLS key, log key, suites, a serial number and
/// an end, signed by both identity keys over all of them. As text it is one line, `sluis-card-N:NAME:BASE64URL`.
///
/// The card of rotated keys names the earlier ones, which signed it, too: its format is 3; any other card's is 2.
///
/// A value of this type has verified signatures; only [`PeerCard::parse`], [`IdentityKey::card`] and
/// [`IdentityKey::succeed`] make one. That a card is genuine does not make it trusted: pinning it is
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
    /// The keys it had before, where they were rotated: good for a while beside these.
    pub earlier: Option<Earlier>,
    /// The fingerprint of its first identity, where that is another one.
    origin: Option<Fingerprint>,
    signature: Signature,
    /// By the earlier identity.
    endorsement: Option<Signature>,
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
    /// As [`PeerCard::id`], where the identity is not the peer's first.
    pub origin: Option<Fingerprint>,
}

/// How a card replaces the pinned one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// A newer card of the same identity.
    Renewed,
    /// A card of another identity, which the pinned one has endorsed.
    Successor,
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
    /// Not a card line.
    #[error("not a peer card; expected one line that starts with {MARK}{plain}:NAME:", plain = PeerCard::VERSION)]
    Line,
    /// A card line of another version.
    #[error(
        "a peer card of format {0}; this version reads formats {plain} and {rotated}",
        plain = PeerCard::VERSION,
        rotated = PeerCard::VERSION_ROTATED
    )]
    Version(u32),
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
    /// The keys that it says the peer had before did not sign it.
    #[error("the peer card is not endorsed by the earlier keys that it names: {0}")]
    Endorsement(VerifyError),
}

/// Why a card does not replace the pinned one. All of them: keep what is pinned.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
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
    #[error(
        "the card of {0} has other identity keys, which the pinned ones do not vouch for; compare fingerprints with the peer and pin it anew"
    )]
    OtherIdentity(Name),
    /// Says that it continues the pinned identity, by way of another one.
    #[error(
        "the card of {0} has identity keys that were rotated more than once since the pinned card; take its cards one after the other, or compare fingerprints with the peer and pin it anew"
    )]
    Skipped(Name),
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
    #[n(8)]
    origin: Option<Fingerprint>,
    #[n(9)]
    earlier: Option<Earlier>,
}

#[derive(Encode, Decode)]
struct Envelope {
    #[cbor(n(0), with = "minicbor::bytes")]
    body: Vec<u8>,
    #[n(1)]
    signature: Signature,
    #[n(2)]
    endorsement: Option<Signature>,
}

impl CardFields {
    /// Without a log key and without an end.
    pub fn new(serial: u64, suites: &[u8]) -> Self {
        Self { serial, suites: suites.to_vec(), log: None, not_after: None, origin: None }
    }
}

impl PeerCard {
    /// The longest line that is read as a card. One with two identities has 18 KiB.
    pub const LINE_BYTES_MAX: usize = 32 * 1024;
    /// The longest TLS key: enough for every curve of TLS 1.3.
    pub const TLS_SPKI_BYTES_MAX: usize = 256;
    /// The most suites a card lists.
    pub const SUITES_MAX: usize = 16;
    /// How long before its end a card is said to end soon.
    pub const EXPIRY_NOTICE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    const VERSION: u8 = 2;
    const VERSION_ROTATED: u8 = 3;

    pub(crate) fn sign(key: &IdentityKey, fields: CardFields) -> Self {
        let body = Self::first_body(key, fields);
        let signature = key.sign(Context::CARD, &encode(&body));
        Self::from_parts(body, signature, None)
    }

    pub(crate) fn sign_successor(
        key: &IdentityKey,
        earlier: &IdentityKey,
        pinned: &Self,
        fields: CardFields,
        overlap: Overlap,
    ) -> Self {
        let mut body = Self::first_body(key, CardFields { origin: Some(pinned.id()), ..fields });
        body.version = Self::VERSION_ROTATED;
        body.earlier = Some(Earlier {
            identity: earlier.public().clone(),
            tls_spki: earlier.tls_spki(),
            log: pinned.log.clone(),
            switch: overlap.switch,
            until: overlap.until,
        });
        let bytes = encode(&body);
        let endorsement = earlier.sign(Context::SUCCESSION, &bytes);
        Self::from_parts(body, key.sign(Context::CARD, &bytes), Some(endorsement))
    }

    fn first_body(key: &IdentityKey, fields: CardFields) -> Body {
        let CardFields { serial, mut suites, log, not_after, origin } = fields;
        suites.sort_unstable();
        suites.dedup();
        suites.truncate(Self::SUITES_MAX);
        let origin = origin.filter(|origin| *origin != key.fingerprint());
        Body {
            version: if origin.is_some() { Self::VERSION_ROTATED } else { Self::VERSION },
            name: key.name().clone(),
            identity: key.public().clone(),
            tls_spki: key.tls_spki(),
            suites,
            serial,
            log,
            not_after,
            origin,
            earlier: None,
        }
    }

    fn from_parts(body: Body, signature: Signature, endorsement: Option<Signature>) -> Self {
        let Body { version: _, name, identity, tls_spki, suites, serial, log, not_after, origin, earlier } =
            body;
        Self {
            name,
            identity,
            tls_spki,
            suites,
            serial,
            log,
            not_after,
            earlier,
            origin,
            signature,
            endorsement,
        }
    }

    fn body(&self) -> Body {
        Body {
            version: self.version(),
            name: self.name.clone(),
            identity: self.identity.clone(),
            tls_spki: self.tls_spki.clone(),
            suites: self.suites.clone(),
            serial: self.serial,
            log: self.log.clone(),
            not_after: self.not_after,
            origin: self.origin,
            earlier: self.earlier.clone(),
        }
    }

    fn version(&self) -> u8 {
        match (self.origin, &self.earlier) {
            (None, None) => Self::VERSION,
            _ => Self::VERSION_ROTATED,
        }
    }

    /// What names this peer to everybody, whichever of its keys it uses: the fingerprint of its first identity.
    ///
    /// It is a name and proves nothing: whose word counts, [`PeerCard::identities`] says.
    pub fn id(&self) -> Fingerprint {
        self.origin.unwrap_or_else(|| self.identity.fingerprint())
    }

    /// The earlier keys, while they are good.
    pub fn overlap(&self, now: Timestamp) -> Option<&Earlier> {
        self.earlier.as_ref().filter(|earlier| now < earlier.until)
    }

    /// The identities whose signatures count at this time, the newest first.
    pub fn identities(&self, now: Timestamp) -> impl Iterator<Item = &IdentityPublic> {
        let earlier = self.overlap(now).map(|earlier| &earlier.identity);
        std::iter::once(&self.identity).chain(earlier)
    }

    /// The identities that it names, whether or not they count at any time, the newest first.
    pub fn all_identities(&self) -> impl Iterator<Item = &IdentityPublic> {
        std::iter::once(&self.identity).chain(self.earlier.as_ref().map(|earlier| &earlier.identity))
    }

    /// The identity with this fingerprint, if its signatures count at this time.
    pub fn identity_of(&self, fingerprint: &Fingerprint, now: Timestamp) -> Option<&IdentityPublic> {
        self.identities(now).find(|identity| identity.fingerprint() == *fingerprint)
    }

    /// The TLS keys that it may show at this time.
    pub fn tls_keys(&self, now: Timestamp) -> impl Iterator<Item = &[u8]> {
        let earlier = self.overlap(now).map(|earlier| earlier.tls_spki.as_slice());
        std::iter::once(self.tls_spki.as_slice()).chain(earlier)
    }

    /// The log keys whose signatures count at this time, the newest first.
    pub fn log_keys(&self, now: Timestamp) -> impl Iterator<Item = &LogPublic> {
        self.log.iter().chain(self.overlap(now).and_then(|earlier| earlier.log.as_ref()))
    }

    /// All log keys that it names, the newest first, the earlier one with its end.
    pub fn all_log_keys(&self) -> impl Iterator<Item = (&LogPublic, Option<Timestamp>)> {
        let earlier =
            self.earlier.as_ref().and_then(|earlier| Some((earlier.log.as_ref()?, Some(earlier.until))));
        self.log.iter().map(|key| (key, None)).chain(earlier)
    }

    /// Whether it is the same peer's as another card: of the same identity, or of one that follows from the other's. What
    /// was begun under that card may go on under this one.
    pub fn continues(&self, other: &Self) -> bool {
        let endorsed = || self.earlier.as_ref().is_some_and(|earlier| earlier.identity == other.identity);
        self.name == other.name && self.id() == other.id() && (self.identity == other.identity || endorsed())
    }

    /// What its successor starts from.
    pub fn fields(&self) -> CardFields {
        CardFields {
            serial: self.serial,
            suites: self.suites.clone(),
            log: self.log.clone(),
            not_after: self.not_after,
            origin: self.origin,
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

    /// Reads one line and verifies the signatures over all fields: both, and those of earlier keys where it names some.
    pub fn parse(line: &str) -> Result<Self, CardError> {
        let line = line.trim();
        if line.len() > Self::LINE_BYTES_MAX {
            return Err(CardError::TooLong { given: line.len() });
        }
        let mut parts = line.splitn(3, ':');
        let mark = parts.next().and_then(|mark| mark.strip_prefix(MARK)?.parse().ok());
        let (Some(version), Some(shown), Some(text)) = (mark, parts.next(), parts.next()) else {
            return Err(CardError::Line);
        };
        if ![Self::VERSION, Self::VERSION_ROTATED].map(u32::from).contains(&version) {
            return Err(CardError::Version(version));
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CardError::Damaged)?;
        let outer: Envelope = decode_canonical(&bytes).ok_or(CardError::Damaged)?;
        let body: Body = decode_canonical(&outer.body).ok_or(CardError::Damaged)?;
        body.identity.verify(Context::CARD, &outer.body, &outer.signature)?;
        body.check().ok_or(CardError::Damaged)?;
        match (&body.earlier, &outer.endorsement) {
            (Some(earlier), Some(endorsement)) => earlier
                .identity
                .verify(Context::SUCCESSION, &outer.body, endorsement)
                .map_err(CardError::Endorsement)?,
            (None, None) => {}
            _ => return Err(CardError::Damaged),
        }
        if body.name.as_str() != shown {
            return Err(CardError::Name { shown: shown.chars().take(64).collect(), signed: body.name });
        }
        let card = Self::from_parts(body, outer.signature, outer.endorsement);
        // Its format follows from what is in it, so that each card has one line.
        if u32::from(card.version()) != version { Err(CardError::Damaged) } else { Ok(card) }
    }

    /// The card as one line, without a line end.
    pub fn to_line(&self) -> String {
        let outer = Envelope {
            body: encode(&self.body()),
            signature: self.signature.clone(),
            endorsement: self.endorsement.clone(),
        };
        format!("{MARK}{}:{}:{}", self.version(), self.name, URL_SAFE_NO_PAD.encode(encode(&outer)))
    }

    /// Whether this card may take the place of a pinned one without an operator.
    pub fn supersedes(&self, pinned: &Self) -> bool {
        self.check_update(pinned).is_ok()
    }

    /// As [`PeerCard::supersedes`], with the reason.
    ///
    /// Another identity counts as the same peer only where the pinned one has signed so. That the overlap is over changes
    /// nothing: the word was given by keys that are pinned still.
    pub fn check_update(&self, pinned: &Self) -> Result<Update, CardUpdateError> {
        if self.name != pinned.name {
            return Err(CardUpdateError::OtherName { given: self.name.clone(), pinned: pinned.name.clone() });
        }
        if !self.continues(pinned) {
            return Err(match self.id() == pinned.id() && self.identity != pinned.identity {
                true => CardUpdateError::Skipped(self.name.clone()),
                false => CardUpdateError::OtherIdentity(self.name.clone()),
            });
        }
        if self.serial <= pinned.serial {
            return Err(CardUpdateError::NotNewer {
                name: self.name.clone(),
                given: self.serial,
                pinned: pinned.serial,
            });
        }
        Ok(if self.identity == pinned.identity { Update::Renewed } else { Update::Successor })
    }
}

impl Body {
    /// Whether it is in the one form that is signed.
    fn check(&self) -> Option<()> {
        let tls = |spki: &[u8]| !spki.is_empty() && spki.len() <= PeerCard::TLS_SPKI_BYTES_MAX;
        let rotated = self.origin.is_some() || self.earlier.is_some();
        let version = if rotated { PeerCard::VERSION_ROTATED } else { PeerCard::VERSION };
        let own = self.identity.fingerprint();
        let earlier = self.earlier.as_ref().is_none_or(|earlier| {
            tls(&earlier.tls_spki)
                && self.origin.is_some()
                && earlier.identity != self.identity
                && earlier.switch <= earlier.until
        });
        let whole = self.version == version
            && tls(&self.tls_spki)
            && self.suites.len() <= PeerCard::SUITES_MAX
            && self.suites.is_sorted_by(|a, b| a < b)
            && self.origin != Some(own)
            && earlier;
        whole.then_some(())
    }
}
