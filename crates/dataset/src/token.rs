mod error;

use crate::element::{Content, ElementHeader, Length, Raw, Tag, Vr};
use crate::limits::{SEQUENCE_DEPTH_MAX, TRAILING_ZEROS_MAX};
use crate::syntax::Encoding;

pub use error::{Structure, TokenError};

/// One step through a data set. The raw bytes of all events, in order, are the data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// An element begins; [`ElementHeader::content`] says what follows.
    Element(ElementHeader),
    /// A piece of the value, or of the fragment, that began last. Never empty.
    Value(&'a [u8]),
    /// The value is complete. Follows each [`Content::Value`] element, also an empty one.
    ValueEnd,
    /// An item of a sequence begins.
    ItemStart(Length, Raw),
    /// The item ends, by its length (then `Raw` is empty) or by its delimiter.
    ItemEnd(Raw),
    /// A fragment of encapsulated pixel data begins (the first is the offset table); values follow.
    FragmentStart(Length, Raw),
    /// The fragment is complete.
    FragmentEnd,
    /// The sequence or the fragments end, by length (then `Raw` is empty) or by delimiter.
    SequenceEnd(Raw),
    /// An item delimiter after an item of defined length: superfluous, seen in the wild, without meaning.
    StrayDelimiter(Raw),
    /// That many zero bytes after the last element.
    TrailingZeros(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sequence,
    Item,
    Fragments,
}

/// An open sequence or item.
#[derive(Clone, Copy, Debug)]
struct Level {
    kind: Kind,
    /// The sequence's tag, for an item too.
    tag: Tag,
    encoding: Encoding,
    /// Where it ends, if its length is defined.
    end: Option<u64>,
    /// Where it must have ended: the nearest `end`, its own or of what contains it.
    limit: u64,
    /// A sequence that came as UN, or an item of it before its first element: see [`Tokenizer::settle_encoding`].
    unsettled: bool,
}

/// What a header opens, apart from its extent.
struct Opened {
    kind: Kind,
    tag: Tag,
    encoding: Encoding,
    unsettled: bool,
}

impl Level {
    fn structure(&self) -> Structure {
        match self.kind {
            Kind::Sequence => Structure::Sequence(self.tag),
            Kind::Item => Structure::Item(self.tag),
            Kind::Fragments => Structure::Fragments(self.tag),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between elements, or with a part of a header in `head`.
    Header,
    /// Inside a value or fragment.
    Value { left: u32, tag: Tag, fragment: bool },
    /// Nothing but zeros may follow.
    Zeros { seen: u64 },
}

/// Cuts a data set into [`Event`]s, whatever the pieces it comes in. It holds one partial header and one
/// small record per open sequence, never a value.
///
/// ```
/// use dataset::{Encoding, Event, Tokenizer};
///
/// let mut tokens = Tokenizer::new(Encoding::ExplicitLittle);
/// let mut piece: &[u8] = b"\x10\x00\x20\x00LO\x02\x0042";
/// let mut values = Vec::new();
/// while let Some(event) = tokens.next(&mut piece)? {
///     if let Event::Value(bytes) = event {
///         values.extend_from_slice(bytes);
///     }
/// }
/// assert_eq!(values, b"42");
/// assert_eq!(tokens.finish()?, 0);
/// # Ok::<(), dataset::TokenError>(())
/// ```
#[derive(Debug)]
pub struct Tokenizer {
    encoding: Encoding,
    /// Of the next byte that is not in `head` and not in an event yet, minus the bytes in `head`.
    offset: u64,
    head: Raw,
    state: State,
    levels: Vec<Level>,
    opens_unknown: bool,
}

impl Tokenizer {
    /// Starts at the first byte of a data set, which is not deflated.
    pub fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            offset: 0,
            head: Raw::default(),
            state: State::Header,
            levels: Vec::with_capacity(2 * SEQUENCE_DEPTH_MAX),
            opens_unknown: false,
        }
    }

    /// Takes elements of VR UN and defined length for sequences where the dictionary says that they are. Somebody
    /// who did not know the tag wrote them so (PS3.5 §6.2.2); one that holds no items becomes an error.
    #[must_use]
    pub fn opening_unknown(mut self) -> Self {
        self.opens_unknown = true;
        self
    }

    /// The next event, taking its bytes from the front of `input`. `None` when more input is needed: so call
    /// it until then for each piece. After an error the tokenizer has no more to say.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, TokenError> {
        match self.state {
            State::Value { left, tag, fragment } => return Ok(self.value(left, tag, fragment, input)),
            State::Zeros { seen } => return self.zeros(seen, input),
            State::Header => {}
        }
        if let Some(event) = self.end_by_length() {
            return Ok(Some(event));
        }
        if !self.fill_head(input)? {
            return Ok(None);
        }
        match self.levels.last().copied() {
            Some(level) if level.kind != Kind::Item => self.between_items(level),
            level => self.element(level),
        }
        .map(Some)
    }

    /// Ends the data set. Returns how many zero bytes (fewer than a header) followed the last element and
    /// are in no event.
    pub fn finish(self) -> Result<usize, TokenError> {
        let offset = self.offset + self.head.len() as u64;
        let inside = match (self.state, self.levels.last()) {
            (State::Zeros { .. }, _) => return Ok(0),
            (State::Value { tag, fragment, .. }, _) => {
                if fragment {
                    Structure::Fragment(tag)
                } else {
                    Structure::Value(tag)
                }
            }
            (State::Header, None) if self.head.as_slice().iter().all(|byte| *byte == 0) => {
                return Ok(self.head.len());
            }
            (State::Header, Some(level)) if self.head.len() == 0 => level.structure(),
            (State::Header, _) => Structure::Header,
        };
        Err(TokenError::Truncated { offset, inside })
    }

    /// Bytes of the data set that are in events already.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn value<'a>(&mut self, left: u32, tag: Tag, fragment: bool, input: &mut &'a [u8]) -> Option<Event<'a>> {
        if left == 0 {
            self.state = State::Header;
            return Some(if fragment { Event::FragmentEnd } else { Event::ValueEnd });
        }
        if input.is_empty() {
            return None;
        }
        let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let (piece, rest) = input.split_at(take);
        *input = rest;
        self.offset += take as u64;
        // `take` came from `left`, so this neither fails nor saturates.
        let left = left.saturating_sub(u32::try_from(take).unwrap_or(u32::MAX));
        self.state = State::Value { left, tag, fragment };
        Some(Event::Value(piece))
    }

    fn zeros<'a>(&mut self, seen: u64, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, TokenError> {
        let count = input.iter().take_while(|byte| **byte == 0).count() as u64;
        if count < input.len() as u64 || seen + count > TRAILING_ZEROS_MAX {
            let offset = self.offset + count.min(TRAILING_ZEROS_MAX - seen);
            return Err(TokenError::TrailingBytes { offset });
        }
        *input = &[];
        self.offset += count;
        self.state = State::Zeros { seen: seen + count };
        Ok((count > 0).then_some(Event::TrailingZeros(count)))
    }

    fn end_by_length<'a>(&mut self) -> Option<Event<'a>> {
        let level = self.levels.last()?;
        if level.end != Some(self.offset) || self.head.len() > 0 {
            return None;
        }
        let item = level.kind == Kind::Item;
        self.levels.pop();
        Some(if item { Event::ItemEnd(Raw::default()) } else { Event::SequenceEnd(Raw::default()) })
    }

    /// Completes `head`: 8 bytes, or 12 for a long explicit header. False when the input is used up.
    fn fill_head(&mut self, input: &mut &[u8]) -> Result<bool, TokenError> {
        if !self.head.fill(8, input) {
            return Ok(false);
        }
        self.settle_encoding();
        let encoding = self.level_encoding();
        let tag = self.head_tag(encoding);
        let vr = Vr(self.head.pair(4));
        let long =
            encoding.is_explicit() && tag.0 != Tag::ITEM.0 && vr.is_plausible() && vr.has_long_length();
        if long && !self.head.fill(12, input) {
            return Ok(false);
        }
        self.check_room(tag, self.head.len() as u64)?;
        Ok(true)
    }

    /// UN of undefined length is a sequence that somebody converted from implicit VR little endian without
    /// knowing it, and it stays in that encoding (PS3.5 §6.2.2). Writers from before that rule left explicit VR
    /// inside, so an item's first element decides: no implicit length looks like a VR, unless by a rare chance.
    fn settle_encoding(&mut self) {
        let (vr, reserved) = (Vr(self.head.pair(4)), self.head.pair(6));
        let is_item = self.head_tag(Encoding::ImplicitLittle).0 == Tag::ITEM.0;
        let explicit = !is_item && vr.is_known() && (!vr.has_long_length() || reserved == [0, 0]);
        if let Some(level) =
            self.levels.last_mut().filter(|level| level.unsettled && level.kind == Kind::Item)
        {
            level.unsettled = false;
            level.encoding = if explicit { Encoding::ExplicitLittle } else { Encoding::ImplicitLittle };
        }
    }

    /// A header where elements stand: on the first level or in an item.
    fn element<'a>(&mut self, level: Option<Level>) -> Result<Event<'a>, TokenError> {
        let encoding = level.map_or(self.encoding, |level| level.encoding);
        let own = encoding;
        let (raw, offset, tag) = (self.head, self.offset, self.head_tag(encoding));
        if tag.0 == Tag::ITEM.0 {
            return self.delimiter_among_elements(level, tag);
        }
        if level.is_none() && raw.as_slice().iter().all(|byte| *byte == 0) {
            let count = self.take_head().len() as u64;
            self.state = State::Zeros { seen: count };
            return Ok(Event::TrailingZeros(count));
        }
        let (vr, length) = self.vr_and_length(encoding, tag)?;
        let content = self.content(tag, vr, length).ok_or(TokenError::UndefinedLength { offset, tag })?;
        if let Length::Defined(bytes) = length {
            self.check_room(tag, raw.len() as u64 + u64::from(bytes))?;
        }
        let depth = self.depth();
        self.take_head();
        match content {
            Content::Value => {
                self.state = State::Value { left: length.bytes().unwrap_or(0), tag, fragment: false };
            }
            Content::Sequence => {
                let unsettled = vr == Some(Vr::UN);
                let encoding = if unsettled { Encoding::ImplicitLittle } else { encoding };
                self.open(Opened { kind: Kind::Sequence, tag, encoding, unsettled }, length, offset)?;
            }
            Content::Fragments => {
                self.open(Opened { kind: Kind::Fragments, tag, encoding, unsettled: false }, length, offset)?;
            }
        }
        Ok(Event::Element(ElementHeader { tag, vr, length, content, depth, encoding: own, offset, raw }))
    }

    fn vr_and_length(&self, encoding: Encoding, tag: Tag) -> Result<(Option<Vr>, Length), TokenError> {
        if !encoding.is_explicit() {
            return Ok((None, Length::from_field(encoding.u32(self.head.quad(4)))));
        }
        let vr = Vr(self.head.pair(4));
        if !vr.is_plausible() {
            return Err(TokenError::InvalidVr { offset: self.offset, tag });
        }
        let length = if vr.has_long_length() {
            Length::from_field(encoding.u32(self.head.quad(8)))
        } else {
            Length::Defined(u32::from(encoding.u16(self.head.pair(6))))
        };
        Ok((Some(vr), length))
    }

    /// An item delimiter ends an item of undefined length; nothing else of group FFFE stands among elements.
    fn delimiter_among_elements<'a>(
        &mut self,
        level: Option<Level>,
        tag: Tag,
    ) -> Result<Event<'a>, TokenError> {
        let offset = self.offset;
        let Some(level) = level else { return Err(TokenError::UnexpectedOutside { offset, tag }) };
        if tag != Tag::ITEM_DELIMITER || level.end.is_some() {
            return Err(TokenError::Unexpected { offset, tag, inside: level.structure() });
        }
        self.levels.pop();
        Ok(Event::ItemEnd(self.take_head()))
    }

    /// A header between the items of a sequence or between fragments.
    fn between_items<'a>(&mut self, level: Level) -> Result<Event<'a>, TokenError> {
        let (offset, tag) = (self.offset, self.head_tag(level.encoding));
        let length = Length::from_field(level.encoding.u32(self.head.quad(4)));
        match tag {
            Tag::ITEM => self.item(level, length),
            Tag::SEQUENCE_DELIMITER if level.end.is_none() => {
                self.levels.pop();
                Ok(Event::SequenceEnd(self.take_head()))
            }
            Tag::ITEM_DELIMITER if level.kind == Kind::Sequence => {
                Ok(Event::StrayDelimiter(self.take_head()))
            }
            _ => Err(TokenError::Unexpected { offset, tag, inside: level.structure() }),
        }
    }

    fn item<'a>(&mut self, level: Level, length: Length) -> Result<Event<'a>, TokenError> {
        let (offset, raw) = (self.offset, self.head);
        if let Length::Defined(bytes) = length {
            self.check_room(Tag::ITEM, raw.len() as u64 + u64::from(bytes))?;
        }
        self.take_head();
        if level.kind == Kind::Sequence {
            let Level { tag, encoding, unsettled, .. } = level;
            self.open(Opened { kind: Kind::Item, tag, encoding, unsettled }, length, offset)?;
            return Ok(Event::ItemStart(length, raw));
        }
        let Length::Defined(left) = length else {
            return Err(TokenError::UndefinedLength { offset, tag: Tag::ITEM });
        };
        self.state = State::Value { left, tag: level.tag, fragment: true };
        Ok(Event::FragmentStart(length, raw))
    }

    /// Opens a level whose content starts at the current offset; its header, from `header` on, is taken already.
    fn open(&mut self, opened: Opened, length: Length, header: u64) -> Result<(), TokenError> {
        let Opened { kind, tag, encoding, unsettled } = opened;
        if self.levels.len() >= 2 * SEQUENCE_DEPTH_MAX {
            return Err(TokenError::TooDeep { offset: header, tag });
        }
        let end = length.bytes().map(|bytes| self.offset + u64::from(bytes));
        let limit = end.unwrap_or_else(|| self.levels.last().map_or(u64::MAX, |level| level.limit));
        self.levels.push(Level { kind, tag, encoding, end, limit, unsettled });
        Ok(())
    }

    /// Whether `needed` bytes from the header on fit into what surrounds them.
    fn check_room(&self, tag: Tag, needed: u64) -> Result<(), TokenError> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let left = level.limit.saturating_sub(self.offset);
        if needed <= left {
            return Ok(());
        }
        // The innermost thing of defined length is the one that is too short.
        let inside = self.levels.iter().rev().find(|l| l.end.is_some()).unwrap_or(level).structure();
        Err(TokenError::Overrun { offset: self.offset, tag, needed, inside, left })
    }

    fn take_head(&mut self) -> Raw {
        let raw = std::mem::take(&mut self.head);
        self.offset += raw.len() as u64;
        raw
    }

    fn head_tag(&self, encoding: Encoding) -> Tag {
        Tag(encoding.u16(self.head.pair(0)), encoding.u16(self.head.pair(2)))
    }

    fn level_encoding(&self) -> Encoding {
        self.levels.last().map_or(self.encoding, |level| level.encoding)
    }

    fn depth(&self) -> usize {
        self.levels.iter().filter(|level| level.kind == Kind::Item).count()
    }

    /// What an element holds; `None` where its length cannot be undefined.
    fn content(&self, tag: Tag, vr: Option<Vr>, length: Length) -> Option<Content> {
        let undefined = length == Length::Undefined;
        match vr {
            Some(Vr::SQ) => Some(Content::Sequence),
            _ if undefined && tag == Tag::PIXEL_DATA => Some(Content::Fragments),
            Some(Vr::UN) if undefined || (self.opens_unknown && tag.is_sequence()) => Some(Content::Sequence),
            Some(vr) if undefined => vr.is_other().then_some(Content::Fragments),
            None if undefined || tag.is_sequence() => Some(Content::Sequence),
            Some(_) | None => Some(Content::Value),
        }
    }
}
