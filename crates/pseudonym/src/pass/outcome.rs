//! What becomes of an element that was read.

use dataset::{NewElement, Outcome, Place, Tag, Vr, WholeElement};

use super::{Pass, Reading};
use crate::date::{shift_date, shift_date_time};
use crate::mark;
use crate::plan::{Basic, PATIENT_NAME};
use crate::report::Done;
use crate::safe_private::SafePrivate;
use crate::scan::{text, vr};

impl Pass {
    /// What becomes of an element that was read, and what stands there then.
    pub(super) fn outcome(&mut self, place: &Place<'_>, element: WholeElement<'_>) -> Outcome {
        let (tag, value) = (element.header.tag, element.value());
        let vr = vr(element.header);
        let replaced = |bytes: Vec<u8>| Outcome::Replace(NewElement::Value { tag, vr, bytes });
        match std::mem::replace(&mut self.reading, Reading::Creator) {
            Reading::Check(_) | Reading::Note(_) => Outcome::Keep,
            Reading::Offsets => {
                // Native pixels have no table.
                if let Some(recode) = &mut self.recode {
                    recode.extended_offsets(value);
                }
                Outcome::Remove
            }
            Reading::Creator => self.creator(place, tag, value),
            Reading::Uid => {
                let written = self.uids(tag, value);
                self.report.note(tag, Done::Uid);
                // A private UID has no row in the dictionary that could give its representation.
                let vr = if tag.is_private() { Vr::UI } else { vr };
                Outcome::Replace(NewElement::Value { tag, vr, bytes: written })
            }
            Reading::Shift(basic) => match self.shifted(vr, &text(place, value)) {
                Some(written) => {
                    self.report.note(tag, Done::Shifted);
                    replaced(written.into_bytes())
                }
                None => self.fall_back(tag, vr, basic, value),
            },
            Reading::Clean(basic) => {
                let kept = self.plan.words.keep_of(&text(place, value));
                match place.characters.encode(&kept).filter(|kept| !kept.is_empty() && vr.has_characters()) {
                    Some(kept) => {
                        self.report.note(tag, Done::Cleaned);
                        replaced(kept)
                    }
                    None => self.fall_back(tag, vr, basic, value),
                }
            }
            Reading::Patient => {
                self.report.note(tag, Done::Pseudonym);
                let patient = if tag == PATIENT_NAME || place.path.is_empty() {
                    self.patient.clone()
                } else {
                    self.plan.profile.patient.nested(&self.issuer, &text(place, value))
                };
                replaced(self.pseudonyms.patient_id(&patient).into_bytes())
            }
            Reading::Accession => {
                let number = text(place, value);
                if number.is_empty() {
                    return Outcome::Keep;
                }
                self.report.note(tag, Done::Pseudonym);
                replaced(self.pseudonyms.accession(&self.patient.issuer, &number).into_bytes())
            }
            Reading::Hash => {
                let value = text(place, value);
                if value.is_empty() {
                    return Outcome::Keep;
                }
                self.report.note(tag, Done::Pseudonym);
                match vr.characters_max() {
                    Some(max) if max >= 16 && vr != Vr(*b"DS") && vr != Vr(*b"TM") && vr != Vr(*b"DT") => {
                        replaced(self.pseudonyms.text(&value).into_bytes())
                    }
                    _ => replaced(mark::dummy(tag, vr)),
                }
            }
        }
    }

    fn creator(&mut self, place: &Place<'_>, tag: Tag, value: &[u8]) -> Outcome {
        let name = text(place, value);
        match SafePrivate::get().creator(tag.0, &name) {
            Some(creator) => {
                if let Some(blocks) = self.blocks.get_mut(place.path.len()) {
                    blocks.insert((tag.0, tag.1), creator);
                }
                Outcome::Keep
            }
            None => {
                self.report.note(tag, Done::Removed);
                Outcome::Remove
            }
        }
    }

    fn fall_back(&mut self, tag: Tag, vr: Vr, basic: Basic, value: &[u8]) -> Outcome {
        match basic {
            Basic::Remove => {
                self.report.note(tag, Done::Removed);
                Outcome::Remove
            }
            Basic::Empty => {
                self.report.note(tag, Done::Emptied);
                Outcome::Replace(NewElement::Value { tag, vr, bytes: Vec::new() })
            }
            Basic::Dummy => {
                self.report.note(tag, Done::Dummied);
                Outcome::Replace(NewElement::Value { tag, vr, bytes: mark::dummy(tag, vr) })
            }
            Basic::Uid => {
                self.report.note(tag, Done::Uid);
                Outcome::Replace(NewElement::Value { tag, vr, bytes: self.uids(tag, value) })
            }
        }
    }

    fn uids(&self, tag: Tag, value: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(value);
        let each = |uid: &str| match uid.trim_matches([' ', '\0']) {
            "" => String::new(),
            uid => self.pseudonyms.uid_of(tag, uid),
        };
        text.split('\\').map(each).collect::<Vec<_>>().join("\\").into_bytes()
    }

    /// Whole days move dates; times of day stay as they are.
    fn shifted(&self, vr: Vr, value: &str) -> Option<String> {
        match &vr.0 {
            b"DA" => shift_date(value, self.days),
            b"DT" => shift_date_time(value, self.days),
            b"TM" => crate::date::is_time_like(value).then(|| value.to_owned()),
            _ => None,
        }
    }
}
