//! `[route.pseudonymize]`.

use std::path::PathBuf;

use pseudonym::{
    ContentRules, DateShift, ObjectRule, Override, PatientRules, PixelRule, Preset, Profile, ProfileOption,
};
use serde::{Deserialize, Serialize};

/// `[route.pseudonymize]`: the instances of the route are pseudonymized by PS3.15 Annex E before anything of them leaves.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PseudonymizeTable {
    /// `"basic"` (default): the Basic Application Level Confidentiality Profile; or `"none"`, for a route that passes instances
    /// as they are although `[route_defaults]` pseudonymizes.
    pub profile: ProfileName,
    /// Options that are often wanted together: `"basic"` (default) for none, `"longitudinal"`, `"teaching"`.
    pub preset: Preset,
    /// Further options of PS3.15 E.3, as in `["retain-device-identity"]`.
    pub options: Vec<ProfileOption>,
    /// The file with the site keys (`gateway-out key gen FILE`), or a systemd credential. Gateways that share it make the same
    /// pseudonyms.
    pub key: Option<PathBuf>,
    /// A file with the reviewed words that are kept of descriptions, one a line; `clean-descriptors` needs it.
    pub words: Option<PathBuf>,
    /// A file with words that are no trace of a patient although they may be somebody's name, one a line.
    pub clinical: Option<PathBuf>,
    /// A file with further `[[override]]`, `[[pixels]]` and `[[object]]` tables, for rules that several routes share.
    pub rules: Option<PathBuf>,
    /// Certificates (X.509 in PEM, with RSA keys). Original values of the first level are encrypted for them and go with each instance,
    /// in Encrypted Attributes Sequence (0400,0500): who has a private key can re-identify it (`gateway-out reidentify`).
    pub reidentify: Vec<PathBuf>,
    /// What a patient's identity is.
    pub patient: PatientRules,
    /// The most days that dates are moved by with `retain-modified-dates`. Default 3650.
    pub date_shift: DateShift,
    /// What `clean-structured-content` keeps of reports: `keep_text`, concepts whose text stays, as in `"DCM 121071"`.
    pub content: ContentRules,
    /// Attributes that are treated otherwise than the table says: `tag`, `action`, `value`.
    #[serde(rename = "override")]
    pub overrides: Vec<Override>,
    /// Images that are passed or refused otherwise than by default: the first that fits counts.
    pub pixels: Vec<PixelRule>,
    /// Encapsulated documents, waveforms, video, raw data and private classes, by SOP class: `content` is `"pass"`, as it is and
    /// never claimed to be clean, or `"refuse"` (default for these).
    pub object: Vec<ObjectRule>,
}

/// Which profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileName {
    /// PS3.15 E.2.
    #[default]
    Basic,
    /// Nothing is changed.
    None,
}

/// The file that `rules` names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// As in the route.
    #[serde(rename = "override")]
    pub overrides: Vec<Override>,
    /// As in the route.
    pub pixels: Vec<PixelRule>,
    /// As in the route.
    pub object: Vec<ObjectRule>,
}

impl PseudonymizeTable {
    /// The profile as the engine wants it, with the rules of a file behind its own.
    pub(super) fn profile(&self, rules: Rules) -> Profile {
        let mut profile = Profile {
            preset: self.preset,
            options: self.options.clone(),
            patient: self.patient.clone(),
            date_shift: self.date_shift,
            content: self.content.clone(),
            overrides: self.overrides.clone(),
            pixel_rules: self.pixels.clone(),
            object_rules: self.object.clone(),
        };
        profile.overrides.extend(rules.overrides);
        profile.pixel_rules.extend(rules.pixels);
        profile.object_rules.extend(rules.object);
        profile
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.key, &self.words, &self.clinical, &self.rules].into_iter().flatten().chain(&self.reidentify)
    }
}
