use std::collections::HashMap;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{BootId, EpochId, Fingerprint, Timestamp, random_bytes};
use identity::{LogKey, LogPublic};
use serde_json::{Value, json};
use service::admin::{Admin, Readiness};
use service::own::{LiveOwn, Own};
use service::{Fixed, LastReload, ReloadRequest, Reloads, expiry, rotation};
use service::{Supervisor, Tasks};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use transport::{
    ConnectionId, ListenError, RelayConfig, RelayEvent, RelayLink, RelayListener, Timing, TlsIdentity,
};
use wire::{CloseCode, RecipientFrame, Role, SenderFrame, ToRecipient, ToSender};

use crate::admission::LiveKeys;
use crate::config::RevokedTable;
use crate::http;
use crate::log::{Found, LogDir, LogDirError, LogView, Telling};
use crate::logbook::{Logbook, Tell, Writer};
use crate::proofs::LedgerCheck;
use crate::reload::{self, Read};
use crate::settings::{Directory, Keys, Settings};
use crate::vault::{Command, Input, Policy, Vault};

/// Events handled before the other branches of the loop get their turn.
const EVENTS_PER_TURN: usize = 64;
/// Questions of the admin port that wait for the loop.
const QUESTIONS: usize = 16;
/// After SIGTERM: how long leases and settlements may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// The bound sockets of a relay.
#[derive(Debug)]
pub struct Listeners {
    /// For gateways.
    pub quic: UdpSocket,
    /// For health and status.
    pub admin: TcpListener,
    /// The service manager, which hears when all of it is served.
    pub supervisor: Supervisor,
}

/// Why a relay stopped by itself, or never started.
#[derive(Debug, Error)]
pub enum RunError {
    /// QUIC cannot be served.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The log directory.
    #[error(transparent)]
    LogDir(#[from] LogDirError),
    /// A socket cannot be used.
    #[error("socket")]
    Socket(#[from] std::io::Error),
}

/// Runs until `shutdown`, then lets what is under lease come to its end, for a few seconds.
pub async fn run(
    settings: Settings,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let Settings { own, log, log_dir, policy, keys, directory, source, admin_tls, fixed, .. } = settings;
    // Before anybody is served: where it cannot go on, there is no relay.
    let found = match log_dir {
        Some(dir) => Some(open_log(dir, &own).await?),
        None => None,
    };
    let keys = LiveKeys::new(keys);
    let Own { identity, log_key, .. } = own.clone();
    let boot = BootId(random_bytes());
    let config = RelayConfig {
        boot,
        hold_max: policy.limits.hold_max,
        lease: policy.limits.lease,
        identity: TlsIdentity::of(&identity),
        resets: TlsIdentity::of(&own.first),
        admission: Arc::new(keys.clone()),
        timing: Timing::default(),
    };
    let (listener, events) = RelayListener::start(listeners.quic, config)?;
    let address = listener.local_addr()?;
    info!(name = %identity.name(), %address, %boot, budget = policy.limits.budget, tenants = policy.tenants.len(), "relay listens");

    let (questions, asked) = mpsc::channel(QUESTIONS);
    let (look, views) = mpsc::channel(QUESTIONS);
    let mut tasks = Tasks::new();
    let head = json!({
        "role": "relay", "name": identity.name(), "id": own.id(), "boot": boot, "listen": address
    });
    let (reloads, requests) = Reloads::new()?;
    let (reread, reading) = mpsc::channel(1);
    if let Some(source) = source {
        tasks.spawn("reload", reload::run(source, requests, reread));
    }
    let earlier = earlier_log_key(&own);
    let own = LiveOwn::new(own);
    let watched = (keys.clone(), own.clone());
    let token = tasks.token();
    tasks.spawn("expiry", expiry::watch(move |now| alarms(&watched.0, &watched.1, now), token));
    let (watched, token) = ((keys.clone(), own.clone()), tasks.token());
    let moments = move || [watched.0.keys().moments(), watched.1.now().moments()].concat();
    tasks.spawn("rotation", rotation::watch(moments, reloads.clone(), token));
    let pages = http::Questions { log: look, head: head.clone(), status: questions.clone() };
    let admin = admin(questions, head)
        .with_tls(admin_tls)
        .with_reload(reloads)
        .with_pages(http::PATHS, http::answer(pages));
    let token = tasks.token();
    tasks.spawn("admin", admin.serve(listeners.admin, token));

    let vault = Vault::new(policy, LedgerCheck::new(keys.clone()), Instant::now());
    let mut log = match found {
        Some((dir, found)) => Logbook::restored(log_key, log, found, Writer::start(dir, &mut tasks)),
        None => Logbook::in_memory(log_key, log),
    };
    // It may have signed the last head with an earlier one.
    log.sign_with(own.now().log_key.clone(), earlier);
    let admitted = Admitted { own, keys, directory, reload: None, fixed };
    let mut relay =
        Relay { vault, log, listener, links: HashMap::new(), events, asked, views, reading, admitted };
    let supervisor = listeners.supervisor;
    supervisor.ready();
    tasks.spawn("supervisor", supervisor.clone().keep_informed::<RunError>(tasks.token()));
    tokio::select! {
        () = relay.serve() => warn!("the QUIC listener ended by itself"),
        () = shutdown.cancelled() => {
            info!("stopping: no new bodies");
            supervisor.stopping();
            relay.vault.drain();
            let _ = tokio::time::timeout(DRAIN, relay.serve_until_quiet()).await;
        }
    }
    let _ = tokio::time::timeout(DRAIN, relay.log.finish()).await;
    let left = relay.vault.status();
    let Relay { listener, .. } = relay;
    listener.stop().await;
    tasks.drain(DRAIN).await;
    info!(blobs = left.blobs, settlements = left.settlements_waiting, "relay stopped; what it held is gone");
    Ok(())
}

async fn open_log(dir: PathBuf, own: &Own) -> Result<(LogDir, Found), RunError> {
    let (key, earlier): (Arc<LogKey>, _) = (own.log_key.clone(), earlier_log_key(own));
    let open = move || LogDir::open(&dir, &key, earlier.as_ref(), EpochId(random_bytes()), Timestamp::now());
    Ok(tokio::task::spawn_blocking(open).await.map_err(std::io::Error::other)??)
}

/// The log key on our card that we do not sign with: not any more, or not yet.
pub(crate) fn earlier_log_key(own: &Own) -> Option<LogPublic> {
    let other = |key: &&LogPublic| *key != own.log_key.public();
    own.card.all_log_keys().map(|(key, _)| key).find(other).cloned()
}

/// The loop around the vault, and its owner.
struct Relay {
    vault: Vault<LedgerCheck>,
    log: Logbook,
    listener: RelayListener,
    links: HashMap<ConnectionId, RelayLink>,
    events: mpsc::Receiver<RelayEvent>,
    asked: mpsc::Receiver<oneshot::Sender<Value>>,
    views: mpsc::Receiver<oneshot::Sender<LogView>>,
    reading: mpsc::Receiver<Read>,
    admitted: Admitted,
}

/// Who is admitted, beside what the vault knows of it.
struct Admitted {
    own: LiveOwn,
    keys: LiveKeys,
    directory: Directory,
    reload: Option<LastReload>,
    fixed: Fixed,
}

impl Relay {
    async fn serve(&mut self) {
        while self.turn().await {}
    }

    async fn serve_until_quiet(&mut self) {
        while !self.vault.is_quiet() && self.turn().await {}
    }

    /// One turn; false when the listener has ended.
    async fn turn(&mut self) -> bool {
        let deadline = self.vault.deadline().into_iter().chain(self.log.deadline()).min();
        tokio::select! {
            event = self.events.recv() => {
                let Some(event) = event else { return false };
                // One reading of the clock is near enough for all that is here already.
                let now = Instant::now();
                self.event(event, now);
                for _ in 1..EVENTS_PER_TURN {
                    let Ok(event) = self.events.try_recv() else { break };
                    self.event(event, now);
                }
            }
            () = sleep_until(deadline) => {
                let now = Instant::now();
                self.handle(Input::Tick, now);
                let tells = self.log.turn(now);
                self.tell(tells);
            }
            kept = self.log.kept() => {
                let tells = self.log.take(kept, Instant::now());
                self.tell(tells);
            }
            Some(question) = self.asked.recv() => {
                let _ = question.send(self.status());
            }
            Some(question) = self.views.recv() => drop(question.send(self.log.view())),
            Some(read) = self.reading.recv() => self.take_over(read),
        }
        true
    }

    /// All of another configuration's tenants, or nothing of it. From here on no handshake knows the earlier keys, and
    /// the connections of whoever is not admitted any more are closed within this turn.
    fn take_over(&mut self, read: Read) {
        let Read { settings, revoked, request } = read;
        let settings = match settings {
            Ok(settings) => *settings,
            Err(reason) => return self.take_over_revocations((reason, revoked), request),
        };
        let Settings { own, mut policy, keys, directory, fixed, .. } = settings;
        if let Err(reason) = self.use_keys(own) {
            return self.take_over_revocations((reason, revoked), request);
        }
        let waiting = self.admitted.fixed.waiting(&fixed);
        // Limits hold for the life of the process: peers were told of them.
        policy.limits = self.vault.limits().clone();
        let mut changed = self.exchange(policy, keys, directory);
        if let Some(changed) = changed.as_object_mut() {
            changed.insert("count_from_the_next_start".to_owned(), json!(waiting));
        }
        let answer = Ok(changed);
        self.admitted.reload = Some(LastReload::now(&answer));
        request.answer(answer);
    }

    /// A configuration that cannot be used changes nothing, but that nobody stays in whom it revokes.
    fn take_over_revocations(
        &mut self,
        (reason, revoked): (String, Vec<RevokedTable>),
        request: ReloadRequest,
    ) {
        let refused = Err(reason.clone());
        self.admitted.reload = Some(LastReload::now(&refused));
        let mut policy = self.vault.policy().clone();
        let before = policy.tenants.len();
        let cards = self.admitted.keys.keys();
        let means = |peer: &Fingerprint| {
            cards.card(peer).and_then(|card| revoked.iter().find(|table| table.means(card)))
        };
        policy.tenants.retain(|peer, _| means(peer).is_none());
        if policy.tenants.len() == before {
            self.close_ended();
            return request.answer(refused);
        }
        let keys = Keys::new(&cards.cards().cloned().collect::<Vec<_>>(), &policy.tenants);
        let mut directory = std::mem::take(&mut self.admitted.directory);
        for entry in &mut directory {
            if let Some(table) = means(&entry.id) {
                entry.revoked.get_or_insert_with(|| table.at.clone());
            }
        }
        let mut changed = self.exchange(policy, keys, directory);
        error!(reason, %changed, "configuration refused, but for its revocations: these hold");
        if let Some(changed) = changed.as_object_mut() {
            changed.insert("refused".to_owned(), json!(reason));
        }
        request.reply(Ok(changed));
    }

    /// Takes over our own keys: those that are meant for this time.
    fn use_keys(&mut self, own: Own) -> Result<(), String> {
        if let Some(why) = self.admitted.own.refuses(&own) {
            return Err(why);
        }
        self.listener.show(&TlsIdentity::of(&own.identity)).map_err(|error| error.to_string())?;
        self.log.sign_with(own.log_key.clone(), earlier_log_key(&own));
        if self.admitted.own.exchange(own) {
            let own = self.admitted.own.now();
            let fingerprint = identity::fingerprint_text(&own.identity.fingerprint());
            info!(fingerprint, card = own.card.serial, "our new keys are used from now on");
        }
        Ok(())
    }

    /// Closes the connections of those who showed a key that has ended since; they come again with the one they have now.
    fn close_ended(&mut self) -> usize {
        let ended = self.links.values().filter(|link| !link.is_pinned(&self.admitted.keys));
        ended.map(|link| link.close(CloseCode::Changed)).count()
    }

    /// Says what changed.
    fn exchange(&mut self, policy: Policy, keys: Keys, directory: Directory) -> Value {
        let changed = self.admitted.keys.exchange(keys);
        let commands = self.vault.reconfigure(policy, &changed, Instant::now());
        let mut closed = commands.iter().filter(|command| matches!(command, Command::Close(..))).count();
        for command in commands {
            self.execute(command);
        }
        closed += self.close_ended();
        let revoked = directory.iter().filter(|entry| entry.revoked.is_some()).count();
        let keys = self.admitted.keys.keys();
        self.log.retain(|(peer, role)| keys.admits(peer, *role));
        let tenants = directory.len() - revoked;
        self.admitted.directory = directory;
        json!({ "tenants": tenants, "revoked": revoked, "connections_closed": closed })
    }

    fn status(&self) -> Value {
        let mut status = serde_json::to_value(self.vault.status()).unwrap_or_default();
        if let Value::Object(map) = &mut status {
            let own = self.admitted.own.now();
            map.insert("fingerprint".to_owned(), json!(own.identity.fingerprint()));
            map.insert("card".to_owned(), json!({ "serial": own.card.serial, "ends": own.card.not_after }));
            map.insert("admission".to_owned(), json!(self.admitted.directory));
            let reload = self.admitted.reload.as_ref().map(LastReload::json);
            let mut alarms = alarms(&self.admitted.keys, &self.admitted.own, Timestamp::now());
            alarms.extend(self.log.alarms());
            map.insert("alarms".to_owned(), json!(alarms));
            map.insert("last_reload".to_owned(), json!(reload));
            map.insert("log".to_owned(), self.log.json());
        }
        status
    }

    fn event(&mut self, event: RelayEvent, now: Instant) {
        let input = match event {
            RelayEvent::Connected { peer, role, link } => {
                let connection = link.id();
                self.links.insert(connection, link);
                self.handle(Input::Connected { connection, peer, role }, now);
                let tells = self.log.connected(connection, (peer, role));
                self.tell(tells);
                return;
            }
            RelayEvent::Disconnected { connection } => {
                self.handle(Input::Disconnected { connection }, now);
                self.links.remove(&connection);
                self.log.disconnected(connection);
                return;
            }
            RelayEvent::FromSender { connection, frame: SenderFrame::Witness { checkpoint } }
            | RelayEvent::FromRecipient { connection, frame: RecipientFrame::Witness { checkpoint } } => {
                return self.witnessed(connection, &checkpoint);
            }
            RelayEvent::FromSender { connection, frame: SenderFrame::Resubmit { .. } }
            | RelayEvent::FromRecipient { connection, frame: RecipientFrame::Resubmit { .. } }
                if !self.log.may_resubmit(connection, now) =>
            {
                return;
            }
            RelayEvent::FromSender { connection, frame } => Input::FromSender { connection, frame },
            RelayEvent::FromRecipient { connection, frame } => Input::FromRecipient { connection, frame },
            RelayEvent::Body { connection, transfer, bytes } => Input::Body { connection, transfer, bytes },
            RelayEvent::BodyEnd { connection, transfer, digest } => {
                Input::BodyEnd { connection, transfer, digest }
            }
            RelayEvent::BodyReset { connection, transfer } => Input::BodyReset { connection, transfer },
            RelayEvent::Written { connection, transfer, bytes } => {
                Input::Written { connection, transfer, bytes }
            }
            RelayEvent::Delivered { connection, transfer } => Input::Delivered { connection, transfer },
            RelayEvent::Refused { connection, transfer } => Input::Refused { connection, transfer },
        };
        self.handle(input, now);
    }

    fn handle(&mut self, input: Input, now: Instant) {
        for command in self.vault.handle(input, now) {
            self.execute(command);
        }
    }

    /// A connection that is gone, or is closed for not keeping up, reports its end by itself.
    fn execute(&mut self, command: Command) {
        let connection = match &command {
            Command::ToSender(connection, _)
            | Command::ToRecipient(connection, _)
            | Command::Stop(connection, _)
            | Command::Open(connection, ..)
            | Command::Write(connection, _, _)
            | Command::Finish(connection, _, _)
            | Command::Reset(connection, _)
            | Command::Close(connection, _) => *connection,
            Command::Log(_) => {
                if let Command::Log(record) = command {
                    let tells = self.log.record(record, Instant::now());
                    self.tell(tells);
                }
                return;
            }
        };
        let Some(link) = self.links.get_mut(&connection) else { return };
        match command {
            Command::ToSender(_, frame) => drop(link.to_sender(frame)),
            Command::ToRecipient(_, frame) => drop(link.to_recipient(frame)),
            Command::Stop(_, transfer) => link.stop(transfer),
            Command::Open(_, transfer, urgency) => link.open(transfer, urgency),
            Command::Write(_, transfer, bytes) => link.write(transfer, bytes),
            Command::Finish(_, transfer, digest) => link.finish(transfer, digest),
            Command::Reset(_, transfer) => link.reset(transfer),
            Command::Close(_, code) => link.close(code),
            Command::Log(..) => {}
        }
    }

    /// A gateway says which head of this log, or of an earlier one of ours, it believes.
    fn witnessed(&mut self, connection: ConnectionId, text: &str) {
        let keys = self.admitted.keys.keys();
        let tells = self.log.witnessed(connection, text, &keys);
        self.tell(tells);
    }

    fn tell(&mut self, tells: Vec<Tell>) {
        for (connection, role, telling) in tells {
            self.execute(match (role, telling) {
                (Role::Sender, Telling::Head(head)) => Command::ToSender(connection, ToSender::LogHead(head)),
                (Role::Sender, Telling::Logged(at)) => Command::ToSender(connection, ToSender::Logged(at)),
                (Role::Recipient, Telling::Head(head)) => {
                    Command::ToRecipient(connection, ToRecipient::LogHead(head))
                }
                (Role::Recipient, Telling::Logged(at)) => {
                    Command::ToRecipient(connection, ToRecipient::Logged(at))
                }
            });
        }
    }
}

/// Cards that end soon: ours, and those of admitted gateways.
fn alarms(keys: &LiveKeys, own: &LiveOwn, now: Timestamp) -> Vec<String> {
    expiry::all_alarms(&own.now(), keys.keys().cards(), now)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn admin(questions: mpsc::Sender<oneshot::Sender<Value>>, head: Value) -> Admin {
    let ready = questions.clone();
    Admin::new(
        move || {
            let questions = ready.clone();
            async move {
                match ask(&questions).await {
                    Some(_) => Readiness::Ready,
                    None => Readiness::NotReady("stopping".to_owned()),
                }
            }
        },
        move || {
            let (questions, mut status) = (questions.clone(), head.clone());
            async move {
                let vault = ask(&questions).await;
                if let (Some(status), Some(Value::Object(vault))) = (status.as_object_mut(), vault) {
                    status.extend(vault);
                }
                status
            }
        },
    )
}

async fn ask(questions: &mpsc::Sender<oneshot::Sender<Value>>) -> Option<Value> {
    let (question, answer) = oneshot::channel();
    questions.send(question).await.ok()?;
    answer.await.ok()
}
