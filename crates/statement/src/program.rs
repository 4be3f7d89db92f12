//! Which program wrote a statement.

use std::{env::consts, fs::File, io};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// One build. What makes it unique is the digest of the program's own file: it can be compared with `sha256sum`, whoever
/// built it and from whatever tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Architecture, system and C library.
    pub target: String,
    /// Commit of the sources, where whoever built it has said so: by `BUILD_COMMIT` in the environment of `cargo build`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// SHA-256 of the program's file, in hexadecimal.
    pub sha256: String,
}

/// The program's own file cannot be read.
#[derive(Debug, Error)]
#[error("the program cannot read its own file to name the build: {0}; --without-build leaves it out")]
pub struct ProgramError(#[from] io::Error);

impl Build {
    /// Of the program that runs. It reads the whole file, which takes about a tenth of a second.
    pub fn of_this_program() -> Result<Self, ProgramError> {
        // Not by its path: the file there may have been replaced since.
        let mut file = File::open("/proc/self/exe").or_else(|_| File::open(std::env::current_exe()?))?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; 256 << 10];
        loop {
            let length = io::Read::read(&mut file, &mut piece)?;
            if length == 0 {
                break;
            }
            hash.update(piece.get(..length).unwrap_or_default());
        }
        Ok(Self {
            target: target(),
            commit: option_env!("BUILD_COMMIT").filter(|commit| !commit.is_empty()).map(str::to_owned),
            sha256: hex::encode(hash.finalize()),
        })
    }
}

fn target() -> String {
    let library = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("{}-{}-{library}", consts::ARCH, consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_running_file() {
        let build = Build::of_this_program().unwrap();
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(build.sha256, hex::encode(Sha256::digest(file)));
        assert!(build.target.contains("linux"), "{}", build.target);
    }
}
