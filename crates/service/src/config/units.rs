use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// A number of bytes: `1048576`, `"64 MiB"`, `"2GB"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A duration with its unit: `"25s"`, `"1h 30min"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Why a text is not a size or a duration.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnitError {
    /// No number in front.
    #[error("a size starts with a whole number, as in \"64 MiB\"")]
    Number,
    /// Something else than a unit of bytes behind it.
    #[error(
        "unknown unit {0:?}; write a number of bytes, or one with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB"
    )]
    Unit(String),
    /// Beyond 2^64 bytes.
    #[error("the size exceeds what 64 bits hold")]
    TooLarge,
    /// No duration.
    #[error("a duration needs a unit, as in \"25s\", \"10min\" or \"1h 30min\"")]
    Duration,
}

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        if number.is_empty() {
            return Err(UnitError::Number);
        }
        let number: u64 = number.parse().map_err(|_| UnitError::TooLarge)?;
        let unit = unit.trim_start();
        let factor = match UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
            Some((_, factor)) => *factor,
            None if unit.is_empty() => 1,
            None => return Err(UnitError::Unit(unit.to_owned())),
        };
        number.checked_mul(factor).map(Self).ok_or(UnitError::TooLarge)
    }
}

impl fmt::Display for ByteSize {
    /// The largest unit that needs no fraction; it parses back to the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().filter(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        let (unit, factor) = exact.max_by_key(|(_, factor)| *factor).copied().unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / factor)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes or a size as in \"64 MiB\"")
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes)
                    .map(ByteSize)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Size)
    }
}

impl Span {
    /// So many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        humantime::parse_duration(text.trim()).map(Self).map_err(|_| UnitError::Duration)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&humantime::format_duration(self.0), f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration as in \"25s\"")
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Span, E> {
                Err(E::custom(UnitError::Duration))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Span, E> {
                Err(E::custom(UnitError::Duration))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Span, E> {
                Err(E::custom(UnitError::Duration))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_with_or_without_a_unit() {
        let cases = [
            ("0", Ok(0)),
            ("1048576", Ok(1 << 20)),
            ("64 MiB", Ok(64 << 20)),
            (" 64mib ", Ok(64 << 20)),
            ("500GB", Ok(500_000_000_000)),
            ("1 B", Ok(1)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("18446744073709551616", Err(UnitError::TooLarge)),
            ("18446744073709551615 kB", Err(UnitError::TooLarge)),
            ("", Err(UnitError::Number)),
            ("MiB", Err(UnitError::Number)),
            ("-1", Err(UnitError::Number)),
            ("1.5 GiB", Err(UnitError::Unit(".5 GiB".to_owned()))),
            ("1 M", Err(UnitError::Unit("M".to_owned()))),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<ByteSize>(), want.map(ByteSize), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [0, 1, 999, 1000, 1024, 1_000_000, 64 << 20, 3 << 40, 5_000_000_000_000, u64::MAX] {
            let shown = ByteSize(bytes).to_string();
            assert_eq!(shown.parse(), Ok(ByteSize(bytes)), "{shown}");
        }
        assert_eq!(ByteSize(64 << 20).to_string(), "64 MiB");
        for text in ["25s", "1h 30m", "0s", "1day"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        for text in ["25", "", "soon", "-1s"] {
            assert_eq!(text.parse::<Span>(), Err(UnitError::Duration), "{text:?}");
        }
    }
}
