//! What the types of keys are called in the reference.

use syn::{GenericArgument, PathArguments, Type};

use super::model::{Model, Table};

/// Types that are not read as serde derives it.
struct Special {
    name: &'static str,
    words: &'static str,
    /// What it is by itself, where it has a default.
    default: Option<&'static str>,
    /// The struct that it may be a table of.
    table: Option<&'static str>,
}

const fn word(name: &'static str, words: &'static str) -> Special {
    Special { name, words, default: None, table: None }
}

/// All of them.
const SPECIAL: &[Special] = &[
    word("AeTitle", "AE title"),
    word("Name", "name"),
    word("Uid", "UID"),
    word("RouteId", "32 hexadecimal digits"),
    word("ServiceUrl", "URL"),
    word("Fingerprint", "64 hexadecimal digits"),
    word("SocketAddr", "address:port"),
    word("IpAddr", "address"),
    word("PathBuf", "path"),
    Special { name: "String", words: "text", default: Some("\"\""), table: None },
    Special { name: "bool", words: "`true` or `false`", default: Some("false"), table: None },
    Special { name: "u16", words: "integer", default: Some("0"), table: None },
    Special { name: "u8", words: "integer", default: Some("0"), table: None },
    Special { name: "u32", words: "integer", default: Some("0"), table: None },
    Special { name: "u64", words: "integer", default: Some("0"), table: None },
    Special { name: "usize", words: "integer", default: Some("0"), table: None },
    Special { name: "ByteSize", words: "size", default: Some("\"0 B\""), table: None },
    Special { name: "Span", words: "duration", default: Some("\"0s\""), table: None },
    word("Texts", "text, or array of texts"),
    Special {
        name: "Destinations",
        words: "name, or array of tables",
        default: None,
        table: Some("DestinationTable"),
    },
    Special {
        name: "Padding",
        words: "`\"padme\"`, `\"none\"` or `\"block:BYTES\"`",
        default: Some("\"padme\""),
        table: None,
    },
    Special {
        name: "StatusOverrides",
        words: "table: `\"stored\"`, `\"refused\"` or `\"deferred\"` by status (`\"C001\"`, `\"A7xx\"`)",
        default: Some("{}"),
        table: None,
    },
    Special { name: "DateShift", words: "integer", default: Some("3650"), table: None },
];

fn special(name: &str) -> Option<&'static Special> {
    SPECIAL.iter().find(|special| special.name == name)
}

/// The last word of a type's path.
pub(super) fn name(kind: &Type) -> Option<String> {
    match kind {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
}

/// `T` of `OUTER<T>`, or the last of its arguments.
pub(super) fn inner<'a>(kind: &'a Type, outer: &str) -> Option<&'a Type> {
    let Type::Path(path) = kind else { return None };
    let segment = path.path.segments.last().filter(|segment| segment.ident == outer)?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.last() {
        Some(GenericArgument::Type(inner)) => Some(inner),
        _ => None,
    }
}

/// A type in words.
pub(super) fn words(model: &Model, of: &str, kind: &Type) -> Option<String> {
    if let Some(inner) = inner(kind, "Option") {
        return words(model, of, inner);
    }
    if let Some(inner) = inner(kind, "Vec") {
        let is_table = name(inner).is_some_and(|name| model.table(of, &name).is_some());
        let inner = words(model, of, inner)?;
        return Some(if is_table { "array of tables".to_owned() } else { format!("array: {inner}") });
    }
    if let Some(inner) = inner(kind, "BTreeMap") {
        return Some(format!("table of names, each with {}", words(model, of, inner)?));
    }
    let name = name(kind)?;
    if let Some(special) = special(&name) {
        return Some(special.words.to_owned());
    }
    if let Some(choice) = model.choice(of, &name) {
        let words: Vec<_> = choice.words.iter().map(|(_, word)| format!("`\"{word}\"`")).collect();
        return Some(words.join(", "));
    }
    model.table(of, &name).map(|_| "table".to_owned())
}

/// What a type is where nothing is said.
pub(super) fn default(model: &Model, of: &str, kind: &Type) -> Option<String> {
    let name = name(kind)?;
    match name.as_str() {
        "Option" => return Some("none".to_owned()),
        "Vec" => return Some("[]".to_owned()),
        "BTreeMap" => return Some("{}".to_owned()),
        _ => {}
    }
    if let Some(special) = special(&name) {
        return special.default.map(str::to_owned);
    }
    if let Some(choice) = model.choice(of, &name) {
        return choice.default.as_ref().map(|word| format!("\"{word}\""));
    }
    model.table(of, &name).map(|_| "its keys' own".to_owned())
}

/// The struct that the tables of this type are read into, and whether there are several.
pub(super) fn table<'a>(model: &'a Model, of: &str, kind: &Type) -> Option<(&'a Table, bool)> {
    if let Some(inner) = inner(kind, "Option") {
        return table(model, of, inner);
    }
    if let Some(inner) = inner(kind, "Vec") {
        return table(model, of, inner).map(|(table, _)| (table, true));
    }
    let name = name(kind)?;
    match special(&name) {
        Some(special) => Some((model.table(of, special.table?)?, true)),
        None => Some((model.table(of, &name)?, false)),
    }
}
