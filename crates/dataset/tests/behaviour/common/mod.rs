//! Data sets as trees, written by an encoder of its own: what the tests compare the tokenizer with.
#![allow(dead_code, reason = "each test file uses its part")]

use dataset::{Encoding, Event, Tag, TokenError, Tokenizer};
use proptest::prelude::*;

/// One element of a data set to be written.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Value { tag: Tag, vr: [u8; 2], value: Vec<u8> },
    Sequence { tag: Tag, items: Vec<Vec<Self>>, undefined: bool, undefined_items: bool, unknown: bool },
    Fragments { tag: Tag, fragments: Vec<Vec<u8>> },
}

const LONG: [&[u8; 2]; 13] =
    [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];

pub(crate) fn value(group: u16, element: u16, vr: &[u8; 2], value: &[u8]) -> Node {
    Node::Value { tag: Tag(group, element), vr: *vr, value: value.to_vec() }
}

/// The data set and the offsets at which its first-level elements end.
pub(crate) fn encode(nodes: &[Node], encoding: Encoding) -> (Vec<u8>, Vec<usize>) {
    let (mut out, mut ends) = (Vec::new(), vec![0]);
    for node in nodes {
        write(&mut out, node, encoding);
        ends.push(out.len());
    }
    (out, ends)
}

fn write(out: &mut Vec<u8>, node: &Node, encoding: Encoding) {
    match node {
        Node::Value { tag, vr, value } => {
            header(out, *tag, *vr, u32::try_from(value.len()).unwrap(), encoding);
            out.extend_from_slice(value);
        }
        Node::Sequence { tag, items, undefined, undefined_items, unknown } => {
            // UN of undefined length holds implicit VR little endian (PS3.5 6.2.2).
            let unknown = *unknown && *undefined && encoding.is_explicit();
            let inner = if unknown { Encoding::ImplicitLittle } else { encoding };
            let mut content = Vec::new();
            for item in items {
                let (bytes, _) = encode(item, inner);
                let length = if *undefined_items { u32::MAX } else { u32::try_from(bytes.len()).unwrap() };
                item_header(&mut content, Tag::ITEM, length, inner);
                content.extend_from_slice(&bytes);
                if *undefined_items {
                    item_header(&mut content, Tag::ITEM_DELIMITER, 0, inner);
                }
            }
            if *undefined {
                item_header(&mut content, Tag::SEQUENCE_DELIMITER, 0, inner);
            }
            let length = if *undefined { u32::MAX } else { u32::try_from(content.len()).unwrap() };
            header(out, *tag, if unknown { *b"UN" } else { *b"SQ" }, length, encoding);
            out.extend_from_slice(&content);
        }
        Node::Fragments { tag, fragments } => {
            header(out, *tag, *b"OB", u32::MAX, encoding);
            for fragment in fragments {
                item_header(out, Tag::ITEM, u32::try_from(fragment.len()).unwrap(), encoding);
                out.extend_from_slice(fragment);
            }
            item_header(out, Tag::SEQUENCE_DELIMITER, 0, encoding);
        }
    }
}

fn short(out: &mut Vec<u8>, number: u16, encoding: Encoding) {
    let bytes = if encoding == Encoding::ExplicitBig { number.to_be_bytes() } else { number.to_le_bytes() };
    out.extend_from_slice(&bytes);
}

fn long(out: &mut Vec<u8>, number: u32, encoding: Encoding) {
    let bytes = if encoding == Encoding::ExplicitBig { number.to_be_bytes() } else { number.to_le_bytes() };
    out.extend_from_slice(&bytes);
}

/// An element's header with any length field.
pub(crate) fn header(out: &mut Vec<u8>, tag: Tag, vr: [u8; 2], length: u32, encoding: Encoding) {
    short(out, tag.0, encoding);
    short(out, tag.1, encoding);
    if !encoding.is_explicit() {
        return long(out, length, encoding);
    }
    out.extend_from_slice(&vr);
    if LONG.contains(&&vr) {
        out.extend_from_slice(&[0, 0]);
        long(out, length, encoding);
    } else {
        short(out, u16::try_from(length).unwrap(), encoding);
    }
}

/// An item's or delimiter's header with any length field.
pub(crate) fn item_header(out: &mut Vec<u8>, tag: Tag, length: u32, encoding: Encoding) {
    short(out, tag.0, encoding);
    short(out, tag.1, encoding);
    long(out, length, encoding);
}

pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What a tokenizer said of a data set in pieces: a line per event with adjoining pieces of a value joined, the
/// bytes of all events, and how it ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) lines: Vec<String>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: Result<usize, TokenError>,
}

pub(crate) fn tokenize<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, encoding: Encoding) -> Said {
    let mut said = Said { lines: Vec::new(), bytes: Vec::new(), end: Ok(0) };
    let mut tokens = Tokenizer::new(encoding);
    let mut running = (0, 0);
    for mut piece in pieces {
        loop {
            match tokens.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(event)) => note(&mut said, event, &mut running),
                Err(error) => {
                    flush(&mut said, &mut running);
                    said.end = Err(error);
                    return said;
                }
            }
        }
        assert!(piece.is_empty(), "a tokenizer that wants more has taken all");
    }
    flush(&mut said, &mut running);
    said.end = tokens.finish();
    if let Ok(zeros) = said.end {
        said.bytes.resize(said.bytes.len() + zeros, 0);
    }
    said
}

fn flush(said: &mut Said, (value, zeros): &mut (usize, u64)) {
    if *value > 0 {
        said.lines.push(format!("{value} bytes"));
    }
    if *zeros > 0 {
        said.lines.push(format!("{zeros} zeros"));
    }
    (*value, *zeros) = (0, 0);
}

fn note(said: &mut Said, event: Event<'_>, running: &mut (usize, u64)) {
    match event {
        Event::Value(piece) => {
            assert!(!piece.is_empty());
            said.bytes.extend_from_slice(piece);
            running.0 += piece.len();
            return;
        }
        Event::TrailingZeros(count) => {
            said.bytes.resize(said.bytes.len() + usize::try_from(count).unwrap(), 0);
            running.1 += count;
            return;
        }
        _ => flush(said, running),
    }
    said.lines.push(match event {
        Event::Element(header) => {
            said.bytes.extend_from_slice(header.raw.as_slice());
            format!("{:?}", header)
        }
        Event::ItemStart(length, raw) | Event::FragmentStart(length, raw) => {
            said.bytes.extend_from_slice(raw.as_slice());
            format!("item {length:?}")
        }
        Event::ItemEnd(raw) | Event::SequenceEnd(raw) | Event::StrayDelimiter(raw) => {
            said.bytes.extend_from_slice(raw.as_slice());
            format!("end {}", raw.as_slice().len())
        }
        other => format!("{other:?}"),
    });
}

/// Cuts bytes at the given places (taken modulo the length).
pub(crate) fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = places.iter().map(|place| place % (bytes.len() + 1)).collect();
    at.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for place in at {
        pieces.push(&bytes[from..place]);
        from = place;
    }
    pieces.push(&bytes[from..]);
    pieces
}

/// First levels of up to eight elements, ascending, of every kind.
pub(crate) fn data_sets() -> impl Strategy<Value = Vec<Node>> {
    prop::collection::vec(node(3), 1..8).prop_map(|mut nodes| {
        for (number, node) in nodes.iter_mut().enumerate() {
            let group = 0x0008 + 2 * u16::try_from(number).unwrap();
            let (Node::Value { tag, .. } | Node::Sequence { tag, .. }) = node else { continue };
            tag.0 = group + tag.0 % 2;
        }
        nodes
    })
}

pub(crate) fn encodings() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::ImplicitLittle), Just(Encoding::ExplicitLittle), Just(Encoding::ExplicitBig)]
}

fn node(depth: u32) -> BoxedStrategy<Node> {
    let vr = prop::sample::select(vec![*b"LO", *b"PN", *b"UI", *b"US", *b"OW", *b"UN", *b"UT", *b"ZZ"]);
    let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(even);
    // Element numbers that no dictionary entry makes a sequence.
    let leaf = (0u16..2, vr, bytes()).prop_map(|(odd, vr, value)| {
        let vr = if vr == *b"ZZ" { *b"UC" } else { vr };
        Node::Value { tag: Tag(odd, 0x1001), vr, value }
    });
    let fragments = prop::collection::vec(bytes(), 1..4)
        .prop_map(|fragments| Node::Fragments { tag: Tag::PIXEL_DATA, fragments });
    if depth == 0 {
        return leaf.boxed();
    }
    let items = prop::collection::vec(prop::collection::vec(node(depth - 1), 0..4), 0..3);
    let sequence = (items, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(items, undefined, undefined_items, unknown)| Node::Sequence {
            tag: Tag(0, 0x1002),
            items,
            // Implicit VR knows a sequence of defined length only by the dictionary.
            undefined: undefined || unknown,
            undefined_items,
            unknown,
        },
    );
    prop_oneof![4 => leaf, 2 => sequence, 1 => fragments].boxed()
}

fn even(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() / 2 * 2);
    bytes
}
