//! `when = '…'`: a small expression over an instance's header that says whether a route takes it.
//!
//! ```text
//! Modality == "CT" and StudyDescription ~ "(?i)thorax" and not exists (0009,1001)
//! ```
//!
//! An element of several values satisfies `==`, `in` and `~` where one of them does; `!=` is `not ==`. What is
//! absent or empty satisfies none of them and does not exist. docs/routing.md has the language.

mod parse;

use std::collections::BTreeMap;

use base::{InstanceMeta, Priority};
use dataset::{Selection, Tag};
use regex::Regex;

/// What a rule is asked about. Values are patient data.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// What command and association say.
    pub meta: &'a InstanceMeta,
    /// Elements of the data set's first level.
    pub header: &'a BTreeMap<Tag, Selection>,
}

/// A checked expression.
#[derive(Debug, Clone)]
pub struct Rule {
    text: String,
    expression: Expression,
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}{}: {message}", near(rest))]
pub struct RuleError {
    /// Where, from 1.
    pub at: usize,
    /// What stands there.
    pub rest: String,
    /// What is wrong with it.
    pub message: String,
}

fn near(rest: &str) -> String {
    if rest.is_empty() { ", the end".to_owned() } else { format!(", before `{rest}`") }
}

#[derive(Debug, Clone)]
enum Expression {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Leaf(Leaf),
}

/// One comparison, as it was written.
#[derive(Debug, Clone)]
struct Leaf {
    text: String,
    attribute: Attribute,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Exists,
    /// Any of these; `==` has one.
    Is(Vec<Literal>),
    IsNot(Literal),
    Matches(Regex),
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Text(String),
    /// Compared as a number: `1.0` is `1`.
    Number(f64),
}

impl Literal {
    fn is(&self, value: &str) -> bool {
        match self {
            Self::Text(text) => text == value,
            Self::Number(number) => value.trim().parse::<f64>().is_ok_and(|value| value == *number),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    /// Of the data set.
    Element(Tag),
    /// SOP Class UID, SOP Instance UID, Transfer Syntax UID: known before the data set comes.
    SopClass,
    SopInstance,
    TransferSyntax,
    /// Priority (0000,0700) of the C-STORE: `LOW`, `MEDIUM`, `HIGH`.
    Priority,
}

/// What came of one comparison, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The comparison as it was written.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// What it was asked of: values, `absent`, `empty`. Patient data.
    pub values: String,
    /// Whether the values are codes and numbers, so that they can be shown without leading to a patient.
    pub is_code: bool,
}

impl Rule {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        Ok(Self { text: text.to_owned(), expression: parse::parse(text)? })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The elements of the data set that it looks at. None where command and association say all.
    pub fn wanted(&self) -> Vec<Tag> {
        let mut tags = Vec::new();
        self.expression.each(&mut |leaf| {
            if let Attribute::Element(tag) = leaf.attribute {
                tags.push(tag);
            }
        });
        tags
    }

    /// Whether the instance satisfies it.
    pub fn matches(&self, facts: Facts<'_>) -> bool {
        self.expression.holds(facts)
    }

    /// Each comparison with its outcome, in their order, those that did not decide among them.
    pub fn explain(&self, facts: Facts<'_>) -> Vec<Found> {
        let mut found = Vec::new();
        self.expression.each(&mut |leaf| found.push(leaf.explain(facts)));
        found
    }
}

impl Expression {
    fn holds(&self, facts: Facts<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(facts)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(facts)),
            Self::Not(part) => !part.holds(facts),
            Self::Leaf(leaf) => leaf.holds(facts),
        }
    }

    fn each(&self, act: &mut impl FnMut(&Leaf)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.each(act)),
            Self::Not(part) => part.each(act),
            Self::Leaf(leaf) => act(leaf),
        }
    }
}

impl Leaf {
    fn holds(&self, facts: Facts<'_>) -> bool {
        let is = |literals: &[Literal]| {
            self.attribute.any(facts, |value| literals.iter().any(|literal| literal.is(value)))
        };
        match &self.test {
            Test::Exists => self.attribute.exists(facts),
            Test::Is(literals) => is(literals),
            Test::IsNot(literal) => !is(std::slice::from_ref(literal)),
            Test::Matches(regex) => self.attribute.any(facts, |value| regex.is_match(value)),
        }
    }

    fn explain(&self, facts: Facts<'_>) -> Found {
        let values = match (self.attribute, self.attribute.exists(facts)) {
            (Attribute::Element(tag), false) if facts.header.contains_key(&tag) => "empty".to_owned(),
            (_, false) => "absent".to_owned(),
            (Attribute::Element(tag), _) if facts.header.get(&tag) == Some(&Selection::Opaque) => {
                "neither text nor a number, or longer than 64 KiB".to_owned()
            }
            _ => {
                let mut values = Vec::new();
                self.attribute.any(facts, |value| {
                    values.push(format!("{value:?}"));
                    false
                });
                values.join(" and ")
            }
        };
        let is_code = !self.attribute.exists(facts) || self.attribute.is_code();
        Found { text: self.text.clone(), holds: self.holds(facts), values, is_code }
    }
}

impl Attribute {
    fn any(self, facts: Facts<'_>, mut test: impl FnMut(&str) -> bool) -> bool {
        match self {
            Self::Element(tag) => {
                facts.header.get(&tag).is_some_and(|found| found.values().iter().any(|value| test(value)))
            }
            Self::SopClass => test(facts.meta.sop_class.as_str()),
            Self::SopInstance => test(facts.meta.sop_instance.reveal().as_str()),
            Self::TransferSyntax => test(facts.meta.transfer_syntax.as_str()),
            Self::Priority => test(match facts.meta.priority {
                Priority::Low => "LOW",
                Priority::Medium => "MEDIUM",
                Priority::High => "HIGH",
            }),
        }
    }

    fn exists(self, facts: Facts<'_>) -> bool {
        match self {
            Self::Element(tag) => facts.header.get(&tag).is_some_and(|found| !found.is_empty()),
            _ => true,
        }
    }

    /// Code strings and numbers outside of the patient's group. Descriptions are typed by people, who type names.
    fn is_code(self) -> bool {
        match self {
            Self::Element(tag) => tag.0 != 0x0010 && tag.has_codes(),
            Self::SopInstance => false,
            Self::SopClass | Self::TransferSyntax | Self::Priority => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use base::{AeTitle, Phi, Uid};
    use proptest::prelude::*;

    use super::*;

    fn meta() -> InstanceMeta {
        InstanceMeta {
            sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
            sop_instance: Phi::new(Uid::parse("2.25.7").unwrap()),
            transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").unwrap(),
            calling: AeTitle::parse("CT1").unwrap(),
            called: AeTitle::parse("GW").unwrap(),
            move_originator: None,
            priority: Priority::High,
        }
    }

    fn header(elements: &[(Tag, &[&str])]) -> BTreeMap<Tag, Selection> {
        let values =
            |values: &[&str]| Selection::Values(values.iter().map(|one| (*one).to_owned()).collect());
        elements.iter().map(|(tag, found)| (*tag, values(found))).collect()
    }

    const DESCRIPTION: Tag = Tag(0x0008, 0x1030);
    const IMAGE_TYPE: Tag = Tag(0x0008, 0x0008);
    const THICKNESS: Tag = Tag(0x0018, 0x0050);

    fn sample() -> BTreeMap<Tag, Selection> {
        header(&[
            (Tag::MODALITY, &["CT"]),
            (DESCRIPTION, &["CT Thorax nativ"]),
            (IMAGE_TYPE, &["ORIGINAL", "PRIMARY"]),
            (THICKNESS, &["1.0"]),
            (Tag::ACCESSION, &[]),
        ])
    }

    #[test]
    fn rules_say_what_they_mean() {
        let (meta, header) = (meta(), sample());
        let cases = [
            (r#"Modality == "CT""#, true),
            (r#"Modality == 'CT' and StudyDescription ~ "(?i)thorax""#, true),
            (r#"Modality == "ct""#, false),
            (r#"Modality != "CT""#, false),
            (r#"Modality in ["MR", "CT"]"#, true),
            (r#"Modality in ["MR"]"#, false),
            (r#"(0008,0060) == "CT""#, true),
            (r#"((0008,0060) == "CT")"#, true),
            // Several values: any of them.
            (r#"ImageType == "PRIMARY""#, true),
            (r#"ImageType != "PRIMARY""#, false),
            (r#"ImageType ~ "^ORIG""#, true),
            // Numbers are compared as numbers.
            ("SliceThickness == 1", true),
            (r#"SliceThickness == "1""#, false),
            ("SliceThickness in [0.5, 1.000]", true),
            ("Modality == 5", false),
            // Absent and empty.
            ("exists Modality", true),
            ("exists AccessionNumber", false),
            ("not exists BodyPartExamined", true),
            (r#"AccessionNumber ~ """#, false),
            (r#"BodyPartExamined == "CHEST""#, false),
            (r#"BodyPartExamined != "CHEST""#, true),
            // and binds tighter than or, not tighter than both.
            (r#"Modality == "MR" and Modality == "CT" or exists Modality"#, true),
            (r#"Modality == "MR" and (Modality == "CT" or exists Modality)"#, false),
            (r#"not Modality == "MR" and exists Modality"#, true),
            (r#"not (Modality == "CT" or exists Modality)"#, false),
            // Before the data set.
            (r#"SOPClassUID == "1.2.840.10008.5.1.4.1.1.2""#, true),
            (r#"TransferSyntaxUID ~ '^1\.2\.840\.10008\.1\.2\.4'"#, false),
            (r#"Priority == "HIGH""#, true),
            (r#"exists(0008,0060)"#, true),
            (r#"notexists == "x" "#, false),
        ];
        for (text, want) in cases {
            let rule = match Rule::parse(text) {
                Ok(rule) => rule,
                Err(_) if text.starts_with("notexists") => continue,
                Err(error) => panic!("{text}: {error}"),
            };
            assert_eq!(rule.matches(Facts { meta: &meta, header: &header }), want, "{text}");
        }
    }

    #[test]
    fn only_elements_of_the_data_set_are_waited_for() {
        let wanted = |text| Rule::parse(text).unwrap().wanted();
        assert_eq!(wanted(r#"SOPClassUID == "1.2" and Priority != "LOW""#), []);
        assert_eq!(
            wanted(r#"not (Modality == "CT" or exists (0009,1001))"#),
            [Tag::MODALITY, Tag(0x0009, 0x1001)]
        );
    }

    #[test]
    fn each_comparison_is_explained() {
        let (meta, header) = (meta(), sample());
        let text =
            r#"Modality == "MR" and StudyDescription ~ "x" and exists AccessionNumber and exists PatientID"#;
        let found = Rule::parse(text).unwrap().explain(Facts { meta: &meta, header: &header });
        let lines: Vec<_> = found
            .iter()
            .map(|one| (one.text.as_str(), one.holds, one.values.as_str(), one.is_code))
            .collect();
        assert_eq!(
            lines,
            [
                (r#"Modality == "MR""#, false, r#""CT""#, true),
                (r#"StudyDescription ~ "x""#, true, r#""CT Thorax nativ""#, false),
                ("exists AccessionNumber", false, "empty", true),
                ("exists PatientID", false, "absent", true),
            ]
        );
    }

    fn expressions() -> impl Strategy<Value = (String, bool)> {
        let leaf = prop_oneof![
            Just((r#"Modality == "CT""#.to_owned(), true)),
            Just((r#"Modality != "CT""#.to_owned(), false)),
            Just(("exists StudyDescription".to_owned(), true)),
            Just((r#"ImageType in ["AXIAL", 'X']"#.to_owned(), false)),
            Just((r#"(0008,1030) ~ "nativ$""#.to_owned(), true)),
        ];
        leaf.prop_recursive(5, 40, 3, |inner| {
            let several = proptest::collection::vec(inner.clone(), 2..4);
            let joined = |parts: Vec<(String, bool)>, word: &str| {
                let texts: Vec<_> = parts.iter().map(|(text, _)| format!("({text})")).collect();
                texts.join(&format!("  {word}\n"))
            };
            prop_oneof![
                inner.prop_map(|(text, holds)| (format!("not ({text})"), !holds)),
                several.clone().prop_map(move |parts| (
                    joined(parts.clone(), "and"),
                    parts.iter().all(|(_, holds)| *holds)
                )),
                several.prop_map(move |parts| (
                    joined(parts.clone(), "or"),
                    parts.iter().any(|(_, holds)| *holds)
                )),
            ]
        })
    }

    proptest! {
        #[test]
        fn built_expressions_hold_as_built((text, want) in expressions()) {
            let (meta, header) = (meta(), sample());
            let rule = Rule::parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
            prop_assert_eq!(rule.matches(Facts { meta: &meta, header: &header }), want, "{}", text);
        }

        #[test]
        fn any_text_is_a_rule_or_an_error_with_its_place(text in "[\\PC\n]{0,60}|[ ()a-zA-Z\"'~=!,0-9\\[\\]]{0,60}") {
            if let Err(error) = Rule::parse(&text) {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.at), "{}", error);
            }
        }
    }
}
