//! Structured reports: cleaned item by item, by value type and concept.
use crate::common::{EXPLICIT, Element, IMPLICIT, contains, ct, el, encode, plan, plan_of, run, sq};
use dataset::Tag;
use pseudonym::{ContentRules, Profile, ProfileOption, Refusal};

const COMPREHENSIVE: &str = "1.2.840.10008.5.1.4.1.1.88.33";

fn code(scheme: &str, value: &str, meaning: &str) -> Vec<Element> {
    vec![
        el((0x0008, 0x0100), b"SH", value),
        el((0x0008, 0x0102), b"SH", scheme),
        el((0x0008, 0x0104), b"LO", meaning),
    ]
}

/// A content item with a concept.
fn item(value_type: &str, concept: (&str, &str), more: Vec<Element>) -> Vec<Element> {
    let mut elements = vec![
        el((0x0040, 0xA010), b"CS", "CONTAINS"),
        el((0x0040, 0xA040), b"CS", value_type),
        sq((0x0040, 0xA043), vec![code(concept.0, concept.1, "a concept")]),
    ];
    elements.extend(more);
    elements
}

fn report(items: Vec<Vec<Element>>) -> Vec<u8> {
    report_in(items, true)
}

fn report_in(items: Vec<Vec<Element>>, explicit: bool) -> Vec<u8> {
    let mut elements = ct(vec![
        el((0x0008, 0x0016), b"UI", COMPREHENSIVE),
        el((0x0008, 0x0060), b"CS", "SR"),
        el((0x0040, 0xA040), b"CS", "CONTAINER"),
        sq((0x0040, 0xA043), vec![code("DCM", "126000", "Imaging Measurement Report")]),
        sq(
            (0x0040, 0xA073),
            vec![vec![el((0x0040, 0xA075), b"PN", "Verifier^V"), el((0x0040, 0xA027), b"LO", "Clinic")]],
        ),
        el((0x0040, 0xA491), b"CS", "COMPLETE"),
        el((0x0040, 0xA493), b"CS", "VERIFIED"),
        sq((0x0040, 0xA730), items),
    ]);
    elements.retain(|element| element.tag.0 < 0x7FE0 && element.tag.0 != 0x0028);
    encode(&elements, explicit)
}

fn cleaned(options: &[ProfileOption], items: Vec<Vec<Element>>) -> Vec<u8> {
    let options: Vec<_> = options.iter().copied().chain([ProfileOption::CleanStructuredContent]).collect();
    run(&plan(&options), &report(items), EXPLICIT, 100).unwrap().0
}

#[test]
fn a_report_passes_with_its_option_only() {
    let data = report(vec![]);
    assert!(matches!(run(&plan(&[]), &data, EXPLICIT, 64), Err(Refusal::SopClass(_))));
    let out = cleaned(&[], vec![]);
    for gone in [&b"Verifier"[..], b"Clinic", b"VERIFIED \0"] {
        assert!(!contains(&out, gone), "{}", String::from_utf8_lossy(gone));
    }
    assert!(contains(&out, b"UNVERIFIED") && contains(&out, b"113104") && contains(&out, b"126000"));
}

#[test]
fn each_value_type_is_treated_by_itself() {
    let text = |value: &str| el((0x0040, 0xA160), b"UT", value);
    // Value type, concept, value, what to look for, and whether it stays.
    type Case = (&'static str, (&'static str, &'static str), Element, &'static [u8], bool);
    let cases: &[Case] = &[
        ("TEXT", ("DCM", "121071"), text("seen by Dr. House"), b"House", false),
        ("PNAME", ("DCM", "121008"), el((0x0040, 0xA123), b"PN", "House^G"), b"House", false),
        ("UIDREF", ("DCM", "121012"), el((0x0040, 0xA124), b"UI", "1.2.9.9.1"), b"1.2.9.9.1", false),
        ("DATE", ("DCM", "121031"), el((0x0040, 0xA121), b"DA", "19610704"), b"19610704", false),
        (
            "NUM",
            ("DCM", "121206"),
            sq((0x0040, 0xA300), vec![vec![el((0x0040, 0xA30A), b"DS", "42.25")]]),
            b"42.25",
            true,
        ),
        (
            "CODE",
            ("DCM", "121058"),
            sq((0x0040, 0xA168), vec![code("SCT", "51185008", "Chest")]),
            b"Chest",
            true,
        ),
        (
            "CODE",
            ("DCM", "121058"),
            sq((0x0040, 0xA168), vec![code("99CLINIC", "X1", "ward of Dr. House")]),
            b"House",
            false,
        ),
        ("CODE", ("DCM", "121032"), sq((0x0040, 0xA168), vec![code("DCM", "F", "Female")]), b"Female", false),
        ("TEXT", ("DCM", "121016"), text("SN-778812"), b"SN-778812", false),
        ("CONTAINER", ("DCM", "121070"), el((0x0040, 0xA050), b"CS", "SEPARATE"), b"SEPARATE", true),
    ];
    for (value_type, concept, element, needle, stays) in cases {
        let nested = item(value_type, *concept, vec![element.clone()]);
        let outer = item("CONTAINER", ("DCM", "121070"), vec![sq((0x0040, 0xA730), vec![nested.clone()])]);
        for items in [vec![nested], vec![outer]] {
            assert_eq!(contains(&cleaned(&[], items.clone()), needle), *stays, "{value_type} {concept:?}");
            let option = plan(&[ProfileOption::CleanStructuredContent]);
            let (out, _) = run(&option, &report_in(items, false), IMPLICIT, 7).unwrap();
            assert_eq!(contains(&out, needle), *stays, "implicit, {value_type} {concept:?}");
        }
    }
}

#[test]
fn numbers_that_say_how_a_patient_is_stay_by_their_option() {
    let measured = |value: &str| sq((0x0040, 0xA300), vec![vec![el((0x0040, 0xA30A), b"DS", value)]]);
    let age = || vec![item("NUM", ("DCM", "121033"), vec![measured("47.5")])];
    assert!(!contains(&cleaned(&[], age()), b"47.5"));
    assert!(contains(&cleaned(&[ProfileOption::RetainPatientCharacteristics], age()), b"47.5"));
    let serial = || vec![item("TEXT", ("DCM", "121016"), vec![el((0x0040, 0xA160), b"UT", "SN-778812")])];
    assert!(contains(&cleaned(&[ProfileOption::RetainDeviceIdentity], serial()), b"SN-778812"));
}

#[test]
fn text_stays_where_its_concept_is_listed_and_nothing_of_the_patient_is_in_it() {
    let plan = plan_of(Profile {
        options: vec![ProfileOption::CleanStructuredContent],
        content: ContentRules { keep_text: vec!["DCM 121071".to_owned()] },
        ..Profile::default()
    });
    let with = |text: &str| {
        let items = vec![item("TEXT", ("DCM", "121071"), vec![el((0x0040, 0xA160), b"UT", text)])];
        run(&plan, &report(items), EXPLICIT, 64).map(|(out, _)| out)
    };
    assert!(contains(&with("no nodule seen").unwrap(), b"no nodule seen"));
    assert!(matches!(with("MRN-471199 has a nodule"), Err(Refusal::Residual { .. })));
}

#[test]
fn what_nobody_understands_is_refused() {
    let plan = plan(&[ProfileOption::CleanStructuredContent]);
    let data = report(vec![item("TABLE", ("DCM", "121071"), vec![])]);
    assert!(matches!(run(&plan, &data, EXPLICIT, 64), Err(Refusal::Rewrite(_))));
}

#[test]
fn only_public_schemes_say_what_their_codes_mean() {
    let long = |scheme: Option<&str>| {
        let mut elements = code(scheme.unwrap_or_default(), "X1", "ward of Dr. House");
        elements.retain(|element| scheme.is_some() || element.tag != Tag(0x0008, 0x0102));
        elements.insert(elements.len() - 1, el((0x0008, 0x0103), b"SH", "House 7"));
        elements.sort_by_key(|element| element.tag);
        elements.push(el((0x0008, 0x0119), b"UC", "long House"));
        elements.push(el((0x0008, 0x0120), b"UR", "urn:House"));
        elements
    };
    for (scheme, stays) in [(Some("SCT"), true), (Some("99X"), false), (Some("HOUSE2"), false), (None, false)]
    {
        let items = vec![item("CODE", ("DCM", "121058"), vec![sq((0x0040, 0xA168), vec![long(scheme)])])];
        let out = cleaned(&[], items);
        for needle in [&b"ward of Dr. House"[..], b"House 7", b"long House", b"urn:House"] {
            assert_eq!(contains(&out, needle), stays, "{scheme:?} {}", String::from_utf8_lossy(needle));
        }
    }
}

#[test]
fn the_title_of_a_report_is_a_concept_as_any_other() {
    let mut elements = ct(vec![
        el((0x0008, 0x0016), b"UI", COMPREHENSIVE),
        el((0x0040, 0xA040), b"CS", "CONTAINER"),
        sq((0x0040, 0xA043), vec![code("99CLINIC", "R1", "report of Dr. House")]),
        sq(
            (0x0040, 0xA730),
            vec![item(
                "TEXT",
                ("DCM", "121071"),
                vec![sq((0x0040, 0xA160), vec![vec![el((0x0018, 0x1020), b"LO", "hidden")]])],
            )],
        ),
    ]);
    elements.retain(|element| element.tag.0 < 0x7FE0 && element.tag.0 != 0x0028);
    let plan = plan(&[ProfileOption::CleanStructuredContent]);
    let (out, _) = run(&plan, &encode(&elements, true), EXPLICIT, 64).unwrap();
    assert!(!contains(&out, b"House"), "the meaning of a private code");
    assert!(!contains(&out, b"hidden"), "a sequence where a text is expected");
}

#[test]
fn dates_of_a_report_follow_the_option_for_dates() {
    let when = || {
        vec![
            item("DATETIME", ("DCM", "111060"), vec![el((0x0040, 0xA120), b"DT", "20200301120000")]),
            item("DATE", ("DCM", "111060"), vec![el((0x0040, 0xA121), b"DA", "20200301")]),
            item("DATE", ("DCM", "121031"), vec![el((0x0040, 0xA121), b"DA", "19610704")]),
        ]
    };
    let [none, full, moved] =
        [&[][..], &[ProfileOption::RetainFullDates], &[ProfileOption::RetainModifiedDates]]
            .map(|options| cleaned(options, when()));
    assert!(
        !contains(&none, b"20200301")
            && contains(&full, b"20200301120000")
            && contains(&full, b"DA\x08\x0020200301")
    );
    assert!(!contains(&moved, b"20200301") && contains(&moved, b"120000"), "moved by whole days");
    for out in [none, full, moved] {
        assert!(!contains(&out, b"19610704"), "the date of birth: no option keeps it");
    }
}
