//! What the documents say that the programs print, compared with the sources: log lines, alerts and metrics.

use std::path::Path;

use anyhow::Context as _;

use crate::finding::Finding;

/// The alerts, beside what is searched for in Rust.
const RULES: &str = "deploy/prometheus/sluis.rules.yml";
/// What the name of a metric begins with, by role.
const PREFIXES: [&str; 3] = ["sluis_gateway_out_", "sluis_gateway_in_", "sluis_relay_"];
/// What is put behind a metric's name where it is shown.
const SUFFIXES: [&str; 4] = ["_total", "_bucket", "_count", "_sum"];

/// All that the programs may print: string literals of Rust files, and the alerts.
#[derive(Debug, Default)]
struct Printed {
    sources: String,
    rules: String,
}

/// Compares `docs/*.md`, the alerts and the dashboard with the sources below the same folder.
pub(crate) fn check(root: &Path, files: &[String]) -> anyhow::Result<Vec<Finding>> {
    let read = |path: &String| {
        std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
    };
    let mut printed = Printed { rules: read(&RULES.to_owned())?, ..Printed::default() };
    for path in files.iter().filter(|path| is_source(path)) {
        printed.sources.push_str(&joined(&read(path)?));
    }
    let shows = |path: &&String| {
        path.starts_with("docs/") && path.ends_with(".md") || path.starts_with("deploy/prometheus/")
    };
    let mut findings = Vec::new();
    for path in files.iter().filter(shows) {
        findings.extend(printed.compare(path, &read(path)?));
    }
    Ok(findings)
}

fn is_source(path: &str) -> bool {
    path.ends_with(".rs") && path.contains("/src/") && !path.starts_with("crates/xtask/")
}

/// Literals that go on in the next line as one line, with their quotes as they are printed.
fn joined(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    for line in source.lines() {
        match line.strip_suffix('\\') {
            Some(start) => text.push_str(start.trim_start()),
            None => {
                text.push_str(line.trim_start());
                text.push('\n');
            }
        }
    }
    text.replace("\\\"", "\"")
}

impl Printed {
    fn compare(&self, path: &str, text: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut block = None;
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(kind) = line.trim_start().strip_prefix("```") {
                block = if block.is_some() { None } else { Some(kind.trim() == "log") };
                continue;
            }
            let wrong = |what: String| Finding::error(format!("{path}:{number}: {what}"));
            if block == Some(true) && !self.logs(line) {
                findings.push(wrong(format!("no program prints {:?}", message(line))));
            }
            findings.extend(self.names(line).into_iter().map(wrong));
        }
        findings
    }

    /// Whether a line of a `log` block stands in a source. `…` is anything.
    fn logs(&self, line: &str) -> bool {
        let parts = message(line).split('…').map(str::trim);
        parts.filter(|part| !part.is_empty()).all(|part| self.sources.contains(part))
    }

    /// Alerts and metrics that are nowhere.
    fn names(&self, line: &str) -> Vec<String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = line.split(|c: char| !is_name(c));
        words.filter_map(|word| self.unknown(word)).collect()
    }

    fn unknown(&self, word: &str) -> Option<String> {
        let is_alert = word.strip_prefix("Sluis").is_some_and(|rest| rest.starts_with(char::is_uppercase));
        if is_alert && !self.rules.contains(&format!("alert: {word}\n")) {
            return Some(format!("there is no alert {word}"));
        }
        let name = PREFIXES.iter().find_map(|prefix| word.strip_prefix(prefix))?;
        let stems = SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(suffix));
        let mut names = stems.chain([name]);
        // Counters of the relay are named after fields of its status.
        let known = |name: &str| {
            self.sources.contains(&format!("\"{name}\""))
                || self.sources.contains(&format!("pub {name}: u64"))
        };
        if names.any(known) { None } else { Some(format!("there is no metric {word}")) }
    }
}

/// Without the level in front.
fn message(line: &str) -> &str {
    let line = line.trim();
    ["ERROR ", "WARN ", "INFO "].iter().find_map(|level| line.strip_prefix(level)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let source = "warn!(%relay, \"relay \\\"x\\\" is down; \\\n    wait\");\ntext.one(\"ready\", help)";
        let rules = "      - alert: SluisParked\n".to_owned();
        let printed = Printed { sources: joined(source), rules };
        printed.compare("docs/a.md", text).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn what_a_document_promises_is_found_or_told() {
        assert!(texts("```log\nWARN relay \"x\" is down; wait\nrelay … wait\n```\n").is_empty());
        assert!(texts("`SluisParked`, `sluis_relay_ready`, `sluis_relay_ready_total`, Sluis\n").is_empty());
        assert!(texts("```sh\nnobody prints this\n```\nnor this\n").is_empty());
        let wrong = [
            ("a\n```log\nWARN relay is up\n```\n", "docs/a.md:3: no program prints \"relay is up\""),
            ("`SluisParkedToo`\n", "docs/a.md:1: there is no alert SluisParkedToo"),
            ("sluis_gateway_in_up > 0\n", "docs/a.md:1: there is no metric sluis_gateway_in_up"),
        ];
        for (text, want) in wrong {
            assert_eq!(texts(text), [format!("error: {want}")]);
        }
    }
}
