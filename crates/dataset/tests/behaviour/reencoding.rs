//! Implicit, Explicit and Deflated Little Endian into each other.

use crate::common::*;
use base::{Digest, Uid};
use dataset::{Encoding, PrivateVr, ReencodeError, Reencoded, Reencoder, Tag};
use proptest::prelude::*;

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn reencode<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    (from, to): (&str, &str),
    private_vr: PrivateVr,
) -> Result<(Vec<u8>, Reencoded), ReencodeError> {
    let mut reencoder = Reencoder::new(&uid(from), &uid(to), private_vr)?;
    let mut out = Vec::new();
    for piece in pieces {
        reencoder.feed(piece, &mut out)?;
    }
    let done = reencoder.finish(&mut out)?;
    assert_eq!((done.after.bytes, done.after.digest), (out.len() as u64, Digest::of(&out)));
    Ok((out, done))
}

fn to_explicit(nodes: &[Node]) -> (Vec<u8>, Reencoded) {
    let (bytes, _) = encode(nodes, Encoding::ImplicitLittle);
    reencode([bytes.as_slice()], (IMPLICIT, EXPLICIT), PrivateVr::Keep).unwrap()
}

fn explicit(nodes: &[Node]) -> Vec<u8> {
    encode(nodes, Encoding::ExplicitLittle).0
}

fn sequence(tag: Tag, items: Vec<Vec<Node>>, undefined: bool) -> Node {
    Node::Sequence { tag, items, undefined, undefined_items: undefined, unknown: false }
}

fn node(tag: Tag, vr: &[u8; 2], bytes: &[u8]) -> Node {
    value(tag.0, tag.1, vr, bytes)
}

#[test]
fn the_dictionary_gives_value_representations() {
    let cases: &[(Tag, &[u8; 2])] = &[
        (Tag(0x0008, 0x0018), b"UI"),
        (Tag(0x0008, 0x0050), b"SH"),
        (Tag(0x0009, 0x0010), b"LO"),
        (Tag(0x0009, 0x1010), b"UN"),
        (Tag(0x0010, 0x0010), b"PN"),
        (Tag(0x0018, 0x0050), b"DS"),
        (Tag(0x0028, 0x0010), b"US"),
        (Tag(0x0028, 0x0106), b"US"),
        (Tag(0x0028, 0x1201), b"OW"),
        (Tag(0x0028, 0x3006), b"OW"),
        (Tag(0x0028, 0xEEEE), b"UN"),
        (Tag(0x5400, 0x1010), b"OW"),
        (Tag(0x6002, 0x3000), b"OW"),
        (Tag(0x7FE0, 0x0008), b"OF"),
        (Tag(0x7FE0, 0x0010), b"OW"),
        (Tag(0xFFFC, 0xFFFC), b"OB"),
    ];
    for (tag, vr) in cases {
        let (out, done) = to_explicit(&[node(*tag, vr, b"1234")]);
        assert_eq!(out, explicit(&[node(*tag, vr, b"1234")]), "{tag}");
        assert_eq!(done.unknown_vr, u64::from(*vr == b"UN"), "{tag}");
    }
}

#[test]
fn samples_are_signed_as_pixel_representation_says() {
    let smallest = Tag(0x0028, 0x0106);
    let signed = |value: u8| node(Tag::PIXEL_REPRESENTATION, b"US", &[value, 0]);
    let data_set = |outer: Option<u8>, inner: Option<u8>, vr: &[u8; 2], inner_vr: &[u8; 2]| {
        let mut nodes: Vec<Node> = outer.map(signed).into_iter().collect();
        nodes.push(node(smallest, vr, b"12"));
        let mut item: Vec<Node> = inner.map(signed).into_iter().collect();
        item.push(node(smallest, inner_vr, b"12"));
        nodes.push(sequence(Tag(0x0028, 0x3000), vec![item, vec![node(smallest, vr, b"12")]], true));
        nodes
    };
    type Case = (Option<u8>, Option<u8>, &'static [u8; 2], &'static [u8; 2]);
    let cases: [Case; 6] = [
        (None, None, b"US", b"US"),
        (Some(0), None, b"US", b"US"),
        (Some(1), None, b"SS", b"SS"),
        (Some(1), Some(0), b"SS", b"US"),
        (Some(0), Some(1), b"US", b"SS"),
        (Some(7), Some(1), b"US", b"SS"),
    ];
    for (outer, inner, vr, inner_vr) in cases {
        let nodes = data_set(outer, inner, vr, inner_vr);
        assert_eq!(to_explicit(&nodes).0, explicit(&nodes), "{outer:?} {inner:?}");
    }
}

#[test]
fn a_value_too_long_for_its_vr_becomes_un() {
    for (length, vr) in [(65_534, b"DS"), (65_536, b"UN")] {
        let bytes = vec![b'1'; length];
        let (out, done) = to_explicit(&[node(Tag(0x3006, 0x0050), vr, &bytes)]);
        assert_eq!(out, explicit(&[node(Tag(0x3006, 0x0050), vr, &bytes)]), "{length}");
        assert_eq!(done.unknown_vr, u64::from(vr == b"UN"));
    }
}

#[test]
fn group_lengths_are_left_out_and_sequences_get_undefined_length() {
    let item = || vec![node(Tag(0x0008, 0x0000), b"UL", &[4, 0, 0, 0]), node(Tag::ACCESSION, b"SH", b"A1")];
    let nodes = [
        node(Tag(0x0008, 0x0000), b"UL", &[4, 0, 0, 0]),
        sequence(Tag(0x0040, 0x0275), vec![item(), vec![]], false),
        // Undefined length says that an unknown one is a sequence, too.
        sequence(Tag(0x0041, 0x1001), vec![vec![node(Tag(0x0041, 0x1002), b"UN", b"ab")]], true),
    ];
    let want = [
        sequence(Tag(0x0040, 0x0275), vec![vec![node(Tag::ACCESSION, b"SH", b"A1")], vec![]], true),
        nodes[2].clone(),
    ];
    assert_eq!(to_explicit(&nodes).0, explicit(&want));
    let (bytes, _) = encode(&nodes, Encoding::ExplicitLittle);
    let (out, _) = reencode([bytes.as_slice()], (EXPLICIT, IMPLICIT), PrivateVr::Keep).unwrap();
    assert_eq!(out, encode(&want, Encoding::ImplicitLittle).0);
}

#[test]
fn private_value_representations_are_lost_only_where_that_is_allowed() {
    let creator = node(Tag(0x0009, 0x0010), b"LO", b"ACME");
    let harmless = [
        creator.clone(),
        node(Tag(0x0009, 0x1001), b"UN", b"ab"),
        sequence(Tag(0x0009, 0x1002), vec![], true),
    ];
    let to_implicit =
        |nodes: &[Node], private_vr| reencode([explicit(nodes).as_slice()], (EXPLICIT, IMPLICIT), private_vr);
    let (out, _) = to_implicit(&harmless, PrivateVr::Keep).unwrap();
    assert_eq!(out, encode(&harmless, Encoding::ImplicitLittle).0);

    let first_level = vec![creator.clone(), node(Tag(0x0009, 0x1001), b"DS", b"1.5 ")];
    let nested = vec![sequence(Tag(0x0040, 0x0275), vec![first_level.clone()], true)];
    for nodes in [first_level, nested] {
        let error = to_implicit(&nodes, PrivateVr::Keep).unwrap_err();
        let vr = dataset::Vr(*b"DS");
        assert_eq!(error, ReencodeError::PrivateVr { tag: Tag(0x0009, 0x1001), vr });
        let (out, done) = to_implicit(&nodes, PrivateVr::Lose).unwrap();
        assert_eq!(out, encode(&nodes, Encoding::ImplicitLittle).0);
        assert_eq!(done.private_vr_lost, 1);
    }
    let contradiction = [node(Tag(0x0040, 0x0275), b"OB", b"ab")];
    let error = to_implicit(&contradiction, PrivateVr::Lose).unwrap_err();
    assert!(matches!(error, ReencodeError::Contradiction { .. }), "{error}");
}

#[test]
fn a_sequence_that_was_once_written_as_un_is_one_again() {
    let item = vec![node(Tag::ACCESSION, b"SH", b"A1")];
    let inner =
        encode(&[sequence(Tag(0x0040, 0x0275), vec![item.clone()], false)], Encoding::ImplicitLittle).0;
    let unknown = [node(Tag(0x0040, 0x0275), b"UN", &inner[8..])];
    let (bytes, _) = encode(&unknown, Encoding::ExplicitLittle);
    let (out, _) = reencode([bytes.as_slice()], (EXPLICIT, IMPLICIT), PrivateVr::Keep).unwrap();
    let want = [sequence(Tag(0x0040, 0x0275), vec![item], true)];
    assert_eq!(out, encode(&want, Encoding::ImplicitLittle).0);
    // Between Explicit and Deflated all bytes stay, these too.
    let (packed, _) = reencode([bytes.as_slice()], (EXPLICIT, DEFLATED), PrivateVr::Keep).unwrap();
    let (plain, _) = reencode([packed.as_slice()], (DEFLATED, EXPLICIT), PrivateVr::Keep).unwrap();
    assert_eq!(plain, bytes);
}

#[test]
fn only_three_syntaxes_become_each_other_and_pixels_are_never_touched() {
    for (from, to) in [
        (EXPLICIT, "1.2.840.10008.1.2.2"),
        ("1.2.840.10008.1.2.2", EXPLICIT),
        ("1.2.840.10008.1.2.4.50", EXPLICIT),
        (EXPLICIT, "1.2.840.10008.1.2.5"),
        ("1.2.840.10008.1.2.1.98", EXPLICIT),
        (IMPLICIT, "2.25.1"),
    ] {
        assert!(!Reencoder::is_possible(&uid(from), &uid(to)));
        let error = Reencoder::new(&uid(from), &uid(to), PrivateVr::Lose).err();
        assert!(matches!(error, Some(ReencodeError::NotPossible { .. })), "{from} {to}");
    }
    let fragments = Node::Fragments { tag: Tag::PIXEL_DATA, fragments: vec![vec![], b"ab".to_vec()] };
    for to in [IMPLICIT, EXPLICIT, DEFLATED] {
        let bytes = explicit(std::slice::from_ref(&fragments));
        let error = reencode([bytes.as_slice()], (EXPLICIT, to), PrivateVr::Lose).unwrap_err();
        assert_eq!(error, ReencodeError::Encapsulated { tag: Tag::PIXEL_DATA });
    }
}

#[test]
fn pixels_of_any_length_pass_without_being_held() {
    let pixels = 300 * 1024 * 1024u32;
    for (from, to, encoding) in
        [(EXPLICIT, IMPLICIT, Encoding::ExplicitLittle), (IMPLICIT, EXPLICIT, Encoding::ImplicitLittle)]
    {
        let (mut head, _) = encode(&[node(Tag::ACCESSION, b"SH", b"A1")], encoding);
        header(&mut head, Tag::PIXEL_DATA, *b"OW", pixels, encoding);
        let mut reencoder = Reencoder::new(&uid(from), &uid(to), PrivateVr::Keep).unwrap();
        let mut out = Vec::new();
        reencoder.feed(&head, &mut out).unwrap();
        let piece = vec![5; 1024 * 1024];
        for _ in 0..pixels / 1024 / 1024 {
            out.clear();
            reencoder.feed(&piece, &mut out).unwrap();
            assert!(out.len() <= piece.len() && out.capacity() < 4 * piece.len());
        }
        let done = reencoder.finish(&mut out).unwrap();
        assert!(done.after.bytes.abs_diff(done.before.bytes) <= 8);
    }
}

#[test]
fn truncated_and_empty_data_sets_are_errors() {
    let nodes = [node(Tag::ACCESSION, b"SH", b"A1"), node(Tag::PATIENT_ID, b"LO", b"12")];
    let (bytes, ends) = encode(&nodes, Encoding::ImplicitLittle);
    for cut in (0..bytes.len()).filter(|cut| *cut == 0 || !ends.contains(cut)) {
        let result = reencode([&bytes[..cut]], (IMPLICIT, EXPLICIT), PrivateVr::Keep);
        assert!(matches!(result, Err(ReencodeError::Structure(_) | ReencodeError::Empty)), "cut at {cut}");
    }
}

/// With undefined length, where implicit VR tells a sequence from a value.
fn normal(nodes: &[Node]) -> Vec<Node> {
    let inner = |node: &Node| match node {
        Node::Sequence { tag, items, undefined, .. } if *undefined || tag.is_sequence() => {
            sequence(*tag, items.iter().map(|item| normal(item)).collect(), true)
        }
        node => node.clone(),
    };
    nodes.iter().map(inner).collect()
}

/// Without encapsulated pixel data, at any depth.
fn native(nodes: Vec<Node>) -> Vec<Node> {
    let keep = |node: &Node| !matches!(node, Node::Fragments { .. });
    let inner = |node| match node {
        Node::Sequence { tag, items, undefined, undefined_items, unknown } => {
            let items = items.into_iter().map(native).collect();
            Node::Sequence { tag, items, undefined, undefined_items, unknown }
        }
        node => node,
    };
    nodes.into_iter().filter(keep).map(inner).collect()
}

proptest! {
    #[test]
    fn implicit_to_explicit_to_implicit_is_the_same_but_for_lengths(
        nodes in data_sets().prop_map(native), places in prop::collection::vec(any::<usize>(), 0..6)
    ) {
        prop_assume!(!nodes.is_empty());
        let (bytes, _) = encode(&nodes, Encoding::ImplicitLittle);
        let (want, _) = encode(&normal(&nodes), Encoding::ImplicitLittle);
        let there = reencode(cut(&bytes, &places), (IMPLICIT, EXPLICIT), PrivateVr::Keep).unwrap();
        prop_assert_eq!(&there, &reencode(bytes.chunks(1), (IMPLICIT, EXPLICIT), PrivateVr::Keep).unwrap());
        let back = reencode([there.0.as_slice()], (EXPLICIT, IMPLICIT), PrivateVr::Keep).unwrap().0;
        prop_assert_eq!(&back, &want);
        let packed = reencode(cut(&bytes, &places), (IMPLICIT, DEFLATED), PrivateVr::Keep).unwrap().0;
        let back = reencode(packed.chunks(5), (DEFLATED, IMPLICIT), PrivateVr::Keep).unwrap().0;
        prop_assert_eq!(&back, &want);
    }

    #[test]
    fn explicit_to_deflated_to_explicit_is_the_same(
        nodes in data_sets().prop_map(native), places in prop::collection::vec(any::<usize>(), 0..6)
    ) {
        prop_assume!(!nodes.is_empty());
        let bytes = explicit(&nodes);
        let (packed, done) = reencode(cut(&bytes, &places), (EXPLICIT, DEFLATED), PrivateVr::Keep).unwrap();
        prop_assert_eq!(done.before.digest, Digest::of(&bytes));
        let (back, _) = reencode(packed.chunks(3), (DEFLATED, EXPLICIT), PrivateVr::Keep).unwrap();
        prop_assert_eq!(back, bytes);
    }

    #[test]
    fn any_bytes_are_reencoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for pair in [(IMPLICIT, EXPLICIT), (EXPLICIT, IMPLICIT), (DEFLATED, IMPLICIT), (EXPLICIT, DEFLATED)] {
            let _ = reencode([bytes.as_slice()], pair, PrivateVr::Lose);
        }
    }
}
