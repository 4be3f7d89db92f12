//! 7: associations and statuses.

use super::services::facts;
use crate::{
    document::{Block, Cell, Section, Table},
    model::{AbortRow, AnswerRow, ContextRow, FailureRow, OutcomeRow, RejectionRow, Statement},
};

pub(super) fn sections(statement: &Statement) -> Vec<Section> {
    let prose = &statement.prose;
    let mut sections = vec![
        Section::new("7", "Network and media communication details"),
        Section::new("7.1", "General"),
        Section::new("7.1.1", "General association parameters")
            .table(facts("Table 7-1. Association parameters", &statement.negotiation))
            .table(facts("Table 7-2. Times and limits", &statement.timers)),
        Section::new("7.2", "Specifications"),
        Section::new("7.2.1", &format!("{} application entity", statement.product.role.entity())),
        Section::new("7.2.1.1", "Sequencing of real-world activities")
            .block(Block::Steps(prose.sequence.clone())),
        Section::new("7.2.1.3", "Association initiation").text(&prose.initiation),
        acceptance(statement),
        Section::new("7.3", "Status codes"),
        Section::new("7.3.1", "General communication and failure behaviour")
            .text(&prose.failures)
            .table(aborts(&statement.aborts))
            .table(failures(&statement.failures)),
        Section::new("7.3.2", "DIMSE services"),
    ];
    sections.extend(operations(statement));
    sections
}

fn acceptance(statement: &Statement) -> Section {
    let rejections = Table::of(
        "Table 7-4. Association rejections sent",
        &["Result", "Source", "Reason", "Meaning", "When"],
        &statement.rejections,
        |row: &RejectionRow| {
            let code = |number: u8| Cell::code(number.to_string());
            [
                code(row.result),
                code(row.source),
                code(row.reason),
                Cell::text(&row.meaning),
                Cell::text(&row.when),
            ]
        },
    );
    let contexts = Table::of(
        "Table 7-3. Results of presentation contexts sent",
        &["Result", "Meaning", "When"],
        &statement.contexts,
        |row: &ContextRow| {
            [Cell::code(row.result.to_string()), Cell::text(&row.meaning), Cell::text(&row.when)]
        },
    );
    Section::new("7.2.1.4", "Association acceptance")
        .text(&statement.prose.acceptance)
        .table(contexts)
        .table(rejections)
}

fn aborts(rows: &[AbortRow]) -> Table {
    Table::of("Table 7-5. A-ABORT sent", &["Source", "Reason", "Meaning", "When"], rows, |row| {
        let code = |number: u8| Cell::code(number.to_string());
        [code(row.source), code(row.reason), Cell::text(&row.meaning), Cell::text(&row.when)]
    })
}

fn failures(rows: &[FailureRow]) -> Table {
    Table::of("Table 7-6. Where no status comes", &["What happens", "What follows"], rows, |row| {
        [Cell::text(&row.what), Cell::text(&row.follows)]
    })
}

/// Operations with the sections that Annex N has for their services, and what we are where we get their statuses.
const OPERATIONS: &[(&str, &str, &str, &str)] = &[
    ("7.3.2.1", "Verification service", "C-ECHO", "SCU"),
    ("7.3.2.5", "Storage service", "C-STORE", "SCU"),
    ("7.3.2.6", "Storage Commitment service: N-ACTION", "N-ACTION", "SCU"),
    ("7.3.2.7", "Storage Commitment service: N-EVENT-REPORT", "N-EVENT-REPORT", "SCU"),
    ("7.3.2.9", "Any other operation", "other", "SCU"),
    ("7.3.3", "DICOM web services", "Store Instances", "user agent"),
];

fn operations(statement: &Statement) -> impl Iterator<Item = Section> {
    OPERATIONS.iter().filter_map(|(number, title, operation, role)| {
        let answers: Vec<&AnswerRow> =
            statement.answers.iter().filter(|row| row.operation == *operation).collect();
        let outcomes: Vec<&OutcomeRow> =
            statement.outcomes.iter().filter(|row| row.operation == *operation).collect();
        if answers.is_empty() && outcomes.is_empty() {
            return None;
        }
        let section = Section::new(number, title)
            .table(Table::of(
                &format!("{operation}: statuses returned as SCP"),
                &["Status", "Error Comment", "Meaning", "When", "Send again?"],
                &answers,
                |row| {
                    let comment = row.comment.clone().unwrap_or_default();
                    [
                        Cell::code(&row.status),
                        Cell::text(comment),
                        Cell::text(&row.meaning),
                        Cell::text(&row.when),
                        Cell::text(&row.again),
                    ]
                },
            ))
            .table(Table::of(
                &format!("{operation}: behaviour on statuses received as {role}"),
                &["Status", "Meaning", "What follows"],
                &outcomes,
                |row| [Cell::code(&row.status), Cell::text(&row.meaning), Cell::text(&row.follows)],
            ));
        Some(section)
    })
}
