use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

/// The character set in which a data set, or an item, writes its text (PS3.5 §6.1; PS3.3 C.12.1.1.2).
///
/// With code extensions (several values) text is written in the first set only: what would need an escape sequence
/// is refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CharacterSet(Kind);

#[derive(Clone, Debug, Default, PartialEq)]
enum Kind {
    /// ISO-IR 6, which is also what is in force where the element is absent, and all that can be written in sets that
    /// need escapes (ISO 2022 IR 87, 149, 58) or that nobody here knows.
    #[default]
    Ascii,
    /// One byte a character.
    SingleByte(SpecificCharacterSet),
    /// ISO_IR 192, GB18030, GBK.
    MultiByte(SpecificCharacterSet),
}

impl CharacterSet {
    /// From the value of Specific Character Set (0008,0005).
    pub fn from_value(value: &[u8]) -> Self {
        let first = value.split(|byte| *byte == b'\\').next().unwrap_or_default();
        let Ok(code) = std::str::from_utf8(first) else { return Self::default() };
        let code = code.trim_matches([' ', '\0']);
        let Some(set) = SpecificCharacterSet::from_code(code) else { return Self::default() };
        Self(match code {
            "ISO_IR 192" | "GB18030" | "GBK" => Kind::MultiByte(set),
            "GB2312" => Kind::Ascii,
            _ if code.ends_with(" 6") || code.ends_with("_6") => Kind::Ascii,
            _ if [" 87", " 149", " 159", " 58"].iter().any(|ending| code.ends_with(ending)) => Kind::Ascii,
            _ => Kind::SingleByte(set),
        })
    }

    /// The text's bytes, or `None` where this set cannot express it.
    pub fn encode(&self, text: &str) -> Option<Vec<u8>> {
        if text.is_ascii() {
            return self.keeps_ascii(text).then(|| text.as_bytes().to_vec());
        }
        let set = match &self.0 {
            Kind::Ascii => return None,
            Kind::SingleByte(set) | Kind::MultiByte(set) => set,
        };
        let bytes = set.encode(text).ok()?;
        if matches!(self.0, Kind::SingleByte(_)) && bytes.len() != text.chars().count() {
            return None;
        }
        // The codec replaces what it cannot express by something like it.
        (set.decode(&bytes).ok()? == text).then_some(bytes)
    }

    /// The text of these bytes, or `None` where this set cannot tell.
    pub fn decode(&self, value: &[u8]) -> Option<String> {
        match &self.0 {
            Kind::Ascii => value.is_ascii().then(|| String::from_utf8_lossy(value).into_owned()),
            Kind::SingleByte(set) | Kind::MultiByte(set) => set.decode(value).ok(),
        }
    }

    /// How many characters these bytes are, as far as this set tells.
    pub fn characters(&self, value: &[u8]) -> usize {
        match &self.0 {
            Kind::MultiByte(set) => {
                set.decode(value).map_or(value.len(), |text: String| text.chars().count())
            }
            Kind::Ascii | Kind::SingleByte(_) => value.len(),
        }
    }

    /// ISO-IR 13 has a yen sign for the backslash and an overline for the tilde (PS3.5 §6.1.2.3).
    fn keeps_ascii(&self, text: &str) -> bool {
        let romaji = matches!(&self.0, Kind::SingleByte(set) if set.name() == "ISO_IR 13");
        !(romaji && text.contains(['\\', '~']))
    }
}

/// Reads text for people and for rules, code extensions (PS3.3 C.12.1.1.2) among it.
#[derive(Clone, Debug, Default)]
pub struct TextReader {
    /// In force at the beginning and after each delimiter; `None` is ISO-IR 6.
    first: Option<SpecificCharacterSet>,
    extended: bool,
}

const ESCAPE: u8 = 0x1B;

/// What an escape sequence brings in.
#[derive(Clone, Copy, PartialEq)]
enum Designated {
    /// The set of the first value again.
    First,
    /// A set by its defined term.
    Set(&'static str),
    /// Two bytes of seven bits a character, which look like ASCII: ISO-IR 87.
    Kanji,
    /// The same, and nobody here can read it: ISO-IR 159.
    Unreadable,
}

/// PS3.3 Tables C.12-3 and C.12-4.
const ESCAPES: &[(&[u8], Designated)] = &[
    (b"(B", Designated::First),
    (b"(J", Designated::First),
    (b")I", Designated::Set("ISO_IR 13")),
    (b"-A", Designated::Set("ISO_IR 100")),
    (b"-B", Designated::Set("ISO_IR 101")),
    (b"-C", Designated::Set("ISO_IR 109")),
    (b"-D", Designated::Set("ISO_IR 110")),
    (b"-L", Designated::Set("ISO_IR 144")),
    (b"-G", Designated::Set("ISO_IR 127")),
    (b"-F", Designated::Set("ISO_IR 126")),
    (b"-H", Designated::Set("ISO_IR 138")),
    (b"-M", Designated::Set("ISO_IR 148")),
    (b"-T", Designated::Set("ISO_IR 166")),
    (b"$)C", Designated::Set("ISO 2022 IR 149")),
    (b"$)A", Designated::Set("ISO 2022 IR 58")),
    (b"$(D", Designated::Unreadable),
    (b"$B", Designated::Kanji),
];

impl TextReader {
    /// From the value of Specific Character Set (0008,0005).
    pub fn from_value(value: &[u8]) -> Self {
        let value = String::from_utf8_lossy(value);
        let mut terms = value.split('\\').map(|term| term.trim_matches([' ', '\0']));
        let first = terms.next().unwrap_or_default();
        let extended = first.starts_with("ISO 2022") || terms.next().is_some();
        // Seven bits that look like ASCII: it is only ever entered by its escape sequence.
        let first = SpecificCharacterSet::from_code(first).filter(|set| set.name() != "ISO_IR 87");
        Self { first, extended }
    }

    /// The text. What cannot be read becomes U+FFFD, or one character per byte.
    pub fn read(&self, value: &[u8]) -> String {
        let mut text = String::with_capacity(value.len());
        if !self.extended || !value.contains(&ESCAPE) {
            self.append(value, Designated::First, &mut text);
            return text;
        }
        let (mut rest, mut run, mut set) = (value, 0, Designated::First);
        while let Some(byte) = rest.get(run).copied() {
            let behind = rest.get(run + 1..).unwrap_or_default();
            let escape = ESCAPES.iter().find(|(code, _)| byte == ESCAPE && behind.starts_with(code));
            let is_double = matches!(set, Designated::Kanji | Designated::Unreadable);
            if let Some((code, next)) = escape {
                self.append(rest.get(..run).unwrap_or_default(), set, &mut text);
                (rest, run, set) = (behind.get(code.len()..).unwrap_or_default(), 0, *next);
            } else if !is_double && matches!(byte, b'\\' | b'\r' | b'\n' | b'\t' | 0x0C) {
                self.append(rest.get(..=run).unwrap_or_default(), set, &mut text);
                (rest, run, set) = (behind, 0, Designated::First);
            } else {
                run += 1;
            }
        }
        self.append(rest, set, &mut text);
        text
    }

    fn append(&self, run: &[u8], set: Designated, text: &mut String) {
        let plain = |text: &mut String| match std::str::from_utf8(run) {
            Ok(run) => text.push_str(run),
            Err(_) => text.extend(run.iter().copied().map(char::from)),
        };
        let decoded = |set: &SpecificCharacterSet, bytes: &[u8]| set.decode(bytes).ok();
        let found = match set {
            _ if run.is_empty() => return,
            Designated::First => self.first.as_ref().and_then(|set| decoded(set, run)),
            Designated::Set(code) => SpecificCharacterSet::from_code(code).and_then(|set| decoded(&set, run)),
            Designated::Kanji => {
                let bytes = [&[ESCAPE], b"$B".as_slice(), run].concat();
                SpecificCharacterSet::from_code("ISO 2022 IR 87").and_then(|set| decoded(&set, &bytes))
            }
            Designated::Unreadable => {
                text.extend(run.chunks(2).map(|_| char::REPLACEMENT_CHARACTER));
                return;
            }
        };
        match found {
            Some(found) => text.push_str(&found),
            None => plain(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of PS3.5 Annexes H to K, and plain sets.
    #[test]
    fn text_is_read_with_its_code_extensions() {
        let cases: &[(&str, &[u8], &str)] = &[
            ("", b"Mueller", "Mueller"),
            ("", b"M\xFCller", "Müller"),
            ("ISO_IR 100", b"Buc^J\xE9r\xF4me", "Buc^Jérôme"),
            ("ISO_IR 192", "Wáng^小东".as_bytes(), "Wáng^小东"),
            ("GB18030", b"\xCD\xF5^\xD0\xA1\xB6\xAB", "王^小东"),
            ("ISO_IR 144", b"\xBB\xEE\xDA", "Люк"),
            ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
            (
                "\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
                "Hong^Gildong=洪^吉洞",
            ),
            ("ISO 2022 IR 100\\ISO 2022 IR 144", b"\xe9\\\x1b-L\xbb\\\xe9", "é\\Л\\é"),
            ("\\ISO 2022 IR 159", b"a\x1b$(D0!0\"\x1b(Bb", "a\u{FFFD}\u{FFFD}b"),
            ("ISO 2022 IR 100", b"\x1b", "\x1b"),
        ];
        for (set, value, want) in cases {
            assert_eq!(TextReader::from_value(set.as_bytes()).read(value), *want, "{set}");
        }
    }

    #[test]
    fn text_is_written_in_the_sets_that_can_express_it() {
        let cases: &[(&str, &str, Option<&[u8]>)] = &[
            ("", "Mueller", Some(b"Mueller")),
            ("", "Müller", None),
            ("ISO_IR 6", "Müller", None),
            ("ISO_IR 100", "Müller", Some(b"M\xFCller")),
            ("ISO_IR 100", "Дмитрий", None),
            ("ISO_IR 100 ", "Müller", Some(b"M\xFCller")),
            ("ISO_IR 144", "Да", Some(b"\xB4\xD0")),
            ("ISO_IR 192", "Ü語", Some("Ü語".as_bytes())),
            ("GB18030", "王", Some(b"\xCD\xF5")),
            ("ISO_IR 13", "\u{FF79}", Some(b"\xB9")),
            ("ISO_IR 13", "山", None),
            ("ISO_IR 13", "a~b", None),
            ("\\ISO 2022 IR 87", "Yamada", Some(b"Yamada")),
            ("\\ISO 2022 IR 87", "山田", None),
            ("ISO 2022 IR 87", "山田", None),
            ("ISO 2022 IR 149", "김", None),
            ("ISO 2022 IR 100\\ISO 2022 IR 144", "é", Some(b"\xE9")),
            ("PRIVATE", "é", None),
            ("\u{FF}", "a", Some(b"a")),
        ];
        for (set, text, want) in cases {
            let encoded = CharacterSet::from_value(set.as_bytes()).encode(text);
            assert_eq!(encoded.as_deref(), *want, "{text} in {set:?}");
        }
    }

    #[test]
    fn characters_are_counted_in_the_set_they_are_written_in() {
        for (set, value, want) in
            [("ISO_IR 192", "Ü語".as_bytes(), 2), ("ISO_IR 100", b"M\xFC", 2), ("GB18030", b"\xCD\xF5a", 2)]
        {
            assert_eq!(CharacterSet::from_value(set.as_bytes()).characters(value), want, "{set}");
        }
    }
}
