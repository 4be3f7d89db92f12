//! Changes of elements, from a table.

mod error;
mod original;

use base::Phi;

use crate::charset::CharacterSet;
use crate::element::{Content, DictionaryVr, ElementHeader, Tag, Vr};
use crate::limits::RULE_BYTES_MAX;
use crate::rewrite::{Decision, Edit, EditError, NewElement, Outcome, Place, WholeElement};

pub use error::RuleError;
pub use original::OriginalAttributes;
use original::Originals;

/// One row: what is done to an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The sequences around it, outermost first; empty for the first level. Every item counts.
    pub path: Vec<Tag>,
    /// The element: of text, or a sequence. Its value representation is the dictionary's.
    pub tag: Tag,
    /// What is done.
    pub action: Action,
}

/// What is done to an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It has this value, and is inserted where it is missing.
    Set(NewValue),
    /// It has this value where it is there.
    Replace(NewValue),
    /// This stands before its value, where it has one: a prefix alone would make one patient of all without an id.
    Prefix(Phi<String>),
    /// It has the value, as it came, of another element of the first level with a lower tag, where that has one; it is
    /// inserted where it is missing.
    Copy {
        /// Where the value comes from.
        from: Tag,
    },
    /// It is not there.
    Remove,
}

/// A value to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewValue {
    /// Text, without padding. It is encoded in the data set's character set, or the data set is refused.
    Text(Phi<String>),
    /// Items of elements.
    Items(Vec<Vec<(Tag, Self)>>),
}

impl NewValue {
    /// Text that may be anybody's name.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Phi::new(text.into()))
    }
}

/// An [`Edit`] from a table of [`Rule`]s: coercion (PS3.4 B.4.1.3), and whatever else changes few elements by tag.
///
/// ```
/// use dataset::{Action, NewValue, Rewriter, Rule, Rules, Tag};
///
/// let rules = Rules::new(vec![
///     Rule { path: vec![], tag: Tag(0x0010, 0x0021), action: Action::Set(NewValue::text("NORTH")) },
///     Rule { path: vec![], tag: Tag(0x0010, 0x1002), action: Action::Remove },
/// ])?;
/// let explicit = base::Uid::parse("1.2.840.10008.1.2.1")?;
/// let mut rewriter = Rewriter::new(&explicit, rules).expect("a known transfer syntax");
/// let mut out = Vec::new();
/// rewriter.feed(b"\x10\x00\x20\x00LO\x02\x0042", &mut out)?;
/// rewriter.finish(&mut out)?;
/// assert_eq!(out, b"\x10\x00\x20\x00LO\x02\x0042\x10\x00\x21\x00LO\x06\x00NORTH ");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rules {
    rows: Vec<Row>,
    originals: Option<Originals>,
}

#[derive(Clone, Debug)]
struct Row {
    rule: Rule,
    vr: Vr,
    /// On the running level: it was met or inserted.
    met: bool,
    /// What [`Action::Copy`] copies.
    source: Option<Phi<Vec<u8>>>,
}

impl Rules {
    /// Refuses rows that could not be carried out, or must not.
    pub fn new(rules: Vec<Rule>) -> Result<Self, RuleError> {
        let mut rows: Vec<Row> = Vec::with_capacity(rules.len());
        for rule in rules {
            let vr = error::check(&rule)?;
            if rows.iter().any(|row| row.rule.tag == rule.tag && row.rule.path == rule.path) {
                return Err(RuleError::Repeated { tag: rule.tag });
            }
            rows.push(Row { rule, vr, met: false, source: None });
        }
        // In the order in which elements are inserted.
        rows.sort_by_key(|row| row.rule.tag);
        Ok(Self { rows, originals: None })
    }

    /// Keeps previous values in Original Attributes Sequence (0400,0561), where anything was changed. All rows must be
    /// of the first level and stand before it.
    pub fn keeping_originals(mut self, keep: OriginalAttributes) -> Result<Self, RuleError> {
        for Row { rule, .. } in &self.rows {
            if !rule.path.is_empty() || rule.tag >= Tag::ORIGINAL_ATTRIBUTES {
                return Err(RuleError::NotRecordable { tag: rule.tag });
            }
        }
        self.originals = Some(Originals::new(keep)?);
        Ok(self)
    }

    fn row(&self, place: &Place<'_>, tag: Tag) -> Option<usize> {
        let is_that = |row: &Row| row.rule.tag == tag && place.is_within(&row.rule.path);
        self.rows.iter().position(is_that)
    }

    /// A rule leads through this sequence.
    fn leads_through(&self, place: &Place<'_>, tag: Tag) -> bool {
        self.rows.iter().any(|row| {
            let depth = place.path.len();
            row.rule.path.get(depth) == Some(&tag)
                && row.rule.path.get(..depth).is_some_and(|outer| place.is_within(outer))
        })
    }

    fn is_copied(&self, place: &Place<'_>, tag: Tag) -> bool {
        let copies = |row: &Row| matches!(row.rule.action, Action::Copy { from } if from == tag);
        place.path.is_empty() && self.rows.iter().any(copies)
    }

    fn keep_source(&mut self, tag: Tag, value: &[u8]) {
        let value = trimmed(value);
        let rows = self.rows.iter_mut().filter(
            |row| matches!(row.rule.action, Action::Copy { from } if from == tag && row.source.is_none()),
        );
        rows.filter(|_| !value.is_empty()).for_each(|row| row.source = Some(Phi::new(value.to_vec())));
    }

    /// The previous value of an element of the first level; `None` where it had none.
    fn record(&mut self, place: &Place<'_>, tag: Tag, vr: Vr, raw: Option<&[u8]>) -> Result<(), EditError> {
        match &mut self.originals {
            Some(originals) => originals.record(place, tag, vr, raw),
            None => Ok(()),
        }
    }
}

impl Edit for Rules {
    fn is_identity(&self) -> bool {
        self.rows.is_empty()
    }

    /// A rule that reaches into a sequence must find it, also where somebody wrote it as UN.
    fn opens_unknown(&self) -> bool {
        self.rows.iter().any(|row| !row.rule.path.is_empty())
    }

    fn level(&mut self, place: &Place<'_>) {
        self.rows.iter_mut().filter(|row| place.is_within(&row.rule.path)).for_each(|row| row.met = false);
    }

    fn insert(&mut self, place: &Place<'_>, next: Option<Tag>) -> Result<Option<NewElement>, EditError> {
        let is_due = |tag: Tag| next.is_none_or(|next| tag < next);
        for at in 0..self.rows.len() {
            let Some(row) = self.rows.get_mut(at) else { break };
            if row.met || !is_due(row.rule.tag) || !place.is_within(&row.rule.path) {
                continue;
            }
            let (tag, vr) = (row.rule.tag, row.vr);
            let Some(element) = row.inserted(place)? else { continue };
            row.met = true;
            self.record(place, tag, vr, None)?;
            return Ok(Some(element));
        }
        let Some(originals) = self.originals.as_mut().filter(|_| place.path.is_empty()) else {
            return Ok(None);
        };
        // An existing one is appended to.
        if next.is_some_and(|next| next <= Tag::ORIGINAL_ATTRIBUTES) {
            return Ok(None);
        }
        let item = originals.item(place)?;
        Ok(item.map(|item| NewElement::Sequence { tag: Tag::ORIGINAL_ATTRIBUTES, items: vec![item] }))
    }

    fn element(&mut self, place: &Place<'_>, header: &ElementHeader) -> Result<Decision, EditError> {
        let read = Decision::Read { bytes_max: RULE_BYTES_MAX };
        let appends = header.tag == Tag::ORIGINAL_ATTRIBUTES
            && place.path.is_empty()
            && self.originals.as_ref().is_some_and(Originals::is_due);
        if appends {
            return match header.content {
                Content::Sequence => Ok(Decision::Descend),
                _ => Err(original::no_room()),
            };
        }
        let Some(at) = self.row(place, header.tag) else {
            return Ok(if self.is_copied(place, header.tag) && header.content == Content::Value {
                read
            } else if self.leads_through(place, header.tag) {
                if header.content != Content::Sequence {
                    let why = "is not encoded as the sequence that it is, so that no rule can reach into it";
                    return Err(EditError::Refused { tag: header.tag, why });
                }
                Decision::Descend
            } else if header.tag.is_group_length() && self.is_changed(place, header.tag.0) {
                // It would be wrong, and it may be left out (PS3.5 §7.2).
                Decision::Remove
            } else {
                Decision::Keep
            });
        };
        let copied = self.is_copied(place, header.tag);
        let Some(row) = self.rows.get_mut(at) else { return Ok(Decision::Keep) };
        if self.originals.is_some() || copied || row.looks_at_value() || row.met {
            return Ok(read);
        }
        row.met = true;
        match &row.rule.action {
            Action::Remove => Ok(Decision::Remove),
            Action::Set(value) | Action::Replace(value) => {
                Ok(Decision::Replace(new_element(place, row.rule.tag, row.vr, value)?))
            }
            Action::Prefix(_) | Action::Copy { .. } => Ok(read),
        }
    }

    fn read(&mut self, place: &Place<'_>, element: WholeElement<'_>) -> Result<Outcome, EditError> {
        let tag = element.header.tag;
        if self.is_copied(place, tag) {
            self.keep_source(tag, element.value());
        }
        let Some(at) = self.row(place, tag) else { return Ok(Outcome::Keep) };
        let Some(row) = self.rows.get_mut(at) else { return Ok(Outcome::Keep) };
        // Inserted already because tags do not ascend, or there twice: one is enough.
        let outcome = if std::mem::replace(&mut row.met, true) {
            Outcome::Remove
        } else {
            row.outcome(place, element)?
        };
        let vr = element.header.vr.unwrap_or(row.vr);
        if outcome != Outcome::Keep && place.path.is_empty() {
            self.record(place, tag, vr, Some(element.raw))?;
        }
        Ok(outcome)
    }

    fn append(&mut self, place: &Place<'_>, sequence: Tag) -> Result<Vec<Vec<NewElement>>, EditError> {
        if sequence != Tag::ORIGINAL_ATTRIBUTES || place.path.len() != 1 {
            return Ok(Vec::new());
        }
        let Some(originals) = &mut self.originals else { return Ok(Vec::new()) };
        Ok(originals.item(place)?.into_iter().collect())
    }
}

impl Rules {
    fn is_changed(&self, place: &Place<'_>, group: u16) -> bool {
        let changes = |row: &Row| {
            let depth = place.path.len();
            let outer = row.rule.path.get(..depth).is_some_and(|outer| place.is_within(outer));
            outer && row.rule.path.get(depth).unwrap_or(&row.rule.tag).0 == group
        };
        let originals = group == Tag::ORIGINAL_ATTRIBUTES.0 && self.originals.is_some();
        (originals && place.path.is_empty()) || self.rows.iter().any(changes)
    }
}

impl Row {
    fn looks_at_value(&self) -> bool {
        matches!(self.rule.action, Action::Prefix(_) | Action::Copy { .. })
    }

    /// What is inserted where the element is missing.
    fn inserted(&self, place: &Place<'_>) -> Result<Option<NewElement>, EditError> {
        match &self.rule.action {
            Action::Set(value) => new_element(place, self.rule.tag, self.vr, value).map(Some),
            Action::Copy { .. } => self.copied(place),
            Action::Replace(_) | Action::Prefix(_) | Action::Remove => Ok(None),
        }
    }

    /// The element with the value that came elsewhere.
    fn copied(&self, place: &Place<'_>) -> Result<Option<NewElement>, EditError> {
        let Some(source) = &self.source else { return Ok(None) };
        let bytes = source.reveal().clone();
        check_length(self.rule.tag, self.vr, &bytes, place.characters)?;
        Ok(Some(NewElement::Value { tag: self.rule.tag, vr: self.vr, bytes }))
    }

    fn outcome(&self, place: &Place<'_>, element: WholeElement<'_>) -> Result<Outcome, EditError> {
        let tag = self.rule.tag;
        let new = match &self.rule.action {
            Action::Remove => return Ok(Outcome::Remove),
            Action::Set(value) | Action::Replace(value) => new_element(place, tag, self.vr, value)?,
            Action::Copy { .. } => match self.copied(place)? {
                Some(new) => new,
                None => return Ok(Outcome::Keep),
            },
            Action::Prefix(prefix) => {
                let value = trimmed(element.value());
                if value.is_empty() || element.header.content != Content::Value {
                    return Ok(Outcome::Keep);
                }
                let NewElement::Value { mut bytes, .. } = place.text(tag, self.vr, prefix.reveal())? else {
                    return Ok(Outcome::Keep);
                };
                bytes.extend_from_slice(value);
                check_length(tag, self.vr, &bytes, place.characters)?;
                NewElement::Value { tag, vr: self.vr, bytes }
            }
        };
        let unchanged = match &new {
            NewElement::Value { bytes, .. } if element.header.content == Content::Value => {
                trimmed(element.value()) == bytes
            }
            _ => false,
        };
        Ok(if unchanged { Outcome::Keep } else { Outcome::Replace(new) })
    }
}

fn new_element(place: &Place<'_>, tag: Tag, vr: Vr, value: &NewValue) -> Result<NewElement, EditError> {
    match value {
        NewValue::Text(text) => place.text(tag, vr, text.reveal()),
        NewValue::Items(items) => {
            let mut written = Vec::with_capacity(items.len());
            for item in items {
                let element = |(tag, value): &(Tag, NewValue)| {
                    let vr = match tag.dictionary_vr() {
                        Some(DictionaryVr::Exact(vr)) => vr,
                        _ => Vr::UN,
                    };
                    new_element(place, *tag, vr, value)
                };
                written.push(item.iter().map(element).collect::<Result<Vec<_>, _>>()?);
            }
            Ok(NewElement::Sequence { tag, items: written })
        }
    }
}

/// An identifier that is cut off at its end somewhere later would be another patient's.
fn check_length(tag: Tag, vr: Vr, value: &[u8], characters: &CharacterSet) -> Result<(), EditError> {
    match vr.characters_max() {
        Some(max) if characters.characters(value) > max => Err(EditError::TooLong { tag, max }),
        _ => Ok(()),
    }
}

/// Without the padding on both sides, which has no meaning in identifiers.
fn trimmed(value: &[u8]) -> &[u8] {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let from = value.iter().position(|byte| !is_padding(byte)).unwrap_or(value.len());
    let to = value.iter().rposition(|byte| !is_padding(byte)).map_or(from, |last| last + 1);
    value.get(from..to).unwrap_or_default()
}
