//! What becomes of whole instances: links, marks, private blocks, refusals, traces.

use crate::common::{CT, EXPLICIT, IMPLICIT, contains, ct, el, encode, key, plan, plan_of, run, sq};
use dataset::Tag;
use fixtures::{CtSeries, Subject, TransferSyntax};
use pseudonym::{Done, PatientRules, Profile, ProfileOption, Refusal};

fn uid(of: &str) -> String {
    key(1).uid(of).to_string()
}

#[test]
fn references_lead_to_the_same_instances_as_before() {
    let reference = sq(
        (0x0008, 0x1140),
        vec![vec![el((0x0008, 0x1150), b"UI", CT), el((0x0008, 0x1155), b"UI", "1.2.3.4.5")]],
    );
    let frame = el((0x0020, 0x0052), b"UI", "1.2.840.10008.1.4.1.1");
    let data = encode(&ct(vec![reference, frame]), true);
    let (out, done) = run(&plan(&[]), &data, EXPLICIT, 7).unwrap();
    let new = uid("1.2.3.4.5");
    assert_eq!(done.sop_instance.as_str(), new);
    let times = out.windows(new.len()).filter(|window| *window == new.as_bytes()).count();
    assert_eq!(times, 2, "the instance and the reference to it");
    assert!(contains(&out, CT.as_bytes()), "a class is no identifier");
    assert!(contains(&out, b"1.2.840.10008.1.4.1.1"), "nor is a well-known frame of reference");
    assert!(!contains(&out, b"1.2.3.4"));
}

#[test]
fn a_patient_is_one_patient_on_every_day_and_its_dates_keep_their_distance() {
    let plan = plan(&[ProfileOption::RetainModifiedDates]);
    let study = |date: &str, id: &str, name: &str| {
        let more = vec![
            el((0x0008, 0x0020), b"DA", date),
            el((0x0010, 0x0020), b"LO", id),
            el((0x0010, 0x0010), b"PN", name),
        ];
        run(&plan, &encode(&ct(more), true), EXPLICIT, 4096).unwrap().0
    };
    let date = |out: &[u8]| {
        let at = out.windows(6).position(|window| window == b"\x08\0\x20\0DA").unwrap();
        let text = std::str::from_utf8(&out[at + 8..at + 16]).unwrap().to_owned();
        time::Date::parse(&text, time::macros::format_description!("[year][month][day]")).unwrap()
    };
    let (one, other) = (study("20200301", "471100", "DOE^JANE"), study("20200311", " 471100 ", "DOE^J"));
    assert_eq!((date(&other) - date(&one)).whole_days(), 10);
    assert_ne!(date(&one).to_string(), "2020-03-01");
    let pseudonym = key(1).patient_id(&pseudonym::PatientKey::new("", "471100"));
    assert!(contains(&one, pseudonym.as_bytes()) && contains(&other, pseudonym.as_bytes()));
    assert!(!contains(&study("20200301", "471101", "DOE^JANE"), pseudonym.as_bytes()));
}

#[test]
fn what_was_done_is_marked() {
    let before = vec![
        el((0x0012, 0x0062), b"CS", "NO"),
        el((0x0012, 0x0063), b"LO", "by Jane"),
        el((0x0028, 0x0303), b"CS", "UNMODIFIED"),
    ];
    for data in [encode(&ct(before), true), encode(&ct(vec![]), true)] {
        let (out, done) = run(&plan(&[ProfileOption::RetainUids]), &data, EXPLICIT, 100).unwrap();
        let codes: Vec<&str> = done.report.codes.iter().map(|code| code.value).collect();
        assert_eq!(codes, ["113100", "113110"]);
        for mark in
            [&b"\x12\0\x62\0CS\x04\0YES "[..], b"113100", b"113110", b"\x28\0\x03\x03CS\x08\0REMOVED "]
        {
            assert_eq!(out.windows(mark.len()).filter(|window| *window == mark).count(), 1, "{mark:?}");
        }
        assert!(!contains(&out, b"Jane") && !contains(&out, b"UNMODIFIED"));
        let at = |tag: &[u8]| out.windows(tag.len()).position(|window| window == tag).unwrap();
        assert!(
            at(b"\x12\0\x62\0") < at(b"\x20\0\x0D\0") && at(b"\x28\0\x11\0") < at(b"\x28\0\x03\x03"),
            "tags ascend"
        );
    }
}

#[test]
fn any_split_of_the_input_gives_the_same_output() {
    let elements = ct(vec![
        el((0x0010, 0x0010), b"PN", "DOE^JANE"),
        sq((0x0040, 0x0275), vec![vec![el((0x0040, 0x0007), b"LO", "knee")]]),
        el((0x0009, 0x0010), b"LO", "VENDOR"),
        el((0x0009, 0x1001), b"UN", "secret"),
    ]);
    for (syntax, explicit) in [(EXPLICIT, true), (IMPLICIT, false)] {
        let data = encode(&elements, explicit);
        let whole = run(&plan(&[]), &data, syntax, data.len()).unwrap();
        for piece in [1, 2, 3, 7, 8, 9, 50] {
            assert_eq!(run(&plan(&[]), &data, syntax, piece).unwrap(), whole, "{piece}");
        }
        assert!(
            !contains(&whole.0, b"secret") && !contains(&whole.0, b"VENDOR") && contains(&whole.0, &[7; 32])
        );
    }
}

#[test]
fn safe_private_attributes_stay_and_their_neighbours_go() {
    let elements = ct(vec![
        el((0x0019, 0x0010), b"LO", "GEMS_ACQU_01"),
        el((0x0019, 0x1023), b"DS", "55"),
        el((0x0019, 0x1022), b"LO", "UNSAFE"),
        el((0x0019, 0x0011), b"LO", "OTHER MAKER"),
        el((0x0019, 0x1123), b"LO", "UNSAFE"),
        el((0x0021, 0x1023), b"LO", "UNSAFE"),
    ]);
    let data = encode(&elements, true);
    let (out, done) = run(&plan(&[ProfileOption::RetainSafePrivate]), &data, EXPLICIT, 64).unwrap();
    assert!(contains(&out, b"GEMS_ACQU_01") && contains(&out, b"\x19\0\x23\x10DS\x02\x0055"));
    assert!(!contains(&out, b"UNSAFE") && !contains(&out, b"OTHER MAKER"));
    assert_eq!(done.report.done.get(&(Tag(0x0019, 0x1023), Done::KeptPrivate)), Some(&1));
    let (out, _) = run(&plan(&[]), &data, EXPLICIT, 64).unwrap();
    assert!(!contains(&out, b"GEMS"));
}

#[test]
fn what_the_patient_left_elsewhere_refuses_the_instance() {
    let name = || el((0x0010, 0x0010), b"PN", "DOE^JANE");
    let cases = [
        (vec![name(), el((0x0018, 0x1020), b"LO", "3.2 for jane")], Some((Tag(0x0018, 0x1020), "a name"))),
        (vec![el((0x0018, 0x1020), b"LO", "mrn-471199b")], Some((Tag(0x0018, 0x1020), "an identifier"))),
        (
            vec![el((0x0010, 0x0030), b"DA", "19601224"), el((0x0018, 0x1020), b"LO", "24.12.1960")],
            Some((Tag(0x0018, 0x1020), "the birth date")),
        ),
        (vec![name(), el((0x0018, 0x1020), b"LO", "Janet 3.2")], None),
        (vec![el((0x0010, 0x0010), b"PN", "HEAD^NECK"), el((0x0018, 0x0015), b"CS", "HEAD")], None),
    ];
    for (elements, want) in cases {
        let result = run(&plan(&[]), &encode(&ct(elements.clone()), true), EXPLICIT, 64);
        match want {
            Some((tag, what)) => {
                assert_eq!(result.unwrap_err(), Refusal::Residual { tag, what }, "{elements:?}")
            }
            None => assert!(result.is_ok(), "{elements:?}: {result:?}"),
        }
    }
}

#[test]
fn what_cannot_be_pseudonymized_is_refused_before_a_byte_goes_out() {
    let without = |tag: Tag| {
        let mut elements = ct(vec![]);
        elements.retain(|element| element.tag != tag);
        encode(&elements, true)
    };
    let with = |element| encode(&ct(vec![element]), true);
    let cases = [
        (without(Tag::PATIENT_ID), Refusal::NoPatient),
        (with(el((0x0010, 0x0020), b"LO", "TEST0815")), Refusal::NoPatient),
        (without(Tag::SOP_INSTANCE), Refusal::NoInstance),
        (
            with(el((0x0008, 0x0016), b"UI", "1.2.840.10008.5.1.4.1.1.104.1")),
            Refusal::SopClass("1.2.840.10008.5.1.4.1.1.104.1".into()),
        ),
        (
            with(el((0x0028, 0x0301), b"CS", "YES")),
            Refusal::Pixels("Burned In Annotation (0028,0301) is YES"),
        ),
    ];
    for (data, want) in cases {
        let mut out = Vec::new();
        let mut engine =
            pseudonym::Pseudonymizer::new(plan(&[]), key(1), &base::Uid::parse(EXPLICIT).unwrap()).unwrap();
        assert_eq!(engine.feed(&data, &mut out).unwrap_err(), want);
        assert_eq!(engine.feed(b"more", &mut out).unwrap_err(), want, "it stays refused");
        assert_eq!(engine.finish(&mut out).unwrap_err(), want);
        assert!(out.is_empty());
    }
    let whole = encode(&ct(vec![]), true);
    for end in 1..whole.len() {
        let cut = run(&plan(&[]), &whole[..end], EXPLICIT, 64);
        // Between two elements a data set can end; what is missing then, the walker's caller was promised.
        if let Ok((out, _)) = cut {
            assert!(contains(&out, b"113100"), "marked as any other: {end}");
        }
    }
    assert!(pseudonym::Pseudonymizer::new(plan(&[]), key(1), &base::Uid::parse("1.2.3").unwrap()).is_err());
}

#[test]
fn what_stands_behind_the_pixels_is_dropped() {
    let data = encode(
        &ct(vec![el((0xFFFA, 0x0010), b"LO", "signed by Jane"), el((0xFFFC, 0xFFFC), b"OB", [0; 8])]),
        true,
    );
    let (out, done) = run(&plan(&[]), &data, EXPLICIT, 64).unwrap();
    assert!(out.ends_with(&[7; 32]) && done.report.done.contains_key(&(Tag(0xFFFC, 0xFFFC), Done::Removed)));
}

#[test]
fn two_issuers_are_two_patients_only_where_the_header_counts() {
    let with = |issuer: &str| {
        let profile = Profile {
            patient: PatientRules { issuer: "header".into(), ..PatientRules::default() },
            ..Profile::default()
        };
        let more = vec![el((0x0010, 0x0021), b"LO", issuer), el((0x0010, 0x0010), b"PN", "DOE^JANE")];
        run(&plan_of(profile), &encode(&ct(more), true), EXPLICIT, 64).unwrap().0
    };
    assert_ne!(with("NORTH"), with("SOUTH"));
    assert_eq!(with("NORTH"), with("NORTH "));
}

#[test]
fn every_transfer_syntax_is_pseudonymized_and_keeps_its_pixels() {
    let subject = Subject::new(1).with_patient_id("471100").with_patient_name("PLANTED^NAME");
    let series = CtSeries { subject: subject.clone(), slices: 1, side: 32 };
    let syntaxes = [
        (TransferSyntax::ImplicitLittle, IMPLICIT),
        (TransferSyntax::ExplicitLittle, EXPLICIT),
        (TransferSyntax::ExplicitBig, "1.2.840.10008.1.2.2"),
        (TransferSyntax::Deflated, "1.2.840.10008.1.2.1.99"),
        (TransferSyntax::Encapsulated, "1.2.840.10008.1.2.1.98"),
        (TransferSyntax::Rle, "1.2.840.10008.1.2.5"),
    ];
    let inflated = |data: &[u8], syntax: &TransferSyntax| match syntax {
        TransferSyntax::Deflated => {
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::DeflateDecoder::new(data), &mut plain).unwrap();
            plain
        }
        _ => data.to_vec(),
    };
    for (syntax, name) in syntaxes {
        let data = series.slice(0).data_set(&syntax).unwrap();
        let (out, done) =
            run(&plan(&[]), &data, name, 1000).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        let (before, after) = (inflated(&data, &syntax), inflated(&out, &syntax));
        assert!(contains(&before, b"PLANTED") && !contains(&after, b"PLANTED"), "{name}");
        assert!(
            !contains(&after, b"471100") && !contains(&after, series.series().as_str().as_bytes()),
            "{name}"
        );
        assert!(contains(&after, done.sop_instance.as_str().as_bytes()), "{name}");
        let pixels = before.get(before.len() - 500..).unwrap();
        assert!(after.ends_with(pixels), "{name}: pixels");
    }
}

#[test]
fn an_rt_structure_set_still_refers_to_its_slices() {
    let series = CtSeries {
        subject: Subject::new(2).with_patient_id("471101").with_patient_name("DOE^JANE"),
        slices: 3,
        side: 16,
    };
    let syntax = TransferSyntax::ExplicitLittle;
    let set = fixtures::structure_set(&series).data_set(&syntax).unwrap();
    let (out, _) = run(&plan(&[]), &set, EXPLICIT, 300).unwrap();
    for slice in 0..series.slices {
        let data = series.slice(slice).data_set(&syntax).unwrap();
        let (_, done) = run(&plan(&[]), &data, EXPLICIT, 300).unwrap();
        assert!(contains(&out, done.sop_instance.as_str().as_bytes()), "slice {slice}");
        assert!(!contains(&out, series.sop_instance(slice).as_str().as_bytes()));
    }
    assert!(contains(&set, b"PTV") && !contains(&out, b"PTV"), "ROI Name (3006,0026) is a descriptor");
}

#[test]
fn groups_of_other_purposes_and_what_stands_out_of_order_behind_the_pixels_go() {
    for tag in [(0x0002, 0x0016), (0x0004, 0x1130), (0x0006, 0x0001)] {
        let nested =
            sq((0x0008, 0x1140), vec![vec![el(tag, b"LO", "planted"), el((0x0008, 0x1150), b"UI", CT)]]);
        let (out, _) = run(&plan(&[]), &encode(&ct(vec![nested]), true), EXPLICIT, 64).unwrap();
        assert!(!contains(&out, b"planted"), "{tag:04X?}");
    }
    // A data set's elements ascend; one that does not is dropped, whatever it is, since its header is on the way already.
    let mut data = encode(&ct(vec![]), true);
    for late in [el((0x0010, 0x4000), b"LT", "planted"), el((0x0018, 0x0015), b"CS", "PLANTED")] {
        data.extend(encode(&[late], true));
    }
    if let Ok((out, _)) = run(&plan(&[]), &data, EXPLICIT, 64) {
        assert!(!contains(&out, b"planted") && !contains(&out, b"PLANTED"));
    }
    // In the group of the pixels, too, only what is pixels or says where they are.
    for element in [
        el((0x7FE0, 0x0005), b"LO", "planted"),
        sq((0x7FE0, 0x0003), vec![vec![el((0x0010, 0x4000), b"LT", "planted")]]),
    ] {
        let (out, _) = run(&plan(&[]), &encode(&ct(vec![element]), true), EXPLICIT, 64).unwrap();
        assert!(!contains(&out, b"planted"));
    }
}

#[test]
fn only_uids_that_the_standard_gives_stay() {
    let root = "1.2.840.10008.";
    let planted = format!("{root}4711.19601224");
    let data = encode(
        &ct(vec![
            el((0x0008, 0x0018), b"UI", &planted),
            el((0x0020, 0x000D), b"UI", &planted),
            el((0x0020, 0x000E), b"UI", &planted),
            el((0x0020, 0x0052), b"UI", format!("{root}JANE DOE")),
        ]),
        true,
    );
    let (out, done) = run(&plan(&[]), &data, EXPLICIT, 64).unwrap();
    assert!(!contains(&out, planted.as_bytes()) && !contains(&out, b"JANE"));
    assert_eq!(done.sop_instance.as_str(), uid(&planted), "the message says the same as the data set");
    assert!(contains(&out, done.sop_instance.as_str().as_bytes()));
    assert_eq!(key(1).uid_of(Tag(0x0020, 0x0052), "1.2.840.10008.1.4.1.1"), "1.2.840.10008.1.4.1.1");
    // Text that begins like such a UID is searched as any other.
    let name = el((0x0010, 0x0010), b"PN", "DOE^JANE");
    let text = el((0x0018, 0x1020), b"LO", format!("{root}1 of Jane"));
    let searched = run(&plan(&[]), &encode(&ct(vec![name, text]), true), EXPLICIT, 64);
    assert!(matches!(searched, Err(Refusal::Residual { .. })), "{searched:?}");
}

#[test]
fn text_is_searched_whatever_it_calls_itself() {
    let name = || el((0x0010, 0x0010), b"PN", "DOE^JANE");
    for vr in [b"OB", b"FD", b"US", b"UN", b"LO"] {
        let elements = vec![name(), el((0x0018, 0x1020), vr, "version of Jane ")];
        let result = run(&plan(&[]), &encode(&ct(elements), true), EXPLICIT, 64);
        assert!(matches!(result, Err(Refusal::Residual { .. })), "{vr:?}: {result:?}");
    }
    // A name that calls itself something else is searched for.
    let elements = vec![el((0x0010, 0x0010), b"LO", "DOE^JANE"), el((0x0018, 0x1020), b"LO", "for Jane")];
    let result = run(&plan(&[]), &encode(&ct(elements), true), EXPLICIT, 64);
    assert!(matches!(result, Err(Refusal::Residual { .. })), "{result:?}");
}

#[test]
fn what_says_neither_class_nor_pixels_in_so_many_words_is_refused() {
    let with = |element| run(&plan(&[]), &encode(&ct(vec![element]), true), EXPLICIT, 64);
    assert!(matches!(with(el((0x0008, 0x0016), b"UI", "CT Image Storage")), Err(Refusal::NoInstance)));
    for (value, passes) in [("NO", true), ("no ", true), ("", true), ("YES", false), ("UNKNOWN", false)] {
        let result = with(el((0x0028, 0x0301), b"CS", value));
        assert_eq!(result.is_ok(), passes, "{value}: {result:?}");
    }
    let long = with(el((0x0010, 0x0010), b"PN", "x".repeat(4097)));
    assert!(matches!(long, Err(Refusal::Rewrite(_))), "{long:?}");
    let many = (0..190).map(|n| format!("Family{n:04}^Given{n:04}")).collect::<Vec<_>>().join("\\");
    let name = el((0x0010, 0x1001), b"PN", many);
    assert!(with(name.clone()).is_ok(), "more than the faster automaton is made for");
    let planted = vec![name, el((0x0018, 0x1020), b"LO", "of given0189")];
    let found = run(&plan(&[]), &encode(&ct(planted), true), EXPLICIT, 64);
    assert!(matches!(found, Err(Refusal::Residual { .. })), "{found:?}");
}
