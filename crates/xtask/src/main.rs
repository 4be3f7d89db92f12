//! Chores of this repository: `cargo xtask tidy` keeps by machine what ARCHITECTURE.md promises.
//!
//! What it does not do: it builds, formats and tests nothing; `./test` does.
//!
//! Read first: [`layers`] (which crate may use which), [`rules`] (how that is checked), [`source`] (what is read in
//! the files themselves), [`documents`] (what documents say that programs print), [`mod@reference`] (docs/configuration.md), [`mod@sbom`] (what a
//! program is made of).

mod documents;
mod finding;
mod graph;
mod layers;
mod reference;
mod rules;
mod sbom;
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
    /// Render docs/configuration.md from the types that configurations are read into.
    Reference,
    /// Print the bill of materials of a program: CycloneDX 1.5 as JSON.
    Sbom {
        /// A crate of this workspace, as in gateway-out.
        program: String,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Tidy => tidy().map(|findings| report(&findings)),
        Chore::Reference => reference().map(|()| ExitCode::SUCCESS),
        Chore::Sbom { program } => sbom(&program).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn tidy() -> anyhow::Result<Vec<Finding>> {
    let metadata = metadata()?;
    let mut findings = rules::check(&graph::Graph::read(&metadata)?);
    let root = metadata.workspace_root.as_std_path();
    let files = source::files(root)?;
    findings.extend(source::check(root, &files));
    findings.extend(documents::check(root, &files)?);
    findings.extend(reference::check(root, &files)?);
    Ok(findings)
}

fn reference() -> anyhow::Result<()> {
    let metadata = metadata()?;
    let root = metadata.workspace_root.as_std_path();
    reference::write(root, &source::files(root)?)
}

fn sbom(program: &str) -> anyhow::Result<()> {
    println!("{:#}", sbom::render(&sbom::metadata()?, program)?);
    Ok(())
}

fn metadata() -> anyhow::Result<cargo_metadata::Metadata> {
    cargo_metadata::MetadataCommand::new().exec().context("cargo metadata")
}

fn report(findings: &[Finding]) -> ExitCode {
    for finding in findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
    println!("tidy: {errors} errors, {} warnings", findings.len() - errors);
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
