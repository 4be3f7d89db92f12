//! The site keys: a file with a random id in its first line, the current key in the second, and earlier ones below. A study that was
//! seen under an earlier key stays under it, so none may go as long as that study may still get images.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use base::{Digest, Secret};
use pseudonym::{Pseudonyms, SITE_KEY_BYTES};
use service::files::{self, Readable};
use thiserror::Error;

/// What each line of a key begins with.
const KIND: &str = "sluis-site-key-1";
/// What the first line begins with. The id stays when keys come and go: what is known of studies goes by it.
const RING: &str = "sluis-site-ring-1";
const RING_ID_BYTES: usize = 16;
/// Keys of one file.
const KEYS_MAX: usize = 64;
/// Bytes of one file: a line of 51 and 64 of 82.
const FILE_BYTES_MAX: u64 = 8192;

/// Why a file with site keys cannot be used or made.
#[derive(Debug, Error)]
pub enum RingError {
    /// The file system.
    #[error("cannot use {}: {error}; correct the path, or make keys by `gateway-out key gen FILE`", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// Others can read it.
    #[error("{} can be read by others (mode {mode:o}): whoever has a site key can link the pseudonyms; chmod 600", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is something else.
    #[error("{} has no site keys: `sluis-site-ring-1` and 32 hexadecimal digits, then up to 64 lines of `sluis-site-key-1` and 64 hexadecimal digits, the current one first, none twice", .0.display())]
    Content(PathBuf),
    /// It is there already.
    #[error("{} is there already; `--next` adds another key to it and keeps the earlier ones", .0.display())]
    Exists(PathBuf),
}

/// One site key, ready for use.
#[derive(Debug, Clone)]
pub struct SiteKey {
    /// What makes the pseudonyms.
    pub pseudonyms: Arc<Pseudonyms>,
}

impl SiteKey {
    fn new(key: &Secret<[u8; SITE_KEY_BYTES]>) -> Self {
        Self { pseudonyms: Arc::new(Pseudonyms::new(key)) }
    }

    /// Names the key without leading to it.
    pub fn id(&self) -> Digest {
        self.pseudonyms.key_id()
    }

    /// The first digits of its id.
    pub fn name(&self) -> String {
        hex::encode(self.id().as_bytes().first_chunk::<4>().copied().unwrap_or_default())
    }
}

/// The keys of one file: one at least.
#[derive(Debug, Clone)]
pub struct KeyRing {
    id: [u8; RING_ID_BYTES],
    current: SiteKey,
    earlier: Vec<SiteKey>,
}

type Key = Secret<[u8; SITE_KEY_BYTES]>;

impl KeyRing {
    /// Reads a file that nobody else may read; or a credential, which systemd hands over as root:root 0440.
    pub fn load(path: &Path) -> Result<Self, RingError> {
        let Lines { id, keys } = read(path)?;
        let mut keys = keys.iter().map(SiteKey::new);
        let current = keys.next().ok_or_else(|| RingError::Content(path.to_owned()))?;
        Ok(Self { id, current, earlier: keys.collect() })
    }

    /// Makes a file with one key, of mode 0600.
    pub fn generate(path: &Path) -> Result<Self, RingError> {
        let lines = Lines { id: base::random_bytes(), keys: vec![Secret::random()] };
        let written = files::write_new(path, lines.text().expose(), Readable::Owner);
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RingError::Exists(path.to_owned()),
            _ => RingError::Io { path: path.to_owned(), error },
        })?;
        Self::load(path)
    }

    /// Puts another key in front of those of a file: new studies are under it, known ones stay under theirs.
    pub fn rotate(path: &Path) -> Result<Self, RingError> {
        let mut lines = read(path)?;
        lines.keys.insert(0, Secret::random());
        if lines.keys.len() > KEYS_MAX {
            return Err(RingError::Content(path.to_owned()));
        }
        files::replace(path, lines.text().expose(), Readable::Owner)
            .map_err(|error| RingError::Io { path: path.to_owned(), error })?;
        Self::load(path)
    }

    /// The key of new studies.
    pub fn current(&self) -> &SiteKey {
        &self.current
    }

    /// How many earlier ones there are.
    pub fn earlier(&self) -> usize {
        self.earlier.len()
    }

    /// The key with this id.
    pub fn key(&self, id: Digest) -> Option<&SiteKey> {
        std::iter::once(&self.current).chain(&self.earlier).find(|key| key.id() == id)
    }

    /// Names the file, whichever keys are in it.
    pub fn id(&self) -> Digest {
        Digest::of(&self.id)
    }
}

/// What stands in a file.
struct Lines {
    id: [u8; RING_ID_BYTES],
    keys: Vec<Key>,
}

fn read(path: &Path) -> Result<Lines, RingError> {
    let io = |error| RingError::Io { path: path.to_owned(), error };
    let content = || RingError::Content(path.to_owned());
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.mode() & 0o777;
    let credential = mode == 0o440 && metadata.uid() == 0 && metadata.gid() == 0;
    if mode & 0o077 != 0 && !credential {
        return Err(RingError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    let bytes = Secret::new(bytes);
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| content())?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().and_then(|line| line.strip_prefix(RING)?.strip_prefix(' '));
    let mut id = [0; RING_ID_BYTES];
    hex::decode_to_slice(first.ok_or_else(content)?, &mut id).map_err(|_| content())?;
    let mut keys: Vec<Key> = Vec::new();
    for line in lines {
        let digits = line.strip_prefix(KIND).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(content)?;
        let mut key = [0; SITE_KEY_BYTES];
        hex::decode_to_slice(digits, &mut key).map_err(|_| content())?;
        let key = Secret::new(key);
        if keys.iter().any(|known| known.expose() == key.expose()) {
            return Err(content());
        }
        keys.push(key);
    }
    match keys.len() {
        1..=KEYS_MAX => Ok(Lines { id, keys }),
        _ => Err(content()),
    }
}

impl Lines {
    fn text(&self) -> Secret<Vec<u8>> {
        let mut text = format!("{RING} {}\n", hex::encode(self.id)).into_bytes();
        for key in &self.keys {
            text.extend_from_slice(format!("{KIND} ").as_bytes());
            let mut digits = [0; 2 * SITE_KEY_BYTES];
            if hex::encode_to_slice(key.expose(), &mut digits).is_ok() {
                text.extend_from_slice(&digits);
            }
            text.push(b'\n');
        }
        Secret::new(text)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_rotation_puts_a_key_in_front_and_the_file_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.key");
        let first = KeyRing::generate(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(KeyRing::generate(&path), Err(RingError::Exists(_))));
        let second = KeyRing::rotate(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_ne!(second.current().id(), first.current().id());
        assert_eq!((second.id(), second.earlier()), (first.id(), 1));
        assert!(second.key(first.current().id()).is_some() && first.key(second.current().id()).is_none());
        let text = fs::read_to_string(&path).unwrap();
        let digits = text.lines().nth(1).unwrap().strip_prefix("sluis-site-key-1 ").unwrap().to_owned();
        assert!(!format!("{second:?}").contains(&digits));
        let without_earlier: Vec<_> = text.lines().take(2).collect();
        fs::write(&path, without_earlier.join("\n")).unwrap();
        let third = KeyRing::load(&path).unwrap();
        assert_eq!(
            (third.id(), third.earlier()),
            (first.id(), 0),
            "what is known of studies goes by this id"
        );
    }

    #[test]
    fn what_is_no_ring_of_keys_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.key");
        let (ring, key) = (format!("{RING} {}\n", "01".repeat(16)), format!("{KIND} {}\n", "07".repeat(32)));
        let one = format!("{ring}{key}");
        let many = (0..65).map(|n| format!("{KIND} {n:064x}\n")).collect::<String>();
        let cases = [
            String::new(),
            "\n".to_owned(),
            ring.clone(),
            key.clone(),
            one[..90].to_owned(),
            format!("{one}{key}"),
            format!("{ring}{many}"),
            format!("{ring}sluis-index-key-1 00\n"),
        ];
        for text in cases {
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(KeyRing::load(&path), Err(RingError::Content(_))), "{text:?}");
        }
        fs::write(&path, &one).unwrap();
        assert!(KeyRing::load(&path).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(KeyRing::load(&path), Err(RingError::Exposed { mode: 0o640, .. })));
    }
}
