use std::collections::{BTreeMap, BTreeSet};

use base::Uid;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::Malformed;

/// The most SOP classes that are asked about: the standard has some 220 storage classes.
pub const CLASSES_MAX: usize = 384;
/// The most transfer syntaxes that are asked about.
pub const SYNTAXES_MAX: usize = 64;

/// What a destination says of one SOP class in one transfer syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Its presentation context was accepted.
    Accepted,
    /// Its presentation context was rejected by name: result 3 or 4 (PS3.8 Table 9-18).
    Rejected,
    /// It was asked about, and never was there an answer of those two kinds.
    Unknown,
}

/// What a destination says of each pair that it was asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(BTreeMap<(Uid, Uid), Finding>);

/// More classes or syntaxes than a table holds.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "{classes} SOP classes and {syntaxes} transfer syntaxes; at most {CLASSES_MAX} and {SYNTAXES_MAX} fit into a table"
)]
pub struct TooMany {
    /// SOP classes.
    pub classes: usize,
    /// Transfer syntaxes.
    pub syntaxes: usize,
}

impl FromIterator<((Uid, Uid), Finding)> for Findings {
    fn from_iter<I: IntoIterator<Item = ((Uid, Uid), Finding)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl Findings {
    /// (SOP class, transfer syntax) and what is said of it, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Uid, &Uid, Finding)> {
        self.0.iter().map(|((class, syntax), finding)| (class, syntax, *finding))
    }

    /// What is said of one pair, if it was asked about.
    pub fn of(&self, class: &Uid, syntax: &Uid) -> Option<Finding> {
        self.0.get(&(class.clone(), syntax.clone())).copied()
    }

    /// How many pairs have this finding.
    pub fn count(&self, finding: Finding) -> usize {
        self.0.values().filter(|found| **found == finding).count()
    }

    /// A pair without a clear answer keeps the earlier one: only a rejection by name takes something away.
    #[must_use]
    pub fn or_earlier(mut self, earlier: &Self) -> Self {
        for (pair, finding) in &mut self.0 {
            if *finding == Finding::Unknown
                && let Some(known) = earlier.0.get(pair)
            {
                *finding = *known;
            }
        }
        self
    }

    /// The pairs that may be sent: accepted ones, and those of which it is not known that they are not.
    pub fn may_be_sent(&self) -> impl Iterator<Item = (&Uid, &Uid)> {
        self.iter()
            .filter(|(.., finding)| *finding != Finding::Rejected)
            .map(|(class, syntax, _)| (class, syntax))
    }

    /// The SOP classes and the transfer syntaxes that were asked about, each in order.
    pub fn axes(&self) -> (Vec<Uid>, Vec<Uid>) {
        let classes: BTreeSet<&Uid> = self.0.keys().map(|(class, _)| class).collect();
        let syntaxes: BTreeSet<&Uid> = self.0.keys().map(|(_, syntax)| syntax).collect();
        (classes.into_iter().cloned().collect(), syntaxes.into_iter().cloned().collect())
    }

    pub(crate) fn to_matrix(&self) -> Result<Matrix, TooMany> {
        let (classes, syntaxes) = self.axes();
        if classes.len() > CLASSES_MAX || syntaxes.len() > SYNTAXES_MAX {
            return Err(TooMany { classes: classes.len(), syntaxes: syntaxes.len() });
        }
        let pairs = classes.iter().flat_map(|class| syntaxes.iter().map(move |syntax| (class, syntax)));
        let marks: Vec<u8> = pairs.map(|(class, syntax)| mark(self.of(class, syntax))).collect();
        let marks = marks.chunks(4).map(|four| four.iter().rev().fold(0, |byte, mark| byte << 2 | mark));
        Ok(Matrix {
            marks: marks.collect::<Vec<u8>>().into(),
            classes: classes.into_iter().map(String::from).collect(),
            syntaxes: syntaxes.into_iter().map(String::from).collect(),
        })
    }
}

/// Classes down, syntaxes across; two bits for each pair, row by row, the first pair in the lowest bits.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Matrix {
    #[n(0)]
    classes: Vec<String>,
    #[n(1)]
    syntaxes: Vec<String>,
    #[n(2)]
    marks: ByteVec,
}

impl Matrix {
    /// Refuses whatever [`Findings::to_matrix`] does not make.
    pub(crate) fn to_findings(&self) -> Result<Findings, Malformed> {
        let uids = |texts: &[String]| {
            texts.iter().map(|text| Uid::parse(text)).collect::<Result<Vec<_>, _>>().map_err(|_| Malformed)
        };
        if self.classes.len() > CLASSES_MAX || self.syntaxes.len() > SYNTAXES_MAX {
            return Err(Malformed);
        }
        let (classes, syntaxes) = (uids(&self.classes)?, uids(&self.syntaxes)?);
        let mut marks = self.marks.iter().flat_map(|byte| [0, 2, 4, 6].map(|shift| byte >> shift & 3));
        let mut findings = BTreeMap::new();
        for class in &classes {
            for syntax in &syntaxes {
                if let Some(finding) = finding(marks.next().ok_or(Malformed)?) {
                    findings.insert((class.clone(), syntax.clone()), finding);
                }
            }
        }
        let findings = Findings(findings);
        if findings.to_matrix().as_ref() == Ok(self) { Ok(findings) } else { Err(Malformed) }
    }
}

fn mark(finding: Option<Finding>) -> u8 {
    match finding {
        None => 0,
        Some(Finding::Accepted) => 1,
        Some(Finding::Rejected) => 2,
        Some(Finding::Unknown) => 3,
    }
}

fn finding(mark: u8) -> Option<Finding> {
    match mark {
        1 => Some(Finding::Accepted),
        2 => Some(Finding::Rejected),
        3 => Some(Finding::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uid(n: u16) -> Uid {
        Uid::parse(&format!("1.2.{n}")).unwrap()
    }

    fn some_findings() -> impl Strategy<Value = Findings> {
        let pair = (
            0u16..20,
            0u16..9,
            prop_oneof![Just(Finding::Accepted), Just(Finding::Rejected), Just(Finding::Unknown)],
        );
        proptest::collection::vec(pair, 0..80)
            .prop_map(|pairs| pairs.into_iter().map(|(c, s, f)| ((uid(c), uid(1000 + s)), f)).collect())
    }

    proptest! {
        #[test]
        fn a_matrix_gives_back_what_it_was_made_of(findings in some_findings()) {
            let matrix = findings.to_matrix().unwrap();
            prop_assert_eq!(matrix.to_findings(), Ok(findings));
        }

        #[test]
        fn a_matrix_that_is_not_in_its_one_form_is_refused(findings in some_findings(), which in 0..5) {
            prop_assume!(findings.iter().count() > 2);
            let mut matrix = findings.to_matrix().unwrap();
            match which {
                0 => matrix.marks.push(0),
                1 => drop(matrix.marks.pop()),
                2 => matrix.classes.push("9.9".to_owned()),
                3 => matrix.classes.push("x".to_owned()),
                _ => matrix.syntaxes.insert(0, "9.9".to_owned()),
            }
            prop_assert_eq!(matrix.to_findings(), Err(Malformed));
        }
    }

    #[test]
    fn more_than_fits_is_refused() {
        let many = |classes: u16, syntaxes: u16| -> Findings {
            let pairs = (0..classes).flat_map(|c| (0..syntaxes).map(move |s| (c, s)));
            pairs.map(|(c, s)| ((uid(c), uid(1000 + s)), Finding::Accepted)).collect()
        };
        assert!(many(384, 64).to_matrix().is_ok());
        assert_eq!(many(385, 1).to_matrix(), Err(TooMany { classes: 385, syntaxes: 1 }));
        assert_eq!(many(1, 65).to_matrix(), Err(TooMany { classes: 1, syntaxes: 65 }));
    }

    #[test]
    fn only_a_rejection_by_name_takes_something_away() {
        use Finding::{Accepted, Rejected, Unknown};
        let of = |found: [Finding; 3]| -> Findings {
            found.into_iter().zip(0..).map(|(finding, n)| ((uid(n), uid(1000)), finding)).collect()
        };
        for (now, earlier, want) in [
            ([Accepted, Rejected, Unknown], [Rejected, Accepted, Accepted], [Accepted, Rejected, Accepted]),
            ([Unknown, Unknown, Unknown], [Accepted, Rejected, Unknown], [Accepted, Rejected, Unknown]),
        ] {
            assert_eq!(of(now).or_earlier(&of(earlier)), of(want));
        }
        let sent: Vec<_> = of([Accepted, Rejected, Unknown]).may_be_sent().map(|(c, _)| c.clone()).collect();
        assert_eq!(sent, [uid(0), uid(2)]);
    }
}
