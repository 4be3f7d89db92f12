//! A sender made of its parts, so that a test can tamper with what it sends.

use base::{
    Attempt, DeliveryId, Digest, Fingerprint, Name, ObjectId, RouteId, Secret, Timestamp, random_bytes,
};
use bytes::Bytes;
use envelope::{
    BodyContext, BodyMeta, BodySealer, Commitment, HeaderFields, Padding, SenderSession, SessionRequest,
    Suite, open_record,
};
use identity::{IdentityKey, PeerCard};
use ledger::{Class, ManifestCore, NackReason, Receipt, Settlement, sign_manifests};
use tokio::sync::mpsc;
use transport::{DepositError, LinkTask, Offer, Uplink, UplinkConfig, UplinkEvent, WholeBody};

use super::{Bed, IN, Sample, soon, until};

/// A sealed instance and all that its sender knows.
#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) delivery: DeliveryId,
    pub(crate) attempt: Attempt,
    pub(crate) body: BodyContext,
    pub(crate) commitment: Commitment,
    pub(crate) content_key: Secret<[u8; 32]>,
    pub(crate) sealed: Vec<u8>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) settlement: Settlement,
    pub(crate) record: Vec<u8>,
}

impl Answer {
    /// The reason of a nack.
    pub(crate) fn nack(&self) -> NackReason {
        match self.settlement.class() {
            Class::Nack(reason) => reason,
            other => panic!("no nack but {other:?}"),
        }
    }

    /// The receipt of a final answer.
    pub(crate) fn receipt(&self, letter: &Letter) -> Receipt {
        assert!(matches!(self.settlement.class(), Class::Final(_)), "{:?}", self.settlement.class());
        let attempt = self.settlement.attempt();
        let opened = open_record(&letter.body, &letter.content_key, letter.delivery, attempt, &self.record);
        Receipt::decode(&opened.unwrap()).unwrap()
    }
}

/// See the module.
pub(crate) struct Envoy {
    key: IdentityKey,
    pub(crate) link: Uplink,
    events: mpsc::Receiver<UplinkEvent>,
    _task: LinkTask,
    pub(crate) receiver: PeerCard,
    pub(crate) route: RouteId,
    destination: Name,
    bundle: Vec<u8>,
    pub(crate) session: SenderSession,
}

impl Envoy {
    /// Connects and opens a session for a route of the bed.
    pub(crate) async fn new(bed: &Bed, who: &str, route: RouteId) -> Self {
        let key = bed.key(who);
        let config = UplinkConfig::new(bed.relay_address().to_string(), bed.relay_card(), &key);
        let (link, events, task) = Uplink::start(config);
        let receiver = bed.card(IN);
        let mut bundle = None;
        until("a prekey", async || {
            let answer = link.prekey(receiver.identity.fingerprint(), route).await;
            bundle = answer.ok().flatten();
            bundle.is_some()
        })
        .await;
        let bundle = bundle.unwrap();
        let session = open(&key, &receiver, route, &bundle, &Secret::random());
        let spec = bed.plan.routes.iter().find(|spec| spec.id == route).unwrap();
        let destination = super::name(spec.destination);
        Self { key, link, events, _task: task, receiver, route, destination, bundle, session }
    }

    /// Another session to the same prekey.
    pub(crate) fn session(&self, random: &Secret<[u8; SenderSession::RANDOM_BYTES]>) -> SenderSession {
        open(&self.key, &self.receiver, self.route, &self.bundle, random)
    }

    pub(crate) fn recipient(&self) -> Fingerprint {
        self.receiver.identity.fingerprint()
    }

    /// Seals an instance for this route.
    pub(crate) fn seal(&self, sample: &Sample) -> Letter {
        seal(self.key.name(), self.route, &self.destination, sample)
    }

    /// The next header of the session.
    pub(crate) fn header(&mut self, letter: &Letter) -> Vec<u8> {
        header(&mut self.session, letter)
    }

    /// Deposits under a header, with the right digest of whatever the bytes are.
    pub(crate) async fn deposit(&self, letter: &Letter, header: Vec<u8>) -> Result<(), DepositError> {
        self.deposit_to(self.route, letter, header).await
    }

    pub(crate) async fn deposit_to(
        &self,
        route: RouteId,
        letter: &Letter,
        header: Vec<u8>,
    ) -> Result<(), DepositError> {
        let offer = Offer {
            delivery: letter.delivery,
            attempt: letter.attempt,
            recipient: self.recipient(),
            route,
            header,
            size: Some(letter.sealed.len() as u64),
            digest: Some(Digest::of(&letter.sealed)),
            urgency: wire::Urgency::Normal,
        };
        let body = WholeBody::of(Bytes::from(letter.sealed.clone()));
        match soon("a deposit", self.link.deposit(offer, body)).await {
            // The recipient's answer was faster than the relay's word that it has the body.
            Ok(_) | Err(DepositError::Known { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deposits what is whole and right.
    pub(crate) async fn send(&mut self, letter: &Letter) {
        let header = self.header(letter);
        self.deposit(letter, header).await.unwrap();
    }

    /// The next settlement, verified; not acknowledged.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            let event = soon("a settlement", self.events.recv()).await.unwrap();
            if let UplinkEvent::Settlement { settlement, record, .. } = event {
                let settlement = Settlement::decode(&settlement).unwrap();
                settlement.verify(&self.receiver.identity).unwrap();
                return Answer { settlement, record };
            }
        }
    }

    /// The next settlement, which must be of this letter.
    pub(crate) async fn answer_to(&mut self, letter: &Letter) -> Answer {
        let answer = self.answer().await;
        assert_eq!(answer.settlement.delivery(), letter.delivery);
        answer
    }

    /// What a sender signs about a receipt.
    pub(crate) fn sent(&self, receipt: &Receipt) -> ManifestCore {
        ManifestCore {
            delivery: receipt.delivery,
            attempt: receipt.attempt,
            object: receipt.object,
            body_digest: receipt.body_digest,
            sender: self.key.fingerprint(),
            receiver: self.recipient(),
            receipt: receipt.digest(),
            report: None,
        }
    }

    /// Acknowledges as a sender does.
    pub(crate) async fn ack(&self, receipt: &Receipt) {
        let manifest = sign_manifests(&self.key, &[self.sent(receipt)], &[]).unwrap().remove(0);
        self.ack_with(receipt, Some(manifest.encode())).await;
    }

    /// Acknowledges with whatever it is given.
    pub(crate) async fn ack_with(&self, receipt: &Receipt, manifest: Option<Vec<u8>>) {
        self.link.ack(self.recipient(), receipt.delivery, receipt.attempt, manifest).await.unwrap();
    }
}

/// Seals an instance.
pub(crate) fn seal(sender: &Name, route: RouteId, destination: &Name, sample: &Sample) -> Letter {
    let body = BodyContext { suite: Suite::B, object: ObjectId(random_bytes()), profile: Digest::of(b"") };
    let delivery = DeliveryId::derive(sender, body.object, route, destination);
    let content_key = Secret::random();
    let meta = BodyMeta { instance: sample.meta.clone(), uid_hash_key: Secret::random() };
    let mut sealer = BodySealer::new(&body, &content_key, Padding::default(), &meta);
    let commitment = sealer.commitment();
    let mut sealed = Vec::new();
    sealer.data(&sample.data, &mut sealed);
    sealer.finish(&mut sealed);
    Letter { delivery, attempt: Attempt(1), body, commitment, content_key, sealed }
}

/// A header for a letter in any session.
pub(crate) fn header(session: &mut SenderSession, letter: &Letter) -> Vec<u8> {
    let fields = HeaderFields {
        delivery: letter.delivery,
        attempt: letter.attempt,
        body: letter.body,
        commitment: letter.commitment,
    };
    session.next_header(&fields, &letter.content_key, Timestamp::now()).unwrap().bytes
}

fn open(
    key: &IdentityKey,
    receiver: &PeerCard,
    route: RouteId,
    bundle: &[u8],
    random: &Secret<[u8; SenderSession::RANDOM_BYTES]>,
) -> SenderSession {
    let request =
        SessionRequest { bundle, recipient: &receiver.identity, sender: key, route, suite: Suite::B };
    SenderSession::open(&request, Timestamp::now(), random).unwrap()
}
