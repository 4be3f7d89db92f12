//! A software bill of materials for a program: CycloneDX 1.5 as JSON, from what cargo has resolved.
//!
//! It lists what is linked into the program or runs while it is compiled (build scripts, derive macros), not what only tests use. Two
//! runs on one lock file give the same bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};
use serde_json::{Value, json};
use toml_edit::{DocumentMut, Table};

/// What Sluis is built for; what a dependency needs on other systems only is not in it.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// What cargo has resolved for those.
pub(crate) fn metadata() -> anyhow::Result<Metadata> {
    let filters = TARGETS.into_iter().flat_map(|target| ["--filter-platform", target]);
    let options = filters.map(str::to_owned).collect::<Vec<_>>();
    cargo_metadata::MetadataCommand::new().other_options(options).exec().context("cargo metadata")
}

/// The bill of one crate of the workspace.
pub(crate) fn render(metadata: &Metadata, program: &str) -> anyhow::Result<Value> {
    let packages: BTreeMap<&PackageId, &Package> = metadata.packages.iter().map(|p| (&p.id, p)).collect();
    let root = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == program);
    let root = root.with_context(|| format!("no crate of this workspace is called {program}"))?;
    let links = links(metadata)?;
    let checksums = checksums(metadata)?;
    let (mut components, mut dependencies) = (Vec::new(), Vec::new());
    for id in reached(&root.id, &links) {
        let Some(package) = packages.get(id) else { continue };
        let below = links.get(id).into_iter().flatten().filter_map(|id| packages.get(id));
        let below: BTreeSet<String> = below.map(|package| reference(package)).collect();
        dependencies.push(json!({ "ref": reference(package), "dependsOn": below }));
        if *id != root.id {
            components.push(component(package, "library", &checksums));
        }
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(root, "application", &checksums) },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// Package URL (purl); it also names a component within the bill.
fn reference(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

fn component(package: &Package, kind: &str, checksums: &BTreeMap<(String, String), String>) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version.to_string(),
        "purl": reference(package),
    });
    let Some(fields) = component.as_object_mut() else { return component };
    if let Some(license) = &package.license {
        // Before SPDX had expressions, cargo had a slash.
        let expression = license.replace('/', " OR ");
        fields.insert("licenses".to_owned(), json!([{ "expression": expression }]));
    }
    if let Some(sum) = checksums.get(&(package.name.to_string(), package.version.to_string())) {
        fields.insert("hashes".to_owned(), json!([{ "alg": "SHA-256", "content": sum }]));
    }
    component
}

type Links<'a> = BTreeMap<&'a PackageId, BTreeSet<&'a PackageId>>;

fn links(metadata: &Metadata) -> anyhow::Result<Links<'_>> {
    let resolve = metadata.resolve.as_ref().context("cargo metadata resolved nothing")?;
    let is_used = |kinds: &[cargo_metadata::DepKindInfo]| {
        kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
    };
    let ids: BTreeMap<&PackageId, &PackageId> = metadata.packages.iter().map(|p| (&p.id, &p.id)).collect();
    let below = |node: &cargo_metadata::Node| {
        let used = node.deps.iter().filter(|dep| is_used(&dep.dep_kinds));
        used.filter_map(|dep| ids.get(&dep.pkg).copied()).collect()
    };
    Ok(resolve.nodes.iter().filter_map(|node| Some((*ids.get(&node.id)?, below(node)))).collect())
}

fn reached<'a>(root: &'a PackageId, links: &Links<'a>) -> BTreeSet<&'a PackageId> {
    let (mut reached, mut open) = (BTreeSet::from([root]), VecDeque::from([root]));
    while let Some(id) = open.pop_front() {
        for next in links.get(id).into_iter().flatten() {
            if reached.insert(next) {
                open.push_back(next);
            }
        }
    }
    reached
}

/// SHA-256 of each package of a registry, from the lock file.
fn checksums(metadata: &Metadata) -> anyhow::Result<BTreeMap<(String, String), String>> {
    let path = metadata.workspace_root.as_std_path().join("Cargo.lock");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lock: DocumentMut = text.parse().with_context(|| path.display().to_string())?;
    let tables = lock.get("package").and_then(|item| item.as_array_of_tables());
    let field = |table: &Table, key: &str| table.get(key).and_then(|item| item.as_str()).map(str::to_owned);
    let one =
        |table: &Table| Some(((field(table, "name")?, field(table, "version")?), field(table, "checksum")?));
    Ok(tables.into_iter().flatten().filter_map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_in_it_with_its_checksum_and_what_only_tests_use_is_not() {
        let metadata = metadata().unwrap();
        let bill = render(&metadata, "gateway-out").unwrap();
        let components = bill["components"].as_array().unwrap();
        let named = |name: &str| components.iter().find(|one| one["name"] == name);
        for linked in ["quinn", "rusqlite", "aws-lc-sys", "ml-kem", "spool", "serde_derive"] {
            assert!(named(linked).is_some(), "{linked}");
        }
        for other in ["proptest", "tempfile", "windows-sys", "xtask", "gateway-out"] {
            assert!(named(other).is_none(), "{other}");
        }
        assert_eq!(named("quinn").unwrap()["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert!(components.iter().all(|one| one["licenses"].is_array()));
        let known: BTreeSet<&str> = components.iter().filter_map(|one| one["bom-ref"].as_str()).collect();
        assert_eq!(known.len(), components.len(), "each stands there once");
        for one in bill["dependencies"].as_array().unwrap() {
            let below = one["dependsOn"].as_array().unwrap();
            assert!(below.iter().all(|one| known.contains(one.as_str().unwrap())), "{one}");
        }
        assert!(render(&metadata, "gateway-on").is_err());
    }
}
