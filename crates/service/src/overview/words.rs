//! Durations, sizes and counts as people read them.

use std::time::Duration;

/// Three digits apart by a narrow space, which no language takes for a decimal sign.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Bytes with two or three digits that matter: decimal units, as disks have them.
pub fn bytes(number: u64) -> String {
    let mut size = number as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"].iter();
    let mut unit = units.next();
    while size >= 999.5 {
        let Some(next) = units.next() else { break };
        (size, unit) = (size / 1000.0, Some(next));
    }
    let decimals = usize::from(size < 99.5 && number >= 1000);
    format!("{size:.decimals$}\u{a0}{}", unit.unwrap_or(&"B"))
}

/// The two largest units of a duration.
pub fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |a: u64, first: &str, b: u64, second: &str| match b {
        0 => format!("{a}\u{a0}{first}"),
        b => format!("{a}\u{a0}{first} {b}\u{a0}{second}"),
    };
    match seconds {
        0..60 => format!("{seconds}\u{a0}s"),
        60..600 => two(minutes, "min", seconds % 60, "s"),
        600..3600 => format!("{minutes}\u{a0}min"),
        3600..86_400 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_not_ambiguous() {
        let plain = |text: String| text.replace(['\u{a0}', '\u{202f}'], " ");
        for (number, want) in [(0, "0"), (999, "999"), (1000, "1 000"), (12_345_678, "12 345 678")] {
            assert_eq!(plain(count(number)), want);
        }
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_400, "99.4 kB"),
            (999_999, "1.0 MB"),
            (512_000_000, "512 MB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (number, want) in cases {
            assert_eq!(plain(bytes(number)), want);
        }
        let cases = [
            (0, "0 s"),
            (60, "1 min"),
            (75, "1 min 15 s"),
            (1800, "30 min"),
            (3660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ];
        for (seconds, want) in cases {
            assert_eq!(plain(age(Duration::from_secs(seconds))), want);
        }
    }
}
