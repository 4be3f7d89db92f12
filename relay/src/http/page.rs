//! A page for people: no script, nothing from elsewhere, light and dark, wide and narrow.

use std::fmt::Write as _;

use base::{Fingerprint, Timestamp};
use identity::fingerprint_text;
use serde_json::Value;

use crate::log::{EntryView, LogView};

const STYLE: &str = ":root{color-scheme:light dark;--line:#8884;--good:light-dark(#14662f,#7fd69a);--bad:light-dark(#b3141d,#ff9a94)}\
    *{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:1rem;\
    background:light-dark(#fff,#16181b);color:light-dark(#1b1d20,#e4e6e9)}\
    h1{font-size:1.4rem;margin:.5rem 0}h2{font-size:1.1rem;margin:2rem 0 .4rem}p{margin:.4rem 0}\
    a{color:light-dark(#0b57a4,#8ec5ff)}\
    table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem 1rem .3rem 0;\
    border-bottom:1px solid var(--line);vertical-align:top;font-variant-numeric:tabular-nums}\
    .facts th{width:11rem;font-weight:600}thead th{white-space:nowrap}\
    code,pre{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}pre{white-space:pre-wrap}\
    .wide{overflow-x:auto}.wide code,.wide td{white-space:nowrap}\
    .good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}\
    @media(max-width:36rem){.facts th,.facts td{display:block;width:auto;padding-right:0}\
    .facts th{border:0;padding-bottom:0}.facts td{padding-top:0}}";

/// The whole page.
pub(super) fn render(view: &LogView, status: &Value, recent: &[EntryView]) -> String {
    let name = escaped(text(status, "name"));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Sluis relay {name}: log</title><style>{STYLE}</style></head><body>\
         <h1>Sluis relay “{name}”</h1><p>It holds sealed bodies in memory and cannot open them. Its log tells what it \
         accepted and what was settled, as salted digests: no name, no patient number, no address. \
         All times are UTC, by this machine's clock; a page is as old as its loading.</p>"
    );
    state(&mut page, status);
    log(&mut page, view);
    gateways(&mut page, view, status);
    entries(&mut page, view, recent);
    own_checks(&mut page, view);
    page.push_str("</body></html>");
    page
}

/// What the process says of itself: a page of its own making proves nothing, and says so.
fn state(page: &mut String, status: &Value) {
    page.push_str("<h2>This process</h2><table class=\"facts\">");
    let report = status.get("sandbox");
    let enforced = report.and_then(|report| report.get("enforced")).and_then(Value::as_bool);
    let sandbox = match enforced {
        Some(true) => "<span class=\"good\">enforced</span>: it can write no file and start no program",
        Some(false) => {
            "<span class=\"bad\">OFF</span> (--no-sandbox): nothing keeps it from writing to a disk"
        }
        None => "<span class=\"bad\">unknown</span>",
    };
    let ask = "<code>relay attest</code>, run as root on its machine, asks the kernel instead";
    row(page, "Sandbox", &format!("{sandbox}. So says the process; {ask}."));
    let build = report.and_then(|report| report.get("build")).and_then(Value::as_str).unwrap_or("?");
    row(page, "Build (SHA-256)", &format!("<code>{}</code>", escaped(build)));
    row(page, "Fingerprint", &format!("<code>{}</code>", fingerprint(status)));
    row(page, "Start (boot id)", &format!("<code>{}</code>", escaped(text(status, "boot"))));
    let number = |key: &str| status.get(key).and_then(Value::as_u64).unwrap_or(0);
    let held = format!("{} bodies, {} of {} bytes", number("blobs"), number("bytes_held"), number("budget"));
    row(page, "Held in memory", &held);
    let alarms = status.get("alarms").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for alarm in alarms {
        let line = escaped(alarm.as_str().unwrap_or_default());
        row(page, "Alarm", &format!("<span class=\"bad\">{line}</span>"));
    }
    page.push_str("</table>");
}

fn log(page: &mut String, view: &LogView) {
    let head = view.checkpoint().head();
    page.push_str("<h2>Log</h2><table class=\"facts\">");
    row(page, "Origin", &format!("<code>{}</code>", escaped(head.origin.as_str())));
    row(page, "Signed head", &format!("{} entries, signed {}", head.size, time(view.signed())));
    row(page, "Root", &format!("<code>{}</code>", head.root));
    row(page, "Not under it yet", &format!("{} entries", view.unsigned()));
    for (earlier, entry) in view.previous() {
        let origin = escaped(earlier.origin.as_str());
        let line = format!("<code>{origin}</code>, {} entries, linked by entry {entry}", earlier.size);
        row(page, "Earlier epoch", &line);
    }
    page.push_str("</table>");
}

fn gateways(page: &mut String, view: &LogView, status: &Value) {
    let list = |key: &str| status.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let tenants = list("tenants");
    page.push_str(
        "<h2>Gateways</h2><div class=\"wide\"><table><thead><tr><th>Name</th><th>State</th><th>May deposit for</th>\
         <th>Head cosigned</th><th>Fingerprint</th></tr></thead><tbody>",
    );
    for gateway in list("admission") {
        let name = text(&gateway, "name");
        let state = match gateway.get("revoked").and_then(Value::as_str) {
            Some(since) => format!("<span class=\"bad\">revoked</span> {}", escaped(since)),
            None => connection(tenants.iter().find(|tenant| text(tenant, "name") == name)).to_owned(),
        };
        let names = gateway.get("deposit_for").and_then(Value::as_array).cloned().unwrap_or_default();
        let names: Vec<_> = names.iter().filter_map(Value::as_str).map(escaped).collect();
        let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        let cosigned = view.cosigners().iter().find(|(cosigner, _)| cosigner.as_str() == name);
        let cosigned = cosigned.map_or_else(
            || "none".to_owned(),
            |(_, cosigned)| {
                format!(
                    "{} entries, {}",
                    cosigned.size,
                    time(Timestamp(cosigned.time_s.saturating_mul(1000)))
                )
            },
        );
        let (name, fingerprint) = (escaped(name), fingerprint(&gateway));
        let _ = write!(
            page,
            "<tr><td>{name}</td><td>{state}</td><td>{names}</td><td>{cosigned}</td><td><code>{fingerprint}</code></td></tr>"
        );
    }
    page.push_str("</tbody></table></div>");
}

fn connection(tenant: Option<&Value>) -> &'static str {
    let is = |key: &str| tenant.and_then(|tenant| tenant.get(key)).and_then(Value::as_bool) == Some(true);
    match (is("sender"), is("recipient")) {
        (true, true) => "connected, both ways",
        (true, false) => "connected to deposit",
        (false, true) => "connected to collect",
        (false, false) => "not connected",
    }
}

fn entries(page: &mut String, view: &LogView, recent: &[EntryView]) {
    let _ = write!(
        page,
        "<h2>Last entries</h2><p>The newest {} of {} under the signed head.</p>\
         <div class=\"wide\"><table><thead><tr><th>Index</th><th>Kind</th><th>When</th><th>Leaf hash</th></tr></thead><tbody>",
        recent.len(),
        view.size()
    );
    for entry in recent.iter().rev() {
        let EntryView { index, kind, leaf_hash, ts, .. } = entry;
        let _ = write!(
            page,
            "<tr><td>{index}</td><td>{kind}</td><td>{}</td><td><code>{leaf_hash}</code></td></tr>",
            time(Timestamp(*ts))
        );
    }
    page.push_str("</tbody></table></div>");
}

fn own_checks(page: &mut String, view: &LogView) {
    let [ed25519, ml_dsa] = view.verifier_keys();
    let _ = write!(
        page,
        "<h2>Check it yourself</h2><p>This page is the relay's word. What it cannot forge later is what it has signed: keep a \
         <a href=\"/checkpoint\">checkpoint</a> (C2SP tlog-checkpoint), and ask later for \
         <code>/log/consistency?old=N</code> from its size N. More for machines: \
         <a href=\"/log/entries?start=0\">/log/entries?start=N</a>, <code>/log/inclusion?index=N</code>, \
         <code>/tile/…</code> (C2SP tlog-tiles), <a href=\"/v2/ct/log?limit=20\">/v2/ct/log?limit=N</a>, \
         <a href=\"/status\">/status</a>, <a href=\"/metrics\">/metrics</a>.</p>\
         <p>The keys of this log, as other tools take them. Take them from the relay's card if you distrust this page:</p>\
         <p>Ed25519</p><pre>{}</pre><p>ML-DSA-44</p><pre>{}</pre>",
        escaped(&ed25519),
        escaped(&ml_dsa)
    );
}

fn row(page: &mut String, label: &str, html: &str) {
    let _ = write!(page, "<tr><th>{label}</th><td>{html}</td></tr>");
}

fn text<'a>(status: &'a Value, key: &str) -> &'a str {
    status.get(key).and_then(Value::as_str).unwrap_or("?")
}

/// As people compare it, and `key fingerprint` prints it.
fn fingerprint(of: &Value) -> String {
    Fingerprint::from_hex(text(of, "fingerprint"))
        .map_or_else(|_| "?".to_owned(), |fingerprint| fingerprint_text(&fingerprint))
}

/// UTC, as RFC 3339 writes it.
fn time(at: Timestamp) -> String {
    service::text::utc(at)
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
