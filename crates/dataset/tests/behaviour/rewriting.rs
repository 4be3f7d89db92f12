//! What a rewriter changes, and that it changes nothing else.

use crate::common::*;
use base::{Phi, Timestamp, Uid};
use dataset::{
    Action, Change, Decision, Edit, EditError, ElementHeader, Encoding, NewElement, NewValue,
    OriginalAttributes, Outcome, Place, RewriteError, Rewriter, Rewritten, Rule, RuleError, Rules, Tag,
    WholeElement,
};
use proptest::prelude::*;

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const BIG: &str = "1.2.840.10008.1.2.2";

const INSTITUTION: Tag = Tag(0x0008, 0x0080);
const REFERENCED: Tag = Tag(0x0008, 0x1140);
const REQUEST: Tag = Tag(0x0040, 0x0275);
const STUDY_ID: Tag = Tag(0x0020, 0x0010);
const OTHER_IDS: Tag = Tag(0x0010, 0x1002);

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn rule(tag: Tag, action: Action) -> Rule {
    Rule { path: Vec::new(), tag, action }
}

fn set(tag: Tag, text: &str) -> Rule {
    rule(tag, Action::Set(NewValue::text(text)))
}

fn rewrite<'a, E: Edit>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    syntax: &str,
    edit: E,
) -> Result<(Vec<u8>, Rewritten), RewriteError> {
    let mut rewriter = Rewriter::new(&uid(syntax), edit).unwrap();
    let mut out = Vec::new();
    for piece in pieces {
        rewriter.feed(piece, &mut out)?;
    }
    let (done, _) = rewriter.finish(&mut out)?;
    assert_eq!((done.after.bytes, done.after.digest), (out.len() as u64, base::Digest::of(&out)));
    Ok((out, done))
}

/// Applies rules to a data set of nodes, and gives the bytes that result.
fn apply(nodes: &[Node], encoding: Encoding, rules: Vec<Rule>) -> Result<Vec<u8>, RewriteError> {
    let (bytes, _) = encode(nodes, encoding);
    rewrite([bytes.as_slice()], syntax_of(encoding), Rules::new(rules).unwrap()).map(|(out, _)| out)
}

fn syntax_of(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::ImplicitLittle => IMPLICIT,
        Encoding::ExplicitLittle => EXPLICIT,
        Encoding::ExplicitBig => BIG,
    }
}

const ALL: [Encoding; 3] = [Encoding::ImplicitLittle, Encoding::ExplicitLittle, Encoding::ExplicitBig];

fn patient() -> Vec<Node> {
    vec![
        value(0x0008, 0x0050, b"SH", b"A1"),
        value(0x0008, 0x0080, b"LO", b"SOUTH HOSPITAL"),
        value(0x0010, 0x0010, b"PN", b"DOE^JANE"),
        value(0x0010, 0x0020, b"LO", b"4711"),
        value(0x0028, 0x0010, b"US", &[0, 2]),
        value(0x7FE0, 0x0010, b"OW", &[7; 64]),
    ]
}

fn sequence(tag: Tag, items: Vec<Vec<Node>>, undefined: bool) -> Node {
    Node::Sequence { tag, items, undefined, undefined_items: undefined, unknown: false }
}

#[test]
fn rows_change_their_element_and_nothing_else() {
    type Case = (Rule, fn(&mut Vec<Node>));
    let cases: Vec<Case> = vec![
        (set(Tag::PATIENT_ID, "N-4711"), |nodes| nodes[3] = value(0x0010, 0x0020, b"LO", b"N-4711")),
        (set(Tag::PATIENT_ID, "odd"), |nodes| nodes[3] = value(0x0010, 0x0020, b"LO", b"odd ")),
        (set(Tag::PATIENT_ID_ISSUER, "NORTH"), |nodes| {
            nodes.insert(4, value(0x0010, 0x0021, b"LO", b"NORTH "));
        }),
        (rule(Tag::PATIENT_ID_ISSUER, Action::Replace(NewValue::text("NORTH"))), |_| {}),
        (rule(Tag::PATIENT_ID, Action::Replace(NewValue::text("12"))), |nodes| {
            nodes[3] = value(0x0010, 0x0020, b"LO", b"12");
        }),
        (rule(Tag::PATIENT_ID, Action::Prefix(Phi::new("N-".into()))), |nodes| {
            nodes[3] = value(0x0010, 0x0020, b"LO", b"N-4711");
        }),
        (rule(Tag::PATIENT_ID_ISSUER, Action::Prefix(Phi::new("N-".into()))), |_| {}),
        (rule(INSTITUTION, Action::Remove), |nodes| {
            nodes.remove(1);
        }),
        (rule(OTHER_IDS, Action::Remove), |_| {}),
        (rule(STUDY_ID, Action::Copy { from: Tag::ACCESSION }), |nodes| {
            nodes.insert(4, value(0x0020, 0x0010, b"SH", b"A1"));
        }),
        (rule(STUDY_ID, Action::Copy { from: Tag(0x0008, 0x1030) }), |_| {}),
        (set(Tag(0x0040, 0x1400), "late"), |nodes| nodes.insert(5, value(0x0040, 0x1400, b"LT", b"late"))),
        (
            rule(
                Tag(0x0008, 0x0051),
                Action::Set(NewValue::Items(vec![vec![(Tag(0x0040, 0x0031), NewValue::text("NORTH"))]])),
            ),
            |nodes| {
                let item = vec![value(0x0040, 0x0031, b"UT", b"NORTH ")];
                nodes.insert(1, sequence(Tag(0x0008, 0x0051), vec![item], false));
            },
        ),
    ];
    for (rule, change) in cases {
        for encoding in ALL {
            let mut want = patient();
            change(&mut want);
            let (want, _) = encode(&want, encoding);
            let got = apply(&patient(), encoding, vec![rule.clone()]).unwrap();
            assert_eq!(got, want, "{rule:?}, {encoding:?}");
        }
    }
}

#[test]
fn what_was_done_is_counted_by_tag_and_digests_tell_both_data_sets() {
    let (bytes, _) = encode(&patient(), Encoding::ExplicitLittle);
    let rules = vec![
        set(Tag::PATIENT_ID, "X"),
        set(Tag::PATIENT_ID_ISSUER, "NORTH"),
        rule(INSTITUTION, Action::Remove),
        rule(OTHER_IDS, Action::Remove),
    ];
    let (out, done) = rewrite([bytes.as_slice()], EXPLICIT, Rules::new(rules).unwrap()).unwrap();
    let change = |replaced, inserted, removed| Change { replaced, inserted, removed };
    let want = [
        (INSTITUTION, change(0, 0, 1)),
        (Tag::PATIENT_ID, change(1, 0, 0)),
        (Tag::PATIENT_ID_ISSUER, change(0, 1, 0)),
    ];
    assert_eq!(done.changes.into_iter().collect::<Vec<_>>(), want);
    assert_eq!((done.before.digest, done.more), (base::Digest::of(&bytes), 0));
    assert_eq!(done.after.digest, base::Digest::of(&out));
}

#[test]
fn an_element_that_is_empty_gets_no_prefix() {
    let nodes = [value(0x0010, 0x0020, b"LO", b"  ")];
    let rule = rule(Tag::PATIENT_ID, Action::Prefix(Phi::new("N-".into())));
    let out = apply(&nodes, Encoding::ExplicitLittle, vec![rule]).unwrap();
    assert_eq!(out, encode(&nodes, Encoding::ExplicitLittle).0);
}

#[test]
fn items_of_sequences_are_changed_and_their_sequence_gets_undefined_length() {
    let item = |text: &[u8]| vec![value(0x0008, 0x0050, b"SH", text), value(0x0040, 0x1001, b"SH", b"R1")];
    let other = sequence(REFERENCED, vec![vec![value(0x0008, 0x1150, b"UI", b"1.2\0")]], false);
    for encoding in ALL {
        for undefined in [false, true] {
            let nodes = [other.clone(), sequence(REQUEST, vec![item(b"A1"), vec![]], undefined)];
            let rule =
                Rule { path: vec![REQUEST], tag: Tag::ACCESSION, action: Action::Set(NewValue::text("B2")) };
            let empty = vec![value(0x0008, 0x0050, b"SH", b"B2")];
            let want = [other.clone(), sequence(REQUEST, vec![item(b"B2"), empty], true)];
            let got = apply(&nodes, encoding, vec![rule]).unwrap();
            assert_eq!(got, encode(&want, encoding).0, "{encoding:?}, undefined {undefined}");
        }
    }
}

#[test]
fn a_sequence_that_came_as_un_is_changed_in_its_own_encoding() {
    let node = |text: &[u8]| Node::Sequence {
        tag: REQUEST,
        items: vec![vec![value(0x0008, 0x0050, b"SH", text)]],
        undefined: true,
        undefined_items: true,
        unknown: true,
    };
    let rule = Rule { path: vec![REQUEST], tag: Tag::ACCESSION, action: Action::Set(NewValue::text("B2")) };
    for encoding in [Encoding::ExplicitLittle, Encoding::ExplicitBig] {
        let got = apply(&[node(b"A1")], encoding, vec![rule.clone()]).unwrap();
        assert_eq!(got, encode(&[node(b"B2")], encoding).0);
    }
}

#[test]
fn a_rule_reaches_into_a_sequence_of_any_form_or_refuses_the_data_set() {
    let rule =
        || Rule { path: vec![REQUEST], tag: Tag::ACCESSION, action: Action::Set(NewValue::text("B2")) };
    let item = |text: &[u8]| vec![value(0x0008, 0x0050, b"SH", text)];
    let (inner, _) = encode(&[sequence(REQUEST, vec![item(b"A1")], false)], Encoding::ImplicitLittle);
    for encoding in [Encoding::ExplicitLittle, Encoding::ExplicitBig] {
        // UN of defined length, with items in implicit VR little endian.
        let unknown = [value(REQUEST.0, REQUEST.1, b"UN", &inner[8..])];
        let want = Node::Sequence {
            tag: REQUEST,
            items: vec![item(b"B2")],
            undefined: true,
            undefined_items: true,
            unknown: true,
        };
        assert_eq!(apply(&unknown, encoding, vec![rule()]).unwrap(), encode(&[want], encoding).0);
        let other = [value(REQUEST.0, REQUEST.1, b"OB", &inner[8..])];
        let error = apply(&other, encoding, vec![rule()]).unwrap_err();
        assert!(matches!(error, RewriteError::Edit(EditError::Refused { tag: REQUEST, .. })), "{error}");
    }
}

#[test]
fn text_is_written_in_the_data_sets_own_character_set_or_refused() {
    type Case = (&'static [u8], &'static str, Option<&'static [u8]>);
    let cases: &[Case] = &[
        (b"ISO_IR 100", "Z\u{FC}rich", Some(b"Z\xFCrich")),
        (b"ISO_IR 192", "Z\u{FC}rich", Some("Zürich".as_bytes())),
        (b"ISO_IR 144", "Z\u{FC}rich", None),
        (b"", "Z\u{FC}rich", None),
    ];
    for (set_name, text, want) in cases {
        let nodes = [value(0x0008, 0x0005, b"CS", &padded(set_name)), value(0x0010, 0x0020, b"LO", b"4711")];
        let got = apply(&nodes, Encoding::ImplicitLittle, vec![set(INSTITUTION, text)]);
        let want = want.map(|bytes| {
            let nodes = [nodes[0].clone(), value(0x0008, 0x0080, b"LO", &padded(bytes)), nodes[1].clone()];
            encode(&nodes, Encoding::ImplicitLittle).0
        });
        match want {
            Some(want) => assert_eq!(got.unwrap(), want, "{text}"),
            None => {
                let error = got.unwrap_err();
                assert_eq!(error, EditError::NotExpressible { tag: INSTITUTION }.into());
                assert!(!error.to_string().contains("rich"));
            }
        }
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(2), b' ');
    bytes
}

#[test]
fn previous_values_are_kept_where_something_changed() {
    let keep = |rules: Vec<Rule>| {
        let about = OriginalAttributes {
            when: Timestamp(1_700_000_000_000),
            modifying_system: "SLUIS".into(),
            source_of_previous_values: "SOUTH".into(),
        };
        Rules::new(rules).unwrap().keeping_originals(about).unwrap()
    };
    let item = |previous: Vec<Node>| {
        vec![
            sequence(Tag(0x0400, 0x0550), vec![previous], false),
            value(0x0400, 0x0562, b"DT", &padded(b"20231114221320+0000")),
            value(0x0400, 0x0563, b"LO", &padded(b"SLUIS")),
            value(0x0400, 0x0564, b"LO", &padded(b"SOUTH")),
            value(0x0400, 0x0565, b"CS", b"COERCE"),
        ]
    };
    let others = sequence(OTHER_IDS, vec![vec![value(0x0010, 0x0020, b"LO", b"99")]], true);
    let older = item(vec![value(0x0010, 0x0020, b"LO", b"OLD1")]);
    let rules = || {
        vec![
            set(Tag::PATIENT_ID, "N1"),
            set(Tag::PATIENT_ID_ISSUER, "NORTH1"),
            rule(OTHER_IDS, Action::Remove),
            set(INSTITUTION, "SOUTH HOSPITAL"),
        ]
    };
    let previous = vec![
        value(0x0010, 0x0020, b"LO", b"4711"),
        // What was not there is there without a value.
        value(0x0010, 0x0021, b"LO", b""),
        others.clone(),
    ];
    for encoding in ALL {
        for existing in [None, Some(false), Some(true)] {
            let mut nodes = patient();
            nodes.insert(4, others.clone());
            let mut want = patient();
            want[3] = value(0x0010, 0x0020, b"LO", b"N1");
            want.insert(4, value(0x0010, 0x0021, b"LO", b"NORTH1"));
            let added = item(previous.clone());
            if let Some(undefined) = existing {
                nodes.insert(6, sequence(Tag::ORIGINAL_ATTRIBUTES, vec![older.clone()], undefined));
            } else {
                want.insert(6, sequence(Tag::ORIGINAL_ATTRIBUTES, vec![added], false));
            }
            let (bytes, _) = encode(&nodes, encoding);
            let (got, _) = rewrite(bytes.chunks(7), syntax_of(encoding), keep(rules())).unwrap();
            if existing.is_none() {
                assert_eq!(got, encode(&want, encoding).0, "{encoding:?}");
                continue;
            }
            // The older item has undefined length now, the new one has not: compared as text.
            let lines = tokenize([got.as_slice()], encoding);
            assert_eq!(lines.end, Ok(0));
            let text = String::from_utf8_lossy(&got).into_owned();
            let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle}, {encoding:?}"));
            assert!(at("OLD1") < at("4711") && at("N1") < at("OLD1"), "{encoding:?}");
        }
        // Nothing that has another value: nothing is recorded.
        let (bytes, _) = encode(&patient(), encoding);
        let same = keep(vec![set(Tag::PATIENT_ID, "4711"), rule(OTHER_IDS, Action::Remove)]);
        assert_eq!(rewrite([bytes.as_slice()], syntax_of(encoding), same).unwrap().0, bytes);
    }
}

#[test]
fn dicom_rs_reads_what_was_rewritten() {
    use dicom_object::InMemDicomObject;
    use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};

    let about = OriginalAttributes {
        when: Timestamp(0),
        modifying_system: "SLUIS".into(),
        source_of_previous_values: "SOUTH".into(),
    };
    let rules = Rules::new(vec![set(Tag::PATIENT_ID, "N1"), set(Tag::PATIENT_ID_ISSUER, "NORTH")]).unwrap();
    let rules = rules.keeping_originals(about).unwrap();
    for encoding in ALL {
        let (bytes, _) = encode(&patient(), encoding);
        let (out, _) = rewrite([bytes.as_slice()], syntax_of(encoding), rules.clone()).unwrap();
        let syntax = TransferSyntaxRegistry.get(syntax_of(encoding)).unwrap();
        let object = InMemDicomObject::read_dataset_with_ts(out.as_slice(), syntax).unwrap();
        let text = |object: &InMemDicomObject, group, element| {
            object.element(dicom_core::Tag(group, element)).unwrap().to_str().unwrap().into_owned()
        };
        assert_eq!((text(&object, 0x10, 0x20), text(&object, 0x10, 0x21)), ("N1".into(), "NORTH".into()));
        let item = |object: &InMemDicomObject, group, element| {
            object.element(dicom_core::Tag(group, element)).unwrap().items().unwrap()[0].clone()
        };
        let original = item(&object, 0x0400, 0x0561);
        assert_eq!(text(&original, 0x0400, 0x0565), "COERCE");
        assert_eq!(text(&item(&original, 0x0400, 0x0550), 0x0010, 0x0020), "4711");
    }
}

#[test]
fn an_element_after_its_record_was_written_is_refused() {
    let about = OriginalAttributes {
        when: Timestamp(0),
        modifying_system: "S".into(),
        source_of_previous_values: String::new(),
    };
    let rules = Rules::new(vec![set(Tag::PATIENT_ID, "N1"), set(INSTITUTION, "N")]).unwrap();
    let nodes = [
        value(0x0010, 0x0020, b"LO", b"4711"),
        value(0x7FE0, 0x0010, b"OW", b"12"),
        value(0x0008, 0x0080, b"LO", b"SOUTH "),
    ];
    let (bytes, _) = encode(&nodes, Encoding::ExplicitLittle);
    let error = rewrite([bytes.as_slice()], EXPLICIT, rules.keeping_originals(about).unwrap()).unwrap_err();
    assert_eq!(error, EditError::OutOfOrder { tag: INSTITUTION }.into());
}

#[test]
fn an_element_that_is_there_twice_or_out_of_order_is_there_once_afterwards() {
    let nodes = [
        value(0x0010, 0x0030, b"DA", b"20000101"),
        value(0x0010, 0x0020, b"LO", b"1"),
        value(0x0010, 0x0020, b"LO", b"2"),
    ];
    let nodes = nodes.map(|node| match node {
        Node::Value { tag, vr, value } => Node::Value { tag, vr, value: padded(&value) },
        node => node,
    });
    let got = apply(&nodes, Encoding::ExplicitLittle, vec![set(Tag::PATIENT_ID, "N1")]).unwrap();
    let want = [value(0x0010, 0x0020, b"LO", b"N1"), nodes[0].clone()];
    assert_eq!(got, encode(&want, Encoding::ExplicitLittle).0);
}

#[test]
fn a_group_length_goes_where_its_group_changes() {
    let length = |group| value(group, 0, b"UL", &[1, 0, 0, 0]);
    let nodes = [length(0x0008), length(0x0010), value(0x0010, 0x0020, b"LO", b"1 ")];
    let got = apply(&nodes, Encoding::ImplicitLittle, vec![set(Tag::PATIENT_ID, "2")]).unwrap();
    let want = [length(0x0008), value(0x0010, 0x0020, b"LO", b"2 ")];
    assert_eq!(got, encode(&want, Encoding::ImplicitLittle).0);
}

#[test]
fn values_that_would_be_cut_off_elsewhere_are_refused() {
    let long = vec![b'9'; 64];
    let nodes = [value(0x0008, 0x0050, b"SH", b"1234567890123456"), value(0x0010, 0x0020, b"LO", &long)];
    for (tag, max) in [(Tag::PATIENT_ID, 64), (Tag::ACCESSION, 16)] {
        let rule = rule(tag, Action::Prefix(Phi::new("N-".into())));
        let error = apply(&nodes, Encoding::ExplicitLittle, vec![rule]).unwrap_err();
        assert_eq!(error, EditError::TooLong { tag, max }.into());
    }
    let copy = rule(STUDY_ID, Action::Copy { from: Tag::PATIENT_ID });
    let error = apply(&nodes, Encoding::ExplicitLittle, vec![copy]).unwrap_err();
    assert_eq!(error, EditError::TooLong { tag: STUDY_ID, max: 16 }.into());
    let huge = [value(0x0010, 0x0020, b"UT", &vec![b'9'; 70_000])];
    let rule = rule(Tag::PATIENT_ID, Action::Prefix(Phi::new("N-".into())));
    let error = apply(&huge, Encoding::ExplicitLittle, vec![rule]).unwrap_err();
    assert!(matches!(error, RewriteError::Edit(EditError::UnreadablyLong { .. })), "{error}");
}

#[test]
fn rules_that_cannot_be_are_refused_before_any_data_set() {
    let items = |tag| NewValue::Items(vec![vec![(tag, NewValue::text("x"))]]);
    let long = "x".repeat(65);
    let cases: Vec<(Vec<Rule>, &str)> = vec![
        (vec![set(Tag(0x0009, 0x1001), "x")], "private or not in the dictionary"),
        (vec![set(Tag(0x0028, 0x0010), "x")], "value representation US"),
        (vec![set(Tag::STUDY, "1.2")], "must not change UIDs"),
        (vec![rule(Tag::SOP_INSTANCE, Action::Remove)], "must not change UIDs"),
        (vec![set(Tag::CHARACTER_SET, "ISO_IR 192")], "how other elements are read"),
        (vec![rule(Tag::PIXEL_DATA, Action::Remove)], "how other elements are read"),
        (vec![rule(Tag::ORIGINAL_ATTRIBUTES, Action::Remove)], "how other elements are read"),
        (vec![set(Tag(0x0010, 0), "x")], "how other elements are read"),
        (vec![set(OTHER_IDS, "x")], "is a sequence"),
        (vec![rule(Tag::PATIENT_ID, Action::Set(items(Tag::PATIENT_ID)))], "is no sequence"),
        (vec![rule(OTHER_IDS, Action::Set(items(Tag::STUDY)))], "must not change UIDs"),
        (
            vec![Rule { path: vec![Tag::PATIENT_ID], tag: Tag::ACCESSION, action: Action::Remove }],
            "is no sequence",
        ),
        (vec![set(Tag::PATIENT_ID, &long)], "does not fit"),
        (vec![set(Tag::PATIENT_ID, "a\\b")], "does not fit"),
        (vec![set(Tag::PATIENT_ID, "a\nb")], "does not fit"),
        (vec![set(Tag::PATIENT_ID, " a")], "does not fit"),
        (vec![set(Tag::MODALITY, "ct")], "does not fit"),
        (vec![rule(Tag::ACCESSION, Action::Copy { from: STUDY_ID })], "comes after it"),
        (vec![set(Tag::PATIENT_ID, "a"), rule(Tag::PATIENT_ID, Action::Remove)], "two rules"),
    ];
    for (rules, want) in cases {
        let error = Rules::new(rules.clone()).unwrap_err();
        assert!(error.to_string().contains(want), "{rules:?}: {error}");
    }
    let about = || OriginalAttributes {
        when: Timestamp(0),
        modifying_system: "S".into(),
        source_of_previous_values: String::new(),
    };
    let late = Rules::new(vec![set(Tag(0x2110, 0x0030), "x")]).unwrap();
    let not = RuleError::NotRecordable { tag: Tag(0x2110, 0x0030) };
    assert_eq!(late.keeping_originals(about()).unwrap_err(), not);
    let nameless = OriginalAttributes { modifying_system: " ".into(), ..about() };
    assert!(Rules::new(vec![]).unwrap().keeping_originals(nameless).is_err());
}

#[test]
fn broken_data_sets_and_empty_ones_are_errors_that_stay() {
    let rules = || Rules::new(vec![set(Tag::PATIENT_ID, "N")]).unwrap();
    assert_eq!(rewrite([], EXPLICIT, rules()).unwrap_err(), RewriteError::Empty);
    assert_eq!(rewrite([[0; 8].as_slice()], EXPLICIT, rules()).unwrap_err(), RewriteError::Empty);
    let (bytes, ends) = encode(&patient(), Encoding::ExplicitLittle);
    for cut in (1..bytes.len()).filter(|cut| !ends.contains(cut)) {
        let error = rewrite([&bytes[..cut]], EXPLICIT, rules());
        assert!(matches!(error, Err(RewriteError::Structure(_))), "cut at {cut}");
    }
    let packed = deflate(&bytes);
    let error = rewrite([&packed[..packed.len() / 2]], DEFLATED, rules()).unwrap_err();
    assert!(matches!(error, RewriteError::Deflate(_)), "{error}");

    let mut rewriter = Rewriter::new(&uid(EXPLICIT), rules()).unwrap();
    let mut out = Vec::new();
    let error = rewriter.feed(b"\x10\x00\x20\x00??\0\0", &mut out).unwrap_err();
    assert_eq!(rewriter.feed(&bytes, &mut out), Err(error.clone()));
    assert_eq!(rewriter.finish(&mut out).unwrap_err(), error);
    assert!(out.is_empty());
    assert!(Rewriter::new(&uid("1.3.6.1.4.1.99.1"), rules()).is_none());
}

#[test]
fn an_empty_table_passes_a_deflated_data_set_as_it_came() {
    let packed = deflate(&encode(&patient(), Encoding::ExplicitLittle).0);
    let (out, done) = rewrite(packed.chunks(3), DEFLATED, Rules::new(vec![]).unwrap()).unwrap();
    assert_eq!(out, packed);
    assert_eq!(done.before, done.after);
}

#[test]
fn a_deflated_data_set_is_inflated_changed_and_deflated() {
    let (plain, _) = encode(&patient(), Encoding::ExplicitLittle);
    let packed = deflate(&plain);
    let rules = || Rules::new(vec![set(Tag::PATIENT_ID, "N1")]).unwrap();
    let (want, _) = rewrite([plain.as_slice()], EXPLICIT, rules()).unwrap();
    let (whole, _) = rewrite([packed.as_slice()], DEFLATED, rules()).unwrap();
    assert_eq!(inflate(&whole), want);
    assert_eq!(whole.len() % 2, 0);
}

fn inflate(packed: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut out = Vec::new();
    flate2::read::DeflateDecoder::new(packed).read_to_end(&mut out).unwrap();
    out
}

#[test]
fn pixels_of_any_length_pass_without_being_held() {
    let (mut head, _) = encode(&patient()[..5], Encoding::ExplicitLittle);
    let pixels = 300 * 1024 * 1024u32;
    header(&mut head, Tag::PIXEL_DATA, *b"OW", pixels, Encoding::ExplicitLittle);
    let rules = Rules::new(vec![set(Tag::PATIENT_ID, "N1")]).unwrap();
    let mut rewriter = Rewriter::new(&uid(EXPLICIT), rules).unwrap();
    let (mut out, mut bytes) = (Vec::new(), 0u64);
    rewriter.feed(&head, &mut out).unwrap();
    let piece = vec![5; 1024 * 1024];
    for _ in 0..pixels / 1024 / 1024 {
        bytes += out.len() as u64;
        out.clear();
        rewriter.feed(&piece, &mut out).unwrap();
        assert!(out.len() <= piece.len() && out.capacity() < 4 * piece.len());
    }
    bytes += out.len() as u64;
    out.clear();
    let (done, _) = rewriter.finish(&mut out).unwrap();
    assert_eq!(done.after.bytes, bytes + out.len() as u64);
    assert_eq!(done.after.bytes, done.before.bytes - 2);
}

/// Walks everything and changes nothing.
struct Walks;

impl Edit for Walks {
    fn element(&mut self, _: &Place<'_>, _: &ElementHeader) -> Result<Decision, EditError> {
        Ok(Decision::Descend)
    }

    fn read(&mut self, _: &Place<'_>, _: WholeElement<'_>) -> Result<Outcome, EditError> {
        Ok(Outcome::Keep)
    }
}

/// Reads every element of the first level and keeps it.
struct Reads;

impl Edit for Reads {
    fn element(&mut self, _: &Place<'_>, _: &ElementHeader) -> Result<Decision, EditError> {
        Ok(Decision::Read { bytes_max: 1 << 20 })
    }

    fn read(&mut self, _: &Place<'_>, element: WholeElement<'_>) -> Result<Outcome, EditError> {
        assert!(element.raw.starts_with(element.header.raw.as_slice()));
        Ok(Outcome::Keep)
    }
}

/// At every level, does something else to each element in turn, whatever it is.
#[derive(Default)]
struct Mixes {
    count: usize,
}

impl Edit for Mixes {
    fn element(&mut self, place: &Place<'_>, header: &ElementHeader) -> Result<Decision, EditError> {
        self.count += 1;
        Ok(match (self.count + place.path.len()) % 5 {
            0 => Decision::Keep,
            1 => Decision::Remove,
            2 => Decision::Read { bytes_max: 1 << 20 },
            3 => Decision::Replace(NewElement::Sequence { tag: header.tag, items: vec![vec![]] }),
            _ => Decision::Descend,
        })
    }

    fn read(&mut self, _: &Place<'_>, element: WholeElement<'_>) -> Result<Outcome, EditError> {
        Ok(Outcome::Replace(NewElement::Raw(element.raw.to_vec())))
    }

    fn insert(&mut self, place: &Place<'_>, next: Option<Tag>) -> Result<Option<NewElement>, EditError> {
        let due = next.is_none() && !place.path.is_empty() && self.count.is_multiple_of(2);
        self.count += usize::from(due);
        due.then(|| place.text(Tag(0xFFFC, 0x1001), dataset::Vr::LO, "inserted")).transpose()
    }
}

/// With undefined length, wherever a sequence can be told from a value.
fn undefined(nodes: &[Node], encoding: Encoding) -> Vec<Node> {
    let is_told = |tag: Tag, undefined| undefined || encoding.is_explicit() || tag.is_sequence();
    let inner = |node: &Node| match node {
        Node::Sequence { tag, items, undefined: was, unknown, .. } if is_told(*tag, *was) => {
            let unknown = *unknown && *was && encoding.is_explicit();
            let within = if unknown { Encoding::ImplicitLittle } else { encoding };
            let items = items.iter().map(|item| undefined(item, within)).collect();
            Node::Sequence { tag: *tag, items, undefined: true, undefined_items: true, unknown }
        }
        node => node.clone(),
    };
    nodes.iter().map(inner).collect()
}

proptest! {
    #[test]
    fn keeping_or_reading_all_gives_the_same_bytes_in_any_pieces(
        nodes in data_sets(), encoding in encodings(), places in prop::collection::vec(any::<usize>(), 0..6)
    ) {
        let (bytes, _) = encode(&nodes, encoding);
        let syntax = syntax_of(encoding);
        let absent = || Rules::new(vec![rule(Tag(0x0010, 0x21B0), Action::Remove)]).unwrap();
        let (kept, done) = rewrite(cut(&bytes, &places), syntax, absent()).unwrap();
        prop_assert_eq!(&kept, &bytes);
        prop_assert!(done.changes.is_empty());
        prop_assert_eq!(done.before, done.after);
        prop_assert_eq!(rewrite(cut(&bytes, &places), syntax, Reads).unwrap().0, bytes);
    }

    #[test]
    fn walking_all_changes_lengths_of_sequences_only(
        nodes in data_sets(), encoding in encodings(), places in prop::collection::vec(any::<usize>(), 0..6)
    ) {
        let (bytes, _) = encode(&nodes, encoding);
        let (walked, _) = rewrite(cut(&bytes, &places), syntax_of(encoding), Walks).unwrap();
        prop_assert_eq!(walked, encode(&undefined(&nodes, encoding), encoding).0);
    }

    #[test]
    fn any_split_gives_the_same_output_and_the_output_is_a_data_set(
        nodes in data_sets(), encoding in encodings(), places in prop::collection::vec(any::<usize>(), 0..6)
    ) {
        let (bytes, _) = encode(&nodes, encoding);
        let syntax = syntax_of(encoding);
        let whole = rewrite([bytes.as_slice()], syntax, Mixes::default());
        let pieces = rewrite(cut(&bytes, &places), syntax, Mixes::default());
        let single = rewrite(bytes.chunks(1), syntax, Mixes::default());
        prop_assert_eq!(&whole, &pieces);
        prop_assert_eq!(&whole, &single);
        let (out, _) = whole.unwrap();
        prop_assert_eq!(tokenize([out.as_slice()], encoding).end, Ok(0));
        if encoding == Encoding::ExplicitLittle {
            let packed = deflate(&bytes);
            let again = rewrite(cut(&packed, &places), DEFLATED, Mixes::default()).unwrap().0;
            prop_assert_eq!(inflate(&again), out);
        }
    }

    #[test]
    fn any_bytes_are_rewritten_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200), encoding in encodings()
    ) {
        let _ = rewrite([bytes.as_slice()], syntax_of(encoding), Mixes::default());
        let _ = rewrite([bytes.as_slice()], DEFLATED, Walks);
    }
}
