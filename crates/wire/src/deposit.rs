use base::Digest;

use crate::{DeclineCode, RelayState, ToSender, Transfer, Violation};

/// How a deposit ended, in the relay's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The relay has the whole body.
    Deposited,
    /// The relay does not take it.
    Declined(DeclineCode),
    /// An equal attempt was there already, or was settled meanwhile.
    Known {
        /// How far it is.
        state: RelayState,
        /// Digest of what the relay has.
        digest: Option<Digest>,
    },
}

/// A sender's view of one of its offers: what it may send, and how it ended.
#[derive(Clone, Copy, Debug)]
pub struct Deposit {
    transfer: Transfer,
    granted: Option<u64>,
    verdict: Option<Verdict>,
}

impl Deposit {
    /// An offer that was just made.
    pub fn offered(transfer: Transfer) -> Self {
        Self { transfer, granted: None, verdict: None }
    }

    /// Takes what the relay says about this transfer. Frames about something else are not for here.
    pub fn handle(&mut self, frame: &ToSender) -> Result<(), Violation> {
        let (transfer, verdict) = match frame {
            ToSender::Grant { transfer, up_to } => {
                if *transfer == self.transfer && self.verdict.is_none() {
                    // An offset, so that a repeated or late grant never takes anything back.
                    self.granted = self.granted.max(Some(*up_to));
                }
                (*transfer, None)
            }
            ToSender::Declined { transfer, code } => (*transfer, Some(Verdict::Declined(*code))),
            ToSender::Known { transfer, state, digest } => {
                (*transfer, Some(Verdict::Known { state: *state, digest: *digest }))
            }
            ToSender::Deposited { transfer } => {
                if self.granted.is_none() {
                    return Err(Violation::OutOfState(*transfer));
                }
                (*transfer, Some(Verdict::Deposited))
            }
            _ => return Err(Violation::OutOfState(self.transfer)),
        };
        if transfer != self.transfer {
            return Err(Violation::OutOfState(transfer));
        }
        self.verdict = self.verdict.or(verdict);
        Ok(())
    }

    /// True from the first grant on: the stream may be opened.
    pub fn admitted(&self) -> bool {
        self.granted.is_some()
    }

    /// Body bytes that may follow the `sent` ones.
    pub fn credit(&self, sent: u64) -> u64 {
        self.granted.unwrap_or(0).saturating_sub(sent)
    }

    /// How it ended, if it has.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }
}
