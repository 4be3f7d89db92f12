//! Data sets by hand, so that what is planted stands exactly where a test wants it.
use std::sync::Arc;

use base::{Secret, Uid};
use dataset::Tag;
use pseudonym::{Plan, Profile, ProfileOption, Pseudonymized, Pseudonymizer, Pseudonyms, Refusal, WordList};

pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(crate) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Items(Vec<Vec<Element>>),
}

#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) tag: Tag,
    pub(crate) vr: [u8; 2],
    pub(crate) value: Value,
}

pub(crate) fn el(tag: (u16, u16), vr: &[u8; 2], value: impl AsRef<[u8]>) -> Element {
    Element { tag: Tag(tag.0, tag.1), vr: *vr, value: Value::Bytes(value.as_ref().to_vec()) }
}

pub(crate) fn sq(tag: (u16, u16), items: Vec<Vec<Element>>) -> Element {
    Element { tag: Tag(tag.0, tag.1), vr: *b"SQ", value: Value::Items(items) }
}

/// Elements, sorted, with padding.
pub(crate) fn encode(elements: &[Element], explicit: bool) -> Vec<u8> {
    let mut sorted = elements.to_vec();
    sorted.sort_by_key(|element| element.tag);
    let mut out = Vec::new();
    for Element { tag, vr, value } in &sorted {
        let bytes = match value {
            Value::Bytes(bytes) => {
                let mut bytes = bytes.clone();
                if bytes.len() % 2 == 1 {
                    bytes.push(if matches!(vr, b"UI" | b"OB" | b"UN") { 0 } else { b' ' });
                }
                bytes
            }
            Value::Items(items) => {
                let mut bytes = Vec::new();
                for item in items {
                    let item = encode(item, explicit);
                    bytes.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
                    bytes.extend_from_slice(&u32::try_from(item.len()).unwrap().to_le_bytes());
                    bytes.extend_from_slice(&item);
                }
                bytes
            }
        };
        out.extend_from_slice(&tag.0.to_le_bytes());
        out.extend_from_slice(&tag.1.to_le_bytes());
        let length = u32::try_from(bytes.len()).unwrap();
        if !explicit {
            out.extend_from_slice(&length.to_le_bytes());
        } else if dataset::Vr(*vr).has_long_length() {
            out.extend_from_slice(vr);
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&length.to_le_bytes());
        } else {
            out.extend_from_slice(vr);
            out.extend_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
        }
        out.extend_from_slice(&bytes);
    }
    out
}

/// A CT slice of a patient, with the rest of its attributes.
pub(crate) fn ct(more: Vec<Element>) -> Vec<Element> {
    let mut elements = vec![
        el((0x0008, 0x0008), b"CS", "ORIGINAL\\PRIMARY\\AXIAL"),
        el((0x0008, 0x0016), b"UI", CT),
        el((0x0008, 0x0018), b"UI", "1.2.3.4.5"),
        el((0x0008, 0x0060), b"CS", "CT"),
        el((0x0010, 0x0020), b"LO", "MRN-471199"),
        el((0x0020, 0x000D), b"UI", "1.2.3.4"),
        el((0x0020, 0x000E), b"UI", "1.2.3.4.1"),
        el((0x0028, 0x0010), b"US", 4_u16.to_le_bytes()),
        el((0x0028, 0x0011), b"US", 4_u16.to_le_bytes()),
        el((0x7FE0, 0x0010), b"OW", [7; 32]),
    ];
    elements.retain(|element| !more.iter().any(|other| other.tag == element.tag));
    elements.extend(more);
    elements
}

pub(crate) fn plan(options: &[ProfileOption]) -> Arc<Plan> {
    plan_of(Profile { options: options.to_vec(), ..Profile::default() })
}

pub(crate) fn plan_of(profile: Profile) -> Arc<Plan> {
    Arc::new(Plan::new(profile, WordList::parse("thorax axial"), "").unwrap())
}

pub(crate) fn key(seed: u8) -> Arc<Pseudonyms> {
    Arc::new(Pseudonyms::new(&Secret::new([seed; 32])))
}

pub(crate) fn run(
    plan: &Arc<Plan>,
    data: &[u8],
    syntax: &str,
    piece: usize,
) -> Result<(Vec<u8>, Pseudonymized), Refusal> {
    let syntax = Uid::parse(syntax).unwrap();
    let mut out = Vec::new();
    let mut engine = Pseudonymizer::new(Arc::clone(plan), key(1), &syntax)?;
    for piece in data.chunks(piece.max(1)) {
        engine.feed(piece, &mut out)?;
    }
    let done = engine.finish(&mut out)?;
    Ok((out, done))
}

pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len().max(1)).any(|window| window == needle)
}
