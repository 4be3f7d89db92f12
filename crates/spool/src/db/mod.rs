//! One SQLite index: a thread that writes, a thread that reads, and how both are opened.

pub(crate) mod column;
mod reader;
mod writer;

use std::{
    cmp::Ordering,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use crate::{OpenError, StoreError, faults::Faults};

pub(crate) use reader::Reader;
pub(crate) use writer::{JobError, Writer};

/// How long a statement waits for another process's transaction. Ours last milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pages of the write-ahead log after which SQLite copies them into the index by itself.
const CHECKPOINT_PAGES: u32 = 4000;

/// Memory for pages of one connection. Keyed hashes fall on random pages of their indices.
const CACHE_KIB: i64 = 4096;

const INDEX_FILE: &str = "index.db";
const LOCK_FILE: &str = "lock";

/// Why the store has stopped, if it has. Shared by everything that belongs to one store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// A body or its folder could not be flushed: nothing new is taken, what is held goes on its way.
    intake: Arc<OnceLock<String>>,
    /// The index could not be written: nothing changes any more.
    index: Arc<OnceLock<String>>,
}

impl Health {
    pub(crate) fn fail_intake(&self, why: String) {
        tracing::error!(reason = %why, "the outbox takes nothing more; check the disk, then start again");
        let _ = self.intake.set(why);
    }

    pub(crate) fn fail_index(&self, why: String) {
        tracing::error!(reason = %why, "the index has stopped; check the disk, then start again");
        let _ = self.index.set(why);
    }

    pub(crate) fn index(&self) -> Result<(), StoreError> {
        self.index.get().map_or(Ok(()), |why| Err(StoreError::Failed(why.clone())))
    }

    pub(crate) fn intake(&self) -> Result<(), StoreError> {
        self.index()?;
        self.intake.get().map_or(Ok(()), |why| Err(StoreError::Failed(why.clone())))
    }
}

/// The parts of one opened index.
#[derive(Debug)]
pub(crate) struct Db {
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
    pub(crate) health: Health,
}

impl Db {
    /// Starts both threads on an index whose tables are known to be right.
    pub(crate) fn start(dir: &Path, writing: Connection, faults: Faults) -> Result<Self, OpenError> {
        let health = Health::default();
        let reading = connect(dir, false)?;
        Ok(Self {
            writer: Writer::start(writing, health.clone(), faults).map_err(io_error(dir))?,
            reader: Reader::start(reading).map_err(io_error(dir))?,
            health,
        })
    }
}

pub(crate) fn io_error(path: &Path) -> impl Fn(io::Error) -> OpenError + '_ {
    |error| OpenError::Io { path: path.to_owned(), error }
}

/// Takes the lock that makes a process the only daemon of a folder. Held until the file is dropped; the
/// kernel drops it for a process that was killed.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let file =
        options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io_error(&path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(dir.to_owned())),
        Err(error) => Err(OpenError::Io { path, error: error.into() }),
    }
}

pub(crate) fn index_path(dir: &Path) -> PathBuf {
    dir.join(INDEX_FILE)
}

/// Makes a folder, readable by its owner only, durably.
pub(crate) fn create_dir(path: &Path) -> Result<(), OpenError> {
    let here = path.is_dir();
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path).map_err(io_error(path))?;
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    match File::open(parent).and_then(|dir| dir.sync_all()) {
        // A process that is locked down to this folder has made it durable before.
        Err(error) if here && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(io_error(parent)),
    }
}

/// Opens the index file. An application id tells our files from others'.
pub(crate) fn connect(dir: &Path, create: bool) -> Result<Connection, OpenError> {
    let path = index_path(dir);
    if !create && !path.exists() {
        return Err(OpenError::NotInitialised(dir.to_owned()));
    }
    if create {
        // SQLite would make it readable by the group, as the umask has it; the log takes the same mode.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io_error(&path))?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(128);
        // A plan does not depend on what is bound. Otherwise every statement whose plan looked at a value (a
        // partial index is enough) is compiled again each time it is bound: a seventh of all CPU time.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(connection)
    };
    open().map_err(|error| OpenError::Store(store_error(&error)))
}

/// For a command beside the daemon: the format must be ours already. Only the daemon changes it.
pub(crate) fn check_format(connection: &Connection, steps: &[&str]) -> Result<(), OpenError> {
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| OpenError::Store(store_error(&error)))?;
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    match found.cmp(&known) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(OpenError::TooNew { found, known }),
        Ordering::Less => Err(OpenError::TooOld { found, known }),
    }
}

/// Brings the tables to the newest format, one step at a time, each in one transaction.
pub(crate) fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), OpenError> {
    let sql = |error: rusqlite::Error| OpenError::Store(store_error(&error));
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sql)?;
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(OpenError::TooNew { found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (number, step) in steps.iter().enumerate().skip(done) {
        let transaction = connection.transaction().map_err(sql)?;
        transaction.execute_batch(step).map_err(sql)?;
        transaction
            .pragma_update(None, "user_version", i64::try_from(number + 1).unwrap_or(i64::MAX))
            .map_err(sql)?;
        transaction.commit().map_err(sql)?;
    }
    Ok(())
}

/// Sorts what SQLite says by who must act.
pub(crate) fn store_error(error: &rusqlite::Error) -> StoreError {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => StoreError::Full,
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Busy,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Damaged(failure.to_string()),
            _ => StoreError::Failed(failure.to_string()),
        },
        // Never the text of the error itself: it may quote a value.
        rusqlite::Error::QueryReturnedNoRows => StoreError::Damaged("a row is missing".to_owned()),
        _ => StoreError::Damaged("a column has an unknown value".to_owned()),
    }
}
