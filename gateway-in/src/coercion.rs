//! Coercion, as it is configured for one sender and one destination: which attributes of an instance get other values, so
//! that hospital A's patient ids do not enter hospital B's archive as B's own.

use std::{collections::BTreeMap, fmt, sync::Arc};

use base::{Digest, Hasher, Name, Phi};
use dataset::{Action, NewValue, Rule, RuleError, Rules, Tag};

/// How an attribute takes its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A sequence of one item that says who has issued an identifier (PS3.3 Table 10-17), configured as text of the form
    /// `LOCAL` or `LOCAL&UNIVERSAL&TYPE`, as in HL7.
    Issuer,
    /// It belongs to one patient, so that no rule could say its value.
    Removable,
}

/// An attribute that can be coerced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// PS3.6's keyword: how the configuration calls it.
    pub keyword: &'static str,
    /// Its tag.
    pub tag: Tag,
    /// What it holds.
    pub kind: Kind,
    /// It has to be there, if only empty (type 2): where it is to be removed it is emptied.
    pub stays: bool,
}

const fn attribute(keyword: &'static str, tag: Tag, kind: Kind, stays: bool) -> Attribute {
    Attribute { keyword, tag, kind, stays }
}

/// All of them, in the order of tags. No UID is among them: UIDs tie instances together.
pub const ATTRIBUTES: [Attribute; 7] = [
    attribute("AccessionNumber", Tag(0x0008, 0x0050), Kind::Text, true),
    attribute("IssuerOfAccessionNumberSequence", Tag(0x0008, 0x0051), Kind::Issuer, false),
    attribute("InstitutionName", Tag(0x0008, 0x0080), Kind::Text, false),
    attribute("PatientID", Tag(0x0010, 0x0020), Kind::Text, true),
    attribute("IssuerOfPatientID", Tag(0x0010, 0x0021), Kind::Text, false),
    attribute("OtherPatientIDsSequence", Tag(0x0010, 0x1002), Kind::Removable, false),
    attribute("StudyID", Tag(0x0020, 0x0010), Kind::Text, true),
];

impl Attribute {
    /// By its keyword.
    pub fn of(keyword: &str) -> Result<&'static Self, Unusable> {
        ATTRIBUTES
            .iter()
            .find(|attribute| attribute.keyword == keyword)
            .ok_or_else(|| Unusable::Unknown(keyword.to_owned()))
    }

    /// What can be done to it.
    pub fn deeds(self) -> &'static [&'static str] {
        match self.kind {
            Kind::Text => &["set", "prefix", "copy", "remove"],
            Kind::Issuer => &["set", "remove"],
            Kind::Removable => &["remove"],
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.keyword, self.tag)
    }
}

/// Why a rule cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No attribute, or none of ours.
    #[error("{0} cannot be coerced; give one of {list}", list = keywords())]
    Unknown(String),
    /// Another deed would do.
    #[error("{0} takes only: {deeds}", deeds = .0.deeds().join(", "))]
    Deed(&'static Attribute),
    /// No `LOCAL&UNIVERSAL&TYPE`.
    #[error("no issuer; give a name as in \"NORTH\", or \"NORTH&1.2.826.0.1&ISO\"")]
    Issuer,
    /// The value, the order of what is copied, or the attribute twice.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

fn keywords() -> String {
    ATTRIBUTES.map(|attribute| attribute.keyword).join(", ")
}

/// What is done to one attribute, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// It has this value.
    Set(String),
    /// This stands before its value.
    Prefix(String),
    /// It has the value of this other one.
    Copy(&'static Attribute),
    /// It is not there; or empty, if it has to be there.
    Remove,
}

impl Deed {
    fn word(&self) -> &'static str {
        match self {
            Self::Set(_) => "set",
            Self::Prefix(_) => "prefix",
            Self::Copy(_) => "copy",
            Self::Remove => "remove",
        }
    }

    fn value(&self) -> &str {
        match self {
            Self::Set(text) | Self::Prefix(text) => text,
            Self::Copy(from) => from.keyword,
            Self::Remove => "",
        }
    }

    /// The rule for an attribute, checked by itself.
    pub fn rule(&self, attribute: &'static Attribute) -> Result<Rule, Unusable> {
        if !attribute.deeds().contains(&self.word()) {
            return Err(Unusable::Deed(attribute));
        }
        let action = match self {
            Self::Set(text) if attribute.kind == Kind::Issuer => Action::Set(issuer(text)?),
            Self::Set(text) => Action::Set(NewValue::text(text)),
            Self::Prefix(text) => Action::Prefix(Phi::new(text.clone())),
            Self::Copy(from) if from.kind != Kind::Text => return Err(Unusable::Deed(from)),
            Self::Copy(from) => Action::Copy { from: from.tag },
            Self::Remove if attribute.stays => Action::Replace(NewValue::text("")),
            Self::Remove => Action::Remove,
        };
        let rule = Rule { path: Vec::new(), tag: attribute.tag, action };
        Rules::new(vec![rule.clone()])?;
        Ok(rule)
    }
}

/// Local Namespace Entity ID (0040,0031), Universal Entity ID (0040,0032) and its type (0040,0033).
fn issuer(text: &str) -> Result<NewValue, Unusable> {
    let parts: Vec<_> = text.split('&').collect();
    let (local, universal) = match parts.as_slice() {
        [local] => (*local, None),
        [local, universal, kind] if !universal.is_empty() && !kind.is_empty() => {
            (*local, Some((universal, kind)))
        }
        _ => return Err(Unusable::Issuer),
    };
    let mut item = Vec::new();
    if !local.is_empty() {
        item.push((Tag(0x0040, 0x0031), NewValue::text(local)));
    }
    if let Some((universal, kind)) = universal {
        item.push((Tag(0x0040, 0x0032), NewValue::text(*universal)));
        item.push((Tag(0x0040, 0x0033), NewValue::text(*kind)));
    }
    if item.is_empty() { Err(Unusable::Issuer) } else { Ok(NewValue::Items(vec![item])) }
}

/// The coercion of instances from one sender for one destination.
#[derive(Debug, Clone)]
pub struct Coercion {
    /// What is done.
    pub deeds: BTreeMap<&'static str, Deed>,
    /// The same, ready to be used.
    pub rules: Rules,
    /// Of all of it, for receipts: two installations with the same rules have the same.
    pub digest: Digest,
    /// Modifying System (0400,0563): we.
    pub modifying_system: String,
    /// Source of Previous Values (0400,0564): the sender.
    pub source: String,
}

impl Coercion {
    /// Of deeds by keyword; each has been checked by itself.
    pub fn new(
        deeds: BTreeMap<&'static str, Deed>,
        own: &Name,
        sender: &Name,
    ) -> Result<Arc<Self>, Unusable> {
        let mut hasher = Hasher::new(b"sluis/1 coercion");
        let mut rules = Vec::new();
        for attribute in &ATTRIBUTES {
            if let Some(deed) = deeds.get(attribute.keyword) {
                rules.push(deed.rule(attribute)?);
                for text in [attribute.keyword, deed.word(), deed.value()] {
                    hasher.field(text.as_bytes());
                }
            }
        }
        let rules = Rules::new(rules)?;
        let (modifying_system, source) = (own.to_string(), sender.to_string());
        Ok(Arc::new(Self { deeds, rules, digest: hasher.finish(), modifying_system, source }))
    }
}

/// As `check` shows it.
impl fmt::Display for Coercion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (keyword, deed)) in self.deeds.iter().enumerate() {
            write!(f, "{}{} {keyword}", if number == 0 { "" } else { ", " }, deed.word())?;
        }
        write!(f, " (rules {})", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(word: &str, value: &str) -> Deed {
        match word {
            "set" => Deed::Set(value.to_owned()),
            "prefix" => Deed::Prefix(value.to_owned()),
            "copy" => Deed::Copy(Attribute::of(value).unwrap()),
            _ => Deed::Remove,
        }
    }

    #[test]
    fn each_attribute_takes_what_the_table_says_and_nothing_else() {
        for attribute in &ATTRIBUTES {
            for word in ["set", "prefix", "copy", "remove"] {
                // The first that can be copied at all, and its value is copied to later ones.
                let value = if word == "copy" { "AccessionNumber" } else { "NORTH" };
                let made = deed(word, value).rule(attribute);
                let backwards = word == "copy" && attribute.keyword == "AccessionNumber";
                let wanted = attribute.deeds().contains(&word) && !backwards;
                assert_eq!(made.is_ok(), wanted, "{word} {attribute}: {made:?}");
            }
        }
    }

    #[test]
    fn what_could_not_be_carried_out_is_refused_with_the_reason() {
        let cases = [
            ("set", "PatientID", "A\\B", "does not fit its value representation LO"),
            ("set", "AccessionNumber", "12345678901234567", "at most 16 characters"),
            ("copy", "PatientID", "StudyID", "comes after it"),
            ("copy", "PatientID", "IssuerOfAccessionNumberSequence", "takes only: set, remove"),
            ("set", "IssuerOfAccessionNumberSequence", "A&B", "no issuer"),
            ("set", "IssuerOfAccessionNumberSequence", "", "no issuer"),
            ("set", "IssuerOfAccessionNumberSequence", "A&1.2&iso", "(0040,0033)"),
            ("set", "OtherPatientIDsSequence", "A", "takes only: remove"),
        ];
        for (word, keyword, value, why) in cases {
            let error = deed(word, value).rule(Attribute::of(keyword).unwrap()).unwrap_err().to_string();
            assert!(error.contains(why), "{word} {keyword} {value}: {error}");
        }
        let unknown = Attribute::of("StudyInstanceUID").unwrap_err().to_string();
        assert!(unknown.contains("cannot be coerced; give one of AccessionNumber,"), "{unknown}");
    }

    #[test]
    fn the_digest_is_that_of_the_rules_alone() {
        let name = |text: &str| Name::parse(text).unwrap();
        let of = |deeds: &[(&'static str, Deed)], own: &str| {
            Coercion::new(deeds.iter().cloned().collect(), &name(own), &name("out")).unwrap().digest
        };
        let one = [("PatientID", Deed::Prefix("A-".to_owned())), ("StudyID", Deed::Remove)];
        let reversed = [one[1].clone(), one[0].clone()];
        assert_eq!(of(&one, "in"), of(&reversed, "other"));
        assert_ne!(of(&one, "in"), of(&one[..1], "in"));
        assert_ne!(of(&one[..1], "in"), of(&[("PatientID", Deed::Set("A-".to_owned()))], "in"));
        let shown = Coercion::new(one.into(), &name("in"), &name("out")).unwrap().to_string();
        assert!(shown.starts_with("prefix PatientID, remove StudyID (rules "), "{shown}");
    }
}
