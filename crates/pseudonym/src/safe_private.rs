//! Private attributes that are safe to keep: Table E.3.10-1 of PS3.15.

use std::collections::HashMap;
use std::sync::LazyLock;

use dataset::{Tag, Vr};

/// The file, with its provenance in the first lines.
pub const TABLE_E3_10_1: &str = include_str!("../data/table_e3-10-1_safe_private.csv");

/// Table E.3.10-1.
#[derive(Debug)]
pub struct SafePrivate {
    /// By creator, then group and the lower half of the element.
    rows: HashMap<&'static str, HashMap<(u16, u8), Option<Vr>>>,
}

impl SafePrivate {
    /// The table.
    pub fn get() -> &'static Self {
        static TABLE: LazyLock<SafePrivate> = LazyLock::new(|| {
            #[expect(
                clippy::expect_used,
                reason = "the file is part of the program; its digest and rows are tested"
            )]
            SafePrivate::parse(TABLE_E3_10_1).expect("Table E.3.10-1 as it was committed")
        });
        &TABLE
    }

    /// The creator as the table writes it, if a block of its in this group has safe attributes.
    pub fn creator(&self, group: u16, creator: &str) -> Option<&'static str> {
        let (name, rows) = self.rows.get_key_value(creator)?;
        rows.keys().any(|(of, _)| *of == group).then_some(*name)
    }

    /// The value representation of a safe attribute; the inner `None` where the table has none.
    pub fn row(&self, creator: &str, tag: Tag) -> Option<Option<Vr>> {
        let [_, low] = tag.1.to_be_bytes();
        self.rows.get(creator)?.get(&(tag.0, low)).copied()
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.rows.values().map(HashMap::len).sum()
    }

    /// It never is.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn parse(text: &'static str) -> Option<Self> {
        let mut rows: HashMap<&'static str, HashMap<_, _>> = HashMap::new();
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
        for record in reader.records() {
            let record = record.ok()?;
            let (group, element) = record.get(0)?.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
            let group = u16::from_str_radix(group, 16).ok()?;
            let low = u8::from_str_radix(element.strip_prefix("xx")?, 16).ok()?;
            let creator = record.get(1)?;
            let at = text.find(creator)?;
            let vr = record.get(2)?;
            let vr = if vr.is_empty() { None } else { Some(Vr(*vr.as_bytes().first_chunk()?)) };
            rows.entry(text.get(at..at + creator.len())?).or_default().insert((group, low), vr);
        }
        Some(Self { rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_that_was_reviewed() {
        let digest = base::Digest::of(TABLE_E3_10_1.as_bytes());
        assert_eq!(
            hex::encode(digest.as_bytes()),
            "da871b42a3ea0e5fb1eea1fc6a6a86393cdf4a47129c87007eec72e39afced72"
        );
        let table = SafePrivate::get();
        assert_eq!((table.len(), table.rows.len()), (479, 20));
    }

    #[test]
    fn a_safe_attribute_is_one_of_its_creator_only() {
        let table = SafePrivate::get();
        let tag = Tag(0x0019, 0x1023);
        assert_eq!(table.row("GEMS_ACQU_01", tag), Some(Some(Vr(*b"DS"))));
        assert_eq!(table.row("GEMS_PARM_01", tag), None);
        assert_eq!(table.row("GEMS_ACQU_01", Tag(0x0019, 0x1022)), None);
        assert_eq!(table.creator(0x0019, "GEMS_ACQU_01"), Some("GEMS_ACQU_01"));
        assert_eq!(table.creator(0x0021, "GEMS_ACQU_01"), None);
    }
}
