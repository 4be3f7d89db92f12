//! What a destination is asked about: the `probe…` keys of a `[[destination]]`.

use base::{AeTitle, Uid};
use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Loaded};

use super::{Config, DestinationTable};

/// Whether a destination is asked what it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// At most once a day, while a sender has a use for it.
    #[default]
    Daily,
    /// Only by command.
    Off,
}

/// What a destination is asked about, and as whom.
#[derive(Debug, Clone)]
pub struct ProbeSettings {
    /// Without a command.
    pub when: Probe,
    /// The AE title, where the destination sees the original one otherwise.
    pub calling: Option<AeTitle>,
    /// SOP classes.
    pub classes: Vec<Uid>,
    /// Transfer syntaxes.
    pub syntaxes: Vec<Uid>,
}

/// Transfer syntaxes that archives are asked about by default: what images, waveforms, reports and videos come in.
const PROBE_SYNTAXES: [&str; 21] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.100",
    "1.2.840.10008.1.2.4.102",
    "1.2.840.10008.1.2.4.103",
    "1.2.840.10008.1.2.4.107",
    "1.2.840.10008.1.2.4.108",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.5",
];

/// Checks the `probe…` keys of one `[[destination]]`.
pub(super) fn check(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
) -> Result<ProbeSettings, ConfigError> {
    let refuse = |key: &str, message: String| Err(loaded.error(&format!("destination[{i}].{key}"), message));
    let storage = dimse::STORAGE_SOP_CLASSES.iter().filter_map(|row| Uid::parse(row.uid).ok());
    let mut classes: Vec<Uid> = storage.chain(table.probe_classes.iter().cloned()).collect();
    classes.sort_unstable();
    classes.dedup();
    if classes.len() > enquiry::CLASSES_MAX {
        let message = format!(
            "{} SOP classes with the standard's storage classes; a table holds {}",
            classes.len(),
            enquiry::CLASSES_MAX
        );
        return refuse("probe_classes", message);
    }
    let usual = || PROBE_SYNTAXES.iter().filter_map(|uid| Uid::parse(uid).ok()).collect();
    let mut syntaxes: Vec<Uid> = table.probe_syntaxes.clone().unwrap_or_else(usual);
    syntaxes.sort_unstable();
    syntaxes.dedup();
    if syntaxes.is_empty() || syntaxes.len() > enquiry::SYNTAXES_MAX {
        let message = format!("{} transfer syntaxes; give 1 to {}", syntaxes.len(), enquiry::SYNTAXES_MAX);
        return refuse("probe_syntaxes", message);
    }
    if table.probe_calling.is_some() && table.calling.as_deref() != Some("original") {
        let message =
            "`calling` is no \"original\": a probe presents the AE title of the real sends; remove it";
        return refuse("probe_calling", message.to_owned());
    }
    Ok(ProbeSettings { when: table.probe, calling: table.probe_calling.clone(), classes, syntaxes })
}
