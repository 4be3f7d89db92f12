use base::{RouteId, Secret, Timestamp};
use envelope::{BundleError, PrekeyKind, PrekeySecret, SenderSession, SessionRequest, Suite};
use identity::{Context, Signature};
use serde_json::{Value, json};

use crate::files::{self, Vector, array, bytes, text, vector};
use crate::reference::{BundleBody, identity, prekey_id, public_key, signed};

const ROUTE: RouteId = RouteId([0x0a; 16]);
const NOT_AFTER: u64 = 1_800_000_000_000;
const DAY: u64 = 24 * 3600 * 1000;
const RECEIVER: u8 = 2;

#[test]
fn files_are_what_is_signed_today() {
    files::are_current("bundle", generate());
}

#[test]
fn files_are_accepted_as_they_say() {
    for (name, vector) in files::read("bundle") {
        let suite: Suite = text(&vector["suite"]).parse().unwrap();
        let recipient = identity("receiver", vector["recipient_seed_byte"].as_u64().unwrap() as u8);
        let bundle = bytes(&vector["bundle"]);
        let request = SessionRequest {
            bundle: &bundle,
            recipient: recipient.public(),
            sender: &identity("sender", 1),
            route: RouteId(array(&vector["route"])),
            suite,
        };
        let now = Timestamp(vector["now"].as_u64().unwrap());
        let session = SenderSession::open(&request, now, &Secret::new([7; 48]));
        match text(&vector["verdict"]) {
            "valid" => {
                let session = session.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(session.expires() > now, "{name}");
                let seed = Secret::new(array(&vector["prekey_seed"]));
                let kind = match text(&vector["prekey_kind"]) {
                    "one-time" => PrekeyKind::OneTime,
                    _ => PrekeyKind::LastResort,
                };
                let secret = PrekeySecret::generate(suite, ROUTE, kind, Timestamp(NOT_AFTER), seed);
                assert_eq!(secret.bundle(&recipient), bundle, "{name}: signing gives the same bytes");
                assert_eq!(session.prekey(), secret.id(), "{name}");
            }
            "invalid" => {
                let error = session.expect_err(&name);
                assert_eq!(refusal(error), text(&vector["refusal"]), "{name}: {error}");
            }
            other => panic!("{name}: verdict {other}"),
        }
    }
}

fn refusal(error: BundleError) -> &'static str {
    match error {
        BundleError::Malformed => "malformed",
        BundleError::Version(_) => "version",
        BundleError::Signature => "signature",
        BundleError::Route { .. } => "route",
        BundleError::Suite { .. } => "suite",
        BundleError::Expired { .. } => "expired",
        BundleError::Key => "key",
    }
}

fn generate() -> Vec<Vector> {
    Suite::ALL.into_iter().flat_map(|suite| valid(suite).into_iter().chain(invalid(suite))).collect()
}

fn body(suite: Suite) -> BundleBody {
    let public_key = public_key(suite, &[0x33; 32]);
    let id = prekey_id(&public_key);
    BundleBody { version: 1, route: ROUTE, id, suite, kind: 1, public_key, not_after: NOT_AFTER }
}

fn sign(body: &[u8]) -> Vec<u8> {
    signed(body, &identity("receiver", RECEIVER).sign(Context::PREKEY, body))
}

fn fields(suite: Suite, bundle: &[u8]) -> Value {
    json!({
        "suite": suite.to_string(),
        "route": ROUTE.to_string(),
        "now": NOT_AFTER - 1,
        "recipient_seed_byte": RECEIVER,
        "bundle": hex::encode(bundle),
    })
}

fn valid(suite: Suite) -> Vec<Vector> {
    let mut vectors = Vec::new();
    for (name, kind, now) in [
        ("one-time", 1, NOT_AFTER - 1),
        ("last-resort", 2, NOT_AFTER - 1),
        ("within-clock-skew", 1, NOT_AFTER + DAY),
    ] {
        let mut fields = fields(suite, &sign(&BundleBody { kind, ..body(suite) }.encode()));
        fields["now"] = json!(now);
        fields["prekey_seed"] = json!(hex::encode([0x33; 32]));
        fields["prekey_kind"] = json!(if kind == 1 { "one-time" } else { "last-resort" });
        vectors.push((format!("valid-{suite}-{name}"), vector("bundle", name, None, fields)));
    }
    vectors
}

fn invalid(suite: Suite) -> Vec<Vector> {
    let other = if suite == Suite::A { Suite::B } else { Suite::A };
    let plain = body(suite).encode();
    let good = identity("receiver", RECEIVER).sign(Context::PREKEY, &plain);
    let stranger = identity("stranger", 9).sign(Context::PREKEY, &plain);
    let zero = Signature { ed25519: [0; 64], ml_dsa: Box::new([0; Signature::ML_DSA_BYTES].into()) };
    let mut wide = plain.clone();
    // The version 01 as 18 01: the same number, another encoding.
    wide.splice(1..2, [0x18, 0x01]);
    let with_key = |key: Vec<u8>| {
        let id = prekey_id(&key);
        sign(&BundleBody { public_key: key, id, ..body(suite) }.encode())
    };
    let mut overflow = public_key(suite, &[0x33; 32]);
    overflow[..1152].fill(0xff);
    let mut cut = public_key(suite, &[0x33; 32]);
    cut.pop();
    let mut altered = signed(&plain, &good);
    altered[30] ^= 1;

    let mut cases: Vec<(&str, &str, &str, Vec<u8>)> = vec![
        ("stranger", "signed by a stranger", "signature", signed(&plain, &stranger)),
        ("zeroed", "a signature of zeros", "signature", signed(&plain, &zero)),
        ("only-ed25519", "only the Ed25519 signature is valid", "signature", {
            signed(&plain, &Signature { ml_dsa: stranger.ml_dsa.clone(), ..good.clone() })
        }),
        ("only-ml-dsa", "only the ML-DSA signature is valid", "signature", {
            signed(&plain, &Signature { ed25519: stranger.ed25519, ..good.clone() })
        }),
        ("other-context", "signed as the opening of a session", "signature", {
            signed(&plain, &identity("receiver", RECEIVER).sign(Context::SESSION, &plain))
        }),
        ("altered", "one bit of the body", "signature", altered),
        ("version", "format version 2", "version", sign(&BundleBody { version: 2, ..body(suite) }.encode())),
        ("route", "for another route", "route", {
            sign(&BundleBody { route: RouteId([1; 16]), ..body(suite) }.encode())
        }),
        ("suite", "for the other suite", "suite", sign(&body(other).encode())),
        ("suite-renamed", "the other suite's key under this suite's name", "key", {
            sign(&BundleBody { suite, ..body(other) }.encode())
        }),
        ("id", "an id that does not follow from the key", "key", {
            sign(&BundleBody { id: base::PrekeyId([1; 16]), ..body(suite) }.encode())
        }),
        ("key-cut", "a key without its last byte", "key", with_key(cut)),
        ("key-overflow", "an ML-KEM key with coefficients above the modulus (FIPS 203 §7.2)", "key", {
            with_key(overflow)
        }),
        ("kind", "kind 3", "malformed", sign(&BundleBody { kind: 3, ..body(suite) }.encode())),
        ("other-encoding", "another encoding of the same values, signed", "malformed", sign(&wide)),
        ("trailing-byte", "a byte behind", "malformed", [&signed(&plain, &good)[..], &[0]].concat()),
        ("cut", "the last byte is missing", "malformed", {
            let whole = signed(&plain, &good);
            whole[..whole.len() - 1].to_vec()
        }),
        ("nothing", "no byte at all", "malformed", Vec::new()),
        ("too-long", "longer than any bundle", "malformed", vec![0; 8193]),
    ];
    if suite == Suite::B {
        let mut off_curve = public_key(suite, &[0x33; 32]);
        *off_curve.last_mut().unwrap() ^= 1;
        cases.push(("key-off-curve", "a P-256 point that is not on the curve", "key", with_key(off_curve)));
    }
    let mut vectors: Vec<Vector> = cases
        .into_iter()
        .map(|(name, about, refusal, bundle)| {
            (
                format!("invalid-{suite}-{name}"),
                vector("bundle", about, Some(refusal), fields(suite, &bundle)),
            )
        })
        .collect();
    let mut expired = fields(suite, &signed(&plain, &good));
    expired["now"] = json!(NOT_AFTER + DAY + 1);
    vectors.push((
        format!("invalid-{suite}-expired"),
        vector("bundle", "expired more than 24 h ago", Some("expired"), expired),
    ));
    let mut pinned = fields(suite, &signed(&plain, &good));
    pinned["recipient_seed_byte"] = json!(9);
    vectors.push((
        format!("invalid-{suite}-other-recipient"),
        vector("bundle", "another recipient is pinned", Some("signature"), pinned),
    ));
    vectors
}
