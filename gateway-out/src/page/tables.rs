//! Who was refused what, by whom: counts by status, and nothing that a destination adds to it.

use base::{Status, Timestamp};
use service::overview::{Cell, Table};

use super::Queued;
use crate::{app::Shared, queue, rejections::Alike};

/// Rows of rejected associations.
const REJECTIONS_SHOWN: usize = 8;

/// What we answered to the PACS, and what destinations answered to what is in custody still.
pub(super) fn refusals(shared: &Shared, queued: &Queued) -> Table {
    let ours = shared
        .counters
        .refusals()
        .into_iter()
        .map(|(ae, status, count)| row(format!("{ae}, to the PACS"), Some(status), "answered", count));
    let theirs = queued.alarmed.iter().map(|alarmed| {
        let leg = shared.settings.routes.leg(alarmed.route);
        let who = leg.map_or_else(
            || "a route that is not configured".to_owned(),
            |leg| format!("{} at {}", leg.destination, leg.receiver.name),
        );
        row(who, alarmed.status, alarmed.state.as_str(), alarmed.deliveries)
    });
    Table {
        title: "Refusals",
        caption:
            "By DICOM status: what we answered since the start, and what destinations keep from leaving."
                .to_owned(),
        columns: vec!["By", "Status", "State", "Count"],
        rows: ours.chain(theirs).collect(),
        empty: "Nothing was refused since the start, and nothing waits for an operator.",
    }
}

fn row(who: String, status: Option<Status>, state: &str, count: u64) -> Vec<Cell> {
    let said = match status {
        Some(status) => {
            let meaning = queue::meaning(status).unwrap_or("not in the standard's table");
            Cell::Noted(format!("{:04X}", status.0), meaning.to_owned())
        }
        None => Cell::Text("none".to_owned()),
    };
    vec![Cell::Text(who), said, Cell::Text(state.to_owned()), Cell::count(count)]
}

/// Watched folders, where there are any, by the numbers that `status` has beside their paths.
pub(super) fn folders(shared: &Shared) -> Option<Table> {
    let folders = shared.folders.now();
    let rows = folders.iter().map(|folder| {
        let [waiting, taken, failed] = folder.counts();
        let place = Cell::Text(format!("{}, for {}", folder.number(), folder.watched().ae));
        let state = Cell::Text(
            folder.hindrance().map_or_else(|| "goes on".to_owned(), |why| format!("waits: {why}")),
        );
        vec![place, state, Cell::count(waiting), Cell::count(taken), Cell::count(failed)]
    });
    let table = Table {
        title: "Watched folders",
        caption:
            "Files since the folder is watched; what failed lies in its `failed`, and `status` has its path."
                .to_owned(),
        columns: vec!["Folder", "State", "Waiting", "Taken", "Failed"],
        rows: rows.collect(),
        empty: "",
    };
    (!table.rows.is_empty()).then_some(table)
}

/// Who was turned away: titles and reasons; addresses are for `gateway-out rejections`.
pub(super) fn rejections(shared: &Shared, now: Timestamp) -> Table {
    let all = shared.rejections.alike();
    let more = all.len().saturating_sub(REJECTIONS_SHOWN);
    let row = |one: &Alike| {
        let titles = match &one.titles {
            Some((calling, called)) => format!("{calling} → {called}"),
            None => "not said".to_owned(),
        };
        vec![
            Cell::Text(titles),
            Cell::Text(one.why.clone()),
            Cell::count(one.count),
            Cell::Time(Some(one.last), now),
        ]
    };
    let caption = "Associations that were turned away of late, the latest first";
    Table {
        title: "Rejected associations",
        caption: match more {
            0 => format!("{caption}."),
            more => format!("{caption}; {more} more by the command `rejections`."),
        },
        columns: vec!["Titles", "Reason", "Count", "Last"],
        rows: all.iter().take(REJECTIONS_SHOWN).map(row).collect(),
        empty: "Nobody was turned away since the start.",
    }
}
