//! Chores of this repository: `cargo xtask tidy` keeps by machine what ARCHITECTURE.md promises.
//!
//! What it does not do: it builds, formats and tests nothing; `./test` does.
//!
//! Read first: [`layers`] (which crate may use which), [`rules`] (how that is checked), [`source`] (what is read in
//! the files themselves), [`documents`] (what documents say that programs print).

mod documents;
mod finding;
mod graph;
mod layers;
mod rules;
mod source;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use finding::{Finding, Severity};

/// Chores of this repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Check layers, forbidden reaches, sole owners, lints, sizes, words and documents. Errors fail, warnings do not.
    Tidy,
}

fn main() -> ExitCode {
    let Chore::Tidy = Arguments::parse().chore;
    match tidy() {
        Ok(findings) => report(&findings),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tidy() -> anyhow::Result<Vec<Finding>> {
    let metadata = cargo_metadata::MetadataCommand::new().exec().context("cargo metadata")?;
    let mut findings = rules::check(&graph::Graph::read(&metadata)?);
    let root = metadata.workspace_root.as_std_path();
    let files = source::files(root)?;
    findings.extend(source::check(root, &files));
    findings.extend(documents::check(root, &files)?);
    Ok(findings)
}

fn report(findings: &[Finding]) -> ExitCode {
    for finding in findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
    println!("tidy: {errors} errors, {} warnings", findings.len() - errors);
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
