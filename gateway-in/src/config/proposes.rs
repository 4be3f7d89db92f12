//! What an association proposes to a destination beside its presentation contexts: `user` and `async_operations`.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

use base::Secret;
use dimse::{AsyncWindow, UserIdentity, UserIdentityKind};
use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Loaded};

use super::{Config, DestinationTable};

/// `user` of a `[[destination]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserTable {
    /// User name.
    pub name: String,
    /// The file of the passcode. Default: the name alone.
    pub passcode: Option<PathBuf>,
}

/// User information of the A-ASSOCIATE-RQ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proposes {
    /// User identity. No positive response is asked for: a destination that does not accept it rejects.
    pub user_identity: Option<UserIdentity>,
    /// Asynchronous operations.
    pub async_window: Option<AsyncWindow>,
}

const PASSCODE_BYTES_MAX: u64 = 4096;

/// Checks `user` and `async_operations` of one `[[destination]]`.
pub(super) fn check(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
) -> Result<Proposes, ConfigError> {
    let refuse = |key: &str, message: String| loaded.error(&format!("destination[{i}].{key}"), message);
    let async_window = table.async_operations.map(|invoked| AsyncWindow { invoked, performed: 1 });
    let Some(user) = &table.user else { return Ok(Proposes { user_identity: None, async_window }) };
    if user.name.is_empty() {
        return Err(refuse(
            "user.name",
            "empty: nobody would be named; give a name, or leave `user` out".to_owned(),
        ));
    }
    let passcode = match &user.passcode {
        None => None,
        Some(file) => Some(passcode(&loaded.resolve(file)).map_err(|why| refuse("user.passcode", why))?),
    };
    let identity = UserIdentity {
        kind: if passcode.is_some() { UserIdentityKind::NameAndPasscode } else { UserIdentityKind::Name },
        positive_response_requested: false,
        primary: Secret::new(user.name.clone().into_bytes()),
        secondary: passcode.unwrap_or_else(|| Secret::new(Vec::new())),
    };
    Ok(Proposes { user_identity: Some(identity), async_window })
}

/// The first line of a file that nobody else may read.
fn passcode(path: &PathBuf) -> Result<Secret<Vec<u8>>, String> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| format!("{shown}: {error}; correct the path"))?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("{shown}: others may read it (mode {mode:04o}); chmod 600"));
    }
    if metadata.len() > PASSCODE_BYTES_MAX {
        return Err(format!("{shown}: longer than {PASSCODE_BYTES_MAX} bytes"));
    }
    let bytes = Secret::new(fs::read(path).map_err(|error| format!("{shown}: {error}"))?);
    let line = bytes.expose().split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.is_empty() {
        return Err(format!("{shown}: its first line is empty"));
    }
    Ok(Secret::new(line.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_passcode_is_the_first_line_of_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passcode");
        for (text, mode, want) in [
            ("over there\nnot this\n", 0o600, Ok("over there")),
            ("over there", 0o400, Ok("over there")),
            ("\nover there\n", 0o600, Err("first line is empty")),
            ("", 0o600, Err("first line is empty")),
            ("over there\n", 0o644, Err("chmod 600")),
        ] {
            let _ = fs::remove_file(&path);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match (passcode(&path), want) {
                (Ok(read), Ok(want)) => assert_eq!(read.expose(), want.as_bytes()),
                (Err(error), Err(want)) => {
                    assert!(error.contains(want) && !error.contains("over"), "{error}")
                }
                (outcome, _) => panic!("{text:?}: {:?}", outcome.map(drop)),
            }
        }
        assert!(passcode(&dir.path().join("nowhere")).is_err());
    }
}
