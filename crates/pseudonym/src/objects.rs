//! Objects whose content nobody here can look into: encapsulated documents, waveforms, video, raw data, classes of one maker.

use base::Uid;
use dataset::Tag;
use serde::{Deserialize, Serialize};

use crate::option::{MethodCode, ProfileOption};

/// Encapsulated Document.
pub(crate) const DOCUMENT: Tag = Tag(0x0042, 0x0011);

/// What is done with the objects of one SOP class whose content cannot be cleaned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRule {
    /// SOP Class UID.
    pub sop_class: String,
    /// What is done.
    pub content: ObjectAction,
}

/// What is done with the objects that a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectAction {
    /// The attributes are pseudonymized; document, waveform and video pass as they are, and are never claimed to be clean.
    Pass,
    /// They are refused, also where the class would be covered.
    Refuse,
}

impl ObjectRule {
    /// Why it cannot be used.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        Uid::parse(&self.sop_class)
            .is_err()
            .then_some("sop_class is no UID; write one as in \"1.2.840.10008.5.1.4.1.1.104.1\"")
    }
}

/// What the first rule for this class says.
pub(crate) fn action(rules: &[ObjectRule], sop_class: &str) -> Option<ObjectAction> {
    rules.iter().find(|rule| rule.sop_class == sop_class).map(|rule| rule.content)
}

/// Whether a code may be written for an object whose content passes as it is.
pub(crate) fn may_claim(code: MethodCode) -> bool {
    use ProfileOption::{CleanGraphics, CleanPixelData, CleanStructuredContent};
    ![CleanPixelData, CleanGraphics, CleanStructuredContent].iter().any(|option| option.code() == code)
}
