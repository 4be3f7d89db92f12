//! `send`: Part 10 files through a C-STORE port, ours or any other.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use base::{AeTitle, InstanceMeta, Priority, Status, Uid};
use bytes::Bytes;
use dataset::part10;
use dimse::{Requestor, RequestorConfig};
use tokio_util::sync::CancellationToken;

/// Bytes read from a file at one time.
const READ_BYTES: usize = 256 * 1024;
/// Presentation contexts of one association.
const CONTEXTS_MAX: usize = 128;

/// A file that can be sent.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Where it is.
    pub path: PathBuf,
    /// What the C-STORE-RQ will say.
    pub meta: InstanceMeta,
    /// Where its data set starts.
    pub offset: u64,
    /// The file itself, where it was opened once and for all.
    file: Option<Arc<File>>,
}

/// Where to send.
#[derive(Debug, Clone)]
pub struct Target {
    /// Address of the C-STORE port.
    pub address: SocketAddr,
    /// Calling AE title.
    pub calling: AeTitle,
    /// Called AE title.
    pub called: AeTitle,
}

/// What came of one file.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The file.
    pub path: PathBuf,
    /// The status, or why there is none.
    pub outcome: Outcome,
}

/// What a file was answered with.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A C-STORE response.
    Answered(Status),
    /// The association stands, and does not take its SOP class or transfer syntax.
    NotAccepted(String),
    /// It could not be sent, or was not answered.
    Failed(String),
}

impl Sent {
    /// Whether the node has taken it: success or a warning.
    pub fn is_accepted(&self) -> bool {
        matches!(&self.outcome, Outcome::Answered(status) if status.0 == 0 || status.0 & 0xF000 == 0xB000)
    }
}

/// All files below the given paths, in order. What is no Part 10 file is an error where it was named,
/// and is passed over inside a folder.
pub fn gather(paths: &[PathBuf], target: &Target) -> Result<Vec<Instance>> {
    let mut instances = Vec::new();
    for path in paths {
        if path.is_dir() {
            gather_dir(path, target, &mut instances)?;
        } else {
            instances
                .push(instance(path, target).with_context(|| format!("cannot send {}", path.display()))?);
        }
    }
    if instances.is_empty() {
        bail!("there is no DICOM file in what was named");
    }
    Ok(instances)
}

fn gather_dir(dir: &Path, target: &Target, instances: &mut Vec<Instance>) -> Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            gather_dir(&path, target, instances)?;
        } else if let Ok(instance) = instance(&path, target) {
            instances.push(instance);
        }
    }
    Ok(())
}

fn instance(path: &Path, target: &Target) -> Result<Instance> {
    read(path, &File::open(path)?, target)
}

/// A Part 10 file that is open.
pub(crate) fn instance_of(path: &Path, file: File, target: &Target) -> Result<Instance> {
    let instance = read(path, &file, target)?;
    Ok(Instance { file: Some(Arc::new(file)), ..instance })
}

fn read(path: &Path, file: &File, target: &Target) -> Result<Instance> {
    let file = part10::read_file_meta(file)?;
    if file.is_directory() {
        bail!("a DICOMDIR is no instance");
    }
    let meta = InstanceMeta {
        sop_class: file.sop_class,
        sop_instance: file.sop_instance,
        transfer_syntax: file.transfer_syntax,
        calling: target.calling.clone(),
        called: target.called.clone(),
        move_originator: None,
        priority: Priority::Medium,
    };
    Ok(Instance { path: path.to_owned(), meta, offset: file.data_set_offset, file: None })
}

/// Sends all of them over one association (or as many as 128 contexts each need), telling each outcome
/// as it comes. Once `stop` is cancelled none is begun.
pub async fn send(
    target: &Target,
    instances: &[Instance],
    stop: &CancellationToken,
    mut tell: impl FnMut(&Sent),
) -> Result<Vec<Sent>> {
    let mut results = Vec::new();
    let mut open: Option<Requestor> = None;
    for (i, instance) in instances.iter().enumerate() {
        if stop.is_cancelled() {
            break;
        }
        let fits = |open: &Requestor| open.accepts(&instance.meta.sop_class, &instance.meta.transfer_syntax);
        if !open.as_ref().is_some_and(fits) {
            if let Some(association) = open.take() {
                association.release().await;
            }
            open = Some(associate(target, instances.get(i..).unwrap_or_default()).await?);
        }
        let Some(association) = open.as_mut() else { bail!("no association") };
        let outcome = match association.accepts(&instance.meta.sop_class, &instance.meta.transfer_syntax) {
            false => Outcome::NotAccepted(format!(
                "{} does not accept SOP class {} in transfer syntax {}",
                target.called, instance.meta.sop_class, instance.meta.transfer_syntax
            )),
            true => match store(association, instance).await {
                Ok(status) => Outcome::Answered(status),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            },
        };
        if let Outcome::Failed(_) = outcome {
            // It is of no use after an error; the next file gets another.
            if let Some(association) = open.take() {
                association.abort().await;
            }
        }
        let sent = Sent { path: instance.path.clone(), outcome };
        tell(&sent);
        results.push(sent);
    }
    if let Some(association) = open {
        association.release().await;
    }
    Ok(results)
}

async fn associate(target: &Target, instances: &[Instance]) -> Result<Requestor> {
    let mut contexts: Vec<(Uid, Uid)> = Vec::new();
    for instance in instances {
        let pair = (instance.meta.sop_class.clone(), instance.meta.transfer_syntax.clone());
        if !contexts.contains(&pair) && contexts.len() < CONTEXTS_MAX {
            contexts.push(pair);
        }
    }
    let config = RequestorConfig::new(target.calling.clone(), target.called.clone(), contexts);
    Requestor::connect(target.address, config)
        .await
        .with_context(|| format!("no association with {} at {}", target.called, target.address))
}

async fn store(association: &mut Requestor, instance: &Instance) -> Result<Status> {
    let mut file = match &instance.file {
        Some(file) => file.try_clone()?,
        None => File::open(&instance.path)?,
    };
    file.seek(SeekFrom::Start(instance.offset))?;
    association.store_begin(&instance.meta).await?;
    loop {
        let mut buffer = vec![0u8; READ_BYTES];
        let count = tokio::task::block_in_place(|| file.read(&mut buffer))?;
        if count == 0 {
            break;
        }
        buffer.truncate(count);
        association.store_data(Bytes::from(buffer)).await?;
    }
    Ok(association.store_finish().await?.status)
}
