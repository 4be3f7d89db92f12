//! The sections that both gateways have, as tables.

use super::{Cell, Disk, Overview, RouteLine, Table, Verdict, words};

pub(super) fn routes(overview: &Overview) -> Table {
    let sized = overview.routes.iter().any(|route| route.bytes.is_some());
    let row = |route: &RouteLine| {
        let states = route.states.iter().filter(|(_, count)| *count > 0);
        let states: Vec<_> =
            states.map(|(state, count)| format!("{}\u{a0}{state}", words::count(*count))).collect();
        let queue = if states.is_empty() { "nothing".to_owned() } else { states.join(", ") };
        let mut cells = vec![
            Cell::Text(format!("{} → {}", route.from, route.to)),
            Cell::Verdict(route.verdict.clone()),
            Cell::Number(route.oldest.map_or_else(|| "–".to_owned(), words::age)),
            Cell::Text(queue),
        ];
        cells.extend(sized.then(|| Cell::Number(words::bytes(route.bytes.unwrap_or(0)))));
        cells
    };
    let mut lines: Vec<_> = overview.routes.iter().collect();
    lines.sort_by_key(|route| std::cmp::Reverse(route.verdict.standing));
    Table {
        title: "Routes",
        caption: "Each way that instances take, the worst first: how it stands, and what has not arrived."
            .to_owned(),
        columns: ["Route", "State", "Oldest", "Queue"].into_iter().chain(sized.then_some("Bytes")).collect(),
        rows: lines.into_iter().map(row).collect(),
        empty: "No route is configured.",
    }
}

pub(super) fn relays(overview: &Overview) -> Table {
    let now = overview.now;
    let rows = overview.relay_verdicts().map(|(relay, verdict)| {
        let head = match &relay.log.head {
            Some(head) => {
                let root = head.root.to_string();
                let root = root.get(..16).unwrap_or(&root).to_owned();
                Cell::Noted(
                    format!("{} entries, root {root}…", words::count(head.size)),
                    head.origin.to_string(),
                )
            }
            None => Cell::Text("none yet".to_owned()),
        };
        vec![
            Cell::Text(relay.name.clone()),
            Cell::Verdict(verdict),
            Cell::Time(relay.last_contact, now),
            head,
            Cell::Time(relay.log.seen_at, now),
        ]
    });
    Table {
        title: "Relays",
        caption: "Links to relays, and the last head of each one's log that was believed.".to_owned(),
        columns: vec!["Relay", "State", "Last contact", "Log checkpoint", "Seen"],
        rows: rows.collect(),
        empty: "No relay is configured.",
    }
}

pub(super) fn peers(overview: &Overview) -> Table {
    let now = overview.now;
    let rows = overview.peers.iter().map(|peer| {
        let contact = match peer.part {
            "this gateway" => Cell::Text("–".to_owned()),
            _ => Cell::Time(peer.last_contact, now),
        };
        let name = Cell::Noted(peer.name.clone(), peer.part.to_owned());
        vec![name, Cell::Verdict(peer.card.clone()), contact]
    });
    Table {
        title: "Peers and keys",
        caption: "Until when keys are good, and when something verified came from whom.".to_owned(),
        columns: vec!["Name", "Key expiry", "Last contact"],
        rows: rows.collect(),
        empty: "No peer is pinned.",
    }
}

pub(super) fn disks(overview: &Overview) -> Table {
    let row = |disk: &Disk| {
        let left = match disk.left {
            Some(left) => Cell::Noted(words::bytes(left), format!("{} bytes", words::count(left))),
            None => Cell::Verdict(Verdict::new(super::Standing::Alarmed, "the system does not say")),
        };
        let hours = match (disk.hours_left(), disk.bytes_per_hour) {
            (Some(hours), Some(rate)) => {
                let note = format!("{}, at {} an hour", disk.provided, words::bytes(rate));
                Cell::Noted(format!("{}\u{a0}h", words::count(hours)), note)
            }
            _ => Cell::Text("no rate is known".to_owned()),
        };
        vec![Cell::Noted(disk.what.clone(), disk.folder.display().to_string()), left, hours]
    };
    Table {
        title: "Disk left",
        caption: "Room for what comes, and for how long at the present rate.".to_owned(),
        columns: vec!["Folder", "Bytes left", "Hours left"],
        rows: overview.disks.iter().map(row).collect(),
        empty: "Nothing is written here.",
    }
}

pub(super) fn configuration(overview: &Overview) -> Table {
    let read = &overview.configuration;
    let rows = read.files.iter().map(|(path, digest)| {
        vec![
            Cell::Code(path.display().to_string()),
            Cell::Code(digest.to_string()),
            Cell::Time(Some(read.at), overview.now),
        ]
    });
    Table {
        title: "Configuration",
        caption: "The files that were read last, as they were then.".to_owned(),
        columns: vec!["File", "SHA-256", "Read"],
        rows: rows.collect(),
        empty: "No file was read.",
    }
}
