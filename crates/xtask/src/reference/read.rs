//! Rust sources into the model.

use std::collections::BTreeMap;

use anyhow::Context as _;
use syn::{
    Attribute, Block, Expr, ExprLit, ImplItem, Item, ItemEnum, ItemImpl, ItemStruct, Lit, LitStr, Meta, Stmt,
};

use super::model::{Absent, Choice, Field, Model, Table};

/// Adds what stands in one file of a crate.
pub(super) fn add(model: &mut Model, of: &str, source: &str) -> anyhow::Result<()> {
    let file = syn::parse_file(source).context("no Rust")?;
    for item in file.items {
        match item {
            Item::Struct(item) if derives(&item.attrs, "Deserialize") => add_table(model, of, item)?,
            Item::Enum(item) if derives(&item.attrs, "Deserialize") => add_choice(model, of, &item)?,
            Item::Fn(item) if item.sig.inputs.is_empty() => {
                if let Some(value) = only_value(*item.block) {
                    model.values.insert((of.to_owned(), item.sig.ident.to_string()), value);
                }
            }
            Item::Const(item) => {
                model.values.insert((of.to_owned(), item.ident.to_string()), *item.expr);
            }
            Item::Impl(item) => add_default(model, of, item),
            _ => {}
        }
    }
    Ok(())
}

fn add_table(model: &mut Model, of: &str, item: ItemStruct) -> anyhow::Result<()> {
    let whole = Serde::read(&item.attrs)?;
    let name = item.ident.to_string();
    let mut fields = Vec::new();
    for field in item.fields {
        let Some(ident) = field.ident else { return Ok(()) };
        let serde = Serde::read(&field.attrs)?;
        let is_option = super::types::inner(&field.ty, "Option").is_some();
        let absent = match (serde.default_function, serde.default) {
            (Some(function), _) => Absent::Function(function),
            (None, true) => Absent::OfType,
            (None, false) if whole.default => Absent::OfStruct,
            (None, false) if is_option => Absent::OfType,
            (None, false) => Absent::Refused,
        };
        fields.push(Field {
            key: serde.rename.unwrap_or_else(|| ident.to_string()),
            field: ident.to_string(),
            doc: doc(&field.attrs),
            kind: field.ty,
            absent,
        });
    }
    let table = Table { of: of.to_owned(), name: name.clone(), doc: doc(&item.attrs), fields };
    model.tables.insert((of.to_owned(), name), table);
    Ok(())
}

fn add_choice(model: &mut Model, of: &str, item: &ItemEnum) -> anyhow::Result<()> {
    let whole = Serde::read(&item.attrs)?;
    let (mut words, mut default) = (Vec::new(), None);
    for variant in &item.variants {
        let renamed = Serde::read(&variant.attrs)?.rename;
        let word = renamed.unwrap_or_else(|| case(&variant.ident.to_string(), whole.rename_all.as_deref()));
        if variant.attrs.iter().any(|attribute| attribute.path().is_ident("default")) {
            default = Some(word.clone());
        }
        words.push((variant.ident.to_string(), word));
    }
    model.choices.insert((of.to_owned(), item.ident.to_string()), Choice { words, default });
    Ok(())
}

/// `impl Default for NAME { fn default() -> Self { Self { … } } }`
fn add_default(model: &mut Model, of: &str, item: ItemImpl) {
    let is_default = item.trait_.as_ref().is_some_and(|(path, _)| path.is_ident("Default"));
    let Some(name) = super::types::name(&item.self_ty).filter(|_| is_default) else { return };
    let mut lets = BTreeMap::new();
    for part in item.items {
        let ImplItem::Fn(function) = part else { continue };
        for statement in function.block.stmts {
            match statement {
                Stmt::Expr(Expr::Struct(made), None) => {
                    let named = made.fields.into_iter().filter_map(|field| match field.member {
                        syn::Member::Named(name) => Some((name.to_string(), field.expr)),
                        syn::Member::Unnamed(_) => None,
                    });
                    let known = (of.to_owned(), name.clone());
                    model.defaults.entry(known).or_default().extend(named);
                }
                Stmt::Local(local) => drop(short_hand(local).map(|(name, body)| lets.insert(name, body))),
                _ => {}
            }
        }
    }
    for (name, body) in lets {
        model.values.entry((of.to_owned(), name)).or_insert(body);
    }
}

/// `let NAME = |ARGUMENT| BODY;` or `let NAME = [..];`: a short hand inside of a default.
fn short_hand(local: syn::Local) -> Option<(String, Expr)> {
    let syn::Pat::Ident(name) = local.pat else { return None };
    let body = local.init.map(|init| *init.expr)?;
    matches!(body, Expr::Closure(_) | Expr::Array(_)).then(|| (name.ident.to_string(), body))
}

fn only_value(block: Block) -> Option<Expr> {
    let mut statements = block.stmts.into_iter();
    match (statements.next(), statements.next()) {
        (Some(Stmt::Expr(value, None)), None) => Some(value),
        _ => None,
    }
}

fn derives(attributes: &[Attribute], wanted: &str) -> bool {
    let mut found = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.segments.last().is_some_and(|segment| segment.ident == wanted);
            Ok(())
        });
    }
    found
}

/// What `#[serde(…)]` says.
#[derive(Default)]
struct Serde {
    default: bool,
    default_function: Option<String>,
    rename: Option<String>,
    rename_all: Option<String>,
}

impl Serde {
    fn read(attributes: &[Attribute]) -> anyhow::Result<Self> {
        let mut serde = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            attribute.parse_nested_meta(|meta| {
                let value = match meta.value() {
                    Ok(value) => Some(value.parse::<LitStr>()?.value()),
                    Err(_) => None,
                };
                match meta.path.get_ident().map(ToString::to_string).as_deref() {
                    Some("default") => (serde.default, serde.default_function) = (true, value),
                    Some("rename") => serde.rename = value,
                    Some("rename_all") => serde.rename_all = value,
                    Some("flatten" | "alias" | "untagged" | "tag") => {
                        return Err(meta.error("the reference does not know how to render this"));
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(serde)
    }
}

/// The comment, in one line.
fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ").trim().to_owned()
}

fn case(variant: &str, rule: Option<&str>) -> String {
    match rule {
        Some("lowercase") => variant.to_lowercase(),
        Some("kebab-case") => {
            let mut word = String::new();
            for letter in variant.chars() {
                if letter.is_uppercase() && !word.is_empty() {
                    word.push('-');
                }
                word.extend(letter.to_lowercase());
            }
            word
        }
        _ => variant.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_written_as_serde_does() {
        for (variant, rule, want) in [
            ("SyntaxOnly", Some("kebab-case"), "syntax-only"),
            ("RetainUids", Some("kebab-case"), "retain-uids"),
            ("Daily", Some("lowercase"), "daily"),
            ("B", None, "B"),
        ] {
            assert_eq!(case(variant, rule), want);
        }
    }
}
