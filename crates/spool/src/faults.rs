//! The places where a crash or a failing disk would hurt most, by name. In a build for use each of them
//! is nothing; the crate's own tests make them abort the process or answer an error.

/// A place beside a durable effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Point {
    /// Creating the body file.
    BodyCreate,
    /// Writing to a body.
    BodyAppend,
    /// fdatasync of a body.
    BodySync,
    /// fsync of the body folder.
    DirSync,
    /// COMMIT of a transaction of this kind.
    Commit(Kind),
    /// Unlinking a body whose custody has ended.
    Unlink,
}

/// What a transaction is for, as far as crash tests tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A new object.
    Intake,
    /// A receipt.
    Receipt,
    /// The bodies of ended objects are gone.
    Purged,
    /// Any other change of a delivery.
    Change,
    /// How far a deposit is: nothing that custody rests on.
    Progress,
    /// A transaction of Storage Commitment: asked, or decided.
    Commitment,
    /// A transaction of Storage Commitment has ended: its record is erased.
    CommitmentEnded,
    /// gateway-in: attempt row.
    InboundAttempt,
    /// gateway-in: status row.
    InboundAnswer,
    /// gateway-in: receipt row.
    InboundSigned,
    /// gateway-in: the sender has the receipt.
    InboundAcked,
}

impl Kind {
    /// Whether its answer says that it survives a power failure. What does not is in the log's page cache:
    /// a killed process loses none of it, and what a power failure takes back is found and repaired at the
    /// next start (a deposit is made again under the same number, an ended body removed again, an
    /// acknowledged receipt settled again).
    pub(crate) const fn is_durable(self) -> bool {
        !matches!(self, Self::Progress | Self::Purged | Self::InboundAcked)
    }
}

#[cfg(not(test))]
mod inert {
    use std::io;

    use super::Point;

    /// Nothing.
    #[derive(Clone, Debug)]
    pub(crate) struct Faults;

    impl Faults {
        pub(crate) fn none() -> Self {
            Self
        }

        /// Before the effect.
        #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the tests' version fails")]
        pub(crate) fn before(&self, _: Point) -> io::Result<()> {
            Ok(())
        }

        /// After the effect.
        #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the tests' version fails")]
        pub(crate) fn after(&self, _: Point) -> io::Result<()> {
            Ok(())
        }
    }
}
#[cfg(not(test))]
pub(crate) use inert::Faults;
#[cfg(test)]
pub(crate) use live::{Action, Faults};

#[cfg(test)]
mod live {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::Point;

    /// What to do at a point.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Action {
        /// As kill -9 would.
        Abort,
        /// The effect answers this errno.
        Fail(i32),
    }

    #[derive(Debug)]
    struct Armed {
        point: Point,
        after: bool,
        /// At which passage, from 1; 0 is each of them.
        passage: u32,
        action: Action,
    }

    #[derive(Debug, Default)]
    struct State {
        armed: Vec<Armed>,
        trace: Vec<(Point, bool)>,
    }

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Faults(Arc<Mutex<State>>);

    impl Faults {
        pub(crate) fn none() -> Self {
            Self::default()
        }

        pub(crate) fn arm(&self, point: Point, after: bool, passage: u32, action: Action) {
            self.0.lock().unwrap().armed.push(Armed { point, after, passage, action });
        }

        pub(crate) fn disarm(&self) {
            self.0.lock().unwrap().armed.clear();
        }

        /// What was passed so far, in order; `true` is after.
        pub(crate) fn trace(&self) -> Vec<(Point, bool)> {
            self.0.lock().unwrap().trace.clone()
        }

        pub(crate) fn before(&self, point: Point) -> io::Result<()> {
            self.pass(point, false)
        }

        pub(crate) fn after(&self, point: Point) -> io::Result<()> {
            self.pass(point, true)
        }

        fn pass(&self, point: Point, after: bool) -> io::Result<()> {
            let mut state = self.0.lock().unwrap();
            state.trace.push((point, after));
            for armed in state.armed.iter_mut().filter(|one| one.point == point && one.after == after) {
                match armed.passage {
                    0 | 1 => match armed.action {
                        Action::Abort => std::process::abort(),
                        Action::Fail(errno) => return Err(io::Error::from_raw_os_error(errno)),
                    },
                    _ => armed.passage -= 1,
                }
            }
            Ok(())
        }
    }
}
