use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

/// One vector: its file name without extension, and its content.
pub(crate) type Vector = (String, Value);

pub(crate) fn folder(kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/envelope").join(kind)
}

/// Every file of a kind.
pub(crate) fn read(kind: &str) -> BTreeMap<String, Value> {
    let entries = fs::read_dir(folder(kind)).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|e| e == "json"));
    files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
        })
        .collect()
}

/// The files of a kind are exactly these; with SLUIS_WRITE_VECTORS they become so.
pub(crate) fn are_current(kind: &str, vectors: Vec<Vector>) {
    let wanted: BTreeMap<String, Value> = vectors.into_iter().collect();
    if std::env::var_os("SLUIS_WRITE_VECTORS").is_some() {
        let _ = fs::remove_dir_all(folder(kind));
        fs::create_dir_all(folder(kind)).unwrap();
        for (name, value) in &wanted {
            let text = serde_json::to_string_pretty(value).unwrap() + "\n";
            fs::write(folder(kind).join(format!("{name}.json")), text).unwrap();
        }
    }
    let found = read(kind);
    let names = |map: &BTreeMap<String, Value>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&found),
        names(&wanted),
        "run again with SLUIS_WRITE_VECTORS=1 and review the difference"
    );
    for (name, value) in &wanted {
        assert_eq!(&found[name], value, "{kind}/{name}.json differs from what is sealed today");
    }
    let invalid = wanted.values().filter(|vector| vector["verdict"] == "invalid").count();
    assert!(invalid * 2 > wanted.len(), "most {kind} vectors are invalid");
}

pub(crate) fn vector(kind: &str, about: &str, refusal: Option<&str>, mut fields: Value) -> Value {
    let object = fields.as_object_mut().unwrap();
    object.insert("kind".into(), json!(kind));
    object.insert("about".into(), json!(about));
    object.insert("verdict".into(), json!(if refusal.is_some() { "invalid" } else { "valid" }));
    if let Some(refusal) = refusal {
        object.insert("refusal".into(), json!(refusal));
    }
    fields
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hexadecimal text")).unwrap()
}

pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}
