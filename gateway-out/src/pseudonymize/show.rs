//! `route test --pseudonymize`: what a route would do to a file, element by element. Values are shown only where that is asked for.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use base::Uid;
use dataset::{
    Content, Decision, Edit, EditError, ElementHeader, Outcome, Place, Rewriter, Step, Tag, Vr, WholeElement,
};
use pseudonym::Pseudonymizer;
use serde_json::{Value, json};

use super::Pseudonymization;

/// Read of the file at one time.
const READ_BYTES: usize = 64 * 1024;
/// Values that are compared and shown; longer ones count as kept or removed.
const VALUE_BYTES_MAX: usize = 4096;
/// Characters of a value that are shown.
const SHOWN_MAX: usize = 40;

/// What a route would do to a file.
#[derive(Debug)]
pub struct Changes {
    rows: Vec<Row>,
    kept: usize,
    /// Why it would be refused instead.
    pub refused: Option<String>,
}

#[derive(Debug)]
struct Row {
    place: String,
    name: &'static str,
    what: &'static str,
    before: Option<String>,
    after: Option<String>,
}

/// Under the current key: no daemon is asked which one a study is under.
pub fn changes(how: &Pseudonymization, path: &Path, syntax: &Uid, offset: u64) -> Result<Changes> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.seek(SeekFrom::Start(offset))?;
    let refused =
        |why: pseudonym::Refusal| Changes { rows: Vec::new(), kept: 0, refused: Some(why.to_string()) };
    let pseudonyms = Arc::clone(&how.ring.current().pseudonyms);
    let mut pseudonymizer = match Pseudonymizer::new(Arc::clone(&how.plan), pseudonyms, syntax) {
        Ok(pseudonymizer) => pseudonymizer,
        Err(why) => return Ok(refused(why)),
    };
    // Compressed pixels that are masked go on as native ones; up to there it is all Explicit VR Little Endian.
    let (mut before, mut after) = (Listing::new(syntax), None);
    let (mut buffer, mut out) = (vec![0; READ_BYTES], Vec::new());
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        let read = buffer.get(..count).unwrap_or_default();
        before.feed(read);
        if let Err(why) = pseudonymizer.feed(read, &mut out) {
            return Ok(refused(why));
        }
        if !out.is_empty() {
            let goes = || pseudonymizer.transfer_syntax().unwrap_or_else(|| syntax.clone());
            after.get_or_insert_with(|| Listing::new(&goes())).feed(&out);
        }
        out.clear();
    }
    if let Err(why) = pseudonymizer.finish(&mut out) {
        return Ok(refused(why));
    }
    let mut after = after.unwrap_or_else(|| Listing::new(syntax));
    after.feed(&out);
    Ok(compare(before.finish(), &after.finish()))
}

type Key = (Vec<(Tag, u32)>, Tag);

/// The elements of a data set; those that hold no others with their values.
struct Listing(Option<Rewriter<List>>, Vec<u8>);

#[derive(Default)]
struct List(BTreeMap<Key, Option<String>>);

impl Listing {
    fn new(syntax: &Uid) -> Self {
        Self(Rewriter::new(syntax, List::default()), Vec::new())
    }

    fn feed(&mut self, bytes: &[u8]) {
        let Self(rewriter, unused) = self;
        if rewriter.as_mut().is_some_and(|rewriter| rewriter.feed(bytes, unused).is_err()) {
            self.0 = None;
        }
        self.1.clear();
    }

    fn finish(mut self) -> BTreeMap<Key, Option<String>> {
        let ended = self.0.take().and_then(|rewriter| rewriter.finish(&mut self.1).ok());
        ended.map(|(_, list)| list.0).unwrap_or_default()
    }
}

fn key(place: &Place<'_>, tag: Tag) -> Key {
    (place.path.iter().map(|Step { sequence, item }| (*sequence, *item)).collect(), tag)
}

impl Edit for List {
    fn is_identity(&self) -> bool {
        true
    }

    fn opens_unknown(&self) -> bool {
        true
    }

    fn element(&mut self, place: &Place<'_>, header: &ElementHeader) -> Result<Decision, EditError> {
        self.0.insert(key(place, header.tag), None);
        let is_short = header.length.bytes().is_some_and(|bytes| bytes as usize <= VALUE_BYTES_MAX / 2);
        Ok(match header.content {
            Content::Value if is_short => Decision::Read { bytes_max: VALUE_BYTES_MAX },
            Content::Value => Decision::Keep,
            _ => Decision::Descend,
        })
    }

    fn read(&mut self, place: &Place<'_>, element: WholeElement<'_>) -> Result<Outcome, EditError> {
        let vr = element.header.vr.or_else(|| match element.header.tag.dictionary_vr() {
            Some(dataset::DictionaryVr::Exact(vr)) => Some(vr),
            _ => None,
        });
        let text = match vr {
            Some(vr) if vr.is_text() || vr == Vr::UI => place.characters.decode(element.value()),
            _ => None,
        };
        let text = text.unwrap_or_else(|| hex::encode(element.value()));
        self.0.insert(key(place, element.header.tag), Some(text.trim_matches([' ', '\0']).to_owned()));
        Ok(Outcome::Keep)
    }
}

fn compare(before: BTreeMap<Key, Option<String>>, after: &BTreeMap<Key, Option<String>>) -> Changes {
    let (mut rows, mut kept) = (Vec::new(), 0);
    let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let what = match (before.get(key), after.get(key)) {
            (Some(before), Some(after)) if before == after => {
                kept += 1;
                continue;
            }
            (Some(_), Some(Some(after))) if after.is_empty() => "emptied",
            (Some(_), Some(_)) => "replaced",
            (Some(_), None) => "removed",
            (None, _) => "written",
        };
        let (path, tag) = key;
        // Of a sequence that is gone, what was in it is not told one by one.
        let is_within_removed = (0..path.len()).any(|depth| {
            let around = path
                .get(depth)
                .map(|(sequence, _)| (path.get(..depth).unwrap_or_default().to_vec(), *sequence));
            around.is_some_and(|around| !after.contains_key(&around))
        });
        if is_within_removed {
            continue;
        }
        let steps = path.iter().map(|(sequence, item)| format!("{sequence}[{}] ", item + 1));
        rows.push(Row {
            place: steps.chain([tag.to_string()]).collect(),
            name: tag.keyword().unwrap_or_else(|| if tag.is_private() { "private" } else { "" }),
            what,
            before: before.get(key).cloned().flatten(),
            after: after.get(key).cloned().flatten(),
        });
    }
    Changes { rows, kept, refused: None }
}

impl Changes {
    /// For people.
    pub fn text(&self, reveal: bool) -> String {
        if let Some(why) = &self.refused {
            return format!("    it would be refused: {why}\n");
        }
        let mut text = String::new();
        for Row { place, name, what, before, after } in &self.rows {
            text.push_str(&format!("    {what:<9} {place}  {name}"));
            if reveal {
                let shown = |value: &Option<String>| value.as_deref().map_or_else(String::new, short);
                text.push_str(&format!("  {:?} → {:?}", shown(before), shown(after)));
            }
            text.push('\n');
        }
        let hint = if reveal { "" } else { "; --reveal shows the values of this file" };
        text.push_str(&format!("    {} elements stay as they are{hint}\n", self.kept));
        text.push_str("    the result is pseudonymized, not anonymous\n");
        text
    }

    /// For programs.
    pub fn json(&self, reveal: bool) -> Value {
        let rows = self.rows.iter().map(|row| {
            let mut value = json!({ "place": row.place, "name": row.name, "what": row.what });
            if let (true, Some(map)) = (reveal, value.as_object_mut()) {
                map.insert("before".to_owned(), json!(row.before));
                map.insert("after".to_owned(), json!(row.after));
            }
            value
        });
        json!({ "refused": self.refused, "kept": self.kept, "changes": rows.collect::<Vec<_>>() })
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
