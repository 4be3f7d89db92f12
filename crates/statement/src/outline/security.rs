//! 8 and the annexes.

use super::lines;
use crate::{
    document::{Cell, Section, Table},
    model::Statement,
};

pub(super) fn sections(statement: &Statement) -> Vec<Section> {
    let prose = &statement.prose;
    let transport =
        Table::of("Table 8-1. Secure transport connection", &["", "Value"], &statement.security, |row| {
            [Cell::text(&row.name), Cell::text(&row.value)]
        });
    let deidentification = Table::of(
        "Table 8-2. De-identification profile and options",
        &["Code (CID 7050)", "Meaning", "Offered", "Remark"],
        &statement.deidentification,
        |row| [Cell::code(&row.code), Cell::text(&row.name), Cell::yes(row.offered), Cell::text(&row.note)],
    );
    let mut sections = vec![
        Section::new("8", "Security"),
        Section::new("8.1", "Introduction").text(&prose.security),
        Section::new("8.2", "External network requirements").text(&lines([
            "None for DICOM: no DNS, no DHCP, no directory. Addresses are configured as numbers. Clocks should be \
             right to a second or so, for receipts and certificates.",
        ])),
        Section::new("8.3", "TCP port configuration").text(&prose.ports),
        Section::new("8.4", "DICOM security profiles")
            .table(transport)
            .text(&prose.deidentification)
            .table(deidentification),
        Section::new("8.5", "User identity negotiation").text(&prose.user_identity),
        Section::new("A.A", "Information object definitions").text(&prose.attributes),
        Section::new("A.B", "Structured report content encoding").text(&lines(["No structured report is created."])),
        Section::new("A.E", "Code set usage").text(&lines(["No coded value is created or read."])),
    ];
    sections.retain(|section| section.depth() == 1 && section.number == "8" || !section.blocks.is_empty());
    sections
}
