//! Dates, moved by whole days (PS3.15 E.3.6): what lay so many days apart still does, and times of day stay.

use time::{Date, Duration, Month};

/// Moves each value of a DA (PS3.5 §6.2), also the older form with points, and ranges. `None` where one is no date.
pub(crate) fn shift_date(value: &str, days: i64) -> Option<String> {
    each(value, '\\', |one| each(one, '-', |date| shift_one_date(date, days)))
}

/// Moves each value of a DT, of whatever precision. Ranges are for queries only, and their hyphen would be a time zone's.
pub(crate) fn shift_date_time(value: &str, days: i64) -> Option<String> {
    each(value, '\\', |one| shift_one_date_time(one, days))
}

/// Whether it has the form of a DA, TM or DT, or of several. Such a value is no identifier, whatever its digits.
pub(crate) fn is_time_like(value: &str) -> bool {
    value
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b':' | b'+' | b'-' | b'\\' | b' ' | 0))
}

fn each(value: &str, separator: char, one: impl Fn(&str) -> Option<String>) -> Option<String> {
    let shifted: Option<Vec<String>> = value
        .split(separator)
        .map(|part| match part.trim_matches([' ', '\0']) {
            "" => Some(String::new()),
            part => one(part),
        })
        .collect();
    Some(shifted?.join(separator.encode_utf8(&mut [0; 4])))
}

fn shift_one_date(text: &str, days: i64) -> Option<String> {
    if let [year, month, day] = text.split('.').collect::<Vec<_>>().as_slice() {
        let date = moved(year, month, day, days)?;
        return Some(format!("{:04}.{:02}.{:02}", date.year(), u8::from(date.month()), date.day()));
    }
    let date = match text.len() {
        8 => moved(text.get(..4)?, text.get(4..6)?, text.get(6..)?, days)?,
        _ => return None,
    };
    Some(format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day()))
}

/// A year, or a year and a month, is moved from its first day, and keeps its precision.
fn shift_one_date_time(text: &str, days: i64) -> Option<String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(digits)?;
    let year = number.get(..4)?;
    if digits % 2 != 0 || digits > 14 || !is_time_like(rest) {
        return None;
    }
    let date = moved(year, number.get(4..6).unwrap_or("01"), number.get(6..8).unwrap_or("01"), days)?;
    let whole = format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day());
    Some(format!("{}{}{rest}", whole.get(..digits.min(8))?, number.get(8..).unwrap_or_default()))
}

fn moved(year: &str, month: &str, day: &str, days: i64) -> Option<Date> {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
    let month = Month::try_from(u8::try_from(number(month)?).ok()?).ok()?;
    let date =
        Date::from_calendar_date(i32::from(number(year)?), month, u8::try_from(number(day)?).ok()?).ok()?;
    let moved = date.checked_add(Duration::days(days))?;
    (1..=9999).contains(&moved.year()).then_some(moved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_move_and_keep_their_form() {
        let cases = [
            ("20200301", -1, Some("20200229")),
            ("20200301 ", -1, Some("20200229")),
            ("2020.03.01", -1, Some("2020.02.29")),
            ("20200301\\20210301", -1, Some("20200229\\20210228")),
            ("20200301-20200302", -1, Some("20200229-20200301")),
            ("-20200302", -1, Some("-20200301")),
            ("", -1, Some("")),
            ("20200230", -1, None),
            ("20190", -1, None),
            ("2019", -1, None),
            ("DOE^JANE", -1, None),
            ("00010101", -10, None),
        ];
        for (value, days, want) in cases {
            assert_eq!(shift_date(value, days).as_deref(), want, "{value}");
        }
    }

    #[test]
    fn times_move_with_their_day() {
        let cases = [
            ("20200301121314.123456+0100", Some("20200229121314.123456+0100")),
            ("20200301121314-0500", Some("20200229121314-0500")),
            ("2020030112", Some("2020022912")),
            ("20200301", Some("20200229")),
            ("202003", Some("202002")),
            ("2020", Some("2019")),
            ("2020+0100", Some("2019+0100")),
            ("20203", None),
            ("20200301DOE", None),
            ("202003011213145", None),
        ];
        for (value, want) in cases {
            assert_eq!(shift_date_time(value, -1).as_deref(), want, "{value}");
        }
    }

    proptest! {
        #[test]
        fn the_distance_of_two_dates_stays(a in 0_i64..40_000, b in 0_i64..40_000, days in -3650_i64..-1) {
            let date = |offset| Date::from_calendar_date(1920, Month::January, 1).unwrap() + Duration::days(offset);
            let text = |date: Date| format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day());
            let shifted = |offset| shift_date(&text(date(offset)), days).unwrap();
            prop_assert_eq!(shifted(a), text(date(a) + Duration::days(days)));
            prop_assert_eq!(shifted(b) > shifted(a), b > a);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}", days in any::<i16>()) {
            let _ = (shift_date(&text, days.into()), shift_date_time(&text, days.into()));
        }
    }
}
