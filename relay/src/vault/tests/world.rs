//! A vault with a sender and recipients that are values too: what the vault commands, they carry out at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use base::{Attempt, DeliveryId, Digest, Fingerprint, Name, RouteId};
use bytes::Bytes;
use ledger::log::EntryKind;
use transport::ConnectionId;
use wire::{
    CloseCode, DeclineCode, NoticeKind, RecipientFrame, RelayState, Role, SenderFrame, ToRecipient, ToSender,
    Transfer, UnansweredCode, Urgency,
};

use crate::vault::{Command, Input, Limits, Policy, Record, SettlementCheck, Status, Tenant, Vault, Verdict};

pub(super) const MIB: u64 = 1024 * 1024;
pub(super) const SENDER: Fingerprint = Fingerprint([1; 32]);
pub(super) const RECIPIENT: Fingerprint = Fingerprint([2; 32]);
pub(super) const OTHER: Fingerprint = Fingerprint([3; 32]);
pub(super) const ROUTE: RouteId = RouteId([1; 16]);
pub(super) const OTHER_ROUTE: RouteId = RouteId([2; 16]);
pub(super) const TTL: Duration = Duration::from_secs(600);
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// Takes a settlement that begins with its signer's first byte.
pub(super) struct FirstByte;

impl SettlementCheck for FirstByte {
    fn check(
        &mut self,
        recipient: &Fingerprint,
        _: DeliveryId,
        _: Attempt,
        settlement: &[u8],
    ) -> Option<Verdict> {
        let own = settlement.first() == recipient.0.first();
        own.then(|| Verdict::Final(Digest::of(settlement)))
    }
}

/// What the sender was told, without the grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Declined(DeclineCode),
    Known(RelayState),
    Deposited,
    Collected(u8, u32),
    Notice(u8, u32, NoticeKind),
    Settlement(u8, u32),
    Stopped,
    Prekey(Option<Vec<u8>>),
    Answer(u64, Vec<u8>),
    Unanswered(u64, UnansweredCode),
}

/// What a recipient was told, without the bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Offer(u8, u32),
    Cancelled(u8, u32),
    Acked(u8, u32),
    Withdrawn,
    PrekeysLow(u32),
    SessionClosed,
    Reset,
    Ask(u64, u32),
}

/// How a model recipient takes what is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// As fast as it comes, granting this much ahead.
    Ahead(u64),
    /// Nothing is granted.
    Frozen,
}

pub(super) struct World {
    pub(super) vault: Vault<FirstByte>,
    pub(super) now: Instant,
    /// Told to the sender, in order.
    pub(super) told: Vec<Told>,
    /// Told to the recipients, in order.
    pub(super) heard: Vec<Heard>,
    pub(super) closed: Vec<(ConnectionId, CloseCode)>,
    pub(super) logged: Vec<(EntryKind, DeliveryId, Digest)>,
    /// Per route.
    pub(super) taking: BTreeMap<RouteId, Taking>,
    /// Settle as soon as the whole body is there.
    pub(super) settles: bool,
    /// Of what is offered from now on.
    pub(super) urgency: Urgency,
    sender: ConnectionId,
    recipient: ConnectionId,
    next_connection: u64,
    next_transfer: Transfer,
    uploads: HashMap<Transfer, Upload>,
    downloads: HashMap<Transfer, Download>,
    /// Peak of bytes held, as the status counts them.
    pub(super) held_max: u64,
    inputs: VecDeque<Input>,
}

#[derive(Clone, Debug)]
struct Upload {
    size: u64,
    granted: u64,
    sent: u64,
    ended: bool,
    admitted: bool,
    /// Stops here even where more is granted.
    pause_at: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Download {
    pub(super) delivery: DeliveryId,
    pub(super) attempt: Attempt,
    pub(super) route: RouteId,
    pub(super) received: u64,
    granted: Option<u64>,
}

pub(super) fn limits() -> Limits {
    Limits::new(64 * MIB, 16 * MIB, TTL, LEASE)
}

pub(super) fn delivery(n: u8) -> DeliveryId {
    DeliveryId([n; 32])
}

/// The bytes of every model body from `offset` on.
fn content(offset: u64, count: u64) -> Bytes {
    static PERIODS: LazyLock<Bytes> = LazyLock::new(|| (0..70_000u32).map(|i| (i % 251) as u8).collect());
    let start = (offset % 251) as usize;
    PERIODS.slice(start..start + count as usize)
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        let tenant = |name: &str, deposit_for: &[Fingerprint]| Tenant {
            name: Name::parse(name).unwrap(),
            budget: limits.budget,
            deposit_for: deposit_for.iter().copied().collect::<BTreeSet<_>>(),
            collects: true,
            rates: Default::default(),
        };
        let tenants = BTreeMap::from([
            (SENDER, tenant("out", &[RECIPIENT])),
            (RECIPIENT, tenant("in", &[])),
            (OTHER, tenant("other", &[SENDER])),
        ]);
        let now = Instant::now();
        Self {
            vault: Vault::new(Policy { limits, tenants }, FirstByte, now),
            now,
            told: Vec::new(),
            heard: Vec::new(),
            closed: Vec::new(),
            logged: Vec::new(),
            taking: BTreeMap::new(),
            urgency: Urgency::Normal,
            settles: false,
            sender: ConnectionId(0),
            recipient: ConnectionId(0),
            next_connection: 1,
            next_transfer: 1,
            uploads: HashMap::new(),
            downloads: HashMap::new(),
            held_max: 0,
            inputs: VecDeque::new(),
        }
    }

    /// Both sides connected, the usual route open.
    pub(super) fn connected(limits: Limits) -> Self {
        let mut world = Self::new(limits);
        world.connect_sender();
        world.connect_recipient(8);
        world
    }

    pub(super) fn connect_sender(&mut self) {
        self.uploads.clear();
        self.sender = self.connection();
        self.input(Input::Connected { connection: self.sender, peer: SENDER, role: Role::Sender });
    }

    pub(super) fn connect_recipient(&mut self, window: u32) {
        self.downloads.clear();
        self.recipient = self.connection();
        self.input(Input::Connected { connection: self.recipient, peer: RECIPIENT, role: Role::Recipient });
        // A closed window says more than none: that the destination is down.
        if window > 0 {
            self.window(ROUTE, window);
        }
    }

    pub(super) fn window(&mut self, route: RouteId, deliveries: u32) {
        self.recipient_says(RecipientFrame::Window { route, deliveries });
    }

    pub(super) fn lose_sender(&mut self) {
        self.input(Input::Disconnected { connection: self.sender });
    }

    pub(super) fn lose_recipient(&mut self) {
        self.input(Input::Disconnected { connection: self.recipient });
    }

    fn connection(&mut self) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        id
    }

    /// Offers and sends as far as it is let, of a body that says its size.
    pub(super) fn deposit(&mut self, n: u8, attempt: u32, size: u64) -> Transfer {
        self.deposit_up_to(ROUTE, n, attempt, size, Some(size), size + 1)
    }

    /// As [`World::deposit`], stopping at `pause_at`.
    pub(super) fn deposit_up_to(
        &mut self,
        route: RouteId,
        n: u8,
        attempt: u32,
        size: u64,
        announced: Option<u64>,
        pause_at: u64,
    ) -> Transfer {
        let transfer = self.next_transfer;
        self.next_transfer += 1;
        self.uploads
            .insert(transfer, Upload { size, granted: 0, sent: 0, ended: false, admitted: false, pause_at });
        self.sender_says(SenderFrame::Offer {
            transfer,
            delivery: delivery(n),
            attempt: Attempt(attempt),
            recipient: RECIPIENT,
            route,
            header: vec![9; 100].into(),
            size: announced,
            digest: None,
            urgency: self.urgency,
        });
        transfer
    }

    /// A paused upload goes on to its end.
    pub(super) fn resume(&mut self, transfer: Transfer) {
        if let Some(upload) = self.uploads.get_mut(&transfer) {
            upload.pause_at = u64::MAX;
        }
        self.send(transfer);
        self.run();
    }

    pub(super) fn sent(&self, transfer: Transfer) -> u64 {
        self.uploads.get(&transfer).map_or(0, |upload| upload.sent)
    }

    pub(super) fn sender_says(&mut self, frame: SenderFrame) {
        self.input(Input::FromSender { connection: self.sender, frame });
    }

    pub(super) fn recipient_says(&mut self, frame: RecipientFrame) {
        self.input(Input::FromRecipient { connection: self.recipient, frame });
    }

    pub(super) fn abandon(&mut self, transfer: Transfer) {
        self.input(Input::BodyReset { connection: self.sender, transfer });
    }

    pub(super) fn release(&mut self, transfer: Transfer) {
        self.downloads.remove(&transfer);
        self.recipient_says(RecipientFrame::Release { transfer });
    }

    pub(super) fn settle(&mut self, n: u8, attempt: u32) {
        self.settle_as(RECIPIENT, n, attempt);
    }

    pub(super) fn settle_as(&mut self, signer: Fingerprint, n: u8, attempt: u32) {
        let frame = RecipientFrame::Settlement {
            sender: SENDER,
            delivery: delivery(n),
            attempt: Attempt(attempt),
            settlement: vec![signer.0[0]; 50].into(),
            record: vec![].into(),
        };
        self.recipient_says(frame);
    }

    pub(super) fn ack(&mut self, n: u8, attempt: u32) {
        let (delivery, attempt) = (delivery(n), Attempt(attempt));
        self.sender_says(SenderFrame::Ack { recipient: RECIPIENT, delivery, attempt, manifest: None });
    }

    pub(super) fn cancel(&mut self, n: u8, attempt: u32) {
        let (delivery, attempt) = (delivery(n), Attempt(attempt));
        self.sender_says(SenderFrame::Cancel { recipient: RECIPIENT, delivery, attempt });
    }

    pub(super) fn policy(&self) -> Policy {
        self.vault.policy.clone()
    }

    /// Gives the vault another policy.
    pub(super) fn reconfigure(&mut self, policy: Policy, changed: &[Fingerprint]) {
        let changed = changed.iter().copied().collect();
        for command in self.vault.reconfigure(policy, &changed, self.now) {
            self.execute(command);
        }
        self.run();
    }

    /// Lets the time pass, with every deadline in between.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.vault.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.input(Input::Tick);
        }
        self.now = until;
        self.input(Input::Tick);
    }

    pub(super) fn renew(&mut self) {
        let transfers = self.downloads.keys().copied().collect();
        self.recipient_says(RecipientFrame::Renew { transfers });
    }

    pub(super) fn status(&self) -> Status {
        self.vault.status()
    }

    /// What was told to the sender since the last call.
    pub(super) fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// What was told to the recipient since the last call.
    pub(super) fn heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }

    pub(super) fn downloads(&self) -> Vec<(Transfer, Download)> {
        let mut all: Vec<_> = self.downloads.iter().map(|(t, d)| (*t, d.clone())).collect();
        all.sort_by_key(|(transfer, _)| *transfer);
        all
    }

    pub(super) fn input(&mut self, input: Input) {
        self.inputs.push_back(input);
        self.run();
    }

    fn run(&mut self) {
        let mut turns = 0;
        while let Some(input) = self.inputs.pop_front() {
            turns += 1;
            assert!(turns < 2_000_000, "the vault and its peers never come to rest");
            for command in self.vault.handle(input, self.now) {
                self.execute(command);
            }
            self.held_max = self.held_max.max(self.vault.held);
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::ToSender(connection, frame) if connection == self.sender => self.tell(frame),
            Command::ToRecipient(connection, frame) if connection == self.recipient => self.hear(frame),
            Command::Stop(connection, transfer) if connection == self.sender => {
                let stopped = self.uploads.remove(&transfer).filter(|upload| !upload.ended);
                self.told.extend(stopped.map(|_| Told::Stopped));
            }
            Command::Open(connection, transfer, _) if connection == self.recipient => {
                assert!(self.downloads.contains_key(&transfer), "opened without a lease");
            }
            Command::Write(connection, transfer, bytes) if connection == self.recipient => {
                self.receive(connection, transfer, &bytes);
            }
            Command::Finish(connection, transfer, digest) if connection == self.recipient => {
                self.complete(connection, transfer, digest);
            }
            Command::Reset(connection, transfer) if connection == self.recipient => {
                self.heard.extend(self.downloads.remove(&transfer).map(|_| Heard::Reset));
            }
            Command::Close(connection, code) => self.closed.push((connection, code)),
            Command::Log(Record { kind, delivery, digest, .. }) => self.logged.push((kind, delivery, digest)),
            _ => {}
        }
    }

    fn tell(&mut self, frame: ToSender) {
        let told = match frame {
            ToSender::Grant { transfer, up_to } => {
                if let Some(upload) = self.uploads.get_mut(&transfer) {
                    assert!(up_to >= upload.granted, "a grant never goes back");
                    (upload.granted, upload.admitted) = (up_to, true);
                }
                self.send(transfer);
                return;
            }
            ToSender::Declined { transfer, code } => {
                self.uploads.remove(&transfer);
                Told::Declined(code)
            }
            ToSender::Known { transfer, state, .. } => {
                self.uploads.remove(&transfer);
                Told::Known(state)
            }
            ToSender::Deposited { .. } => Told::Deposited,
            ToSender::Collected { delivery, attempt } => Told::Collected(delivery.0[0], attempt.0),
            ToSender::Notice { delivery, attempt, kind } => Told::Notice(delivery.0[0], attempt.0, kind),
            ToSender::Settlement { delivery, attempt, .. } => Told::Settlement(delivery.0[0], attempt.0),
            ToSender::Prekey { bundle, .. } => Told::Prekey(bundle.map(Into::into)),
            ToSender::Answer { id, answer } => Told::Answer(id, answer.into()),
            ToSender::Unanswered { id, code } => Told::Unanswered(id, code),
            ToSender::LogHead(_) | ToSender::Logged(_) => unreachable!("the vault knows nothing of the log"),
        };
        self.told.push(told);
    }

    fn send(&mut self, transfer: Transfer) {
        let connection = self.sender;
        let Some(upload) = self.uploads.get_mut(&transfer) else { return };
        if !upload.admitted || upload.ended {
            return;
        }
        while upload.sent < upload.granted.min(upload.size).min(upload.pause_at) {
            let count = (upload.granted.min(upload.size).min(upload.pause_at) - upload.sent).min(60_000);
            let bytes = content(upload.sent, count);
            upload.sent += count;
            self.inputs.push_back(Input::Body { connection, transfer, bytes });
        }
        if upload.sent == upload.size && upload.pause_at > upload.size {
            upload.ended = true;
            self.inputs.push_back(Input::BodyEnd { connection, transfer, digest: Digest([5; 32]) });
        }
    }

    fn hear(&mut self, frame: ToRecipient) {
        let heard = match frame {
            ToRecipient::Offer { transfer, delivery, attempt, sender, route, .. } => {
                assert_eq!(sender, SENDER);
                let download = Download { delivery, attempt, route, received: 0, granted: None };
                self.downloads.insert(transfer, download);
                self.grant_ahead(transfer);
                Heard::Offer(delivery.0[0], attempt.0)
            }
            ToRecipient::Cancelled { delivery, attempt, .. } => Heard::Cancelled(delivery.0[0], attempt.0),
            ToRecipient::Acked { delivery, attempt, .. } => Heard::Acked(delivery.0[0], attempt.0),
            ToRecipient::Withdrawn { transfer } => {
                self.downloads.remove(&transfer);
                Heard::Withdrawn
            }
            ToRecipient::PrekeysLow { left, .. } => Heard::PrekeysLow(left),
            ToRecipient::SessionClosed { .. } => Heard::SessionClosed,
            ToRecipient::Ask { id, sender, within_ms, .. } => {
                assert_eq!(sender, SENDER);
                Heard::Ask(id, within_ms)
            }
            ToRecipient::LogHead(_) | ToRecipient::Logged(_) => {
                unreachable!("the vault knows nothing of the log")
            }
        };
        self.heard.push(heard);
    }

    /// Grants as this recipient does.
    pub(super) fn grant_ahead(&mut self, transfer: Transfer) {
        let Some(download) = self.downloads.get_mut(&transfer) else { return };
        let taking = self.taking.get(&download.route).copied().unwrap_or(Taking::Ahead(MIB));
        if let Taking::Ahead(window) = taking {
            let up_to = download.received + window;
            if download.granted < Some(up_to) {
                download.granted = Some(up_to);
                let frame = RecipientFrame::Grant { transfer, up_to };
                self.inputs.push_back(Input::FromRecipient { connection: self.recipient, frame });
            }
        }
    }

    fn receive(&mut self, connection: ConnectionId, transfer: Transfer, bytes: &Bytes) {
        let Some(download) = self.downloads.get_mut(&transfer) else { return };
        let count = bytes.len() as u64;
        assert!(
            download.received + count <= download.granted.unwrap_or(0),
            "more than the recipient granted"
        );
        assert!(**bytes == content(download.received, count), "other bytes than were sent");
        download.received += count;
        self.inputs.push_back(Input::Written { connection, transfer, bytes: count });
        self.grant_ahead(transfer);
    }

    fn complete(&mut self, connection: ConnectionId, transfer: Transfer, digest: Digest) {
        assert_eq!(digest, Digest([5; 32]));
        let Some(download) = self.downloads.get(&transfer) else { return };
        let (delivery, attempt) = (download.delivery, download.attempt);
        self.inputs.push_back(Input::Delivered { connection, transfer });
        if self.settles {
            self.downloads.remove(&transfer);
            let frame = RecipientFrame::Settlement {
                sender: SENDER,
                delivery,
                attempt,
                settlement: vec![RECIPIENT.0[0]; 50].into(),
                record: vec![].into(),
            };
            self.inputs.push_back(Input::FromRecipient { connection: self.recipient, frame });
        }
    }
}
