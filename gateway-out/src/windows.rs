//! `window = ["Mon-Fri 20:00-06:00", "Sat,Sun"]`: when deposits may begin. It delays deposits only; what the PACS is
//! answered never waits for it.
//!
//! A span that ends before it begins ends on the next day, and belongs to the day on which it begins. Spans are taken
//! by the clock on the wall: on the night of a change to or from summer time they are an hour shorter or longer.

use std::{str::FromStr, sync::OnceLock};

use base::Timestamp;
use jiff::{
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};

/// Where the system keeps its time zones.
pub const ZONES_DIR: &str = "/usr/share/zoneinfo";

const MINUTES_A_DAY: u16 = 24 * 60;

/// Spans of a week, and the time zone they are meant in.
#[derive(Debug, Clone)]
pub struct Windows {
    spans: Vec<Span>,
    zone: TimeZone,
}

/// Some days of the week, from one time to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From Monday.
    days: [bool; 7],
    /// Minutes after midnight.
    from: u16,
    /// Minutes after the same midnight: more than a day's where it ends on the next.
    to: u16,
}

/// Why a text is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Not in one of the forms.
    #[error("{0:?} is no window; write one as in \"Mon-Fri 20:00-06:00\", \"Sat,Sun\" or \"00:30-05:00\"")]
    Form(String),
    /// Not a day.
    #[error("{0:?} is no day; they are Mon, Tue, Wed, Thu, Fri, Sat, Sun")]
    Day(String),
    /// Not a time.
    #[error("{0:?} is no time; write 00:00 to 24:00")]
    Time(String),
    /// It begins when it ends.
    #[error("it begins when it ends; for whole days leave the time away")]
    Empty,
    /// Not a zone that this machine knows.
    #[error("{0:?} is no time zone of this machine; write one as in \"Europe/Amsterdam\", or \"local\"")]
    Zone(String),
}

/// Whether deposits may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Now.
    Open,
    /// From this moment on.
    Opens(Timestamp),
}

/// The host's time zone, as it was when the process began: files of the system cannot be read any more once it is
/// locked down.
pub fn host_zone() -> TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(TimeZone::system).clone()
}

impl Windows {
    /// Spans in this time zone: `local` is the host's.
    pub fn new(spans: Vec<Span>, zone: &str) -> Result<Self, WindowError> {
        let host = host_zone();
        let zone = match zone {
            "local" => host,
            name => TimeZone::get(name).map_err(|_| WindowError::Zone(name.to_owned()))?,
        };
        Ok(Self { spans, zone })
    }

    /// Whether deposits may begin.
    pub fn at(&self, now: Timestamp) -> Opening {
        let Some(today) = self.date(now) else { return Opening::Open };
        // One that began yesterday may go on; whatever opens, does so within a week and a day.
        let days = (-1..=8).filter_map(|days| today.checked_add(jiff::Span::new().days(days)).ok());
        let mut next: Option<Timestamp> = None;
        for (day, span) in days.flat_map(|day| self.spans.iter().map(move |span| (day, span))) {
            if !span.is_on(day.weekday()) {
                continue;
            }
            let (Some(from), Some(to)) = (self.moment(day, span.from), self.moment(day, span.to)) else {
                continue;
            };
            if from <= now && now < to {
                return Opening::Open;
            }
            if from > now {
                next = Some(next.map_or(from, |next| next.min(from)));
            }
        }
        // Without a span nothing is ever closed.
        next.map_or(Opening::Open, Opening::Opens)
    }

    /// A moment as the window's own clocks show it: `Mon 20:00`.
    pub fn clock(&self, at: Timestamp) -> String {
        let shown = instant(at).map(|at| at.to_zoned(self.zone.clone()).strftime("%a %H:%M").to_string());
        shown.unwrap_or_default()
    }

    fn date(&self, at: Timestamp) -> Option<Date> {
        Some(instant(at)?.to_zoned(self.zone.clone()).date())
    }

    /// A minute of a day, or of the next; where the clocks skip it, the first one after.
    fn moment(&self, day: Date, minutes: u16) -> Option<Timestamp> {
        let day = day.checked_add(jiff::Span::new().days(i64::from(minutes / MINUTES_A_DAY))).ok()?;
        let minutes = minutes % MINUTES_A_DAY;
        let time =
            Time::new(i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?, 0, 0).ok()?;
        let zoned = day.to_datetime(time).to_zoned(self.zone.clone()).ok()?;
        u64::try_from(zoned.timestamp().as_millisecond()).ok().map(Timestamp)
    }
}

fn instant(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()
}

impl Span {
    fn is_on(&self, day: Weekday) -> bool {
        let place = usize::try_from(day.to_monday_zero_offset()).ok();
        place.and_then(|place| self.days.get(place)).copied().unwrap_or(false)
    }
}

impl FromStr for Span {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let parts: Vec<_> = text.split_whitespace().collect();
        let (days, times) = match parts.as_slice() {
            [one] if one.contains(':') => (None, Some(*one)),
            [one] => (Some(*one), None),
            [days, times] => (Some(*days), Some(*times)),
            _ => return Err(WindowError::Form(text.to_owned())),
        };
        let days = days.map_or(Ok([true; 7]), parse_days)?;
        let Some(times) = times else { return Ok(Self { days, from: 0, to: MINUTES_A_DAY }) };
        let Some((from, to)) = times.split_once('-') else { return Err(WindowError::Form(text.to_owned())) };
        let (from, to) = (parse_time(from)?, parse_time(to)?);
        if from == to || from == MINUTES_A_DAY {
            return Err(WindowError::Empty);
        }
        Ok(Self { days, from, to: if to < from { to + MINUTES_A_DAY } else { to } })
    }
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

fn parse_days(text: &str) -> Result<[bool; 7], WindowError> {
    let day = |name: &str| {
        let found = DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
        found.ok_or_else(|| WindowError::Day(name.to_owned()))
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // From Friday to Monday is over the week's end.
        let count = (last + 7 - first) % 7;
        for n in 0..=count {
            if let Some(day) = days.get_mut((first + n) % 7) {
                *day = true;
            }
        }
    }
    Ok(days)
}

fn parse_time(text: &str) -> Result<u16, WindowError> {
    let wrong = || WindowError::Time(text.to_owned());
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let number = |digits: &str| {
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u16>().ok()).flatten().ok_or_else(wrong)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let time = hours * 60 + minutes;
    if minutes < 60 && time <= MINUTES_A_DAY { Ok(time) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let zoned: jiff::Timestamp = text.parse().unwrap();
        Timestamp(u64::try_from(zoned.as_millisecond()).unwrap())
    }

    fn windows(spans: &[&str], zone: &str) -> Windows {
        Windows::new(spans.iter().map(|span| span.parse().unwrap()).collect(), zone).unwrap()
    }

    #[test]
    fn spans_open_and_close_by_the_clock_on_the_wall() {
        // 2026-11-27 is a Friday.
        let cases: &[(&[&str], &str, &str, &str)] = &[
            (&["Mon-Fri 20:00-06:00"], "UTC", "2026-11-27T19:59:59Z", "2026-11-27T20:00:00Z"),
            (&["Mon-Fri 20:00-06:00"], "UTC", "2026-11-27T20:00:00Z", "open"),
            // The night from Friday to Saturday belongs to Friday.
            (&["Mon-Fri 20:00-06:00"], "UTC", "2026-11-28T05:59:59Z", "open"),
            (&["Mon-Fri 20:00-06:00"], "UTC", "2026-11-28T06:00:00Z", "2026-11-30T20:00:00Z"),
            (&["Mon-Fri 20:00-06:00", "Sat,Sun"], "UTC", "2026-11-28T06:00:00Z", "open"),
            (&["Fri-Mon 08:00-09:00"], "UTC", "2026-11-29T08:30:00Z", "open"),
            (&["Fri-Mon 08:00-09:00"], "UTC", "2026-11-30T09:00:00Z", "2026-12-04T08:00:00Z"),
            (&["Thu 22:00-24:00"], "UTC", "2026-11-27T00:00:00Z", "2026-12-03T22:00:00Z"),
            (&["00:30-05:00"], "Europe/Amsterdam", "2026-11-26T23:29:00Z", "2026-11-26T23:30:00Z"),
            (&["00:30-05:00"], "Europe/Amsterdam", "2026-11-26T23:30:00Z", "open"),
            // 29 March 2026, 02:00 to 03:00 does not exist there: what begins in it begins after it.
            (&["02:30-04:00"], "Europe/Amsterdam", "2026-03-29T00:59:00Z", "2026-03-29T01:30:00Z"),
            // 25 October 2026, 02:00 to 03:00 comes twice.
            (&["01:00-04:00"], "Europe/Amsterdam", "2026-10-25T01:30:00Z", "open"),
            (&[], "UTC", "2026-11-27T00:00:00Z", "open"),
        ];
        for (spans, zone, now, want) in cases {
            let want = if *want == "open" { Opening::Open } else { Opening::Opens(at(want)) };
            assert_eq!(windows(spans, zone).at(at(now)), want, "{spans:?} at {now}");
        }
        let evening = windows(&["20:00-06:00"], "Europe/Amsterdam");
        assert_eq!(evening.clock(at("2026-11-27T19:00:00Z")), "Fri 20:00");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        let form = |text: &str| WindowError::Form(text.to_owned());
        let time = |text: &str| WindowError::Time(text.to_owned());
        let cases = [
            ("", form("")),
            ("Mon 20:00", form("Mon 20:00")),
            ("Mon to Fri", form("Mon to Fri")),
            ("Mon-Fri 20:00-06:00 UTC", form("Mon-Fri 20:00-06:00 UTC")),
            ("Monday", WindowError::Day("Monday".to_owned())),
            ("Mon,", WindowError::Day(String::new())),
            ("20:00-25:00", time("25:00")),
            ("20:60-21:00", time("20:60")),
            ("8:00-9:00", time("8:00")),
            ("-1:00-02:00", time("")),
            ("20:00-24:01", time("24:01")),
            ("20:00-20:00", WindowError::Empty),
            ("24:00-06:00", WindowError::Empty),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Span>(), Err(want), "{text}");
        }
        let unknown = Windows::new(Vec::new(), "Mars/Olympus").unwrap_err();
        assert_eq!(unknown, WindowError::Zone("Mars/Olympus".to_owned()));
    }
}
