//! What a destination of the kind `stow` can notice: requests of the Store transaction, and what follows from its answers.

use statement::{Fact, OutcomeRow, WebServiceRow, tables};
use stow::limits::{BODY_BYTES_MAX, RETRY_AFTER_MAX};

use super::{claim, follows};
use crate::{
    config::DestinationTable,
    forward::{
        StatusOverrides,
        stow::{HTTP_ROWS, HttpRow, Meaning, leaves_open},
        verdict,
    },
};

const OPERATION: &str = "Store Instances";

pub(super) fn services() -> Vec<WebServiceRow> {
    vec![WebServiceRow {
        claim: claim("web", "store"),
        service: "Studies Service".to_owned(),
        transaction: "Store Instances (STOW-RS)".to_owned(),
        user_agent: true,
        origin_server: false,
        note: "whatever SOP class and transfer syntax the instance has; destinations of the kind `stow`"
            .to_owned(),
    }]
}

/// Numbers that are a destination's own come from its defaults.
pub(super) fn requests(defaults: &DestinationTable) -> Vec<Fact> {
    let fact =
        |row: &str, name: &str, value: &str, note: &str| tables::fact(claim("web", row), name, value, note);
    vec![
        fact("resource", "Method, resource", "POST, /studies below `url`", "HTTP/1.1"),
        fact(
            "content-type",
            "Content-Type",
            "multipart/related; type=\"application/dicom\"",
            "one part, which is one instance as a PS3.10 file with a file meta information of ours; its own media type is \
             application/dicom without a parameter, since the file says its transfer syntax",
        ),
        fact(
            "accept",
            "Accept",
            "application/dicom+json",
            "an answer in another form counts as one without a body",
        ),
        fact(
            "transfer-syntax",
            "Transfer syntax",
            "the one in which the instance came",
            "nothing is asked before; what the service does not take it refuses",
        ),
        fact(
            "framing",
            "Length of a body",
            "Content-Length up to `verify_first`; larger and coerced ones in chunks",
            "Transfer-Encoding: chunked (RFC 9112 §7.1)",
        ),
        fact(
            "end",
            "End of a body",
            "leaves only after the whole instance has verified",
            "the last piece of the data set, the closing boundary and the last chunk; on any failure before, the connection is reset",
        ),
        fact(
            "connections-max",
            "Connections at one time with one destination",
            &defaults.max_associations.to_string(),
            "one request at a time on each; never shared by two senders; studies are spread over them; `max_associations`",
        ),
        fact(
            "credentials",
            "Authorization",
            "none, Bearer (RFC 6750) or Basic (RFC 7617)",
            "`bearer`, `user`; never without TLS but to a loopback address; read again on a reload",
        ),
        fact("redirects", "Redirects", "not followed", "the instance waits at its sender"),
        fact(
            "answer-max",
            "Longest answer that is read",
            &format!("{} KiB", BODY_BYTES_MAX / 1024),
            "a longer one counts as one without a body",
        ),
        fact(
            "retry-after",
            "Retry-After",
            &format!("in seconds, up to {} s", RETRY_AFTER_MAX.as_secs()),
            "with an answer after which the service counts as down; a date is not read",
        ),
        fact(
            "probe",
            "Question whether it is there",
            "the same POST, of a body without a part",
            "of one that is down every `probe_every`, and on `echo`; nothing is queried",
        ),
    ]
}

pub(super) fn outcomes() -> Vec<OutcomeRow> {
    let row = |key: &str, status: &str, meaning: &str, follows: String| OutcomeRow {
        claim: claim("outcome", key),
        operation: OPERATION.to_owned(),
        status: status.to_owned(),
        meaning: meaning.to_owned(),
        follows,
    };
    let mut rows = vec![
        row(
            "stow-stored",
            "2xx",
            "success, with the instance in Referenced SOP Sequence (0008,1199)",
            "as the status in its Warning Reason (0008,1196) in Table C-STORE; 0000 without one".to_owned(),
        ),
        row(
            "stow-failed",
            "2xx, 4xx, 5xx",
            "the instance is in Failed SOP Sequence (0008,1198), or there is an Other Failures Sequence (0008,119A)",
            "as the status in its Failure Reason (0008,1197) in Table C-STORE, and never stored; 0110 without one".to_owned(),
        ),
    ];
    rows.extend(HTTP_ROWS.iter().map(|http| {
        let key = match http.last {
            u16::MAX => "http-other".to_owned(),
            last if last == http.first => format!("http-{last}"),
            _ => format!("http-{}xx", http.first / 100),
        };
        row(
            &key,
            &codes(http),
            &format!("{}, and nothing said of the instance", http.meaning),
            if leaves_open(http.first) { what_follows(Meaning::Unsaid) } else { what_follows(http.means) },
        )
    }));
    rows
}

fn codes(http: &HttpRow) -> String {
    match (http.first, http.last) {
        (_, u16::MAX) => "any other".to_owned(),
        (first, last) if first == last => first.to_string(),
        (first, _) => format!("{}xx", first / 100),
    }
}

fn what_follows(means: Meaning) -> String {
    match means {
        Meaning::Status(status) => {
            let verdict = verdict(status, &StatusOverrides::default(), false);
            format!("as status {}: {}", tables::status(status), follows(verdict))
        }
        Meaning::Unsaid => "deferred: the instance may be stored, and is sent again".to_owned(),
        Meaning::Fault => {
            "deferred: sent again at the slowest pace, and the sender is told that somebody has to act"
                .to_owned()
        }
        Meaning::Busy => {
            "deferred; the service counts as down until it answers a body without a part otherwise".to_owned()
        }
    }
}
