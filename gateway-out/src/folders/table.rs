//! The table of a watched folder.

use std::{
    fs,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use base::AeTitle;
use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Loaded, Span, fragments_dir, unknown_name};

use crate::{config::Config, init};

/// `[[watch]]`: DICOM files that appear below a folder are sent to one of our AE titles.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchTable {
    /// The folder; what lies in folders below it is found, too. `done` and `failed` in it are ours.
    pub dir: PathBuf,
    /// The AE title of the route. Its `calling` and `sources`, where it has them, hold for what comes from here, from this host, too.
    pub ae: AeTitle,
    /// The AE title that calls. Default `"SLUIS_WATCH"`.
    pub calling: Option<AeTitle>,
    /// How long a file has to be as large and as old as it is. Default 3 s. Whoever writes slower renames at the end: names that begin
    /// with a dot or end in `.tmp`, `.part` or `.filepart` are not looked at.
    #[serde(default = "settle")]
    pub settle: Span,
    /// How often the folder is looked through. Default 1 s.
    #[serde(default = "every")]
    pub every: Span,
    /// What becomes of a file that is in custody: `"keep"` (default) moves it to `done`, `"remove"` removes it.
    #[serde(default)]
    pub delivered: AfterDelivery,
}

/// What becomes of a file once its instance is in custody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterDelivery {
    /// It is moved to `done`.
    #[default]
    Keep,
    /// It is removed.
    Remove,
}

/// The AE title that calls, unless a table says another.
const CALLING: &str = "SLUIS_WATCH";

fn settle() -> Span {
    Span(Duration::from_secs(3))
}

fn every() -> Span {
    Span(Duration::from_secs(1))
}

/// A checked table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Where files appear.
    pub dir: PathBuf,
    /// Whom they are for.
    pub ae: AeTitle,
    /// In whose name.
    pub calling: AeTitle,
    /// How long a file has to be as it is.
    pub settle: Duration,
    /// How often it is looked.
    pub every: Duration,
    /// What becomes of them.
    pub delivered: AfterDelivery,
}

/// Every folder is there, is nobody else's, and its AE title has a route.
pub(crate) fn check(loaded: &Loaded<Config>) -> Result<Vec<Watched>, ConfigError> {
    let (config, ours) = (&loaded.config, Ours::of(loaded).with_alarm(loaded));
    let mut all: Vec<Watched> = Vec::new();
    for (number, table) in config.watch.iter().enumerate() {
        let error = |key: &str, message: String| loaded.error(&format!("watch[{number}].{key}"), message);
        let dir = loaded.resolve(&table.dir);
        if !dir.is_dir() {
            let message =
                format!("{} is no folder; make it, writable for the user of gateway-out", dir.display());
            return Err(error("dir", message));
        }
        let dir = dir.canonicalize().map_err(|why| error("dir", format!("{}: {why}", dir.display())))?;
        let overlaps = |other: &Watched| other.dir.starts_with(&dir) || dir.starts_with(&other.dir);
        if let Some(other) = all.iter().find(|other| overlaps(other)) {
            let message = format!("it overlaps with {}: each file would be taken twice", other.dir.display());
            return Err(error("dir", message));
        }
        if let Some(message) = ours.clash(&dir) {
            return Err(error("dir", message));
        }
        if config.dicom.listen.is_none() {
            let message = "what is found goes through the plain DICOM port of this gateway: give [dicom] a `listen`, on 127.0.0.1 if nobody else may use it";
            return Err(error("dir", message.to_owned()));
        }
        let titles: Vec<&str> = config.routes.iter().map(|route| route.ae.as_str()).collect();
        if !titles.contains(&table.ae.as_str()) {
            return Err(error("ae", unknown_name("route", table.ae.as_str(), &titles)));
        }
        let calling = match &table.calling {
            Some(calling) => calling.clone(),
            None => AeTitle::parse(CALLING).map_err(|why| error("calling", why.to_string()))?,
        };
        all.push(Watched {
            dir,
            ae: table.ae.clone(),
            calling,
            settle: table.settle.0,
            every: table.every.0.max(Duration::from_millis(100)),
            delivered: table.delivered,
        });
    }
    Ok(all)
}

/// Outbox, configuration and keys: what must not be taken for something that was dropped. A process has its own as long as it runs,
/// whatever the files say meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// Into which we write.
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Ours {
    /// As this configuration names them, and as links lead now.
    pub fn of(loaded: &Loaded<Config>) -> Self {
        let named = loaded.config.files().into_iter().map(Path::to_owned);
        let read =
            loaded.files_read().files.into_iter().filter_map(|(file, _)| std::path::absolute(file).ok());
        // `trust` writes into these, and makes them.
        let pieces = fragments_dir(&loaded.dir().join(loaded.path().file_name().unwrap_or_default()));
        let folders = [loaded.resolve(&loaded.config.outbox.dir), pieces, loaded.dir().join("cards")];
        Self {
            folders: folders.iter().map(|folder| canonical(folder)).collect(),
            files: named.chain(read).flat_map(|file| both(&loaded.resolve(&file))).collect(),
        }
    }

    /// With what `alarm send` reads and writes, beside any daemon.
    fn with_alarm(mut self, loaded: &Loaded<Config>) -> Self {
        if let Some(alarm) = &loaded.config.alarm {
            let state = alarm.state_file(loaded.path(), init::ROLE);
            self.files.extend(alarm.files().chain([&state]).flat_map(|file| both(&loaded.resolve(file))));
        }
        self
    }

    /// Refuses folders that may not be watched; `whose` it is stands before the reason.
    pub fn refuse(
        &self,
        loaded: &Loaded<Config>,
        watched: &[Watched],
        whose: &str,
    ) -> Result<(), ConfigError> {
        let clashes =
            watched.iter().enumerate().find_map(|(i, watched)| Some((i, self.clash(&watched.dir)?)));
        match clashes {
            Some((i, why)) => Err(loaded.error(&format!("watch[{i}].dir"), format!("{whose}{why}"))),
            None => Ok(()),
        }
    }

    /// Why this folder, without links in its path, may not be watched.
    fn clash(&self, dir: &Path) -> Option<String> {
        if let Some(within) = self.files.iter().chain(&self.folders).find(|ours| ours.starts_with(dir)) {
            return Some(format!(
                "{} lies in it, and would be moved away as no DICOM file",
                within.display()
            ));
        }
        let around = self.folders.iter().find(|folder| dir.starts_with(folder))?;
        Some(format!("it lies in {}, into which gateway-out itself writes", around.display()))
    }
}

/// Where a file is, and where the link stands that leads to it, if one does: that one may be replaced by a file.
fn both(file: &Path) -> [PathBuf; 2] {
    let name = file.file_name().map(Path::new).unwrap_or(file);
    [canonical(file), canonical(file.parent().unwrap_or(file)).join(name)]
}

/// Links on a way that leads nowhere yet, at most.
const LINKS_MAX: usize = 40;

/// Without links, and without `..`. What is not there yet lies where it will be made.
fn canonical(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let nearest = path
            .ancestors()
            .find_map(|above| Some((above.canonicalize().ok()?, path.strip_prefix(above).ok()?.to_owned())));
        let Some((there, rest)) = nearest else { break };
        let mut missing = rest.components();
        let first = missing.next().map(|first| there.join(first));
        let next = match first.and_then(|first| fs::read_link(first).ok()) {
            Some(target) => there.join(target).join(missing.as_path()),
            None => rest.components().fold(there, beneath),
        };
        if next == path {
            break;
        }
        path = next;
    }
    path
}

fn beneath(mut folder: PathBuf, part: Component<'_>) -> PathBuf {
    match part {
        Component::ParentDir => drop(folder.pop()),
        part => folder.push(part),
    }
    folder
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_path_leads_where_links_do_also_before_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        for rest in ["", "a", "a/b"] {
            let found = canonical(&dir.path().join("link").join(rest));
            assert_eq!(found.as_os_str(), format!("{}/{rest}", real.display()).trim_end_matches('/'));
        }
        fs::create_dir(real.join("a")).unwrap();
        let cases = [
            // A link that leads nowhere yet, and one that leads to that one.
            ("dangling", "real/later"),
            ("dangling/below", "real/later/below"),
            ("second/below", "real/later/below"),
            ("missing/../real/a", "real/a"),
            ("real/missing/../../link/a/b", "real/a/b"),
        ];
        symlink(real.join("later"), dir.path().join("dangling")).unwrap();
        symlink("dangling", dir.path().join("second")).unwrap();
        let want = |rest| real.parent().unwrap().join(rest);
        for (path, rest) in cases {
            assert_eq!(canonical(&dir.path().join(path)), want(rest), "{path}");
        }
        symlink("around", dir.path().join("around")).unwrap();
        canonical(&dir.path().join("around"));
        assert_eq!(both(&dir.path().join("link")), [want("real"), want("link")]);
    }
}
