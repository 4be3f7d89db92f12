//! What a statement looks like before it is Markdown or HTML: numbered sections of plain blocks.

use serde::{Deserialize, Serialize};

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// On the cover.
    pub title: String,
    /// Below the title, a line each.
    pub cover: Vec<(String, String)>,
    /// The cover's table: a word and a sentence each.
    pub glance: Vec<(String, String)>,
    /// In their order; the number says how deep.
    pub sections: Vec<Section>,
}

/// A section with the number that Annex N gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// As in `7.3.2.5`.
    pub number: &'static str,
    /// Its heading.
    pub title: String,
    /// What stands in it.
    pub blocks: Vec<Block>,
}

impl Section {
    /// A section without text yet.
    pub fn new(number: &'static str, title: &str) -> Self {
        Self { number, title: title.to_owned(), blocks: Vec::new() }
    }

    /// With paragraphs.
    #[must_use]
    pub fn text(mut self, paragraphs: &[String]) -> Self {
        self.blocks.extend(paragraphs.iter().cloned().map(Block::Text));
        self
    }

    /// With another block.
    #[must_use]
    pub fn block(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    /// With a table, unless it has no rows.
    #[must_use]
    pub fn table(mut self, table: Table) -> Self {
        if !table.rows.is_empty() {
            self.blocks.push(Block::Table(table));
        }
        self
    }

    /// How deep it stands: 1 for `7`, 4 for `7.3.2.5`. The `A.` in front of every annex counts for nothing.
    pub fn depth(&self) -> usize {
        self.number.strip_prefix("A.").unwrap_or(self.number).split('.').count()
    }
}

/// A piece of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// A paragraph. `` `code` `` is the one markup.
    Text(String),
    /// Items without an order.
    List(Vec<String>),
    /// Items in their order.
    Steps(Vec<String>),
    /// Stages from left to right.
    Flow(Vec<Stage>),
    /// Rows and columns.
    Table(Table),
    /// The table of contents.
    Contents,
}

/// One box of a data flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// In the box.
    pub name: String,
    /// Below it.
    pub about: String,
    /// What leads to the next one; empty for the last.
    pub edge: String,
    /// It is what the statement is about.
    pub ours: bool,
}

/// Rows and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Above it.
    pub caption: String,
    /// Names of the columns.
    pub head: &'static [&'static str],
    /// As many cells in each as the head has names.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table of rows that are each made into cells by `row`.
    pub fn of<T, const N: usize>(
        caption: &str,
        head: &'static [&'static str; N],
        rows: &[T],
        row: impl Fn(&T) -> [Cell; N],
    ) -> Self {
        let rows = rows.iter().map(|one| row(one).to_vec()).collect();
        Self { caption: caption.to_owned(), head, rows }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Words. `` `code` `` is the one markup.
    Text(String),
    /// A UID, a code, a key.
    Code(String),
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A UID, a code, a key.
    pub fn code(text: impl Into<String>) -> Self {
        Self::Code(text.into())
    }

    /// Yes or no, as Annex N writes it.
    pub fn yes(yes: bool) -> Self {
        Self::text(if yes { "Y" } else { "N" })
    }
}

/// The pieces of a text: words, and code between backticks. An odd backtick is a backtick.
pub(crate) fn inline(text: &str) -> Vec<(bool, &str)> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, code, after)) = next_code(rest) {
        pieces.extend([(false, before), (true, code)]);
        rest = after;
    }
    pieces.push((false, rest));
    pieces.retain(|(_, piece)| !piece.is_empty());
    pieces
}

fn next_code(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('`')?;
    let (code, after) = rest.split_once('`')?;
    Some((before, code, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_stands_between_backticks() {
        assert_eq!(inline("a `b` c"), [(false, "a "), (true, "b"), (false, " c")]);
        assert_eq!(inline("`b`"), [(true, "b")]);
        assert_eq!(inline("it`s"), [(false, "it`s")]);
        assert_eq!(inline("`a` and `b"), [(true, "a"), (false, " and `b")]);
    }

    #[test]
    fn depth_is_that_of_the_number() {
        for (number, depth) in [("1", 1), ("7.3.2.5", 4), ("A.A", 1), ("A.C.2", 2)] {
            assert_eq!(Section::new(number, "").depth(), depth, "{number}");
        }
    }
}
