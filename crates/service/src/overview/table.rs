//! Tables that are cards on a telephone. Their roles are written out: a browser takes them away where rows are shown as blocks.

use std::cmp::Ordering;

use base::Timestamp;
use maud::{Markup, html};

use super::{Standing, Verdict};

/// A table with a caption, its columns named.
#[derive(Debug)]
pub struct Table {
    /// The heading above it.
    pub title: &'static str,
    /// What it says, in a sentence.
    pub caption: String,
    /// The columns; the first one names the row.
    pub columns: Vec<&'static str>,
    /// One row each, with as many cells as there are columns.
    pub rows: Vec<Vec<Cell>>,
    /// What is said where there is no row.
    pub empty: &'static str,
}

/// What stands in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// Words, and more of them in small.
    Noted(String, String),
    /// A figure.
    Number(String),
    /// A digest or a path.
    Code(String),
    /// How something stands.
    Verdict(Verdict),
    /// A time; `None`: not since the start.
    Time(Option<Timestamp>, Timestamp),
}

impl Cell {
    /// A count.
    pub fn count(number: u64) -> Self {
        Self::Number(super::words::count(number))
    }

    fn class(&self) -> Option<&'static str> {
        matches!(self, Self::Number(_)).then_some("number")
    }
}

/// One section: heading and table, or heading and a sentence.
pub(super) fn section(table: &Table) -> Markup {
    let id = table.title.to_lowercase().replace(' ', "-");
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (table.title) }
            @if table.rows.is_empty() { p.empty { (table.empty) } } @else { (rows(table)) }
        }
    }
}

fn rows(table: &Table) -> Markup {
    let first = table.rows.first().map(Vec::as_slice).unwrap_or_default();
    let classes = first.iter().map(Cell::class).chain(std::iter::repeat(None));
    html! {
        table.cards role="table" {
            caption { (table.caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for (name, class) in table.columns.iter().zip(classes) {
                        th scope="col" role="columnheader" class=[class] { (name) }
                    }
                }
            }
            tbody role="rowgroup" { @for row in &table.rows { tr role="row" { (cells(&table.columns, row)) } } }
        }
    }
}

fn cells(columns: &[&'static str], row: &[Cell]) -> Markup {
    html! {
        @for (place, (name, cell)) in columns.iter().zip(row).enumerate() {
            @if place == 0 {
                th scope="row" role="rowheader" data-label=(name) { (content(cell)) }
            } @else {
                td role="cell" data-label=(name) class=[cell.class()] { (content(cell)) }
            }
        }
    }
}

fn content(cell: &Cell) -> Markup {
    match cell {
        Cell::Number(text) => html! { span { (text) } },
        Cell::Text(text) => html! { span { (unbroken(text)) } },
        Cell::Noted(text, note) => html! { span { (unbroken(text)) " " span.note { (unbroken(note)) } } },
        Cell::Code(text) => html! { code { (text) } },
        Cell::Verdict(verdict) => {
            html! { span { (chip(verdict.standing)) " " span.why { (unbroken(&verdict.why)) } } }
        }
        Cell::Time(None, _) => html! { span.note { "not since the start" } },
        Cell::Time(Some(at), now) => html! { span { (time(*at, *now)) } },
    }
}

/// The most characters of a word that is kept in one piece: more may not fit a telephone.
const UNBROKEN_CHARS_MAX: usize = 20;

/// Words with hyphens, as names and dates have them, are not broken there.
fn unbroken(text: &str) -> Markup {
    let whole = |word: &str| word.contains('-') && word.chars().count() <= UNBROKEN_CHARS_MAX;
    html! {
        @for (place, word) in text.split(' ').enumerate() {
            @if place > 0 { " " }
            @if whole(word) { span.whole { (word) } } @else { (word) }
        }
    }
}

/// The word with its sign.
pub(super) fn chip(standing: Standing) -> Markup {
    html! { span class=(standing.class()) { span.sign aria-hidden="true" { (standing.sign()) } (standing.word()) } }
}

/// How long ago, or in how long, and when.
pub(super) fn time(at: Timestamp, now: Timestamp) -> Markup {
    let utc = crate::text::utc(at);
    let away = match at.cmp(&now) {
        Ordering::Equal => "now".to_owned(),
        Ordering::Greater => format!("in {}", super::words::age(at.since(now))),
        Ordering::Less => format!("{} ago", super::words::age(now.since(at))),
    };
    let today = utc.get(..10) == crate::text::utc(now).get(..10);
    let shown = minute(at);
    let shown = if today { shown.get(11..).unwrap_or(&shown) } else { &shown };
    html! { time.whole datetime=(utc) { (away) } " " span.note.whole { (shown) } }
}

/// As people read it: the day, the minute, and that it is UTC.
pub(super) fn minute(at: Timestamp) -> String {
    let utc = crate::text::utc(at);
    match (utc.get(..10), utc.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => utc,
    }
}
