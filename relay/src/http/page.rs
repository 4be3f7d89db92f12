//! A page for people: no script, nothing from elsewhere, light and dark, wide and narrow.

use std::fmt::Write as _;

use base::{Fingerprint, Timestamp};
use identity::fingerprint_text;
use serde_json::Value;
use service::html::{document, escaped};

use crate::log::{EntryView, LogView};

/// The whole page.
pub(super) fn render(view: &LogView, status: &Value, recent: &[EntryView]) -> String {
    let name = text(status, "name");
    let mut page = format!(
        "<h1>Sluis relay “{}”</h1><p>It holds sealed bodies in memory and cannot open them. Its log tells what it \
         accepted and what was settled, as salted digests: no name, no patient number, no address. \
         All times are UTC, by this machine's clock; a page is as old as its loading.</p><main>",
        escaped(name)
    );
    state(&mut page, status);
    log(&mut page, view);
    gateways(&mut page, view, status);
    entries(&mut page, view, recent);
    own_checks(&mut page, view);
    page.push_str("</main>");
    document(&format!("Sluis relay {name}: log"), None, &page)
}

/// What the process says of itself: a page of its own making proves nothing, and says so.
fn state(page: &mut String, status: &Value) {
    page.push_str("<section><h2>This process</h2><table class=\"facts\">");
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
    page.push_str("</table></section>");
}

fn log(page: &mut String, view: &LogView) {
    let head = view.checkpoint().head();
    page.push_str("<section><h2>Log</h2><table class=\"facts\">");
    row(page, "Origin", &format!("<code>{}</code>", escaped(head.origin.as_str())));
    row(page, "Signed head", &format!("{} entries, signed {}", head.size, time(view.signed())));
    row(page, "Root", &format!("<code>{}</code>", head.root));
    row(page, "Not under it yet", &format!("{} entries", view.unsigned()));
    for (earlier, entry) in view.previous() {
        let origin = escaped(earlier.origin.as_str());
        let line = format!("<code>{origin}</code>, {} entries, linked by entry {entry}", earlier.size);
        row(page, "Earlier epoch", &line);
    }
    page.push_str("</table></section>");
}

fn gateways(page: &mut String, view: &LogView, status: &Value) {
    let list = |key: &str| status.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let tenants = list("tenants");
    page.push_str(
        "<section><h2>Gateways</h2><div class=\"wide\"><table><thead><tr><th scope=\"col\">Name</th><th scope=\"col\">State</th><th scope=\"col\">May deposit for</th>\
         <th scope=\"col\">Head cosigned</th><th scope=\"col\">Fingerprint</th></tr></thead><tbody>",
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
    page.push_str("</tbody></table></div></section>");
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
        "<section><h2>Last entries</h2><p>The newest {} of {} under the signed head.</p>\
         <div class=\"wide\"><table><thead><tr><th scope=\"col\">Index</th><th scope=\"col\">Kind</th><th scope=\"col\">When</th><th scope=\"col\">Leaf hash</th></tr></thead><tbody>",
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
    page.push_str("</tbody></table></div></section>");
}

fn own_checks(page: &mut String, view: &LogView) {
    let [ed25519, ml_dsa] = view.verifier_keys();
    let _ = write!(
        page,
        "<section><h2>Check it yourself</h2><p>This page is the relay's word. What it cannot forge later is what it has signed: keep a \
         <a href=\"/checkpoint\">checkpoint</a> (C2SP tlog-checkpoint), and ask later for \
         <code>/log/consistency?old=N</code> from its size N. More for machines: \
         <a href=\"/log/entries?start=0\">/log/entries?start=N</a>, <code>/log/inclusion?index=N</code>, \
         <code>/tile/…</code> (C2SP tlog-tiles), <a href=\"/v2/ct/log?limit=20\">/v2/ct/log?limit=N</a>, \
         <a href=\"/status\">/status</a>, <a href=\"/metrics\">/metrics</a>.</p>\
         <p>The keys of this log, as other tools take them. Take them from the relay's card if you distrust this page:</p>\
         <p>Ed25519</p><pre>{}</pre><p>ML-DSA-44</p><pre>{}</pre></section>",
        escaped(&ed25519),
        escaped(&ml_dsa)
    );
}

fn row(page: &mut String, label: &str, html: &str) {
    let _ = write!(page, "<tr><th scope=\"row\">{label}</th><td>{html}</td></tr>");
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
