//! What the crate promises, one file per behaviour. The helpers are below.

mod after_a_crash;
mod commitment;
mod disk_full;
mod inbound_ledger;
mod keys_and_start;
mod no_patient_data;
mod operators;
mod order_of_writes;
mod pledges;
mod pseudonyms;
mod random_operations;
mod repeats;
mod settling;
mod two_processes;

use std::{path::PathBuf, time::Duration};

use base::{
    AeTitle, Attempt, DeliveryId, Digest, InstanceMeta, Name, ObjectId, Phi, Priority, RouteId, Secret,
    Status, Timestamp, Uid,
};
use tempfile::TempDir;

use crate::{faults::Faults, *};

/// Some time after 1970; a test adds to it.
pub(crate) const T0: Timestamp = Timestamp(1_800_000_000_000);

pub(crate) fn at(seconds: u64) -> Timestamp {
    T0.after(Duration::from_secs(seconds))
}

/// A folder, its keys and its configuration: opens the same outbox again and again.
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) config: OutboxConfig,
    pub(crate) faults: Faults,
    _temporary: Option<TempDir>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let place = Self { _temporary: None, ..Self::at(temporary.path().join("outbox")) };
        Outbox::init(&place.dir, &outbox_key(), &index_key()).unwrap();
        Self { _temporary: Some(temporary), ..place }
    }

    /// An outbox that another process made.
    pub(crate) fn at(dir: PathBuf) -> Self {
        let mut config = OutboxConfig::new(&dir);
        config.reserve_bytes = 0;
        Self { dir, config, faults: Faults::none(), _temporary: None }
    }

    pub(crate) fn open(&self) -> Outbox {
        self.open_at(T0)
    }

    pub(crate) fn open_at(&self, now: Timestamp) -> Outbox {
        Outbox::open_with(self.config.clone(), outbox_key(), index_key(), now, self.faults.clone()).unwrap()
    }

    pub(crate) fn admin(&self) -> Queue {
        Outbox::open_admin(self.config.clone(), outbox_key(), index_key()).unwrap()
    }

    /// Names of the body files, sorted.
    pub(crate) fn bodies(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.join("objects")).unwrap();
        let mut names: Vec<_> = entries.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(crate) fn outbox_key() -> OutboxKey {
    OutboxKey::new(Secret::new([7; 32]))
}

pub(crate) fn index_key() -> IndexKey {
    IndexKey::new(Secret::new([8; 32]))
}

/// One instance that a test sends. Which UID, which content, along which routes.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) object: ObjectId,
    pub(crate) uid: u32,
    pub(crate) content: u32,
    pub(crate) routes: Vec<u8>,
    pub(crate) cut_through: bool,
    pub(crate) changed_content: ChangedContent,
}

impl Sample {
    /// Object number `number` of instance `uid` with some content, along route 1.
    pub(crate) fn new(number: u32, uid: u32, content: u32) -> Self {
        let mut object = [0; 16];
        object[..4].copy_from_slice(&number.to_be_bytes());
        Self {
            object: ObjectId(object),
            uid,
            content,
            routes: vec![1],
            cut_through: false,
            changed_content: ChangedContent::AfterEarlier,
        }
    }

    pub(crate) fn cut_through(mut self) -> Self {
        self.cut_through = true;
        self
    }

    pub(crate) fn along(mut self, routes: &[u8]) -> Self {
        self.routes = routes.to_vec();
        self
    }

    pub(crate) fn refusing(mut self) -> Self {
        self.changed_content = ChangedContent::Refuse;
        self
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        format!("sealed body of {} with content {} ", self.object, self.content).repeat(20).into_bytes()
    }

    pub(crate) fn key(&self) -> Secret<[u8; 32]> {
        let mut key = [0x5a; 32];
        key[..16].copy_from_slice(&self.object.0);
        Secret::new(key)
    }

    pub(crate) fn record(&self) -> InstanceRecord {
        let uid = |suffix: &str| Phi::new(Uid::parse(&format!("1.2.826.{}.{suffix}", self.uid)).unwrap());
        InstanceRecord {
            meta: InstanceMeta {
                sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
                sop_instance: uid("3"),
                transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").unwrap(),
                calling: AeTitle::parse("CT1").unwrap(),
                called: AeTitle::parse("SLUIS").unwrap(),
                move_originator: None,
                priority: Priority::Medium,
            },
            study: Some(uid("1")),
            series: Some(uid("2")),
            accession: Some(Phi::new(format!("ACC{}", self.uid))),
            patient_id: Some(Phi::new(format!("PAT{}", self.uid))),
            data_digest: Digest::of(&self.content.to_be_bytes()),
        }
    }

    pub(crate) fn sealed(&self) -> SealedFacts {
        let body = self.body();
        SealedFacts {
            suite: 2,
            commitment: [9; 32],
            profile: SealedFacts::no_profile(),
            report: None,
            body_digest: Digest::of(&body),
            sealed_len: body.len() as u64,
            data_len: body.len() as u64 - 100,
        }
    }

    /// The delivery along the first route.
    pub(crate) fn delivery(&self) -> DeliveryId {
        self.delivery_on(self.routes[0])
    }

    /// Routes 1 and 11 lead to one destination, 2 and 12 to another, and so on.
    pub(crate) fn delivery_on(&self, route: u8) -> DeliveryId {
        DeliveryId::derive(&name("here"), self.object, route_id(route), &destination(route))
    }

    pub(crate) fn new_delivery(&self, route: u8) -> NewDelivery {
        NewDelivery {
            delivery: self.delivery_on(route),
            route: route_id(route),
            receiver: name("there"),
            destination: destination(route),
            cut_through: self.cut_through,
        }
    }

    pub(crate) fn new_object(&self, now: Timestamp) -> NewObject {
        NewObject {
            content_key: self.key(),
            sealed: self.sealed(),
            record: self.record(),
            deliveries: self.routes.iter().map(|route| self.new_delivery(*route)).collect(),
            changed_content: self.changed_content,
            received_at: now,
        }
    }

    pub(crate) fn new_unspooled(&self, now: Timestamp) -> NewUnspooled {
        NewUnspooled {
            object: self.object,
            sealed: self.sealed(),
            record: self.record(),
            delivery: self.new_delivery(self.routes[0]),
            changed_content: self.changed_content,
            received_at: now,
        }
    }

    pub(crate) async fn try_commit(&self, outbox: &Outbox, now: Timestamp) -> Result<Committed, CommitError> {
        let mut body = outbox.begin(self.object).unwrap();
        for piece in self.body().chunks(100) {
            body.append(piece).unwrap();
        }
        outbox.commit(body, self.new_object(now), now).await
    }

    pub(crate) async fn commit(&self, outbox: &Outbox, now: Timestamp) -> Vec<Decision> {
        let committed = self.try_commit(outbox, now).await.unwrap();
        committed.placed.iter().map(|placed| placed.decision).collect()
    }

    pub(crate) fn receipt(&self, attempt: u32, status: u16) -> NewReceipt {
        NewReceipt {
            delivery: self.delivery(),
            attempt: Attempt(attempt),
            status: Status(status),
            level: 1,
            pledge_follows: false,
            answered_at: at(1),
            receipt: format!("receipt of {} attempt {attempt}", self.delivery()).into_bytes(),
            settlement: b"settlement".to_vec(),
            manifest: b"manifest".to_vec(),
            progress: Vec::new(),
        }
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn route_id(route: u8) -> RouteId {
    RouteId([route; 16])
}

fn destination(route: u8) -> Name {
    name(&format!("pacs{}", route % 10))
}

pub(crate) fn operator() -> Operator {
    Operator { who: "ward".to_owned(), reason: "the far side lost it".to_owned() }
}

pub(crate) async fn row(queue: &Queue, delivery: DeliveryId) -> Delivery {
    queue.delivery(delivery).await.unwrap().unwrap()
}

pub(crate) async fn state(queue: &Queue, delivery: DeliveryId) -> State {
    row(queue, delivery).await.state
}

pub(crate) async fn due(queue: &Queue, now: Timestamp) -> Vec<DeliveryId> {
    queue.due(now, 100).await.unwrap().iter().map(|row| row.delivery).collect()
}

/// The kinds of a delivery's history.
pub(crate) async fn history(queue: &Queue, delivery: DeliveryId) -> Vec<EventKind> {
    queue.history(delivery).await.unwrap().iter().map(|event| event.kind).collect()
}

/// Whether the key of an object can be had: its value is checked.
pub(crate) async fn has_key(queue: &Queue, sample: &Sample) -> bool {
    match queue.content_key(sample.object).await {
        Ok(key) => {
            assert_eq!(key, sample.key());
            true
        }
        Err(BodyError::Ended(_) | BodyError::Unknown(_)) => false,
        Err(error) => panic!("{error}"),
    }
}
