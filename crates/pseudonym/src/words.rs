//! Reviewed lists of words, and text taken apart into words.

use std::collections::HashSet;

use unicode_normalization::UnicodeNormalization;

/// Words that somebody has reviewed, whatever their letters' case: one a line, `#` begins a comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordList(HashSet<String>);

impl WordList {
    /// From the text of a file.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split('#').next());
        Self(lines.flat_map(words).map(folded).collect())
    }

    /// Whether it has this word, folded already.
    pub(crate) fn has(&self, folded: &str) -> bool {
        self.0.contains(folded)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The words of a text that are in the list, in their order and their own letters, one blank between them.
    pub(crate) fn keep_of(&self, text: &str) -> String {
        let kept: Vec<&str> = words(text).filter(|word| self.has(&folded(word))).collect();
        kept.join(" ")
    }

    /// Its words in order: for a digest.
    pub(crate) fn sorted(&self) -> Vec<&str> {
        let mut words: Vec<&str> = self.0.iter().map(String::as_str).collect();
        words.sort_unstable();
        words
    }
}

/// Composed, in lower case: as texts are compared.
pub(crate) fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfc().flat_map(char::to_lowercase).collect()
}

/// The words of a text: letters and digits, with the marks that combine with them.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let separates = |c: char| !c.is_alphanumeric() && !unicode_normalization::char::is_combining_mark(c);
    text.split(separates).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reviewed_words_are_kept() {
        let list = WordList::parse("Thorax # anatomy\naxial\nmm\nKM\n5\n\n# Meier\nSchädel");
        assert_eq!(list.keep_of("THORAX axial 5mm, Meier"), "THORAX axial");
        assert_eq!(list.keep_of("Thorax 5 mm KM (Dr. Müller)"), "Thorax 5 mm KM");
        assert_eq!(list.keep_of("Scha\u{308}del"), "Scha\u{308}del");
        assert_eq!(list.keep_of("Meier, Anna"), "");
        assert!(!list.is_empty() && WordList::parse("# nothing\n").is_empty());
    }
}
