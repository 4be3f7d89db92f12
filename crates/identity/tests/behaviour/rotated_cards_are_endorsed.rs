//! A card of other identity keys takes the place of the pinned one only with the pinned keys' own signature, and then both
//! are good until the overlap ends.

use base::{Name, Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::{
    CardError, CardFields, CardUpdateError, IdentityKey, LOG_SEEDS_BYTES, LogKey, Overlap, PeerCard,
    SEEDS_BYTES, Update,
};
use proptest::prelude::*;

const OVERLAP: Overlap = Overlap { switch: Timestamp(500), until: Timestamp(1_000) };

#[test]
fn a_rotated_card_survives_its_line_and_names_the_peer_as_before() {
    let (first, second, third) = (first(), second(), third());
    let line = second.to_line();
    assert!(line.starts_with("sluis-card-3:hospital-a:") && !line.contains('\n'));
    assert!(line.len() <= PeerCard::LINE_BYTES_MAX, "{}", line.len());
    assert_eq!(PeerCard::parse(&line).unwrap(), second);
    assert_eq!(PeerCard::parse(&third.to_line()).unwrap(), third);
    assert_eq!(first.id(), first.identity.fingerprint());
    assert_eq!([second.id(), third.id()], [first.id(); 2]);
    assert_ne!(second.identity, first.identity);
    // Renewed without rotating again: the name stays, and so does the format that carries it.
    let fields = CardFields { serial: 9, ..second.fields() };
    let renewed = PeerCard::parse(&key(2).card(fields).to_line()).unwrap();
    assert_eq!((renewed.id(), renewed.earlier.as_ref()), (first.id(), None));
    assert_eq!(renewed.check_update(&second), Ok(Update::Renewed));
}

#[test]
fn both_keys_are_good_until_the_end_and_then_the_new_one_only() {
    let (first, second) = (first(), second());
    // (time, whether the earlier keys are good)
    for (now, both) in [(0, true), (500, true), (999, true), (1_000, false), (u64::MAX, false)] {
        let now = Timestamp(now);
        let count = if both { 2 } else { 1 };
        assert_eq!(second.identities(now).count(), count, "{now:?}");
        assert_eq!(second.identities(now).next(), Some(&second.identity), "the newest first");
        assert_eq!(second.identity_of(&first.id(), now).is_some(), both);
        assert_eq!(second.tls_keys(now).any(|spki| spki == first.tls_spki), both);
        assert!(second.tls_keys(now).any(|spki| spki == second.tls_spki));
        assert_eq!(second.log_keys(now).count(), count);
        assert!(second.identity_of(&second.identity.fingerprint(), now).is_some());
        // Whoever has not taken the new card knows nothing of the new keys.
        assert!(first.identity_of(&second.identity.fingerprint(), now).is_none());
    }
}

#[test]
fn only_a_newer_card_that_the_pinned_identity_endorsed_succeeds() {
    let (first, second, third) = (first(), second(), third());
    assert_eq!(second.check_update(&first), Ok(Update::Successor));
    assert!(second.continues(&first) && !first.continues(&second));
    assert_eq!(third.check_update(&second), Ok(Update::Successor));
    let skipped = third.check_update(&first).unwrap_err();
    assert_eq!(skipped, CardUpdateError::Skipped(first.name.clone()));
    assert!(skipped.to_string().contains("one after the other"), "{skipped}");
    assert_eq!(first.check_update(&second), Err(CardUpdateError::Skipped(first.name.clone())));

    let stranger = key(9).card(CardFields::new(9, &[2]));
    let other = CardUpdateError::OtherIdentity(first.name.clone());
    assert_eq!(stranger.check_update(&first), Err(other.clone()));
    // One that only claims the name of the pinned peer.
    let claims = key(9).card(CardFields { origin: Some(first.id()), ..CardFields::new(9, &[2]) });
    assert_eq!(claims.check_update(&first), Err(CardUpdateError::Skipped(first.name.clone())));
    assert!(!claims.continues(&first));
    // One that is endorsed by keys that are pinned for another peer's name.
    let elsewhere = key(9).succeed(&key(8), &key(8).card(CardFields::new(1, &[2])), fields(9), OVERLAP);
    assert_eq!(elsewhere.check_update(&first), Err(other));
    // An older one that the pinned identity had endorsed once.
    let again = key(5).succeed(&key(1), &first, fields(1), OVERLAP);
    assert!(matches!(again.check_update(&first), Err(CardUpdateError::NotNewer { given: 1, pinned: 1, .. })));
    // After the successor is pinned, the earlier keys can vouch for nobody any more.
    let stolen = key(5).succeed(&key(1), &first, fields(99), OVERLAP);
    assert_eq!(
        stolen.check_update(&first),
        Ok(Update::Successor),
        "whoever has the pinned key speaks for the peer"
    );
    assert_eq!(stolen.check_update(&second), Err(CardUpdateError::Skipped(first.name.clone())));
}

#[test]
fn a_forged_endorsement_is_no_card() {
    let (genuine, pinned) = (second(), first());
    // The thief signs the card with his own keys, and the endorsement with keys that are not the earlier ones.
    let mut forged = key(9).succeed(&key(8), &key(8).card(CardFields::new(1, &[2])), fields(9), OVERLAP);
    forged.earlier.as_mut().unwrap().identity = pinned.identity.clone();
    assert!(matches!(PeerCard::parse(&forged.to_line()), Err(CardError::Signature(_))));
    // Signatures of the genuine card do not fit another overlap, origin or key.
    let mut longer = genuine.clone();
    longer.earlier.as_mut().unwrap().until = Timestamp(u64::MAX);
    let mut other_tls = genuine.clone();
    other_tls.earlier.as_mut().unwrap().tls_spki = key(9).tls_spki();
    let mut without = genuine;
    without.earlier = None;
    for changed in [longer, other_tls, without] {
        assert!(PeerCard::parse(&changed.to_line()).is_err());
    }
}

#[test]
fn an_endorsement_is_by_the_earlier_keys_that_are_named() {
    // Right in all but who endorsed: the body names key 1, key 8 signed. Built from the CBOR, since no function makes it.
    let line = second().to_line();
    let payload = URL_SAFE_NO_PAD.decode(line.rsplit(':').next().unwrap()).unwrap();
    let other = key(2).succeed(&key(8), &key(8).card(CardFields::new(1, &[2])), fields(2), OVERLAP).to_line();
    let other = URL_SAFE_NO_PAD.decode(other.rsplit(':').next().unwrap()).unwrap();
    // The endorsement is the last thing in the envelope, of one length.
    let tail = 1 + 2 + 64 + 3 + 3309;
    let mixed = [&payload[..payload.len() - tail], &other[other.len() - tail..]].concat();
    let line = format!("sluis-card-3:hospital-a:{}", URL_SAFE_NO_PAD.encode(mixed));
    let error = PeerCard::parse(&line).unwrap_err();
    assert!(matches!(error, CardError::Endorsement(_)), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_flipped_bit_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        static LINE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        let payload = LINE.get_or_init(|| second().to_line()).rsplit(':').next().unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(payload).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let line = format!("sluis-card-3:hospital-a:{}", URL_SAFE_NO_PAD.encode(&bytes));
        prop_assert!(PeerCard::parse(&line).is_err());
    }
}

fn first() -> PeerCard {
    key(1).card(CardFields { log: log(1), ..CardFields::new(1, &[1, 2]) })
}

fn second() -> PeerCard {
    key(2).succeed(&key(1), &first(), CardFields { log: log(2), ..fields(2) }, OVERLAP)
}

fn third() -> PeerCard {
    key(3).succeed(&key(2), &second(), CardFields { log: log(3), ..fields(3) }, OVERLAP)
}

fn fields(serial: u64) -> CardFields {
    CardFields::new(serial, &[1, 2])
}

fn name() -> Name {
    Name::parse("hospital-a").unwrap()
}

fn key(seed: u8) -> IdentityKey {
    IdentityKey::generate(name(), &Secret::new([seed; SEEDS_BYTES]))
}

fn log(seed: u8) -> Option<identity::LogPublic> {
    Some(LogKey::generate(name(), &Secret::new([seed; LOG_SEEDS_BYTES])).public().clone())
}
