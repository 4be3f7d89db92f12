use base::{Attempt, DeliveryId, Name, ObjectId, RouteId, Secret, SessionId, Timestamp};
use envelope::{
    BodyContext, Commitment, HeaderError, HeaderFields, OpenedHeader, Pinned, PrekeyKind, PrekeySecret,
    ReceiverSessions, SenderSession, SessionRequest, Suite,
};
use identity::{Context, IdentityKey, Signature};
use serde_json::{Value, json};

use crate::files::{self, Vector, array, bytes, text, vector};
use crate::reference::{
    Body, Core, Names, Opening, Session, cbor, header, identity, opening, prekey_id, public_key, sha256,
    signed, statement,
};

const ROUTE: RouteId = RouteId([0x0a; 16]);
const SESSION: SessionId = SessionId([0x05; 16]);
const NOW: u64 = 1_800_000_000_000;
const NOT_AFTER: u64 = NOW + 3_600_000;
const SENDER: u8 = 1;
const RECEIVER: u8 = 2;
const SEED: [u8; 32] = [0x33; 32];

#[test]
fn files_are_what_is_sealed_today() {
    files::are_current("header", generate());
}

#[test]
fn files_open_as_they_say() {
    for (name, vector) in files::read("header") {
        let mut receiver = receiver_of(&vector);
        for earlier in vector["before"].as_array().into_iter().flatten() {
            let opened = open(&mut receiver, &vector, &bytes(earlier), NOW);
            opened.unwrap_or_else(|error| panic!("{name}: a header before: {error}"));
        }
        let now = vector["now"].as_u64().unwrap();
        let sealed = bytes(&vector["header"]);
        let opened = open(&mut receiver, &vector, &sealed, now);
        match text(&vector["verdict"]) {
            "valid" => {
                let opened = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(opened_json(&opened), vector["opened"], "{name}");
            }
            "invalid" => {
                let error = opened.expect_err(&name);
                assert_eq!(format!("{error:?}"), text(&vector["refusal"]), "{name}: {error}");
                assert_eq!(u64::from(error.code()), vector["refusal_code"].as_u64().unwrap(), "{name}");
            }
            other => panic!("{name}: verdict {other}"),
        }
    }
}

fn receiver_of(vector: &Value) -> ReceiverSessions {
    let receiver = identity("receiver", vector["receiver_seed_byte"].as_u64().unwrap() as u8);
    let mut sessions = ReceiverSessions::new(receiver.fingerprint());
    for prekey in vector["prekeys"].as_array().unwrap() {
        let kind = match text(&prekey["prekey_kind"]) {
            "one-time" => PrekeyKind::OneTime,
            _ => PrekeyKind::LastResort,
        };
        let secret = PrekeySecret::generate(
            text(&prekey["suite"]).parse().unwrap(),
            RouteId(array(&prekey["route"])),
            kind,
            Timestamp(prekey["not_after"].as_u64().unwrap()),
            Secret::new(array(&prekey["seed"])),
        );
        sessions.publish(secret).unwrap();
    }
    sessions
}

fn open(
    sessions: &mut ReceiverSessions,
    vector: &Value,
    header: &[u8],
    now: u64,
) -> Result<OpenedHeader, HeaderError> {
    let pin = |route: RouteId| {
        let pin = vector["pins"].as_array()?.iter().find(|pin| RouteId(array(&pin["route"])) == route)?;
        let name = text(&pin["sender"]);
        Some(Pinned {
            identities: vec![identity(name, pin["sender_seed_byte"].as_u64()? as u8).public().clone()],
            suite: text(&pin["suite"]).parse().ok()?,
            name: Name::parse(name).ok()?,
            destination: Name::parse(text(&pin["destination"])).ok()?,
        })
    };
    sessions.open_header(header, pin, Timestamp(now))
}

fn opened_json(opened: &OpenedHeader) -> Value {
    json!({
        "session": opened.session.to_string(),
        "sequence": opened.sequence,
        "route": opened.route.to_string(),
        "sender": opened.sender.as_str(),
        "delivery": opened.delivery.to_string(),
        "attempt": opened.attempt.0,
        "suite": opened.body.suite.to_string(),
        "object": opened.body.object.to_string(),
        "profile": opened.body.profile.to_string(),
        "commitment": hex::encode(opened.commitment.0),
        "content_key": hex::encode(opened.content_key.expose()),
        "redelivery": opened.redelivery,
    })
}

fn body(suite: Suite) -> Body {
    Body {
        suite,
        object: ObjectId([0x0b; 16]),
        profile: sha256(b""),
        content_key: *b"the content key of these vectors",
    }
}

fn delivery(object: ObjectId, destination: &str) -> [u8; 32] {
    let name = |text| Name::parse(text).unwrap();
    DeliveryId::derive(&name("sender"), object, ROUTE, &name(destination)).0
}

fn fields(suite: Suite, header: &[u8]) -> Value {
    json!({
        "receiver_seed_byte": RECEIVER,
        "prekeys": [prekey_json(suite, "one-time", &SEED)],
        "pins": [{
            "route": ROUTE.to_string(),
            "sender": "sender",
            "sender_seed_byte": SENDER,
            "suite": suite.to_string(),
            "destination": "archive",
        }],
        "now": NOW,
        "header": hex::encode(header),
    })
}

fn prekey_json(suite: Suite, kind: &str, seed: &[u8; 32]) -> Value {
    json!({
        "suite": suite.to_string(),
        "route": ROUTE.to_string(),
        "prekey_kind": kind,
        "not_after": NOT_AFTER,
        "seed": hex::encode(seed),
    })
}

/// All that goes into a header of the second writer; each case changes one thing.
struct Draft {
    names: Names,
    public_key: Vec<u8>,
    not_after: u64,
    signer: IdentityKey,
    core: Core,
}

impl Draft {
    fn new(suite: Suite) -> Self {
        let public_key = public_key(suite, &SEED);
        let body = body(suite);
        Self {
            names: Names {
                version: 1,
                suite,
                route: ROUTE,
                sender: identity("sender", SENDER).fingerprint(),
                receiver: identity("receiver", RECEIVER).fingerprint(),
                prekey: prekey_id(&public_key),
                session: SESSION,
            },
            public_key,
            not_after: NOT_AFTER,
            signer: identity("sender", SENDER),
            core: Core {
                version: 1,
                session: SESSION,
                opening: Opening::Known(sha256(b"replaced below")),
                sequence: 0,
                delivery: delivery(body.object, "archive"),
                attempt: 1,
                body,
                commitment: body.commitment(),
            },
        }
    }

    fn session(&self) -> Session {
        Session::new(self.names.suite, &self.public_key, &self.names.info())
    }

    fn statement(&self, session: &Session) -> Vec<u8> {
        statement(&self.names.info(), &session.encapsulated, &sha256(&self.public_key), self.not_after)
    }

    fn opening(&self) -> Vec<u8> {
        opening(&self.signer, &self.statement(&self.session()))
    }

    /// The header, with the opening in full.
    fn seal(&self) -> Vec<u8> {
        self.seal_with(Opening::Full(self.opening()))
    }

    fn seal_with(&self, opening: Opening) -> Vec<u8> {
        let core = Core { opening, ..self.core.clone() };
        let encoded = core.encode();
        header(&encoded, &self.session().wrap(core.sequence, &encoded, &core.body.content_key))
    }

    /// The header with a core that is changed after the key was wrapped.
    fn seal_then(&self, change: impl FnOnce(&mut Core)) -> Vec<u8> {
        let mut core = Core { opening: Opening::Full(self.opening()), ..self.core.clone() };
        let wrapped = self.session().wrap(core.sequence, &core.encode(), &core.body.content_key);
        change(&mut core);
        header(&core.encode(), &wrapped)
    }
}

fn generate() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for suite in Suite::ALL {
        vectors.extend(valid(suite));
        vectors.extend(invalid(suite).into_iter().map(|(name, about, refusal, mut fields)| {
            fields["refusal_code"] = json!(refusal.code());
            let refusal = format!("{refusal:?}");
            (format!("invalid-{suite}-{name}"), vector("header", about, Some(&refusal), fields))
        }));
    }
    vectors
}

fn opened(suite: Suite, change: impl FnOnce(&mut Value)) -> Value {
    let body = body(suite);
    let mut opened = json!({
        "session": SESSION.to_string(),
        "sequence": 0,
        "route": ROUTE.to_string(),
        "sender": "sender",
        "delivery": hex::encode(delivery(body.object, "archive")),
        "attempt": 1,
        "suite": suite.to_string(),
        "object": body.object.to_string(),
        "profile": body.profile.to_string(),
        "commitment": hex::encode(body.commitment()),
        "content_key": hex::encode(body.content_key),
        "redelivery": false,
    });
    change(&mut opened);
    opened
}

fn valid(suite: Suite) -> Vec<Vector> {
    let draft = Draft::new(suite);
    let first = draft.seal();
    let digest = sha256(&draft.opening());
    let mut next = Draft::new(suite);
    next.core.sequence = 1;
    next.core.attempt = 2;
    let case = |name: &str, about: &str, header: &[u8], before: &[&[u8]], expected: Value| {
        let mut fields = fields(suite, header);
        fields["before"] = before.iter().map(hex::encode).collect();
        fields["opened"] = expected;
        (format!("valid-{suite}-{name}"), vector("header", about, None, fields))
    };
    vec![
        case("first", "the first header of a session", &first, &[], opened(suite, |_| {})),
        case(
            "by-the-sender",
            "a header of this crate's sender, with fixed random bytes",
            &by_the_sender(suite),
            &[],
            opened(suite, |o| o["session"] = json!(hex::encode([0x07; 16]))),
        ),
        case("redelivered", "the same header again", &first, &[&first], {
            opened(suite, |o| o["redelivery"] = json!(true))
        }),
        case(
            "next-by-digest",
            "the next header, with the opening's digest only",
            &next.seal_with(Opening::Known(digest)),
            &[&first],
            {
                opened(suite, |o| {
                    o["sequence"] = json!(1);
                    o["attempt"] = json!(2);
                })
            },
        ),
        case("next-in-full", "the next header, with the opening once more", &next.seal(), &[&first], {
            opened(suite, |o| {
                o["sequence"] = json!(1);
                o["attempt"] = json!(2);
            })
        }),
    ]
}

/// The sender's direction: what [`SenderSession`] makes of fixed random bytes.
fn by_the_sender(suite: Suite) -> Vec<u8> {
    let prekey =
        PrekeySecret::generate(suite, ROUTE, PrekeyKind::OneTime, Timestamp(NOT_AFTER), Secret::new(SEED));
    let receiver = identity("receiver", RECEIVER);
    let request = SessionRequest {
        bundle: &prekey.bundle(&receiver),
        recipient: receiver.public(),
        sender: &identity("sender", SENDER),
        route: ROUTE,
        suite,
    };
    let mut session = SenderSession::open(&request, Timestamp(NOW), &Secret::new([7; 48])).unwrap();
    let body = body(suite);
    let fields = HeaderFields {
        delivery: DeliveryId(delivery(body.object, "archive")),
        attempt: Attempt(1),
        body: BodyContext { suite, object: body.object, profile: body.profile },
        commitment: Commitment(body.commitment()),
    };
    session.next_header(&fields, &Secret::new(body.content_key), Timestamp(NOW)).unwrap().bytes
}

type Case = (&'static str, &'static str, HeaderError, Value);

fn invalid(suite: Suite) -> Vec<Case> {
    let mut cases = malformed(suite);
    cases.extend(altered(suite));
    cases.extend(misdirected(suite));
    cases.extend(unsigned(suite));
    cases.extend(stale(suite));
    cases
}

/// Bytes that are no header.
fn malformed(suite: Suite) -> Vec<Case> {
    use HeaderError as E;
    let draft = Draft::new(suite);
    let good = draft.seal();
    let wide = wide_version(&draft);
    let case = |name, about, refusal, header: &[u8]| (name, about, refusal, fields(suite, header));
    vec![
        case("nothing", "no byte at all", E::Malformed, &[]),
        case("byte-behind", "a byte behind", E::Malformed, &[&good[..], &[0]].concat()),
        case("cut", "the last byte is missing", E::Malformed, &good[..good.len() - 1]),
        case("too-long", "longer than any header", E::Malformed, &[0; 8193]),
        case("not-cbor", "bytes that are no CBOR", E::Malformed, &[0xff; 64]),
        case(
            "other-encoding",
            "another encoding of the same values, and the key wrapped for it",
            E::Malformed,
            &wide,
        ),
        case("version", "format version 2", E::Version, &{
            let mut draft = Draft::new(suite);
            draft.core.version = 2;
            draft.seal()
        }),
        case("info-version", "format version 2 inside the opening", E::Version, &{
            let mut draft = Draft::new(suite);
            draft.names.version = 2;
            draft.seal()
        }),
        case("sequence-too-high", "sequence number 10000", E::Malformed, &{
            let mut draft = Draft::new(suite);
            draft.core.sequence = 10_000;
            draft.seal()
        }),
        case("wrapped-key-short", "a wrapped key of 47 bytes", E::Malformed, &{
            let core = Core { opening: Opening::Full(draft.opening()), ..draft.core.clone() }.encode();
            let wrapped = draft.session().wrap(0, &core, &draft.core.body.content_key);
            header(&core, &wrapped[..47])
        }),
        case("opening-cut", "an opening without its last byte", E::Malformed, &{
            let mut opening = draft.opening();
            opening.pop();
            draft.seal_with(Opening::Full(opening))
        }),
        case("opening-empty", "an empty opening", E::Malformed, &draft.seal_with(Opening::Full(Vec::new()))),
        case("encapsulation-short", "an encapsulation without its last byte, signed", E::Malformed, &{
            let session = draft.session();
            let short = &session.encapsulated[..session.encapsulated.len() - 1];
            let words = statement(&draft.names.info(), short, &sha256(&draft.public_key), draft.not_after);
            draft.seal_with(Opening::Full(opening(&draft.signer, &words)))
        }),
    ]
}

/// The version number 01 as 18 01 in the core, and the key wrapped with that core as AAD.
fn wide_version(draft: &Draft) -> Vec<u8> {
    let core = Core { opening: Opening::Full(draft.opening()), ..draft.core.clone() };
    let mut encoded = core.encode();
    encoded.splice(1..2, [0x18, 0x01]);
    header(&encoded, &draft.session().wrap(0, &encoded, &core.body.content_key))
}

/// Headers that were changed after the key was wrapped, or whose key was.
fn altered(suite: Suite) -> Vec<Case> {
    use HeaderError as E;
    let draft = Draft::new(suite);
    let case = |name, about, header: Vec<u8>| (name, about, E::BadTag, fields(suite, &header));
    let flipped_key = {
        let mut header = draft.seal();
        let last = header.len() - 1;
        header[last] ^= 1;
        header
    };
    vec![
        case("key-flipped", "one bit of the wrapped key", flipped_key),
        case("attempt-changed", "another attempt", draft.seal_then(|core| core.attempt = 2)),
        case("delivery-changed", "another delivery id", draft.seal_then(|core| core.delivery[0] ^= 1)),
        case("object-changed", "another object id", draft.seal_then(|core| core.body.object.0[0] ^= 1)),
        case(
            "profile-changed",
            "another profile digest",
            draft.seal_then(|core| core.body.profile.0[0] ^= 1),
        ),
        case("commitment-changed", "another commitment", draft.seal_then(|core| core.commitment[0] ^= 1)),
        case("sequence-changed", "another sequence number", draft.seal_then(|core| core.sequence = 7)),
        case("opening-shortened", "the opening replaced by its digest, as a relay could", {
            draft.seal_then(|core| {
                if let Opening::Full(bytes) = &core.opening {
                    core.opening = Opening::Known(sha256(bytes));
                }
            })
        }),
        case("zero-key", "a wrapped key of zeros", {
            let core = Core { opening: Opening::Full(draft.opening()), ..draft.core.clone() }.encode();
            header(&core, &[0; 48])
        }),
        case("other-encapsulation", "an encapsulation of another session, signed by the sender", {
            let mut other = Draft::new(suite);
            other.names.session = SessionId([9; 16]);
            let words = statement(
                &draft.names.info(),
                &other_encapsulation(suite),
                &sha256(&draft.public_key),
                draft.not_after,
            );
            draft.seal_with(Opening::Full(opening(&draft.signer, &words)))
        }),
    ]
    .into_iter()
    .map(|(name, about, refusal, mut fields)| {
        // A known session for the one that is named by digest only.
        if name == "opening-shortened" {
            fields["before"] = json!([hex::encode(Draft { ..Draft::new(suite) }.seal_next(5))]);
        }
        (name, about, refusal, fields)
    })
    .collect()
}

impl Draft {
    /// A good header with another sequence number.
    fn seal_next(mut self, sequence: u32) -> Vec<u8> {
        self.core.sequence = sequence;
        self.seal()
    }
}

/// An encapsulation to another key: for this one it gives another secret.
fn other_encapsulation(suite: Suite) -> Vec<u8> {
    Session::new(suite, &public_key(suite, &[0x44; 32]), b"other").encapsulated
}

/// Headers for another receiver, route, sender, suite or destination.
fn misdirected(suite: Suite) -> Vec<Case> {
    use HeaderError as E;
    let other = if suite == Suite::A { Suite::B } else { Suite::A };
    let other_route = RouteId([1; 16]);
    let draft = |change: fn(&mut Draft)| {
        let mut draft = Draft::new(suite);
        change(&mut draft);
        draft.seal()
    };
    let with = |header: Vec<u8>, change: &dyn Fn(&mut Value)| {
        let mut fields = fields(suite, &header);
        change(&mut fields);
        fields
    };
    let good = Draft::new(suite).seal();
    vec![
        ("other-receiver", "opened for another receiver", E::WrongReceiver, {
            with(draft(|d| d.names.receiver = identity("other", 9).fingerprint()), &|_| {})
        }),
        ("at-other-receiver", "shown to another receiver that has the same prekey", E::WrongReceiver, {
            with(good.clone(), &|fields| fields["receiver_seed_byte"] = json!(9))
        }),
        ("other-route", "a route on which nobody is pinned", E::NotPinned, {
            with(draft(|d| d.names.route = RouteId([1; 16])), &|_| {})
        }),
        (
            "prekey-of-other-route",
            "a prekey of another route on which the sender is pinned too",
            E::WrongRoute,
            {
                with(draft(|d| d.names.route = RouteId([1; 16])), &|fields| {
                    fields["pins"][0]["route"] = json!(other_route.to_string());
                })
            },
        ),
        (
            "nobody-pinned",
            "nobody is pinned",
            E::NotPinned,
            with(good.clone(), &|fields| fields["pins"] = json!([])),
        ),
        ("other-sender-pinned", "another sender is pinned for the route", E::NotPinned, {
            with(good.clone(), &|fields| fields["pins"][0]["sender_seed_byte"] = json!(9))
        }),
        ("suite-of-route", "the route is configured with the other suite", E::SuiteMismatch, {
            with(good.clone(), &|fields| fields["pins"][0]["suite"] = json!(other.to_string()))
        }),
        ("suite-of-body", "a body of the other suite", E::SuiteMismatch, {
            let mut draft = Draft::new(suite);
            draft.core.body.suite = other;
            with(draft.seal(), &|_| {})
        }),
        (
            "suite-of-prekey",
            "a session of the other suite, signed, for a prekey of this one",
            E::SuiteMismatch,
            {
                let mut draft = Draft::new(other);
                draft.names.prekey = prekey_id(&public_key(suite, &SEED));
                with(draft.seal(), &|fields| fields["pins"][0]["suite"] = json!(other.to_string()))
            },
        ),
        ("other-destination", "a delivery id for another destination", E::WrongDelivery, {
            let mut draft = Draft::new(suite);
            draft.core.delivery = delivery(draft.core.body.object, "elsewhere");
            with(draft.seal(), &|_| {})
        }),
        ("delivery-of-other-object", "the delivery id of another object", E::WrongDelivery, {
            let mut draft = Draft::new(suite);
            draft.core.delivery = delivery(ObjectId([9; 16]), "archive");
            with(draft.seal(), &|_| {})
        }),
        ("destination-renamed", "the destination has another name at the receiver", E::WrongDelivery, {
            with(good, &|fields| fields["pins"][0]["destination"] = json!("pacs"))
        }),
    ]
}

/// Openings whose signatures are not the pinned sender's.
fn unsigned(suite: Suite) -> Vec<Case> {
    use HeaderError as E;
    let draft = Draft::new(suite);
    let words = draft.statement(&draft.session());
    let good = draft.signer.sign(Context::SESSION, &words);
    let stranger = identity("stranger", 9).sign(Context::SESSION, &words);
    let zero = Signature { ed25519: [0; 64], ml_dsa: Box::new([0; Signature::ML_DSA_BYTES].into()) };
    let resigned = |signature: &Signature| draft.seal_with(Opening::Full(signed(&words, signature)));
    let reworded = |statement: Vec<u8>| draft.seal_with(Opening::Full(signed(&statement, &good)));
    let case = |name, about, refusal, header: Vec<u8>| (name, about, refusal, fields(suite, &header));
    let (info, encapsulated, digest) =
        (draft.names.info(), draft.session().encapsulated, sha256(&draft.public_key));
    let mut cases = vec![
        case("stranger", "signed by a stranger in the sender's name", E::BadSignature, resigned(&stranger)),
        case("zeroed", "a signature of zeros", E::BadSignature, resigned(&zero)),
        case("only-ed25519", "only the Ed25519 signature is valid", E::BadSignature, {
            resigned(&Signature { ml_dsa: stranger.ml_dsa.clone(), ..good.clone() })
        }),
        case("only-ml-dsa", "only the ML-DSA signature is valid", E::BadSignature, {
            resigned(&Signature { ed25519: stranger.ed25519, ..good.clone() })
        }),
        case("other-context", "signed as a prekey", E::BadSignature, {
            resigned(&draft.signer.sign(Context::PREKEY, &words))
        }),
        case(
            "own-encapsulation",
            "an encapsulation of somebody's own under the sender's signature",
            E::BadSignature,
            reworded(statement(&info, &other_encapsulation(suite), &digest, NOT_AFTER)),
        ),
        case("prekey-digest", "the digest of another prekey, signed", E::OpeningMismatch, {
            let words = statement(&info, &encapsulated, &sha256(b"another key"), NOT_AFTER);
            draft.seal_with(Opening::Full(opening(&draft.signer, &words)))
        }),
        case("not-after", "another end of life than the prekey's, signed", E::OpeningMismatch, {
            let words = statement(&info, &encapsulated, &digest, NOT_AFTER + 1);
            draft.seal_with(Opening::Full(opening(&draft.signer, &words)))
        }),
        case("opening-of-other-session", "the opening of another session", E::OpeningMismatch, {
            let mut other = Draft::new(suite);
            other.names.session = SessionId([9; 16]);
            draft.seal_with(Opening::Full(other.opening()))
        }),
    ];
    if suite == Suite::B {
        let mut off_curve = encapsulated.clone();
        *off_curve.last_mut().unwrap() ^= 1;
        let words = statement(&info, &off_curve, &digest, NOT_AFTER);
        let header = draft.seal_with(Opening::Full(opening(&draft.signer, &words)));
        cases.push(case("off-curve", "an encapsulation off the curve, signed", E::OpeningMismatch, header));
    }
    cases
}

/// What was good once, or would be good elsewhere.
fn stale(suite: Suite) -> Vec<Case> {
    use HeaderError as E;
    let draft = Draft::new(suite);
    let good = draft.seal();
    let known = sha256(&draft.opening());
    let after = |header: &[u8], before: &[Vec<u8>]| {
        let mut fields = fields(suite, header);
        fields["before"] = before.iter().map(hex::encode).collect();
        fields
    };
    let with = |header: &[u8], change: &dyn Fn(&mut Value)| {
        let mut fields = fields(suite, header);
        change(&mut fields);
        fields
    };
    let mut other_object = Draft::new(suite);
    other_object.core.body.object = ObjectId([9; 16]);
    other_object.core.delivery = delivery(ObjectId([9; 16]), "archive");
    let mut other_key = Draft::new(suite);
    other_key.core.body.content_key = [9; 32];
    other_key.core.commitment = other_key.core.body.commitment();
    let mut other_session = Draft::new(suite);
    other_session.names.session = SessionId([9; 16]);
    other_session.core.session = SessionId([9; 16]);
    let mut same_id = Draft::new(suite);
    same_id.public_key = public_key(suite, &[0x44; 32]);
    same_id.names.prekey = prekey_id(&same_id.public_key);
    vec![
        ("replayed-other-object", "the same sequence number for another object", E::Replay, {
            after(&other_object.seal(), std::slice::from_ref(&good))
        }),
        ("replayed-other-commitment", "the same sequence number for another commitment", E::Replay, {
            after(&other_key.seal(), std::slice::from_ref(&good))
        }),
        ("prekey-used", "a second session on a one-time prekey", E::PrekeyUsed, {
            after(&other_session.seal(), std::slice::from_ref(&good))
        }),
        ("session-id-taken", "another session under the same id", E::OpeningMismatch, {
            let mut fields = after(&same_id.seal(), std::slice::from_ref(&good));
            fields["prekeys"] =
                json!([prekey_json(suite, "one-time", &SEED), prekey_json(suite, "one-time", &[0x44; 32])]);
            fields
        }),
        ("unknown-session", "named by the opening's digest only", E::UnknownSession, {
            with(&draft.seal_with(Opening::Known(known)), &|_| {})
        }),
        ("unknown-prekey", "the receiver was restarted", E::UnknownPrekey, {
            with(&good, &|fields| fields["prekeys"] = json!([]))
        }),
        ("other-opening-digest", "a known session with the digest of another opening", E::OpeningMismatch, {
            after(&draft.seal_with(Opening::Known(sha256(b"x"))), &[Draft::new(suite).seal_next(3)])
        }),
        ("prekey-expired", "opened when the prekey's life is over", E::Expired, {
            with(&good, &|fields| fields["now"] = json!(NOT_AFTER))
        }),
        ("session-expired", "a known session an hour later", E::Expired, {
            let mut fields = after(&Draft::new(suite).seal_next(1), std::slice::from_ref(&good));
            fields["now"] = json!(NOW + 3_600_000);
            fields
        }),
    ]
}

/// The second writer's `close`, accepted; any other count, tag, session or encoding, refused.
#[test]
fn a_close_counts_only_from_the_other_end_of_the_session() {
    use HeaderError as E;
    let close = |version: u8, session: SessionId, count: u32, tag: &[u8]| {
        cbor(|e| {
            e.array(4).unwrap().u8(version).unwrap().bytes(&session.0).unwrap();
            e.u32(count).unwrap().bytes(tag).unwrap();
        })
    };
    for suite in Suite::ALL {
        let draft = Draft::new(suite);
        let vector = fields(suite, &[]);
        let mut receiver = receiver_of(&vector);
        open(&mut receiver, &vector, &draft.seal(), NOW).unwrap();
        let tag = draft.session().close_tag(1);
        let cases = [
            ("another count", close(1, SESSION, 0, &tag), E::BadTag),
            ("a tag of zeros", close(1, SESSION, 1, &[0; 32]), E::BadTag),
            ("another session", close(1, SessionId([9; 16]), 1, &tag), E::UnknownSession),
            ("another version", close(2, SESSION, 1, &tag), E::Version),
            ("a short tag", close(1, SESSION, 1, &tag[..31]), E::Malformed),
            ("a byte behind", [&close(1, SESSION, 1, &tag)[..], &[0]].concat(), E::Malformed),
            ("nothing", Vec::new(), E::Malformed),
        ];
        for (case, record, want) in cases {
            assert_eq!(receiver.close(&record), Err(want), "{case}");
        }
        assert_eq!(receiver.close(&close(1, SESSION, 1, &tag)), Ok(()));
        assert_eq!(receiver.sessions(), 1, "kept until its header is settled");
        receiver.settled(SESSION, 0);
        assert_eq!(receiver.sessions(), 0);
    }
}
