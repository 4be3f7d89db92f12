//! The two keys that live outside the state directory, and what they are used for.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead, KeyInit, Payload},
};
use base::{ObjectId, Secret, random_bytes};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::KeyFileError;

const NONCE_BYTES: usize = 12;
/// A key file is one short line.
const KEY_FILE_BYTES_MAX: u64 = 256;

/// Wraps content keys and seals the small records of instances under way. Without it an outbox is
/// worth nothing; it is kept elsewhere and never replaced silently.
#[derive(Debug, Clone)]
pub struct OutboxKey {
    root: Secret<[u8; 32]>,
    wrap: Secret<[u8; 32]>,
    record: Secret<[u8; 32]>,
}

/// Hashes identifiers, so that `why` can look them up and nobody else can.
#[derive(Debug, Clone)]
pub struct IndexKey {
    root: Secret<[u8; 32]>,
}

/// A sealed part does not open under this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DoesNotOpen;

impl OutboxKey {
    const KIND: &'static str = "sluis-outbox-key-1";

    /// Takes 32 random bytes, from a credential store for instance.
    pub fn new(root: Secret<[u8; 32]>) -> Self {
        let wrap = derive(&root, b"sluis/1 outbox wrap");
        let record = derive(&root, b"sluis/1 outbox record");
        Self { root, wrap, record }
    }

    /// Makes a key and writes it to a new file of mode 0600, durably.
    pub fn generate_file(path: &Path) -> Result<Self, KeyFileError> {
        write_key_file(path, Self::KIND).map(Self::new)
    }

    /// Reads a key file that nobody else may read.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        read_key_file(path, Self::KIND).map(Self::new)
    }

    pub(crate) fn check_value(&self) -> [u8; 16] {
        check_value(&self.root, b"sluis/1 outbox check")
    }

    pub(crate) fn wrap(
        &self,
        object: ObjectId,
        content_key: &Secret<[u8; 32]>,
    ) -> Result<Vec<u8>, DoesNotOpen> {
        seal(&self.wrap, object, content_key.expose())
    }

    pub(crate) fn unwrap(&self, object: ObjectId, wrapped: &[u8]) -> Result<Secret<[u8; 32]>, DoesNotOpen> {
        let opened = open(&self.wrap, object, wrapped)?;
        <[u8; 32]>::try_from(opened.as_slice()).map(Secret::new).map_err(|_| DoesNotOpen)
    }

    pub(crate) fn seal_record(&self, object: ObjectId, record: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
        seal(&self.record, object, record)
    }

    pub(crate) fn open_record(
        &self,
        object: ObjectId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        open(&self.record, object, sealed)
    }
}

impl IndexKey {
    const KIND: &'static str = "sluis-index-key-1";

    /// Takes 32 random bytes.
    pub fn new(root: Secret<[u8; 32]>) -> Self {
        Self { root }
    }

    /// Makes a key and writes it to a new file of mode 0600, durably.
    pub fn generate_file(path: &Path) -> Result<Self, KeyFileError> {
        write_key_file(path, Self::KIND).map(Self::new)
    }

    /// Reads a key file that nobody else may read.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        read_key_file(path, Self::KIND).map(Self::new)
    }

    pub(crate) fn check_value(&self) -> [u8; 16] {
        check_value(&self.root, b"sluis/1 index check")
    }

    /// HMAC-SHA-256 over a domain and fields, each with its length.
    pub(crate) fn hash(&self, domain: &[u8], fields: &[&[u8]]) -> [u8; 32] {
        let mut mac = mac(&self.root);
        for field in std::iter::once(&domain).chain(fields) {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        mac.finalize().into_bytes().into()
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn mac(root: &Secret<[u8; 32]>) -> Hmac<Sha256> {
    <Hmac<Sha256> as KeyInit>::new_from_slice(root.expose()).expect("HMAC takes a key of any length")
}

#[expect(clippy::expect_used, reason = "32 bytes are far below the 255 blocks of HKDF")]
pub(crate) fn derive(root: &Secret<[u8; 32]>, info: &[u8]) -> Secret<[u8; 32]> {
    let mut out = [0u8; 32];
    Hkdf::<Sha256>::new(None, root.expose()).expand(info, &mut out).expect("32 bytes are below HKDF's limit");
    Secret::new(out)
}

/// Tells whether a key is the one that a store was made with, and nothing else about it.
fn check_value(root: &Secret<[u8; 32]>, info: &[u8]) -> [u8; 16] {
    let derived = derive(root, info);
    let mut check = [0u8; 16];
    check.iter_mut().zip(derived.expose()).for_each(|(to, from)| *to = *from);
    check
}

/// AES-256-GCM with a random nonce in front; the object id is authenticated, so that no wrapped key
/// can be moved to another row.
fn seal(key: &Secret<[u8; 32]>, object: ObjectId, plain: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
    let nonce: [u8; NONCE_BYTES] = random_bytes();
    let cipher = Aes256Gcm::new(key.expose().into());
    let payload = Payload { msg: plain, aad: object.as_bytes() };
    let sealed = cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| DoesNotOpen)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn open(key: &Secret<[u8; 32]>, object: ObjectId, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(DoesNotOpen)?;
    let cipher = Aes256Gcm::new(key.expose().into());
    let payload = Payload { msg: sealed, aad: object.as_bytes() };
    cipher.decrypt(&Nonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| DoesNotOpen)
}

pub(crate) fn write_key_file(path: &Path, kind: &str) -> Result<Secret<[u8; 32]>, KeyFileError> {
    let io = |error| KeyFileError::Io { path: path.to_owned(), error };
    let key = Secret::<[u8; 32]>::random();
    let hexed = Zeroizing::new(hex::encode(key.expose()));
    let line = Zeroizing::new(format!("{kind} {}\n", hexed.as_str()));
    let draft = draft_path(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(io)?;
    // A link, unlike a rename, never replaces what is there; and the name appears with the whole content.
    let linked = file
        .write_all(line.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft).map_err(io)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyFileError::Exists(path.to_owned()));
        }
        other => other.map_err(io)?,
    }
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)?;
    Ok(key)
}

fn draft_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", hex::encode(random_bytes::<8>())));
    path.with_file_name(name)
}

pub(crate) fn read_key_file(path: &Path, kind: &'static str) -> Result<Secret<[u8; 32]>, KeyFileError> {
    let io = |error| KeyFileError::Io { path: path.to_owned(), error };
    let content = || KeyFileError::Content { path: path.to_owned(), kind };
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
    let hexed =
        text.trim_end().strip_prefix(kind).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(content)?;
    let mut key = [0u8; 32];
    hex::decode_to_slice(hexed, &mut key).map_err(|_| content())?;
    Ok(Secret::new(key))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_wrapped_key_opens_for_its_object_under_its_key_only() {
        let (key, other) = (OutboxKey::new(Secret::new([1; 32])), OutboxKey::new(Secret::new([2; 32])));
        let (object, content) = (ObjectId([3; 16]), Secret::new([4; 32]));
        let wrapped = key.wrap(object, &content).unwrap();
        assert_eq!(key.unwrap(object, &wrapped).unwrap(), content);
        assert_ne!(wrapped, key.wrap(object, &content).unwrap(), "every wrapping has its own nonce");
        assert_eq!(key.unwrap(ObjectId([5; 16]), &wrapped), Err(DoesNotOpen));
        assert_eq!(other.unwrap(object, &wrapped), Err(DoesNotOpen));
        assert!(
            key.open_record(object, &wrapped).is_err(),
            "keys and records are sealed under different keys"
        );
        for byte in 0..wrapped.len() {
            let mut bent = wrapped.clone();
            bent[byte] ^= 1;
            assert_eq!(key.unwrap(object, &bent), Err(DoesNotOpen));
            assert_eq!(key.unwrap(object, &wrapped[..byte]), Err(DoesNotOpen));
        }
    }

    #[test]
    fn hashes_differ_by_key_domain_and_split_of_fields() {
        let (key, other) = (IndexKey::new(Secret::new([1; 32])), IndexKey::new(Secret::new([2; 32])));
        let base = key.hash(b"study", &[b"1.2", b"3"]);
        assert_eq!(base, key.hash(b"study", &[b"1.2", b"3"]));
        for other in [
            other.hash(b"study", &[b"1.2", b"3"]),
            key.hash(b"series", &[b"1.2", b"3"]),
            key.hash(b"study", &[b"1.", b"23"]),
            key.hash(b"study", &[b"1.23"]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_key_file_is_private_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbox.key");
        let made = OutboxKey::generate_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(OutboxKey::load(&path).unwrap().check_value(), made.check_value());
        assert!(matches!(OutboxKey::generate_file(&path), Err(KeyFileError::Exists(_))));
        assert_eq!(OutboxKey::load(&path).unwrap().check_value(), made.check_value());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft stays behind");

        assert!(matches!(IndexKey::load(&path), Err(KeyFileError::Content { kind: IndexKey::KIND, .. })));
        for content in ["", "sluis-outbox-key-1", "sluis-outbox-key-1 00ff", "sluis-outbox-key-2 00"] {
            fs::write(&path, content).unwrap();
            assert!(matches!(OutboxKey::load(&path), Err(KeyFileError::Content { .. })), "{content:?}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(OutboxKey::load(&path), Err(KeyFileError::Exposed { mode: 0o640, .. })));
    }
}
