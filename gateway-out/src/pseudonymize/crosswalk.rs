//! `pseudonyms crosswalk`: which pseudonym stands for which patient and UID, worked out again from the originals. No table of it is
//! kept anywhere; whoever has the originals and the key can make it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use base::{AeTitle, Phi, Secret};
use dataset::{Selecting, Selection, Selector, Tag};
use pseudonym::{
    ProfileOption,
    enveloped::{self, Recipient},
};
use service::files::{self, Readable};
use spool::Queue;

use super::Pseudonymization;
use crate::{
    routes::Routes,
    send::{self, Instance, Target},
};

const FRAME_OF_REFERENCE: Tag = Tag(0x0020, 0x0052);
/// The UIDs that are listed.
const UIDS: [Tag; 4] = [Tag::SOP_INSTANCE, Tag::STUDY, Tag::SERIES, FRAME_OF_REFERENCE];
/// Read of a file at one time.
const READ_BYTES: usize = 64 * 1024;

/// Two tables, as lines of CSV.
#[derive(Debug, Default)]
pub struct Crosswalk {
    patients: BTreeSet<String>,
    uids: BTreeSet<String>,
    /// Files that the route would refuse, since they have no patient, or whose key is gone.
    pub left_out: Vec<PathBuf>,
}

/// How the only route with this AE title that pseudonymizes does it.
pub fn of_route(routes: &Routes, called: &AeTitle) -> Result<Arc<crate::routes::Route>> {
    let mut found = routes.iter().filter(|route| route.ae == *called && route.pseudonymize.is_some());
    match (found.next(), found.next()) {
        (Some(route), None) => Ok(route),
        (None, _) => bail!("no route with the AE title {called} pseudonymizes"),
        (Some(_), Some(_)) => bail!(
            "several routes with the AE title {called} pseudonymize; give each its own to tell them apart"
        ),
    }
}

/// Works it out for files and folders. A study is under the key that the outbox knows it to be under.
pub async fn make(
    how: &Pseudonymization,
    queue: &Queue,
    called: &AeTitle,
    paths: &[PathBuf],
) -> Result<Crosswalk> {
    let target =
        Target { address: ([127, 0, 0, 1], 0).into(), calling: called.clone(), called: called.clone() };
    let mut crosswalk = Crosswalk::default();
    for instance in send::gather(paths, &target)? {
        let header = header(&instance).with_context(|| format!("cannot read {}", instance.path.display()))?;
        crosswalk.add(how, queue, &instance, &header).await?;
    }
    Ok(crosswalk)
}

fn header(instance: &Instance) -> Result<BTreeMap<Tag, Selection>> {
    let wanted = UIDS.into_iter().chain([Tag::PATIENT_ID, Tag::PATIENT_ID_ISSUER]);
    let Some(mut selector) = Selector::new(&instance.meta.transfer_syntax, wanted) else {
        bail!("nobody can read its transfer syntax");
    };
    let mut file = File::open(&instance.path)?;
    file.seek(SeekFrom::Start(instance.offset))?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut buffer)?;
        let state = selector.feed(buffer.get(..count).unwrap_or_default())?;
        if count == 0 || state != Selecting::Going {
            return Ok(selector.finish());
        }
    }
}

impl Crosswalk {
    async fn add(
        &mut self,
        how: &Pseudonymization,
        queue: &Queue,
        instance: &Instance,
        header: &BTreeMap<Tag, Selection>,
    ) -> Result<()> {
        let value =
            |tag| header.get(&tag).and_then(|found| found.values().first()).cloned().unwrap_or_default();
        let study = Phi::new(value(Tag::STUDY));
        let known = queue.known_study_key(how.ring.id(), &study).await?;
        let key = how.ring.key(known.unwrap_or_else(|| how.ring.current().id()));
        let patient = how.plan.patient(&value(Tag::PATIENT_ID_ISSUER), &value(Tag::PATIENT_ID));
        let (Some(key), Ok(patient)) = (key, patient) else {
            self.left_out.push(instance.path.clone());
            return Ok(());
        };
        let pseudonyms = &key.pseudonyms;
        let days = match how.plan.options().has(ProfileOption::RetainModifiedDates) {
            true => how.plan.days(pseudonyms, &patient).to_string(),
            false => String::new(),
        };
        let (id, pseudonym) = (value(Tag::PATIENT_ID), pseudonyms.patient_id(&patient));
        self.patients.insert(format!("{},{pseudonym},{days}", quoted(&id)));
        if !how.plan.options().has(ProfileOption::RetainUids) {
            let uids = UIDS.into_iter().map(|tag| (tag, value(tag))).filter(|(_, uid)| !uid.is_empty());
            self.uids
                .extend(uids.map(|(tag, uid)| format!("{},{}", quoted(&uid), pseudonyms.uid_of(tag, &uid))));
        }
        Ok(())
    }

    /// Writes `patients.csv` and `uids.csv` into a folder, for their owner only; files that are there stay. With recipients they are
    /// encrypted for them, and called `.csv.cms`.
    pub fn write(&self, folder: &Path, recipients: &[Recipient]) -> Result<()> {
        let table = |head: &str, lines: &BTreeSet<String>| {
            let lines = std::iter::once(head).chain(lines.iter().map(String::as_str));
            Secret::new(lines.flat_map(|line| [line, "\n"]).collect::<String>())
        };
        let patients = table("id_old,id_new,days", &self.patients);
        let uids = table("id_old,id_new", &self.uids);
        for (name, text) in [("patients.csv", patients), ("uids.csv", uids)] {
            let text = text.expose().as_bytes();
            let written = |path: PathBuf, bytes: &[u8]| {
                files::write_new(&path, bytes, Readable::Owner)
                    .with_context(|| format!("cannot write {}", path.display()))
            };
            match recipients {
                [] => written(folder.join(name), text)?,
                _ => written(folder.join(format!("{name}.cms")), &enveloped::seal(recipients, text)?)?,
            }
        }
        Ok(())
    }

    /// How many patients and UIDs.
    pub fn counts(&self) -> (usize, usize) {
        (self.patients.len(), self.uids.len())
    }
}

/// A field of CSV.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_with_a_comma_is_quoted() {
        assert_eq!(quoted("4711"), "4711");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
