//! A `[route.pseudonymize]` table becomes a plan and keys, or an error with its place.

use std::{fs, path::Path, sync::Arc};

use pseudonym::{Plan, Profile, ProfileError, WordList, enveloped::Recipient};
use service::config::{self, ConfigError, Loaded};

use super::{KeyRing, ProfileName, Pseudonymization, PseudonymizeTable, Rules};
use crate::config::Config;

/// `at`: the key of the table, as in `route[0].pseudonymize`. `None`: the instances pass as they are.
pub(crate) fn check(
    loaded: &Loaded<Config>,
    at: &str,
    table: &PseudonymizeTable,
) -> Result<Option<Pseudonymization>, ConfigError> {
    let checking = Checking { loaded, at, table };
    if table.profile == ProfileName::None {
        return match table.files().next() {
            Some(_) => Err(checking
                .error("profile", "with \"none\" nothing is changed, and this table names files for it: remove them, or the profile")),
            None => Ok(None),
        };
    }
    let Some(key) = &table.key else {
        let message = "no `key`: name the file with the site keys, or make one by `gateway-out key gen FILE`";
        return Err(checking.error("key", message));
    };
    let ring =
        KeyRing::load(&loaded.resolve(key)).map_err(|error| checking.error("key", error.to_string()))?;
    let plan = checking.plan()?.with_recipients(checking.recipients()?);
    Ok(Some(Pseudonymization { plan: Arc::new(plan), ring: Arc::new(ring) }))
}

struct Checking<'a> {
    loaded: &'a Loaded<Config>,
    at: &'a str,
    table: &'a PseudonymizeTable,
}

impl Checking<'_> {
    fn error(&self, key: &str, message: impl Into<String>) -> ConfigError {
        self.loaded.error(&format!("{}.{key}", self.at), message)
    }

    fn plan(&self) -> Result<Plan, ConfigError> {
        let words = self.text("words", self.table.words.as_deref())?;
        let clinical = self.text("clinical", self.table.clinical.as_deref())?;
        let path = self.table.rules.as_ref().map(|path| self.loaded.resolve(path));
        let rules =
            path.map(|path| config::load_with::<Rules>(&path, config::ENVIRONMENT_PREFIX, Vec::new()));
        let rules = rules.transpose()?;
        let (words, clinical) = (WordList::parse(&words), clinical.as_str());
        let profile =
            self.table.profile(rules.as_ref().map(|rules| rules.config.clone()).unwrap_or_default());
        let make = |profile| Plan::new(profile, words.clone(), clinical);
        make(profile.clone()).map_err(|error| self.explain(&error, &profile, &make, rules.as_ref()))
    }

    /// For whom original values are encrypted.
    fn recipients(&self) -> Result<Vec<Recipient>, ConfigError> {
        let paths = self.table.reidentify.iter().enumerate();
        paths
            .map(|(place, path)| {
                let path = self.loaded.resolve(path);
                let error = |why: String| self.error(&format!("reidentify[{place}]"), why);
                let pem =
                    fs::read(&path).map_err(|why| error(format!("cannot read {}: {why}", path.display())))?;
                Recipient::from_pem(&pem).map_err(|why| error(format!("{} {why}", path.display())))
            })
            .collect()
    }

    fn text(&self, key: &str, path: Option<&Path>) -> Result<String, ConfigError> {
        let Some(path) = path else { return Ok(String::new()) };
        let path = self.loaded.resolve(path);
        fs::read_to_string(&path).map_err(|error| {
            self.error(key, format!("cannot read {}: {error}; correct the path", path.display()))
        })
    }

    /// The error at the key that causes it.
    fn explain(
        &self,
        error: &ProfileError,
        profile: &Profile,
        make: &impl Fn(Profile) -> Result<Plan, ProfileError>,
        rules: Option<&Loaded<Rules>>,
    ) -> ConfigError {
        if matches!(error, ProfileError::NoWords) {
            return self.error("words", format!("{error}: name its file here"));
        }
        let key = match error {
            ProfileError::Contradiction(..) | ProfileError::NotOffered(_) => "options",
            ProfileError::NoShift => "date_shift",
            ProfileError::NoConcept(_) => "content.keep_text",
            ProfileError::PixelRule(place, fault) => {
                let own = self.table.pixels.len();
                return match rules {
                    Some(rules) if *place >= own => rules.error(&format!("pixels[{}]", place - own), *fault),
                    _ => self.error(&format!("pixels[{place}]"), *fault),
                };
            }
            ProfileError::ObjectRule(place, fault) => {
                let own = self.table.object.len();
                return match rules {
                    Some(rules) if *place >= own => rules.error(&format!("object[{}]", place - own), *fault),
                    _ => self.error(&format!("object[{place}]"), *fault),
                };
            }
            _ => return self.explain_override(error, profile, make, rules),
        };
        self.error(key, error.to_string())
    }

    /// The first override with which the profile cannot be used: in the table, or in the file behind it.
    fn explain_override(
        &self,
        error: &ProfileError,
        profile: &Profile,
        make: &impl Fn(Profile) -> Result<Plan, ProfileError>,
        rules: Option<&Loaded<Rules>>,
    ) -> ConfigError {
        let fails = |count: usize| {
            let overrides = profile.overrides.iter().take(count).cloned().collect();
            make(Profile { overrides, ..profile.clone() }).is_err()
        };
        let first =
            (1..profile.overrides.len()).find(|count| fails(*count)).unwrap_or(profile.overrides.len());
        let (place, own) = (first.saturating_sub(1), self.table.overrides.len());
        match rules {
            Some(rules) if place >= own => {
                rules.error(&format!("override[{}]", place - own), error.to_string())
            }
            _ => self.error(&format!("override[{place}]"), error.to_string()),
        }
    }
}
