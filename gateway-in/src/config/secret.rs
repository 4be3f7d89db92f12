//! Passcodes, passwords and tokens: each in a file of its own, or a systemd credential; never in the configuration.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use base::Secret;

const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// The first line of a file that nobody else may read, or of a systemd credential.
pub(super) fn first_line(path: &Path) -> Result<Secret<Vec<u8>>, String> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| format!("{shown}: {error}; correct the path"))?;
    let mode = metadata.mode() & 0o777;
    // systemd hands credentials over as root:root 0440 with an access list: group root reads anything.
    let credential = mode == 0o440 && metadata.uid() == 0 && metadata.gid() == 0;
    if mode & 0o077 != 0 && !credential {
        return Err(format!("{shown}: others may read it (mode {mode:04o}); chmod 600"));
    }
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(format!("{shown}: longer than {SECRET_BYTES_MAX} bytes"));
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
    fn a_secret_is_the_first_line_of_a_private_file() {
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
            match (first_line(&path), want) {
                (Ok(read), Ok(want)) => assert_eq!(read.expose(), want.as_bytes()),
                (Err(error), Err(want)) => {
                    assert!(error.contains(want) && !error.contains("over"), "{error}")
                }
                (outcome, _) => panic!("{text:?}: {:?}", outcome.map(drop)),
            }
        }
        assert!(first_line(&dir.path().join("nowhere")).is_err());
    }
}
