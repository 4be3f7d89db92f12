use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

/// The character set in which a data set, or an item, writes its text (PS3.5 §6.1; PS3.3 C.12.1.1.2).
///
/// With code extensions (several values) text is written in the first set only: what would need an escape sequence
/// is refused. Reading is for counting characters, not for people.
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

#[cfg(test)]
mod tests {
    use super::*;

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
