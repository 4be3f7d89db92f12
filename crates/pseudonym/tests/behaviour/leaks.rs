//! A marker in every row of Table E.1-1, at depths 0 to 3: none comes through, unless an option keeps it.

use crate::common::{EXPLICIT, Element, IMPLICIT, contains, ct, el, encode, plan, run, sq};
use dataset::{DictionaryVr, Tag};
use pseudonym::table::{Code, Row, Table, Tags};
use pseudonym::{OptionSet, ProfileOption};

/// Sequences that are in no row, from the outermost.
const SEQUENCES: [(u16, u16); 3] = [(0x0008, 0x9215), (0x0040, 0x0260), (0x0054, 0x0220)];

/// Attributes that other tests are about, or that are no part of a data set.
fn is_planted(tag: Tag) -> bool {
    let is_other = matches!(tag, Tag::SOP_INSTANCE | Tag::STUDY | Tag::SERIES | Tag::PATIENT_ID);
    !is_other && tag.0 > 0x0002 && tag.0 < 0x7FE0
}

fn tag_of(row: &Row) -> Tag {
    match row.tags {
        Tags::One(tag) => tag,
        Tags::Overlays(element) => Tag(0x6002, element),
        Tags::Curves => Tag(0x5002, 0x3000),
        Tags::Private => Tag(0x0029, 0x1010),
    }
}

fn vr_of(tag: Tag) -> [u8; 2] {
    match tag.dictionary_vr() {
        Some(DictionaryVr::Exact(vr)) => vr.0,
        Some(DictionaryVr::Sample) => *b"US",
        Some(DictionaryVr::Words) => *b"OW",
        None => *b"LO",
    }
}

/// An element with a value that occurs nowhere else, and that value's bytes.
fn marked(row: &Row, number: usize, depth: usize) -> (Element, Vec<u8>) {
    let tag = tag_of(row);
    let vr = vr_of(tag);
    let at = (tag.0, tag.1);
    let text = format!("ZQ{number:04}X{depth}");
    let date = format!("{:04}{:02}{:02}", 1700 + number % 200, 1 + depth, 1 + number / 200);
    let marker: Vec<u8> = match &vr {
        // Of these the UIDs are replaced; the rest is not identifying.
        b"SQ" if row.basic == Code::RemoveZeroOrUids => {
            let uid = format!("1.9.{number}.{depth}.77");
            return (sq(at, vec![vec![el((0x0008, 0x1155), b"UI", &uid)]]), uid.into_bytes());
        }
        b"SQ" => {
            let (inner, marker) = (el((0x0008, 0x0104), b"LO", &text), text.clone().into_bytes());
            return (sq(at, vec![vec![inner]]), marker);
        }
        b"UI" => format!("1.9.{number}.{depth}.77").into_bytes(),
        b"DA" => date.into_bytes(),
        b"DT" => format!("{date}1213").into_bytes(),
        b"TM" => format!("{:02}{:02}{:02}.{number:06}", 10 + depth, number % 60, number / 60).into_bytes(),
        b"AS" => format!("{:03}{}", number % 999, ["D", "W", "M", "Y"][depth]).into_bytes(),
        b"DS" | b"IS" => format!("{}", 7_000_000 + number * 10 + depth).into_bytes(),
        b"US" | b"SS" => vec![0xA5, 0xB0 | u8::try_from(depth).unwrap()],
        b"FL" | b"UL" | b"SL" | b"AT" => {
            vec![0xA5, 0xC3, u8::try_from(number % 251).unwrap(), 0xB0 | u8::try_from(depth).unwrap()]
        }
        b"FD" => [
            0xA5,
            0xC3,
            0x99,
            0xB0,
            0xD1,
            u8::try_from(number % 251).unwrap(),
            0x88,
            0xB0 | u8::try_from(depth).unwrap(),
        ]
        .to_vec(),
        _ => text.into_bytes(),
    };
    (el(at, &vr, &marker), marker)
}

fn nested(mut elements: Vec<Element>, depth: usize) -> Vec<Element> {
    for at in SEQUENCES.iter().take(depth).rev() {
        elements = vec![sq(*at, vec![elements])];
    }
    elements
}

/// What must not come through: an option that keeps or cleans a row may let something of it.
fn must_go(row: &Row, options: OptionSet) -> bool {
    !row.kept.meets(options)
}

fn plant(options: &[ProfileOption], syntax: &str) -> (usize, Vec<String>) {
    let in_force: OptionSet = options.iter().copied().collect();
    let plan = plan(options);
    let (mut judged, mut leaks) = (0, Vec::new());
    for (number, row) in Table::get().rows().iter().enumerate() {
        let tag = tag_of(row);
        if !is_planted(tag) || !must_go(row, in_force) {
            continue;
        }
        for depth in 0..=SEQUENCES.len() {
            let (element, marker) = marked(row, number, depth);
            let mut data = encode(&ct(nested(vec![element], depth)), syntax == EXPLICIT);
            assert!(contains(&data, &marker), "{}", row.name);
            judged += 1;
            let out = match run(&plan, &data, syntax, 4096) {
                Ok((out, _)) => out,
                Err(refusal) => panic!("{} at {depth}: {refusal}", row.name),
            };
            if contains(&out, &marker) {
                leaks.push(format!("{} {tag} at {depth}", row.name));
            }
            data.clear();
        }
    }
    (judged, leaks)
}

#[test]
fn nothing_leaks_at_the_basic_profile() {
    for syntax in [EXPLICIT, IMPLICIT] {
        let (judged, leaks) = plant(&[], syntax);
        assert!(judged > 2500, "{judged}");
        assert!(leaks.is_empty(), "{} of {judged}: {leaks:#?}", leaks.len());
    }
}

#[test]
fn nothing_leaks_at_any_single_option_but_what_it_keeps() {
    let offered = ProfileOption::ALL.into_iter().filter(|option| option.is_offered());
    for option in offered {
        let (_, mut leaks) = plant(&[option], EXPLICIT);
        if option == ProfileOption::RetainModifiedDates {
            // Whole days are moved: the time of day is what the option is to keep.
            leaks.retain(|leak| !leak.contains("Time") && !leak.contains("TM Value"));
        }
        assert!(leaks.is_empty(), "{option:?}: {} leaks: {leaks:#?}", leaks.len());
    }
}

#[test]
fn an_option_keeps_what_it_is_for() {
    let kept = |option, element: Element, needle: &[u8]| {
        let data = encode(&ct(vec![element]), true);
        let with = run(&plan(&[option]), &data, EXPLICIT, 64).unwrap().0;
        let without = run(&plan(&[]), &data, EXPLICIT, 64).unwrap().0;
        assert!(contains(&with, needle) && !contains(&without, needle), "{option:?}");
    };
    kept(ProfileOption::RetainFullDates, el((0x0008, 0x0020), b"DA", "20200301"), b"20200301");
    kept(ProfileOption::RetainPatientCharacteristics, el((0x0010, 0x1010), b"AS", "042Y"), b"042Y");
    kept(ProfileOption::RetainDeviceIdentity, el((0x0018, 0x1000), b"LO", "SERIAL77"), b"SERIAL77");
    kept(
        ProfileOption::RetainInstitutionIdentity,
        el((0x0008, 0x0080), b"LO", "Clinic North"),
        b"Clinic North",
    );
    kept(ProfileOption::RetainUids, el((0x0020, 0x0052), b"UI", "1.2.9.9.9"), b"1.2.9.9.9");
    kept(ProfileOption::CleanDescriptors, el((0x0008, 0x103E), b"LO", "Thorax for Dr. House"), b"Thorax");
    let cleaned = encode(&ct(vec![el((0x0008, 0x103E), b"LO", "Thorax for Dr. House")]), true);
    assert!(!contains(
        &run(&plan(&[ProfileOption::CleanDescriptors]), &cleaned, EXPLICIT, 64).unwrap().0,
        b"House"
    ));
}
