//! A checkpoint counts with both signatures of its log, a cosignature with both of its gateway; each has one form.

use base::EpochId;
use identity::NoteName;
use ledger::log::{
    Checkpoint, CheckpointError, CosignError, NOTE_BYTES_MAX, NoteError, SignedNote, TreeHead, TreeHeadError,
    origin, parse_origin,
};
use proptest::prelude::*;

use crate::{checkpoint, head, key, name, tree};

#[test]
fn a_checkpoint_reads_back_and_belongs_to_one_log() {
    let (tree, log) = (tree(5), key("relay-1", 1));
    let signed = checkpoint(&tree);
    let text = signed.to_text();
    assert_eq!(Checkpoint::parse(&text, log.public()).unwrap(), signed);
    assert_eq!(signed.head(), &head(&tree));
    assert!(text.starts_with(&format!("relay-1/{}\n5\n", crate::EPOCH)));
    let stranger = key("relay-1", 2);
    assert_eq!(Checkpoint::parse(&text, stranger.public()), Err(CheckpointError::Missing("Ed25519")));
}

#[test]
fn each_missing_or_wrong_signature_is_named() {
    let log = key("relay-1", 1);
    let text = checkpoint(&tree(5)).to_text();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let [a, b, c, empty, ed, ml] = lines.as_slice() else { panic!("{text}") };
    let other = checkpoint(&tree(6)).to_text();
    let other: Vec<_> = other.split_inclusive('\n').collect();
    let missing = |what| CheckpointError::Missing(what);
    let wrong = |what| CheckpointError::Signature(what);
    let cases = [
        ([a, b, c, empty, ed].concat_all(), missing("ML-DSA-44")),
        ([a, b, c, empty, ml].concat_all(), missing("Ed25519")),
        ([a, b, c, empty, ed, ed, ml].concat_all(), missing("Ed25519")),
        ([a, b, c, empty, ed, ml, ml].concat_all(), missing("ML-DSA-44")),
        ([a, b, c, empty, &other[4], ml].concat_all(), wrong("Ed25519")),
        ([a, b, c, empty, ed, &other[5]].concat_all(), wrong("ML-DSA-44")),
        ([a, &other[1], c, empty, ed, ml].concat_all(), wrong("Ed25519")),
        ([a, b, &other[2], empty, ed, ml].concat_all(), wrong("Ed25519")),
        ([a, b, c, empty].concat_all(), CheckpointError::Note(NoteError::Shape)),
        ([a, b, empty, ed, ml].concat_all(), CheckpointError::Head(TreeHeadError::Lines)),
        ([a, b, c, "extension\n", empty, ed, ml].concat_all(), CheckpointError::Head(TreeHeadError::Lines)),
        (text.replace("\n5\n", "\n05\n"), CheckpointError::Head(TreeHeadError::Size)),
        (text.replace("\n5\n", "\n+5\n"), CheckpointError::Head(TreeHeadError::Size)),
        (text.replace("\n5\n", "\n18446744073709551616\n"), CheckpointError::Head(TreeHeadError::Size)),
        (text.replacen("relay-1/", "relay 1/", 1), CheckpointError::Head(TreeHeadError::Origin)),
        (text.replacen("=\n\n", "\n\n", 1), CheckpointError::Head(TreeHeadError::Root)),
        (text.replacen('\n', "\r\n", 1), CheckpointError::Note(NoteError::Control)),
        (text[..text.len() - 1].to_owned(), CheckpointError::Note(NoteError::Shape)),
        (format!("{text}\u{2014} x AAAA\n"), CheckpointError::Note(NoteError::Line(3))),
        (format!("{text}- x AAAAAAAA\n"), CheckpointError::Note(NoteError::Line(3))),
        (format!("{text}\u{2014} x  AAAAAAAA\n"), CheckpointError::Note(NoteError::Line(3))),
        (format!("{text}{}", "\u{2014} x AAAAAAAA\n".repeat(31)), CheckpointError::Note(NoteError::TooMany)),
        ("x".repeat(NOTE_BYTES_MAX + 1), CheckpointError::Note(NoteError::TooLong(NOTE_BYTES_MAX + 1))),
        (String::new(), CheckpointError::Note(NoteError::Shape)),
    ];
    for (text, want) in cases {
        assert_eq!(Checkpoint::parse(&text, log.public()), Err(want), "{text:.200}");
    }
    // Signatures of others do not matter.
    let more = format!("{text}\u{2014} somebody.else/1 AAAAAAAA\n");
    assert!(Checkpoint::parse(&more, log.public()).is_ok());
}

/// The last character before the padding of a root has two bits that mean nothing; only zeros are the one form.
#[test]
fn a_second_encoding_of_the_same_root_is_refused() {
    let text = head(&tree(5)).text();
    let root = text.lines().nth(2).unwrap();
    let last = root.as_bytes()[42];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let at = alphabet.iter().position(|c| *c == last).unwrap();
    let second = format!("{}{}=", &root[..42], char::from(alphabet[at + 1]));
    assert_ne!(root, second);
    assert_eq!(TreeHead::parse(&text.replace(root, &second)), Err(TreeHeadError::Root));
    assert_eq!(TreeHead::parse(&text), Ok(head(&tree(5))));
}

#[test]
fn a_cosignature_counts_with_both_halves_at_one_time() {
    let (log, gateway) = (key("relay-1", 1), key("clinic-in", 3));
    let mut signed = checkpoint(&tree(5));
    signed.cosign(&gateway, 1_700_000_100);
    let text = signed.to_text();
    let read = Checkpoint::parse(&text, log.public()).unwrap();
    assert_eq!(read.verify_cosigner(&name("clinic-in"), gateway.public()), Ok(1_700_000_100));
    assert_eq!(read.verify_cosigner(&name("other"), gateway.public()), Err(CosignError::Missing("Ed25519")));
    let stranger = key("clinic-in", 4);
    assert_eq!(
        read.verify_cosigner(&name("clinic-in"), stranger.public()),
        Err(CosignError::Missing("Ed25519"))
    );

    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let without = |at: usize| {
        let text: String =
            lines.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, line)| *line).collect();
        Checkpoint::parse(&text, log.public()).unwrap().verify_cosigner(&name("clinic-in"), gateway.public())
    };
    assert_eq!(without(6), Err(CosignError::Missing("Ed25519")));
    assert_eq!(without(7), Err(CosignError::Missing("ML-DSA-44")));

    let mut later = checkpoint(&tree(5));
    later.cosign(&gateway, 1_700_000_101);
    let later = later.to_text();
    let mixed = [&lines[..7], &[later.split_inclusive('\n').nth(7).unwrap()]].concat().concat();
    let mixed = Checkpoint::parse(&mixed, log.public()).unwrap();
    assert_eq!(mixed.verify_cosigner(&name("clinic-in"), gateway.public()), Err(CosignError::Times));

    let mut of_other_head = checkpoint(&tree(6));
    of_other_head.cosign(&gateway, 1_700_000_100);
    let of_other_head = of_other_head.to_text();
    let taken = of_other_head.split_inclusive('\n').skip(6);
    let moved: String = lines[..6].iter().copied().chain(taken).collect();
    let moved = Checkpoint::parse(&moved, log.public()).unwrap();
    assert_eq!(
        moved.verify_cosigner(&name("clinic-in"), gateway.public()),
        Err(CosignError::Signature("Ed25519"))
    );

    // A second cosignature of the same gateway takes the place of the first.
    signed.cosign(&gateway, 1_700_000_200);
    assert_eq!(signed.verify_cosigner(&name("clinic-in"), gateway.public()), Ok(1_700_000_200));
    let mut other_copy = checkpoint(&tree(5));
    assert!(other_copy.adopt(&signed, &name("clinic-in"), stranger.public()).is_err());
    assert!(checkpoint(&tree(6)).adopt(&signed, &name("clinic-in"), gateway.public()).is_err());
    assert_eq!(other_copy.adopt(&signed, &name("clinic-in"), gateway.public()), Ok(1_700_000_200));
    assert_eq!(other_copy.verify_cosigner(&name("clinic-in"), gateway.public()), Ok(1_700_000_200));
}

#[test]
fn an_origin_has_one_form() {
    let good = origin(&name("relay-1"), EpochId([0xab; 16]));
    assert_eq!(parse_origin(&good), Ok((name("relay-1"), EpochId([0xab; 16]))));
    let digits = "ab".repeat(16);
    for bad in [
        "relay-1",
        "relay-1/",
        &format!("/{digits}"),
        &format!("a/b/{digits}"),
        &format!("r/{}", digits.to_uppercase()),
        "r/ab",
    ] {
        assert!(parse_origin(&NoteName::parse(bad).unwrap()).is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_note_that_is_read_is_written_as_it_was(text in "[ -~\n\u{2014}é]{0,200}") {
        if let Ok(note) = SignedNote::parse(&text) {
            prop_assert_eq!(note.to_text(), text);
        }
    }

    #[test]
    fn any_changed_byte_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..7) {
        let (log, mut bytes) = (key("relay-1", 1), text_of_one().as_bytes().to_vec());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let refused = std::str::from_utf8(&bytes).map_or(true, |text| Checkpoint::parse(text, log.public()).is_err());
        prop_assert!(refused);
    }
}

fn text_of_one() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    TEXT.get_or_init(|| checkpoint(&tree(5)).to_text())
}

trait ConcatAll {
    fn concat_all(&self) -> String;
}

impl<T: AsRef<str>, const N: usize> ConcatAll for [T; N] {
    fn concat_all(&self) -> String {
        self.iter().map(AsRef::as_ref).collect()
    }
}
