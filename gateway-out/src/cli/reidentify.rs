//! `reidentify`: what pseudonymization encrypted in an instance, for the holder of the private key. It needs no configuration and no
//! daemon, since the key is seldom where a gateway is.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use base::{InstanceMeta, Phi, Secret, Uid};
use clap::Args;
use dataset::{
    Tag,
    part10::{self, Implementation},
};
use pseudonym::{Reidentified, Reidentifier, Restorer};
use serde_json::{Map, Value, json};

use crate::send::{self, Instance, Target};

/// Read of a file at one time.
const READ_BYTES: usize = 256 * 1024;

#[derive(Debug, Args)]
pub(super) struct ReidentifyArgs {
    /// The private key of a certificate that the route names in `reidentify` (PKCS #8 in PEM).
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
    /// Write the instance with its original values to this file, for its owner only. References to it in other instances
    /// stay pseudonyms until those are re-identified, too.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// The pseudonymized instance: a DICOM file.
    file: PathBuf,
}

pub(super) fn command(args: &ReidentifyArgs) -> Result<()> {
    let key = fs::read(&args.key).with_context(|| format!("cannot read {}", args.key.display()))?;
    let instance = instance(&args.file)?;
    let originals = originals(&instance, &Secret::new(key))
        .with_context(|| format!("cannot re-identify {}", args.file.display()))?;
    match &args.out {
        Some(out) => {
            write(&instance, &originals, out).with_context(|| format!("cannot write {}", out.display()))?;
            println!("{}: with its original values; it names the patient", out.display());
        }
        None if args.json => println!("{}", serde_json::to_string_pretty(&as_json(&originals))?),
        None => originals.elements.keys().for_each(|tag| println!("{}", line(*tag, &originals))),
    }
    Ok(())
}

fn instance(path: &Path) -> Result<Instance> {
    let ae: base::AeTitle = "REIDENTIFY".parse()?;
    let target = Target { address: ([127, 0, 0, 1], 0).into(), calling: ae.clone(), called: ae };
    let gathered = send::gather(&[path.to_owned()], &target)?;
    match <[Instance; 1]>::try_from(gathered) {
        Ok([instance]) => Ok(instance),
        Err(_) => bail!("name one file"),
    }
}

/// Gives the data set of a file to `take`, piece by piece.
fn pieces(instance: &Instance, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut file = File::open(&instance.path)?;
    file.seek(SeekFrom::Start(instance.offset))?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => take(buffer.get(..count).unwrap_or_default())?,
        }
    }
}

fn originals(instance: &Instance, key: &Secret<Vec<u8>>) -> Result<Reidentified> {
    let mut finder = Reidentifier::new(&instance.meta.transfer_syntax)?;
    pieces(instance, |piece| Ok(finder.feed(piece)?))?;
    Ok(finder.finish(key.expose())?)
}

/// A file that cannot be completed is removed.
fn write(instance: &Instance, originals: &Reidentified, out: &Path) -> Result<()> {
    let sop_instance = match originals.texts.get(&Tag::SOP_INSTANCE) {
        Some(uid) => Phi::new(Uid::parse(uid).context("its original SOP Instance UID is no UID")?),
        None => instance.meta.sop_instance.clone(),
    };
    let meta = InstanceMeta { sop_instance, ..instance.meta.clone() };
    let class_uid = dimse::implementation_class_uid();
    let writer = Implementation { class_uid: &class_uid, version_name: dimse::IMPLEMENTATION_VERSION_NAME };
    let mut bytes = part10::write_file_meta(&meta, writer, None);
    let mut restorer = Restorer::new(&meta.transfer_syntax, originals)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out)?;
    let written = pieces(instance, |piece| {
        restorer.feed(piece, &mut bytes)?;
        file.write_all(&bytes)?;
        bytes.clear();
        Ok(())
    })
    .and_then(|()| Ok(restorer.finish(&mut bytes)?))
    .and_then(|()| Ok(file.write_all(&bytes).and_then(|()| file.sync_all())?));
    if written.is_err() {
        // Half an instance is of no use to anybody.
        let _ = fs::remove_file(out);
    }
    written
}

fn line(tag: Tag, originals: &Reidentified) -> String {
    let name = tag.keyword().unwrap_or("");
    match (originals.texts.get(&tag), originals.elements.get(&tag)) {
        (Some(text), _) => format!("{tag}  {name:<32} {}", text.escape_debug()),
        (None, Some((vr, bytes))) => format!("{tag}  {name:<32} {} bytes of {vr}", bytes.len()),
        (None, None) => format!("{tag}  {name}"),
    }
}

fn as_json(originals: &Reidentified) -> Value {
    let one = |(tag, (vr, bytes)): (&Tag, &(dataset::Vr, Vec<u8>))| {
        let value = match originals.texts.get(tag) {
            Some(text) => json!(text),
            None => json!({ "hex": hex::encode(bytes) }),
        };
        (tag.to_string(), json!({ "name": tag.keyword(), "vr": vr.to_string(), "value": value }))
    };
    Value::Object(originals.elements.iter().map(one).collect::<Map<_, _>>())
}
