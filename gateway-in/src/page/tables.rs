//! Destinations, and what they refused: counts by status.

use base::{Name, Status as DicomStatus, Timestamp};
use service::overview::{Cell, Standing, Table, Verdict, words};

use super::is_up;
use crate::{answered::Said, app::Status, config::Target, destination::Destination, forward};

/// Where instances go.
pub(super) fn destinations(status: &Status, now: Timestamp) -> Table {
    let row = |destination: &Destination| {
        let name = &destination.settings.name;
        let kind = match &destination.settings.target {
            Target::Dicom(target) => format!("C-STORE to {}", target.ae),
            Target::Folder(_) => "folder".to_owned(),
            Target::Stow(target) => format!("STOW-RS to {}", target.url),
        };
        let verdict = match is_up(destination) {
            true => Verdict::new(Standing::Good, "answers, as far as is known"),
            false => Verdict::new(Standing::HeldUp, "does not answer; it is asked until it does"),
        };
        let stored = status.inbox.answers.day_of(name, now).total();
        vec![
            Cell::Noted(name.to_string(), kind),
            Cell::Verdict(verdict),
            Cell::Noted(words::count(stored.instances), words::bytes(stored.bytes)),
            Cell::Time(status.inbox.answers.last(name), now),
        ]
    };
    Table {
        title: "Destinations",
        caption: "Where instances go, and what was stored there in the last 24 hours.".to_owned(),
        columns: vec!["Destination", "State", "Stored", "Last answer"],
        rows: super::destinations(status).into_iter().map(|destination| row(destination)).collect(),
        empty: "No destination is configured.",
    }
}

/// What destinations did not take.
pub(super) fn refusals(status: &Status) -> Table {
    let row = |(name, said, status, count): (Name, Said, DicomStatus, u64)| {
        vec![
            Cell::Text(name.to_string()),
            Cell::Noted(format!("{:04X}", status.0), forward::meaning(status).to_owned()),
            Cell::Text(said.as_str().to_owned()),
            Cell::count(count),
        ]
    };
    Table {
        title: "Refusals",
        caption: "By DICOM status, since the start: refused for good, or deferred to be tried again."
            .to_owned(),
        columns: vec!["Destination", "Status", "Then", "Count"],
        rows: status.inbox.answers.refusals().into_iter().map(row).collect(),
        empty: "Nothing was refused or deferred by a status since the start.",
    }
}
