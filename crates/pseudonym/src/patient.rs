//! Who a patient is: two spellings of one identifier must give one pseudonym, and what identifies nobody must give none.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::key::PatientKey;
use crate::refusal::Refusal;

/// `[patient]` of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatientRules {
    /// Who gave the patient its identifier: a constant, or `"header"` for Issuer of Patient ID (0010,0021). Modalities fill
    /// that in or not as they like, so that a constant is what keeps CT and MR of one patient together. Default `""`.
    pub issuer: String,
    /// `"keep"` (default), or `"upper"` where `ab12` and `AB12` are one patient.
    pub case: Case,
    /// `"keep"` (default), or `"strip"` where `00123` and `123` are one patient.
    pub zeros: Zeros,
    /// Identifiers that are nobody's; `*` at the end stands for anything. Instances with one are refused.
    pub nobody: Vec<String>,
}

/// Of letters in an identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// They differ.
    #[default]
    Keep,
    /// They do not.
    Upper,
}

/// Of zeros in front of an identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zeros {
    /// They count.
    #[default]
    Keep,
    /// They do not.
    Strip,
}

/// The issuer that stands for "as the instance says".
const HEADER: &str = "header";

impl Default for PatientRules {
    fn default() -> Self {
        let nobody = [
            "UNKNOWN*",
            "ANON*",
            "TEST*",
            "NONE",
            "NO ID",
            "N/A",
            "NA",
            "NULL",
            "TRAUMA*",
            "NOTFALL*",
            "EMERGENCY*",
            "XXX*",
        ];
        Self {
            issuer: String::new(),
            case: Case::Keep,
            zeros: Zeros::Keep,
            nobody: nobody.map(str::to_owned).to_vec(),
        }
    }
}

impl PatientRules {
    /// The issuer that counts, given what the instance says.
    pub(crate) fn issuer(&self, header: &str) -> String {
        let issuer = if self.issuer == HEADER { header } else { &self.issuer };
        trimmed(issuer).nfc().collect()
    }

    /// A patient, or why this is none.
    pub(crate) fn patient(&self, issuer: &str, id: &str) -> Result<PatientKey, Refusal> {
        let id = self.normal(id);
        let folded = id.to_uppercase();
        // Zeros, blanks and marks only: the default of a work list, never a patient.
        if !folded.chars().any(|c| c.is_alphanumeric() && c != '0') {
            return Err(Refusal::NoPatient);
        }
        let is_nobody = |pattern: &String| {
            let pattern = pattern.to_uppercase();
            match pattern.strip_suffix('*') {
                Some(start) => folded.starts_with(start),
                None => folded == pattern,
            }
        };
        if self.nobody.iter().any(is_nobody) {
            return Err(Refusal::NoPatient);
        }
        Ok(PatientKey { issuer: self.issuer(issuer), id })
    }

    /// As [`PatientRules::patient`], for an identifier inside a sequence, which may be anything.
    pub(crate) fn nested(&self, issuer: &str, id: &str) -> PatientKey {
        PatientKey { issuer: self.issuer(issuer), id: self.normal(id) }
    }

    fn normal(&self, id: &str) -> String {
        let id: String = trimmed(id).nfc().collect();
        let id = match self.case {
            Case::Keep => id,
            Case::Upper => id.to_uppercase(),
        };
        match self.zeros {
            Zeros::Keep => id,
            Zeros::Strip => id.trim_start_matches('0').to_owned(),
        }
    }
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_patient_are_one_patient() {
        let rules = PatientRules { case: Case::Upper, zeros: Zeros::Strip, ..PatientRules::default() };
        let one = rules.patient("", " 00ab12\0").unwrap();
        assert_eq!(one, rules.patient("ignored", "AB12").unwrap());
        let exact = PatientRules::default();
        assert_ne!(exact.patient("", "00ab12"), exact.patient("", "AB12"));
        assert_eq!(exact.patient("", "Mu\u{308}ller 1"), exact.patient("", "M\u{fc}ller 1"), "NFC");
    }

    #[test]
    fn the_issuer_is_the_routes_unless_the_header_is_asked_for() {
        let constant = PatientRules { issuer: "NORTH".into(), ..PatientRules::default() };
        assert_eq!(constant.patient("X", "1"), constant.patient("", "1"));
        let header = PatientRules { issuer: "header".into(), ..PatientRules::default() };
        assert_ne!(header.patient("X", "1"), header.patient("", "1"));
        assert_eq!(header.patient("X ", "1").unwrap().issuer, "X");
    }

    #[test]
    fn what_identifies_nobody_is_no_patient() {
        let rules = PatientRules::default();
        for id in ["", "  ", "\0", "0", "0000", "-", "unknown", "UNKNOWN^2", "Test17", "anonymous", "n/a"] {
            assert_eq!(rules.patient("", id), Err(Refusal::NoPatient), "{id:?}");
        }
        for id in ["1", "4711", "NATHAN", "山田1", "0a"] {
            assert!(rules.patient("", id).is_ok(), "{id:?}");
        }
    }
}
