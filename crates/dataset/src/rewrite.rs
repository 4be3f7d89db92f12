//! Changes elements of a data set as it passes.

mod edit;
mod error;

use std::collections::BTreeMap;

use base::Uid;

use crate::charset::CharacterSet;
use crate::element::{Content, ElementHeader, Length, Tag, Vr};
use crate::limits::{CHANGED_TAGS_MAX, CHARACTER_SET_BYTES_MAX};
use crate::stream::{Extent, Pump, Stage};
use crate::syntax::{Encoding, Syntax};
use crate::token::{Event, Tokenizer};
use crate::write;

pub use edit::{Decision, Edit, EditError, Fragment, NewElement, Outcome, Place, Step, WholeElement};
pub use error::RewriteError;

/// Rewrites a data set as an [`Edit`] decides. Memory does not grow with the data set: an element is held only while
/// the edit reads it, within the edit's own limit. What is not acted on is copied as its original bytes.
///
/// A sequence that is descended into gets undefined length, and so do its items: their new lengths are not known when
/// their headers leave, and every reader must take both forms (PS3.5 §7.5). All others keep theirs.
///
/// Any split of the input gives the same output. One byte of a deflated data set can become a thousand: feed it in
/// pieces of PDV size.
pub struct Rewriter<E: Edit> {
    pump: Pump<Editor<E>>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// By tag, whatever the depth; at most [`CHANGED_TAGS_MAX`] of them.
    pub changes: BTreeMap<Tag, Change>,
    /// Changes to more tags than that.
    pub more: u64,
    /// The data set as it came.
    pub before: Extent,
    /// The data set as it went.
    pub after: Extent,
}

/// How often something was done to elements of one tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Another value stands in its place.
    pub replaced: u64,
    /// It was not there before, or an item was appended to it.
    pub inserted: u64,
    /// It is not there any more.
    pub removed: u64,
}

impl<E: Edit> Rewriter<E> {
    /// For a data set in this transfer syntax; `None` where its layout is not known.
    pub fn new(transfer_syntax: &Uid, edit: E) -> Option<Self> {
        let syntax = Syntax::of(transfer_syntax)?;
        let identity = edit.is_identity();
        Some(Self { pump: Pump::new(Editor::new(syntax.encoding, edit), syntax, syntax, identity) })
    }

    /// As [`Rewriter::new`], for whoever needs no digests of what came and went: they take more time than all else. It ends with
    /// [`Rewriter::finish_edit`].
    pub fn unmeasured(transfer_syntax: &Uid, edit: E) -> Option<Self> {
        Self::new(transfer_syntax, edit).map(|Self { pump }| Self { pump: pump.unmeasured() })
    }

    /// Takes the next bytes and appends to `out` what can go on. After an error each call gives that error again, and
    /// what went on before must not become a whole data set.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        self.pump.feed(bytes, out)
    }

    /// The edit.
    pub fn edit(&self) -> &E {
        &self.pump.stage.edit
    }

    /// The edit, without an end: what it has learned so far.
    pub fn into_edit(self) -> E {
        self.pump.stage.edit
    }

    /// As [`Rewriter::finish`], and gives the edit only.
    pub fn finish_edit(mut self, out: &mut Vec<u8>) -> Result<E, RewriteError> {
        self.pump.finish(out)?;
        Ok(self.pump.stage.edit)
    }

    /// Ends the data set; here truncation is found. Appends the rest to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(Rewritten, E), RewriteError> {
        let (before, after) = self.pump.finish(out)?;
        let Editor { edit, changes, more, .. } = self.pump.stage;
        Ok((Rewritten { changes, more, before, after }, edit))
    }
}

/// A level on which elements stand and are asked about.
struct Level {
    encoding: Encoding,
    characters: CharacterSet,
}

/// What happens to the bytes of the running element.
enum Mode {
    /// Between elements that are asked about.
    Asking,
    /// They are copied.
    Copying,
    /// They are copied, and the edit may change the value's.
    Altering,
    /// The edit writes others in their place.
    Converting,
    /// They are left out.
    Skipping,
    /// They are held for the edit.
    Reading { header: ElementHeader, bytes_max: usize },
}

#[derive(Clone, Copy)]
enum Done {
    Replaced,
    Inserted,
    Removed,
}

struct Editor<E> {
    /// `None` after the end.
    tokens: Option<Tokenizer>,
    edit: E,
    /// The data set, then an item for each step of the path that is inside one.
    levels: Vec<Level>,
    path: Vec<Step>,
    /// How the item headers of each step are encoded.
    sequences: Vec<Encoding>,
    mode: Mode,
    /// Sequences within the running element.
    nested: usize,
    held: Vec<u8>,
    /// The value of (0008,0005) while it passes.
    character_set: Option<Vec<u8>>,
    /// Nothing can be inserted on the first level any more.
    at_end: bool,
    /// The first element has come.
    begun: bool,
    changes: BTreeMap<Tag, Change>,
    more: u64,
}

impl<E: Edit> Stage for Editor<E> {
    type Error = RewriteError;

    fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let Some(mut tokens) = self.tokens.take() else { return Ok(()) };
        while let Some(event) = tokens.next(&mut bytes)? {
            self.event(event, out)?;
        }
        self.tokens = Some(tokens);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let Some(tokens) = self.tokens.take() else { return Ok(()) };
        let zeros = tokens.finish()?;
        if !self.begun {
            return Err(RewriteError::Empty);
        }
        self.end(out)?;
        out.resize(out.len() + zeros, 0);
        Ok(())
    }
}

impl<E: Edit> Editor<E> {
    fn new(encoding: Encoding, edit: E) -> Self {
        let tokens = Tokenizer::new(encoding);
        Self {
            tokens: Some(if edit.opens_unknown() { tokens.opening_unknown() } else { tokens }),
            edit,
            levels: vec![Level { encoding, characters: CharacterSet::default() }],
            path: Vec::new(),
            sequences: Vec::new(),
            mode: Mode::Asking,
            nested: 0,
            held: Vec::new(),
            character_set: None,
            at_end: false,
            begun: false,
            changes: BTreeMap::new(),
            more: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        if !matches!(self.mode, Mode::Asking) {
            return self.within(event, out);
        }
        match event {
            Event::Element(header) => self.element(&header, out),
            Event::ItemStart(length, raw) => {
                let encoding = self.sequences.last().copied().unwrap_or(Encoding::ExplicitLittle);
                match length {
                    Length::Undefined => out.extend_from_slice(raw.as_slice()),
                    Length::Defined(_) => write::item(out, Tag::ITEM, Length::Undefined, encoding),
                }
                let characters = self.levels.last().map(|level| level.characters.clone()).unwrap_or_default();
                self.levels.push(Level { encoding, characters });
                self.level();
                Ok(())
            }
            Event::ItemEnd(raw) => {
                self.insert(None, out)?;
                self.levels.pop();
                self.delimiter(raw.as_slice(), Tag::ITEM_DELIMITER, out);
                if let Some(step) = self.path.last_mut() {
                    step.item += 1;
                }
                Ok(())
            }
            Event::SequenceEnd(raw) => self.sequence_end(raw.as_slice(), out),
            Event::TrailingZeros(count) => {
                if self.begun {
                    self.end(out)?;
                }
                copy(Event::TrailingZeros(count), out);
                Ok(())
            }
            // Without meaning, and wrong after an item that now has a delimiter of its own.
            Event::StrayDelimiter(_) => Ok(()),
            Event::Value(_) | Event::ValueEnd | Event::FragmentStart(..) | Event::FragmentEnd => Ok(()),
        }
    }

    /// What belongs to an element that was decided about.
    fn within(&mut self, event: Event<'_>, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let ended = match event {
            Event::Element(header) => {
                self.nested += usize::from(header.content != Content::Value);
                false
            }
            Event::SequenceEnd(_) => {
                self.nested = self.nested.saturating_sub(1);
                self.nested == 0
            }
            Event::ValueEnd => self.nested == 0,
            _ => false,
        };
        match &self.mode {
            Mode::Copying => {
                copy(event, out);
                if let (Event::Value(piece), Some(value)) = (event, &mut self.character_set) {
                    let room = CHARACTER_SET_BYTES_MAX.saturating_sub(value.len());
                    value.extend_from_slice(piece.get(..room).unwrap_or(piece));
                }
            }
            Mode::Altering => {
                let at = out.len();
                copy(event, out);
                if let (Event::Value(_), Some(piece)) = (event, out.get_mut(at..)) {
                    self.edit.alter(piece);
                }
            }
            Mode::Converting => {
                let piece = match event {
                    Event::FragmentStart(..) => Some(Fragment::Begins),
                    Event::Value(bytes) => Some(Fragment::Bytes(bytes)),
                    Event::FragmentEnd => Some(Fragment::Ends),
                    Event::SequenceEnd(_) => Some(Fragment::Over),
                    _ => None,
                };
                piece.map_or(Ok(()), |piece| self.edit.convert(piece, out))?;
            }
            Mode::Reading { header, bytes_max } => {
                copy(event, &mut self.held);
                if self.held.len() > *bytes_max {
                    return Err(EditError::UnreadablyLong { tag: header.tag, max: *bytes_max }.into());
                }
            }
            Mode::Skipping | Mode::Asking => {}
        }
        if ended { self.element_end(out) } else { Ok(()) }
    }

    fn element(&mut self, header: &ElementHeader, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        if let Some(level) = self.levels.last_mut() {
            level.encoding = header.encoding;
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.level();
        }
        self.insert(Some(header.tag), out)?;
        let decision = self.ask(|edit, place| edit.element(place, header))?;
        self.nested = usize::from(header.content != Content::Value);
        match decision {
            Decision::Descend if header.content == Content::Sequence => {
                write::undefined(out, header);
                self.path.push(Step { sequence: header.tag, item: 0 });
                let own = if header.vr == Some(Vr::UN) { Encoding::ImplicitLittle } else { header.encoding };
                self.sequences.push(own);
                self.nested = 0;
            }
            Decision::Alter if header.content == Content::Value => {
                out.extend_from_slice(header.raw.as_slice());
                self.note(header.tag, Done::Replaced);
                self.mode = Mode::Altering;
            }
            Decision::Convert { vr, bytes } if header.content == Content::Fragments => {
                write::element(out, header.tag, vr, Length::Defined(bytes), header.encoding)
                    .ok_or(EditError::TooLong { tag: header.tag, max: write::SHORT_VALUE_BYTES_MAX })?;
                self.note(header.tag, Done::Replaced);
                self.mode = Mode::Converting;
            }
            Decision::Keep | Decision::Alter | Decision::Convert { .. } | Decision::Descend => {
                out.extend_from_slice(header.raw.as_slice());
                self.character_set = (header.tag == Tag::CHARACTER_SET).then(Vec::new);
                self.mode = Mode::Copying;
            }
            Decision::Remove => {
                self.note(header.tag, Done::Removed);
                self.mode = Mode::Skipping;
            }
            Decision::Replace(element) => {
                self.replace(header.tag, &element, out)?;
                self.mode = Mode::Skipping;
            }
            Decision::Read { bytes_max } => {
                self.held.clear();
                self.held.extend_from_slice(header.raw.as_slice());
                self.mode = Mode::Reading { header: *header, bytes_max };
            }
        }
        Ok(())
    }

    fn element_end(&mut self, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        if let Some(value) = self.character_set.take() {
            self.characters(&value);
        }
        let Mode::Reading { header, .. } = std::mem::replace(&mut self.mode, Mode::Asking) else {
            return Ok(());
        };
        let held = std::mem::take(&mut self.held);
        let element = WholeElement { header: &header, raw: &held };
        match self.ask(|edit, place| edit.read(place, element))? {
            Outcome::Keep => {
                if header.tag == Tag::CHARACTER_SET {
                    self.characters(element.value());
                }
                out.extend_from_slice(&held);
            }
            Outcome::Remove => self.note(header.tag, Done::Removed),
            Outcome::Replace(new) => self.replace(header.tag, &new, out)?,
        }
        self.held = held;
        Ok(())
    }

    fn sequence_end(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let Some((Step { sequence, .. }, encoding)) = self.path.last().copied().zip(self.sequences.pop())
        else {
            return Ok(());
        };
        let items = self.ask(|edit, place| edit.append(&Place { encoding, ..*place }, sequence))?;
        for item in items {
            edit::write_item(out, &item, encoding)?;
            self.note(sequence, Done::Inserted);
        }
        self.path.pop();
        match raw {
            [] => write::item(out, Tag::SEQUENCE_DELIMITER, Length::Defined(0), encoding),
            raw => out.extend_from_slice(raw),
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        match std::mem::replace(&mut self.at_end, true) {
            false => self.insert(None, out),
            true => Ok(()),
        }
    }

    /// Tells the edit that the innermost level begins.
    fn level(&mut self) {
        if let Some(Level { encoding, characters }) = self.levels.last() {
            self.edit.level(&Place { path: &self.path, characters, encoding: *encoding });
        }
    }

    fn insert(&mut self, next: Option<Tag>, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        while let Some(element) = self.ask(|edit, place| edit.insert(place, next))? {
            self.write(&element, out)?;
            if let Some(tag) = element.tag() {
                self.note(tag, Done::Inserted);
            }
        }
        Ok(())
    }

    fn replace(&mut self, tag: Tag, element: &NewElement, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        self.note(tag, Done::Replaced);
        self.write(element, out)
    }

    fn write(&mut self, element: &NewElement, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let encoding = self.levels.last().map_or(Encoding::ExplicitLittle, |level| level.encoding);
        if let NewElement::Value { tag: Tag::CHARACTER_SET, bytes, .. } = element {
            self.characters(bytes);
        }
        Ok(element.write(out, encoding)?)
    }

    fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut E, &Place<'_>) -> Result<T, EditError>,
    ) -> Result<T, EditError> {
        let default = Level { encoding: Encoding::ExplicitLittle, characters: CharacterSet::default() };
        let level = self.levels.last().unwrap_or(&default);
        let place = Place { path: &self.path, characters: &level.characters, encoding: level.encoding };
        question(&mut self.edit, &place)
    }

    fn characters(&mut self, value: &[u8]) {
        if let Some(level) = self.levels.last_mut() {
            level.characters = CharacterSet::from_value(value);
        }
    }

    fn delimiter(&self, raw: &[u8], tag: Tag, out: &mut Vec<u8>) {
        match raw {
            [] => {
                let encoding = self.sequences.last().copied().unwrap_or(Encoding::ExplicitLittle);
                write::item(out, tag, Length::Defined(0), encoding);
            }
            raw => out.extend_from_slice(raw),
        }
    }

    fn note(&mut self, tag: Tag, done: Done) {
        if !self.changes.contains_key(&tag) && self.changes.len() >= CHANGED_TAGS_MAX {
            self.more += 1;
            return;
        }
        let change = self.changes.entry(tag).or_default();
        match done {
            Done::Replaced => change.replaced += 1,
            Done::Inserted => change.inserted += 1,
            Done::Removed => change.removed += 1,
        }
    }
}

/// The bytes of an event.
fn copy(event: Event<'_>, out: &mut Vec<u8>) {
    match event {
        Event::Element(header) => out.extend_from_slice(header.raw.as_slice()),
        Event::Value(piece) => out.extend_from_slice(piece),
        Event::ItemStart(_, raw)
        | Event::FragmentStart(_, raw)
        | Event::ItemEnd(raw)
        | Event::SequenceEnd(raw)
        | Event::StrayDelimiter(raw) => out.extend_from_slice(raw.as_slice()),
        Event::TrailingZeros(count) => {
            out.resize(out.len() + usize::try_from(count).unwrap_or(0), 0);
        }
        Event::ValueEnd | Event::FragmentEnd => {}
    }
}
