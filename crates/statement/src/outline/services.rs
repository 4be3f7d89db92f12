//! 5 and 6: what each service does, and what can be configured.

use super::front;
use crate::{
    document::{Block, Cell, Section, Table},
    model::{Fact, Statement},
};

pub(super) fn sections(statement: &Statement) -> Vec<Section> {
    let prose = &statement.prose;
    let role = statement.product.role;
    let mapping =
        front::services(&format!("Table 5-1. Services of the {} entity", role.entity()), &statement.services);
    let mut sections = vec![
        Section::new("5", "Service and interoperability description"),
        Section::new("5.1", "Mapping of services to application entities").table(mapping),
        Section::new("5.2", "DIMSE services"),
        Section::new("5.2.5", "Storage service")
            .text(&prose.storage)
            .table(facts("Table 5-10. Level of conformance and what is changed", &prose.conformance))
            .table(facts("Table 5-12. Which transfer syntax is taken", &statement.storage.choice)),
    ];
    if !prose.commitment.is_empty() {
        let reasons = Table::of(
            "Table 5-16. Failure reasons (0008,1197)",
            &["Reason", "Meaning", "When"],
            &statement.failure_reasons,
            |row| [Cell::code(&row.name), Cell::text(&row.value), Cell::text(&row.note)],
        );
        sections
            .push(Section::new("5.2.6", "Storage Commitment service").text(&prose.commitment).table(reasons));
    }
    if !prose.web.is_empty() {
        let web = facts("Table 5-17. Requests of the Store transaction", &statement.web);
        sections.push(Section::new("5.3", "DICOM web services").text(&prose.web).table(web));
    }
    sections.push(Section::new("5.7", "Specific character sets").text(&prose.character_sets));
    sections.push(Section::new("6", "Configuration"));
    sections.push(configuration(statement));
    sections
}

fn configuration(statement: &Statement) -> Section {
    let settings = Table::of(
        if statement.product.configured {
            "Table 6-1. Values in use"
        } else {
            "Table 6-1. Settings and their defaults"
        },
        &["Key", "Value", "Effect"],
        &statement.settings,
        |row| [Cell::code(&row.key), Cell::code(&row.value), Cell::text(&row.what)],
    );
    let mut section =
        Section::new("6.1", "General configuration parameters").text(&statement.prose.configuration);
    for entity in &statement.entities {
        section =
            section.text(&[format!("AE title `{}`:", entity.ae)]).block(Block::List(entity.notes.clone()));
    }
    section.table(settings)
}

pub(super) fn facts(caption: &str, rows: &[Fact]) -> Table {
    Table::of(caption, &["", "Value", "Remark"], rows, |row| {
        [Cell::text(&row.name), Cell::text(&row.value), Cell::text(&row.note)]
    })
}
