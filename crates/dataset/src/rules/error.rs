use thiserror::Error;

use crate::element::{DictionaryVr, Tag, Vr};
use crate::rules::{Action, NewValue, Rule};

/// Why a rule, or a record of previous values, cannot be. Whoever configured it has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RuleError {
    /// The dictionary does not say what its value representation is.
    #[error("{tag} is private or not in the dictionary; only standard elements can be written")]
    Unknown {
        /// The element.
        tag: Tag,
    },
    /// Neither text nor sequence.
    #[error("{tag} has value representation {vr}; only text and sequences can be written")]
    NotText {
        /// The element.
        tag: Tag,
        /// Its value representation.
        vr: Vr,
    },
    /// UIDs tie instances together; a change here would have to be made everywhere.
    #[error("{tag} is a UID; a rule must not change UIDs")]
    Uid {
        /// The element.
        tag: Tag,
    },
    /// An element that says how others are read.
    #[error("{tag} says how other elements are read, or what was done to them; no rule may change it")]
    Structural {
        /// The element.
        tag: Tag,
    },
    /// A sequence on the path, or with items, that is none.
    #[error("{tag} is no sequence")]
    NotASequence {
        /// The element.
        tag: Tag,
    },
    /// A sequence with text.
    #[error("{tag} is a sequence; give items, not text")]
    IsASequence {
        /// The element.
        tag: Tag,
    },
    /// Text that the value representation does not allow.
    #[error(
        "the configured value of {tag} does not fit its value representation {vr}: at most {max} characters, no backslash, no control characters, no space at either end"
    )]
    Value {
        /// The element.
        tag: Tag,
        /// Its value representation.
        vr: Vr,
        /// Characters.
        max: usize,
    },
    /// The order of items' elements.
    #[error("the elements of the items of {tag} must ascend")]
    Order {
        /// The sequence.
        tag: Tag,
    },
    /// What is copied comes later than where it belongs.
    #[error("{tag} cannot have the value of {from}, which comes after it in every data set")]
    CopiedBackwards {
        /// The element.
        tag: Tag,
        /// Where its value would come from.
        from: Tag,
    },
    /// Two rules.
    #[error("there are two rules for {tag}")]
    Repeated {
        /// The element.
        tag: Tag,
    },
    /// Original Attributes Sequence cannot hold it.
    #[error(
        "the previous value of {tag} cannot be kept in Original Attributes Sequence (0400,0561): it takes elements of the first level that come before it"
    )]
    NotRecordable {
        /// The element.
        tag: Tag,
    },
}

/// Finds the value representation, and refuses what could not be carried out.
pub(crate) fn check(rule: &Rule) -> Result<Vr, RuleError> {
    for sequence in &rule.path {
        if !sequence.is_sequence() {
            return Err(RuleError::NotASequence { tag: *sequence });
        }
    }
    let tag = rule.tag;
    if is_structural(tag) || rule.path.contains(&Tag::ORIGINAL_ATTRIBUTES) {
        return Err(RuleError::Structural { tag });
    }
    match &rule.action {
        // Also of private elements: nothing of them has to be written.
        Action::Remove if tag.is_private() => Ok(Vr::UN),
        Action::Remove => vr(tag),
        Action::Set(value) | Action::Replace(value) => check_value(tag, value),
        Action::Prefix(prefix) => check_text(tag, prefix.reveal()),
        Action::Copy { from } => {
            if *from >= tag || !rule.path.is_empty() {
                return Err(RuleError::CopiedBackwards { tag, from: *from });
            }
            text_vr(*from)?;
            text_vr(tag)
        }
    }
}

fn is_structural(tag: Tag) -> bool {
    tag.is_group_length()
        || tag == Tag::CHARACTER_SET
        || (tag.0 == Tag::ORIGINAL_ATTRIBUTES.0)
        || tag.0 <= 0x0002
        || tag.0 >= Tag::PIXEL_DATA.0
}

fn vr(tag: Tag) -> Result<Vr, RuleError> {
    match tag.dictionary_vr() {
        Some(DictionaryVr::Exact(Vr::UI)) => Err(RuleError::Uid { tag }),
        Some(DictionaryVr::Exact(vr)) => Ok(vr),
        Some(DictionaryVr::Sample) => Ok(Vr::US),
        Some(DictionaryVr::Words) => Ok(Vr::OW),
        None => Err(RuleError::Unknown { tag }),
    }
}

fn text_vr(tag: Tag) -> Result<Vr, RuleError> {
    if tag.is_private() {
        return Err(RuleError::Unknown { tag });
    }
    match vr(tag)? {
        Vr::SQ => Err(RuleError::IsASequence { tag }),
        vr if vr.is_text() => Ok(vr),
        vr => Err(RuleError::NotText { tag, vr }),
    }
}

fn check_value(tag: Tag, value: &NewValue) -> Result<Vr, RuleError> {
    match value {
        NewValue::Text(text) => check_text(tag, text.reveal()),
        NewValue::Items(_) if !tag.is_sequence() => Err(RuleError::NotASequence { tag }),
        NewValue::Items(items) => {
            for item in items {
                for (element, value) in item {
                    check_value(*element, value)?;
                }
                if !item.is_sorted_by(|(a, _), (b, _)| a < b) {
                    return Err(RuleError::Order { tag });
                }
            }
            Ok(Vr::SQ)
        }
    }
}

fn check_text(tag: Tag, text: &str) -> Result<Vr, RuleError> {
    let vr = text_vr(tag)?;
    let max = vr.characters_max().unwrap_or(0);
    let short = text.chars().count() <= max;
    let plain = !text.contains('\\') && !text.chars().any(char::is_control) && text.trim_matches(' ') == text;
    let coded = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, ' ' | '_');
    let fits = match &vr.0 {
        b"CS" => text.chars().all(coded),
        b"DA" => text.chars().all(|c| c.is_ascii_digit()),
        _ => vr.has_characters() || text.is_ascii(),
    };
    if short && plain && fits { Ok(vr) } else { Err(RuleError::Value { tag, vr, max }) }
}
