//! In which order bodies of a route are handed over: that of their offers.

use tokio::sync::oneshot;

/// One route's place in the order of hand-overs: passed on when dropped.
#[derive(Debug)]
pub struct Turn {
    before: oneshot::Receiver<()>,
    mine: Option<oneshot::Sender<()>>,
}

impl Turn {
    /// Waits until everything offered earlier has been handed over or has failed.
    pub async fn come(&mut self) {
        // The sender is only ever dropped.
        let _ = (&mut self.before).await;
    }

    /// Lets the next one come.
    pub fn pass(&mut self) {
        self.mine = None;
    }
}

/// Hands out turns.
#[derive(Debug)]
pub(super) struct Turns(oneshot::Receiver<()>);

impl Turns {
    pub(super) fn new() -> Self {
        Self(oneshot::channel().1)
    }

    pub(super) fn next(&mut self) -> Turn {
        let (mine, after) = oneshot::channel();
        Turn { before: std::mem::replace(&mut self.0, after), mine: Some(mine) }
    }
}
