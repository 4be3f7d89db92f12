use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, Metadata, PackageId};

/// The workspace as the rules see it: its own crates, and who links whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    /// The crates of the workspace.
    pub(crate) members: Vec<Member>,
    /// For every package, ours or not, the packages it links (normal and build dependencies, as resolved).
    pub(crate) links: BTreeMap<String, BTreeSet<String>>,
}

/// One crate of the workspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Packages in `[dependencies]` and `[build-dependencies]`.
    pub(crate) uses: BTreeSet<String>,
    /// Packages in `[dev-dependencies]`.
    pub(crate) tests_with: BTreeSet<String>,
    /// Whether it inherits the workspace's lints.
    pub(crate) lints: bool,
    /// Whether cargo would publish it.
    pub(crate) publishable: bool,
}

impl Graph {
    /// Reads what cargo has resolved for the whole workspace.
    pub(crate) fn read(metadata: &Metadata) -> anyhow::Result<Self> {
        let mut graph = Self::default();
        for package in metadata.workspace_packages() {
            let named = |development: bool| {
                let of_kind = package
                    .dependencies
                    .iter()
                    .filter(move |d| (d.kind == DependencyKind::Development) == development);
                of_kind.map(|d| d.name.clone()).collect()
            };
            let manifest = package.manifest_path.as_std_path();
            let text = fs::read_to_string(manifest).with_context(|| manifest.display().to_string())?;
            graph.members.push(Member {
                name: package.name.to_string(),
                uses: named(false),
                tests_with: named(true),
                lints: inherits_lints(&text)?,
                publishable: package.publish.as_ref().is_none_or(|registries| !registries.is_empty()),
            });
        }
        let names: BTreeMap<&PackageId, String> =
            metadata.packages.iter().map(|p| (&p.id, p.name.to_string())).collect();
        for node in &metadata.resolve.as_ref().context("cargo metadata resolved nothing")?.nodes {
            let linked = node
                .deps
                .iter()
                .filter(|d| d.dep_kinds.iter().any(|k| k.kind != DependencyKind::Development));
            let linked = linked.filter_map(|d| names.get(&d.pkg).cloned());
            graph.links.entry(names.get(&node.id).cloned().unwrap_or_default()).or_default().extend(linked);
        }
        Ok(graph)
    }

    /// The shortest way from one package to each that it reaches, both ends included.
    pub(crate) fn reaches(&self, from: &str) -> BTreeMap<String, Vec<String>> {
        let mut ways = BTreeMap::from([(from.to_owned(), vec![from.to_owned()])]);
        let mut border = vec![from.to_owned()];
        while !border.is_empty() {
            let mut next_border = Vec::new();
            for name in border {
                let way = ways.get(&name).cloned().unwrap_or_default();
                for linked in self.links.get(&name).into_iter().flatten() {
                    if !ways.contains_key(linked) {
                        ways.insert(linked.clone(), [way.clone(), vec![linked.clone()]].concat());
                        next_border.push(linked.clone());
                    }
                }
            }
            border = next_border;
        }
        ways
    }
}

fn inherits_lints(manifest: &str) -> anyhow::Result<bool> {
    let document: toml_edit::ImDocument<&str> = toml_edit::ImDocument::parse(manifest)?;
    let workspace = document.get("lints").and_then(|lints| lints.get("workspace"));
    Ok(workspace.and_then(|value| value.as_bool()) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_are_inherited_only_when_it_is_said() {
        let cases = [
            ("[lints]\nworkspace = true\n", true),
            ("lints.workspace = true\n", true),
            ("[lints]\nworkspace = false\n", false),
            ("[lints.rust]\nunsafe_code = \"allow\"\n", false),
            ("# [lints]\n# workspace = true\n", false),
        ];
        for (manifest, want) in cases {
            assert_eq!(inherits_lints(manifest).unwrap(), want, "{manifest}");
        }
    }

    #[test]
    fn a_reach_is_shown_by_its_shortest_way() {
        let link = |from: &str, to: &[&str]| (from.to_owned(), to.iter().map(|t| (*t).to_owned()).collect());
        let links =
            BTreeMap::from([link("a", &["b", "c"]), link("b", &["d"]), link("c", &["b"]), link("d", &["a"])]);
        let reached = Graph { links, ..Graph::default() }.reaches("a");
        assert_eq!(reached.get("d").unwrap().join(" "), "a b d");
        assert_eq!(reached.len(), 4);
    }
}
