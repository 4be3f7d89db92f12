//! The second look at a header: each element is acted on, and each value that goes on is searched for traces of the patient.

mod outcome;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use base::Uid;
use dataset::{
    Content, Decision, Edit, EditError, ElementHeader, Fragment, NewElement, Outcome, Place, Tag, Vr,
    WholeElement,
};

use crate::content::{self, Part, Tree};
use crate::key::{PatientKey, Pseudonyms, is_well_known};
use crate::mark;
use crate::mask::Mask;
use crate::objects::{self, ObjectAction};
use crate::option::ProfileOption;
use crate::originals::ENCRYPTED_ATTRIBUTES;
use crate::plan::{Action, Basic, Plan};
use crate::recode::Recode;
use crate::refusal::Refusal;
use crate::report::{Done, Report};
use crate::safe_private::SafePrivate;
use crate::scan::{Facts, PIXEL_GROUP, VALUE_BYTES_MAX, text, vr};
use crate::traces::{Found, Searcher, Trace};

/// Groups of commands, file meta information and directories (PS3.5 §7.1): what stands there in a data set is nobody's.
const FIRST_GROUP: u16 = 0x0008;

/// Groups of overlay planes (PS3.5 §7.6), and the element that is one's picture.
const OVERLAYS: std::ops::RangeInclusive<u16> = 0x6000..=0x60FF;
const OVERLAY_DATA: u16 = 0x3000;
/// What a text object says.
const UNFORMATTED_TEXT: Tag = Tag(0x0070, 0x0006);

/// Extended Offset Table and its lengths (PS3.3 C.7.6.3.1.8).
const EXTENDED_OFFSETS: Tag = Tag(0x7FE0, 0x0001);
const EXTENDED_LENGTHS: Tag = Tag(0x7FE0, 0x0002);

pub(crate) struct Pass {
    plan: Arc<Plan>,
    pseudonyms: Arc<Pseudonyms>,
    patient: PatientKey,
    issuer: String,
    days: i64,
    searcher: Searcher,
    marks: VecDeque<(Tag, NewElement)>,
    /// Safe creators of private blocks, on each level.
    blocks: Vec<HashMap<(u16, u16), &'static str>>,
    /// Elements deeper than this stand in a sequence that has dummy values.
    dummy: Option<usize>,
    /// Elements deeper than this stand in a content tree.
    content: Option<usize>,
    /// Elements deeper than this are drawn on an image.
    graphics: Option<usize>,
    tree: Tree,
    reading: Reading,
    pixels: Pixels,
    /// What becomes black of the pixels.
    mask: Option<Mask>,
    /// A rule lets its content pass as it is.
    content_passes: bool,
    /// Where what becomes black is compressed.
    pub(crate) recode: Option<Recode>,
    found: Option<(Tag, Trace)>,
    pub(crate) report: Report,
}

/// What the first look found out.
struct Looked {
    patient: PatientKey,
    issuer: String,
    searcher: Searcher,
    content_passes: bool,
    originals: Option<NewElement>,
}

/// What is done with pixels.
#[derive(Default)]
pub(crate) struct PixelWork {
    /// What becomes black of them.
    pub(crate) mask: Option<Mask>,
    /// How they are decoded before.
    pub(crate) recode: Option<Recode>,
}

/// What is to be done with the element that is read.
#[derive(Clone, Debug)]
enum Reading {
    /// It stays, if nothing is found in it.
    Check(Vr),
    /// As `Check`; it also says what a content item is.
    Note(Vr),
    /// The owner of a private block.
    Creator,
    Uid,
    Shift(Basic),
    Clean(Basic),
    Patient,
    Accession,
    Hash,
    /// Where frames begin.
    Offsets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pixels {
    /// Not yet.
    Header,
    /// They pass, or have passed.
    Passing,
    /// The value that is masked has begun.
    Masking,
}

impl Pass {
    fn new(plan: Arc<Plan>, pseudonyms: Arc<Pseudonyms>, looked: Looked, pixels: PixelWork) -> Self {
        let Looked { patient, issuer, searcher, content_passes, originals } = looked;
        let PixelWork { mask, recode } = pixels;
        let days = pseudonyms.days(&patient, plan.profile.date_shift.0);
        let mut report = Report::new(&plan, pseudonyms.key_id(), mask.is_some());
        report.codes.retain(|code| !content_passes || objects::may_claim(*code));
        Self {
            marks: mark::elements(&plan, &report.codes, mask.is_some(), recode.as_ref(), originals).into(),
            mask,
            recode,
            plan,
            pseudonyms,
            patient,
            issuer,
            days,
            searcher,
            blocks: Vec::new(),
            dummy: None,
            content: None,
            graphics: None,
            tree: Tree::default(),
            reading: Reading::Creator,
            pixels: Pixels::Header,
            content_passes,
            found: None,
            report,
        }
    }

    /// Every element before the pixels has passed.
    pub(crate) fn header_has_passed(&self) -> bool {
        self.pixels != Pixels::Header
    }

    /// What of the patient was found, and where, when that was the reason of an error.
    pub(crate) fn found(&self) -> Option<(Tag, Trace)> {
        self.found
    }

    /// Pixels pass; what stands behind them is padding, signatures and whatever nobody expects there.
    fn behind_header(&mut self, header: &ElementHeader) -> Result<Decision, EditError> {
        if self.pixels == Pixels::Header {
            self.pixels = Pixels::Passing;
        }
        if let Some(mask) = &self.mask
            && header.tag.0 == PIXEL_GROUP
        {
            if self.recode.is_some() {
                return self.compressed(header);
            }
            let fits = header.length.bytes().is_some_and(|bytes| mask.fits(bytes.into()));
            return match header.tag {
                Tag::PIXEL_DATA
                    if fits && header.content == Content::Value && self.pixels == Pixels::Passing =>
                {
                    self.pixels = Pixels::Masking;
                    self.report.note(header.tag, Done::Masked);
                    Ok(Decision::Alter)
                }
                tag if tag <= Tag::PIXEL_DATA && !tag.is_group_length() => {
                    Err(EditError::Refused { tag, why: "has pixels that cannot be masked as they are" })
                }
                tag => Ok(self.removed(tag)),
            };
        }
        // Pixels and the offsets of their frames; what nobody knows, and what is a sequence, may hold anything.
        let is_known = header.tag.dictionary_vr().is_some() && header.content != Content::Sequence;
        if header.tag.0 == PIXEL_GROUP && header.tag <= Tag::PIXEL_DATA && is_known {
            return Ok(Decision::Keep);
        }
        Ok(self.removed(header.tag))
    }

    /// Pixels that are decoded on their way, and where their frames begin.
    fn compressed(&mut self, header: &ElementHeader) -> Result<Decision, EditError> {
        let (tag, recode) = (header.tag, self.recode.as_ref());
        match (tag, recode.and_then(Recode::bytes)) {
            (Tag::PIXEL_DATA, Some(bytes))
                if header.content == Content::Fragments && self.pixels == Pixels::Passing =>
            {
                self.pixels = Pixels::Masking;
                self.report.note(tag, Done::Masked);
                let is_wide = recode.is_some_and(|recode| recode.goes.bits_allocated > 8);
                Ok(Decision::Convert { vr: Vr(if is_wide { *b"OW" } else { *b"OB" }), bytes })
            }
            (EXTENDED_OFFSETS, _) if header.content == Content::Value => Ok(self.read(Reading::Offsets)),
            (EXTENDED_LENGTHS, _) => Ok(Decision::Remove),
            _ if tag <= Tag::PIXEL_DATA && !tag.is_group_length() => {
                Err(EditError::Refused { tag, why: "has pixels that cannot be masked as they are" })
            }
            _ => Ok(self.removed(tag)),
        }
    }

    fn private(&mut self, place: &Place<'_>, header: &ElementHeader) -> Decision {
        let tag = header.tag;
        if self.plan.options.has(ProfileOption::RetainSafePrivate)
            && self.dummy.is_none()
            && self.content.is_none()
        {
            if tag.is_private_creator() && header.content == Content::Value {
                self.reading = Reading::Creator;
                return Decision::Read { bytes_max: VALUE_BYTES_MAX };
            }
            let block = (tag.0, tag.1 >> 8);
            let creator = self.blocks.get(place.path.len()).and_then(|blocks| blocks.get(&block)).copied();
            if let Some(vr) = creator.and_then(|creator| SafePrivate::get().row(creator, tag)) {
                self.report.note(tag, Done::KeptPrivate);
                return match (header.content, header.vr.filter(|vr| *vr != Vr::UN).or(vr)) {
                    (Content::Sequence, _) => Decision::Descend,
                    (Content::Value, Some(Vr::UI)) => self.read(Reading::Uid),
                    (Content::Value, Some(vr)) => self.checked(vr),
                    (Content::Value, None) => self.checked(Vr::UN),
                    (Content::Fragments, _) => self.removed(tag),
                };
            }
        }
        self.removed(tag)
    }

    fn read(&mut self, reading: Reading) -> Decision {
        self.reading = reading;
        Decision::Read { bytes_max: VALUE_BYTES_MAX }
    }

    /// It stays, but text is looked at first.
    fn checked(&mut self, vr: Vr) -> Decision {
        if vr.is_text() || vr == Vr::UI || vr == Vr::UN {
            self.read(Reading::Check(vr))
        } else {
            Decision::Keep
        }
    }

    fn removed(&mut self, tag: Tag) -> Decision {
        self.report.note(tag, Done::Removed);
        Decision::Remove
    }

    fn sequence(&mut self, place: &Place<'_>, tag: Tag, action: Option<Action>) -> Decision {
        match action {
            None | Some(Action::Keep) => Decision::Descend,
            Some(Action::Content) => {
                self.report.note(tag, Done::Cleaned);
                self.content.get_or_insert(place.path.len());
                Decision::Descend
            }
            Some(Action::Graphics) => {
                self.report.note(tag, Done::Cleaned);
                self.dummy.get_or_insert(place.path.len());
                self.graphics.get_or_insert(place.path.len());
                Decision::Descend
            }
            Some(Action::Basic(Basic::Empty) | Action::Clean(Basic::Empty) | Action::Shift(Basic::Empty)) => {
                self.report.note(tag, Done::Emptied);
                Decision::Replace(NewElement::Sequence { tag, items: Vec::new() })
            }
            Some(
                Action::Basic(Basic::Dummy | Basic::Uid)
                | Action::Clean(Basic::Dummy)
                | Action::Shift(Basic::Dummy),
            ) => {
                self.report.note(tag, Done::Dummied);
                self.dummy.get_or_insert(place.path.len());
                Decision::Descend
            }
            // There is no text in a sequence itself, so that nothing of it can be cleaned, moved or replaced.
            Some(_) => self.removed(tag),
        }
    }

    fn value(&mut self, header: &ElementHeader, action: Option<Action>) -> Decision {
        let (tag, vr) = (header.tag, vr(header));
        match action {
            None | Some(Action::Keep) => self.checked(vr),
            Some(Action::Basic(Basic::Uid)) => self.read(Reading::Uid),
            Some(Action::Basic(basic)) => self.basic(tag, vr, basic),
            Some(Action::Shift(basic)) => self.read(Reading::Shift(basic)),
            Some(Action::Clean(basic)) => self.read(Reading::Clean(basic)),
            Some(Action::Patient) => self.read(Reading::Patient),
            Some(Action::Accession) => self.read(Reading::Accession),
            Some(Action::Hash) => self.read(Reading::Hash),
            // Only sequences are content trees, or graphics.
            Some(Action::Content | Action::Graphics) => self.removed(tag),
            Some(Action::Replace(value)) => {
                self.report.note(tag, Done::Replaced);
                Decision::Replace(NewElement::Value { tag, vr, bytes: value.into_bytes() })
            }
        }
    }

    fn basic(&mut self, tag: Tag, vr: Vr, basic: Basic) -> Decision {
        match basic {
            Basic::Remove => self.removed(tag),
            Basic::Uid => self.read(Reading::Uid),
            Basic::Empty => {
                self.report.note(tag, Done::Emptied);
                Decision::Replace(NewElement::Value { tag, vr, bytes: Vec::new() })
            }
            Basic::Dummy => {
                self.report.note(tag, Done::Dummied);
                Decision::Replace(NewElement::Value { tag, vr, bytes: mark::dummy(tag, vr) })
            }
        }
    }

    /// In a content tree, what is decided by value type and concept.
    fn content(&mut self, depth: usize, header: &ElementHeader) -> Option<Decision> {
        let (tag, vr) = (header.tag, vr(header));
        let plan = Arc::clone(&self.plan);
        let part = self.tree.decide(depth, tag, plan.options, &plan.profile.content)?;
        // A sequence where a value is expected may hold anything.
        if header.content != Content::Value && !matches!(part, Part::Replace(_)) {
            return Some(self.removed(tag));
        }
        Some(match part {
            Part::Check => self.checked(vr),
            Part::Note => self.read(Reading::Note(vr)),
            Part::Dummy => self.basic(tag, vr, Basic::Dummy),
            Part::Hash => self.read(Reading::Hash),
            Part::Replace(element) => {
                self.report.note(tag, Done::Dummied);
                Decision::Replace(element)
            }
        })
    }

    /// Of a report: nobody has verified what it has become.
    fn root(&mut self, tag: Tag) -> Option<Decision> {
        if !self.plan.options.has(ProfileOption::CleanStructuredContent) {
            return None;
        }
        match tag {
            content::VERIFICATION_FLAG => {
                self.report.note(tag, Done::Replaced);
                let bytes = b"UNVERIFIED".to_vec();
                Some(Decision::Replace(NewElement::Value { tag, vr: Vr(*b"CS"), bytes }))
            }
            content::VERIFYING_OBSERVER => Some(self.removed(tag)),
            // The title of a report is a concept as any other.
            content::CONCEPT_NAME => {
                self.content = Some(0);
                None
            }
            _ => None,
        }
    }

    /// In a sequence with dummy values: all that a person could have written is replaced.
    fn dummied(&mut self, header: &ElementHeader) -> Decision {
        let (tag, vr) = (header.tag, vr(header));
        match &vr.0 {
            b"UI" => self.read(Reading::Uid),
            b"CS" | b"DS" | b"IS" => self.checked(vr),
            _ if vr.is_text() => self.basic(tag, vr, Basic::Dummy),
            _ if vr.is_other() || vr == Vr::UN => self.removed(tag),
            _ => Decision::Keep,
        }
    }

    /// Dates and times of a report: what the options for dates say holds there, too.
    fn is_moved_in_content(&self, header: &ElementHeader, action: Option<&Action>) -> bool {
        self.content.is_some()
            && self.dummy.is_none()
            && matches!(&vr(header).0, b"DA" | b"DT" | b"TM")
            && matches!(action, Some(Action::Keep | Action::Shift(_)))
    }

    /// An overlay plane is nothing without its data, which only a rule keeps.
    fn is_of_removed_overlay(&self, tag: Tag) -> bool {
        OVERLAYS.contains(&tag.0)
            && !matches!(self.plan.action(Tag(tag.0, OVERLAY_DATA)), None | Some(Action::Keep))
    }

    /// Whether anything of the patient stands in what goes on.
    fn search(&mut self, place: &Place<'_>, tag: Tag, vr: Vr, value: &[u8]) -> Result<(), EditError> {
        // Digits of a class or a syntax are nobody's number.
        if vr == Vr::UI
            && text(place, value).split('\\').all(|uid| is_well_known(uid.trim_matches([' ', '\0'])))
        {
            return Ok(());
        }
        match self.searcher.search(value, vr, place.characters, &self.plan.clinical) {
            Found::Nothing => Ok(()),
            Found::Clinical => {
                self.report.clinical += 1;
                Ok(())
            }
            Found::Trace(trace) => {
                self.found = Some((tag, trace));
                Err(EditError::Refused { tag, why: "still has something of the patient in it" })
            }
        }
    }
}

impl Edit for Pass {
    fn opens_unknown(&self) -> bool {
        true
    }

    fn level(&mut self, place: &Place<'_>) {
        self.blocks.truncate(place.path.len());
        self.blocks.resize_with(place.path.len() + 1, HashMap::new);
        self.tree.level(place.path.len());
    }

    fn insert(&mut self, place: &Place<'_>, next: Option<Tag>) -> Result<Option<NewElement>, EditError> {
        if !place.path.is_empty() {
            return Ok(None);
        }
        let is_due = self.marks.front().is_some_and(|(tag, _)| next.is_none_or(|next| *tag <= next));
        Ok(if is_due { self.marks.pop_front().map(|(_, element)| element) } else { None })
    }

    fn element(&mut self, place: &Place<'_>, header: &ElementHeader) -> Result<Decision, EditError> {
        let (tag, depth) = (header.tag, place.path.len());
        if self.dummy.is_some_and(|from| depth <= from) {
            self.dummy = None;
        }
        if self.content.is_some_and(|from| depth <= from) {
            self.content = None;
        }
        if self.graphics.is_some_and(|from| depth <= from) {
            self.graphics = None;
        }
        // Also what stands there out of order: the header is on its way already.
        if depth == 0 && (tag.0 >= PIXEL_GROUP || self.header_has_passed()) {
            return self.behind_header(header);
        }
        if tag.0 < FIRST_GROUP {
            return Ok(self.removed(tag));
        }
        // Wrong as soon as anything changes, and without use (PS3.5 §7.2).
        if tag.is_group_length() {
            return Ok(Decision::Remove);
        }
        // Written anew.
        let is_recoded = || self.recode.as_ref().is_some_and(|recode| mark::is_recoded(tag, recode));
        let is_ours = || tag == ENCRYPTED_ATTRIBUTES && !self.plan.recipients.is_empty();
        let is_marked = || self.mask.is_some() && tag == mark::BURNED_IN || is_recoded() || is_ours();
        if depth == 0 && (mark::TAGS.contains(&tag) || is_marked()) {
            return Ok(Decision::Remove);
        }
        if tag.is_private() {
            return Ok(self.private(place, header));
        }
        if self.is_of_removed_overlay(tag) {
            return Ok(self.removed(tag));
        }
        if tag == objects::DOCUMENT && self.content_passes && header.content == Content::Value {
            self.report.note(tag, Done::KeptUnseen);
            return Ok(Decision::Keep);
        }
        let action = self.plan.action(tag).cloned();
        // What nobody knows may hold anything; pixels within an item are an icon's.
        let is_unknown = action.is_none() && tag.dictionary_vr().is_none();
        if is_unknown || header.content == Content::Fragments || tag.0 >= PIXEL_GROUP {
            return Ok(self.removed(tag));
        }
        if self.content.is_some()
            && let Some(decision) = self.content(depth, header)
        {
            return Ok(decision);
        }
        if depth == 0
            && let Some(decision) = self.root(tag)
        {
            return Ok(decision);
        }
        if tag == UNFORMATTED_TEXT && self.graphics.is_some() && header.content == Content::Value {
            return Ok(self.read(Reading::Clean(Basic::Dummy)));
        }
        let acts = !matches!(action, None | Some(Action::Keep | Action::Clean(_) | Action::Shift(_)));
        Ok(match header.content {
            Content::Sequence => self.sequence(place, tag, action),
            // Its items are hidden in another representation.
            _ if tag.is_sequence() => self.removed(tag),
            _ if self.is_moved_in_content(header, action.as_ref()) => self.value(header, action),
            _ if (self.dummy.is_some() || self.content.is_some()) && !acts => self.dummied(header),
            _ => self.value(header, action),
        })
    }

    fn alter(&mut self, bytes: &mut [u8]) {
        if let Some(mask) = &mut self.mask {
            mask.alter(bytes);
        }
    }

    fn convert(&mut self, piece: Fragment<'_>, out: &mut Vec<u8>) -> Result<(), EditError> {
        match (&mut self.recode, &mut self.mask) {
            (Some(recode), Some(mask)) => {
                recode.take(piece, mask, out).map_err(|why| EditError::Refused { tag: Tag::PIXEL_DATA, why })
            }
            _ => Ok(()),
        }
    }

    fn read(&mut self, place: &Place<'_>, element: WholeElement<'_>) -> Result<Outcome, EditError> {
        let tag = element.header.tag;
        let reading = self.reading.clone();
        let outcome = self.outcome(place, element);
        if let Reading::Note(_) = reading
            && !self.tree.note(place, tag, &text(place, element.value()))
        {
            return Err(EditError::Refused { tag, why: "is a value type that nobody understands" });
        }
        let (vr, value) = match (&reading, &outcome) {
            (Reading::Check(vr) | Reading::Note(vr), Outcome::Keep) => (*vr, element.value()),
            (Reading::Creator, Outcome::Keep) => (Vr::LO, element.value()),
            (Reading::Clean(_), Outcome::Replace(NewElement::Value { vr, bytes, .. })) => {
                (*vr, bytes.as_slice())
            }
            // Pseudonyms, dummies and dates of ours.
            _ => return Ok(outcome),
        };
        self.search(place, tag, vr, value)?;
        Ok(outcome)
    }
}

/// What [`Pass`] needs of the first look.
pub(crate) fn after(
    plan: &Arc<Plan>,
    pseudonyms: &Arc<Pseudonyms>,
    facts: Facts,
    (patient, goes): (PatientKey, &Uid),
    pixels: PixelWork,
) -> Result<Pass, Refusal> {
    let issuer = facts.issuer.into_revealed();
    let searcher = facts.traces.searcher().ok_or(Refusal::NoPatient)?;
    let originals = match plan.recipients.as_slice() {
        [] => None,
        recipients => Some(facts.originals.sealed(recipients, goes).map_err(|_| Refusal::NotEncrypted)?),
    };
    let rules = &plan.profile.object_rules;
    let content_passes = objects::action(rules, &facts.kind.sop_class) == Some(ObjectAction::Pass);
    let looked = Looked { patient, issuer, searcher, content_passes, originals };
    Ok(Pass::new(Arc::clone(plan), Arc::clone(pseudonyms), looked, pixels))
}
