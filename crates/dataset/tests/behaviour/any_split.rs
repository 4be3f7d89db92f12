//! However a data set is cut into pieces, the result is the same, and every truncation is found.

use crate::common::{cut, data_sets, deflate, encode, encodings, tokenize, value};
use base::Uid;
use dataset::{Encoding, WalkError, Walker};
use proptest::prelude::*;

fn walk<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    syntax: &str,
) -> Result<dataset::Findings, WalkError> {
    let mut walker = Walker::new(&Uid::parse(syntax).unwrap());
    assert!(walker.is_on());
    for piece in pieces {
        walker.feed(piece)?;
    }
    walker.finish()
}

fn uid_of(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::ImplicitLittle => "1.2.840.10008.1.2",
        Encoding::ExplicitLittle => "1.2.840.10008.1.2.1",
        Encoding::ExplicitBig => "1.2.840.10008.1.2.2",
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn events_are_the_same_and_give_the_data_set_back(
        nodes in data_sets(), encoding in encodings(), places in prop::collection::vec(any::<usize>(), 0..12)
    ) {
        let (bytes, _) = encode(&nodes, encoding);
        let whole = tokenize([bytes.as_slice()], encoding);
        prop_assert_eq!(&whole.end, &Ok(0));
        prop_assert_eq!(&whole.bytes, &bytes);
        prop_assert_eq!(&tokenize(cut(&bytes, &places), encoding), &whole);
        prop_assert_eq!(&tokenize(bytes.chunks(1), encoding), &whole);
    }

    #[test]
    fn a_truncated_data_set_is_found_or_ends_between_two_elements(nodes in data_sets(), encoding in encodings()) {
        let (bytes, ends) = encode(&nodes, encoding);
        for at in 0..bytes.len() {
            let said = tokenize([&bytes[..at]], encoding);
            let end = *ends.iter().rev().find(|end| **end <= at).unwrap();
            // Zeros after an element may be the begin of the next one's tag or padding: the data set up to the
            // element is whole in both cases.
            let whole = bytes[end..at].iter().all(|byte| *byte == 0);
            prop_assert_eq!(said.end.is_ok(), whole, "cut at {} of {}: {:?}", at, bytes.len(), said.end);
        }
    }

    #[test]
    fn a_truncated_deflated_data_set_is_always_found(nodes in data_sets()) {
        let (bytes, _) = encode(&nodes, Encoding::ExplicitLittle);
        let deflated = deflate(&bytes);
        let syntax = "1.2.840.10008.1.2.1.99";
        let plain = walk([bytes.as_slice()], uid_of(Encoding::ExplicitLittle)).unwrap();
        prop_assert_eq!(&walk(deflated.chunks(1), syntax).unwrap(), &plain);
        for at in 0..deflated.len() {
            prop_assert!(walk([&deflated[..at]], syntax).is_err(), "cut at {}", at);
        }
    }

    #[test]
    fn arbitrary_bytes_give_the_same_answer_in_any_pieces(
        bytes in prop::collection::vec(any::<u8>(), 0..200), encoding in encodings()
    ) {
        prop_assert_eq!(tokenize(bytes.chunks(1), encoding), tokenize([bytes.as_slice()], encoding));
        let _ = walk(bytes.chunks(3), "1.2.840.10008.1.2.1.99");
    }

    #[test]
    fn a_damaged_data_set_gives_the_same_answer_in_any_pieces(
        nodes in data_sets(), encoding in encodings(), place in any::<usize>(), flip in 1u8..
    ) {
        let (mut bytes, _) = encode(&nodes, encoding);
        let place = place % bytes.len();
        bytes[place] ^= flip;
        let whole = tokenize([bytes.as_slice()], encoding);
        prop_assert_eq!(&tokenize(bytes.chunks(1), encoding), &whole);
        if whole.end.is_ok() {
            prop_assert_eq!(whole.bytes, bytes);
        }
    }

    #[test]
    fn findings_are_the_same_in_any_pieces(
        encoding in encodings(), places in prop::collection::vec(any::<usize>(), 0..8), patient in "[A-Z]{1,20}"
    ) {
        let (bytes, _) = encode(&[
            value(0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
            value(0x0008, 0x0018, b"UI", b"2.25.4711\0"),
            value(0x0008, 0x0050, b"SH", b"A1"),
            value(0x0010, 0x0020, b"LO", patient.as_bytes()),
            value(0x7FE0, 0x0010, b"OW", &[7; 100]),
        ], encoding);
        let found = walk(cut(&bytes, &places), uid_of(encoding)).unwrap();
        prop_assert_eq!(found.sop_instance.unwrap().into_revealed().to_string(), "2.25.4711");
        prop_assert_eq!(found.patient_id.unwrap().into_revealed(), patient);
        prop_assert_eq!(found.data_set_bytes, bytes.len() as u64);
    }
}
