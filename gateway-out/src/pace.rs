//! `rate = ["20 MB/s", "5 instances/s"]`: how fast one leg may go. It delays deposits only.
//!
//! What has a limit in bytes goes one body at a time, at that rate: many bodies side by side would each come so slowly
//! that the receiver gives them up.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service::config::{ByteSize, UnitError};
use tokio::time::{Instant, sleep_until};
use transport::{BodyPiece, BodySource};

/// A piece of a body is at most what may go within this time, so that the receiver never waits long for a byte.
const PIECE_TIME: Duration = Duration::from_millis(500);

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Bytes a second.
    Bytes(u64),
    /// Instances a second, in thousandths.
    Instances(u64),
}

/// Why a text is no rate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// In none of the forms.
    #[error("{0:?} is no rate; write one as in \"20 MB/s\", \"5 instances/s\" or \"90 instances/min\"")]
    Form(String),
    /// The size in it.
    #[error(transparent)]
    Size(#[from] UnitError),
    /// Nothing would ever pass.
    #[error("a rate below {0} would let nothing pass")]
    Small(&'static str),
}

/// Below this a body of a megabyte takes a quarter of an hour, and a link is taken for dead.
const BYTES_MIN: u64 = 1024;

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let form = || RateError::Form(text.to_owned());
        let (amount, per) = text.split_once('/').ok_or_else(form)?;
        let seconds = match per.trim() {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            _ => return Err(form()),
        };
        let amount = amount.trim();
        let instances = amount.strip_suffix("instances").or_else(|| amount.strip_suffix("instance"));
        if let Some(count) = instances {
            let count: u64 = count.trim().parse().map_err(|_| form())?;
            let thousandths = count.saturating_mul(1000) / seconds;
            return if thousandths > 0 {
                Ok(Self::Instances(thousandths))
            } else {
                Err(RateError::Small("an instance in 16 minutes"))
            };
        }
        let bytes = amount.parse::<ByteSize>()?.0 / seconds;
        if bytes < BYTES_MIN { Err(RateError::Small("1 KiB/s")) } else { Ok(Self::Bytes(bytes)) }
    }
}

/// Owes time: what was taken is paid for before more is taken. So a pause is never made up for by a burst.
#[derive(Debug, Clone, Copy)]
struct Debt {
    per_second_thousandths: u64,
    free_at: Option<Instant>,
}

impl Debt {
    fn new(per_second_thousandths: u64) -> Self {
        Self { per_second_thousandths, free_at: None }
    }

    fn is_free(&self, now: Instant) -> bool {
        self.free_at.is_none_or(|at| at <= now)
    }

    /// Takes this many, and owes the time for them from now on, or from when the earlier ones are paid.
    fn take(&mut self, count: u64, now: Instant) -> Instant {
        let thousandths = u128::from(count) * 1000;
        let nanos = thousandths * 1_000_000_000 / u128::from(self.per_second_thousandths.max(1));
        let from = self.free_at.map_or(now, |at| at.max(now));
        let free = from + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2));
        self.free_at = Some(free);
        free
    }
}

/// The limits of one leg; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    bytes: Option<Bytes>,
    // Never held across an await.
    instances: Option<Arc<Mutex<Debt>>>,
}

#[derive(Debug, Clone)]
struct Bytes {
    per_second: u64,
    // Never held across an await.
    debt: Arc<Mutex<Debt>>,
    /// One body at a time, in the order in which they ask.
    line: Arc<tokio::sync::Mutex<()>>,
}

/// The only body of a leg that may go now; the next one may when it is dropped.
#[derive(Debug)]
pub struct Line {
    limit: Option<(Bytes, tokio::sync::OwnedMutexGuard<()>)>,
}

fn lock(debt: &Mutex<Debt>) -> MutexGuard<'_, Debt> {
    debt.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pace {
    /// With these limits, of each kind the strictest.
    pub fn new(rates: &[Rate]) -> Self {
        let bytes = rates.iter().filter_map(|rate| match rate {
            Rate::Bytes(bytes) => Some(*bytes),
            Rate::Instances(_) => None,
        });
        let instances = rates.iter().filter_map(|rate| match rate {
            Rate::Instances(thousandths) => Some(*thousandths),
            Rate::Bytes(_) => None,
        });
        Self {
            bytes: bytes.min().map(|per_second| Bytes {
                per_second,
                debt: Arc::new(Mutex::new(Debt::new(per_second.saturating_mul(1000)))),
                line: Arc::default(),
            }),
            instances: instances.min().map(|rate| Arc::new(Mutex::new(Debt::new(rate)))),
        }
    }

    /// Whether there is any limit.
    pub fn is_limited(&self) -> bool {
        self.bytes.is_some() || self.instances.is_some()
    }

    /// Takes the place of one instance; the moment from when there is one, where there is none now.
    pub fn begin(&self, now: Instant) -> Result<(), Instant> {
        let Some(debt) = &self.instances else { return Ok(()) };
        let mut debt = lock(debt);
        match debt.free_at {
            Some(at) if !debt.is_free(now) => Err(at),
            _ => {
                debt.take(1, now);
                Ok(())
            }
        }
    }

    /// Waits until no other body of this leg is on its way.
    pub async fn line(&self) -> Line {
        let limit = match &self.bytes {
            Some(bytes) => Some((bytes.clone(), Arc::clone(&bytes.line).lock_owned().await)),
            None => None,
        };
        Line { limit }
    }
}

impl Line {
    /// The body, no faster than it may go.
    pub fn paced<B: BodySource>(&self, body: B) -> Paced<B> {
        Paced { body, bytes: self.limit.as_ref().map(|(bytes, _)| bytes.clone()) }
    }
}

/// A body that is read no faster than its leg may go.
#[derive(Debug)]
pub struct Paced<B> {
    body: B,
    bytes: Option<Bytes>,
}

impl<B: BodySource> BodySource for Paced<B> {
    async fn next(&mut self, max: usize) -> BodyPiece {
        let Some(bytes) = &self.bytes else { return self.body.next(max).await };
        let free_at = lock(&bytes.debt).free_at;
        if let Some(at) = free_at {
            sleep_until(at).await;
        }
        let share = u128::from(bytes.per_second) * PIECE_TIME.as_millis() / 1000;
        let max = max.min(usize::try_from(share).unwrap_or(usize::MAX));
        let piece = self.body.next(max).await;
        if let BodyPiece::Data(data) = &piece {
            lock(&bytes.debt).take(u64::try_from(data.len()).unwrap_or(u64::MAX), Instant::now());
        }
        piece
    }
}

#[cfg(test)]
mod tests {
    use base::Digest;
    use transport::WholeBody;

    use super::*;

    #[test]
    fn rates_are_read_with_their_units() {
        let form = |text: &str| Err(RateError::Form(text.to_owned()));
        let cases = [
            ("20 MB/s", Ok(Rate::Bytes(20_000_000))),
            ("6 MiB / min", Ok(Rate::Bytes(104_857))),
            ("5 instances/s", Ok(Rate::Instances(5000))),
            ("90 instances/min", Ok(Rate::Instances(1500))),
            ("1 instance/h", Err(RateError::Small("an instance in 16 minutes"))),
            ("20 MB", form("20 MB")),
            ("20 MB/day", form("20 MB/day")),
            ("many instances/s", form("many instances/s")),
            ("20 XB/s", Err(RateError::Size(UnitError::Unit("XB".to_owned())))),
            ("10/s", Err(RateError::Small("1 KiB/s"))),
            ("0 instances/s", Err(RateError::Small("an instance in 16 minutes"))),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Rate>(), want, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn instances_have_their_distance_and_no_burst_after_a_pause() {
        let pace = Pace::new(&[Rate::Instances(2000), Rate::Instances(4000)]);
        let begun = Instant::now();
        let mut times = Vec::new();
        for _ in 0..3 {
            while let Err(at) = pace.begin(Instant::now()) {
                sleep_until(at).await;
            }
            times.push(begun.elapsed().as_millis());
        }
        assert_eq!(times, [0, 500, 1000]);
        sleep_until(Instant::now() + Duration::from_secs(60)).await;
        assert!(pace.begin(Instant::now()).is_ok() && pace.begin(Instant::now()).is_err());
        assert!(Pace::default().begin(Instant::now()).is_ok() && !Pace::default().is_limited());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_the_time_that_its_rate_says_and_keeps_the_next_one_back() {
        let pace = Pace::new(&[Rate::Bytes(10_000)]);
        let body = || WholeBody::new([bytes::Bytes::from(vec![7; 20_000])], Digest::of(b""));
        let begun = Instant::now();
        let line = pace.line().await;
        assert!(futures_util::FutureExt::now_or_never(pace.line()).is_none());
        let mut paced = line.paced(body());
        let mut read = 0;
        while let BodyPiece::Data(piece) = paced.next(64 * 1024).await {
            assert!(piece.len() <= 5000);
            read += piece.len();
        }
        assert_eq!((read, begun.elapsed().as_millis()), (20_000, 2000));
        drop((paced, line));
        assert!(futures_util::FutureExt::now_or_never(pace.line()).is_some());
    }
}
