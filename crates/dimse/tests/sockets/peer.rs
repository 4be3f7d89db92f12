//! A peer that can say anything, and an acceptor that keeps what it gets.

use std::{net::SocketAddr, sync::Arc};

use base::{AeTitle, InstanceMeta, MoveOriginator, Phi, Priority, Status, Uid};
use dimse::{
    AcceptorConfig, Admission, Association, Incoming, Proposal, RequestorConfig, StoragePolicy, StoreRequest,
    Verdict, accept,
    command::{CommandWriter, element, field},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(crate) const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
pub(crate) const VERIFICATION: &str = "1.2.840.10008.1.1";
pub(crate) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(crate) const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

pub(crate) fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

pub(crate) fn ae(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

/// Bytes that differ from place to place.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub(crate) fn meta(class: &str, syntax: &str) -> InstanceMeta {
    InstanceMeta {
        sop_class: uid(class),
        sop_instance: Phi::new(uid("1.2.3.4.5")),
        transfer_syntax: uid(syntax),
        calling: ae("MODALITY"),
        called: ae("STORE"),
        move_originator: Some(MoveOriginator { ae: ae("MOVER"), message_id: 77 }),
        priority: Priority::High,
    }
}

pub(crate) fn requestor_config(contexts: &[(&str, &str)]) -> RequestorConfig {
    let contexts = contexts.iter().map(|(class, syntax)| (uid(class), uid(syntax))).collect();
    RequestorConfig::new(ae("MODALITY"), ae("STORE"), contexts)
}

pub(crate) fn storage_policy() -> Arc<dyn Admission> {
    let policy = StoragePolicy { private_sop_classes: true, prefer: Vec::new() };
    Arc::new(move |proposal: &Proposal| Verdict::Accept(policy.decide(proposal).into()))
}

/// What one association brought.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) echoes: usize,
    /// Complete data sets only.
    pub(crate) stored: Vec<(StoreRequest, Vec<u8>)>,
    /// Bytes of a data set that did not become complete.
    pub(crate) partial: usize,
    pub(crate) others: Vec<u16>,
    /// How it ended, when not by a release.
    pub(crate) error: Option<String>,
}

/// Listens, accepts one association, keeps what it brings and answers 0000.
pub(crate) async fn serve_one(
    config: AcceptorConfig,
    admission: Arc<dyn Admission>,
) -> (SocketAddr, JoinHandle<Served>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve_stream(stream, config, admission).await
    });
    (address, serving)
}

pub(crate) async fn serve_stream(
    stream: TcpStream,
    config: AcceptorConfig,
    admission: Arc<dyn Admission>,
) -> Served {
    match accept(stream, &config, &*admission).await {
        Ok(association) => serve_association(association).await,
        Err(error) => Served { error: Some(error.to_string()), ..Served::default() },
    }
}

pub(crate) async fn serve_association(mut association: Association) -> Served {
    let mut served = Served::default();
    let end: Result<(), dimse::AssociationError> = async {
        loop {
            match association.receive().await? {
                Incoming::Echo(request) => {
                    served.echoes += 1;
                    association.respond_echo(&request, Status::SUCCESS).await?;
                }
                Incoming::Store(request) => {
                    let mut data = Vec::new();
                    loop {
                        match association.data().await {
                            Ok(Some(bytes)) => data.extend_from_slice(&bytes),
                            Ok(None) => break,
                            Err(error) => {
                                served.partial = data.len();
                                // An error stays one: it never turns into the end of the data set.
                                assert!(association.data().await.is_err());
                                return Err(error);
                            }
                        }
                    }
                    association.respond_store(&request, Status::SUCCESS, None).await?;
                    served.stored.push((request, data));
                }
                Incoming::Other(request) => {
                    served.others.push(request.command_field);
                    association.respond_other(&request, Status::UNRECOGNISED_OPERATION).await?;
                }
                Incoming::Released => return Ok(()),
            }
        }
    }
    .await;
    served.error = end.err().map(|error| error.to_string());
    served
}

/// An A-ASSOCIATE-RQ or -AC made by hand.
#[derive(Debug, Clone)]
pub(crate) struct AssociatePdu {
    pub(crate) pdu_type: u8,
    pub(crate) version: u16,
    pub(crate) called: [u8; 16],
    pub(crate) calling: [u8; 16],
    pub(crate) items: Vec<u8>,
}

pub(crate) fn title(text: &str) -> [u8; 16] {
    let mut title = [b' '; 16];
    title[..text.len()].copy_from_slice(text.as_bytes());
    title
}

pub(crate) fn item(item_type: u8, value: &[u8]) -> Vec<u8> {
    let mut item = vec![item_type, 0];
    item.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    item.extend_from_slice(value);
    item
}

pub(crate) fn proposed(id: u8, class: &str, syntaxes: &[&str]) -> Vec<u8> {
    let mut value = vec![id, 0, 0, 0];
    value.extend(item(0x30, class.as_bytes()));
    syntaxes.iter().for_each(|syntax| value.extend(item(0x40, syntax.as_bytes())));
    item(0x20, &value)
}

pub(crate) fn user_information(max_pdu: u32, more: &[Vec<u8>]) -> Vec<u8> {
    let mut value = item(0x51, &max_pdu.to_be_bytes());
    value.extend(item(0x52, b"1.2.3.99"));
    more.iter().for_each(|item| value.extend_from_slice(item));
    item(0x50, &value)
}

impl AssociatePdu {
    /// A request as it should be.
    pub(crate) fn request(contexts: &[Vec<u8>]) -> Self {
        let mut items = item(0x10, APPLICATION_CONTEXT.as_bytes());
        contexts.iter().for_each(|context| items.extend_from_slice(context));
        items.extend(user_information(16384, &[]));
        Self { pdu_type: 1, version: 1, called: title("STORE"), calling: title("MODALITY"), items }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&self.called);
        body.extend_from_slice(&self.calling);
        body.extend_from_slice(&[0; 32]);
        body.extend_from_slice(&self.items);
        pdu(self.pdu_type, &body)
    }
}

pub(crate) fn pdu(pdu_type: u8, body: &[u8]) -> Vec<u8> {
    let mut pdu = vec![pdu_type, 0];
    pdu.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    pdu.extend_from_slice(body);
    pdu
}

pub(crate) const COMMAND: u8 = 1;
pub(crate) const DATA: u8 = 0;
pub(crate) const LAST: u8 = 2;

pub(crate) fn pdv(context: u8, control: u8, value: &[u8]) -> Vec<u8> {
    let mut pdv = u32::try_from(value.len() + 2).unwrap().to_be_bytes().to_vec();
    pdv.extend_from_slice(&[context, control]);
    pdv.extend_from_slice(value);
    pdv
}

pub(crate) fn p_data(pdvs: &[Vec<u8>]) -> Vec<u8> {
    pdu(4, &pdvs.concat())
}

pub(crate) const RELEASE_RQ: [u8; 10] = [5, 0, 0, 0, 0, 4, 0, 0, 0, 0];
pub(crate) const ABORT: [u8; 10] = [7, 0, 0, 0, 0, 4, 0, 0, 0, 0];

pub(crate) fn store_rq(message_id: u16) -> Vec<u8> {
    CommandWriter::new()
        .uid(element::AFFECTED_SOP_CLASS, &uid(CT))
        .us(element::COMMAND_FIELD, field::C_STORE_RQ)
        .us(element::MESSAGE_ID, message_id)
        .us(element::PRIORITY, 0)
        .data_set(true)
        .uid(element::AFFECTED_SOP_INSTANCE, &uid("1.2.3.4"))
        .finish()
}

pub(crate) fn echo_rq(message_id: u16) -> Vec<u8> {
    CommandWriter::new()
        .uid(element::AFFECTED_SOP_CLASS, &uid(VERIFICATION))
        .us(element::COMMAND_FIELD, field::C_ECHO_RQ)
        .us(element::MESSAGE_ID, message_id)
        .data_set(false)
        .finish()
}

pub(crate) fn store_rsp(message_id: u16, status: u16) -> Vec<u8> {
    CommandWriter::new()
        .us(element::COMMAND_FIELD, field::C_STORE_RQ | field::RESPONSE)
        .us(element::MESSAGE_ID_RESPONDED_TO, message_id)
        .data_set(false)
        .us(element::STATUS, status)
        .finish()
}

/// A raw connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap() }
    }

    /// Connects with context 1 for CT and 3 for verification.
    pub(crate) async fn associated(address: SocketAddr) -> Self {
        let mut peer = Self::connect(address).await;
        let contexts = [proposed(1, CT, &[EXPLICIT]), proposed(3, VERIFICATION, &[IMPLICIT])];
        peer.send(&AssociatePdu::request(&contexts).bytes()).await;
        assert_eq!(peer.pdu().await.map(|pdu| pdu.0), Some(2), "association not accepted");
        peer
    }

    /// Errors are for the reading side to notice: the other end may have closed.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next PDU; `None` when the connection ends.
    pub(crate) async fn pdu(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 6];
        self.stream.read_exact(&mut header).await.ok()?;
        let mut body = vec![0; u32::from_be_bytes([header[2], header[3], header[4], header[5]]) as usize];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((header[0], body))
    }

    /// The command set of the next PDU, which must be a P-DATA-TF with one complete command.
    pub(crate) async fn command(&mut self) -> dimse::command::CommandSet {
        let (pdu_type, body) = self.pdu().await.expect("a PDU");
        assert_eq!((pdu_type, body[5]), (4, 3));
        dimse::command::CommandSet::parse(body[6..].to_vec().into()).unwrap()
    }
}

/// PDU type, then result, source and reason, or whatever stands there.
pub(crate) type Codes = (u8, u8, u8, u8);

/// Of a PDU with a body of four bytes.
pub(crate) fn codes(pdu: &(u8, Vec<u8>)) -> Codes {
    (pdu.0, pdu.1[1], pdu.1[2], pdu.1[3])
}
