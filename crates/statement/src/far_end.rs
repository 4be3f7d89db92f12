//! What a far end takes and sends, by its own statement: that of another Sluis, or a plain list.

use std::collections::{BTreeMap, BTreeSet};

use base::Uid;
use dimse::SopClassKind;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::model::{Statement, Storage};

/// The SOP classes and transfer syntaxes of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarEnd {
    /// How it is called in a report.
    pub name: String,
    /// As provider of Storage; `None` where it is none.
    pub takes: Option<Takes>,
    /// As user of Storage; `None` where it is none.
    pub sends: Option<Takes>,
}

/// Which SOP classes, in which transfer syntaxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takes {
    /// By the SOP class.
    pub classes: BTreeMap<String, Syntaxes>,
    /// Classes that are not listed, and are none of the standard's other services.
    pub others: bool,
}

/// Which transfer syntaxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntaxes {
    /// By UID.
    pub listed: BTreeSet<String>,
    /// Those that are not listed, too.
    pub others: bool,
}

impl Syntaxes {
    /// It takes this one.
    pub fn takes(&self, syntax: &str) -> bool {
        self.others || self.listed.contains(syntax)
    }
}

impl Takes {
    /// What is taken of a class; `None` if nothing is.
    pub fn syntaxes_of(&self, class: &str) -> Option<&Syntaxes> {
        let unlisted = || {
            let is_storage =
                Uid::parse(class).is_ok_and(|uid| !matches!(SopClassKind::of(&uid), SopClassKind::Other(_)));
            if self.others && is_storage { self.classes.values().next() } else { None }
        };
        self.classes.get(class).or_else(unlisted)
    }
}

/// Why a far end's file cannot be used.
#[derive(Debug, Error)]
pub enum FarEndError {
    /// It is no JSON.
    #[error("it is not JSON: {0}")]
    Json(serde_json::Error),
    /// It is JSON of something else.
    #[error(
        "it is neither a Sluis statement (\"format\": \"{}\") nor a list {{\"accepts\": [{{\"sop_class\": UID, \
         \"transfer_syntaxes\": [UID, …]}}, …]}}",
        Statement::FORMAT
    )]
    Unknown,
    /// A statement of another version.
    #[error("it has the format \"{0}\"; this program reads \"{format}\"", format = Statement::FORMAT)]
    Format(String),
    /// A statement or list that cannot be read.
    #[error("it cannot be read: {0}")]
    Content(serde_json::Error),
    /// Something that is no UID.
    #[error("\"{0}\" is not a UID")]
    NotUid(String),
}

/// A plain list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    accepts: Option<Vec<ListRow>>,
    #[serde(default)]
    sends: Option<Vec<ListRow>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListRow {
    sop_class: String,
    transfer_syntaxes: Vec<String>,
}

impl FarEnd {
    /// Reads a file's text.
    pub fn read(text: &str) -> Result<Self, FarEndError> {
        let value: Value = serde_json::from_str(text).map_err(FarEndError::Json)?;
        if let Some(format) = value.get("format").and_then(Value::as_str) {
            if format != Statement::FORMAT {
                return Err(FarEndError::Format(format.to_owned()));
            }
            let statement: Statement = serde_json::from_value(value).map_err(FarEndError::Content)?;
            return Ok(Self::from(&statement));
        }
        if value.get("accepts").is_none() && value.get("sends").is_none() {
            return Err(FarEndError::Unknown);
        }
        let list: List = serde_json::from_value(value).map_err(FarEndError::Content)?;
        Ok(Self {
            name: list.name.unwrap_or_else(|| "the far end".to_owned()),
            takes: list.accepts.map(of_list).transpose()?,
            sends: list.sends.map(of_list).transpose()?,
        })
    }
}

fn of_list(rows: Vec<ListRow>) -> Result<Takes, FarEndError> {
    let mut classes: BTreeMap<String, Syntaxes> = BTreeMap::new();
    let checked =
        |uid: String| if Uid::parse(&uid).is_ok() { Ok(uid) } else { Err(FarEndError::NotUid(uid)) };
    for row in rows {
        let listed = row.transfer_syntaxes.into_iter().map(checked).collect::<Result<BTreeSet<_>, _>>()?;
        let class = classes.entry(checked(row.sop_class)?);
        class.or_insert_with(|| Syntaxes { listed: BTreeSet::new(), others: false }).listed.extend(listed);
    }
    Ok(Takes { classes, others: false })
}

impl From<&Statement> for FarEnd {
    fn from(statement: &Statement) -> Self {
        let Storage { scp, scu, .. } = statement.storage;
        let takes = || Takes {
            classes: statement
                .storage
                .sop_classes
                .iter()
                .map(|class| (class.uid.clone(), syntaxes(&statement.storage)))
                .collect(),
            others: statement.storage.other_sop_classes.accepted,
        };
        Self {
            name: format!("{} {}", statement.product.role, statement.product.version),
            takes: scp.then(takes),
            sends: scu.then(takes),
        }
    }
}

fn syntaxes(storage: &Storage) -> Syntaxes {
    Syntaxes {
        listed: storage.transfer_syntaxes.iter().map(|row| row.uid.clone()).collect(),
        others: storage.other_transfer_syntaxes.accepted,
    }
}
