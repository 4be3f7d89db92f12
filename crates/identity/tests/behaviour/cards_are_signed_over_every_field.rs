//! A peer card is one line; an altered, mixed or older one is refused.

use std::time::Duration;

use base::{Name, Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::{
    CardError, CardFields, CardUpdateError, IdentityKey, LOG_SEEDS_BYTES, LogKey, PeerCard, SEEDS_BYTES,
    Validity,
};
use proptest::prelude::*;

#[test]
fn a_card_survives_its_line() {
    let key = key("hospital-a", 1);
    let card = key.card(CardFields::new(7, &[2, 1, 2]));
    let line = card.to_line();
    assert!(line.starts_with("sluis-card-2:hospital-a:") && !line.contains('\n'));
    assert!(line.len() <= PeerCard::LINE_BYTES_MAX);
    let parsed = PeerCard::parse(&format!("  {line}\n")).unwrap();
    assert_eq!(parsed, card);
    assert_eq!(parsed.suites, [1, 2]);
    assert_eq!(parsed.serial, 7);
    assert_eq!(parsed.tls_spki, key.tls_spki());
    assert_eq!(parsed.identity.fingerprint(), key.fingerprint());
}

#[test]
fn log_key_and_end_are_in_the_card_and_each_may_be_absent() {
    let log = LogKey::generate(Name::parse("hospital-a").unwrap(), &Secret::new([7; LOG_SEEDS_BYTES]));
    let logs = [None, Some(log.public().clone())];
    for (log, not_after) in logs.iter().flat_map(|log| [(log, None), (log, Some(Timestamp(9_000)))]) {
        let fields = CardFields { log: log.clone(), not_after, ..CardFields::new(1, &[2]) };
        let line = key("hospital-a", 1).card(fields.clone()).to_line();
        assert!(line.len() <= PeerCard::LINE_BYTES_MAX, "{}", line.len());
        let card = PeerCard::parse(&line).unwrap();
        assert_eq!((&card.log, card.not_after), (log, not_after));
        assert_eq!(card.fields(), fields);
    }
}

#[test]
fn a_card_says_thirty_days_ahead_that_it_ends() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let at = |days: u32| Timestamp(0).after(DAY * days);
    let card = |not_after| key("hospital-a", 1).card(CardFields { not_after, ..CardFields::new(1, &[2]) });
    assert_eq!(card(None).validity(at(10_000)), Validity::Unlimited);
    let card = card(Some(at(100)));
    let cases = [
        (at(0), Validity::Valid(DAY * 100)),
        (Timestamp(at(70).0 - 1), Validity::Valid(DAY * 30 + Duration::from_millis(1))),
        (at(70), Validity::EndsSoon(DAY * 30)),
        (Timestamp(at(100).0 - 1), Validity::EndsSoon(Duration::from_millis(1))),
        (at(100), Validity::Ended(Duration::ZERO)),
        (at(103), Validity::Ended(DAY * 3)),
    ];
    for (now, want) in cases {
        assert_eq!(card.validity(now), want, "{now:?}");
    }
}

#[test]
fn texts_that_are_no_card_are_refused_with_what_to_do() {
    let line = key("hospital-a", 1).card(CardFields::new(1, &[2])).to_line();
    let payload = line.rsplit(':').next().unwrap();
    let cases = [
        ("", CardError::Line),
        ("hello", CardError::Line),
        ("sluis-card-2:hospital-a", CardError::Line),
        ("sluis-card-:hospital-a:AAAA", CardError::Line),
        ("sluis-card-1:hospital-a:AAAA", CardError::Version(1)),
        ("sluis-card-4:hospital-a:AAAA", CardError::Version(4)),
        // Each card has one format.
        (&format!("sluis-card-3:hospital-a:{payload}"), CardError::Damaged),
        ("sluis-card-2:hospital-a:", CardError::Damaged),
        ("sluis-card-2:hospital-a:A*A", CardError::Damaged),
        (&line[..line.len() - 4], CardError::Damaged),
        (&format!("{line}AAAA"), CardError::Damaged),
        (
            &format!("sluis-card-2:hospital-b:{payload}"),
            CardError::Name { shown: "hospital-b".into(), signed: Name::parse("hospital-a").unwrap() },
        ),
        (&"A".repeat(40_000), CardError::TooLong { given: 40_000 }),
    ];
    for (text, want) in cases {
        assert_eq!(PeerCard::parse(text), Err(want), "{:.60}", text);
    }
}

#[test]
fn messages_say_what_to_do() {
    let old = key("hospital-a", 1).card(CardFields::new(4, &[2]));
    let cases: [(String, &str); 5] = [
        (CardError::Version(4).to_string(), "a peer card of format 4; this version reads formats 2 and 3"),
        (
            CardError::Line.to_string(),
            "not a peer card; expected one line that starts with sluis-card-2:NAME:",
        ),
        (CardError::Damaged.to_string(), "the peer card is damaged or incomplete; ask for it again"),
        (
            key("hospital-a", 2).card(CardFields::new(9, &[2])).check_update(&old).unwrap_err().to_string(),
            "the card of hospital-a has other identity keys, which the pinned ones do not vouch for; compare fingerprints with the peer and pin it anew",
        ),
        (
            key("hospital-a", 1).card(CardFields::new(3, &[2])).check_update(&old).unwrap_err().to_string(),
            "the card of hospital-a has serial 3, the pinned one 4; only a higher one replaces it",
        ),
    ];
    for (got, want) in cases {
        assert_eq!(got, want);
    }
}

#[test]
fn only_a_newer_card_of_the_same_identity_supersedes() {
    let pinned = key("hospital-a", 1).card(CardFields::new(4, &[2]));
    let rotated = key("hospital-a", 1).with_tls_seed(Secret::new([9; 32])).card(CardFields::new(5, &[2]));
    assert!(rotated.supersedes(&pinned));
    assert_ne!(rotated.tls_spki, pinned.tls_spki);
    for serial in [0, 3, 4] {
        assert!(!key("hospital-a", 1).card(CardFields::new(serial, &[2])).supersedes(&pinned));
    }
    assert!(!key("hospital-a", 2).card(CardFields::new(5, &[2])).supersedes(&pinned));
    assert!(matches!(
        key("hospital-b", 1).card(CardFields::new(5, &[2])).check_update(&pinned),
        Err(CardUpdateError::OtherName { .. })
    ));
}

#[test]
fn fields_of_two_cards_do_not_mix() {
    let (a, b) = (
        key("hospital-a", 1).card(CardFields::new(1, &[2])),
        key("hospital-a", 1).card(CardFields::new(2, &[1, 2])),
    );
    let mut mixed = a.clone();
    mixed.serial = b.serial;
    assert!(matches!(PeerCard::parse(&mixed.to_line()), Err(CardError::Signature(_))));
    let mut mixed = a.clone();
    mixed.suites = b.suites;
    assert!(matches!(PeerCard::parse(&mixed.to_line()), Err(CardError::Signature(_))));
    let mut mixed = a.clone();
    mixed.identity = key("hospital-a", 2).public().clone();
    assert!(matches!(PeerCard::parse(&mixed.to_line()), Err(CardError::Signature(_))));
    let mut mixed = a.clone();
    mixed.tls_spki = key("hospital-a", 2).tls_spki();
    assert!(matches!(PeerCard::parse(&mixed.to_line()), Err(CardError::Signature(_))));
    let mut mixed = a.clone();
    mixed.not_after = Some(Timestamp(u64::MAX));
    assert!(matches!(PeerCard::parse(&mixed.to_line()), Err(CardError::Signature(_))));
    let mut mixed = a.clone();
    let log = LogKey::generate(Name::parse("hospital-a").unwrap(), &Secret::new([7; LOG_SEEDS_BYTES]));
    mixed.log = Some(log.public().clone());
    assert!(matches!(PeerCard::parse(&mixed.to_line()), Err(CardError::Signature(_))));
    let mut mixed = a;
    mixed.name = Name::parse("hospital-c").unwrap();
    assert!(matches!(PeerCard::parse(&mixed.to_line()), Err(CardError::Signature(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_flipped_bit_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let line = card_line();
        let payload = line.rsplit(':').next().unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(payload).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let line = format!("sluis-card-2:hospital-a:{}", URL_SAFE_NO_PAD.encode(&bytes));
        prop_assert!(PeerCard::parse(&line).is_err());
    }

    #[test]
    fn any_text_is_refused_without_panic(text in ".{0,200}") {
        prop_assert!(PeerCard::parse(&text).is_err());
        let marked = format!("sluis-card-2:x:{}", URL_SAFE_NO_PAD.encode(text));
        prop_assert!(PeerCard::parse(&marked).is_err());
    }
}

fn card_line() -> &'static str {
    static LINE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    LINE.get_or_init(|| {
        let log = LogKey::generate(Name::parse("hospital-a").unwrap(), &Secret::new([7; LOG_SEEDS_BYTES]));
        let (log, not_after) = (Some(log.public().clone()), Some(Timestamp(9_000)));
        key("hospital-a", 1).card(CardFields { log, not_after, ..CardFields::new(7, &[1, 2]) }).to_line()
    })
}

fn key(name: &str, seed: u8) -> IdentityKey {
    IdentityKey::generate(Name::parse(name).unwrap(), &Secret::new([seed; SEEDS_BYTES]))
}
