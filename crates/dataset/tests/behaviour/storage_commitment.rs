//! Storage Commitment's data sets, written and read, and refused where they name nothing.

use crate::common::*;
use base::{Phi, Uid};
use dataset::commitment::{CommitmentError, CommitmentRequest, CommitmentResult, SopReference};
use dataset::{Encoding, Tag};
use proptest::prelude::*;

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const BIG: &str = "1.2.840.10008.1.2.2";
const ALL: [(&str, Encoding); 3] = [
    (IMPLICIT, Encoding::ImplicitLittle),
    (EXPLICIT, Encoding::ExplicitLittle),
    (BIG, Encoding::ExplicitBig),
];

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn reference(instance: &str) -> SopReference {
    SopReference { sop_class: uid("1.2.840.10008.5.1.4.1.1.2"), sop_instance: Phi::new(uid(instance)) }
}

fn item(instance: &str) -> Vec<Node> {
    let padded = |text: &str| if text.len() % 2 == 1 { format!("{text}\0") } else { text.to_owned() };
    vec![
        value(0x0008, 0x1150, b"UI", padded("1.2.840.10008.5.1.4.1.1.2").as_bytes()),
        value(0x0008, 0x1155, b"UI", padded(instance).as_bytes()),
    ]
}

fn sequence(element: u16, items: Vec<Vec<Node>>, undefined: bool) -> Node {
    Node::Sequence { tag: Tag(0x0008, element), items, undefined, undefined_items: undefined, unknown: false }
}

fn transaction() -> Node {
    value(0x0008, 0x1195, b"UI", b"1.2.3\0")
}

fn request(nodes: &[Node]) -> Result<CommitmentRequest, CommitmentError> {
    CommitmentRequest::parse(&encode(nodes, Encoding::ImplicitLittle).0, &uid(IMPLICIT))
}

fn result(nodes: &[Node]) -> Result<CommitmentResult, CommitmentError> {
    CommitmentResult::parse(&encode(nodes, Encoding::ImplicitLittle).0, &uid(IMPLICIT))
}

#[test]
fn a_request_is_written_as_the_standard_says_and_read_back() {
    let asked = CommitmentRequest {
        transaction: uid("1.2.3"),
        instances: vec![reference("1.2.3.4"), reference("1.2.3.45")],
    };
    let nodes = [transaction(), sequence(0x1199, vec![item("1.2.3.4"), item("1.2.3.45")], false)];
    for (syntax, encoding) in ALL {
        let bytes = asked.write(&uid(syntax)).unwrap();
        assert_eq!(bytes, encode(&nodes, encoding).0, "{syntax}");
        assert_eq!(CommitmentRequest::parse(&bytes, &uid(syntax)), Ok(asked.clone()), "{syntax}");
    }
}

#[test]
fn a_result_says_what_failed_and_why() {
    let told = CommitmentResult {
        transaction: uid("1.2.3"),
        committed: vec![reference("1.2.3.4")],
        failed: vec![(reference("1.2.3.45"), 0x0112), (reference("1.2.3.46"), 0x0213)],
    };
    for (syntax, encoding) in ALL {
        let bytes = told.write(&uid(syntax)).unwrap();
        assert_eq!(CommitmentResult::parse(&bytes, &uid(syntax)), Ok(told.clone()), "{syntax}");
        let lines = tokenize([bytes.as_slice()], encoding);
        assert_eq!(lines.end, Ok(0));
    }
    assert_eq!(told.event_type(), 2);
    let all = CommitmentResult { failed: Vec::new(), ..told };
    assert_eq!(all.event_type(), 1);
    // No empty Failed SOP Sequence: PS3.4 Table J.3-2 has none in event 1.
    let bytes = all.write(&uid(EXPLICIT)).unwrap();
    assert!(!bytes.windows(4).any(|tag| tag == [0x08, 0x00, 0x98, 0x11]));
}

#[test]
fn data_sets_of_others_are_read_whatever_their_form() {
    let extra = value(0x0008, 0x0054, b"AE", b"ARCHIVE ");
    // Sequences within items, which may hold references of another meaning.
    let nested = sequence(0x1111, vec![item("9.9.9")], true);
    let mut with_more = item("1.2.3.4");
    with_more.insert(0, nested.clone());
    for undefined in [false, true] {
        let nodes = [
            extra.clone(),
            nested.clone(),
            transaction(),
            sequence(0x1199, vec![with_more.clone(), item("1.2.3.45")], undefined),
        ];
        let found = request(&nodes).unwrap();
        assert_eq!(found.instances, [reference("1.2.3.4"), reference("1.2.3.45")]);
    }
    // A failed instance without its reason has failed all the same.
    let nodes = [transaction(), sequence(0x1198, vec![item("1.2.3.4")], false)];
    assert_eq!(result(&nodes).unwrap().failed, [(reference("1.2.3.4"), 0x0110)]);
}

#[test]
fn what_names_nothing_or_two_things_is_refused() {
    let sop = Tag(0x0008, 0x1199);
    let list = || sequence(0x1199, vec![item("1.2.3.4")], false);
    let other = value(0x0008, 0x1195, b"UI", b"1.2.4\0");
    let wrong = value(0x0008, 0x1195, b"UI", b"a.b.c\0");
    let long = value(0x0008, 0x1195, b"UI", &[b'1'; 80]);
    let halves = [item("1.2.3.4")[..1].to_vec(), item("1.2.3.4")[1..].to_vec(), vec![], item("x.y")];
    let mut cases: Vec<(Vec<Node>, CommitmentError)> = vec![
        (vec![list()], CommitmentError::Transaction),
        (vec![wrong, list()], CommitmentError::Transaction),
        (vec![long, list()], CommitmentError::Transaction),
        (vec![transaction(), other, list()], CommitmentError::Transaction),
        (vec![transaction()], CommitmentError::NoInstances),
        (vec![transaction(), sequence(0x1199, vec![], false)], CommitmentError::NoInstances),
    ];
    for half in halves {
        let nodes = vec![transaction(), sequence(0x1199, vec![item("1.2.3.4"), half], true)];
        cases.push((nodes, CommitmentError::Reference { sequence: sop, item: 2 }));
    }
    for (nodes, want) in cases {
        assert_eq!(request(&nodes), Err(want.clone()), "{nodes:?}");
        assert_eq!(result(&nodes), Err(want), "{nodes:?}");
    }
    let both = [transaction(), sequence(0x1198, vec![item("1.2.3.4")], false), list()];
    assert_eq!(result(&both), Err(CommitmentError::Contradiction));
    // A request with failures only asks for nothing.
    assert_eq!(request(&both[..2]), Err(CommitmentError::NoInstances));

    let (bytes, ends) = encode(&[transaction(), list()], Encoding::ImplicitLittle);
    for cut in (1..bytes.len()).filter(|cut| !ends.contains(cut)) {
        let error = CommitmentRequest::parse(&bytes[..cut], &uid(IMPLICIT)).unwrap_err();
        assert!(matches!(error, CommitmentError::Structure(_)), "cut at {cut}: {error}");
    }
    for syntax in ["1.2.840.10008.1.2.1.99", "1.3.6.1.4.1.99.1"] {
        let error = CommitmentRequest::parse(&bytes, &uid(syntax)).unwrap_err();
        assert_eq!(error, CommitmentError::Syntax(uid(syntax)));
    }
    let nothing = CommitmentRequest { transaction: uid("1.2.3"), instances: vec![] };
    assert_eq!(nothing.write(&uid(EXPLICIT)), Err(CommitmentError::NoInstances));
}

#[test]
fn a_list_has_a_limit() {
    let instances = |count: usize| CommitmentRequest {
        transaction: uid("1.2.3"),
        instances: (0..count).map(|number| reference(&format!("1.2.{number}"))).collect(),
    };
    let most = dataset::commitment::INSTANCES_MAX;
    let bytes = instances(most).write(&uid(EXPLICIT)).unwrap();
    assert_eq!(CommitmentRequest::parse(&bytes, &uid(EXPLICIT)).unwrap().instances.len(), most);
    assert_eq!(instances(most + 1).write(&uid(EXPLICIT)), Err(CommitmentError::TooMany));
    let one_more = sequence(0x1199, (0..=most).map(|_| item("1.2.3.4")).collect(), false);
    assert_eq!(request(&[transaction(), one_more]), Err(CommitmentError::TooMany));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for (syntax, _) in ALL {
            let _ = CommitmentRequest::parse(&bytes, &uid(syntax));
            let _ = CommitmentResult::parse(&bytes, &uid(syntax));
        }
    }
}
