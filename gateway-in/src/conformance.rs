//! The Conformance Statement of gateway-in, made of the tables that it acts on. A new row of such a table is a new row
//! here; a new fact is one line.

mod commitment;
mod prose;
mod settings;
mod web;

use std::io::{self, Write as _};

use anyhow::{Context as _, Result, bail};
use dimse::limits::{CONTEXTS_MAX, MAX_PDU_DEFAULT};
use service::config;
use statement::{
    Fact, FailureRow, OutcomeRow, Policy, Product, Role, SecurityRow, ServiceRow, Statement, Storage,
    command::{ConformanceArgs, Output},
    tables,
};

use crate::{
    change,
    config::{Config, DestinationTable, Kind},
    destination::NotAnswered,
    forward::{self, StatusOverrides, Verdict},
};

const ROLE: Role = Role::GatewayIn;

/// `gateway-in conformance`.
pub(crate) fn command(args: &ConformanceArgs) -> Result<()> {
    let statement = match args.config() {
        Some(path) => of_an_installation(&config::load::<Config>(path, config::ENVIRONMENT_PREFIX)?.config),
        None => of_the_product(),
    };
    let Output { text, refused } = args.output(statement)?;
    match io::stdout().write_all(text.as_bytes()) {
        // A pager that was left has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error).context("cannot write"),
        _ => {}
    }
    if refused > 0 {
        bail!("something of {refused} SOP classes will be refused");
    }
    Ok(())
}

/// Of the product, with the defaults of its configuration.
pub fn of_the_product() -> Statement {
    statement(&settings::defaults(), false)
}

/// Of one installation.
pub fn of_an_installation(config: &Config) -> Statement {
    statement(config, true)
}

/// Numbers that are a destination's own come from its defaults, since there may be many.
fn statement(config: &Config, configured: bool) -> Statement {
    let defaults = settings::defaults();
    let dicom = defaults.destinations.iter().find(|table| table.kind == Kind::Dicom);
    Statement {
        format: Statement::FORMAT.to_owned(),
        product: Product { role: ROLE, version: env!("CARGO_PKG_VERSION").to_owned(), configured },
        build: None,
        services: services(),
        web_services: web::services(),
        web: dicom.map(web::requests).unwrap_or_default(),
        storage: storage(),
        negotiation: dicom.map(negotiation).unwrap_or_default(),
        timers: dicom.map(timers).unwrap_or_default(),
        rejections: commitment::rejections(),
        contexts: commitment::contexts(),
        aborts: Vec::new(),
        answers: commitment::answers(),
        outcomes: outcomes(),
        failures: failures(),
        failure_reasons: commitment::failure_reasons(),
        deidentification: Vec::new(),
        security: security(),
        settings: settings::rows(config, configured),
        entities: if configured { settings::entities(config) } else { Vec::new() },
        prose: prose::prose(config),
    }
}

fn claim(group: &str, row: &str) -> String {
    ROLE.claim(group, row)
}

fn services() -> Vec<ServiceRow> {
    let row = |row: &str, service: &str, sop_class: Option<&str>, note: &str| ServiceRow {
        claim: claim("service", row),
        service: service.to_owned(),
        sop_class: sop_class.map(str::to_owned),
        scu: true,
        scp: false,
        note: note.to_owned(),
    };
    let verification = Some(tables::verification());
    vec![
        row(
            "verification",
            "Verification",
            verification,
            "a destination that is down is asked by C-ECHO until it answers; one that a sender's C-ECHO is meant for, each time",
        ),
        row("storage", "Storage", None, "whatever SOP class the instance has"),
        row(
            "storage-commitment",
            "Storage Commitment Push Model",
            Some(dimse::STORAGE_COMMITMENT),
            "destinations with `means = \"committed\"`; off by default",
        ),
    ]
}

fn storage() -> Storage {
    Storage {
        scu: true,
        scp: false,
        sop_classes: tables::sop_classes(ROLE),
        other_sop_classes: Policy {
            claim: claim("sop-class", "other"),
            accepted: true,
            note: "Private SOP classes, and those that are newer than this version, are proposed by their UID when an \
                instance of them comes."
                .to_owned(),
        },
        refused_sop_classes: Vec::new(),
        transfer_syntaxes: tables::transfer_syntaxes(ROLE),
        other_transfer_syntaxes: Policy {
            claim: claim("transfer-syntax", "other"),
            accepted: true,
            note: "Private transfer syntaxes, and newer ones, are proposed by their UID when an instance in them comes."
                .to_owned(),
        },
        choice: vec![tables::fact(
            claim("choice", "as-received"),
            "Proposed",
            "the transfer syntax in which the instance came, and no other",
            "one presentation context for each pair of SOP class and transfer syntax",
        ), tables::fact(
            claim("choice", "reencoded"),
            "With `reencode = \"syntax-only\"`",
            "Implicit VR, Explicit VR and Deflated Explicit VR Little Endian are proposed for each other",
            "the one in which the instance came is used where it is accepted; else Explicit before Deflated before Implicit",
        )],
    }
}

fn negotiation(table: &DestinationTable) -> Vec<Fact> {
    let fact = |row: &str, name: &str, value: String, note: &str| {
        tables::fact(claim("association", row), name, value, note)
    };
    let mut facts = tables::implementation(ROLE);
    facts.extend([
        fact("max-pdu", "Maximum PDU length announced", MAX_PDU_DEFAULT.to_string(), "bytes"),
        fact(
            "max-pdu-sent",
            "Longest PDU sent",
            table.max_pdu.to_string(),
            "bytes; the destination's own limit, if that is less; `max_pdu`",
        ),
        fact(
            "contexts-max",
            "Presentation contexts proposed",
            format!("up to {CONTEXTS_MAX}"),
            "those that came lately for this destination; ids are odd",
        ),
        fact("syntaxes", "Transfer syntaxes in a presentation context", "1".to_owned(), ""),
        fact(
            "async-window",
            "Asynchronous operations window",
            table
                .async_operations
                .map_or_else(|| "not proposed".to_owned(), |operations| format!("{operations}:1")),
            "one operation at a time in any case; `async_operations`",
        ),
        fact(
            "probes",
            "Associations that ask what is accepted",
            "at most once a day, one at a time, and on an operator's `probe`".to_owned(),
            "under the calling AE title of the sending; contexts are proposed and nothing is sent; only where a sender mirrors \
             the answer; `probe`",
        ),
        fact("role-selection", "SCP/SCU role selection", "not proposed".to_owned(), "SCU by default"),
        fact(
            "role-selection-accepted",
            "SCP/SCU role selection of a destination that reports storage commitment",
            "SCU 0, SCP 1 accepted".to_owned(),
            "it may report without it, too",
        ),
        fact(
            "extended-negotiation",
            "SOP class extended and common extended negotiation",
            "not proposed".to_owned(),
            "",
        ),
        fact(
            "user-identity",
            "User identity",
            table.user.as_ref().map_or("not proposed", |_| "proposed").to_owned(),
            "a name, with or without passcode, where `user` is configured; no positive response is asked for",
        ),
        fact(
            "associations-max",
            "Associations at one time with one destination",
            table.max_associations.to_string(),
            "studies are spread over them; `max_associations`",
        ),
    ]);
    facts
}

fn timers(table: &DestinationTable) -> Vec<Fact> {
    let fact = |row: &str, name: &str, time, note: &str| {
        tables::fact(claim("timer", row), name, tables::seconds(time), note)
    };
    vec![
        fact("connect", "Connection and association handshake", table.connect_timeout.0, "`connect_timeout`"),
        fact("response", "Wait for a C-STORE-RSP", table.response_timeout.0, "`response_timeout`"),
        fact(
            "linger",
            "An idle association is released after",
            table.linger.0,
            "`linger`; earlier where another study wants one",
        ),
        fact(
            "probe",
            "A destination that is down is asked by C-ECHO every",
            table.probe_every.0,
            "`probe_every`",
        ),
    ]
}

fn outcomes() -> Vec<OutcomeRow> {
    let row = |key: &str, status: String, meaning: &str, follows: String| OutcomeRow {
        claim: claim("outcome", key),
        operation: "C-STORE".to_owned(),
        status,
        meaning: meaning.to_owned(),
        follows,
    };
    let mut rows: Vec<OutcomeRow> = forward::status_rows()
        .map(|known| {
            let status = tables::status_range(known.code, known.mask);
            row(&status.clone(), status, known.meaning, follows(forward::of_retry(known.retry)))
        })
        .collect();
    let duplicate = forward::DUPLICATE_SOP_INSTANCE;
    let verdict = |may_be_stored| forward::verdict(duplicate, &StatusOverrides::default(), may_be_stored);
    rows.push(row("0111", tables::status(duplicate), forward::meaning(duplicate), follows(verdict(false))));
    rows.push(row(
        "0111-again",
        tables::status(duplicate),
        "the same after an attempt whose answer never came",
        follows(verdict(true)),
    ));
    let unlisted = base::Status(0xFE00);
    rows.push(row(
        "unlisted",
        "any other".to_owned(),
        forward::meaning(unlisted),
        follows(forward::verdict(unlisted, &StatusOverrides::default(), false)),
    ));
    rows.push(OutcomeRow {
        claim: claim("outcome", "echo"),
        operation: "C-ECHO".to_owned(),
        status: "any".to_owned(),
        meaning: "the destination answers".to_owned(),
        follows: "it counts as up, and instances are sent again".to_owned(),
    });
    rows.extend(commitment::outcomes());
    rows.extend(web::outcomes());
    rows
}

fn follows(verdict: Verdict) -> String {
    match verdict {
        Verdict::Stored => "stored: a receipt ends the sender's custody",
        Verdict::Refused => {
            "refused: never sent again by itself; the sender keeps the instance for its operator"
        }
        Verdict::Deferred => "deferred: sent again, after a wait that grows",
    }
    .to_owned()
}

fn failures() -> Vec<FailureRow> {
    let row = |key: &str, what: String, follows: &str| FailureRow {
        claim: claim("failure", key),
        what,
        follows: follows.to_owned(),
    };
    let deferred = "deferred: sent again, after a wait that grows";
    let mut rows: Vec<FailureRow> = NotAnswered::KINDS
        .iter()
        .filter(|why| **why != NotAnswered::Folder)
        .map(|why| row(&tables::key(why), without_codes(&why.to_string()), deferred))
        .collect();
    rows.push(row(
        "context-not-accepted",
        "the destination accepts no presentation context for SOP class and transfer syntax".to_owned(),
        "refused, as by status 0122",
    ));
    let own = |status: base::Status| {
        format!(
            "refused with status {}, which `status` gives no other sense; the destination gets no complete data set",
            tables::status(status)
        )
    };
    rows.push(row(
        "not-reencoded",
        "the instance cannot be re-encoded as the destination needs it: a private element would lose its value representation, \
         or its structure cannot be read"
            .to_owned(),
        &own(change::NOT_REENCODED),
    ));
    rows.push(row(
        "not-coerced",
        "the instance cannot be coerced as it is configured: a value would become too long, or its structure cannot be read"
            .to_owned(),
        &own(change::NOT_COERCED),
    ));
    rows.push(row(
        "incomplete",
        "the instance does not arrive whole at the gateway, or does not verify".to_owned(),
        "the association is aborted, or the connection reset, before the last fragment of the data set, if anything of it was \
         sent; the sender sends it again",
    ));
    rows.extend(commitment::failures());
    rows
}

/// The kinds of [`NotAnswered::KINDS`] have codes for the sake of having some.
fn without_codes(text: &str) -> String {
    text.split(" (").next().unwrap_or_default().to_owned()
}

fn security() -> Vec<SecurityRow> {
    let row = |row: &str, name: &str, value: &str| SecurityRow {
        claim: claim("security", row),
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let mut rows = tables::tls(ROLE, "to each destination that has `tls`; off by default");
    rows.extend([
        row(
            "tls-certificates",
            "Certificates of destinations",
            "required, of one of the authorities in `tls.ca` and of no other, with `tls.name` among its subject \
             alternative names (default: the address that is called; `\"*\"` is any); ours is shown where it is asked for",
        ),
        row(
            "tls-refused",
            "A destination whose certificate is refused, or that refuses ours",
            "gets nothing, and counts as one that cannot be reached",
        ),
        row(
            "tls-renewal",
            "Renewed certificates",
            "taken over by a reload, for associations from then on; files that cannot be used change nothing",
        ),
        row("plain", "A destination without `tls`", "is called without TLS"),
        row(
            "https",
            "A web service with an https URL",
            "is called over TLS as above, by the name in its URL; it need not ask for our certificate",
        ),
    ]);
    rows
}

#[cfg(test)]
mod tests {
    use statement::{html, markdown};

    use super::*;

    #[test]
    fn the_committed_statement_is_the_rendered_one() {
        let statement = of_the_product();
        let document = statement.document();
        let forms = [
            ("md", markdown::render(&document)),
            ("html", html::render(&document)),
            ("json", statement.json()),
        ];
        for (form, rendered) in forms {
            let file = format!("{}/../conformance/statement/{ROLE}.{form}", env!("CARGO_MANIFEST_DIR"));
            let committed = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(committed == rendered, "{file} is another one: run conformance/statement/refresh");
        }
    }

    #[test]
    fn no_two_rows_have_one_claim() {
        let value = serde_json::to_value(of_the_product()).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let mut left = vec![&value];
        while let Some(value) = left.pop() {
            if let Some(claim) = value.get("claim").and_then(serde_json::Value::as_str) {
                assert!(seen.insert(claim.to_owned()), "{claim}");
            }
            left.extend(value.as_array().into_iter().flatten());
            left.extend(value.as_object().into_iter().flat_map(|fields| fields.values()));
        }
        assert!(seen.len() > 200);
    }
}
