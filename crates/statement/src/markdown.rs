//! A document as Markdown (CommonMark with tables, as GitHub reads it).

use std::fmt::Write as _;

use crate::document::{Block, Cell, Document, Section, Stage, Table, inline};

/// The whole document.
pub fn render(document: &Document) -> String {
    let mut out = format!("# {}\n\n", escaped(&document.title));
    let pairs = |out: &mut String, head: &str, rows: &[(String, String)]| {
        let _ = write!(out, "{head}\n| --- | --- |\n");
        for (name, value) in rows {
            let _ = writeln!(out, "| {} | {} |", text(name), text(value));
        }
        out.push('\n');
    };
    pairs(&mut out, "| | |", &document.cover);
    pairs(&mut out, "| At a glance | |", &document.glance);
    for section in &document.sections {
        let marks = "#".repeat(section.depth().min(5) + 1);
        let _ = write!(out, "{marks} {} {}\n\n", section.number, escaped(&section.title));
        for block in &section.blocks {
            write_block(&mut out, block, document);
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn write_block(out: &mut String, block: &Block, document: &Document) {
    match block {
        Block::Text(paragraph) => {
            let _ = write!(out, "{}\n\n", text(paragraph));
        }
        Block::List(items) => list(out, items, |_| "-".to_owned()),
        Block::Steps(items) => list(out, items, |at| format!("{}.", at + 1)),
        Block::Flow(stages) => flow(out, stages),
        Block::Table(table) => write_table(out, table),
        Block::Contents => {
            for Section { number, title, .. } in document.sections.iter().filter(|one| one.depth() <= 2) {
                let _ = writeln!(out, "- {number} {}", escaped(title));
            }
            out.push('\n');
        }
    }
}

fn list(out: &mut String, items: &[String], mark: impl Fn(usize) -> String) {
    for (at, item) in items.iter().enumerate() {
        let _ = writeln!(out, "{} {}", mark(at), text(item));
    }
    out.push('\n');
}

fn flow(out: &mut String, stages: &[Stage]) {
    for (at, stage) in stages.iter().enumerate() {
        let name = if stage.ours { format!("**{}**", text(&stage.name)) } else { text(&stage.name) };
        let _ = write!(out, "{}. {name}: {}", at + 1, text(&stage.about));
        if !stage.edge.is_empty() {
            let _ = write!(out, " ↓ {}", text(&stage.edge));
        }
        out.push('\n');
    }
    out.push('\n');
}

fn write_table(out: &mut String, table: &Table) {
    let _ = write!(out, "**{}**\n\n|", escaped(&table.caption));
    for name in table.head {
        let _ = write!(out, " {} |", escaped(name));
    }
    out.push_str("\n|");
    out.push_str(&" --- |".repeat(table.head.len()));
    out.push('\n');
    for row in &table.rows {
        out.push('|');
        for cell in row {
            let _ = match cell {
                Cell::Text(words) => write!(out, " {} |", text(words)),
                Cell::Code(code) => write!(out, " {} |", code_span(code)),
            };
        }
        out.push('\n');
    }
    out.push('\n');
}

fn text(words: &str) -> String {
    let piece = |(is_code, piece): (bool, &str)| if is_code { code_span(piece) } else { escaped(piece) };
    inline(words).into_iter().map(piece).collect()
}

fn code_span(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!("`{}`", code.replace('|', "\\|").replace('\n', " ")) }
}

/// Nothing in it is markup any more. A line break would end a table's row.
fn escaped(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&' => {
                out.extend(['\\', letter])
            }
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_read_as_markup() {
        let table = Table {
            caption: "<b>".to_owned(),
            head: &["a|b", "c"],
            rows: vec![vec![Cell::text("x | *y* <script> `k|v`\nz"), Cell::code("1.2|3")]],
        };
        let mut out = String::new();
        write_table(&mut out, &table);
        assert_eq!(
            out,
            "**\\<b\\>**\n\n| a\\|b | c |\n| --- | --- |\n| x \\| \\*y\\* \\<script\\> `k\\|v` z | `1.2\\|3` |\n\n"
        );
    }
}
