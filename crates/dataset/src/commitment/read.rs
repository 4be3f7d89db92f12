use base::{Phi, Uid};

use crate::commitment::{
    CommitmentError, FAILED, FAILURE_REASON, INSTANCES_MAX, PROCESSING_FAILURE, REFERENCED, REFERENCED_CLASS,
    REFERENCED_INSTANCE, SopReference, TRANSACTION,
};
use crate::element::{Content, ElementHeader, Tag};
use crate::syntax::Encoding;
use crate::token::{Event, Tokenizer};

/// A UID has 64 characters, and may be padded by one.
const VALUE_BYTES_MAX: usize = 65;

/// What either data set holds.
pub(super) struct Lists {
    pub(super) transaction: Uid,
    pub(super) referenced: Vec<SopReference>,
    pub(super) failed: Vec<(SopReference, u16)>,
}

pub(super) fn lists(mut bytes: &[u8], encoding: Encoding) -> Result<Lists, CommitmentError> {
    let mut tokens = Tokenizer::new(encoding).opening_unknown();
    let mut reader = Reader::default();
    while let Some(event) = tokens.next(&mut bytes)? {
        reader.event(event)?;
    }
    tokens.finish()?;
    let Some(Ok(transaction)) = reader.transaction.map(|value| Uid::from_value(&value)) else {
        return Err(CommitmentError::Transaction);
    };
    Ok(Lists { transaction, referenced: reader.referenced, failed: reader.failed })
}

#[derive(Default)]
struct Reader {
    /// Sequences around, outermost first.
    sequences: Vec<Tag>,
    /// The element whose value is being kept, with how it is encoded.
    wanted: Option<ElementHeader>,
    value: Vec<u8>,
    transaction: Option<Vec<u8>>,
    item: Item,
    items: usize,
    referenced: Vec<SopReference>,
    failed: Vec<(SopReference, u16)>,
}

#[derive(Default)]
struct Item {
    class: Option<Uid>,
    instance: Option<Uid>,
    reason: Option<u16>,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) -> Result<(), CommitmentError> {
        match event {
            Event::Element(header) => self.element(header),
            Event::Value(piece) if self.wanted.is_some() => {
                let room = (VALUE_BYTES_MAX + 1).saturating_sub(self.value.len());
                self.value.extend_from_slice(piece.get(..room).unwrap_or(piece));
            }
            Event::ValueEnd => return self.settle(),
            Event::ItemStart(..) if self.list().is_some() => self.item = Item::default(),
            Event::ItemEnd(_) => return self.item_end(),
            Event::SequenceEnd(_) => {
                self.sequences.pop();
            }
            _ => {}
        }
        Ok(())
    }

    /// Which of the two sequences we are in, if not deeper.
    fn list(&self) -> Option<Tag> {
        match self.sequences.as_slice() {
            [tag @ (REFERENCED | FAILED)] => Some(*tag),
            _ => None,
        }
    }

    fn element(&mut self, header: ElementHeader) {
        if header.content != Content::Value {
            if self.sequences.is_empty() {
                self.items = 0;
            }
            self.sequences.push(header.tag);
            return;
        }
        let is_wanted = match self.list() {
            Some(_) => [REFERENCED_CLASS, REFERENCED_INSTANCE, FAILURE_REASON].contains(&header.tag),
            None => self.sequences.is_empty() && header.tag == TRANSACTION,
        };
        self.wanted = is_wanted.then_some(header);
        self.value.clear();
    }

    fn settle(&mut self) -> Result<(), CommitmentError> {
        let Some(header) = self.wanted.take() else { return Ok(()) };
        let uid = || Uid::from_value(&self.value).ok();
        match header.tag {
            TRANSACTION if self.transaction.is_some() => return Err(CommitmentError::Transaction),
            TRANSACTION => self.transaction = Some(self.value.clone()),
            REFERENCED_CLASS => self.item.class = uid(),
            REFERENCED_INSTANCE => self.item.instance = uid(),
            _ => {
                let bytes = <[u8; 2]>::try_from(self.value.as_slice()).ok();
                self.item.reason = bytes.map(|bytes| header.encoding.u16(bytes));
            }
        }
        Ok(())
    }

    fn item_end(&mut self) -> Result<(), CommitmentError> {
        let Some(sequence) = self.list() else { return Ok(()) };
        self.items += 1;
        if self.referenced.len() + self.failed.len() >= INSTANCES_MAX {
            return Err(CommitmentError::TooMany);
        }
        let Item { class: Some(sop_class), instance: Some(instance), reason } =
            std::mem::take(&mut self.item)
        else {
            return Err(CommitmentError::Reference { sequence, item: self.items });
        };
        let reference = SopReference { sop_class, sop_instance: Phi::new(instance) };
        if sequence == FAILED {
            self.failed.push((reference, reason.unwrap_or(PROCESSING_FAILURE)));
        } else {
            self.referenced.push(reference);
        }
        Ok(())
    }
}
