//! A document as one HTML file: nothing is loaded, nothing runs. It reads in the light and in the dark, on a telephone
//! and on paper.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::document::{Block, Cell, Document, Section, Stage, Table, inline};

const STYLE: &str = include_str!("page.css");

/// The whole document.
pub fn render(document: &Document) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (document.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                nav aria-label="Sections" { (contents(document, 2)) }
                main {
                    header {
                        h1 { (document.title) }
                        dl.cover { @for (name, value) in &document.cover { div { dt { (words(name)) } dd { (words(value)) } } } }
                        dl.glance { @for (name, value) in &document.glance { div { dt { (words(name)) } dd { (words(value)) } } } }
                        nav.chapters aria-label="Chapters" { (contents(document, 1)) }
                    }
                    @for section in &document.sections { (section_of(section, document)) }
                }
            }
        }
    };
    page.into_string() + "\n"
}

fn section_of(section: &Section, document: &Document) -> Markup {
    let (anchor, title) = (anchor(section.number), &section.title);
    let heading = html! { span.number { (section.number) } " " (title) };
    html! {
        section id=(anchor) {
            @match section.depth() {
                1 => h2 { (heading) },
                2 => h3 { (heading) },
                3 => h4 { (heading) },
                _ => h5 { (heading) },
            }
            @for block in &section.blocks { (block_of(block, document)) }
        }
    }
}

fn block_of(block: &Block, document: &Document) -> Markup {
    html! {
        @match block {
            Block::Text(paragraph) => p { (words(paragraph)) },
            Block::List(items) => ul { @for item in items { li { (words(item)) } } },
            Block::Steps(items) => ol { @for item in items { li { (words(item)) } } },
            Block::Flow(stages) => (flow(stages)),
            Block::Table(table) => (table_of(table)),
            Block::Contents => (contents(document, 2)),
        }
    }
}

fn contents(document: &Document, depth: usize) -> Markup {
    html! {
        ul.contents {
            @for section in document.sections.iter().filter(|section| section.depth() <= depth) {
                li.deep[section.depth() > 1] {
                    a href={ "#" (anchor(section.number)) } { span.number { (section.number) } " " (section.title) }
                }
            }
        }
    }
}

fn flow(stages: &[Stage]) -> Markup {
    html! {
        ol.flow {
            @for stage in stages {
                li.ours[stage.ours] {
                    strong { (stage.name) }
                    span { (words(&stage.about)) }
                    @if !stage.edge.is_empty() { em { (words(&stage.edge)) } }
                }
            }
        }
    }
}

fn table_of(table: &Table) -> Markup {
    html! {
        div.table role="region" aria-label=(table.caption) tabindex="0" {
            table {
                caption { (table.caption) }
                thead { tr { @for name in table.head { th scope="col" { (name) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for cell in row {
                                td {
                                    @match cell {
                                        Cell::Text(text) => (words(text)),
                                        Cell::Code(code) => code { (code) },
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn words(text: &str) -> Markup {
    html! { @for (is_code, piece) in inline(text) { @if is_code { code { (piece) } } @else { (piece) } } }
}

fn anchor(number: &str) -> String {
    format!("s{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_read_as_markup_and_nothing_is_loaded() {
        let hostile = "<script>alert(1)</script>\" onload=\"x & `<i>`";
        let table = Table {
            caption: hostile.to_owned(),
            head: &["<b>"],
            rows: vec![vec![Cell::text(hostile)], vec![Cell::code(hostile)]],
        };
        let document = Document {
            title: hostile.to_owned(),
            cover: vec![(hostile.to_owned(), hostile.to_owned())],
            glance: Vec::new(),
            sections: vec![
                Section::new("1", hostile).text(&[hostile.to_owned()]).table(table).block(Block::Contents),
            ],
        };
        let page = render(&document);
        for bad in ["<script", "<i>", "<b>", "\" onload", "http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(bad), "{bad}");
        }
        assert!(page.contains("<code>&lt;i&gt;</code>"));
    }
}
