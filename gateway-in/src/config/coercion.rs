//! `[[coercion]]`: which attributes of instances from one sender get other values for one destination.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base::Name;
use identity::PeerCard;
use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Loaded, unknown_name};

use super::{Config, DestinationSettings};
use crate::coercion::{Attribute, Coercion, Deed};

/// `[[coercion]]`. Attributes are called by their keywords in PS3.6: `PatientID`, `IssuerOfPatientID`,
/// `OtherPatientIDsSequence`, `AccessionNumber`, `IssuerOfAccessionNumberSequence`, `StudyID`, `InstitutionName`. Previous
/// values are kept in Original Attributes Sequence (0400,0561).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoercionTable {
    /// The sending gateway whose instances are changed.
    pub from: Name,
    /// The destination for which they are.
    pub destination: Name,
    /// Values by attribute, as in `{ IssuerOfPatientID = "NORTH" }`; the attribute is inserted where it is missing. The issuer of
    /// the accession number is written `"NORTH"` or `"NORTH&1.2.826.0.1&ISO"`.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Text by attribute that is put before its value, where it has one.
    #[serde(default)]
    pub prefix: BTreeMap<String, String>,
    /// Attribute by attribute whose value it gets, as in `{ StudyID = "AccessionNumber" }`; the second has the lower tag.
    #[serde(default)]
    pub copy: BTreeMap<String, String>,
    /// Attributes that are removed; those that must be there (PatientID, AccessionNumber, StudyID) are emptied.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// Coercions by sender and destination.
pub(super) type Coercions = HashMap<(Name, Name), Arc<Coercion>>;

/// Checks all tables.
pub(super) fn check(
    loaded: &Loaded<Config>,
    own: &Name,
    peers: &[PeerCard],
    destinations: &HashMap<Name, Arc<DestinationSettings>>,
) -> Result<Coercions, ConfigError> {
    let mut all = Coercions::new();
    for (i, table) in loaded.config.coercions.iter().enumerate() {
        let refuse = |key: &str, message: String| Err(loaded.error(&format!("coercion[{i}].{key}"), message));
        let CoercionTable { from, destination, .. } = table;
        if !peers.iter().any(|card| card.name == *from) {
            let known: Vec<_> = peers.iter().map(|card| card.name.as_str()).collect();
            return refuse("from", unknown_name("peer", from.as_str(), &known));
        }
        if !destinations.contains_key(destination) {
            let known: Vec<_> = destinations.keys().map(Name::as_str).collect();
            return refuse("destination", unknown_name("destination", destination.as_str(), &known));
        }
        let leads = |from: &Name, to: &Name| {
            loaded.config.routes.iter().any(|route| route.from == *from && route.destination == *to)
        };
        if !leads(from, destination) {
            return refuse(
                "destination",
                format!("no [[route]] leads from {from} to {destination}; add one, or remove this table"),
            );
        }
        let deeds = deeds(loaded, i, table)?;
        if deeds.is_empty() {
            return refuse(
                "from",
                "nothing is changed by this table; give `set`, `prefix`, `copy` or `remove`, or leave it out"
                    .to_owned(),
            );
        }
        let coercion = match Coercion::new(deeds, own, from) {
            Ok(coercion) => coercion,
            Err(error) => return refuse("from", error.to_string()),
        };
        if all.insert((from.clone(), destination.clone()), coercion).is_some() {
            let message =
                format!("two [[coercion]] tables are from {from} to {destination}; put all into one");
            return refuse("destination", message);
        }
    }
    Ok(all)
}

fn deeds(
    loaded: &Loaded<Config>,
    i: usize,
    table: &CoercionTable,
) -> Result<BTreeMap<&'static str, Deed>, ConfigError> {
    let mut deeds = BTreeMap::new();
    let mut add = |key: String, keyword: &str, deed: Result<Deed, crate::coercion::Unusable>| {
        let place = format!("coercion[{i}].{key}");
        let made = Attribute::of(keyword).and_then(|attribute| {
            let deed = deed?;
            deed.rule(attribute)?;
            Ok((attribute, deed))
        });
        let (attribute, deed) = made.map_err(|error| loaded.error(&place, error.to_string()))?;
        match deeds.insert(attribute.keyword, deed) {
            None => Ok(()),
            Some(_) => Err(loaded.error(
                &place,
                format!("something else is done to {keyword} already; remove one of the two"),
            )),
        }
    };
    for (keyword, value) in &table.set {
        add(format!("set.{keyword}"), keyword, Ok(Deed::Set(value.clone())))?;
    }
    for (keyword, value) in &table.prefix {
        add(format!("prefix.{keyword}"), keyword, Ok(Deed::Prefix(value.clone())))?;
    }
    for (keyword, from) in &table.copy {
        add(format!("copy.{keyword}"), keyword, Attribute::of(from).map(Deed::Copy))?;
    }
    for (number, keyword) in table.remove.iter().enumerate() {
        add(format!("remove[{number}]"), keyword, Ok(Deed::Remove))?;
    }
    Ok(deeds)
}
