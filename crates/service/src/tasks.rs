use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Owns every task of a daemon or of a part of it: each has a name, each is awaited, and each learns by one token that
/// it is time to end.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<Result<(), BoxError>>,
    names: HashMap<Id, String>,
    token: CancellationToken,
}

type BoxError = Box<dyn Error + Send + Sync>;

/// A task that ended.
#[derive(Debug)]
pub struct Ended {
    /// As it was spawned.
    pub name: String,
    /// How.
    pub end: End,
}

/// How a task ended.
#[derive(Debug)]
pub enum End {
    /// It returned `Ok`.
    Finished,
    /// It returned an error.
    Failed(BoxError),
    /// It panicked; the panic's text went where panics go, and may be missing here.
    Panicked(String),
    /// It was stopped from outside at an await.
    Aborted,
}

/// What [`Tasks::drain`] found.
#[derive(Debug, Default)]
pub struct Drained {
    /// The tasks that failed or panicked while ending.
    pub failed: Vec<Ended>,
    /// The tasks that did not end in time and were aborted.
    pub late: Vec<String>,
}

impl Tasks {
    /// Nothing running.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing running; ends when the parent's token is cancelled, too.
    pub fn child_of(token: &CancellationToken) -> Self {
        Self { token: token.child_token(), ..Self::default() }
    }

    /// The token by which the tasks learn that it is time to end.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// How many tasks have not been reported as ended.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// True when every task has been reported as ended.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Starts a task. How it ends is reported by [`Tasks::next_ended`] or [`Tasks::drain`].
    pub fn spawn<F, E>(&mut self, name: impl Into<String>, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let handle = self.set.spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name.into());
    }

    /// Waits until a task ends; `None` when there is none. Cancel safe.
    pub async fn next_ended(&mut self) -> Option<Ended> {
        let joined = self.set.join_next_with_id().await?;
        Some(self.ended(joined))
    }

    /// Reports a task that has ended already, without waiting.
    pub fn try_next_ended(&mut self) -> Option<Ended> {
        let joined = self.set.try_join_next_with_id()?;
        Some(self.ended(joined))
    }

    /// Tells all tasks to end, waits up to `deadline`, aborts what is left and says what that was.
    pub async fn drain(&mut self, deadline: Duration) -> Drained {
        self.token.cancel();
        let mut drained = Drained::default();
        let in_time = tokio::time::timeout(deadline, async {
            while let Some(ended) = self.next_ended().await {
                if ended.end.is_failure() {
                    drained.failed.push(ended);
                }
            }
        });
        if in_time.await.is_err() {
            drained.late = self.names.values().cloned().collect();
            drained.late.sort();
            self.set.shutdown().await;
            self.names.clear();
        }
        drained
    }

    fn ended(&mut self, joined: Result<(Id, Result<(), BoxError>), JoinError>) -> Ended {
        let (id, end) = match joined {
            Ok((id, Ok(()))) => (id, End::Finished),
            Ok((id, Err(error))) => (id, End::Failed(error)),
            Err(error) if error.is_panic() => (error.id(), End::Panicked(panic_text(error))),
            Err(error) => (error.id(), End::Aborted),
        };
        Ended { name: self.names.remove(&id).unwrap_or_default(), end }
    }
}

impl Drained {
    /// True when everything ended in time and well.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty() && self.late.is_empty()
    }
}

impl End {
    /// True unless the task finished by itself or was stopped on purpose.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Panicked(_))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.end {
            End::Finished => write!(f, "{} finished", self.name),
            End::Failed(error) => write!(f, "{} failed: {}", self.name, crate::exit::chain(error.as_ref())),
            End::Panicked(text) => write!(f, "{} panicked: {text}", self.name),
            End::Aborted => write!(f, "{} was aborted", self.name),
        }
    }
}

fn panic_text(error: JoinError) -> String {
    let payload = match error.try_into_panic() {
        Ok(payload) => payload,
        Err(error) => return error.to_string(),
    };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => {
            payload.downcast::<&'static str>().map_or_else(|_| "no text".to_owned(), |t| (*t).to_owned())
        }
    }
}

/// Waits for SIGTERM or SIGINT and returns its name.
pub async fn shutdown_signal() -> io::Result<&'static str> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_end_is_reported_with_the_name() {
        let mut tasks = Tasks::new();
        tasks.spawn("good", async { Ok::<(), io::Error>(()) });
        tasks.spawn("bad", async { Err(io::Error::other("disk gone")) });
        tasks.spawn("ugly", async {
            if true {
                panic!("broken invariant");
            }
            Ok::<(), io::Error>(())
        });
        let mut seen = Vec::new();
        while let Some(ended) = tasks.next_ended().await {
            seen.push((ended.to_string(), ended.end.is_failure()));
        }
        seen.sort();
        let want = [
            ("bad failed: disk gone", true),
            ("good finished", false),
            ("ugly panicked: broken invariant", true),
        ];
        assert_eq!(seen, want.map(|(text, failure)| (text.to_owned(), failure)));
        assert!(tasks.is_empty() && tasks.drain(Duration::ZERO).await.is_clean());
    }

    #[tokio::test]
    async fn draining_names_the_tasks_that_do_not_listen() {
        let mut tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn("listens", async move {
            token.cancelled().await;
            Ok::<(), io::Error>(())
        });
        tasks.spawn("deaf", std::future::pending::<Result<(), io::Error>>());
        let token = tasks.token();
        tasks.spawn("fails at the end", async move {
            token.cancelled().await;
            Err(io::Error::other("no"))
        });
        let drained = tasks.drain(Duration::from_millis(500)).await;
        assert_eq!(drained.late, ["deaf"]);
        assert_eq!(drained.failed.len(), 1);
        assert_eq!(drained.failed[0].name, "fails at the end");
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn a_child_ends_with_its_parent_and_not_the_other_way_round() {
        let parent = Tasks::new();
        let mut child = Tasks::child_of(&parent.token());
        child.drain(Duration::ZERO).await;
        assert!(!parent.token().is_cancelled());
        let child = Tasks::child_of(&parent.token());
        parent.token().cancel();
        assert!(child.token().is_cancelled());
    }
}
