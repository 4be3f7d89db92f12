use std::collections::BTreeMap;

use base::Uid;

use crate::charset::TextReader;
use crate::element::{Content, DictionaryVr, ElementHeader, Tag, Vr};
use crate::inflate::Inflater;
use crate::limits::{HEADER_BYTES_MAX, RULE_BYTES_MAX};
use crate::syntax::{Encoding, Syntax};
use crate::token::{Event, Tokenizer};
use crate::walk::WalkError;

/// What stands in an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Its values, decoded and without padding; numbers as decimal text. Empty where the element is empty.
    Values(Vec<String>),
    /// Something that is no text and no number, or that is longer than
    /// [`RULE_BYTES_MAX`].
    Opaque,
}

impl Selection {
    /// Whether there is anything in it.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Values(values) if values.is_empty())
    }

    /// The values, where they can be compared with text.
    pub fn values(&self) -> &[String] {
        match self {
            Self::Values(values) => values,
            Self::Opaque => &[],
        }
    }
}

/// Reads some elements of the first level from the beginning of a data set, for whoever has to decide before the rest
/// is here. It ends as soon as nothing more can come: tags ascend (PS3.5 §7.1), so that an element that stands before
/// its place in the order counts as absent behind it; nor does it look at pixel data, or further than
/// [`HEADER_BYTES_MAX`].
///
/// It holds the wanted values, each up to a limit, and nothing else. Values are patient data.
pub struct Selector {
    tokens: Tokenizer,
    inflater: Option<Inflater>,
    fields: Fields,
    bytes_in: u64,
}

/// Where a [`Selector`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selecting {
    /// Something wanted may still come.
    #[default]
    Going,
    /// All that can come is here.
    Done,
    /// The limit is reached: what stands behind it counts as absent.
    Cut,
}

impl Selector {
    /// Wants these elements of a data set in this transfer syntax; `None` where nobody can read it.
    pub fn new(transfer_syntax: &Uid, wanted: impl IntoIterator<Item = Tag>) -> Option<Self> {
        let syntax = Syntax::of(transfer_syntax)?;
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let state = if wanted.is_empty() { Selecting::Done } else { Selecting::Going };
        Some(Self {
            tokens: Tokenizer::new(syntax.encoding),
            inflater: syntax.deflated.then(Inflater::new),
            fields: Fields { wanted, state, ..Fields::default() },
            bytes_in: 0,
        })
    }

    /// Takes the next bytes. An error says that the data set cannot be read; what was found before it stays.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Selecting, WalkError> {
        self.bytes_in += bytes.len() as u64;
        if self.fields.state == Selecting::Going {
            match &mut self.inflater {
                None => self.fields.read(&mut self.tokens, bytes)?,
                Some(inflater) => loop {
                    let inflated = inflater.next(&mut bytes)?;
                    if inflated.is_empty() && bytes.is_empty() {
                        break;
                    }
                    self.fields.read(&mut self.tokens, inflated)?;
                },
            }
        }
        // A deflated stream can be long and expand to nothing.
        if self.fields.state == Selecting::Going && self.bytes_in.max(self.tokens.offset()) > HEADER_BYTES_MAX
        {
            self.fields.state = Selecting::Cut;
        }
        Ok(self.fields.state)
    }

    /// What was found, also where the data set ended before all could come.
    pub fn finish(self) -> BTreeMap<Tag, Selection> {
        self.fields.found
    }
}

#[derive(Default)]
struct Fields {
    /// In the order of their tags.
    wanted: Vec<Tag>,
    state: Selecting,
    reader: TextReader,
    current: Option<ElementHeader>,
    value: Vec<u8>,
    too_long: bool,
    found: BTreeMap<Tag, Selection>,
}

impl Fields {
    fn read(&mut self, tokens: &mut Tokenizer, mut bytes: &[u8]) -> Result<(), WalkError> {
        while self.state == Selecting::Going
            && let Some(event) = tokens.next(&mut bytes)?
        {
            match event {
                Event::Element(header) if header.depth == 0 => self.element(header),
                Event::Value(piece) if self.current.is_some() => {
                    let room = RULE_BYTES_MAX - self.value.len();
                    self.too_long |= piece.len() > room;
                    self.value.extend_from_slice(piece.get(..room).unwrap_or(piece));
                }
                Event::ValueEnd => self.settle(),
                _ => {}
            }
        }
        Ok(())
    }

    fn element(&mut self, header: ElementHeader) {
        let last = self.wanted.last().copied().unwrap_or(Tag::CHARACTER_SET);
        if header.tag > last || header.tag >= Tag::FLOAT_PIXEL_DATA {
            self.state = Selecting::Done;
            return;
        }
        let is_wanted = self.wanted.binary_search(&header.tag).is_ok();
        match header.content {
            Content::Value if is_wanted || header.tag == Tag::CHARACTER_SET => {
                self.current = Some(header);
                self.value.clear();
                self.too_long = false;
            }
            Content::Sequence | Content::Fragments if is_wanted => {
                self.found.entry(header.tag).or_insert(Selection::Opaque);
            }
            _ => {}
        }
    }

    fn settle(&mut self) {
        let Some(header) = self.current.take() else { return };
        if header.tag == Tag::CHARACTER_SET {
            self.reader = TextReader::from_value(&self.value);
        }
        if self.wanted.binary_search(&header.tag).is_ok() {
            let selection = match self.too_long {
                true => Selection::Opaque,
                false => selection(&header, &self.value, &self.reader),
            };
            // Of two equal tags the first counts.
            self.found.entry(header.tag).or_insert(selection);
        }
        if self.wanted.last() == Some(&header.tag) {
            self.state = Selecting::Done;
        }
    }
}

fn selection(header: &ElementHeader, value: &[u8], reader: &TextReader) -> Selection {
    let vr = header.vr.filter(|vr| *vr != Vr::UN).or_else(|| match header.tag.dictionary_vr()? {
        DictionaryVr::Exact(vr) => Some(vr),
        DictionaryVr::Sample => Some(Vr::US),
        DictionaryVr::Words => Some(Vr::OW),
    });
    let text = |separated: bool| {
        let text = reader.read(value);
        let values = text.split(['\\']).map(|one| one.trim_matches([' ', '\0']).to_owned());
        let whole = || vec![text.trim_end_matches([' ', '\0']).to_owned()];
        let mut values: Vec<_> = if separated { values.collect() } else { whole() };
        values.retain(|one| !one.is_empty());
        Selection::Values(values)
    };
    match vr.map(|vr| vr.0).as_ref() {
        Some(b"LT" | b"ST" | b"UT" | b"UR") => text(false),
        // What nobody knows is text where it looks like it.
        None => text(true),
        Some(b"UI") => text(true),
        Some(vr) if Vr(*vr).is_text() => text(true),
        Some(vr) => numbers(*vr, header.encoding, value).map_or(Selection::Opaque, Selection::Values),
    }
}

/// Numbers as text; `None` for what is none.
fn numbers(vr: [u8; 2], encoding: Encoding, value: &[u8]) -> Option<Vec<String>> {
    fn each<const N: usize>(
        encoding: Encoding,
        value: &[u8],
        text: impl Fn([u8; N]) -> String,
    ) -> Option<Vec<String>> {
        let little = |chunk: &[u8]| {
            let mut bytes: [u8; N] = chunk.try_into().ok()?;
            if encoding == Encoding::ExplicitBig {
                bytes.reverse();
            }
            Some(text(bytes))
        };
        value.chunks(N).map(little).collect()
    }
    match &vr {
        b"US" => each(encoding, value, |bytes| u16::from_le_bytes(bytes).to_string()),
        b"SS" => each(encoding, value, |bytes| i16::from_le_bytes(bytes).to_string()),
        b"UL" => each(encoding, value, |bytes| u32::from_le_bytes(bytes).to_string()),
        b"SL" => each(encoding, value, |bytes| i32::from_le_bytes(bytes).to_string()),
        b"UV" => each(encoding, value, |bytes| u64::from_le_bytes(bytes).to_string()),
        b"SV" => each(encoding, value, |bytes| i64::from_le_bytes(bytes).to_string()),
        b"FL" => each(encoding, value, |bytes| f32::from_le_bytes(bytes).to_string()),
        b"FD" => each(encoding, value, |bytes| f64::from_le_bytes(bytes).to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPLICIT: &str = "1.2.840.10008.1.2.1";

    fn element(syntax: &str, tag: Tag, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
        let big = syntax == "1.2.840.10008.1.2.2";
        let short = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut bytes = [short(tag.0), short(tag.1)].concat();
        let len = u32::try_from(value.len()).unwrap();
        if syntax == "1.2.840.10008.1.2" {
            bytes.extend(len.to_le_bytes());
        } else if Vr(*vr).has_long_length() {
            bytes.extend([vr[0], vr[1], 0, 0]);
            bytes.extend(if big { len.to_be_bytes() } else { len.to_le_bytes() });
        } else {
            bytes.extend(vr);
            bytes.extend(short(u16::try_from(len).unwrap()));
        }
        bytes.extend(value);
        bytes
    }

    fn select(
        syntax: &str,
        bytes: &[u8],
        wanted: &[Tag],
        piece: usize,
    ) -> (Selecting, BTreeMap<Tag, Selection>) {
        let mut selector = Selector::new(&Uid::parse(syntax).unwrap(), wanted.iter().copied()).unwrap();
        let mut state = Selecting::Going;
        for piece in bytes.chunks(piece) {
            state = selector.feed(piece).unwrap();
        }
        (state, selector.finish())
    }

    fn values(values: &[&str]) -> Selection {
        Selection::Values(values.iter().map(|one| (*one).to_owned()).collect())
    }

    #[test]
    fn wanted_elements_are_read_in_every_layout_and_in_any_pieces() {
        let rows = Tag(0x0028, 0x0010);
        let (types, comment, private) = (Tag(0x0008, 0x0008), Tag(0x0010, 0x4000), Tag(0x0009, 0x1001));
        for syntax in ["1.2.840.10008.1.2", EXPLICIT, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"] {
            let layout = if syntax.ends_with(".99") { EXPLICIT } else { syntax };
            let one = |tag, vr, value: &[u8]| element(layout, tag, vr, value);
            let number = if layout == "1.2.840.10008.1.2.2" { [2, 0] } else { [0, 2] };
            let mut bytes = [
                one(Tag::CHARACTER_SET, b"CS", b"ISO_IR 100"),
                one(types, b"CS", b"ORIGINAL\\PRIMARY\\\\AXIAL "),
                one(Tag::MODALITY, b"CS", b"CT"),
                one(private, b"UN", b"yes "),
                one(comment, b"LT", b"M\xFCde \\ kalt "),
                one(rows, b"US", &number),
                one(Tag::PIXEL_DATA, b"OW", &[0; 64]),
            ]
            .concat();
            if syntax != layout {
                use std::io::Write as _;
                let mut deflated =
                    flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
                deflated.write_all(&bytes).unwrap();
                bytes = deflated.finish().unwrap();
            }
            for piece in [1, 7, bytes.len()] {
                let wanted = [rows, Tag::MODALITY, types, comment, private, Tag::PATIENT_ID];
                let (state, found) = select(syntax, &bytes, &wanted, piece);
                assert_eq!(state, Selecting::Done, "{syntax}");
                let want = [
                    (types, values(&["ORIGINAL", "PRIMARY", "AXIAL"])),
                    (Tag::MODALITY, values(&["CT"])),
                    (private, values(&["yes"])),
                    (comment, values(&["Müde \\ kalt"])),
                    (rows, values(&["512"])),
                ];
                assert_eq!(found, BTreeMap::from(want), "{syntax} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn it_ends_with_the_last_wanted_element_or_where_that_would_have_stood() {
        let study = element(EXPLICIT, Tag(0x0008, 0x1030), b"LO", b"x ");
        let modality = element(EXPLICIT, Tag::MODALITY, b"CS", b"CT");
        for (bytes, want) in [(&modality, Selecting::Done), (&study, Selecting::Done)] {
            assert_eq!(select(EXPLICIT, bytes, &[Tag::MODALITY], 3).0, want);
        }
        assert_eq!(select(EXPLICIT, &modality, &[Tag(0x0008, 0x1030)], 3).0, Selecting::Going);
        assert_eq!(select(EXPLICIT, &[], &[], 1).0, Selecting::Going);
        assert!(Selector::new(&Uid::parse("2.25.1").unwrap(), [Tag::MODALITY]).is_none());
    }

    #[test]
    fn what_is_long_or_no_text_is_opaque_and_what_is_behind_the_limit_is_absent() {
        let long = vec![b'x'; RULE_BYTES_MAX + 2];
        let (text, data, name) = (Tag(0x0008, 0x0119), Tag(0x0009, 0x1002), Tag(0x0010, 0x0010));
        let mut bytes = element(EXPLICIT, text, b"UC", &long);
        bytes.extend(element(EXPLICIT, data, b"OB", &[1, 2]));
        bytes.extend(element(EXPLICIT, name, b"PN", b""));
        let (_, found) = select(EXPLICIT, &bytes, &[text, data, name], 1000);
        assert_eq!(
            found,
            BTreeMap::from([(text, Selection::Opaque), (data, Selection::Opaque), (name, values(&[]))])
        );
        let huge = element(EXPLICIT, data, b"OB", &vec![0; (1 << 20) + 8192]);
        let bytes = [huge, element(EXPLICIT, name, b"PN", b"A^B ")].concat();
        let (state, found) = select(EXPLICIT, &bytes, &[name], 4096);
        assert_eq!((state, found.len()), (Selecting::Cut, 0));
    }
}
