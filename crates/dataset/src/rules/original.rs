//! Original Attributes Sequence (PS3.3 C.12.1.1.9): what an element was before it was changed.

use base::{Phi, Timestamp};

use crate::element::{Tag, Vr};
use crate::rewrite::{EditError, NewElement, Place};
use crate::rules::RuleError;
use crate::syntax::Encoding;

const MODIFIED_ATTRIBUTES: Tag = Tag(0x0400, 0x0550);
const MODIFICATION_DATE_TIME: Tag = Tag(0x0400, 0x0562);
const MODIFYING_SYSTEM: Tag = Tag(0x0400, 0x0563);
const SOURCE_OF_PREVIOUS_VALUES: Tag = Tag(0x0400, 0x0564);
const REASON: Tag = Tag(0x0400, 0x0565);

const DT: Vr = Vr(*b"DT");
const CS: Vr = Vr(*b"CS");

/// What is said of a change beside the previous values (PS3.3 Table C.12-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalAttributes {
    /// Attribute Modification DateTime (0400,0562), written in UTC.
    pub when: Timestamp,
    /// Modifying System (0400,0563): 1 to 64 characters.
    pub modifying_system: String,
    /// Source of Previous Values (0400,0564): who sent the instance, or nothing.
    pub source_of_previous_values: String,
}

/// Reason for the Attribute Modification (0400,0565): to fit another domain's identifiers, not to mend an error.
const COERCE: &str = "COERCE";

#[derive(Clone, Debug)]
pub(super) struct Originals {
    about: OriginalAttributes,
    /// Previous values: whole elements as they stood on the first level, empty ones for what was not there.
    previous: Vec<(Tag, Previous)>,
    encoding: Option<Encoding>,
    written: bool,
}

#[derive(Clone, Debug)]
enum Previous {
    Raw(Phi<Vec<u8>>),
    Absent(Vr),
}

impl Originals {
    pub(super) fn new(about: OriginalAttributes) -> Result<Self, RuleError> {
        let fits = |tag, text: &str, empty_allowed: bool| {
            let plain =
                text.chars().count() <= 64 && !text.contains('\\') && !text.chars().any(char::is_control);
            if plain && (empty_allowed || !text.trim().is_empty()) {
                Ok(())
            } else {
                Err(RuleError::Value { tag, vr: Vr::LO, max: 64 })
            }
        };
        fits(MODIFYING_SYSTEM, &about.modifying_system, false)?;
        fits(SOURCE_OF_PREVIOUS_VALUES, &about.source_of_previous_values, true)?;
        Ok(Self { about, previous: Vec::new(), encoding: None, written: false })
    }

    /// Something was changed and not yet written down.
    pub(super) fn is_due(&self) -> bool {
        !self.written && !self.previous.is_empty()
    }

    pub(super) fn record(
        &mut self,
        place: &Place<'_>,
        tag: Tag,
        vr: Vr,
        raw: Option<&[u8]>,
    ) -> Result<(), EditError> {
        self.encoding = Some(place.encoding);
        if self.written {
            return Err(EditError::OutOfOrder { tag });
        }
        match (raw, self.previous.iter_mut().find(|(known, _)| *known == tag)) {
            // What came out of order was there after all.
            (Some(raw), Some((_, previous @ Previous::Absent(_)))) => {
                *previous = Previous::Raw(Phi::new(raw.to_vec()));
            }
            // The first of several stands for all.
            (_, Some(_)) => {}
            (Some(raw), None) => self.previous.push((tag, Previous::Raw(Phi::new(raw.to_vec())))),
            (None, None) => self.previous.push((tag, Previous::Absent(vr))),
        }
        Ok(())
    }

    /// The item, once.
    pub(super) fn item(&mut self, place: &Place<'_>) -> Result<Option<Vec<NewElement>>, EditError> {
        if !self.is_due() {
            return Ok(None);
        }
        // Previous values are copied as they stood, which an old sequence of VR UN cannot hold.
        if self.encoding != Some(place.encoding) {
            return Err(no_room());
        }
        self.written = true;
        self.previous.sort_by_key(|(tag, _)| *tag);
        let element = |(tag, previous): &(Tag, Previous)| match previous {
            Previous::Raw(raw) => NewElement::Raw(raw.reveal().clone()),
            Previous::Absent(Vr::SQ) => NewElement::Sequence { tag: *tag, items: Vec::new() },
            Previous::Absent(vr) => NewElement::Value { tag: *tag, vr: *vr, bytes: Vec::new() },
        };
        let previous = self.previous.iter().map(element).collect();
        Ok(Some(vec![
            NewElement::Sequence { tag: MODIFIED_ATTRIBUTES, items: vec![previous] },
            place.text(MODIFICATION_DATE_TIME, DT, &date_time(self.about.when))?,
            place.text(MODIFYING_SYSTEM, Vr::LO, &self.about.modifying_system)?,
            place.text(SOURCE_OF_PREVIOUS_VALUES, Vr::LO, &self.about.source_of_previous_values)?,
            place.text(REASON, CS, COERCE)?,
        ]))
    }
}

/// An item's elements could not be encoded as those around the sequence are.
pub(super) fn no_room() -> EditError {
    let why = "has value representation UN, so that no item can be added to it";
    EditError::Refused { tag: Tag::ORIGINAL_ATTRIBUTES, why }
}

/// A DT in UTC (PS3.5 §6.2): `YYYYMMDDHHMMSS+0000`.
fn date_time(when: Timestamp) -> String {
    let seconds = when.0 / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{:02}+0000", second % 60)
}

/// Days since 1970-01-01 to year, month and day of the Gregorian calendar: counted in eras of 400 years that begin on
/// the first of March, so that a leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + 400 * era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        let cases = [
            (0, "19700101000000+0000"),
            (951_782_399, "20000228235959+0000"),
            (951_782_400, "20000229000000+0000"),
            (1_740_787_200, "20250301000000+0000"),
            (4_102_444_799, "20991231235959+0000"),
        ];
        for (seconds, want) in cases {
            assert_eq!(date_time(Timestamp(seconds * 1000 + 999)), want);
        }
    }
}
