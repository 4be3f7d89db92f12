//! What is known of the types in configurations.

use std::collections::BTreeMap;

use syn::{Expr, Type};

/// All types and functions, by crate and name.
#[derive(Default)]
pub(super) struct Model {
    pub(super) tables: BTreeMap<(String, String), Table>,
    pub(super) choices: BTreeMap<(String, String), Choice>,
    /// Functions without arguments and constants: the expression that they are.
    pub(super) values: BTreeMap<(String, String), Expr>,
    /// `impl Default`: the fields that it gives.
    pub(super) defaults: BTreeMap<(String, String), BTreeMap<String, Expr>>,
}

/// A struct that a table is read into.
pub(super) struct Table {
    /// The crate that it stands in.
    pub(super) of: String,
    pub(super) name: String,
    pub(super) doc: String,
    pub(super) fields: Vec<Field>,
}

/// A key.
pub(super) struct Field {
    pub(super) key: String,
    /// As the struct calls it.
    pub(super) field: String,
    pub(super) doc: String,
    pub(super) kind: Type,
    pub(super) absent: Absent,
}

/// What holds where the key is left away.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Absent {
    /// Nothing: it has to be there.
    Refused,
    /// What the type has by itself.
    OfType,
    /// What a function says.
    Function(String),
    /// What the whole struct has by itself.
    OfStruct,
}

/// An enum whose variants are words.
pub(super) struct Choice {
    /// Variant and word.
    pub(super) words: Vec<(String, String)>,
    pub(super) default: Option<String>,
}

impl Model {
    /// The struct of this name as it is seen from a crate: its own, else the only one of all libraries.
    pub(super) fn table(&self, from: &str, name: &str) -> Option<&Table> {
        find(&self.tables, from, name)
    }

    /// The same for an enum.
    pub(super) fn choice(&self, from: &str, name: &str) -> Option<&Choice> {
        find(&self.choices, from, name)
    }
}

fn find<'a, T>(all: &'a BTreeMap<(String, String), T>, from: &str, name: &str) -> Option<&'a T> {
    if let Some(own) = all.get(&(from.to_owned(), name.to_owned())) {
        return Some(own);
    }
    let of_libraries = |of: &str, other: &str| of.starts_with("crates/") && other == name;
    let mut others = all.iter().filter(|((of, other), _)| of_libraries(of, other)).map(|(_, found)| found);
    match (others.next(), others.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}
