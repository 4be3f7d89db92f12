//! Compressed pixels are decoded frame by frame, masked, and go on as native ones.
//!
//! The frames were made with DCMTK and GDCM, two of 16 × 16 in each, from values that are computed here again.

use std::path::PathBuf;

use crate::common::{EXPLICIT, contains, ct, el, encode, plan_of, run};
use pseudonym::{PixelAction, PixelRule, Profile, Rectangle, Refusal};

/// Name, transfer syntax, whether it is in colour, Photometric Interpretation as it comes.
const MADE: &[(&str, &str, bool, &str)] = &[
    ("rle-grey", "1.2.840.10008.1.2.5", false, "MONOCHROME2"),
    ("rle-rgb", "1.2.840.10008.1.2.5", true, "RGB"),
    ("jpeg-lossless-grey", "1.2.840.10008.1.2.4.70", false, "MONOCHROME2"),
    ("jpeg-lossless-rgb", "1.2.840.10008.1.2.4.70", true, "RGB"),
    ("jpegls-grey", "1.2.840.10008.1.2.4.80", false, "MONOCHROME2"),
    ("j2k-grey", "1.2.840.10008.1.2.4.90", false, "MONOCHROME2"),
    ("j2k-rgb", "1.2.840.10008.1.2.4.90", true, "YBR_RCT"),
    ("jpeg-rgb", "1.2.840.10008.1.2.4.50", true, "YBR_FULL_422"),
];

/// The rows that become black.
const BLACK: u32 = 3;

fn header(is_colour: bool, photometric: &str, frames: u16) -> Vec<u8> {
    let number = |value: u16| value.to_le_bytes();
    let (samples, bits) = if is_colour { (3, (8, 8)) } else { (1, (16, 12)) };
    let elements = vec![
        el((0x0008, 0x0016), b"UI", "1.2.840.10008.5.1.4.1.1.3.1"),
        el((0x0008, 0x0070), b"LO", "Maker"),
        el((0x0028, 0x0002), b"US", number(samples)),
        el((0x0028, 0x0004), b"CS", photometric),
        el((0x0028, 0x0006), b"US", number(1)),
        el((0x0028, 0x0008), b"IS", frames.to_string()),
        el((0x0028, 0x0010), b"US", number(16)),
        el((0x0028, 0x0011), b"US", number(16)),
        el((0x0028, 0x0100), b"US", number(bits.0)),
        el((0x0028, 0x0101), b"US", number(bits.1)),
    ];
    let mut all = ct(vec![]);
    all.retain(|element| element.tag.0 < 0x7FE0 && !elements.iter().any(|other| other.tag == element.tag));
    all.extend(elements);
    encode(&all, true)
}

fn fragments(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/frames/{name}.bin"));
    std::fs::read(path).unwrap()
}

/// Encapsulated: the items as they are, and their delimiter.
fn pixel_data(items: &[u8]) -> Vec<u8> {
    let head = [0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    [&head[..], items, &[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]].concat()
}

/// The items of an encapsulated value.
fn items(value: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut found) = (value, Vec::new());
    while rest.len() >= 8 && rest[..4] == [0xFE, 0xFF, 0x00, 0xE0] {
        let length = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
        found.push(rest[8..8 + length].to_vec());
        rest = &rest[8 + length..];
    }
    found
}

fn joined(items: &[Vec<u8>]) -> Vec<u8> {
    let one = |item: &Vec<u8>| {
        [&[0xFE, 0xFF, 0x00, 0xE0][..], &u32::try_from(item.len()).unwrap().to_le_bytes(), item].concat()
    };
    items.iter().flat_map(one).collect()
}

/// What goes out: black rows over the values that the files were made of.
fn expected(is_colour: bool) -> Vec<u8> {
    let samples = if is_colour { 3 } else { 1 };
    let mut out = Vec::new();
    for (frame, y, x, s) in (0..2_u32).flat_map(|f| {
        (0..16).flat_map(move |y| (0..16).flat_map(move |x| (0..samples).map(move |s| (f, y, x, s))))
    }) {
        match (y < BLACK, is_colour) {
            (true, true) => out.push(0),
            (true, false) => out.extend([0, 0]),
            (false, true) => out.push(u8::try_from((x * 5 + y * 3 + frame * 40 + s * 20) % 256).unwrap()),
            (false, false) => {
                out.extend(u16::try_from((x * 97 + y * 13 + frame * 500) % 4096).unwrap().to_le_bytes());
            }
        }
    }
    out
}

fn masked(data: &[u8], syntax: &str, piece: usize) -> Result<Vec<u8>, Refusal> {
    let rule = PixelRule {
        sop_class: None,
        modality: None,
        manufacturer: Some("Maker".to_owned()),
        model: None,
        rows: Some(16),
        columns: Some(16),
        pixels: PixelAction::Mask,
        rectangles: vec![Rectangle { x: 0, y: 0, width: 16, height: BLACK }],
        regions: false,
    };
    let plan = plan_of(Profile { pixel_rules: vec![rule], ..Profile::default() });
    let (out, done) = run(&plan, data, syntax, piece)?;
    assert!(done.report.codes.iter().any(|code| code.value == "113101"), "its code is claimed");
    Ok(out)
}

#[test]
fn what_was_compressed_without_loss_comes_out_as_it_was_but_for_what_is_black() {
    for (name, syntax, is_colour, photometric) in MADE {
        for piece in [7, 1 << 20] {
            let data = [header(*is_colour, photometric, 2), pixel_data(&fragments(name))].concat();
            let out = masked(&data, syntax, piece).unwrap_or_else(|why| panic!("{name}: {why}"));
            let expected = expected(*is_colour);
            let value = &out[out.len() - expected.len()..];
            let is_lossy = name.starts_with("jpeg-rgb");
            let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= if is_lossy { 24 } else { 0 };
            assert!(value.iter().zip(&expected).all(near), "{name}");
            let length = u32::try_from(expected.len()).unwrap().to_le_bytes();
            let head = &out[out.len() - expected.len() - 12..out.len() - expected.len()];
            assert_eq!((&head[..4], &head[8..]), (&[0xE0, 0x7F, 0x10, 0x00][..], &length[..]), "{name}");
            let says = |tag, vr, value: &str| contains(&out, &encode(&[el(tag, vr, value)], true));
            assert!(says((0x0028, 0x0004), b"CS", if *is_colour { "RGB" } else { "MONOCHROME2" }), "{name}");
            assert_eq!(says((0x0028, 0x2110), b"CS", "01"), is_lossy, "{name}");
            assert!(
                !contains(&out, &encode(&[el((0x0028, 0x0006), b"US", 1_u16.to_le_bytes())], true)),
                "{name}"
            );
        }
    }
}

#[test]
fn frames_are_found_with_each_table_and_without_one_and_in_several_fragments() {
    let [table, one, two] = items(&fragments("jpeg-lossless-grey")).try_into().unwrap();
    let (first, second) = one.split_at(one.len() / 4 * 2);
    let parts = [first.to_vec(), second.to_vec(), two.clone()];
    let offset = u32::try_from(first.len() + second.len() + 16).unwrap();
    let basic = [0_u32.to_le_bytes(), offset.to_le_bytes()].concat();
    let with = |table: Vec<u8>, parts: &[Vec<u8>]| joined(&[&[table][..], parts].concat());
    let extended =
        el((0x7FE0, 0x0001), b"OV", [0_u64.to_le_bytes(), u64::from(offset).to_le_bytes()].concat());
    let lengths = el((0x7FE0, 0x0002), b"OV", [1_u64.to_le_bytes(), 1_u64.to_le_bytes()].concat());
    let extended = [encode(&[extended], true), encode(&[lengths], true)].concat();
    let cases = [
        (vec![], with(table, &[one.clone(), two.clone()])),
        (vec![], with(vec![], &[one.clone(), two.clone()])),
        (vec![], with(vec![], &parts)),
        (vec![], with(basic, &parts)),
        (extended, with(vec![], &parts)),
    ];
    for (number, (before, value)) in cases.iter().enumerate() {
        let data = [header(false, "MONOCHROME2", 2), before.clone(), pixel_data(value)].concat();
        let out = masked(&data, "1.2.840.10008.1.2.4.70", 5).unwrap();
        assert!(out.ends_with(&expected(false)), "case {number}");
        assert!(!contains(&out, &[0xE0, 0x7F, 0x01, 0x00]), "case {number}: the table is of what came");
    }
    // One frame, in fragments that nobody counts.
    let single = [header(false, "MONOCHROME2", 1), pixel_data(&with(vec![], &parts[..2]))].concat();
    let out = masked(&single, "1.2.840.10008.1.2.4.70", 5).unwrap();
    assert!(out.ends_with(&expected(false)[..512]));
}

#[test]
fn what_cannot_be_decoded_or_is_not_all_there_is_refused() {
    let grey = |frames| header(false, "MONOCHROME2", frames);
    let lossless = "1.2.840.10008.1.2.4.70";
    let good = fragments("jpeg-lossless-grey");
    let cases = [
        ("too few frames", grey(3), good.clone(), lossless),
        ("too many frames", grey(1), good.clone(), lossless),
        ("another coding", grey(2), good.clone(), "1.2.840.10008.1.2.4.90"),
        ("another size", header(true, "RGB", 2), good.clone(), lossless),
        ("JPEG-LS in colour", header(true, "RGB", 2), fragments("jpegls-rgb"), "1.2.840.10008.1.2.4.80"),
        ("video", grey(2), good, "1.2.840.10008.1.2.4.102"),
        ("RLE that ends early", grey(1), joined(&[vec![], vec![2; 64]]), "1.2.840.10008.1.2.5"),
    ];
    for (what, header, value, syntax) in cases {
        let refused = masked(&[header, pixel_data(&value)].concat(), syntax, 64);
        assert!(matches!(refused, Err(Refusal::Pixels(_) | Refusal::TransferSyntax)), "{what}: {refused:?}");
    }
    // Whatever is damaged: pixels of the right length, or a refusal; never a panic.
    for (name, syntax, is_colour, photometric) in MADE {
        let whole = fragments(name);
        for at in (8..whole.len() - 8).step_by(11) {
            let mut value = whole.clone();
            value[at] ^= 0x55;
            let data = [header(*is_colour, photometric, 2), pixel_data(&value)].concat();
            if let Ok(out) = masked(&data, syntax, 1 << 20) {
                assert!(contains(&out, &[0xE0, 0x7F, 0x10, 0x00]), "{name} {at}");
            }
        }
    }
    assert!(masked(&[grey(2), vec![0; 0]].concat(), EXPLICIT, 64).is_ok(), "no pixels at all are no reason");
}
