use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{BootId, random_bytes};
use serde_json::{Value, json};
use service::Tasks;
use service::admin::{Admin, Readiness};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use transport::{
    ConnectionId, ListenError, RelayConfig, RelayEvent, RelayLink, RelayListener, Timing, TlsIdentity,
};

use crate::proofs::LedgerCheck;
use crate::settings::Settings;
use crate::vault::{Command, Input, Status, Vault};

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
}

/// Why a relay stopped by itself, or never started.
#[derive(Debug, Error)]
pub enum RunError {
    /// QUIC cannot be served.
    #[error(transparent)]
    Listen(#[from] ListenError),
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
    let Settings { identity, policy, keys, .. } = settings;
    let boot = BootId(random_bytes());
    let config = RelayConfig {
        boot,
        hold_max: policy.limits.hold_max,
        lease: policy.limits.lease,
        identity: TlsIdentity::of(&identity),
        admission: Arc::new(keys.clone()),
        timing: Timing::default(),
    };
    let (listener, events) = RelayListener::start(listeners.quic, config)?;
    let address = listener.local_addr()?;
    info!(name = %identity.name(), %address, %boot, budget = policy.limits.budget, tenants = policy.tenants.len(), "relay listens");

    let (questions, asked) = mpsc::channel(QUESTIONS);
    let mut tasks = Tasks::new();
    let head = json!({ "role": "relay", "name": identity.name(), "boot": boot, "listen": address });
    let admin = admin(questions, head);
    let token = tasks.token();
    tasks.spawn("admin", admin.serve(listeners.admin, token));

    let vault = Vault::new(policy, LedgerCheck::new(keys), Instant::now());
    let mut relay = Relay { vault, links: HashMap::new(), events, asked };
    tokio::select! {
        () = relay.serve() => warn!("the QUIC listener ended by itself"),
        () = shutdown.cancelled() => {
            info!("stopping: no new bodies");
            relay.vault.drain();
            let _ = tokio::time::timeout(DRAIN, relay.serve_until_quiet()).await;
        }
    }
    let left = relay.vault.status();
    drop(relay);
    listener.stop().await;
    tasks.drain(DRAIN).await;
    info!(blobs = left.blobs, settlements = left.settlements_waiting, "relay stopped; what it held is gone");
    Ok(())
}

/// The loop around the vault, and its owner.
struct Relay {
    vault: Vault<LedgerCheck>,
    links: HashMap<ConnectionId, RelayLink>,
    events: mpsc::Receiver<RelayEvent>,
    asked: mpsc::Receiver<oneshot::Sender<Status>>,
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
        let deadline = self.vault.deadline();
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
            () = sleep_until(deadline) => self.handle(Input::Tick, Instant::now()),
            Some(question) = self.asked.recv() => {
                let _ = question.send(self.vault.status());
            }
        }
        true
    }

    fn event(&mut self, event: RelayEvent, now: Instant) {
        let input = match event {
            RelayEvent::Connected { peer, role, link } => {
                let connection = link.id();
                self.links.insert(connection, link);
                Input::Connected { connection, peer, role }
            }
            RelayEvent::Disconnected { connection } => {
                self.handle(Input::Disconnected { connection }, now);
                self.links.remove(&connection);
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
            | Command::Open(connection, _)
            | Command::Write(connection, _, _)
            | Command::Finish(connection, _, _)
            | Command::Reset(connection, _)
            | Command::Close(connection, _) => *connection,
        };
        let Some(link) = self.links.get_mut(&connection) else { return };
        match command {
            Command::ToSender(_, frame) => drop(link.to_sender(frame)),
            Command::ToRecipient(_, frame) => drop(link.to_recipient(frame)),
            Command::Stop(_, transfer) => link.stop(transfer),
            Command::Open(_, transfer) => link.open(transfer),
            Command::Write(_, transfer, bytes) => link.write(transfer, bytes),
            Command::Finish(_, transfer, digest) => link.finish(transfer, digest),
            Command::Reset(_, transfer) => link.reset(transfer),
            Command::Close(_, code) => link.close(code),
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn admin(questions: mpsc::Sender<oneshot::Sender<Status>>, head: Value) -> Admin {
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
                let vault = ask(&questions).await.and_then(|status| serde_json::to_value(status).ok());
                if let (Some(status), Some(Value::Object(vault))) = (status.as_object_mut(), vault) {
                    status.extend(vault);
                }
                status
            }
        },
    )
}

async fn ask(questions: &mpsc::Sender<oneshot::Sender<Status>>) -> Option<Status> {
    let (question, answer) = oneshot::channel();
    questions.send(question).await.ok()?;
    answer.await.ok()
}
