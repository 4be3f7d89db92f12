//! A peer card is one line; an altered, mixed or older one is refused.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use base::{Name, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::{CardError, CardUpdateError, IdentityKey, PeerCard, SEEDS_BYTES};
use proptest::prelude::*;

#[test]
fn a_card_survives_its_line() {
    let key = key("hospital-a", 1);
    let card = key.card(7, &[2, 1, 2]);
    let line = card.to_line();
    assert!(line.starts_with("sluis-card-1:hospital-a:") && !line.contains('\n'));
    assert!(line.len() <= PeerCard::LINE_BYTES_MAX);
    let parsed = PeerCard::parse(&format!("  {line}\n")).unwrap();
    assert_eq!(parsed, card);
    assert_eq!(parsed.suites, [1, 2]);
    assert_eq!(parsed.serial, 7);
    assert_eq!(parsed.tls_spki, key.tls_spki());
    assert_eq!(parsed.identity.fingerprint(), key.fingerprint());
}

#[test]
fn texts_that_are_no_card_are_refused_with_what_to_do() {
    let line = key("hospital-a", 1).card(1, &[2]).to_line();
    let payload = line.rsplit(':').next().unwrap();
    let cases = [
        ("", CardError::Line),
        ("hello", CardError::Line),
        ("sluis-card-1:hospital-a", CardError::Line),
        ("sluis-card-2:hospital-a:AAAA", CardError::Line),
        ("sluis-card-1:hospital-a:", CardError::Damaged),
        ("sluis-card-1:hospital-a:A*A", CardError::Damaged),
        (&line[..line.len() - 4], CardError::Damaged),
        (&format!("{line}AAAA"), CardError::Damaged),
        (
            &format!("sluis-card-1:hospital-b:{payload}"),
            CardError::Name { shown: "hospital-b".into(), signed: Name::parse("hospital-a").unwrap() },
        ),
        (&"A".repeat(20_000), CardError::TooLong { given: 20_000 }),
    ];
    for (text, want) in cases {
        assert_eq!(PeerCard::parse(text), Err(want), "{:.60}", text);
    }
}

#[test]
fn messages_say_what_to_do() {
    let old = key("hospital-a", 1).card(4, &[2]);
    let cases: [(String, &str); 4] = [
        (
            CardError::Line.to_string(),
            "not a peer card; expected one line that starts with sluis-card-1:NAME:",
        ),
        (CardError::Damaged.to_string(), "the peer card is damaged or incomplete; ask for it again"),
        (
            key("hospital-a", 2).card(9, &[2]).check_update(&old).unwrap_err().to_string(),
            "the card of hospital-a has other identity keys; compare fingerprints with the peer and pin it anew",
        ),
        (
            key("hospital-a", 1).card(3, &[2]).check_update(&old).unwrap_err().to_string(),
            "the card of hospital-a has serial 3, the pinned one 4; only a higher one replaces it",
        ),
    ];
    for (got, want) in cases {
        assert_eq!(got, want);
    }
}

#[test]
fn only_a_newer_card_of_the_same_identity_supersedes() {
    let pinned = key("hospital-a", 1).card(4, &[2]);
    let rotated = key("hospital-a", 1).with_tls_seed(Secret::new([9; 32])).card(5, &[2]);
    assert!(rotated.supersedes(&pinned));
    assert_ne!(rotated.tls_spki, pinned.tls_spki);
    for serial in [0, 3, 4] {
        assert!(!key("hospital-a", 1).card(serial, &[2]).supersedes(&pinned));
    }
    assert!(!key("hospital-a", 2).card(5, &[2]).supersedes(&pinned));
    assert!(matches!(
        key("hospital-b", 1).card(5, &[2]).check_update(&pinned),
        Err(CardUpdateError::OtherName { .. })
    ));
}

#[test]
fn fields_of_two_cards_do_not_mix() {
    let (a, b) = (key("hospital-a", 1).card(1, &[2]), key("hospital-a", 1).card(2, &[1, 2]));
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
        let line = format!("sluis-card-1:hospital-a:{}", URL_SAFE_NO_PAD.encode(&bytes));
        prop_assert!(PeerCard::parse(&line).is_err());
    }

    #[test]
    fn any_text_is_refused_without_panic(text in ".{0,200}") {
        prop_assert!(PeerCard::parse(&text).is_err());
        let marked = format!("sluis-card-1:x:{}", URL_SAFE_NO_PAD.encode(text));
        prop_assert!(PeerCard::parse(&marked).is_err());
    }
}

fn card_line() -> &'static str {
    static LINE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    LINE.get_or_init(|| key("hospital-a", 1).card(7, &[1, 2]).to_line())
}

fn key(name: &str, seed: u8) -> IdentityKey {
    IdentityKey::generate(Name::parse(name).unwrap(), &Secret::new([seed; SEEDS_BYTES]))
}
