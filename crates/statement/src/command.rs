//! The command that both gateways have: `conformance`, and `conformance diff OTHER.json`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use thiserror::Error;

use crate::{Build, Difference, FarEnd, FarEndError, ProgramError, Statement, html, markdown};

/// Arguments of `conformance`.
#[derive(Debug, Args)]
pub struct ConformanceArgs {
    #[command(subcommand)]
    command: Option<ConformanceCommand>,
    /// Show the values of this configuration, with the AE titles in it, instead of the defaults of the product.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// How it is written.
    #[arg(long, value_enum, default_value = "md")]
    format: Format,
    /// Leave out what differs from build to build: the statement of a version.
    #[arg(long)]
    without_build: bool,
}

/// How a statement is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// Markdown.
    Md,
    /// One HTML file that loads nothing.
    Html,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum ConformanceCommand {
    /// Say which SOP classes and transfer syntaxes a far end will refuse. Exit code 1 if there are any.
    Diff {
        /// Its statement: JSON of another Sluis, or {"accepts": [{"sop_class": UID, "transfer_syntaxes": [UID, …]}, …]}.
        other: PathBuf,
        /// JSON instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// What the command prints.
#[derive(Debug)]
pub struct Output {
    /// For stdout.
    pub text: String,
    /// SOP classes of which something will be refused; the command failed if there are any.
    pub refused: usize,
}

/// Why there is nothing to print.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The program's own file.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The far end's file cannot be read.
    #[error("{path} cannot be read: {error}")]
    Read {
        /// Its name.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The far end's file is none.
    #[error("{path}: {error}")]
    FarEnd {
        /// Its name.
        path: PathBuf,
        /// Why.
        error: FarEndError,
    },
    /// Two users of Storage.
    #[error(
        "{0} and {1} have no service in common that could be compared: neither takes what the other sends"
    )]
    Incomparable(String, String),
}

impl ConformanceArgs {
    /// The configuration whose values are wanted.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Does what was asked for, with the gateway's own statement.
    pub fn output(&self, mut statement: Statement) -> Result<Output, CommandError> {
        if let Some(ConformanceCommand::Diff { other, json }) = &self.command {
            return diff(&statement, other, *json);
        }
        if !self.without_build {
            statement.build = Some(Build::of_this_program()?);
        }
        let text = match self.format {
            Format::Md => markdown::render(&statement.document()),
            Format::Html => html::render(&statement.document()),
            Format::Json => statement.json(),
        };
        Ok(Output { text, refused: 0 })
    }
}

fn diff(statement: &Statement, path: &Path, json: bool) -> Result<Output, CommandError> {
    let text =
        fs::read_to_string(path).map_err(|error| CommandError::Read { path: path.to_owned(), error })?;
    let theirs =
        FarEnd::read(&text).map_err(|error| CommandError::FarEnd { path: path.to_owned(), error })?;
    let difference = Difference::between(&FarEnd::from(statement), &theirs);
    if !difference.is_comparable() {
        return Err(CommandError::Incomparable(difference.ours, difference.theirs));
    }
    #[expect(clippy::expect_used, reason = "no map with keys that are no text")]
    let text = if json {
        serde_json::to_string_pretty(&difference).expect("a difference has a JSON form") + "\n"
    } else {
        difference.to_string()
    };
    Ok(Output { text, refused: difference.count() })
}
