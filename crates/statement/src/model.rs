//! The statement as data. Its JSON form is this, field by field; whoever reads it finds every provable row by its
//! `claim`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{document::Stage, program::Build};

/// What one gateway claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// [`Statement::FORMAT`].
    pub format: String,
    /// What it is about.
    pub product: Product,
    /// The program that wrote it; left out of the statement of a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// Services and roles.
    pub services: Vec<ServiceRow>,
    /// Services of PS3.18 and roles, where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub web_services: Vec<WebServiceRow>,
    /// What their requests are like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub web: Vec<Fact>,
    /// SOP classes and transfer syntaxes.
    pub storage: Storage,
    /// Fields and items of the association negotiation, and its limits.
    pub negotiation: Vec<Fact>,
    /// Times that a peer may take.
    pub timers: Vec<Fact>,
    /// A-ASSOCIATE-RJ that we send.
    pub rejections: Vec<RejectionRow>,
    /// Results of presentation contexts that we send.
    pub contexts: Vec<ContextRow>,
    /// A-ABORT that we send.
    pub aborts: Vec<AbortRow>,
    /// Statuses that we answer as SCP.
    pub answers: Vec<AnswerRow>,
    /// What follows from a status that we get as SCU.
    pub outcomes: Vec<OutcomeRow>,
    /// What follows where no status comes.
    pub failures: Vec<FailureRow>,
    /// Failure reasons (0008,1197) that we report: code, the standard's words, what leads to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failure_reasons: Vec<Fact>,
    /// Transport security.
    pub security: Vec<SecurityRow>,
    /// The de-identification profile and its options (PS3.15 E.2, E.3), where instances can be pseudonymized.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deidentification: Vec<DeidentificationRow>,
    /// Configuration that a peer can notice, with its values.
    pub settings: Vec<Setting>,
    /// Application entities of one installation; empty where the statement is that of the product.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<Entity>,
    /// Sentences.
    pub prose: Prose,
}

impl Statement {
    /// Version of the JSON form.
    pub const FORMAT: &str = "sluis-statement-1";

    /// As JSON with a line feed at its end.
    pub fn json(&self) -> String {
        #[expect(clippy::expect_used, reason = "no map with keys that are no text, no number out of range")]
        let text = serde_json::to_string_pretty(self).expect("a statement has a JSON form");
        text + "\n"
    }
}

/// Which gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Takes instances from a PACS: SCP of Storage.
    GatewayOut,
    /// Hands instances to a destination: SCU of Storage.
    GatewayIn,
}

impl Role {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::GatewayOut => "gateway-out",
            Self::GatewayIn => "gateway-in",
        }
    }

    /// What stands before each of its claims.
    pub fn claim(self, group: &str, row: &str) -> String {
        let side = match self {
            Self::GatewayOut => "out",
            Self::GatewayIn => "in",
        };
        format!("{side}/{group}/{row}")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Which gateway.
    pub role: Role,
    /// Version of all of Sluis.
    pub version: String,
    /// The values are those of one installation's configuration, not the defaults.
    pub configured: bool,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// What a test proves.
    pub claim: String,
    /// Its name.
    pub service: String,
    /// Its SOP class, where it is one.
    pub sop_class: Option<String>,
    /// Offered as user.
    pub scu: bool,
    /// Offered as provider.
    pub scp: bool,
    /// In a sentence.
    pub note: String,
}

/// One transaction of a DICOM web service (PS3.18).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebServiceRow {
    /// What a test proves.
    pub claim: String,
    /// The service.
    pub service: String,
    /// The transaction, and the name that people use.
    pub transaction: String,
    /// Requests are made.
    pub user_agent: bool,
    /// Requests are answered.
    pub origin_server: bool,
    /// In a sentence.
    pub note: String,
}

/// SOP classes and transfer syntaxes of Storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// As user.
    pub scu: bool,
    /// As provider.
    pub scp: bool,
    /// Each with every row of `transfer_syntaxes`.
    pub sop_classes: Vec<ClassRow>,
    /// Classes that are in no table: private ones, and those that are newer than this version.
    pub other_sop_classes: Policy,
    /// Classes of the standard that are not accepted.
    pub refused_sop_classes: Vec<ClassRow>,
    /// Each for every SOP class.
    pub transfer_syntaxes: Vec<SyntaxRow>,
    /// Transfer syntaxes that are in no table.
    pub other_transfer_syntaxes: Policy,
    /// How one of several is chosen, the strongest rule first.
    pub choice: Vec<Fact>,
}

/// One SOP class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassRow {
    /// What a test proves.
    pub claim: String,
    /// UID.
    pub uid: String,
    /// UID name of PS3.6.
    pub name: String,
    /// Retired from the standard.
    pub retired: bool,
}

/// One transfer syntax.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyntaxRow {
    /// What a test proves.
    pub claim: String,
    /// UID.
    pub uid: String,
    /// UID name of PS3.6.
    pub name: String,
    /// What it does to pixels.
    pub pixels: String,
    /// Data sets in it are walked for truncation and mismatch.
    pub walked: bool,
}

/// What happens to what is in no table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What a test proves.
    pub claim: String,
    /// Accepted.
    pub accepted: bool,
    /// In a sentence.
    pub note: String,
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What a test proves.
    pub claim: String,
    /// What it is.
    pub name: String,
    /// Its value, with its unit.
    pub value: String,
    /// Conditions, and where it can be changed.
    pub note: String,
}

/// One result, source and reason of an A-ASSOCIATE-RJ (PS3.8 Table 9-21).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectionRow {
    /// What a test proves.
    pub claim: String,
    /// 1 permanent, 2 transient.
    pub result: u8,
    /// 1 service user, 2 service provider (ACSE), 3 service provider (presentation).
    pub source: u8,
    /// By source.
    pub reason: u8,
    /// The standard's words.
    pub meaning: String,
    /// What leads to it.
    pub when: String,
}

/// One result of a presentation context (PS3.8 Table 9-18).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextRow {
    /// What a test proves.
    pub claim: String,
    /// Result/Reason.
    pub result: u8,
    /// The standard's words.
    pub meaning: String,
    /// What leads to it.
    pub when: String,
}

/// One source and reason of an A-ABORT (PS3.8 Table 9-26).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortRow {
    /// What a test proves.
    pub claim: String,
    /// 0 service user, 2 service provider.
    pub source: u8,
    /// By source.
    pub reason: u8,
    /// The standard's words.
    pub meaning: String,
    /// What leads to it.
    pub when: String,
}

/// One status that we answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRow {
    /// What a test proves.
    pub claim: String,
    /// C-STORE, …
    pub operation: String,
    /// Four hexadecimal digits.
    pub status: String,
    /// Error Comment (0000,0902).
    pub comment: Option<String>,
    /// The standard's words.
    pub meaning: String,
    /// What leads to it.
    pub when: String,
    /// Whether sending the same again can help.
    pub again: String,
}

/// What follows from a status that we get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRow {
    /// What a test proves.
    pub claim: String,
    /// C-STORE, …, or the transaction of a web service.
    pub operation: String,
    /// Hexadecimal digits, `x` for any; of a web service the HTTP status.
    pub status: String,
    /// The standard's words.
    pub meaning: String,
    /// stored, refused or deferred, for C-STORE.
    pub follows: String,
}

/// What follows where no status comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRow {
    /// What a test proves.
    pub claim: String,
    /// What happens.
    pub what: String,
    /// What we do then.
    pub follows: String,
}

/// One fact about transport security.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityRow {
    /// What a test proves.
    pub claim: String,
    /// What it is.
    pub name: String,
    /// In a sentence.
    pub value: String,
}

/// The de-identification profile, or one of its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeidentificationRow {
    /// What a test proves.
    pub claim: String,
    /// Code value of context group 7050.
    pub code: String,
    /// Its meaning.
    pub name: String,
    /// It can be chosen, and its code is written where it is.
    pub offered: bool,
    /// How it is chosen, or what happens to what needs it.
    pub note: String,
}

/// One configuration key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Table and key.
    pub key: String,
    /// The default, or the value in use.
    pub value: String,
    /// What it changes for a peer.
    pub what: String,
}

/// One application entity of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// AE title.
    pub ae: String,
    /// What distinguishes it, a sentence each.
    pub notes: Vec<String>,
}

/// Sentences, by the section of Annex N in which they stand. `` `code` `` is the one markup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prose {
    /// For somebody who compares products: a word and a sentence each.
    pub glance: Vec<(String, String)>,
    /// 1: what it is for.
    pub overview: Vec<String>,
    /// 1.7 and 5.7.
    pub character_sets: Vec<String>,
    /// 4.1: the stages that an instance passes.
    pub flow: Vec<Stage>,
    /// 4.1.1.
    pub entity: Vec<String>,
    /// 5.2.5.
    pub storage: Vec<String>,
    /// 5.2.5: level of conformance, coercion, transcoding.
    pub conformance: Vec<Fact>,
    /// 5.2.6.
    pub commitment: Vec<String>,
    /// 5.3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub web: Vec<String>,
    /// 6.1.
    pub configuration: Vec<String>,
    /// 7.2.1.1: steps in their order.
    pub sequence: Vec<String>,
    /// 7.2.1.3.
    pub initiation: Vec<String>,
    /// 7.2.1.4.
    pub acceptance: Vec<String>,
    /// 7.3.1.
    pub failures: Vec<String>,
    /// 8.1.
    pub security: Vec<String>,
    /// 8.3.
    pub ports: Vec<String>,
    /// 8.4: de-identification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deidentification: Vec<String>,
    /// 8.5.
    pub user_identity: Vec<String>,
    /// A.A.
    pub attributes: Vec<String>,
}
