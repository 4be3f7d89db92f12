//! What one side will refuse of what the other carries.

use std::fmt;

use base::Uid;
use dimse::{SopClassKind, transfer_syntax};
use serde::Serialize;

use crate::far_end::{FarEnd, Takes};

/// The answer to "will it all get through?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Ours.
    pub ours: String,
    /// Theirs.
    pub theirs: String,
    /// What we carry and they do not take; `None` where they take nothing by C-STORE at all.
    pub they_refuse: Option<Vec<Refused>>,
    /// What they send and we do not take; `None` where we take nothing by C-STORE, or they send nothing.
    pub we_refuse: Option<Vec<Refused>>,
}

/// A SOP class of which something is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Refused {
    /// UID.
    pub sop_class: String,
    /// Its name, where it has one.
    pub name: Option<&'static str>,
    /// In every transfer syntax.
    pub wholly: bool,
    /// Only in these; empty where it is wholly refused.
    pub transfer_syntaxes: Vec<String>,
}

impl Difference {
    /// Compares. What a gateway carries is what it takes from its PACS or sends to its destinations.
    pub fn between(ours: &FarEnd, theirs: &FarEnd) -> Self {
        let carried = ours.sends.as_ref().or(ours.takes.as_ref());
        let both = |from: Option<&Takes>, to: Option<&Takes>| Some(refused(from?, to?));
        Self {
            ours: ours.name.clone(),
            theirs: theirs.name.clone(),
            they_refuse: both(carried, theirs.takes.as_ref()),
            we_refuse: both(theirs.sends.as_ref(), ours.takes.as_ref()),
        }
    }

    /// SOP classes of which something is refused, on both sides.
    pub fn count(&self) -> usize {
        self.they_refuse.iter().chain(&self.we_refuse).map(Vec::len).sum()
    }

    /// There was something to compare.
    pub fn is_comparable(&self) -> bool {
        self.they_refuse.is_some() || self.we_refuse.is_some()
    }
}

/// Unlisted classes and syntaxes cannot be compared one by one: they count where `from` has them by name.
fn refused(from: &Takes, to: &Takes) -> Vec<Refused> {
    let mut all = Vec::new();
    for (class, offered) in &from.classes {
        let taken = to.syntaxes_of(class);
        let missing: Vec<String> = offered
            .listed
            .iter()
            .filter(|syntax| taken.is_none_or(|taken| !taken.takes(syntax)))
            .cloned()
            .collect();
        if missing.is_empty() {
            continue;
        }
        let wholly = missing.len() == offered.listed.len();
        all.push(Refused {
            name: Uid::parse(class).ok().and_then(|uid| SopClassKind::of(&uid).name()),
            sop_class: class.clone(),
            wholly,
            transfer_syntaxes: if wholly { Vec::new() } else { missing },
        });
    }
    all
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, theirs, .. } = self;
        match &self.they_refuse {
            Some(rows) => write_rows(f, &format!("{theirs} refuses of what {ours} carries"), rows)?,
            None => writeln!(f, "{theirs} takes nothing by C-STORE: not compared")?,
        }
        match &self.we_refuse {
            Some(rows) => write_rows(f, &format!("{ours} refuses of what {theirs} sends"), rows),
            None => Ok(()),
        }
    }
}

fn write_rows(f: &mut fmt::Formatter<'_>, what: &str, rows: &[Refused]) -> fmt::Result {
    if rows.is_empty() {
        return writeln!(f, "{what}: nothing");
    }
    writeln!(f, "{what}: something of {} SOP classes", rows.len())?;
    for row in rows {
        let name = row.name.unwrap_or("not in the tables");
        writeln!(f, "  {:<32} {name}", row.sop_class)?;
        if row.wholly {
            writeln!(f, "    in every transfer syntax")?;
        }
        for syntax in &row.transfer_syntaxes {
            let named =
                Uid::parse(syntax).ok().and_then(|uid| transfer_syntax(&uid)).map_or("", |row| row.name);
            writeln!(f, "    {syntax:<30} {named}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::far_end::FarEndError;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
    const EXPLICIT: &str = "1.2.840.10008.1.2.1";
    const JPEG: &str = "1.2.840.10008.1.2.4.50";

    fn list(text: &str) -> FarEnd {
        FarEnd::read(text).unwrap()
    }

    #[test]
    fn a_class_is_refused_wholly_or_in_some_syntaxes() {
        let ours = list(&format!(
            r#"{{"name": "ours", "sends": [{{"sop_class": "{CT}", "transfer_syntaxes": ["{EXPLICIT}", "{JPEG}"]}},
                {{"sop_class": "{MR}", "transfer_syntaxes": ["{EXPLICIT}"]}}]}}"#
        ));
        let theirs = list(&format!(
            r#"{{"name": "theirs", "accepts": [{{"sop_class": "{CT}", "transfer_syntaxes": ["{EXPLICIT}"]}}]}}"#
        ));
        let difference = Difference::between(&ours, &theirs);
        assert_eq!((difference.count(), difference.we_refuse.as_ref()), (2, None));
        assert_eq!(
            difference.to_string(),
            "theirs refuses of what ours carries: something of 2 SOP classes\n\
             \x20 1.2.840.10008.5.1.4.1.1.2        CT Image Storage\n\
             \x20   1.2.840.10008.1.2.4.50         JPEG Baseline (Process 1)\n\
             \x20 1.2.840.10008.5.1.4.1.1.4        MR Image Storage\n\
             \x20   in every transfer syntax\n"
        );
        assert!(!Difference::between(&ours, &ours).is_comparable());
    }

    #[test]
    fn a_file_that_is_no_statement_and_no_list_is_refused_with_a_reason() {
        type Want = fn(&FarEndError) -> bool;
        let cases: [(&str, Want); 6] = [
            ("", |error| matches!(error, FarEndError::Json(_))),
            ("[]", |error| matches!(error, FarEndError::Unknown)),
            (r#"{"format": "sluis-statement-0"}"#, |error| matches!(error, FarEndError::Format(_))),
            (r#"{"format": "sluis-statement-1"}"#, |error| matches!(error, FarEndError::Content(_))),
            (r#"{"accepts": [{"sop_class": "1.2"}]}"#, |error| matches!(error, FarEndError::Content(_))),
            (r#"{"accepts": [{"sop_class": "x", "transfer_syntaxes": []}]}"#, |error| {
                matches!(error, FarEndError::NotUid(_))
            }),
        ];
        for (text, want) in cases {
            assert!(want(&FarEnd::read(text).unwrap_err()), "{text}");
        }
    }
}
