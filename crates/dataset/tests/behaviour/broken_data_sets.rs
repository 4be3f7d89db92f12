//! Each way in which a data set can be broken has its error, which names the place and no patient data; each
//! oddity of real writers passes.

use crate::common::{Node, deflate, encode, header, item_header, value};
use base::Uid;
use dataset::{Encoding, Findings, Tag, WalkError, Walker, limits};

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const BIG: &str = "1.2.840.10008.1.2.2";
const JPEG: &str = "1.2.840.10008.1.2.4.70";
const UNDEFINED: u32 = u32::MAX;
const EL: Encoding = Encoding::ExplicitLittle;
const IL: Encoding = Encoding::ImplicitLittle;

fn walk(bytes: &[u8], syntax: &str) -> Result<Findings, WalkError> {
    let mut walker = Walker::new(&Uid::parse(syntax).unwrap());
    walker.feed(bytes)?;
    walker.finish()
}

/// Bytes written by a closure, in one encoding.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

#[test]
fn broken_data_sets_are_refused_with_place_and_reason() {
    let sequence = Tag(0x0008, 0x1140);
    let name = Tag(0x0010, 0x0010);
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("nothing", vec![], EXPLICIT, "data set is missing: not one element came"),
        ("only zeros", vec![0; 16], EXPLICIT, "data set is missing"),
        (
            "ends in a header",
            encode(&[value(8, 0x60, b"CS", b"CT")], EL).0[..7].to_vec(),
            EXPLICIT,
            "it ends at byte 7 inside an element's header",
        ),
        (
            "ends in a value",
            encode(&[value(0x10, 0x10, b"PN", b"DOE^JANE")], EL).0[..12].to_vec(),
            EXPLICIT,
            "it ends at byte 12 inside the value of (0010,0010)",
        ),
        (
            "sequence without its delimiter",
            written(|out| header(out, sequence, *b"SQ", UNDEFINED, EL)),
            EXPLICIT,
            "it ends at byte 12 inside sequence (0008,1140)",
        ),
        (
            "item without its delimiter",
            written(|out| {
                header(out, sequence, *b"SQ", UNDEFINED, EL);
                item_header(out, Tag::ITEM, UNDEFINED, EL);
            }),
            EXPLICIT,
            "it ends at byte 20 inside an item of sequence (0008,1140)",
        ),
        (
            "fragments without their delimiter",
            written(|out| {
                header(out, Tag::PIXEL_DATA, *b"OB", UNDEFINED, EL);
                item_header(out, Tag::ITEM, 0, EL);
            }),
            JPEG,
            "it ends at byte 20 inside the encapsulated fragments of (7FE0,0010)",
        ),
        (
            "a fragment cut short",
            written(|out| {
                header(out, Tag::PIXEL_DATA, *b"OB", UNDEFINED, EL);
                item_header(out, Tag::ITEM, 8, EL);
                out.extend_from_slice(b"1234");
            }),
            JPEG,
            "it ends at byte 24 inside a fragment of (7FE0,0010)",
        ),
        (
            "an element longer than its item",
            written(|out| {
                header(out, sequence, *b"SQ", 20, EL);
                item_header(out, Tag::ITEM, 12, EL);
                header(out, name, *b"PN", 6, EL);
                out.extend_from_slice(b"DOE^JJ");
            }),
            EXPLICIT,
            "(0010,0010) at byte 20 needs 14 bytes, but an item of sequence (0008,1140) has 12 left",
        ),
        (
            "an item longer than its sequence",
            written(|out| {
                header(out, sequence, *b"SQ", 16, EL);
                item_header(out, Tag::ITEM, 12, EL);
                out.extend_from_slice(&[0; 12]);
            }),
            EXPLICIT,
            "(FFFE,E000) at byte 12 needs 20 bytes, but sequence (0008,1140) has 16 left",
        ),
        (
            "an item of undefined length that its sequence ends before",
            written(|out| {
                header(out, sequence, *b"SQ", 18, EL);
                item_header(out, Tag::ITEM, UNDEFINED, EL);
                header(out, name, *b"PN", 2, EL);
                out.extend_from_slice(b"DO");
                item_header(out, Tag::ITEM_DELIMITER, 0, EL);
            }),
            EXPLICIT,
            "(FFFE,E00D) at byte 30 needs 8 bytes, but sequence (0008,1140) has 0 left",
        ),
        (
            "an element where an item must be",
            written(|out| {
                header(out, sequence, *b"SQ", UNDEFINED, EL);
                header(out, name, *b"PN", 2, EL);
                out.extend_from_slice(b"DO");
            }),
            EXPLICIT,
            "(0010,0010) at byte 12 cannot stand inside sequence (0008,1140)",
        ),
        (
            "an element where a fragment must be",
            written(|out| {
                header(out, Tag::PIXEL_DATA, *b"OB", UNDEFINED, EL);
                header(out, name, *b"PN", 0, EL);
            }),
            JPEG,
            "(0010,0010) at byte 12 cannot stand inside the encapsulated fragments of (7FE0,0010)",
        ),
        (
            "an item where an element must be",
            written(|out| item_header(out, Tag::ITEM, 0, EL)),
            EXPLICIT,
            "(FFFE,E000) at byte 0 cannot stand outside a sequence",
        ),
        (
            "a sequence delimiter inside an item",
            written(|out| {
                header(out, sequence, *b"SQ", UNDEFINED, EL);
                item_header(out, Tag::ITEM, UNDEFINED, EL);
                item_header(out, Tag::SEQUENCE_DELIMITER, 0, EL);
            }),
            EXPLICIT,
            "(FFFE,E0DD) at byte 20 cannot stand inside an item of sequence (0008,1140)",
        ),
        (
            "a fragment of undefined length",
            written(|out| {
                header(out, Tag::PIXEL_DATA, *b"OB", UNDEFINED, EL);
                item_header(out, Tag::ITEM, UNDEFINED, EL);
            }),
            JPEG,
            "(FFFE,E000) at byte 12 has an undefined length",
        ),
        (
            "a text of undefined length",
            written(|out| header(out, Tag(0x0008, 0x0119), *b"UC", UNDEFINED, EL)),
            EXPLICIT,
            "(0008,0119) at byte 0 has an undefined length",
        ),
        (
            "implicit VR under an explicit VR syntax",
            encode(&[value(8, 0x60, b"CS", b"CT")], IL).0,
            JPEG,
            "element (0008,0060) at byte 0 has no value representation",
        ),
        (
            "a text file",
            b"Dear colleague, please find enclosed".to_vec(),
            EXPLICIT,
            "at byte 0 has no value representation",
        ),
        (
            "something after the padding",
            [encode(&[value(8, 0x60, b"CS", b"CT")], EL).0, vec![0; 20], b"DOE^JANE".to_vec()].concat(),
            EXPLICIT,
            "more than zero padding, or more than 65536 bytes of it, at byte 30",
        ),
        (
            "endless padding",
            [encode(&[value(8, 0x60, b"CS", b"CT")], EL).0, vec![0; 65537]].concat(),
            EXPLICIT,
            "more than zero padding, or more than 65536 bytes of it, at byte 65546",
        ),
        (
            "two SOP instances",
            encode(&[value(8, 0x18, b"UI", b"2.25.1"), value(8, 0x18, b"UI", b"2.25.22\0")], EL).0,
            EXPLICIT,
            "(0008,0018) stands twice, with different values",
        ),
        ("no deflate stream", vec![0xFF; 64], DEFLATED, "deflated data set is damaged at byte"),
        (
            "a cut deflate stream",
            deflate(&encode(&[value(8, 0x60, b"CS", b"CT")], EL).0)[..6].to_vec(),
            DEFLATED,
            "deflated data set is truncated: its compressed stream ends early, at byte 6",
        ),
        (
            "a data set cut before it was deflated",
            deflate(&encode(&[value(8, 0x60, b"CS", b"CT")], EL).0[..9]),
            DEFLATED,
            "data set is truncated: it ends at byte 9 inside the value of (0008,0060)",
        ),
        (
            "text after a deflate stream",
            [deflate(&encode(&[value(8, 0x60, b"CS", b"CT")], EL).0), b"DOE^JANE^^".to_vec()].concat(),
            DEFLATED,
            "more than padding after its compressed stream, at byte 20",
        ),
    ];
    for (case, bytes, syntax, want) in cases {
        let error = walk(&bytes, syntax).expect_err(case);
        let text = format!("{error}");
        assert!(text.contains(want), "{case}: {text}");
        assert!(!format!("{text}{error:?}").contains("DOE"), "{case}: {text}");
        assert!(!text.starts_with(char::is_uppercase), "{case}: {text}");
    }
}

#[test]
fn oddities_of_real_writers_pass() {
    let sequence = Tag(0x0008, 0x1140);
    let one = || encode(&[value(8, 0x60, b"CS", b"CT")], EL).0;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("one zero to make the length even", [one(), vec![0]].concat(), EXPLICIT),
        ("zeros up to a block", [one(), vec![0; 2000]].concat(), EXPLICIT),
        (
            "data set trailing padding",
            [one(), encode(&[value(0xFFFC, 0xFFFC, b"OB", &[0; 64])], EL).0].concat(),
            EXPLICIT,
        ),
        ("the pad byte of a deflated data set", [deflate(&one()), vec![0]].concat(), DEFLATED),
        (
            "the trailer of a gzip library",
            [deflate(&one()), vec![1, 2, 3, 4, 10, 0, 0, 1]].concat(),
            DEFLATED,
        ),
        ("an odd length", encode(&[value(8, 0x60, b"CS", b"CTX")], EL).0, EXPLICIT),
        (
            "descending tags",
            encode(&[value(0x10, 0x20, b"LO", b"42"), value(8, 0x60, b"CS", b"CT")], EL).0,
            EXPLICIT,
        ),
        ("a group length", encode(&[value(8, 0, b"UL", &[1, 2, 3, 4])], EL).0, EXPLICIT),
        (
            "a VR of a later edition",
            written(|out| {
                out.extend_from_slice(b"\x08\x00\x60\x00QQ\0\0\x02\0\0\0CT");
            }),
            EXPLICIT,
        ),
        (
            "an item delimiter after an item of defined length",
            written(|out| {
                header(out, sequence, *b"SQ", UNDEFINED, EL);
                item_header(out, Tag::ITEM, 0, EL);
                item_header(out, Tag::ITEM_DELIMITER, 0, EL);
                item_header(out, Tag::SEQUENCE_DELIMITER, 0, EL);
            }),
            EXPLICIT,
        ),
        (
            "pixel data of undefined length as UN",
            written(|out| {
                header(out, Tag::PIXEL_DATA, *b"UN", UNDEFINED, EL);
                item_header(out, Tag::ITEM, 3, EL);
                out.extend_from_slice(b"123");
                item_header(out, Tag::SEQUENCE_DELIMITER, 0, EL);
            }),
            JPEG,
        ),
        (
            "a UN of undefined length in big endian, whose inside is little endian",
            written(|out| {
                header(out, Tag(0x0009, 0x1001), *b"UN", UNDEFINED, Encoding::ExplicitBig);
                item_header(out, Tag::ITEM, UNDEFINED, IL);
                header(out, Tag(0x0008, 0x0060), *b"CS", 2, IL);
                out.extend_from_slice(b"CT");
                item_header(out, Tag::ITEM_DELIMITER, 0, IL);
                item_header(out, Tag::SEQUENCE_DELIMITER, 0, IL);
            }),
            BIG,
        ),
        (
            "explicit VR inside a UN of undefined length, as before the rule",
            written(|out| {
                header(out, Tag(0x0009, 0x1001), *b"UN", UNDEFINED, EL);
                for item in [UNDEFINED, 20] {
                    item_header(out, Tag::ITEM, item, EL);
                    header(out, Tag(0x0009, 0x1002), *b"OB", 8, EL);
                    out.extend_from_slice(b"DOE^JANE");
                    if item == UNDEFINED {
                        header(out, Tag(0x0009, 0x1003), *b"SQ", 0, EL);
                        item_header(out, Tag::ITEM_DELIMITER, 0, EL);
                    }
                }
                item_header(out, Tag::SEQUENCE_DELIMITER, 0, EL);
            }),
            EXPLICIT,
        ),
        (
            "a delimiter inside a fragment's bytes",
            written(|out| {
                header(out, Tag::PIXEL_DATA, *b"OB", UNDEFINED, EL);
                item_header(out, Tag::ITEM, 8, EL);
                item_header(out, Tag::SEQUENCE_DELIMITER, 0, EL);
                item_header(out, Tag::SEQUENCE_DELIMITER, 0, EL);
            }),
            JPEG,
        ),
        (
            "sequences that only the dictionary tells",
            written(|out| {
                header(out, sequence, *b"SQ", 18, IL);
                item_header(out, Tag::ITEM, 10, IL);
                header(out, Tag(0x0008, 0x0060), *b"CS", 2, IL);
                out.extend_from_slice(b"CT");
            }),
            IMPLICIT,
        ),
    ];
    for (case, bytes, syntax) in cases {
        let found = walk(&bytes, syntax).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(found.walked && found.elements >= 1, "{case}");
    }
}

#[test]
fn nesting_ends_at_its_limit() {
    for encoding in [EL, IL] {
        let syntax = if encoding == EL { EXPLICIT } else { IMPLICIT };
        for (depth, passes) in [(limits::SEQUENCE_DEPTH_MAX, true), (limits::SEQUENCE_DEPTH_MAX + 1, false)] {
            let mut nodes = vec![value(8, 0x60, b"CS", b"CT")];
            for _ in 0..depth {
                nodes = vec![Node::Sequence {
                    tag: Tag(0x0040, 0xA730),
                    items: vec![nodes],
                    undefined: true,
                    undefined_items: true,
                    unknown: false,
                }];
            }
            let result = walk(&encode(&nodes, encoding).0, syntax);
            assert_eq!(result.is_ok(), passes, "{depth} levels");
            if let Err(error) = result {
                assert!(error.to_string().contains("nested deeper than 64 sequences"), "{error}");
            }
        }
    }
}

#[test]
fn only_the_first_level_identifies_and_only_by_valid_values() {
    let mut nodes = vec![
        value(0x08, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
        value(0x08, 0x18, b"UI", b"2.25.47 "),
        value(0x08, 0x50, b"SH", b" A42 "),
        value(0x08, 0x60, b"CS", b"CT"),
        Node::Sequence {
            tag: Tag(0x0008, 0x1140),
            items: vec![vec![value(8, 0x18, b"UI", b"2.25.9\0"), value(0x10, 0x20, b"LO", b"INNER")]],
            undefined: false,
            undefined_items: false,
            unknown: false,
        },
        value(0x10, 0x20, b"LO", &[b'M', 0xFC, b'L']),
        value(0x10, 0x21, b"LO", b""),
        value(0x20, 0x0D, b"UI", b"2.25.3\0"),
        value(0x20, 0x0E, b"UI", b"not a uid"),
        value(0x7FE0, 0x10, b"OW", &[0; 4]),
    ];
    let found = walk(&encode(&nodes, EL).0, EXPLICIT).unwrap();
    assert_eq!(found.sop_class.unwrap().as_str(), "1.2.840.10008.5.1.4.1.1.2");
    assert_eq!(found.sop_instance.unwrap().reveal().as_str(), "2.25.47");
    assert_eq!(found.accession.unwrap().reveal(), "A42");
    assert_eq!(found.modality.as_deref(), Some("CT"));
    assert_eq!(found.patient_id.unwrap().reveal(), "M\u{fc}L");
    assert_eq!(found.patient_id_issuer, None);
    assert_eq!(found.study.unwrap().reveal().as_str(), "2.25.3");
    assert_eq!(found.series, None);
    assert_eq!((found.elements, found.pixel_data), (10, true));

    nodes[2] = value(0x08, 0x50, b"SH", &[b'A'; limits::VALUE_BYTES_MAX + 1]);
    nodes[3] = value(0x08, 0x60, b"CS", b"Doe^Jane");
    let found = walk(&encode(&nodes, EL).0, EXPLICIT).unwrap();
    assert_eq!((found.accession, found.modality), (None, None));
}

#[test]
fn an_unknown_transfer_syntax_is_not_looked_at_and_says_so() {
    let mut walker = Walker::new(&Uid::parse("1.2.826.0.1.3680043.2.1143.1").unwrap());
    assert!(!walker.is_on());
    walker.feed(b"anything").unwrap();
    assert_eq!(walker.finish(), Ok(Findings::default()));
    let walker = Walker::new(&Uid::parse("1.2.826.0.1.3680043.2.1143.1").unwrap());
    assert_eq!(walker.finish(), Err(WalkError::Empty));
}

#[test]
fn an_error_stays() {
    let mut walker = Walker::new(&Uid::parse(EXPLICIT).unwrap());
    let error = walker.feed(b"garbage, and more of it").unwrap_err();
    assert_eq!(walker.feed(b"\x08\x00\x60\x00CS\x02\x00CT"), Err(error.clone()));
    assert_eq!(walker.finish(), Err(error));
}

#[test]
fn bulk_of_four_gigabytes_passes_piece_by_piece() {
    let mut walker = Walker::new(&Uid::parse(EXPLICIT).unwrap());
    let piece = vec![0x5A; 1 << 20];
    walker.feed(&written(|out| header(out, Tag::PIXEL_DATA, *b"OW", u32::MAX - 1, EL))).unwrap();
    for _ in 0..4095 {
        walker.feed(&piece).unwrap();
    }
    walker.feed(&piece[..(1 << 20) - 2]).unwrap();
    let found = walker.finish().unwrap();
    assert_eq!(found.data_set_bytes, 12 + u64::from(u32::MAX) - 1);
}
