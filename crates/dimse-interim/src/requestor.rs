//! The requesting side: C-ECHO and C-STORE as SCU.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use base::{AeTitle, InstanceMeta, Phi, Status, Uid};
use bytes::Bytes;
use dicom_ul::pdu::{
    AssociationRQ, Pdu, PresentationContextProposed, PresentationContextResultReason as Reason, UserVariableItem,
};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME,
    acceptor::{APPLICATION_CONTEXT, peer_max_pdu},
    command::{CommandSet, element, field},
    connection::{Connection, Timers, aborted, decode},
    error::{AssociationError, ConnectError, ProtocolError, StoreError},
    framing::{PDV_HEADER_BYTES, data_head, next_pdv, pdu_type},
    message::{MessageEvent, Messages},
    reject::Rejection,
};

/// How we ask for an association.
#[derive(Debug, Clone)]
pub struct RequestorConfig {
    /// The AE title that we present.
    pub calling: AeTitle,
    /// The AE title that we call.
    pub called: AeTitle,
    /// (SOP class, transfer syntax): one syntax in each context, so that the peer cannot choose.
    pub contexts: Vec<(Uid, Uid)>,
    /// TCP connection and handshake.
    pub connect_timeout: Duration,
    /// From the last byte of a request to its response.
    pub response_timeout: Duration,
    /// One write, or one PDU of a response.
    pub progress_timeout: Duration,
    /// Maximum length that we announce.
    pub max_pdu_received: u32,
    /// The longest PDU that we send, whatever the peer allows.
    pub max_pdu_sent: u32,
}

impl RequestorConfig {
    /// With the usual limits: 10 s, 60 s, 60 s, 256 KiB both ways.
    pub fn new(calling: AeTitle, called: AeTitle, contexts: Vec<(Uid, Uid)>) -> Self {
        Self {
            calling,
            called,
            contexts,
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(60),
            progress_timeout: Duration::from_secs(60),
            max_pdu_received: 256 * 1024,
            max_pdu_sent: 256 * 1024,
        }
    }
}

/// A C-STORE response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreResponse {
    /// Status (0000,0900).
    pub status: Status,
    /// Error Comment (0000,0902): the peer's own words, which may name a patient.
    pub comment: Option<Phi<String>>,
}

/// See the module. Dropping it without a release aborts: a half-sent data set never ends as a whole one.
#[derive(Debug)]
pub struct Requestor {
    connection: Connection,
    accepted: HashMap<(Uid, Uid), u8>,
    response_timeout: Duration,
    /// Bytes of one fragment.
    fragment_bytes: usize,
    next_message_id: u16,
    messages: Messages,
    store: Option<Store>,
    ended: bool,
}

/// A C-STORE-RQ that is being sent.
#[derive(Debug)]
struct Store {
    context: u8,
    message_id: u16,
    /// The fragment that is held back: the last one leaves in [`Requestor::store_finish`] only.
    held: Vec<u8>,
}

impl Requestor {
    /// Connects and negotiates.
    pub async fn connect(address: SocketAddr, config: RequestorConfig) -> Result<Self, ConnectError> {
        let limit = config.connect_timeout;
        match timeout(limit, connect(address, config)).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::TimedOut(limit)),
        }
    }

    /// Whether the peer accepted this class with this syntax.
    pub fn accepts(&self, sop_class: &Uid, transfer_syntax: &Uid) -> bool {
        self.accepted.contains_key(&(sop_class.clone(), transfer_syntax.clone()))
    }

    /// C-ECHO over the first accepted verification context.
    pub async fn echo(&mut self) -> Result<Status, StoreError> {
        let verification = crate::verification();
        let context = self.accepted.iter().find(|((class, _), _)| *class == verification).map(|(_, id)| *id);
        let Some(context) = context else {
            let transfer_syntax = crate::implicit_little_endian();
            return Err(StoreError::NoContext { sop_class: verification, transfer_syntax });
        };
        let message_id = self.message_id();
        let command = CommandSet::echo_request(message_id, &verification).encode();
        self.send(context, true, true, &command).await.map_err(StoreError::BeforeLast)?;
        let response = self.response(message_id, field::C_ECHO_RSP).await.map_err(StoreError::Unknown)?;
        Ok(Status(response.number(element::STATUS).unwrap_or(Status::PROCESSING_FAILURE.0)))
    }

    /// Begins a C-STORE: its command leaves with the first fragment.
    pub async fn store_begin(&mut self, meta: &InstanceMeta) -> Result<(), StoreError> {
        let key = (meta.sop_class.clone(), meta.transfer_syntax.clone());
        let Some(context) = self.accepted.get(&key).copied() else {
            return Err(StoreError::NoContext { sop_class: key.0, transfer_syntax: key.1 });
        };
        let message_id = self.message_id();
        let command = CommandSet::store_request(message_id, meta).encode();
        self.send(context, true, true, &command).await.map_err(StoreError::BeforeLast)?;
        self.store = Some(Store { context, message_id, held: Vec::with_capacity(self.fragment_bytes) });
        Ok(())
    }

    /// Sends all full fragments but the last: at least one byte is always held back.
    pub async fn store_data(&mut self, mut data: Bytes) -> Result<(), StoreError> {
        while !data.is_empty() {
            let Some(store) = self.store.as_mut() else { return Err(StoreError::NotBegun) };
            let room = self.fragment_bytes - store.held.len();
            if room == 0 {
                let (context, held) = (store.context, std::mem::take(&mut store.held));
                let sent = self.send(context, false, false, &held).await;
                self.reuse(held);
                sent.map_err(StoreError::BeforeLast)?;
            } else if store.held.is_empty() && data.len() > self.fragment_bytes {
                // A whole fragment that is not the last needs no copy.
                let context = store.context;
                let fragment = data.split_to(self.fragment_bytes);
                self.send(context, false, false, &fragment).await.map_err(StoreError::BeforeLast)?;
            } else {
                store.held.extend_from_slice(&data.split_to(room.min(data.len())));
            }
        }
        Ok(())
    }

    /// Sends the last fragment and waits for the response.
    pub async fn store_finish(&mut self) -> Result<StoreResponse, StoreError> {
        let Some(Store { context, message_id, held }) = self.store.take() else { return Err(StoreError::NotBegun) };
        // From here on the peer may have the whole data set, whatever the write says.
        self.send(context, false, true, &held).await.map_err(StoreError::Unknown)?;
        let response = self.response(message_id, field::C_STORE_RSP).await.map_err(StoreError::Unknown)?;
        let comment = response.text(element::ERROR_COMMENT).filter(|text| !text.is_empty()).map(Phi::new);
        let status = Status(response.number(element::STATUS).unwrap_or(Status::PROCESSING_FAILURE.0));
        Ok(StoreResponse { status, comment })
    }

    /// A-RELEASE; waits a moment for the answer.
    pub async fn release(mut self) {
        self.ended = true;
        let asked = self.connection.write(&[pdu_type::RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0]).await;
        if asked.is_ok() {
            // Whether it answers or not, we are done.
            let _ = self.connection.next_pdu(Duration::from_secs(2)).await;
        }
        self.connection.shutdown().await;
    }

    /// A-ABORT.
    pub async fn abort(mut self) {
        self.ended = true;
        self.connection.abort(0, 0).await;
    }

    fn message_id(&mut self) -> u16 {
        let id = self.next_message_id;
        self.next_message_id = id.checked_add(1).unwrap_or(1);
        id
    }

    fn reuse(&mut self, mut buffer: Vec<u8>) {
        if let Some(store) = self.store.as_mut() {
            buffer.clear();
            store.held = buffer;
        }
    }

    async fn send(&mut self, context: u8, command: bool, last: bool, fragment: &[u8]) -> Result<(), AssociationError> {
        let head = data_head(context, command, last, fragment.len());
        self.connection.write_two(&head, fragment).await
    }

    /// Waits for the response to a request; anything else breaks the protocol.
    async fn response(&mut self, message_id: u16, want: u16) -> Result<CommandSet, AssociationError> {
        loop {
            let pdu = self.connection.next_pdu(self.response_timeout).await?;
            match pdu.pdu_type {
                pdu_type::P_DATA_TF => {}
                pdu_type::ABORT => return Err(aborted(&pdu)),
                other => return Err(ProtocolError::UnexpectedPdu(other).into()),
            }
            let mut body = pdu.body;
            while let Some(pdv) = next_pdv(&mut body).map_err(ProtocolError::from)? {
                let contexts = &self.accepted;
                let event = self.messages.handle(pdv, |context| contexts.values().any(|id| *id == context));
                let Some(MessageEvent::Command(_, command)) = event.map_err(ProtocolError::from)? else { continue };
                let ours = command.number(element::MESSAGE_ID_RESPONDED_TO) == Some(message_id);
                if ours && command.command_field() == Some(want) {
                    return Ok(command);
                }
            }
        }
    }
}

impl Drop for Requestor {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.abort_now();
        }
    }
}

async fn connect(address: SocketAddr, config: RequestorConfig) -> Result<Requestor, ConnectError> {
    if config.contexts.is_empty() || config.contexts.len() > 128 {
        return Err(ConnectError::Contexts(config.contexts.len()));
    }
    let stream = TcpStream::connect(address).await.map_err(ConnectError::Connect)?;
    let timers = Timers {
        handshake: config.connect_timeout,
        idle: config.response_timeout,
        progress: config.progress_timeout,
    };
    let mut connection = Connection::new(stream, config.max_pdu_received, timers)?;
    connection.write_pdu(&Pdu::AssociationRQ(request(&config))).await.map_err(connect_error)?;
    let raw = connection.next_pdu(config.connect_timeout).await.map_err(connect_error)?;
    let answer = match raw.pdu_type {
        pdu_type::ASSOCIATE_AC => decode(&raw)?,
        pdu_type::ASSOCIATE_RJ => {
            let rejection = Rejection::of_body(&raw.body).ok_or(ProtocolError::UnexpectedPdu(raw.pdu_type))?;
            return Err(ConnectError::Rejected(rejection));
        }
        pdu_type::ABORT => return Err(ConnectError::Aborted),
        other => return Err(ProtocolError::UnexpectedPdu(other).into()),
    };
    let Pdu::AssociationAC(answer) = answer else { return Err(ProtocolError::UnexpectedPdu(raw.pdu_type).into()) };
    let accepted = answer
        .presentation_contexts
        .iter()
        .filter(|context| context.reason == Reason::Acceptance)
        .filter_map(|context| {
            let asked = config.contexts.get(usize::from(context.id / 2))?;
            // The only syntax that was offered; another one in the answer would be none that we can send.
            let same = Uid::parse(&context.transfer_syntax).is_ok_and(|syntax| syntax == asked.1);
            same.then(|| (asked.clone(), context.id))
        })
        .collect();
    let longest = config.max_pdu_sent.min(peer_max_pdu(&answer.user_variables)).max(1024);
    Ok(Requestor {
        connection,
        accepted,
        response_timeout: config.response_timeout,
        fragment_bytes: usize::try_from(longest).unwrap_or(4096) - PDV_HEADER_BYTES,
        next_message_id: 1,
        messages: Messages::default(),
        store: None,
        ended: false,
    })
}

fn connect_error(error: AssociationError) -> ConnectError {
    match error {
        AssociationError::Protocol(violation) => ConnectError::Protocol(violation),
        AssociationError::Io(error) => ConnectError::Io(error),
        AssociationError::Idle(limit) | AssociationError::Stalled(limit) => ConnectError::TimedOut(limit),
        other => ConnectError::Io(std::io::Error::other(other)),
    }
}

fn request(config: &RequestorConfig) -> AssociationRQ {
    let presentation_contexts = (1u8..)
        .step_by(2)
        .zip(&config.contexts)
        .map(|(id, (class, syntax))| PresentationContextProposed {
            id,
            abstract_syntax: class.as_str().to_owned(),
            transfer_syntaxes: vec![syntax.as_str().to_owned()],
        })
        .collect();
    AssociationRQ {
        protocol_version: 1,
        calling_ae_title: config.calling.as_str().to_owned(),
        called_ae_title: config.called.as_str().to_owned(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts,
        user_variables: vec![
            UserVariableItem::MaxLength(config.max_pdu_received),
            UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
            UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
        ],
    }
}
