//! What must not be left of a patient: names, identifiers and the birth date that an instance came with, searched in what goes out.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base::Phi;
use dataset::{CharacterSet, Vr};

use crate::date::is_time_like;
use crate::words::{WordList, folded, words};

/// Letters of a word of a name from which it is searched for.
const NAME_CHARACTERS_MIN: usize = 2;
/// Characters of identifiers and dates from which they are searched for.
const ID_CHARACTERS_MIN: usize = 4;
/// Among numbers and UIDs a shorter one meets another number too often.
const ID_AMONG_NUMBERS_MIN: usize = 6;
/// Bytes of a word that is not ASCII from which its own bytes are searched for, whatever character set they are in.
const RAW_BYTES_MIN: usize = 4;
/// Different traces of one instance. More than these nobody's instance has; it is refused.
pub(crate) const TRACES_MAX: usize = 4096;
/// Bytes of one value with names or identifiers; longer ones are refused, so that what is searched for stays bounded.
pub(crate) const TRACE_BYTES_MAX: usize = 4096;
/// Bytes of all that is searched for from which the smaller automaton is made, and not the faster one.
const SMALL_AUTOMATON_FROM: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    Name,
    Id,
    BirthDate,
}

impl Trace {
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Name => "a name",
            Self::Id => "an identifier",
            Self::BirthDate => "the birth date",
        }
    }
}

/// What was found in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A name that is a clinical word as well.
    Clinical,
    Trace(Trace),
}

/// What to search for, as it is collected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces {
    texts: Vec<(Phi<String>, Trace)>,
    raw: Vec<Phi<Vec<u8>>>,
}

impl Traces {
    /// A value of PN: of each group the family, given and middle names. Titles stand in front of and behind too many names.
    pub(crate) fn name(&mut self, value: &[u8], characters: &CharacterSet) {
        for text in readings(value, characters) {
            let people = text.split(['\\', '=']);
            let parts = people.flat_map(|person| person.split('^').take(3));
            for word in parts.flat_map(words) {
                let letters = word.chars().filter(|c| c.is_alphabetic()).count();
                if letters >= NAME_CHARACTERS_MIN {
                    self.add(folded(word), Trace::Name);
                }
            }
        }
        if !value.is_ascii() || value.contains(&0x1B) {
            for part in value.split(|byte| matches!(byte, b'^' | b'=' | b'\\' | b' ' | b',' | 0)) {
                self.raw(part);
            }
        }
    }

    /// An identifier.
    pub(crate) fn id(&mut self, value: &[u8], characters: &CharacterSet) {
        for text in readings(value, characters) {
            for one in text.split('\\') {
                let one = one.trim_matches(|c: char| c.is_whitespace() || c == '\0');
                if one.chars().count() >= ID_CHARACTERS_MIN {
                    self.add(folded(one), Trace::Id);
                }
            }
        }
    }

    /// A DA: also as people write it.
    pub(crate) fn birth_date(&mut self, value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let (Some(year), Some(month), Some(day)) = (digits.get(..4), digits.get(4..6), digits.get(6..8))
        else {
            return;
        };
        for form in [
            format!("{year}{month}{day}"),
            format!("{year}-{month}-{day}"),
            format!("{year}.{month}.{day}"),
            format!("{year}/{month}/{day}"),
            format!("{day}.{month}.{year}"),
            format!("{day}-{month}-{year}"),
            format!("{day}/{month}/{year}"),
            format!("{month}/{day}/{year}"),
        ] {
            self.add(form, Trace::BirthDate);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len() + self.raw.len()
    }

    fn add(&mut self, text: String, trace: Trace) {
        if self.len() < TRACES_MAX && !self.texts.iter().any(|(known, _)| *known.reveal() == text) {
            self.texts.push((Phi::new(text), trace));
        }
    }

    /// The bytes of a word as they stand, between the escapes of code extensions (PS3.5 §6.1.2.5).
    fn raw(&mut self, part: &[u8]) {
        for piece in part
            .split(|byte| *byte == 0x1B)
            .enumerate()
            .map(|(i, piece)| if i == 0 { piece } else { unescaped(piece) })
        {
            if piece.len() >= RAW_BYTES_MIN && self.len() < TRACES_MAX {
                self.raw.push(Phi::new(piece.to_vec()));
            }
        }
    }

    /// Ready to search.
    pub(crate) fn searcher(self) -> Option<Searcher> {
        let build = |patterns: &[&[u8]]| {
            let bytes: usize = patterns.iter().map(|pattern| pattern.len()).sum();
            let kind = (bytes >= SMALL_AUTOMATON_FROM).then_some(AhoCorasickKind::ContiguousNFA);
            AhoCorasick::builder().match_kind(MatchKind::Standard).kind(kind).build(patterns).ok()
        };
        let texts: Vec<&[u8]> = self.texts.iter().map(|(text, _)| text.reveal().as_bytes()).collect();
        let raw: Vec<&[u8]> = self.raw.iter().map(|raw| raw.reveal().as_slice()).collect();
        let (folded, bytes) = (build(&texts)?, if raw.is_empty() { None } else { Some(build(&raw)?) });
        Some(Searcher { folded, bytes, traces: self.texts })
    }
}

/// After an escape: what follows its intermediate and final bytes (ISO 2022).
fn unescaped(piece: &[u8]) -> &[u8] {
    let header = piece.iter().take_while(|byte| (0x20..0x30).contains(*byte)).count() + 1;
    piece.get(header..).unwrap_or_default()
}

/// What a value may say: in its own character set, and in the two that are most often used without being named.
fn readings(value: &[u8], characters: &CharacterSet) -> Vec<String> {
    if value.is_ascii() {
        return vec![String::from_utf8_lossy(value).into_owned()];
    }
    let latin_1 = value.iter().copied().map(char::from).collect();
    let utf_8 = std::str::from_utf8(value).ok().map(str::to_owned);
    characters.decode(value).into_iter().chain(utf_8).chain([latin_1]).collect()
}

/// Searches values for traces.
#[derive(Clone, Debug)]
pub(crate) struct Searcher {
    folded: AhoCorasick,
    bytes: Option<AhoCorasick>,
    traces: Vec<(Phi<String>, Trace)>,
}

impl Searcher {
    /// Searches one value.
    pub(crate) fn search(
        &self,
        value: &[u8],
        vr: Vr,
        characters: &CharacterSet,
        clinical: &WordList,
    ) -> Found {
        if self.bytes.as_ref().is_some_and(|bytes| bytes.is_match(value)) {
            return Found::Trace(Trace::Name);
        }
        let among = match &vr.0 {
            b"DS" | b"IS" | b"UI" | b"AS" => Among::Numbers,
            b"DA" | b"DT" | b"TM" => Among::Times,
            _ => Among::Text,
        };
        let mut found = Found::Nothing;
        for text in readings(value, characters) {
            if among == Among::Times && is_time_like(&text) {
                continue;
            }
            match self.search_text(&folded(&text), among, clinical) {
                Found::Nothing => {}
                Found::Clinical => found = Found::Clinical,
                trace @ Found::Trace(_) => return trace,
            }
        }
        found
    }

    fn search_text(&self, text: &str, among: Among, clinical: &WordList) -> Found {
        let mut found = Found::Nothing;
        for hit in self.folded.find_overlapping_iter(text) {
            let Some((needle, trace)) = self.traces.get(hit.pattern().as_usize()) else { continue };
            let needle = needle.reveal();
            let is_whole = || is_word(text, hit.start(), hit.end());
            let counts = match trace {
                // Where a script has no blanks, a name stands in the middle of its sentence.
                Trace::Name => needle.chars().any(|c| c >= '\u{2E80}') || is_whole(),
                Trace::Id | Trace::BirthDate if among == Among::Text => true,
                Trace::Id | Trace::BirthDate => needle.len() >= ID_AMONG_NUMBERS_MIN && is_whole(),
            };
            if !counts {
                continue;
            }
            if *trace == Trace::Name && clinical.has(needle) {
                found = Found::Clinical;
            } else {
                return Found::Trace(*trace);
            }
        }
        found
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Among {
    Text,
    Numbers,
    Times,
}

fn is_word(text: &str, start: usize, end: usize) -> bool {
    let before = text.get(..start).and_then(|text| text.chars().next_back());
    let after = text.get(end..).and_then(|text| text.chars().next());
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(searcher: &Searcher, value: &[u8], vr: &[u8; 2], set: &str) -> Found {
        let clinical = WordList::parse("Long");
        searcher.search(value, Vr(*vr), &CharacterSet::from_value(set.as_bytes()), &clinical)
    }

    fn searcher() -> Searcher {
        let latin = CharacterSet::from_value(b"ISO_IR 100");
        let mut traces = Traces::default();
        traces.name(b"M\xFCller-Long^Jo^A^DR", &latin);
        traces.name(b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", &CharacterSet::default());
        traces.id(b"AB4711 ", &latin);
        traces.id(b"123", &latin);
        traces.id(b"4712", &latin);
        traces.birth_date(b"19601224");
        traces.searcher().unwrap()
    }

    #[test]
    fn traces_are_found_in_whatever_form_they_stand() {
        let name = Found::Trace(Trace::Name);
        let id = Found::Trace(Trace::Id);
        let cases: &[(&[u8], &[u8; 2], &str, Found)] = &[
            (b"scan of m\xFCller", b"LO", "ISO_IR 100", name),
            ("scan of MÜLLER".as_bytes(), b"LO", "ISO_IR 192", name),
            ("scan of mu\u{308}ller".as_bytes(), b"LO", "ISO_IR 192", name),
            (b"scan of M\xFCLLER", b"LO", "", name),
            (b"M\xFCllerstrasse", b"LO", "ISO_IR 100", Found::Nothing),
            (b"Jo's knee", b"LO", "", name),
            (b"Joint", b"LO", "", Found::Nothing),
            (b"DR", b"CS", "", Found::Nothing),
            (b"long axis", b"LO", "", Found::Clinical),
            (b"long axis of Jo", b"LO", "", name),
            (b"YAMADA", b"LO", "", name),
            (b"\x1b$B;3ED\x1b(B", b"LO", "\\ISO 2022 IR 87", name),
            (b"v1.2-xab4711y", b"SH", "", id),
            (b"123", b"LO", "", Found::Nothing),
            (b"471234", b"LO", "", id),
            (b"4712", b"DS", "", Found::Nothing),
            (b"1.2.4712.1", b"UI", "", Found::Nothing),
            (b"born 24.12.1960", b"LT", "", Found::Trace(Trace::BirthDate)),
            (b"19601224", b"DA", "", Found::Nothing),
            (b"19601224", b"IS", "", Found::Trace(Trace::BirthDate)),
            (b"JO", b"DA", "", name),
            (b"", b"LO", "", Found::Nothing),
        ];
        for (value, vr, set, want) in cases {
            assert_eq!(
                search(&searcher(), value, vr, set),
                *want,
                "{:?} {set}",
                String::from_utf8_lossy(value)
            );
        }
    }

    #[test]
    fn nothing_to_search_for_finds_nothing() {
        let searcher = Traces::default().searcher().unwrap();
        assert_eq!(search(&searcher, b"anything", b"LO", ""), Found::Nothing);
    }

    #[test]
    fn traces_print_nothing() {
        let mut traces = Traces::default();
        traces.name(b"DOE^JANE", &CharacterSet::default());
        assert!(!format!("{traces:?}").to_lowercase().contains("doe"));
    }
}
