//! Reading the configuration again while running: on SIGHUP, or when the admin port is asked to.

use std::io;

use base::Timestamp;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

/// Reloads that wait for the running one.
const WAITING_MAX: usize = 16;

/// What changed, or why everything stays as it was.
pub type Reloaded = Result<Value, String>;

/// How the last reload ended, for `status`.
#[derive(Clone, Debug)]
pub struct LastReload {
    at: Timestamp,
    refused: Option<String>,
}

/// Asks for the configuration to be read again.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<oneshot::Sender<Reloaded>>);

/// Who asked. A daemon takes one after the other and answers each.
#[derive(Debug)]
pub struct ReloadRequests {
    asked: mpsc::Receiver<oneshot::Sender<Reloaded>>,
    hangups: Option<Signal>,
}

/// One who waits for the answer; nobody does after a signal.
#[derive(Debug)]
pub struct ReloadRequest(Option<oneshot::Sender<Reloaded>>);

impl LastReload {
    /// It ended now.
    pub fn now(reloaded: &Reloaded) -> Self {
        Self { at: Timestamp::now(), refused: reloaded.as_ref().err().cloned() }
    }

    /// Why everything stayed as it was, if it did.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// When, and why everything stayed as it was, if it did.
    pub fn json(&self) -> Value {
        json!({ "at": crate::text::utc(self.at), "refused": self.refused })
    }
}

impl Reloads {
    /// Both ends. From here on SIGHUP does not end the process any more.
    pub fn new() -> io::Result<(Self, ReloadRequests)> {
        let (asking, asked) = mpsc::channel(WAITING_MAX);
        Ok((Self(asking), ReloadRequests { asked, hangups: Some(signal(SignalKind::hangup())?) }))
    }

    /// Both ends of something that only the admin port asks for.
    pub fn without_signal() -> (Self, ReloadRequests) {
        let (asking, asked) = mpsc::channel(WAITING_MAX);
        (Self(asking), ReloadRequests { asked, hangups: None })
    }

    /// Has the configuration read again, and says what came of it.
    pub async fn ask(&self) -> Reloaded {
        let (reply, answer) = oneshot::channel();
        let stopping = || "the daemon is stopping".to_owned();
        self.0.send(reply).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

impl ReloadRequests {
    /// The next who asks. Cancel safe.
    pub async fn next(&mut self) -> ReloadRequest {
        let hangup = async {
            match &mut self.hangups {
                Some(hangups) => hangups.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            signal = hangup => {
                info!("SIGHUP: the configuration is read again");
                if signal.is_none() {
                    self.hangups = None;
                }
                ReloadRequest(None)
            }
            asked = self.asked.recv() => match asked {
                Some(reply) => ReloadRequest(Some(reply)),
                None => std::future::pending().await,
            },
        }
    }
}

impl ReloadRequest {
    /// Says what came of it, in the log and to whoever waits.
    pub fn answer(self, reloaded: Reloaded) {
        match &reloaded {
            Ok(changed) => info!(%changed, "configuration taken over"),
            Err(reason) => error!(reason, "configuration refused; everything stays as it was"),
        }
        self.reply(reloaded);
    }

    /// Says it only to whoever waits.
    pub fn reply(self, answer: Reloaded) {
        if let Some(reply) = self.0 {
            let _ = reply.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_is_answered_one_after_the_other() {
        let (reloads, mut requests) = Reloads::new().unwrap();
        let both = async { tokio::join!(reloads.ask(), reloads.ask()) };
        let daemon = async {
            requests.next().await.answer(Ok(json!({ "tenants": 2 })));
            requests.next().await.answer(Err("x.toml:1:1: no".to_owned()));
        };
        let ((first, second), ()) = tokio::join!(both, daemon);
        assert_eq!(first, Ok(json!({ "tenants": 2 })));
        assert_eq!(second, Err("x.toml:1:1: no".to_owned()));
        drop(requests);
        assert_eq!(reloads.ask().await, Err("the daemon is stopping".to_owned()));
    }
}
