use base::{AeTitle, Digest, InstanceMeta, MoveOriginator, ObjectId, Phi, Priority, Secret, Uid};
use envelope::{
    BodyContext, BodyError, BodyMeta, BodyOpener, BodySealer, CHUNK_BYTES, Commitment, OpenedBody, Padding,
    PaddingBlock, SEALED_CHUNK_BYTES, Suite,
};
use serde_json::{Value, json};

use crate::files::{self, Vector, array, bytes, text, vector};
use crate::reference::{Body, meta_cbor, meta_record, sha256, trailer_record, typed};

#[test]
fn files_are_what_is_sealed_today() {
    files::are_current("body", generate());
}

#[test]
fn files_open_as_they_say() {
    for (name, vector) in files::read("body") {
        let context = BodyContext {
            suite: text(&vector["suite"]).parse().unwrap(),
            object: ObjectId(array(&vector["object"])),
            profile: Digest(array(&vector["profile"])),
        };
        let key = Secret::new(array(&vector["content_key"]));
        let sealed = sealed_bytes(&vector, &context, &key);
        let mut sink = Vec::new();
        let opened = open(&context, &key, &Commitment(array(&vector["commitment"])), &sealed, &mut sink);
        match text(&vector["verdict"]) {
            "valid" => {
                let opened = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
                let data = data_of(&vector);
                assert!(sink == data, "{name}: data");
                assert_eq!(opened.meta, meta_from(&vector["meta"]), "{name}");
                assert_eq!(opened.data_len, data.len() as u64, "{name}");
                assert_eq!(opened.data_digest, sha256(&data), "{name}");
                assert_eq!(opened.digest, Digest(array(&vector["sealed_sha256"])), "{name}");
                assert_eq!(
                    sealed,
                    seal_again(&vector, &context, &key),
                    "{name}: sealing gives the same bytes"
                );
            }
            "invalid" => {
                let error = opened.expect_err(&name);
                assert_eq!(refusal(error), text(&vector["refusal"]), "{name}: {error}");
            }
            other => panic!("{name}: verdict {other}"),
        }
    }
}

fn open(
    context: &BodyContext,
    key: &Secret<[u8; 32]>,
    commitment: &Commitment,
    sealed: &[u8],
    sink: &mut Vec<u8>,
) -> Result<OpenedBody, BodyError> {
    let mut opener = BodyOpener::new(context, key, commitment)?;
    opener.feed(sealed, sink)?;
    opener.finish(sink)
}

fn refusal(error: BodyError) -> &'static str {
    match error {
        BodyError::Commitment => "commitment",
        BodyError::Chunk { .. } => "chunk",
        BodyError::Truncated { .. } => "truncated",
        BodyError::Records { .. } => "records",
        BodyError::Trailer { .. } => "trailer",
    }
}

/// The bytes of a file: written out, or sealed from a recipe and then edited.
fn sealed_bytes(vector: &Value, context: &BodyContext, key: &Secret<[u8; 32]>) -> Vec<u8> {
    let sealed = match vector.get("sealed") {
        Some(sealed) => bytes(sealed),
        None => {
            let mut sealed = seal_again(vector, context, key);
            for edit in vector["edits"].as_array().into_iter().flatten() {
                sealed = apply(edit, &sealed, vector, context, key);
            }
            sealed
        }
    };
    assert_eq!(sha256(&sealed), Digest(array(&vector["sealed_sha256"])), "{}", vector["about"]);
    sealed
}

fn seal_again(vector: &Value, context: &BodyContext, key: &Secret<[u8; 32]>) -> Vec<u8> {
    let padding: Padding = text(&vector["padding"]).parse().unwrap();
    let mut sealer = BodySealer::new(context, key, padding, &meta_from(&vector["meta"]));
    let mut out = Vec::new();
    sealer.data(&data_of(vector), &mut out);
    sealer.finish(&mut out);
    out
}

/// `data` in hexadecimal, or `data_pattern`: as many bytes, byte i being the exclusive or of the lower
/// two bytes of i.
fn data_of(vector: &Value) -> Vec<u8> {
    match vector.get("data") {
        Some(data) => bytes(data),
        None => pattern(vector["data_pattern"].as_u64().unwrap() as usize),
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ (i >> 8)) as u8).collect()
}

fn apply(
    edit: &Value,
    sealed: &[u8],
    vector: &Value,
    context: &BodyContext,
    key: &Secret<[u8; 32]>,
) -> Vec<u8> {
    let number = |field: &str| edit[field].as_u64().unwrap() as usize;
    let chunk =
        |number: usize| number * SEALED_CHUNK_BYTES..sealed.len().min((number + 1) * SEALED_CHUNK_BYTES);
    let mut edited = sealed.to_vec();
    match text(&edit["op"]) {
        "flip" => edited[number("at")] ^= 1,
        "truncate" => edited.truncate(number("to")),
        "append" => edited.extend_from_slice(&bytes(&edit["bytes"])),
        "remove chunk" => drop(edited.drain(chunk(number("number")))),
        "repeat chunk" => {
            let range = chunk(number("number"));
            edited.splice(range.end..range.end, sealed[range].to_vec());
        }
        "swap chunks" => {
            let (a, b) = (chunk(number("a")), chunk(number("b")));
            edited[a.clone()].copy_from_slice(&sealed[b.clone()]);
            edited[b].copy_from_slice(&sealed[a]);
        }
        "chunk of another object" => {
            let other = BodyContext { object: ObjectId(array(&edit["object"])), ..*context };
            let range = chunk(number("number"));
            edited[range.clone()].copy_from_slice(&seal_again(vector, &other, key)[range]);
        }
        op => panic!("unknown edit {op}"),
    }
    edited
}

fn meta(moved: bool) -> BodyMeta {
    let uid = |text| Uid::parse(text).unwrap();
    let title = |text| AeTitle::parse(text).unwrap();
    BodyMeta {
        instance: InstanceMeta {
            sop_class: uid("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance: Phi::new(uid("2.25.316500000000000000000000000000000000001")),
            transfer_syntax: uid("1.2.840.10008.1.2.4.70"),
            calling: title("CT_ROOM 3"),
            called: title("SLUIS"),
            move_originator: moved.then(|| MoveOriginator { ae: title("MOVER"), message_id: 513 }),
            priority: if moved { Priority::High } else { Priority::Medium },
        },
        uid_hash_key: Secret::new([0x77; 32]),
    }
}

fn meta_json(meta: &BodyMeta) -> Value {
    let m = &meta.instance;
    json!({
        "sop_class": m.sop_class.as_str(),
        "sop_instance": m.sop_instance.reveal().as_str(),
        "transfer_syntax": m.transfer_syntax.as_str(),
        "calling": m.calling.as_str(),
        "called": m.called.as_str(),
        "move_originator": m.move_originator.as_ref().map(|o| json!([o.ae.as_str(), o.message_id])),
        "priority": m.priority.code(),
        "uid_hash_key": hex::encode(meta.uid_hash_key.expose()),
    })
}

fn meta_from(value: &Value) -> BodyMeta {
    let uid = |field: &str| Uid::parse(text(&value[field])).unwrap();
    let title = |value: &Value| AeTitle::parse(text(value)).unwrap();
    let originator = &value["move_originator"];
    BodyMeta {
        instance: InstanceMeta {
            sop_class: uid("sop_class"),
            sop_instance: Phi::new(uid("sop_instance")),
            transfer_syntax: uid("transfer_syntax"),
            calling: title(&value["calling"]),
            called: title(&value["called"]),
            move_originator: originator.is_array().then(|| MoveOriginator {
                ae: title(&originator[0]),
                message_id: originator[1].as_u64().unwrap() as u16,
            }),
            priority: Priority::from_code(value["priority"].as_u64().unwrap() as u16),
        },
        uid_hash_key: Secret::new(array(&value["uid_hash_key"])),
    }
}

fn body(suite: Suite) -> Body {
    Body {
        suite,
        object: ObjectId([0x0b; 16]),
        profile: sha256(b""),
        content_key: *b"the content key of these vectors",
    }
}

fn fields(body: &Body) -> Value {
    json!({
        "suite": body.suite.to_string(),
        "object": body.object.to_string(),
        "profile": body.profile.to_string(),
        "content_key": hex::encode(body.content_key),
        "commitment": hex::encode(body.commitment()),
    })
}

fn with(mut fields: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        fields[key] = value.clone();
    }
    fields
}

fn generate() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for suite in Suite::ALL {
        vectors.extend(valid(suite));
        vectors.extend(one_chunk(suite));
    }
    vectors.extend(many_chunks());
    vectors
}

/// Sealed by the sealer; where the second writer is short to say so, it agrees.
fn valid(suite: Suite) -> Vec<Vector> {
    let body = body(suite);
    let block = Padding::Block(PaddingBlock::new(4096).unwrap());
    let no_room = CHUNK_BYTES - meta_record(&meta(false)).len() - 3 - 20;
    let cases: [(&str, &str, bool, Padding, usize); 7] = [
        ("empty", "a data set of no bytes", false, Padding::None, 0),
        ("small", "no padding", false, Padding::None, 100),
        ("moved", "with a C-MOVE originator and high priority", true, Padding::None, 100),
        ("padme", "padded to a Padmé length", false, Padding::Padme, 1000),
        ("block", "padded to a multiple of 4096 bytes", false, block, 1000),
        ("three-chunks", "two full chunks and a last one", false, Padding::None, 150_000),
        ("trailer-alone", "data that leaves no room for the trailer", false, Padding::None, no_room),
    ];
    cases
        .into_iter()
        .map(|(name, about, moved, padding, length)| {
            let data = pattern(length);
            let context = BodyContext { suite, object: body.object, profile: body.profile };
            let mut sealer = BodySealer::new(&context, &Secret::new(body.content_key), padding, &meta(moved));
            let mut sealed = Vec::new();
            sealer.data(&data, &mut sealed);
            sealer.finish(&mut sealed);
            if padding == Padding::None && length <= 100 {
                let data_record = if data.is_empty() { Vec::new() } else { typed(2, &data) };
                let chunk = [meta_record(&meta(moved)), data_record, trailer_record(&data)].concat();
                assert_eq!(sealed, body.seal(&[chunk]), "{name}: both writers agree");
            }
            let mut fields = with(
                fields(&body),
                json!({
                    "meta": meta_json(&meta(moved)),
                    "padding": padding.to_string(),
                    "sealed_sha256": sha256(&sealed).to_string(),
                }),
            );
            if sealed.len() <= 4096 {
                fields["data"] = json!(hex::encode(&data));
                fields["sealed"] = json!(hex::encode(&sealed));
            } else {
                fields["data_pattern"] = json!(length);
            }
            (format!("valid-{suite}-{name}"), vector("body", about, None, fields))
        })
        .collect()
}

/// Bodies of one chunk (or little more), written out by the second writer.
fn one_chunk(suite: Suite) -> Vec<Vector> {
    let body = body(suite);
    let meta = meta(false);
    let data = pattern(100);
    let (head, content, trailer) = (meta_record(&meta), typed(2, &data), trailer_record(&data));
    let good = body.seal(&[[&head[..], &content, &trailer].concat()]);
    let records = |records: &[&[u8]]| body.seal(&[records.concat()]);

    let mut wrong_length = trailer.clone();
    wrong_length[10] ^= 1;
    let mut wrong_digest = trailer.clone();
    wrong_digest[42] ^= 1;
    let mut longer_meta = meta_cbor(&meta);
    longer_meta.push(0);
    // The count of the array (0x89) in its two-byte form: the same value, another encoding.
    let wide_meta = [&[0x98, 0x09][..], &meta_cbor(&meta)[1..]].concat();
    let flipped = |at: usize| {
        let mut sealed = good.clone();
        let at = if at < sealed.len() { at } else { sealed.len() - 1 };
        sealed[at] ^= 1;
        sealed
    };

    let sealed_cases: Vec<(&str, &str, &str, Vec<u8>)> = vec![
        ("flipped-first", "one bit of the first byte", "chunk", flipped(0)),
        ("flipped-tag", "one bit of the tag", "chunk", flipped(usize::MAX)),
        ("cut-by-one", "the last byte is missing", "chunk", good[..good.len() - 1].to_vec()),
        ("cut-in-half", "the second half is missing", "chunk", good[..good.len() / 2].to_vec()),
        ("only-a-tag", "16 bytes", "truncated", good[..16].to_vec()),
        ("nothing", "no byte at all", "truncated", Vec::new()),
        ("empty-chunk", "a sealed last chunk of no plaintext", "truncated", body.chunk(0, true, &[])),
        ("byte-behind", "a byte after the last chunk", "chunk", [&good[..], &[0]].concat()),
        ("not-marked-last", "the only chunk is not marked as the last", "chunk", {
            body.chunk(0, false, &[&head[..], &content, &trailer].concat())
        }),
        ("starts-at-one", "the first chunk has number 1", "chunk", {
            body.chunk(1, true, &[&head[..], &content, &trailer].concat())
        }),
        ("meta-missing", "no meta record", "records", records(&[&content, &trailer])),
        ("meta-twice", "two meta records", "records", records(&[&head, &head, &content, &trailer])),
        ("meta-second", "data before the meta record", "records", records(&[&content, &head, &trailer])),
        ("meta-trailing-byte", "a byte inside the meta record after its CBOR", "records", {
            records(&[&typed(1, &longer_meta), &content, &trailer])
        }),
        ("meta-other-encoding", "the meta record in another encoding of the same value", "records", {
            records(&[&typed(1, &wide_meta), &content, &trailer])
        }),
        ("meta-empty", "an empty meta record", "records", records(&[&typed(1, &[]), &content, &trailer])),
        ("data-after-padding", "data after padding", "records", {
            records(&[&head, &typed(3, &[0; 5]), &content, &trailer])
        }),
        (
            "data-empty",
            "a data record of no bytes",
            "records",
            records(&[&head, &typed(2, &[]), &content, &trailer]),
        ),
        ("data-after-trailer", "data after the trailer", "records", records(&[&head, &trailer, &content])),
        ("padding-after-trailer", "padding after the trailer", "records", {
            records(&[&head, &content, &trailer, &[0]])
        }),
        ("padding-not-zero", "padding that is not zero", "records", {
            records(&[&head, &content, &typed(3, &[0, 1]), &trailer])
        }),
        ("trailer-missing", "no trailer", "records", records(&[&head, &content])),
        ("trailer-twice", "two trailers", "records", records(&[&head, &content, &trailer, &trailer])),
        ("trailer-short", "a trailer without its last byte", "records", {
            records(&[&head, &content, &typed(4, &trailer[3..42])])
        }),
        ("trailer-length", "the trailer says one byte more or less", "trailer", {
            records(&[&head, &content, &wrong_length])
        }),
        ("trailer-digest", "the trailer has another digest", "trailer", {
            records(&[&head, &content, &wrong_digest])
        }),
        ("trailer-of-other-data", "the trailer of a longer data set", "trailer", {
            records(&[&head, &content, &trailer_record(&pattern(101))])
        }),
        (
            "unknown-record",
            "a record of type 5",
            "records",
            records(&[&head, &content, &typed(5, &[]), &trailer]),
        ),
        ("record-beyond-chunk", "a record longer than what is left", "records", {
            records(&[&head, &[2, 0xff, 0xff], &data, &trailer])
        }),
    ];
    let mut vectors: Vec<Vector> = sealed_cases
        .into_iter()
        .map(|(name, about, refusal, sealed)| {
            let fields = with(
                fields(&body),
                json!({ "sealed": hex::encode(&sealed), "sealed_sha256": sha256(&sealed).to_string() }),
            );
            (format!("invalid-{suite}-{name}"), vector("body", about, Some(refusal), fields))
        })
        .collect();
    vectors.extend(other_contexts(&body, &good));
    vectors
}

/// A good body in the wrong hands: another key, object, profile, suite or commitment.
fn other_contexts(body: &Body, good: &[u8]) -> Vec<Vector> {
    let suite = body.suite;
    let other_suite = if suite == Suite::A { Suite::B } else { Suite::A };
    let others = [
        ("key", Body { content_key: [9; 32], ..*body }),
        ("object", Body { object: ObjectId([9; 16]), ..*body }),
        ("profile", Body { profile: sha256(b"a pseudonymization profile"), ..*body }),
        ("suite", Body { suite: other_suite, ..*body }),
    ];
    let sealed = json!({ "sealed": hex::encode(good), "sealed_sha256": sha256(good).to_string() });
    let mut vectors = Vec::new();
    for (name, other) in others {
        // The header of one body with the body of another: the commitment says so at once ...
        let kept = with(fields(&other), json!({ "commitment": hex::encode(body.commitment()) }));
        let about = format!("another {name}: the commitment does not match");
        vectors.push((
            format!("invalid-{suite}-other-{name}"),
            vector("body", &about, Some("commitment"), with(kept, sealed.clone())),
        ));
        // ... and where the commitment was exchanged too, the chunks do.
        let about = format!("another {name} with its own commitment: the chunks do not verify");
        vectors.push((
            format!("invalid-{suite}-other-{name}-recommitted"),
            vector("body", &about, Some("chunk"), with(fields(&other), sealed.clone())),
        ));
    }
    let zero = with(fields(body), json!({ "commitment": hex::encode([0; 32]) }));
    vectors.push((
        format!("invalid-{suite}-commitment-zero"),
        vector("body", "a commitment of zeros", Some("commitment"), with(zero, sealed)),
    ));
    vectors
}

/// Bodies of three chunks: a recipe, then edits.
fn many_chunks() -> Vec<Vector> {
    const LENGTH: usize = 150_000;
    const CHUNK: usize = SEALED_CHUNK_BYTES;
    let cases: Vec<(&str, &str, &str, Value)> = vec![
        (
            "cut-at-chunk",
            "cut after the first chunk",
            "truncated",
            json!([{ "op": "truncate", "to": CHUNK }]),
        ),
        (
            "last-chunk-missing",
            "cut before the last chunk",
            "truncated",
            json!([{ "op": "remove chunk", "number": 2 }]),
        ),
        (
            "first-chunk-missing",
            "the first chunk is missing",
            "chunk",
            json!([{ "op": "remove chunk", "number": 0 }]),
        ),
        ("middle-chunk-missing", "the second chunk is missing", "chunk", {
            json!([{ "op": "remove chunk", "number": 1 }])
        }),
        (
            "swapped",
            "the first two chunks change places",
            "chunk",
            json!([{ "op": "swap chunks", "a": 0, "b": 1 }]),
        ),
        ("repeated", "the first chunk comes twice", "chunk", json!([{ "op": "repeat chunk", "number": 0 }])),
        (
            "last-repeated",
            "the last chunk comes twice",
            "chunk",
            json!([{ "op": "repeat chunk", "number": 2 }]),
        ),
        ("foreign-first", "the first chunk of another object under the same key", "chunk", {
            json!([{ "op": "chunk of another object", "number": 0, "object": hex::encode([9; 16]) }])
        }),
        ("foreign-last", "the last chunk of another object under the same key", "chunk", {
            json!([{ "op": "chunk of another object", "number": 2, "object": hex::encode([9; 16]) }])
        }),
        (
            "flipped-middle",
            "one bit in the second chunk",
            "chunk",
            json!([{ "op": "flip", "at": CHUNK + 1000 }]),
        ),
        (
            "flipped-last",
            "one bit in the last chunk",
            "chunk",
            json!([{ "op": "flip", "at": 2 * CHUNK + 5 }]),
        ),
        (
            "cut-inside",
            "cut inside the second chunk",
            "chunk",
            json!([{ "op": "truncate", "to": CHUNK + 1000 }]),
        ),
        ("bytes-behind", "sixteen bytes after the last chunk", "chunk", {
            json!([{ "op": "append", "bytes": hex::encode([0; 16]) }])
        }),
    ];
    let mut vectors = Vec::new();
    for suite in Suite::ALL {
        let body = body(suite);
        let context = BodyContext { suite, object: body.object, profile: body.profile };
        let key = Secret::new(body.content_key);
        for (name, about, refusal, edits) in &cases {
            let recipe = with(
                fields(&body),
                json!({
                    "meta": meta_json(&meta(false)),
                    "padding": "none",
                    "data_pattern": LENGTH,
                    "edits": edits,
                }),
            );
            let mut sealed = seal_again(&recipe, &context, &key);
            for edit in edits.as_array().unwrap() {
                sealed = apply(edit, &sealed, &recipe, &context, &key);
            }
            let fields = with(recipe, json!({ "sealed_sha256": sha256(&sealed).to_string() }));
            vectors.push((format!("invalid-{suite}-{name}"), vector("body", about, Some(refusal), fields)));
        }
    }
    vectors
}

/// Too long for a file: chunks that only the second writer makes, around the full length.
#[test]
fn full_chunks_that_break_the_format_are_refused() {
    let body = body(Suite::B);
    let context = BodyContext { suite: body.suite, object: body.object, profile: body.profile };
    let head = meta_record(&meta(false));
    let fill = |records: &[&[u8]], end: &[u8]| {
        let mut chunk = records.concat();
        let padding = CHUNK_BYTES - chunk.len() - end.len();
        chunk.extend_from_slice(&typed(3, &vec![0; padding - 3]));
        chunk.extend_from_slice(end);
        assert_eq!(chunk.len(), CHUNK_BYTES);
        chunk
    };
    let trailer = trailer_record(b"");
    let full = fill(&[&head], &[]);
    let full_with_trailer = fill(&[&head], &trailer);
    let cases = [
        ("a full chunk marked last", body.chunk(0, true, &full_with_trailer), "chunk"),
        (
            "trailer in a chunk that is not the last",
            body.seal(&[full_with_trailer.clone(), trailer.clone()]),
            "records",
        ),
        ("trailer in a full chunk, then nothing", body.chunk(0, false, &full_with_trailer), "records"),
        ("no trailer at all", body.seal(&[full.clone(), vec![0]]), "records"),
        ("meta in the second chunk", body.seal(&[full.clone(), [&head[..], &trailer].concat()]), "records"),
        (
            "data after a chunk of padding",
            body.seal(&[full.clone(), [&typed(2, b"x")[..], &trailer_record(b"x")].concat()]),
            "records",
        ),
        (
            "a short chunk in the middle",
            [body.chunk(0, false, &head), body.chunk(1, true, &trailer)].concat(),
            "chunk",
        ),
    ];
    for (case, sealed, want) in cases {
        let mut sink = Vec::new();
        let got = open(
            &context,
            &Secret::new(body.content_key),
            &Commitment(body.commitment()),
            &sealed,
            &mut sink,
        );
        assert_eq!(refusal(got.expect_err(case)), want, "{case}");
        assert!(sink.is_empty(), "{case}: nothing comes out");
    }
    let good = body.seal(&[full, trailer]);
    let opened = open(
        &context,
        &Secret::new(body.content_key),
        &Commitment(body.commitment()),
        &good,
        &mut Vec::new(),
    );
    assert_eq!(opened.unwrap().data_len, 0);
}
