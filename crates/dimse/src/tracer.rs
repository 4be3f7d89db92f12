//! Who wants to see what passes on associations of an AE title, and shows it to them.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use base::{AeTitle, Hasher, Timestamp, Uid, random_bytes};
use serde::Serialize;
use tokio::sync::broadcast;

use crate::{
    describe::describe,
    framing::pdu_type,
    onlooker::{Onlooker, Seen, Way},
};

/// What waits for one who reads slowly; then the oldest is lost for him, which he is told.
const WAITING_MAX: usize = 512;

/// Items of one thing that are shown: of 128 contexts with some transfer syntaxes each, all.
const ITEMS_MAX: usize = 1000;
/// Bytes of one of them.
const ITEM_BYTES_MAX: usize = 160;

/// One thing that has passed, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Passed {
    /// When.
    pub at: Timestamp,
    /// Which association of this process.
    pub association: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// `received`, `sent` or `closed`.
    pub way: &'static str,
    /// Calling AE title.
    pub calling: AeTitle,
    /// Called AE title.
    pub called: AeTitle,
    /// What it is.
    pub what: String,
    /// What it says.
    pub items: Vec<String>,
}

impl Passed {
    /// Whether this title calls, or is called.
    pub fn is_of(&self, title: &str) -> bool {
        self.calling.as_str() == title || self.called.as_str() == title
    }
}

/// See the module. Clones are the same.
#[derive(Debug, Clone)]
pub struct Tracer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    passed: broadcast::Sender<Passed>,
    associations: AtomicU64,
    /// Of this process: who sees two lines knows whether they are of one instance, and not of which.
    salt: [u8; 32],
}

impl Default for Tracer {
    fn default() -> Self {
        let passed = broadcast::Sender::new(WAITING_MAX);
        Self(Arc::new(Inner { passed, associations: AtomicU64::new(0), salt: random_bytes() }))
    }
}

impl Tracer {
    /// What passes from now on. While nobody holds one of these, nothing is looked at.
    pub fn follow(&self) -> broadcast::Receiver<Passed> {
        self.0.passed.subscribe()
    }

    /// For a new connection to or from this peer.
    pub fn onlooker(&self, peer: SocketAddr) -> Arc<dyn Onlooker> {
        let association = self.0.associations.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Traced { tracer: self.clone(), association, peer, titles: OnceLock::new() })
    }
}

#[derive(Debug)]
struct Traced {
    tracer: Tracer,
    association: u64,
    peer: SocketAddr,
    /// Calling and called, once the A-ASSOCIATE-RQ has passed.
    titles: OnceLock<(AeTitle, AeTitle)>,
}

impl Onlooker for Traced {
    fn looks(&self) -> bool {
        self.tracer.0.passed.receiver_count() > 0
    }

    fn saw(&self, seen: Seen<'_>) {
        if let Seen::Pdu { pdu_type: pdu_type::ASSOCIATE_RQ, body, .. } = &seen
            && let Some(titles) = titles(body)
        {
            self.titles.get_or_init(|| titles);
        }
        let Some((calling, called)) = self.titles.get().filter(|_| self.looks()) else { return };
        let instance = |uid: &Uid| {
            let mut hasher = Hasher::new(b"trace");
            hasher.update(&self.tracer.0.salt);
            hasher.update(uid.as_str().as_bytes());
            format!("instance {}", hasher.finish().to_string().chars().take(8).collect::<String>())
        };
        let (what, items) = describe(&seen, &instance);
        let way = match seen {
            Seen::Pdu { way, .. } | Seen::Command { way, .. } | Seen::DataSet { way, .. } => match way {
                Way::Received => "received",
                Way::Sent => "sent",
            },
            Seen::End => "closed",
        };
        // Nobody listens any more.
        let _ = self.tracer.0.passed.send(Passed {
            at: Timestamp::now(),
            association: self.association,
            peer: self.peer,
            way,
            calling: calling.clone(),
            called: called.clone(),
            what,
            items: bounded(items),
        });
    }
}

/// What a peer sends before it is admitted must not fill our memory while somebody looks.
fn bounded(mut items: Vec<String>) -> Vec<String> {
    let count = items.len();
    items.truncate(ITEMS_MAX);
    for item in &mut items {
        item.truncate(item.floor_char_boundary(ITEM_BYTES_MAX));
        item.shrink_to_fit();
    }
    if count > ITEMS_MAX {
        items.push(format!("{} more", count - ITEMS_MAX));
    }
    items.shrink_to_fit();
    items
}

/// Calling and called AE title: fixed fields of the A-ASSOCIATE-RQ (PS3.8 Table 9-11).
fn titles(body: &[u8]) -> Option<(AeTitle, AeTitle)> {
    let title = |from: usize| {
        let bytes = body.get(from..from + 16)?;
        AeTitle::parse(std::str::from_utf8(bytes).ok()?.trim_matches(['\0', ' '])).ok()
    };
    Some((title(20)?, title(4)?))
}
