//! 1 to 4: overview, contents, introduction, implementation model.

use super::lines;
use crate::{
    document::{Block, Cell, Section, Table},
    model::{ClassRow, ServiceRow, Statement, SyntaxRow},
};

pub(super) fn sections(statement: &Statement) -> Vec<Section> {
    let prose = &statement.prose;
    let (role, version) = (statement.product.role, &statement.product.version);
    let entity = Section::new("4.1.1", &format!("Functional definition of the {} entity", role.entity()));
    vec![
        Section::new("1", "Overview")
            .text(&prose.overview)
            .table(services("Table 1. Services", &statement.services)),
        content(statement),
        Section::new("1.2", "DIMSE services").text(&lines(["Those of Table 1, and no others."])),
        web_services(statement),
        Section::new("1.4", "Media services").text(&lines(["None: no media is written or read as a DICOM file set."])),
        Section::new("1.7", "Specific character sets").text(&prose.character_sets),
        Section::new("2", "Table of contents").block(Block::Contents),
        Section::new("3", "Introduction"),
        Section::new("3.1", "Revision history").text(&[format!(
            "This is the statement of version {version}. Earlier ones are in the history of the source repository, \
             beside the sources that they describe."
        )]),
        Section::new("3.2", "Audience").text(&lines([
            "Hospital staff, system integrators, designers and implementers who connect this product with others. The \
             reader knows DICOM.",
        ])),
        Section::new("3.3", "Remarks").text(&lines([
            "A Conformance Statement alone does not guarantee that two systems work together. It is what a first \
             comparison rests on; then the two have to be tried with each other.",
            "This statement is written by the program that it describes, out of the tables on which that program \
             acts. Each row that can be seen on the wire is proved by a test against the real program; a row without \
             a passing test fails the test run. The JSON form names each of those rows by its `claim`.",
            "Sections have the numbers of PS3.2 Annex N. Sections about services that are not offered are left out.",
        ])),
        Section::new("3.4", "Terms and definitions").block(Block::List(lines([
            "`gateway-out` takes instances from a PACS or modality, seals each for one receiving gateway and keeps it \
             until a signed receipt says that it is stored there.",
            "`gateway-in` opens what it collects and hands it to a destination by C-STORE or STOW-RS.",
            "The relay between them carries sealed bytes. It is no DICOM application entity and is not described here.",
            "A receipt is the receiving gateway's signed word on what the destination answered.",
        ]))),
        Section::new("3.5", "Abbreviations").text(&lines([
            "AE application entity; PDU protocol data unit; SCP service class provider; SCU service class user; SOP \
             service-object pair; UID unique identifier; VR value representation. Status codes are hexadecimal.",
        ])),
        Section::new("3.6", "References").text(&lines([
            "DICOM PS3.2 (Annex N), PS3.4 (Annexes A, B, J), PS3.5, PS3.6, PS3.7 (Annexes C, D), PS3.8, PS3.15 (B.12, \
             B.13), PS3.18 (§10.5, Annex F, Annex I); RFC 9110, RFC 9112, RFC 9325.",
        ])),
        Section::new("4", "Implementation model"),
        Section::new("4.1", "Application entities and data flow").block(Block::Flow(prose.flow.clone())),
        entity.text(&prose.entity),
    ]
}

fn web_services(statement: &Statement) -> Section {
    let section = Section::new("1.3", "DICOM web services");
    if statement.web_services.is_empty() {
        return section.text(&lines(["None."]));
    }
    section.table(Table::of(
        "Table 1-2. DICOM web services",
        &["Service", "Transaction", "User agent", "Origin server", "Remark"],
        &statement.web_services,
        |row| {
            [
                Cell::text(&row.service),
                Cell::text(&row.transaction),
                Cell::yes(row.user_agent),
                Cell::yes(row.origin_server),
                Cell::text(&row.note),
            ]
        },
    ))
}

fn content(statement: &Statement) -> Section {
    let storage = &statement.storage;
    let classes = Table::of(
        "Table 1-1. Storage SOP classes",
        &["SOP class", "UID", "SCU", "SCP"],
        &storage.sop_classes,
        |row| [name(row), Cell::code(&row.uid), Cell::yes(storage.scu), Cell::yes(storage.scp)],
    );
    let syntaxes = Table::of(
        "Table 1-1a. Transfer syntaxes, each for every SOP class above",
        &["Transfer syntax", "UID", "Pixels", "Structure checked"],
        &storage.transfer_syntaxes,
        |row: &SyntaxRow| {
            [Cell::text(&row.name), Cell::code(&row.uid), Cell::text(&row.pixels), Cell::yes(row.walked)]
        },
    );
    let refused = Table::of(
        "Table 1-1b. SOP classes of the standard that are not accepted",
        &["SOP class", "UID"],
        &storage.refused_sop_classes,
        |row| [name(row), Cell::code(&row.uid)],
    );
    Section::new("1.1", "Content and transfer")
        .text(&[format!(
            "{} SOP classes, each in {} transfer syntaxes. Data sets are passed on; none is created.",
            storage.sop_classes.len(),
            storage.transfer_syntaxes.len()
        )])
        .block(Block::List(vec![
            storage.other_sop_classes.note.clone(),
            storage.other_transfer_syntaxes.note.clone(),
        ]))
        .table(classes)
        .table(syntaxes)
        .table(refused)
}

fn name(row: &ClassRow) -> Cell {
    Cell::text(if row.retired { format!("{} (retired)", row.name) } else { row.name.clone() })
}

pub(super) fn services(caption: &str, rows: &[ServiceRow]) -> Table {
    Table::of(caption, &["Service", "SOP class UID", "SCU", "SCP", "Remark"], rows, |row| {
        let uid = row.sop_class.as_ref().map_or_else(|| Cell::text(""), Cell::code);
        [Cell::text(&row.service), uid, Cell::yes(row.scu), Cell::yes(row.scp), Cell::text(&row.note)]
    })
}
