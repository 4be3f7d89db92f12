//! A body opens only whole, unchanged and in its context; what comes out before is a prefix of the data.

use base::{AeTitle, Digest, InstanceMeta, ObjectId, Phi, Priority, Secret, Uid};
use envelope::{
    BodyContext, BodyError, BodyMeta, BodyOpener, BodySealer, CHUNK_BYTES, Commitment, OpenedBody, Padding,
    PaddingBlock, SEALED_CHUNK_BYTES, SealedBody, Suite,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_input_and_output_gives_the_same(
        suite in suites(),
        length in lengths(),
        padding in paddings(),
        cuts in vec(any::<Index>(), 0..12),
        sealed_cuts in vec(any::<Index>(), 0..12),
    ) {
        let data = pattern(length);
        let (whole, sealed_body) = seal(suite, padding, &[&data]);
        let (pieces, same_body) = seal(suite, padding, &split(&data, &cuts));
        prop_assert!(whole == pieces, "sealing does not depend on how the data came");
        prop_assert_eq!(sealed_body, same_body);

        let mut opener = opener(suite);
        let mut sink = Vec::new();
        for piece in split(&whole, &sealed_cuts) {
            opener.feed(piece, &mut sink).unwrap();
            prop_assert!(data.starts_with(&sink));
            prop_assert_eq!(opener.data_len(), sink.len() as u64);
        }
        let opened = opener.finish(&mut sink).unwrap();
        prop_assert!(sink == data);
        prop_assert_eq!(opened.meta, meta());
        prop_assert_eq!(opened.digest, sealed_body.digest);
        prop_assert_eq!(opened.sealed_len, whole.len() as u64);
        prop_assert_eq!(opened.data_digest, Digest::of(&data));
        prop_assert_eq!(sealed_body.data_digest, Digest::of(&data));
        prop_assert_eq!(sealed_body.digest, Digest::of(&whole));
        prop_assert_eq!((sealed_body.data_len, sealed_body.sealed_len), (length as u64, whole.len() as u64));
    }

    #[test]
    fn any_changed_byte_is_refused(suite in suites(), length in lengths(), at in any::<Index>(), change in 1u8..) {
        let data = pattern(length);
        let (mut sealed, _) = seal(suite, Padding::Padme, &[&data]);
        let at = at.index(sealed.len());
        sealed[at] ^= change;
        refused(suite, &sealed, &data)?;
    }

    #[test]
    fn any_truncation_is_refused(suite in suites(), length in lengths(), at in any::<Index>()) {
        let data = pattern(length);
        let (mut sealed, _) = seal(suite, Padding::Padme, &[&data]);
        sealed.truncate(at.index(sealed.len()));
        refused(suite, &sealed, &data)?;
    }

    #[test]
    fn anything_behind_is_refused(suite in suites(), length in lengths(), more in vec(any::<u8>(), 1..70_000)) {
        let data = pattern(length);
        let (mut sealed, _) = seal(suite, Padding::None, &[&data]);
        sealed.extend_from_slice(&more);
        refused(suite, &sealed, &data)?;
    }

    #[test]
    fn any_two_swapped_chunks_are_refused(suite in suites(), a in any::<Index>(), b in any::<Index>()) {
        let data = pattern(4 * CHUNK_BYTES);
        let (sealed, _) = seal(suite, Padding::None, &[&data]);
        let mut chunks: Vec<&[u8]> = sealed.chunks(SEALED_CHUNK_BYTES).collect();
        let (a, b) = (a.index(chunks.len()), b.index(chunks.len()));
        prop_assume!(a != b);
        chunks.swap(a, b);
        refused(suite, &chunks.concat(), &data)?;
    }

    #[test]
    fn any_two_bodies_do_not_mix(suite in suites(), length in lengths(), take in any::<Index>()) {
        // Two objects under one content key: as close to each other as two bodies can be.
        let data = pattern(length);
        let (ours, _) = seal(suite, Padding::None, &[&data]);
        let other = BodyContext { object: ObjectId([2; 16]), ..context(suite) };
        let mut theirs = Vec::new();
        let mut sealer = BodySealer::new(&other, &key(), Padding::None, &meta());
        sealer.data(&data, &mut theirs);
        sealer.finish(&mut theirs);
        let number = take.index(ours.len().div_ceil(SEALED_CHUNK_BYTES)) * SEALED_CHUNK_BYTES;
        let range = number..ours.len().min(number + SEALED_CHUNK_BYTES);
        let mut mixed = ours.clone();
        mixed[range.clone()].copy_from_slice(&theirs[range]);
        refused(suite, &mixed, &data)?;
    }

    #[test]
    fn random_bytes_are_refused(suite in suites(), bytes in vec(any::<u8>(), 0..200_000)) {
        refused(suite, &bytes, &[])?;
    }

    #[test]
    fn lengths_fall_into_padme_buckets(suite in suites(), length in 0usize..600_000) {
        let (sealed, _) = seal(suite, Padding::Padme, &[&pattern(length)]);
        let exponent = sealed.len().ilog2();
        let step = 1usize << (exponent - (exponent.ilog2() + 1));
        prop_assert_eq!(sealed.len() % step, 0, "{} is no multiple of {}", sealed.len(), step);
        let (bare, _) = seal(suite, Padding::None, &[&pattern(length)]);
        // 12 % of Padmé, and one step more where the length itself cannot be a body's.
        prop_assert!(sealed.len() <= bare.len() + bare.len() / 8 + 2 * step);
    }

    #[test]
    fn lengths_are_multiples_of_a_block(suite in suites(), length in 0usize..300_000, kib in 1u64..300) {
        let block = PaddingBlock::new(kib * 1024).unwrap();
        let (sealed, _) = seal(suite, Padding::Block(block), &[&pattern(length)]);
        prop_assert_eq!(sealed.len() as u64 % block.bytes(), 0);
    }
}

#[test]
fn lengths_around_the_chunk_boundary_round_trip() {
    // The first chunk holds the meta record; from the second on a data record fills a chunk.
    for chunks in [1, 2] {
        for length in (chunks * CHUNK_BYTES - 300)..(chunks * CHUNK_BYTES + 10) {
            let data = pattern(length);
            let (sealed, _) = seal(Suite::B, Padding::None, &[&data]);
            let mut sink = Vec::new();
            open(Suite::B, &sealed, &mut sink).unwrap();
            assert!(sink == data, "{length}");
        }
    }
}

#[test]
fn data_comes_out_chunk_by_chunk_without_waiting_for_the_next() {
    let data = pattern(3 * CHUNK_BYTES);
    let (sealed, _) = seal(Suite::B, Padding::None, &[&data]);
    let mut opener = opener(Suite::B);
    let mut sink = Vec::new();
    assert_eq!(opener.meta(), None);
    opener.feed(&sealed[..SEALED_CHUNK_BYTES - 1], &mut sink).unwrap();
    assert!(sink.is_empty() && opener.meta().is_none(), "nothing comes out of a chunk that is not complete");
    opener.feed(&sealed[SEALED_CHUNK_BYTES - 1..SEALED_CHUNK_BYTES], &mut sink).unwrap();
    assert_eq!(opener.meta(), Some(&meta()));
    assert!(sink.len() > CHUNK_BYTES - 300, "a full chunk is never the last: no need to wait for more");
}

#[test]
fn sealed_chunks_are_given_out_as_soon_as_they_are_full() {
    let mut sealer = BodySealer::new(&context(Suite::B), &key(), Padding::None, &meta());
    let data = pattern(CHUNK_BYTES * 10);
    let (mut out, mut given) = (Vec::new(), 0);
    for piece in data.chunks(1000) {
        sealer.data(piece, &mut out);
        given += out.len();
        out.clear();
        assert_eq!(given % SEALED_CHUNK_BYTES, 0);
        assert_eq!(sealer.sealed_len(), given as u64);
        let chunks = given / SEALED_CHUNK_BYTES;
        assert!(
            (sealer.data_len() as usize) < (chunks + 1) * CHUNK_BYTES,
            "the sealer holds less than a chunk"
        );
    }
}

#[test]
fn padding_of_a_large_body_comes_out_chunk_by_chunk() {
    let block = Padding::Block(PaddingBlock::new(4 * 1024 * 1024).unwrap());
    let mut sealer = BodySealer::new(&context(Suite::A), &key(), block, &meta());
    let (mut sealed, mut piece) = (Vec::new(), Vec::new());
    sealer.data(&pattern(100_000), &mut sealed);
    let mut tail = sealer.tail();
    assert_eq!(tail.sealed_len(), 4 * 1024 * 1024);
    while tail.padding(&mut piece) {
        assert_eq!(piece.len(), SEALED_CHUNK_BYTES);
        sealed.append(&mut piece);
    }
    // All of the padding alone is no body: what makes it one is the last chunk.
    assert_eq!(
        open(Suite::A, &sealed, &mut Vec::new()),
        Err(BodyError::Truncated { sealed_len: sealed.len() as u64 })
    );
    let body = tail.finish(&mut sealed);
    assert_eq!((body.sealed_len, sealed.len()), (4 * 1024 * 1024, 4 * 1024 * 1024));
    let mut sink = Vec::new();
    assert_eq!(open(Suite::A, &sealed, &mut sink).unwrap().data_len, 100_000);
    assert!(sink == pattern(100_000));
}

#[test]
fn an_abandoned_body_does_not_open() {
    let mut sealed = Vec::new();
    let mut sealer = BodySealer::new(&context(Suite::B), &key(), Padding::Padme, &meta());
    sealer.data(&pattern(200_000), &mut sealed);
    drop(sealer);
    assert!(!sealed.is_empty());
    assert_eq!(
        open(Suite::B, &sealed, &mut Vec::new()),
        Err(BodyError::Truncated { sealed_len: sealed.len() as u64 })
    );
}

#[test]
fn after_an_error_nothing_comes_out_any_more() {
    let data = pattern(300_000);
    let (mut sealed, _) = seal(Suite::B, Padding::None, &[&data]);
    sealed[SEALED_CHUNK_BYTES + 7] ^= 1;
    let mut opener = opener(Suite::B);
    let mut sink = Vec::new();
    let error = opener.feed(&sealed, &mut sink).unwrap_err();
    assert_eq!(error, BodyError::Chunk { number: 1 });
    let before = sink.len();
    assert!(data.starts_with(&sink) && before > 0, "the first chunk had verified");
    assert_eq!(opener.feed(&sealed[2 * SEALED_CHUNK_BYTES..], &mut sink), Err(error));
    assert_eq!(opener.finish(&mut sink), Err(error));
    assert_eq!(sink.len(), before);
}

#[test]
fn the_commitment_is_checked_before_anything_else() {
    let commitment = BodySealer::new(&context(Suite::B), &key(), Padding::None, &meta()).commitment();
    let wrong = [
        (context(Suite::B), Secret::new([9; 32])),
        (context(Suite::A), key()),
        (BodyContext { object: ObjectId([9; 16]), ..context(Suite::B) }, key()),
        (BodyContext { profile: Digest::of(b"other profile"), ..context(Suite::B) }, key()),
    ];
    for (context, key) in wrong {
        assert_eq!(BodyOpener::new(&context, &key, &commitment).err(), Some(BodyError::Commitment));
    }
}

#[test]
fn what_an_operator_reads_names_no_data() {
    let cases = [
        (BodyError::Commitment, "key commitment does not match: another key, object, suite or profile"),
        (BodyError::Chunk { number: 3 }, "chunk 3 does not verify: altered, out of place or cut off"),
        (BodyError::Truncated { sealed_len: 7 }, "body ends after 7 bytes without its last chunk"),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
    }
    let sealer = BodySealer::new(&context(Suite::B), &key(), Padding::None, &meta());
    assert_eq!(format!("{sealer:?}"), "BodySealer(0 bytes of data)");
    assert!(!format!("{:?}", meta()).contains("2.25"));
}

fn suites() -> impl Strategy<Value = Suite> {
    prop_oneof![Just(Suite::A), Just(Suite::B)]
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..2000, 64_000usize..67_000, 130_000usize..133_000, 0usize..300_000]
}

fn paddings() -> impl Strategy<Value = Padding> {
    let block = |kib: u64| Padding::Block(PaddingBlock::new(kib * 1024).unwrap());
    prop_oneof![Just(Padding::Padme), Just(Padding::None), (1u64..200).prop_map(block)]
}

fn context(suite: Suite) -> BodyContext {
    BodyContext { suite, object: ObjectId([1; 16]), profile: Digest::of(b"") }
}

fn key() -> Secret<[u8; 32]> {
    Secret::new([5; 32])
}

fn meta() -> BodyMeta {
    BodyMeta {
        instance: InstanceMeta {
            sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
            sop_instance: Phi::new(Uid::parse("2.25.42").unwrap()),
            transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").unwrap(),
            calling: AeTitle::parse("MODALITY").unwrap(),
            called: AeTitle::parse("SLUIS").unwrap(),
            move_originator: None,
            priority: Priority::Medium,
        },
        uid_hash_key: Secret::new([6; 32]),
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

fn split<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for to in cuts.into_iter().chain([bytes.len()]) {
        pieces.push(&bytes[from..to]);
        from = to;
    }
    pieces
}

fn seal(suite: Suite, padding: Padding, pieces: &[&[u8]]) -> (Vec<u8>, SealedBody) {
    let mut sealer = BodySealer::new(&context(suite), &key(), padding, &meta());
    let mut sealed = Vec::new();
    for piece in pieces {
        // A fresh vector each time, as a service would: the sealer hands its own over.
        let mut out = Vec::new();
        sealer.data(piece, &mut out);
        sealed.append(&mut out);
    }
    let body = sealer.finish(&mut sealed);
    (sealed, body)
}

fn opener(suite: Suite) -> BodyOpener {
    BodyOpener::new(&context(suite), &key(), &commitment(suite)).unwrap()
}

fn commitment(suite: Suite) -> Commitment {
    BodySealer::new(&context(suite), &key(), Padding::None, &meta()).commitment()
}

fn open(suite: Suite, sealed: &[u8], sink: &mut Vec<u8>) -> Result<OpenedBody, BodyError> {
    let mut opener = opener(suite);
    opener.feed(sealed, sink)?;
    opener.finish(sink)
}

/// It does not open, and what came out until then is data as sealed, and not all of what was sealed unless
/// only padding and trailer were hit.
fn refused(suite: Suite, sealed: &[u8], data: &[u8]) -> Result<(), TestCaseError> {
    let mut sink = Vec::new();
    prop_assert!(open(suite, sealed, &mut sink).is_err());
    prop_assert!(data.starts_with(&sink), "only verified data comes out");
    Ok(())
}
