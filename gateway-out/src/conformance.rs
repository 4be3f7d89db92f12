//! The Conformance Statement of gateway-out, made of the tables that it acts on. A new row of such a table is a new row
//! here; a new fact is one line.

mod deidentification;
mod prose;
mod settings;

use std::io::{self, Write as _};

use anyhow::{Context as _, Result, bail};
use base::Status;
use dimse::{AbortReason, CONTEXT_REJECTIONS, Service, UnreadableRequest, UnusableStore};
use service::config;
use statement::{
    AbortRow, AnswerRow, ContextRow, Fact, OutcomeRow, Policy, Product, RejectionRow, Role, SecurityRow,
    ServiceRow, Statement, Storage,
    command::{ConformanceArgs, Output},
    tables,
};

use crate::{
    answers::{ANSWER_TABLE, NOT_OFFERED},
    commitment::{
        ask::{REFUSALS, Refusal},
        report::REASONS,
    },
    config::Config,
    rejections::TurnedAway,
    user_identity::{Follows, IDENTITIES, Offered, OnIdentity},
};

const ROLE: Role = Role::GatewayOut;

/// `gateway-out conformance`.
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

fn statement(config: &Config, configured: bool) -> Statement {
    Statement {
        format: Statement::FORMAT.to_owned(),
        product: Product { role: ROLE, version: env!("CARGO_PKG_VERSION").to_owned(), configured },
        build: None,
        services: services(),
        web_services: Vec::new(),
        web: Vec::new(),
        storage: storage(),
        negotiation: negotiation(config).into_iter().chain(identities()).collect(),
        timers: timers(config),
        rejections: rejections(),
        contexts: contexts(),
        aborts: aborts(),
        answers: answers(),
        outcomes: outcomes(),
        failures: Vec::new(),
        failure_reasons: failure_reasons(),
        security: security(),
        deidentification: deidentification::rows(),
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
        scu: false,
        scp: true,
        note: note.to_owned(),
    };
    vec![
        row(
            "verification",
            "Verification",
            Some(tables::verification()),
            "C-ECHO is answered by the gateway itself, or with `echo = \"end-to-end\"` by what the destinations answer",
        ),
        row(
            "storage-commitment",
            "Storage Commitment Push Model",
            Some(dimse::STORAGE_COMMITMENT),
            "for calling AE titles with a `[[commitment]]` table; nobody else gets a presentation context",
        ),
        row("storage", "Storage", None, "every class of Table 1-1, and private ones"),
    ]
}

fn storage() -> Storage {
    Storage {
        scu: false,
        scp: true,
        sop_classes: tables::sop_classes(ROLE),
        other_sop_classes: Policy {
            claim: claim("sop-class", "other"),
            accepted: true,
            note: "SOP classes that are in no table of the standard (private ones, and those that are newer than this \
                version) are accepted as storage; `private_sop_classes = false` on a route refuses them there."
                .to_owned(),
        },
        refused_sop_classes: tables::refused_sop_classes(ROLE, &[tables::verification(), dimse::STORAGE_COMMITMENT]),
        transfer_syntaxes: tables::transfer_syntaxes(ROLE),
        other_transfer_syntaxes: Policy {
            claim: claim("transfer-syntax", "other"),
            accepted: true,
            note: "Transfer syntaxes that are in no table (private ones, and newer ones) are accepted. Data sets in \
                them are passed on without a look at their structure."
                .to_owned(),
        },
        choice: choice(),
    }
}

/// [`dimse::choose_transfer_syntax`] in words.
fn choice() -> Vec<Fact> {
    let fact = |row: &str, name: &str, value: &str| tables::fact(claim("choice", row), name, value, "");
    vec![
        fact(
            "no-loss",
            "A context that offers a lossless transfer syntax",
            "never gets a lossy one: else the sender would compress for us",
        ),
        fact("prefer", "Then", "the first of the route's `prefer` that is offered; it is empty by default"),
        fact(
            "rank",
            "Then",
            "Explicit VR Little Endian; lossless compressed; Implicit VR Little Endian; Deflated; other uncompressed \
             ones; lossy, private and unknown ones; references; the rest",
        ),
        fact("order", "Among equals", "the first one in the sender's order"),
        fact(
            "mirror",
            "`negotiate = \"mirror\"`",
            "before all that: of the transfer syntaxes offered only those that a destination of the route accepts with this SOP \
             class; a class that none accepts is no accepted one. What is not known yet is not left out",
        ),
    ]
}

fn negotiation(config: &Config) -> Vec<Fact> {
    let acceptor = config.dicom.acceptor();
    let fact = |row: &str, name: &str, value: String, note: &str| {
        tables::fact(claim("association", row), name, value, note)
    };
    let window = match acceptor.async_operations {
        1 => "1: the item is not answered, which says the same".to_owned(),
        0 => "any number".to_owned(),
        operations => operations.to_string(),
    };
    let mut facts = tables::implementation(ROLE);
    facts.extend([
        fact(
            "max-pdu",
            "Maximum PDU length announced",
            acceptor.max_pdu.to_string(),
            "bytes; 0 is no limit; `dicom.max_pdu`",
        ),
        fact(
            "async-window",
            "Asynchronous operations performed",
            window,
            "served in their order; the least of this and of what is proposed is granted; `dicom.async_operations`",
        ),
        fact(
            "role-selection",
            "SCP/SCU role selection",
            "SCU is confirmed, SCP is not".to_owned(),
            "by SOP class with an accepted context",
        ),
        fact("extended-negotiation", "SOP class extended negotiation", "not answered".to_owned(), ""),
        fact(
            "common-extended-negotiation",
            "SOP class common extended negotiation",
            "tolerated".to_owned(),
            "it has no answer",
        ),
        fact(
            "user-identity",
            "User identity",
            tables::key(&config.dicom.user_identity),
            "`dicom.user_identity`; who may send is decided by titles and addresses in any case; see 8.5",
        ),
        fact(
            "even-context-ids",
            "Presentation context ids",
            "odd ones, and even ones although PS3.8 has none".to_owned(),
            "up to 255",
        ),
        fact(
            "associations-max",
            "Associations at one time",
            config.dicom.associations_max.to_string(),
            "`dicom.associations_max`",
        ),
        fact(
            "associations-per-peer-max",
            "Of these from one address",
            config.dicom.associations_per_peer_max.to_string(),
            "`dicom.associations_per_peer_max`",
        ),
    ]);
    facts
}

/// What becomes of a user identity, by setting and item.
fn identities() -> Vec<Fact> {
    let row = |(on, offered, follows): &(OnIdentity, Offered, Follows)| {
        let key = format!("user-identity-{}-{}", tables::key(on), tables::key(offered));
        let what = match offered {
            Offered::Known => {
                "a name that `users` has, with its passcode if it has one there; any name without `users`"
            }
            Offered::Unknown => "a name that `users` does not have, or another passcode",
            Offered::Unverifiable => "a Kerberos ticket, SAML assertion or JSON Web Token",
        };
        let follows = match follows {
            Follows::Ignored => "ignored: not answered, nothing is decided by it",
            Follows::Confirmed => "accepted; a server response of length 0 where one was asked for",
            Follows::Rejected => "rejected, 1/1/1",
        };
        tables::fact(claim("association", &key), &format!("`{}`: {what}", tables::key(on)), follows, "")
    };
    IDENTITIES.iter().map(row).collect()
}

fn timers(config: &Config) -> Vec<Fact> {
    let timers = config.dicom.acceptor().timers;
    let fact = |row: &str, name: &str, time, note: &str| {
        tables::fact(claim("timer", row), name, tables::seconds(time), note)
    };
    vec![
        fact(
            "handshake",
            "From the connection to the A-ASSOCIATE-AC (ARTIM and more)",
            timers.handshake,
            "`dicom.handshake_timeout`",
        ),
        fact("idle", "Association without a message", timers.idle, "`dicom.idle_timeout`"),
        fact(
            "progress",
            "One PDU, each MiB of a longer one, one command set",
            timers.progress,
            "`dicom.progress_timeout`",
        ),
    ]
}

fn rejections() -> Vec<RejectionRow> {
    let row = |claim: String, reason: dimse::RejectReason, when: &str| {
        let rejection = reason.rejection();
        RejectionRow {
            claim,
            result: rejection.result_code(),
            source: rejection.source_code(),
            reason: rejection.reason_code(),
            meaning: rejection.meaning().to_owned(),
            when: when.to_owned(),
        }
    };
    let unreadable = UnreadableRequest::ALL.iter().map(|cause| {
        let claim = claim("rejection", &format!("unreadable-{}", tables::key(cause)));
        row(claim, cause.reason(), cause.when())
    });
    let turned_away = TurnedAway::ALL
        .iter()
        .map(|cause| row(claim("rejection", &tables::key(cause)), cause.reason(), cause.when()));
    turned_away.chain(unreadable).collect()
}

fn contexts() -> Vec<ContextRow> {
    let accepted = ContextRow {
        claim: claim("context", "acceptance"),
        result: 0,
        meaning: "acceptance".to_owned(),
        when: "a SOP class that is accepted, with at least one transfer syntax".to_owned(),
    };
    let rejected = CONTEXT_REJECTIONS.iter().map(|(rejection, when)| ContextRow {
        claim: claim("context", &tables::key(rejection)),
        result: rejection.code(),
        meaning: rejection.meaning().to_owned(),
        when: (*when).to_owned(),
    });
    std::iter::once(accepted).chain(rejected).collect()
}

fn aborts() -> Vec<AbortRow> {
    let ours = AbortRow {
        claim: claim("abort", "service-user"),
        source: 0,
        reason: 0,
        meaning: "service user".to_owned(),
        when: "the gateway is stopping, and no message is under way".to_owned(),
    };
    let provider = AbortReason::ALL.iter().map(|reason| AbortRow {
        claim: claim("abort", &tables::key(reason)),
        source: 2,
        reason: reason.code(),
        meaning: reason.meaning().to_owned(),
        when: reason.when().to_owned(),
    });
    std::iter::once(ours).chain(provider).collect()
}

fn answers() -> Vec<AnswerRow> {
    let row = |service: Service,
               operation: &str,
               key: String,
               status: Status,
               comment: Option<&str>,
               when: &str| AnswerRow {
        claim: claim("answer", &key),
        operation: operation.to_owned(),
        status: tables::status(status),
        comment: comment.map(str::to_owned),
        meaning: tables::meaning(service, status),
        when: when.to_owned(),
        again: tables::again(service, status),
    };
    let echo =
        |key: &str, status, when: &str| row(Service::Echo, "C-ECHO", key.to_owned(), status, None, when);
    let echoes = [
        echo(
            "echo",
            Status::SUCCESS,
            "the gateway runs; with `echo = \"end-to-end\"` each destination has answered one",
        ),
        echo(
            "echo-failed",
            Status::PROCESSING_FAILURE,
            "`echo = \"end-to-end\"`: a destination of the AE title did not answer one within `echo_timeout`",
        ),
    ];
    let stored = ANSWER_TABLE.iter().map(|answer| {
        row(Service::Store, "C-STORE", tables::key(&answer.cause), answer.status, answer.comment, answer.when)
    });
    let unusable = UnusableStore::ALL.iter().map(|cause| {
        let key = format!("unusable-{}", tables::key(cause));
        row(Service::Store, "C-STORE", key, cause.status(), Some(cause.comment()), cause.when())
    });
    let when = "any request but those above, in whatever presentation context";
    let other = row(Service::Store, "other", "other-operation".to_owned(), NOT_OFFERED, None, when);
    let asked = row(
        Service::Action,
        "N-ACTION",
        "action-taken".to_owned(),
        Status::SUCCESS,
        None,
        "the request is on disk",
    );
    let refused = REFUSALS.iter().map(|Refusal(status, comment)| {
        let key = format!("action-{}", tables::slug(comment));
        row(Service::Action, "N-ACTION", key, Status(*status), Some(comment), "as the comment says")
    });
    let mut rows = echoes.to_vec();
    rows.extend(stored.chain(unusable).chain([asked]).chain(refused));
    rows.push(other);
    rows.push(passed_on());
    rows
}

/// [`dimse::retry`] decides.
fn outcomes() -> Vec<OutcomeRow> {
    let row = |key: &str, status: &str, meaning: &str, follows: &str| OutcomeRow {
        claim: claim("outcome", key),
        operation: "N-EVENT-REPORT".to_owned(),
        status: status.to_owned(),
        meaning: meaning.to_owned(),
        follows: follows.to_owned(),
    };
    vec![
        row("report-done", "0000", "success, and warnings", "the transaction is closed"),
        row(
            "report-failed",
            "any other",
            "or no association, no context, no answer",
            "reported again, after a wait that grows, until it is answered or an operator gives the transaction up",
        ),
    ]
}

fn failure_reasons() -> Vec<Fact> {
    let row = |(reason, when): &(dimse::FailureReason, &str)| {
        let code = tables::status(Status(reason.code()));
        tables::fact(claim("failure-reason", &code), &code, reason.meaning(), when)
    };
    REASONS.iter().map(row).collect()
}

/// `respond = "delivered"`: no row of ours.
fn passed_on() -> AnswerRow {
    AnswerRow {
        claim: claim("answer", "passed-on"),
        operation: "C-STORE".to_owned(),
        status: "any".to_owned(),
        comment: None,
        meaning: "as the destination means it".to_owned(),
        when: "`respond = \"delivered\"`: the destination has stored or refused the instance; its own status is passed on, \
            without its comment"
            .to_owned(),
        again: "as the status says".to_owned(),
    }
}

fn security() -> Vec<SecurityRow> {
    let row = |row: &str, name: &str, value: &str| SecurityRow {
        claim: claim("security", row),
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let offered = "on a port of its own, `dicom.tls.listen`, beside the one without TLS or instead of it; off by default";
    let mut rows = tables::tls(ROLE, offered);
    rows.extend([
        row(
            "tls-client-certificates",
            "Certificates of peers",
            "required, of one of the authorities in `dicom.tls.clients` and of no other; any name, since a certificate is \
             bound to no AE title: titles and addresses are checked by themselves",
        ),
        row(
            "tls-report",
            "Reports of storage commitment",
            "over TLS where the `[[commitment]]` has `tls`: the peer's certificate has to be of its `ca` and to have its \
             `name`, by default the address; `\"*\"` is any; ours is shown",
        ),
        row(
            "tls-renewal",
            "Renewed certificates",
            "taken over by a reload, for associations from then on; files that cannot be used change nothing",
        ),
        row("plain-port", "A TLS client hello at the port without TLS", "is answered by A-ABORT"),
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
