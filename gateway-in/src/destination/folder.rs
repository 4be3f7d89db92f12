//! `kind = "folder"`: Part 10 files `StudyUID/SeriesUID/SOPUID.dcm`, each written beside its place,
//! synchronised, and only then given its name. What bears a name is complete.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base::{DeliveryId, Digest, Hasher, InstanceMeta, Phi, Uid};
use dataset::{
    Walker,
    part10::{self, Implementation},
};
use tokio::io::AsyncWriteExt;

use crate::{
    body::{Body, Cut, Incomplete},
    change::Refusal,
};

/// Files of other content under one SOP Instance UID that one folder takes before it refuses more.
const VERSIONS_MAX: u32 = 1000;
/// Where unfinished files lie. A start empties it.
const INCOMING: &str = ".incoming";
/// Stands for a study or series UID that could not be read (private transfer syntaxes are not walked).
const UNREAD: &str = "unread";

/// A folder on a local file system.
#[derive(Debug, Clone)]
pub struct Folder {
    dir: PathBuf,
}

/// What came of storing into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// A new file.
    New,
    /// A file with the same data set was there.
    Identical,
    /// Another data set was there under this UID; ours has the number in its name.
    Numbered(u32),
}

/// Why an instance could not be stored into a folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The body was abandoned or did not verify.
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    /// It cannot be changed as it is configured.
    #[error(transparent)]
    Refused(Refusal),
    /// Too many files of this UID.
    #[error("the folder holds {VERSIONS_MAX} different data sets of this instance; remove some")]
    Versions,
    /// The file system said no.
    #[error("the folder does not take the file: {0}")]
    Io(#[from] io::Error),
}

impl From<Cut> for FolderError {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Incomplete(incomplete) => Self::Incomplete(incomplete),
            Cut::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl Folder {
    /// Makes the folder if need be and removes what an earlier run left unfinished.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let incoming = dir.join(INCOMING);
        fs::create_dir_all(&incoming)?;
        for entry in fs::read_dir(&incoming)? {
            fs::remove_file(entry?.path())?;
        }
        sync_dir(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Whether a file can be written now.
    pub fn try_write(&self) -> io::Result<()> {
        let path = self.dir.join(INCOMING).join("echo");
        fs::write(&path, b"?")?;
        fs::remove_file(path)
    }

    /// Writes one instance. When this returns, the file and its name are durable.
    pub async fn store(
        &self,
        delivery: DeliveryId,
        meta: &InstanceMeta,
        body: &mut Body,
    ) -> Result<Stored, FolderError> {
        let incoming = Incoming(self.dir.join(INCOMING).join(format!("{delivery}.part")));
        let class_uid = dimse::implementation_class_uid();
        let writer =
            Implementation { class_uid: &class_uid, version_name: dimse::IMPLEMENTATION_VERSION_NAME };
        let head = part10::write_file_meta(meta, writer, Some(&meta.calling));
        let mut walker = Walker::new(&meta.transfer_syntax);
        let mut hasher = Hasher::new(b"");
        let options =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&incoming.0)?;
        let mut file = tokio::fs::File::from_std(options);
        file.write_all(&head).await?;
        let mut readable = walker.is_on();
        while let Some(bytes) = body.next().await? {
            // The sender has walked it already; here the walk only finds the names of the folders.
            readable = readable && walker.feed(&bytes).is_ok();
            hasher.update(&bytes);
            file.write_all(&bytes).await?;
        }
        file.flush().await?;
        file.sync_all().await?;
        drop(file);
        let findings = if readable { walker.finish().ok() } else { None };
        let place = findings.map_or_else(
            || (UNREAD.to_owned(), UNREAD.to_owned()),
            |found| (folder_name(found.study.as_ref()), folder_name(found.series.as_ref())),
        );
        let sop_instance = meta.sop_instance.reveal().as_str().to_owned();
        let (dir, data) = (self.dir.clone(), hasher.finish());
        tokio::task::spawn_blocking(move || place_file(&dir, &place, &sop_instance, incoming, data))
            .await
            .map_err(io::Error::other)?
    }
}

/// A file without a name yet; removed when it does not get one.
struct Incoming(PathBuf);

impl Drop for Incoming {
    fn drop(&mut self) {
        // After a successful link this removes the second name; after a failure the unfinished file.
        let _ = fs::remove_file(&self.0);
    }
}

fn folder_name(uid: Option<&Phi<Uid>>) -> String {
    uid.map_or_else(|| UNREAD.to_owned(), |uid| uid.reveal().as_str().to_owned())
}

/// Gives the finished file its name, without ever replacing another.
fn place_file(
    dir: &Path,
    (study, series): &(String, String),
    sop_instance: &str,
    incoming: Incoming,
    data: Digest,
) -> Result<Stored, FolderError> {
    // UIDs are parsed, so they are digits and dots; "." and ".." alone would still be folders.
    let safe =
        |name: &str| if name.bytes().all(|b| b == b'.') { format!("uid{name}") } else { name.to_owned() };
    let series_dir = dir.join(safe(study)).join(safe(series));
    if !series_dir.is_dir() {
        fs::create_dir_all(&series_dir)?;
        sync_dir(dir)?;
        sync_dir(&dir.join(safe(study)))?;
    }
    for version in 1..=VERSIONS_MAX {
        let name = match version {
            1 => format!("{}.dcm", safe(sop_instance)),
            _ => format!("{}_{version}.dcm", safe(sop_instance)),
        };
        let path = series_dir.join(name);
        match fs::hard_link(&incoming.0, &path) {
            Ok(()) => {
                sync_dir(&series_dir)?;
                return Ok(if version == 1 { Stored::New } else { Stored::Numbered(version) });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if data_set_digest(&path)? == Some(data) {
                    // A crash may have come between an earlier link and its sync.
                    sync_dir(&series_dir)?;
                    return Ok(Stored::Identical);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(FolderError::Versions)
}

/// SHA-256 of what follows the file meta; `None` where the file is no Part 10 file.
fn data_set_digest(path: &Path) -> io::Result<Option<Digest>> {
    let mut file = fs::File::open(path)?;
    let Ok(meta) = part10::read_file_meta(&mut file) else { return Ok(None) };
    io::Seek::seek(&mut file, io::SeekFrom::Start(meta.data_set_offset))?;
    let mut hasher = Hasher::new(b"");
    let mut buffer = vec![0u8; 256 * 1024];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(Some(hasher.finish())),
            n => hasher.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}
