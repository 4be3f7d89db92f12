use std::fmt;

use figment::value::{Dict, Value as Set};
use serde::Serialize;
use serde_json::Value;

use super::error::{Place, dotted};
use super::{ConfigError, Loaded};

/// One value that a daemon runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// With its tables, as in `route[0].to`.
    pub key: String,
    /// The value as it is understood.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Written down by somebody.
    Set(Place),
    /// Nobody said otherwise.
    Default,
}

impl<T: Serialize> Loaded<T> {
    /// Every value in effect, sorted by key; arrays of plain values stay together.
    pub fn effective(&self) -> Result<Vec<Effective>, ConfigError> {
        let unreadable = |e: serde_json::Error| ConfigError::Read {
            path: self.source.path.clone(),
            reason: format!("cannot be shown: {e}"),
        };
        let mut values = Vec::new();
        flatten(&mut Vec::new(), serde_json::to_value(&self.config).map_err(unreadable)?, &mut values);
        let mut effective: Vec<_> = values
            .into_iter()
            .map(|(path, value)| Effective { key: dotted(&path), value, origin: self.origin(&path) })
            .collect();
        effective.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(effective)
    }

    fn origin(&self, path: &[String]) -> Origin {
        if is_set(&self.set_outside, path) {
            return Origin::Set(Place::Variable(self.source.variable(path)));
        }
        self.source.place_if_set(path).map_or(Origin::Default, Origin::Set)
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, self.value, self.origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(place) => fmt::Display::fmt(place, f),
            Self::Default => f.write_str("default"),
        }
    }
}

fn flatten(path: &mut Vec<String>, value: Value, values: &mut Vec<(Vec<String>, Value)>) {
    let parts: Vec<(String, Value)> = match value {
        Value::Object(table) => table.into_iter().collect(),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.into_iter().enumerate().map(|(i, item)| (i.to_string(), item)).collect()
        }
        plain => {
            values.push((path.clone(), plain));
            return;
        }
    };
    for (key, value) in parts {
        path.push(key);
        flatten(path, value, values);
        path.pop();
    }
}

fn is_set(dict: &Dict, path: &[String]) -> bool {
    match path {
        [] => false,
        [last] => dict.contains_key(last),
        [first, rest @ ..] => matches!(dict.get(first), Some(Set::Dict(_, inner)) if is_set(inner, rest)),
    }
}
