//! Defaults, worked out from the expressions that give them.

use std::time::Duration;

use syn::{BinOp, Expr, ExprCall, ExprPath, Lit};

use super::model::{Absent, Field, Model, Table};
use super::types;

/// A value, as far as configurations have them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Time(Duration),
    Size(u64),
    Truth(bool),
    Text(String),
    /// Of an array.
    All(Vec<Self>),
    None,
}

/// The default of a key as it would be written in the file; `None` where it has to be there. An error where it cannot be worked out.
pub(super) fn of(model: &Model, table: &Table, field: &Field) -> Result<Option<String>, String> {
    let unknown = || format!("the default of {}.{} cannot be rendered", table.name, field.field);
    let of_type = || types::default(model, &table.of, &field.kind).ok_or_else(unknown).map(Some);
    match &field.absent {
        Absent::Refused => Ok(None),
        Absent::OfType => of_type(),
        Absent::Function(name) => {
            let known = model.values.get(&(table.of.clone(), name.clone()));
            let value = known.and_then(|value| evaluate(&Place { model, of: &table.of }, value, None));
            value.map(|value| Some(shown(value))).ok_or_else(unknown)
        }
        Absent::OfStruct => {
            let given = model.defaults.get(&(table.of.clone(), table.name.clone()));
            let Some(given) = given else { return of_type() };
            let value = given.get(&field.field).ok_or_else(unknown)?;
            match evaluate(&Place { model, of: &table.of }, value, None) {
                Some(value) => Ok(Some(shown(value))),
                None if is_default_of_type(value) => of_type(),
                None => Err(unknown()),
            }
        }
    }
}

/// The crate that an expression stands in.
struct Place<'a> {
    model: &'a Model,
    of: &'a str,
}

impl<'a> Place<'a> {
    /// The function without arguments, constant or short hand of that name.
    fn value(&self, name: &str) -> Option<&'a Expr> {
        self.model.values.get(&(self.of.to_owned(), name.to_owned()))
    }
}

/// `argument` is what the argument of a closure stands for.
fn evaluate(place: &Place<'_>, value: &Expr, argument: Option<&Value>) -> Option<Value> {
    match value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_parse().ok().map(Value::Number),
            Lit::Bool(truth) => Some(Value::Truth(truth.value)),
            Lit::Str(text) => Some(Value::Text(text.value())),
            _ => None,
        },
        Expr::Paren(inner) => evaluate(place, &inner.expr, argument),
        Expr::Binary(both) => {
            let left = number(evaluate(place, &both.left, argument)?)?;
            let right = number(evaluate(place, &both.right, argument)?)?;
            match both.op {
                BinOp::Mul(_) => left.checked_mul(right),
                BinOp::Add(_) => left.checked_add(right),
                BinOp::Shl(_) => left.checked_shl(u32::try_from(right).ok()?),
                _ => None,
            }
            .map(Value::Number)
        }
        Expr::Array(array) => {
            let all: Option<Vec<_>> = array.elems.iter().map(|one| evaluate(place, one, None)).collect();
            all.map(Value::All)
        }
        // An array of texts made into owned ones.
        Expr::MethodCall(call) if call.method == "map" || call.method == "to_vec" => {
            evaluate(place, &call.receiver, argument)
        }
        Expr::Path(path) => named(place, path, argument),
        Expr::Call(call) => called(place, call, argument),
        _ => None,
    }
}

fn named(place: &Place<'_>, path: &ExprPath, argument: Option<&Value>) -> Option<Value> {
    let names = segments(path);
    match names.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["None"] => Some(Value::None),
        [choice, variant] => {
            let choice = place.model.choice(place.of, choice)?;
            choice.words.iter().find(|(name, _)| name == variant).map(|(_, word)| Value::Text(word.clone()))
        }
        [name] => match place.value(name) {
            // Which may be called like the closure itself.
            Some(Expr::Closure(_)) | None => argument.cloned(),
            Some(known) => evaluate(place, known, None),
        },
        _ => None,
    }
}

fn called(place: &Place<'_>, call: &ExprCall, argument: Option<&Value>) -> Option<Value> {
    let Expr::Path(function) = &*call.func else { return None };
    let names = segments(function);
    let given = call.args.first().and_then(|given| evaluate(place, given, argument));
    match names.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["Vec", "new"] => Some(Value::All(Vec::new())),
        ["String", "new"] => Some(Value::Text(String::new())),
        ["Span"] => given.filter(|given| matches!(given, Value::Time(_))),
        ["ByteSize"] => number(given?).map(Value::Size),
        ["Span" | "Duration", "from_secs"] => number(given?).map(|n| Value::Time(Duration::from_secs(n))),
        ["Span" | "Duration", "from_millis"] => number(given?).map(|n| Value::Time(Duration::from_millis(n))),
        // A short hand inside of a default.
        [name] => match place.value(name)? {
            Expr::Closure(closure) => evaluate(place, &closure.body, given.as_ref()),
            other => evaluate(place, other, None),
        },
        _ => None,
    }
}

fn segments(path: &ExprPath) -> Vec<String> {
    path.path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

fn number(value: Value) -> Option<u64> {
    match value {
        Value::Number(number) => Some(number),
        _ => None,
    }
}

/// `T::default()`
fn is_default_of_type(value: &Expr) -> bool {
    let Expr::Call(call) = value else { return false };
    let Expr::Path(function) = &*call.func else { return false };
    function.path.segments.last().is_some_and(|segment| segment.ident == "default")
}

/// As `check` prints it.
fn shown(value: Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Time(time) => format!("\"{}\"", humantime::format_duration(time)),
        Value::Size(bytes) => format!("\"{}\"", size(bytes)),
        Value::Truth(truth) => truth.to_string(),
        Value::Text(text) => format!("\"{text}\""),
        Value::All(all) => {
            let all: Vec<_> = all.into_iter().map(shown).collect();
            format!("[{}]", all.join(","))
        }
        Value::None => "none".to_owned(),
    }
}

/// In the largest unit that needs no fraction.
fn size(bytes: u64) -> String {
    let units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1_u64 << 10)];
    match units.iter().find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{} {unit}", bytes / factor),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_defaults_are_worked_out() {
        let mut model = Model::default();
        model.values.insert(("x".to_owned(), "HOUR".to_owned()), syn::parse_str("60 * 60").unwrap());
        let seconds = syn::parse_str("|seconds| Span(Duration::from_secs(seconds))").unwrap();
        model.values.insert(("x".to_owned(), "seconds".to_owned()), seconds);
        let place = Place { model: &model, of: "x" };
        for (text, want) in [
            ("64", "64"),
            ("256 * 1024", "262144"),
            ("4_194_304", "4194304"),
            ("ByteSize(100 << 30)", "\"100 GiB\""),
            ("ByteSize(1024 * 1024 * 1024)", "\"1 GiB\""),
            ("Span(Duration::from_secs(30 * 24 * 3600))", "\"30days\""),
            ("Span::from_secs(15 * 60)", "\"15m\""),
            ("Span::from_millis(500)", "\"500ms\""),
            ("seconds(20 * HOUR)", "\"20h\""),
            ("None", "none"),
            ("Vec::new()", "[]"),
            ("[\"A\", \"B\"].map(str::to_owned).to_vec()", "[\"A\",\"B\"]"),
            ("true", "true"),
        ] {
            let value = evaluate(&place, &syn::parse_str(text).unwrap(), None);
            assert_eq!(value.map(shown).as_deref(), Some(want), "{text}");
        }
        for text in ["now()", "a.b()", "1 - 1", "Span(5)"] {
            assert_eq!(evaluate(&place, &syn::parse_str(text).unwrap(), None), None, "{text}");
        }
    }
}
