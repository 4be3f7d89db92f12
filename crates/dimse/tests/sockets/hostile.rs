//! What no peer should send, and what becomes of it: the association ends at once and in order, and what is
//! buffered stays small.

use crate::peer::*;
use dimse::AcceptorConfig;

const UNKNOWN: Codes = (7, 0, 2, 1);
const UNEXPECTED: Codes = (7, 0, 2, 2);
const INVALID: Codes = (7, 0, 2, 6);

#[tokio::test]
async fn what_is_no_association_request_ends_at_once() {
    let good = AssociatePdu::request(&[proposed(1, CT, &[EXPLICIT])]);
    let with_items = |items: Vec<u8>| AssociatePdu { items, ..good.clone() }.bytes();
    let context = || item(0x10, APPLICATION_CONTEXT.as_bytes());
    let cases: Vec<(&str, Vec<u8>, Codes)> = vec![
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), UNKNOWN),
        ("one byte of HTTP", b"G".to_vec(), UNKNOWN),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3], UNKNOWN),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), UNKNOWN),
        ("zeros", vec![0; 100], UNKNOWN),
        ("P-DATA first", p_data(&[pdv(1, COMMAND | LAST, &echo_rq(1))]), UNEXPECTED),
        ("release first", RELEASE_RQ.to_vec(), UNEXPECTED),
        ("acceptance first", AssociatePdu { pdu_type: 2, ..good.clone() }.bytes(), UNEXPECTED),
        ("2 GB request", vec![1, 0, 0x80, 0, 0, 0], INVALID),
        ("just too long a request", vec![1, 0, 0, 0x10, 0, 1], INVALID),
        ("empty request", pdu(1, &[]), INVALID),
        ("request of the fixed fields' first half", pdu(1, &[0, 1, 0, 0, 65, 66]), INVALID),
        ("item beyond the end", with_items([context(), vec![0x20, 0, 0xFF, 0xFF, 1]].concat()), INVALID),
        ("item header cut off", with_items([context(), vec![0x20, 0, 0]].concat()), INVALID),
        (
            "context without an abstract syntax",
            with_items([context(), item(0x20, &[1, 0, 0, 0])].concat()),
            INVALID,
        ),
        ("context of one byte", with_items([context(), item(0x20, &[1])].concat()), INVALID),
        (
            "sub-item beyond its item",
            with_items([context(), item(0x20, &[1, 0, 0, 0, 0x30, 0, 0, 99, b'1'])].concat()),
            INVALID,
        ),
        (
            "maximum length of two bytes",
            with_items([context(), item(0x50, &[0x51, 0, 0, 2, 1, 1])].concat()),
            INVALID,
        ),
        (
            "role selection beyond its item",
            with_items([context(), item(0x50, &[0x54, 0, 0, 4, 0, 99, 1, 1])].concat()),
            INVALID,
        ),
    ];
    for (name, bytes, want) in cases {
        let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
        let mut peer = Peer::connect(address).await;
        peer.send(&bytes).await;
        let answer = peer.pdu().await.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(codes(&answer), want, "{name}");
        assert_eq!(peer.pdu().await, None, "{name}");
        drop(peer);
        let error = serving.await.unwrap().error.unwrap_or_else(|| panic!("{name}: no error"));
        assert!(error.starts_with("peer broke the protocol: "), "{name}: {error}");
    }
    for (name, bytes) in [("nothing", vec![]), ("half a request", good.bytes()[..40].to_vec())] {
        let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
        let mut peer = Peer::connect(address).await;
        peer.send(&bytes).await;
        drop(peer);
        let error = serving.await.unwrap().error;
        assert_eq!(error.as_deref(), Some("peer closed the connection without a release"), "{name}");
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_within_an_association_ends_it() {
    let command = |bytes: &[u8]| pdv(1, COMMAND | LAST, bytes);
    let element = |number: u16, length: u32, value: &[u8]| {
        let mut element = vec![0, 0];
        element.extend_from_slice(&number.to_le_bytes());
        element.extend_from_slice(&length.to_le_bytes());
        element.extend_from_slice(value);
        element
    };
    let without_message_id = [element(0x0100, 2, &[1, 0]), element(0x0800, 2, &[1, 1])].concat();
    let group_8 = [8, 0, 0x16, 0, 2, 0, 0, 0, b'1', 0];
    let twice = [element(0x0100, 2, &[1, 0]), element(0x0100, 2, &[1, 0])].concat();
    let long_pdv = [&0xFFFF_FFFFu32.to_be_bytes()[..], &[1, 3]].concat();
    let cases: Vec<(&str, Vec<u8>, Codes, &str)> = vec![
        (
            "unknown PDU type",
            pdu(0x42, &[0; 4]),
            UNKNOWN,
            "PDU type 0x42 does not exist; does the peer speak DICOM, and without TLS?",
        ),
        ("second request", AssociatePdu::request(&[]).bytes(), UNEXPECTED, "PDU type 0x01 is out of place"),
        ("release response", pdu(6, &[0; 4]), UNEXPECTED, "PDU type 0x06 is out of place"),
        ("release of no bytes", pdu(5, &[]), INVALID, "PDU of type 0x05 has only 0 bytes"),
        (
            "release of a kilobyte",
            pdu(5, &[0; 1024]),
            INVALID,
            "PDU of type 0x05 has 1024 bytes; at most 64 are accepted",
        ),
        (
            "PDU over the maximum",
            vec![4, 0, 0, 0, 0x40, 1],
            INVALID,
            "PDU of type 0x04 has 16385 bytes; at most 16384 are accepted",
        ),
        (
            "8 MB PDU",
            p_data(&[pdv(1, DATA, &vec![0; 8 << 20])]),
            INVALID,
            "PDU of type 0x04 has 8388614 bytes; at most 16384 are accepted",
        ),
        ("PDU without a PDV", pdu(4, &[]), INVALID, "PDU of type 0x04 has only 0 bytes"),
        (
            "PDV of length 0",
            pdu(4, &[0, 0, 0, 0, 1, 3]),
            INVALID,
            "PDV length 0 does not fit: 2 bytes are left in the PDU",
        ),
        (
            "PDV of length 1",
            pdu(4, &[0, 0, 0, 1, 1, 3]),
            INVALID,
            "PDV length 1 does not fit: 2 bytes are left in the PDU",
        ),
        (
            "PDV longer than its PDU",
            pdu(4, &[0, 0, 0, 3, 1, 3]),
            INVALID,
            "PDV length 3 does not fit: 2 bytes are left in the PDU",
        ),
        (
            "PDV of 4 GiB",
            pdu(4, &long_pdv),
            INVALID,
            "PDV length 4294967295 does not fit: 2 bytes are left in the PDU",
        ),
        (
            "two bytes after a PDV",
            pdu(4, &[pdv(1, COMMAND, &[]), vec![0, 0]].concat()),
            INVALID,
            "PDV length 0 does not fit: 2 bytes are left in the PDU",
        ),
        (
            "context that was not accepted",
            p_data(&[pdv(9, COMMAND | LAST, &echo_rq(1))]),
            INVALID,
            "presentation context 9 was not accepted",
        ),
        (
            "context 0",
            p_data(&[pdv(0, COMMAND | LAST, &echo_rq(1))]),
            INVALID,
            "presentation context 0 was not accepted",
        ),
        (
            "data without a command",
            p_data(&[pdv(1, DATA | LAST, b"abcd")]),
            UNEXPECTED,
            "data set without a command that announces it",
        ),
        (
            "empty data without a command",
            p_data(&[pdv(1, DATA | LAST, &[])]),
            UNEXPECTED,
            "data set without a command that announces it",
        ),
        (
            "data within a command",
            p_data(&[pdv(1, COMMAND, &store_rq(1)[..20]), pdv(1, DATA | LAST, b"abcd")]),
            UNEXPECTED,
            "data set without a command that announces it",
        ),
        (
            "two contexts within a command",
            p_data(&[pdv(1, COMMAND, &store_rq(1)[..20]), pdv(3, COMMAND | LAST, &store_rq(1)[20..])]),
            INVALID,
            "presentation context changes from 1 to 3 within a message",
        ),
        (
            "release within a command",
            [p_data(&[pdv(1, COMMAND, &store_rq(1))]), RELEASE_RQ.to_vec()].concat(),
            UNEXPECTED,
            "released",
        ),
        (
            "data after a message without data set",
            p_data(&[pdv(3, COMMAND | LAST, &echo_rq(1)), pdv(3, DATA | LAST, b"abcd")]),
            // The echo is answered first.
            (4, 0, 0, 0),
            "data set without a command that announces it",
        ),
        (
            "empty command",
            p_data(&[command(&[])]),
            INVALID,
            "command set cannot be read: element (0000,0100) is missing or not of its size",
        ),
        (
            "garbage command",
            p_data(&[command(b"garbage")]),
            INVALID,
            "command set cannot be read: an element reaches beyond its end",
        ),
        (
            "element of 4 GiB",
            p_data(&[command(&element(0x0100, u32::MAX, &[1, 0]))]),
            INVALID,
            "command set cannot be read: an element reaches beyond its end",
        ),
        (
            "group 0008",
            p_data(&[command(&group_8)]),
            INVALID,
            "command set cannot be read: element of group 0008; only group 0000 is allowed",
        ),
        (
            "element twice",
            p_data(&[command(&twice)]),
            INVALID,
            "command set cannot be read: element (0000,0100) is there twice",
        ),
        (
            "no message id",
            p_data(&[command(&without_message_id)]),
            INVALID,
            "command set cannot be read: element (0000,0110) is missing or not of its size",
        ),
        (
            "command without an end",
            p_data(&[pdv(1, COMMAND, &vec![0; 16_000])]).repeat(2),
            INVALID,
            "command set exceeds 16384 bytes",
        ),
    ];
    for (name, bytes, want, why) in cases {
        let config = AcceptorConfig { max_pdu: 16_384, ..AcceptorConfig::default() };
        let (address, serving) = serve_one(config, storage_policy()).await;
        let mut peer = Peer::associated(address).await;
        // As a peer does that does not listen meanwhile, and for the 8 MB beside the answer.
        let (mut reading, mut writing) = peer.stream.into_split();
        let sending = tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut writing, &bytes).await;
            writing
        });
        let mut header = [0; 10];
        tokio::io::AsyncReadExt::read_exact(&mut reading, &mut header)
            .await
            .unwrap_or_else(|_| panic!("{name}"));
        let got = (header[0], header[7], header[8], header[9]);
        if want.0 == 7 {
            assert_eq!(got, want, "{name}");
        } else {
            assert_eq!(got.0, want.0, "{name}");
        }
        drop((reading, sending.await.unwrap()));
        let served = serving.await.unwrap();
        let want = if why == "released" {
            "peer released the association in the middle of a message".to_owned()
        } else {
            format!("peer broke the protocol: {why}")
        };
        assert_eq!(served.error, Some(want), "{name}");
        assert!(served.stored.is_empty(), "{name}");
        peer = Peer::associated(serve_one(AcceptorConfig::default(), storage_policy()).await.0).await;
        drop(peer);
    }
}

#[tokio::test]
async fn pdvs_packed_split_and_empty_make_the_same_message() {
    let (command, data) = (store_rq(1), noise(1000));
    let (head, tail) = command.split_at(31);
    let packed = p_data(&[pdv(1, COMMAND | LAST, &command), pdv(1, DATA | LAST, &data)]);
    let split: Vec<u8> = [
        p_data(&[pdv(1, COMMAND, head)]),
        p_data(&[pdv(1, COMMAND | LAST, tail), pdv(1, DATA, &data[..1])]),
        p_data(&[pdv(1, DATA, &data[1..999])]),
        p_data(&[pdv(1, DATA | LAST, &data[999..])]),
    ]
    .concat();
    let empty: Vec<u8> = [
        p_data(&[pdv(1, COMMAND, &[]), pdv(1, COMMAND, &command), pdv(1, COMMAND | LAST, &[])]),
        p_data(&[pdv(1, DATA, &[]), pdv(1, DATA, &data), pdv(1, DATA, &[])]),
        p_data(&[pdv(1, DATA | LAST, &[])]),
    ]
    .concat();
    let reserved_bits = p_data(&[pdv(1, 0xFC | COMMAND | LAST, &command), pdv(1, 0xFC | LAST, &data)]);
    for (name, bytes) in
        [("packed", packed), ("split", split), ("empty", empty), ("reserved bits", reserved_bits)]
    {
        // Byte by byte as well: where the stream is cut means nothing.
        for piece in [bytes.len(), 1] {
            let (address, serving) = serve_one(AcceptorConfig::default(), storage_policy()).await;
            let mut peer = Peer::associated(address).await;
            peer.stream.set_nodelay(true).unwrap();
            for piece in bytes.chunks(piece) {
                peer.send(piece).await;
            }
            assert_eq!(peer.command().await.status(), Ok(base::Status::SUCCESS), "{name}");
            peer.send(&RELEASE_RQ).await;
            assert_eq!(peer.pdu().await.unwrap().0, 6, "{name}");
            let served = serving.await.unwrap();
            assert_eq!((served.stored.len(), served.error), (1, None), "{name}");
            assert!(served.stored[0].1 == data, "{name}");
        }
    }
}

#[tokio::test]
async fn an_instance_in_one_pdu_passes_where_no_limit_was_announced() {
    let config = AcceptorConfig { max_pdu: 0, ..AcceptorConfig::default() };
    let (address, serving) = serve_one(config, storage_policy()).await;
    let mut peer = Peer::associated(address).await;
    let data = noise(20 << 20);
    peer.send(&p_data(&[pdv(1, COMMAND | LAST, &store_rq(1)), pdv(1, DATA | LAST, &data)])).await;
    assert_eq!(peer.command().await.status(), Ok(base::Status::SUCCESS));
    peer.send(&RELEASE_RQ).await;
    peer.pdu().await;
    assert!(serving.await.unwrap().stored[0].1 == data);
}
