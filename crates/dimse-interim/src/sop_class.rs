//! Which SOP classes are stored with C-STORE: committed tables, since the dictionary does not say.

mod other;
mod storage;

use base::Uid;

pub use other::NOT_STORAGE_SOP_CLASSES;
pub use storage::STORAGE_SOP_CLASSES;

/// One row of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SopClass {
    /// UID.
    pub uid: &'static str,
    /// UID name, without "SOP Class".
    pub name: &'static str,
    /// Retired from the standard; archives are full of them all the same.
    pub retired: bool,
}

const fn current(uid: &'static str, name: &'static str) -> SopClass {
    SopClass { uid, name, retired: false }
}

const fn retired(uid: &'static str, name: &'static str) -> SopClass {
    SopClass { uid, name, retired: true }
}

/// Verification SOP Class (C-ECHO).
pub const VERIFICATION: &str = "1.2.840.10008.1.1";

/// What is known of a SOP class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SopClassKind {
    /// In [`STORAGE_SOP_CLASSES`].
    Storage(&'static SopClass),
    /// In [`NOT_STORAGE_SOP_CLASSES`].
    Other(&'static SopClass),
    /// In neither: private, or newer than the tables.
    Unknown,
}

impl SopClassKind {
    /// Looks a class up.
    pub fn of(uid: &Uid) -> Self {
        let find = |table: &'static [SopClass]| table.iter().find(|row| row.uid == uid.as_str());
        if let Some(row) = find(STORAGE_SOP_CLASSES) {
            return Self::Storage(row);
        }
        find(NOT_STORAGE_SOP_CLASSES).map_or(Self::Unknown, Self::Other)
    }

    /// The name, where the class is known.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Storage(row) | Self::Other(row) => Some(row.name),
            Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The dictionary cannot be enumerated, but it prints itself.
    fn dictionary() -> BTreeMap<String, bool> {
        let text = format!("{:?}", dicom_dictionary_std::sop_class::registry());
        let entries = text.split("UidDictionaryEntryRef {").skip(1);
        let field = |entry: &str, name: &str| {
            let rest = entry.split_once(name).unwrap().1;
            rest.split([',', '}']).next().unwrap().trim().trim_matches('"').to_owned()
        };
        entries.map(|entry| (field(entry, " uid: "), field(entry, "retired: ") == "true")).collect()
    }

    #[test]
    fn every_sop_class_of_the_dictionary_is_in_exactly_one_table() {
        let dictionary = dictionary();
        assert!(dictionary.len() > 300, "only {} classes read from the dictionary", dictionary.len());
        let rows = |uid: &str| {
            STORAGE_SOP_CLASSES.iter().chain(NOT_STORAGE_SOP_CLASSES).filter(|row| row.uid == uid).collect::<Vec<_>>()
        };
        for (uid, retired) in &dictionary {
            let found = rows(uid);
            assert_eq!(found.len(), 1, "{uid}");
            assert_eq!(found[0].retired, *retired, "{uid}");
        }
    }

    #[test]
    fn no_row_is_repeated_or_unknown_to_the_dictionary() {
        let dictionary = dictionary();
        let mut seen = std::collections::BTreeSet::new();
        for row in STORAGE_SOP_CLASSES.iter().chain(NOT_STORAGE_SOP_CLASSES) {
            assert!(seen.insert(row.uid), "{} is in the tables twice", row.uid);
            assert!(Uid::parse(row.uid).is_ok());
            assert!(dictionary.contains_key(row.uid) || row.name.ends_with("Meta"), "{} {}", row.uid, row.name);
        }
    }

    #[test]
    fn what_is_no_storage_is_told_apart() {
        let storage = ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.38.1"];
        let other = ["1.2.840.10008.1.20.1", "1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.1.2.1.2", VERIFICATION];
        for uid in storage {
            assert!(matches!(SopClassKind::of(&Uid::parse(uid).unwrap()), SopClassKind::Storage(_)), "{uid}");
        }
        for uid in other {
            assert!(matches!(SopClassKind::of(&Uid::parse(uid).unwrap()), SopClassKind::Other(_)), "{uid}");
        }
        assert_eq!(SopClassKind::of(&Uid::parse("1.3.6.1.4.1.99.2").unwrap()), SopClassKind::Unknown);
    }
}
