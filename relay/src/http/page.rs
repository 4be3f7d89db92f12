//! A page for people: no script, nothing from elsewhere, light and dark, wide and narrow.

use std::fmt::Write as _;

use base::Timestamp;
use serde_json::Value;

use crate::log::{EntryView, LogView};

const STYLE: &str = ":root{color-scheme:light dark;--line:#8884}\
    body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}\
    h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}\
    table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .6rem .25rem 0;\
    border-bottom:1px solid var(--line);vertical-align:top}\
    code,pre{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere;white-space:pre-wrap}\
    .wide{overflow-x:auto}";

/// The whole page.
pub(super) fn render(view: &LogView, status: &Value, recent: &[EntryView]) -> String {
    let head = view.checkpoint().head();
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Sluis relay {name}: log</title><style>{STYLE}</style></head><body>\
         <h1>Sluis relay {name}</h1><p>It holds sealed bodies in memory and cannot open them. Its log tells what it \
         accepted and what was settled, as salted digests.</p><h2>Log</h2><table>",
        name = escaped(text(status, "name")),
    );
    row(&mut page, "Origin", &format!("<code>{}</code>", escaped(head.origin.as_str())));
    row(&mut page, "Signed head", &format!("{} entries", head.size));
    row(&mut page, "Root", &format!("<code>{}</code>", head.root));
    row(&mut page, "Not under it yet", &view.unsigned().to_string());
    for (earlier, entry) in view.previous() {
        let line = format!(
            "<code>{}</code>, {} entries, entry {entry}",
            escaped(earlier.origin.as_str()),
            earlier.size
        );
        row(&mut page, "Linked epoch", &line);
    }
    page.push_str("</table><h2>Cosigners</h2><table><tr><th>Gateway</th><th>Entries</th><th>When</th></tr>");
    for (name, cosigned) in view.cosigners() {
        let when = time(cosigned.time_s.saturating_mul(1000));
        let _ = write!(page, "<tr><td>{name}</td><td>{}</td><td>{when}</td></tr>", cosigned.size);
    }
    if view.cosigners().is_empty() {
        page.push_str("<tr><td colspan=\"3\">none yet</td></tr>");
    }
    page.push_str(
        "</table><h2>Last entries</h2><div class=\"wide\"><table><tr><th>Index</th><th>Kind</th><th>When</th><th>Leaf hash</th></tr>",
    );
    for entry in recent.iter().rev() {
        let EntryView { index, kind, leaf_hash, ts, .. } = entry;
        let _ = write!(
            page,
            "<tr><td>{index}</td><td>{kind}</td><td>{}</td><td><code>{leaf_hash}</code></td></tr>",
            time(*ts)
        );
    }
    page.push_str("</table></div><h2>State</h2><table>");
    for (label, key) in [
        ("Bodies", "blobs"),
        ("Bytes held", "bytes_held"),
        ("Budget", "budget"),
        ("Leases", "leases"),
        ("Boot", "boot"),
    ] {
        let value =
            status.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        row(&mut page, label, &escaped(&value.unwrap_or_default()));
    }
    let [ed25519, ml_dsa] = view.verifier_keys();
    let _ = write!(
        page,
        "</table><h2>Check it yourself</h2><p><a href=\"/checkpoint\">/checkpoint</a>, /tile/… (C2SP tlog-tiles), \
         /log/inclusion?index=N, /log/consistency?old=N, <a href=\"/v2/ct/log?limit=20\">/v2/ct/log?limit=N</a>, \
         <a href=\"/metrics\">/metrics</a>. Keys of this log, as other tools take them; compare them with the \
         relay's card:</p><pre>{}\n{}</pre></body></html>",
        escaped(&ed25519),
        escaped(&ml_dsa)
    );
    page
}

fn row(page: &mut String, label: &str, html: &str) {
    let _ = write!(page, "<tr><th>{label}</th><td>{html}</td></tr>");
}

fn text<'a>(status: &'a Value, key: &str) -> &'a str {
    status.get(key).and_then(Value::as_str).unwrap_or("?")
}

/// UTC, as RFC 3339 writes it.
fn time(ms: u64) -> String {
    service::text::utc(Timestamp(ms))
}

fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            c => html.push(c),
        }
    }
    html
}
