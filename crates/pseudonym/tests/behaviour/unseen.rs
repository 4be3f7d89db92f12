//! What is drawn on images, and objects whose content nobody looks into.

use crate::common::{CT, EXPLICIT, contains, ct, el, encode, plan, plan_of, run, sq};
use pseudonym::{ObjectAction, ObjectRule, Plan, Profile, ProfileOption, Refusal, WordList};

#[test]
fn drawings_keep_their_shape_and_reviewed_words_only() {
    let object = vec![
        el((0x0070, 0x0006), b"ST", "thorax of Wilhelmina"),
        el((0x0070, 0x0010), b"FL", [0, 0, 0x80, 0x3F]),
    ];
    let drawing = vec![
        el((0x0070, 0x0002), b"CS", "LAYER1"),
        sq((0x0070, 0x0008), vec![object, vec![el((0x0070, 0x0006), b"ST", "nobody reviewed")]]),
        sq((0x0008, 0x1140), vec![vec![el((0x0008, 0x1155), b"UI", "1.2.3.4.9")]]),
    ];
    let elements = ct(vec![
        el((0x0008, 0x0016), b"UI", "1.2.840.10008.5.1.4.1.1.11.1"),
        sq((0x0070, 0x0001), vec![drawing]),
        el((0x6000, 0x0010), b"US", [4, 0]),
        el((0x6000, 0x3000), b"OW", b"drawn by hand."),
        el((0x5000, 0x3000), b"OW", b"curve with text."),
    ]);
    let data = encode(&elements, true);
    assert!(matches!(run(&plan(&[]), &data, EXPLICIT, 64), Err(Refusal::SopClass(_))));
    let (out, done) = run(&plan(&[ProfileOption::CleanGraphics]), &data, EXPLICIT, 64).unwrap();
    for gone in
        [&b"Wilhelmina"[..], b"nobody reviewed", b"drawn by hand", b"curve with", b"1.2.3.4.9", b"\0`\x10\0"]
    {
        assert!(!contains(&out, gone), "{}", String::from_utf8_lossy(gone));
    }
    for kept in [&b"ST\x06\0thorax"[..], b"REDACTED", b"LAYER1", b"\0\0\x80\x3F", b"113103"] {
        assert!(contains(&out, kept), "{}", String::from_utf8_lossy(kept));
    }
    assert!(done.report.codes.iter().any(|code| code.value == "113103"));
    let without = run(&plan(&[]), &encode(&ct(elements[1..2].to_vec()), true), EXPLICIT, 64).unwrap().1;
    assert!(without.report.codes.iter().all(|code| code.value != "113103"));
}

#[test]
fn a_document_passes_by_a_rule_for_its_class_and_is_never_claimed_to_be_clean() {
    const PDF: &str = "1.2.840.10008.5.1.4.1.1.104.1";
    let rule = |class: &str, content| ObjectRule { sop_class: class.into(), content };
    let with = |rules: Vec<ObjectRule>, options: &[ProfileOption]| {
        plan_of(Profile { object_rules: rules, options: options.to_vec(), ..Profile::default() })
    };
    let data = encode(
        &ct(vec![
            el((0x0008, 0x0016), b"UI", PDF),
            el((0x0008, 0x0064), b"CS", "WSD"),
            el((0x0010, 0x0010), b"PN", "Doe^Wilhelmina"),
            el((0x0008, 0x1030), b"LO", "letter about somebody"),
            el((0x0042, 0x0011), b"OB", "%PDF-1.7 of Wilhelmina"),
        ]),
        true,
    );
    for rules in [vec![], vec![rule(PDF, ObjectAction::Refuse)], vec![rule("1.2.3", ObjectAction::Pass)]] {
        let refused = run(&with(rules, &[]), &data, EXPLICIT, 64);
        assert!(matches!(refused, Err(Refusal::SopClass(_))), "{refused:?}");
    }
    let options = [ProfileOption::CleanGraphics, ProfileOption::CleanStructuredContent];
    let (out, done) = run(&with(vec![rule(PDF, ObjectAction::Pass)], &options), &data, EXPLICIT, 64).unwrap();
    assert!(contains(&out, b"%PDF-1.7 of Wilhelmina"), "as it is");
    assert!(!contains(&out, b"Doe") && !contains(&out, b"letter about"));
    let codes: Vec<_> = done.report.codes.iter().map(|code| code.value).collect();
    assert_eq!(codes, ["113100"]);
    assert!(!contains(&out, b"113103") && !contains(&out, b"113104"));
    let refused = with(vec![rule(CT, ObjectAction::Refuse)], &[]);
    assert!(matches!(run(&refused, &encode(&ct(vec![]), true), EXPLICIT, 64), Err(Refusal::SopClass(_))));
    let wrong = Profile { object_rules: vec![rule("PDF", ObjectAction::Pass)], ..Profile::default() };
    assert!(Plan::new(wrong, WordList::default(), "").is_err());
}
