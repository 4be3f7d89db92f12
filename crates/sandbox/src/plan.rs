use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// `[sandbox]` of a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxTable {
    /// `refuse` (default): do not start where memory could be written to a swap device. `accept`: start, and say so.
    pub swap: Swap,
}

/// What to do where swap cannot be ruled out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Swap {
    /// Do not start.
    #[default]
    Refuse,
    /// Start; the report says that swap is possible.
    Accept,
}

/// Which regular files a process may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// None, anywhere: no file opens for writing, and `RLIMIT_FSIZE` is 0.
    Never,
    /// Those beneath these folders, which exist.
    Beneath(Vec<PathBuf>),
}

/// What a process may do on the network besides using the sockets that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Nothing but UDP: it accepts on what is bound, and connects to nobody.
    Bound,
    /// Connect anywhere by TCP and UDP; no TCP port opens any more.
    Connects,
}

/// What happens to memory when the machine has too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// It stays in RAM: locked, or nothing to swap to. What to do where neither holds is the operator's choice.
    Resident(Swap),
    /// As the system likes.
    Pageable,
}

/// What a process needs after it has started; everything else is taken away.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Folders whose files may be read, to reload configuration, cards and keys. A replaced file inside is seen, a replaced
    /// folder is not.
    pub read: Vec<PathBuf>,
    /// What may be written.
    pub files: Files,
    /// Sockets.
    pub network: Network,
    /// Swap.
    pub memory: Memory,
}

impl Plan {
    /// A process that holds everything in memory and talks through the sockets it has. With a log directory, files beneath
    /// it may be written, and nothing else.
    pub fn memory_only(swap: Swap, log: Option<PathBuf>) -> Self {
        let files = log.map_or(Files::Never, |dir| Files::Beneath(vec![dir]));
        Self { read: Vec::new(), files, network: Network::Bound, memory: Memory::Resident(swap) }
    }

    /// A process with durable state and peers that it calls.
    pub fn stateful(folders: Vec<PathBuf>) -> Self {
        Self {
            read: Vec::new(),
            files: Files::Beneath(folders),
            network: Network::Connects,
            memory: Memory::Pageable,
        }
    }

    /// Lets what lies beneath a folder be read.
    #[must_use]
    pub fn reading(mut self, folder: &Path) -> Self {
        self.read.push(folder.to_owned());
        self
    }

    /// Lets the folders of these files be read, and the folder of systemd's credentials.
    #[must_use]
    pub fn reading_beside<'a>(mut self, files: impl IntoIterator<Item = &'a Path>) -> Self {
        let beside = files.into_iter().filter_map(Path::parent).map(Path::to_owned);
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        self.read.extend(beside.chain(credentials));
        self.read.sort();
        self.read.dedup();
        self
    }
}
