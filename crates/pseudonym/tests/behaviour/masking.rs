//! Pixels that become black as they pass.
use crate::common::{EXPLICIT, Element, IMPLICIT, contains, ct, el, encode, plan, plan_of, run, sq};
use pseudonym::{PixelAction, PixelRule, Plan, Profile, Rectangle, Refusal, WordList};

const US: &str = "1.2.840.10008.5.1.4.1.1.3.1";

fn rule(rectangles: &[Rectangle], regions: bool) -> PixelRule {
    PixelRule {
        sop_class: Some(US.to_owned()),
        modality: None,
        manufacturer: Some("Maker".to_owned()),
        model: None,
        rows: Some(4),
        columns: Some(4),
        pixels: PixelAction::Mask,
        rectangles: rectangles.to_vec(),
        regions,
    }
}

/// Two frames of 4 × 4 in 8 bits, all of them 7.
fn clip(more: Vec<Element>) -> Vec<Element> {
    let mut elements = vec![
        el((0x0008, 0x0016), b"UI", US),
        el((0x0008, 0x0070), b"LO", "MAKER"),
        el((0x0028, 0x0002), b"US", 1_u16.to_le_bytes()),
        el((0x0028, 0x0004), b"CS", "MONOCHROME2"),
        el((0x0028, 0x0008), b"IS", "2"),
        el((0x0028, 0x0100), b"US", 8_u16.to_le_bytes()),
        el((0x0028, 0x0101), b"US", 8_u16.to_le_bytes()),
        el((0x0028, 0x0301), b"CS", "YES"),
        el((0x7FE0, 0x0010), b"OB", [7; 32]),
    ];
    elements.retain(|element| !more.iter().any(|other| other.tag == element.tag));
    elements.extend(more);
    ct(elements)
}

fn region(left: u32, top: u32, right: u32, bottom: u32) -> Element {
    let corner = |element, value: u32| el((0x0018, element), b"UL", value.to_le_bytes());
    sq(
        (0x0018, 0x6011),
        vec![vec![corner(0x6018, left), corner(0x601A, top), corner(0x601C, right), corner(0x601E, bottom)]],
    )
}

fn masked(rule: PixelRule, elements: &[Element], syntax: &str) -> Result<Vec<u8>, Refusal> {
    let plan = plan_of(Profile { pixel_rules: vec![rule], ..Profile::default() });
    let (out, done) = run(&plan, &encode(elements, syntax == EXPLICIT), syntax, 5)?;
    assert!(done.report.codes.iter().any(|code| code.value == "113101"), "its code is claimed");
    Ok(out)
}

#[test]
fn a_rule_makes_rectangles_black_and_says_so() {
    let top = Rectangle { x: 0, y: 0, width: 4, height: 1 };
    for syntax in [EXPLICIT, IMPLICIT] {
        let out = masked(rule(&[top], false), &clip(vec![]), syntax).unwrap();
        let frame = [[0; 4], [7; 4], [7; 4], [7; 4]].concat();
        assert!(out.ends_with(&frame.repeat(2)), "{syntax}");
        assert!(contains(&out, b"113101"), "{syntax}");
        let burned_in = |value: &str| encode(&[el((0x0028, 0x0301), b"CS", value)], syntax == EXPLICIT);
        assert!(contains(&out, &burned_in("NO")) && !contains(&out, &burned_in("YES")), "{syntax}");
    }
}

#[test]
fn outside_of_an_ultrasound_region_all_is_black() {
    let out = masked(rule(&[], true), &clip(vec![region(1, 1, 2, 3)]), EXPLICIT).unwrap();
    let frame = [[0, 0, 0, 0], [0, 7, 7, 0], [0, 7, 7, 0], [0, 7, 7, 0]].concat();
    assert!(out.ends_with(&frame.repeat(2)));
    assert!(matches!(masked(rule(&[], true), &clip(vec![]), EXPLICIT), Err(Refusal::Pixels(_))));
}

#[test]
fn what_does_not_fit_its_header_is_refused() {
    let top = || rule(&[Rectangle { x: 0, y: 0, width: 4, height: 1 }], false);
    let short = clip(vec![el((0x7FE0, 0x0010), b"OB", [7; 30])]);
    assert!(matches!(masked(top(), &short, EXPLICIT), Err(Refusal::Rewrite(_))));
    for wrong in [
        el((0x0028, 0x0004), b"CS", "YBR_FULL_422"),
        el((0x0028, 0x0100), b"US", 1_u16.to_le_bytes()),
        el((0x0028, 0x0008), b"IS", "many"),
        el((0x0028, 0x0002), b"US", 3_u16.to_le_bytes()),
    ] {
        assert!(matches!(masked(top(), &clip(vec![wrong]), EXPLICIT), Err(Refusal::Pixels(_))));
    }
    let without = run(&plan(&[]), &encode(&clip(vec![]), true), EXPLICIT, 64);
    assert!(matches!(without, Err(Refusal::Pixels(_))), "no rule, and it says that something is burned in");
    // Another size of image, another rule: none.
    let other = clip(vec![el((0x0028, 0x0010), b"US", 5_u16.to_le_bytes())]);
    assert!(matches!(masked(top(), &other, EXPLICIT), Err(Refusal::Pixels(_))));
}

#[test]
fn a_rule_that_masks_nothing_is_refused() {
    let refused = |rectangle| {
        let rules = Profile { pixel_rules: vec![rule(&[rectangle], false)], ..Profile::default() };
        Plan::new(rules, WordList::default(), "").is_err()
    };
    let good = Rectangle { x: 0, y: 0, width: 4, height: 4 };
    assert!(!refused(good));
    for bad in [
        Rectangle { width: 0, ..good },
        Rectangle { height: 0, ..good },
        Rectangle { x: 1, ..good },
        Rectangle { y: 4, ..good },
        Rectangle { x: u32::MAX, ..good },
    ] {
        assert!(refused(bad), "{bad:?}");
    }
    // The whole picture is a region: the machine wrote over nothing, or says so of everything.
    let whole = masked(rule(&[], true), &clip(vec![region(0, 0, 3, 3)]), EXPLICIT);
    assert!(matches!(whole, Err(Refusal::Pixels(_))), "{whole:?}");
    // What a second value of pixels says is not masked, and does not pass.
    let mut twice = encode(&clip(vec![]), true);
    twice.extend(encode(&[el((0x7FE0, 0x0010), b"OB", [7; 32])], true));
    let plan = plan_of(Profile { pixel_rules: vec![rule(&[good], false)], ..Profile::default() });
    if let Ok((out, _)) = run(&plan, &twice, EXPLICIT, 64) {
        assert!(!contains(&out, &[7; 16]));
    }
}
