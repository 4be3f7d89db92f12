//! `generate DIR`: manual pages and shell completions of a daemon's commands, for its package.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use clap_complete::{Shell, generate_to};

/// `generate`
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The folder; `man` and `completions` are made there.
    dir: PathBuf,
}

/// Writes section 1 pages, one for each command, and completions for bash, fish and zsh.
pub fn generate(command: clap::Command, args: &GenerateArgs) -> Result<()> {
    let mut command = without_help(command);
    let name = command.get_name().to_owned();
    let completions = folder(&args.dir, "completions")?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, &name, &completions)
            .with_context(|| format!("cannot write completions for {shell}"))?;
    }
    clap_mangen::generate_to(command, folder(&args.dir, "man")?).context("cannot write manual pages")
}

/// `help` is described by what it shows.
fn without_help(command: clap::Command) -> clap::Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

fn folder(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
    Ok(path)
}
