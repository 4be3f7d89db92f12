//! Table E.1-1 of PS3.15, edition 2026d, as data: 657 rows, each with the action of the basic profile and what the options change.

use std::collections::HashMap;
use std::sync::LazyLock;

use dataset::Tag;

use crate::option::{OptionSet, ProfileOption};

/// The file, with its provenance in the first lines.
pub const TABLE_E1_1: &str = include_str!("../data/table_e1-1.csv");
/// The edition of PS3.15 that it is of.
pub const EDITION: &str = "2026d";

/// What Table E.1-1 says about some attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which attributes.
    pub tags: Tags,
    /// Its name in the table.
    pub name: &'static str,
    /// The column "Basic Prof."
    pub basic: Code,
    /// Options whose column says K.
    pub kept: OptionSet,
    /// Options whose column says C.
    pub cleaned: OptionSet,
}

/// The first column of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tags {
    /// One attribute.
    One(Tag),
    /// One attribute of each overlay: (60xx,eeee).
    Overlays(u16),
    /// All of curves: (50xx,xxxx).
    Curves,
    /// Odd groups.
    Private,
}

/// An action code of Table E.1-1a. What a slash separates is chosen by the attribute's type in the SOP class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// D: a dummy value of the same value representation.
    Dummy,
    /// Z: empty, or a dummy value.
    Zero,
    /// X: removed.
    Remove,
    /// U: a UID that is consistent within a set of instances.
    Uid,
    /// Z/D
    ZeroOrDummy,
    /// X/Z
    RemoveOrZero,
    /// X/D
    RemoveOrDummy,
    /// X/Z/D
    RemoveZeroOrDummy,
    /// X/Z/U*: of the sequence, its UIDs.
    RemoveZeroOrUids,
}

/// Table E.1-1.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Row>,
    by_tags: HashMap<Tags, usize>,
}

/// The options of the columns after the basic profile's, in the file's order.
const COLUMNS: [ProfileOption; 10] = [
    ProfileOption::RetainSafePrivate,
    ProfileOption::RetainUids,
    ProfileOption::RetainDeviceIdentity,
    ProfileOption::RetainInstitutionIdentity,
    ProfileOption::RetainPatientCharacteristics,
    ProfileOption::RetainFullDates,
    ProfileOption::RetainModifiedDates,
    ProfileOption::CleanDescriptors,
    ProfileOption::CleanStructuredContent,
    ProfileOption::CleanGraphics,
];

impl Table {
    /// The table.
    pub fn get() -> &'static Self {
        static TABLE: LazyLock<Table> = LazyLock::new(|| {
            #[expect(
                clippy::expect_used,
                reason = "the file is part of the program; its digest and rows are tested"
            )]
            Table::parse(TABLE_E1_1).expect("Table E.1-1 as it was committed")
        });
        &TABLE
    }

    /// All rows, in the order of the table.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row of an attribute.
    pub fn row(&self, tag: Tag) -> Option<&Row> {
        let tags = Tags::of(tag);
        let at = self.by_tags.get(&tags).or_else(|| self.by_tags.get(&Tags::One(tag)))?;
        self.rows.get(*at)
    }

    fn parse(text: &'static str) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
        let (mut rows, mut by_tags) = (Vec::new(), HashMap::new());
        for record in reader.records() {
            let record = record.map_err(|error| error.to_string())?;
            let row = row(&record, text).ok_or_else(|| format!("{record:?}"))?;
            by_tags.insert(row.tags, rows.len());
            rows.push(row);
        }
        Ok(Self { rows, by_tags })
    }
}

impl Tags {
    /// How a row that has this attribute names it, unless it names it alone.
    fn of(tag: Tag) -> Self {
        match tag {
            _ if tag.is_private() => Self::Private,
            Tag(group, element) if group & 0xFF00 == 0x6000 => Self::Overlays(element),
            Tag(group, _) if group & 0xFF00 == 0x5000 => Self::Curves,
            _ => Self::One(tag),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text.ends_with("odd") {
            return Some(Self::Private);
        }
        let (group, element) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
        match (group, element) {
            ("50xx", "xxxx") => Some(Self::Curves),
            ("60xx", element) => u16::from_str_radix(element, 16).ok().map(Self::Overlays),
            _ => {
                let hex = |digits| u16::from_str_radix(digits, 16).ok();
                Some(Self::One(Tag(hex(group)?, hex(element)?)))
            }
        }
    }
}

impl Code {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "D" => Self::Dummy,
            "Z" => Self::Zero,
            "X" => Self::Remove,
            "U" => Self::Uid,
            "Z/D" => Self::ZeroOrDummy,
            "X/Z" => Self::RemoveOrZero,
            "X/D" => Self::RemoveOrDummy,
            "X/Z/D" => Self::RemoveZeroOrDummy,
            "X/Z/U*" => Self::RemoveZeroOrUids,
            _ => return None,
        })
    }
}

fn row(record: &csv::StringRecord, text: &'static str) -> Option<Row> {
    let (mut kept, mut cleaned) = (OptionSet::default(), OptionSet::default());
    for (option, cell) in COLUMNS.into_iter().zip(record.iter().skip(5)) {
        match cell {
            "" => {}
            "K" => kept.insert(option),
            "C" => cleaned.insert(option),
            _ => return None,
        }
    }
    // The name as it stands in the file, which lives as long as the program.
    let name = record.get(1)?;
    let at = text.find(name)?;
    Some(Row {
        tags: Tags::parse(record.get(0)?)?,
        name: text.get(at..at + name.len())?,
        basic: Code::parse(record.get(4)?)?,
        kept,
        cleaned,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_that_was_reviewed() {
        let digest = base::Digest::of(TABLE_E1_1.as_bytes());
        assert_eq!(
            hex::encode(digest.as_bytes()),
            "5e475ca5f9b98d19901f7ebee9f1f77d3dca7d88ae7365fea1f7648d35c85fcf"
        );
        let table = Table::get();
        assert_eq!(table.rows().len(), 657);
        let count = |code| table.rows().iter().filter(|row| row.basic == code).count();
        let counts = [
            (Code::Remove, 417),
            (Code::Dummy, 93),
            (Code::Uid, 55),
            (Code::Zero, 42),
            (Code::RemoveOrDummy, 23),
            (Code::RemoveOrZero, 11),
            (Code::RemoveZeroOrDummy, 8),
            (Code::ZeroOrDummy, 6),
            (Code::RemoveZeroOrUids, 2),
        ];
        for (code, want) in counts {
            assert_eq!(count(code), want, "{code:?}");
        }
        let kept = |option| table.rows().iter().filter(|row| row.kept.has(option)).count();
        assert_eq!(kept(ProfileOption::RetainUids), 60);
        assert_eq!(kept(ProfileOption::RetainFullDates), 169);
        assert_eq!(table.by_tags.len(), 657, "no attribute stands in two rows");
    }

    #[test]
    fn an_attribute_finds_its_row() {
        let row = |group, element| Table::get().row(Tag(group, element)).map(|row| row.name);
        assert_eq!(row(0x0010, 0x0010), Some("Patient's Name"));
        assert_eq!(row(0x6002, 0x3000), Some("Overlay Data"));
        assert_eq!(row(0x6002, 0x0010), None);
        assert_eq!(row(0x5004, 0x0001), Some("Curve Data"));
        assert_eq!(row(0x0009, 0x1001), Some("Private Attributes"));
        assert_eq!(row(0x0028, 0x0010), None);
    }
}
