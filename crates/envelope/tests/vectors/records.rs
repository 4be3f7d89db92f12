use base::{Attempt, DeliveryId, Digest, ObjectId, Secret};
use envelope::{BodyContext, RECORD_BYTES_MAX, RecordError, Suite, open_record, seal_record};
use serde_json::{Value, json};

use crate::files::{self, Vector, array, bytes, text, vector};
use crate::reference::{Body, sha256};

#[test]
fn files_are_what_is_sealed_today() {
    files::are_current("record", generate());
}

#[test]
fn files_open_as_they_say() {
    for (name, vector) in files::read("record") {
        let context = BodyContext {
            suite: text(&vector["suite"]).parse().unwrap(),
            object: ObjectId(array(&vector["object"])),
            profile: Digest(array(&vector["profile"])),
        };
        let key = Secret::new(array(&vector["content_key"]));
        let delivery = DeliveryId(array(&vector["delivery"]));
        let attempt = Attempt(vector["attempt"].as_u64().unwrap() as u32);
        let sealed = bytes(&vector["sealed"]);
        let opened = open_record(&context, &key, delivery, attempt, &sealed);
        match text(&vector["verdict"]) {
            "valid" => {
                let plaintext = bytes(&vector["plaintext"]);
                assert_eq!(opened.as_deref(), Ok(&plaintext[..]), "{name}");
                let random = array(&vector["random"]);
                assert_eq!(
                    sealed,
                    seal_record(&context, &key, delivery, attempt, &random, &plaintext),
                    "{name}"
                );
            }
            "invalid" => {
                let refusal = match opened.expect_err(&name) {
                    RecordError::Length(_) => "length",
                    RecordError::Tag => "tag",
                };
                assert_eq!(refusal, text(&vector["refusal"]), "{name}");
            }
            other => panic!("{name}: verdict {other}"),
        }
    }
}

fn fields(body: &Body, delivery: [u8; 32], attempt: u32, sealed: &[u8]) -> Value {
    json!({
        "suite": body.suite.to_string(),
        "object": body.object.to_string(),
        "profile": body.profile.to_string(),
        "content_key": hex::encode(body.content_key),
        "delivery": hex::encode(delivery),
        "attempt": attempt,
        "sealed": hex::encode(sealed),
    })
}

fn generate() -> Vec<Vector> {
    let (delivery, attempt, random) = ([0x0d; 32], 3, [0x5a; 32]);
    let plaintext = b"what the receiver answers";
    let mut vectors = Vec::new();
    for suite in Suite::ALL {
        let content_key = *b"the content key of these vectors";
        let body = Body { suite, object: ObjectId([0x0b; 16]), profile: sha256(b""), content_key };
        let good = body.record(delivery, attempt, random, plaintext);
        let mut valid = fields(&body, delivery, attempt, &good);
        valid["plaintext"] = json!(hex::encode(plaintext));
        valid["random"] = json!(hex::encode(random));
        vectors.push((format!("valid-{suite}"), vector("record", "a sealed record", None, valid)));

        let flipped = |at: usize| {
            let mut sealed = good.clone();
            sealed[at] ^= 1;
            fields(&body, delivery, attempt, &sealed)
        };
        let other = |body: Body| fields(&body, delivery, attempt, &good);
        let long = body.record(delivery, attempt, random, &[0; 8]);
        let cases = [
            ("salt", "one bit of the salt", "tag", flipped(0)),
            ("text", "one bit of the text", "tag", flipped(32)),
            ("tag", "one bit of the tag", "tag", flipped(good.len() - 1)),
            ("attempt", "opened for another attempt", "tag", fields(&body, delivery, attempt + 1, &good)),
            ("delivery", "opened for another delivery", "tag", fields(&body, [0x0e; 32], attempt, &good)),
            ("object", "opened for another object", "tag", other(Body { object: ObjectId([1; 16]), ..body })),
            ("profile", "opened for another profile", "tag", other(Body { profile: sha256(b"p"), ..body })),
            ("key", "opened with another key", "tag", other(Body { content_key: [1; 32], ..body })),
            (
                "cut",
                "the last byte is missing",
                "tag",
                fields(&body, delivery, attempt, &long[..long.len() - 1]),
            ),
            ("short", "shorter than salt and tag", "length", fields(&body, delivery, attempt, &good[..47])),
            ("nothing", "no byte at all", "length", fields(&body, delivery, attempt, &[])),
        ];
        for (name, about, refusal, fields) in cases {
            vectors.push((format!("invalid-{suite}-{name}"), vector("record", about, Some(refusal), fields)));
        }
    }
    vectors
}

#[test]
fn a_record_above_the_limit_is_refused_unopened() {
    let context = BodyContext { suite: Suite::B, object: ObjectId([1; 16]), profile: sha256(b"") };
    let (key, delivery) = (Secret::new([2; 32]), DeliveryId([3; 32]));
    for (length, fits) in [(RECORD_BYTES_MAX, true), (RECORD_BYTES_MAX + 1, false)] {
        let sealed = seal_record(&context, &key, delivery, Attempt(1), &[4; 32], &vec![7; length]);
        let opened = open_record(&context, &key, delivery, Attempt(1), &sealed);
        assert_eq!(opened.is_ok(), fits, "{length}");
    }
}
