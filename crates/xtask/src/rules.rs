//! The rules about crates. Each takes the graph and the tables of [`layers`](crate::layers) and says what breaks them.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::graph::{Graph, Member};
use crate::layers::{FORBIDDEN_REACHES, OWNERS, OWNERS_EXCEPT, ROWS, TEST_ONLY, TEST_ONLY_EXCEPT};

/// All rules, in the order in which they are easiest to mend.
pub(crate) fn check(graph: &Graph) -> Vec<Finding> {
    let rows: BTreeMap<&str, u8> = ROWS.iter().copied().collect();
    let mut findings = Vec::new();
    for member in &graph.members {
        findings.extend(manifest(member));
        findings.extend(layering(member, &rows));
        findings.extend(test_crates(member));
        findings.extend(owners(member));
        findings.extend(reaches(member, graph));
    }
    findings
}

fn manifest(member: &Member) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !member.lints {
        findings.push(Finding::error(format!("{} has no `[lints] workspace = true`", member.name)));
    }
    if member.publishable {
        findings.push(Finding::error(format!(
            "{} could be published; add `publish.workspace = true`",
            member.name
        )));
    }
    findings
}

/// Dependencies point to lower rows, those of tests too.
fn layering(member: &Member, rows: &BTreeMap<&str, u8>) -> Vec<Finding> {
    let name = &member.name;
    let Some(row) = rows.get(name.as_str()) else {
        return vec![Finding::error(format!("{name} has no row; place it in crates/xtask/src/layers.rs"))];
    };
    let for_tests = member.tests_with.iter().filter(|used| !TEST_ONLY.contains(&used.as_str()));
    let mut findings = Vec::new();
    for used in member.uses.iter().chain(for_tests) {
        match rows.get(used.as_str()) {
            Some(below) if below > row => findings.push(Finding::error(format!(
                "{name} (row {row}) uses {used} (row {below}): a crate uses lower rows only"
            ))),
            Some(same) if same == row => findings.push(Finding::error(format!(
                "{name} uses {used}: both are in row {row}, and crates of one row do not see each other"
            ))),
            _ => {}
        }
    }
    findings
}

fn test_crates(member: &Member) -> Vec<Finding> {
    let excepted =
        |used: &str| TEST_ONLY_EXCEPT.iter().any(|(by, what, _)| *by == member.name && *what == used);
    let used = member.uses.iter().filter(|used| TEST_ONLY.contains(&used.as_str()) && !excepted(used));
    used.map(|used| Finding::error(format!("{} uses {used}: it belongs in [dev-dependencies]", member.name)))
        .collect()
}

/// A dependency that has an owner is used by nobody else. Tests may use it as an oracle.
fn owners(member: &Member) -> Vec<Finding> {
    let excepted = |used: &str| OWNERS_EXCEPT.iter().any(|(what, by, _)| *what == used && *by == member.name);
    let broken = OWNERS
        .iter()
        .filter(|(used, owner)| member.name != *owner && member.uses.contains(*used) && !excepted(used));
    broken
        .map(|(used, owner)| Finding::error(format!("{} uses {used}: only {owner} does", member.name)))
        .collect()
}

/// What a crate links directly or through others.
fn reaches(member: &Member, graph: &Graph) -> Vec<Finding> {
    let Some((_, forbidden)) = FORBIDDEN_REACHES.iter().find(|(from, _)| *from == member.name) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (reached, way) in graph.reaches(&member.name) {
        if forbidden.iter().any(|pattern| matches(pattern, &reached)) {
            let way = way.join(" -> ");
            findings.push(Finding::error(format!("{} reaches {reached}: it must not ({way})", member.name)));
        }
    }
    findings
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A crate in order that uses these.
    fn member(name: &str, uses: &[&str], tests_with: &[&str]) -> Member {
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Member {
            name: name.to_owned(),
            uses: set(uses),
            tests_with: set(tests_with),
            lints: true,
            publishable: false,
        }
    }

    fn graph(members: &[Member], external: &[(&str, &[&str])]) -> Graph {
        let mut graph = Graph { members: members.to_vec(), ..Graph::default() };
        for member in members {
            graph.links.insert(member.name.clone(), member.uses.clone());
        }
        for (name, links) in external {
            let links: BTreeSet<String> = links.iter().map(|n| (*n).to_owned()).collect();
            graph.links.insert((*name).to_owned(), links);
        }
        graph
    }

    fn texts(graph: &Graph) -> Vec<String> {
        check(graph).into_iter().map(|f| f.to_string()).collect()
    }

    #[test]
    fn a_workspace_in_order_has_no_findings() {
        let members = [
            member("base", &["serde"], &["testkit"]),
            member("identity", &["base", "ml-dsa", "ed25519-dalek"], &[]),
            member("envelope", &["identity", "hpke", "aes-gcm"], &["x-wing"]),
            member("ledger", &["identity"], &["dicom-ul"]),
            member("spool", &["base", "aes-gcm", "rusqlite"], &["testkit", "fixtures"]),
            member("fixtures", &["base", "dicom-object"], &[]),
            member("testkit", &["base", "fixtures"], &[]),
            member("relay", &["ledger"], &["testkit"]),
            member("gateway-out", &["envelope", "spool"], &[]),
            member("quickstart", &["gateway-out", "relay", "fixtures"], &[]),
        ];
        assert_eq!(texts(&graph(&members, &[("hpke", &["ml-kem"])])), Vec::<String>::new());
    }

    #[test]
    fn each_rule_fires() {
        let cases: &[(Member, &str)] = &[
            (
                member("ledger", &["spool"], &[]),
                "error: ledger (row 2) uses spool (row 3): a crate uses lower rows only",
            ),
            (
                member("wire", &["ledger"], &[]),
                "error: wire uses ledger: both are in row 2, and crates of one row do not see each other",
            ),
            (
                member("wire", &[], &["ledger"]),
                "error: wire uses ledger: both are in row 2, and crates of one row do not see each other",
            ),
            (
                member("gateway-in", &["gateway-out"], &[]),
                "error: gateway-in uses gateway-out: both are in row 4, and crates of one row do not see each other",
            ),
            (
                member("base", &[], &["relay"]),
                "error: base (row 0) uses relay (row 4): a crate uses lower rows only",
            ),
            (
                member("novelty", &[], &[]),
                "error: novelty has no row; place it in crates/xtask/src/layers.rs",
            ),
            (
                member("gateway-out", &["testkit"], &[]),
                "error: gateway-out uses testkit: it belongs in [dev-dependencies]",
            ),
            (
                member("spool", &["fixtures"], &[]),
                "error: spool uses fixtures: it belongs in [dev-dependencies]",
            ),
            (member("transport", &["rusqlite"], &[]), "error: transport uses rusqlite: only spool does"),
            (
                member("gateway-in", &["dicom-object"], &[]),
                "error: gateway-in uses dicom-object: only dataset does",
            ),
            (
                member("spool", &["chacha20poly1305"], &[]),
                "error: spool uses chacha20poly1305: only envelope does",
            ),
            (member("identity", &["hpke"], &[]), "error: identity uses hpke: only envelope does"),
            (
                Member { lints: false, ..member("wire", &[], &[]) },
                "error: wire has no `[lints] workspace = true`",
            ),
            (
                Member { publishable: true, ..member("wire", &[], &[]) },
                "error: wire could be published; add `publish.workspace = true`",
            ),
        ];
        for (member, want) in cases {
            assert_eq!(texts(&graph(std::slice::from_ref(member), &[])), [*want]);
        }
    }

    #[test]
    fn every_owned_dependency_has_a_rule_that_fires() {
        for (used, owner) in OWNERS {
            let stranger = member("gateway-out", &[used], &[]);
            let want = format!("error: gateway-out uses {used}: only {owner} does");
            assert_eq!(texts(&graph(&[stranger], &[])), [want]);
        }
    }

    #[test]
    fn what_the_relay_must_not_reach_is_found_through_others() {
        let chain = [member("relay", &["ledger"], &[]), member("ledger", &["identity"], &[])];
        let cases: &[(&str, &str, &str)] = &[
            (
                "envelope",
                "identity",
                "error: relay reaches envelope: it must not (relay -> ledger -> identity -> envelope)",
            ),
            ("hpke", "ledger", "error: relay reaches hpke: it must not (relay -> ledger -> hpke)"),
            ("ml-kem", "other", ""),
            (
                "dicom-core",
                "identity",
                "error: relay reaches dicom-core: it must not (relay -> ledger -> identity -> dicom-core)",
            ),
            (
                "spool",
                "identity",
                "error: relay reaches spool: it must not (relay -> ledger -> identity -> spool)",
            ),
        ];
        for (reached, through, want) in cases {
            let mut graph = graph(&chain, &[]);
            graph.links.entry((*through).to_owned()).or_default().insert((*reached).to_owned());
            let want: Vec<&str> = if want.is_empty() { vec![] } else { vec![*want] };
            assert_eq!(texts(&graph), want, "{reached} through {through}");
        }
    }

    #[test]
    fn everything_on_the_relays_list_is_found() {
        for (from, forbidden) in FORBIDDEN_REACHES {
            for pattern in *forbidden {
                let name = pattern.replace('*', "parser");
                let graph = graph(&[member(from, &["indirect"], &[])], &[("indirect", &[&name])]);
                let want =
                    format!("error: {from} reaches {name}: it must not ({from} -> indirect -> {name})");
                assert_eq!(texts(&graph), [want]);
            }
        }
    }

    #[test]
    fn tables_name_only_crates_that_have_a_row() {
        let has_row = |name: &str| ROWS.iter().any(|(row, _)| *row == name);
        assert!(OWNERS.iter().all(|(_, owner)| has_row(owner)));
        assert!(
            OWNERS_EXCEPT
                .iter()
                .all(|(what, by, _)| has_row(by) && OWNERS.iter().any(|(owned, _)| owned == what))
        );
        assert!(TEST_ONLY_EXCEPT.iter().all(|(by, what, _)| has_row(by) && TEST_ONLY.contains(what)));
        assert!(TEST_ONLY.iter().all(|name| has_row(name)));
        assert!(FORBIDDEN_REACHES.iter().all(|(from, _)| has_row(from)));
    }
}
