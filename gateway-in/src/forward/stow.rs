//! What the answer of a DICOM web service to a Store transaction means (PS3.18 §10.5.3, RFC 9110 §15): the one place where an HTTP
//! status becomes a C-STORE status, for [`super::verdict`] to judge, or a reason to try again.
//!
//! Only what the response says of this instance, by its UID, makes it stored. Statuses say what is wrong with requests, and most of
//! what is wrong with requests is somebody's to mend, not the instance's fault; so an instance is refused by a status alone
//! where it says that it is about what was sent (413, 415), and deferred by all others.

use base::Status;
use dimse::Service;
use stow::Said;

use super::{DUPLICATE_SOP_INSTANCE, StatusOverrides, Verdict, of_retry};

/// The body is larger than the service takes. Within "cannot understand" (Cxxx) of PS3.4 Table B.2-1, since nothing but
/// another size or another limit helps.
pub const TOO_LARGE: Status = Status(0xC413);
/// Referenced transfer syntax not supported: a Failure Reason of PS3.18 Annex I.
pub const NOT_SUPPORTED: Status = Status(0xC122);

/// What follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// As if a destination had answered a C-STORE so.
    Status(Status),
    /// It says nothing about the instance, which may be stored.
    Unsaid,
    /// Nothing is wrong with the instance: somebody has to mend the configuration on either side.
    Fault,
    /// Not now. Until it answers otherwise the service counts as down.
    Busy,
}

/// What a range of HTTP statuses means where the response says nothing about the instance.
#[derive(Debug, Clone, Copy)]
pub struct HttpRow {
    /// From this status,
    pub first: u16,
    /// to this one.
    pub last: u16,
    /// In words.
    pub meaning: &'static str,
    /// What follows.
    pub means: Meaning,
    /// What somebody can do about it; empty where nobody need.
    pub remedy: &'static str,
}

const fn row(
    (first, last): (u16, u16),
    meaning: &'static str,
    means: Meaning,
    remedy: &'static str,
) -> HttpRow {
    HttpRow { first, last, meaning, means, remedy }
}

/// The first row that has the status counts; the last two have all.
#[rustfmt::skip]
pub const HTTP_ROWS: &[HttpRow] = &[
    row((200, 299), "success, without a word about the instance", Meaning::Unsaid, "is `url` the root of a Studies Service?"),
    row((300, 399), "redirection", Meaning::Fault, "redirects are not followed: give as `url` where it leads to"),
    row((400, 400), "bad request", Meaning::Status(Status::PROCESSING_FAILURE), "the log of the service, or of a proxy before it, says what it cannot read"),
    row((401, 401), "unauthorized", Meaning::Fault, "the service does not take our credentials: correct `bearer`, or `user`, or the files that they name"),
    row((403, 403), "forbidden", Meaning::Fault, "the service knows us and does not let us store: give this account the right to, or an address the way"),
    row((404, 404), "not found", Meaning::Fault, "nothing is there: `url` is the root of the service, to which \"/studies\" is added"),
    row((405, 405), "method not allowed", Meaning::Fault, "nothing can be stored there: `url` is the root of the service, to which \"/studies\" is added"),
    row((406, 406), "not acceptable", Meaning::Fault, "the service has to answer in application/dicom+json"),
    row((407, 407), "proxy authentication required", Meaning::Fault, "a proxy is in the way that wants to be asked: let us pass it"),
    row((408, 408), "request timeout", Meaning::Busy, ""),
    row((409, 409), "conflict", Meaning::Status(Status::PROCESSING_FAILURE), "the log of the service says what it conflicts with"),
    row((410, 410), "gone", Meaning::Fault, "the service has gone from there: correct `url`"),
    row((411, 411), "length required", Meaning::Fault, "the service, or a proxy before it, has to take bodies in chunks"),
    row((413, 413), "content too large", Meaning::Status(TOO_LARGE), "raise the limit of the service, or of a proxy before it, and have the sender try again"),
    row((415, 415), "unsupported media type", Meaning::Status(NOT_SUPPORTED), "the service does not take DICOM in this form"),
    row((421, 421), "misdirected request", Meaning::Fault, "another service answers at `address` than the one that `url` names"),
    row((425, 425), "too early", Meaning::Busy, ""),
    row((429, 429), "too many requests", Meaning::Busy, ""),
    row((502, 502), "bad gateway", Meaning::Busy, ""),
    row((503, 503), "service unavailable", Meaning::Busy, ""),
    row((504, 504), "gateway timeout", Meaning::Busy, ""),
    row((507, 507), "insufficient storage", Meaning::Status(Status::OUT_OF_RESOURCES), "the service has no room"),
    row((500, 599), "server error", Meaning::Status(Status::PROCESSING_FAILURE), "the log of the service says what went wrong"),
    row((0, u16::MAX), "any other", Meaning::Status(Status::PROCESSING_FAILURE), "the log of the service says what went wrong"),
];

/// A warning of no kind that we know.
const WARNING: Status = Status(0xB000);

/// The row of a status.
pub fn row_of(http: u16) -> &'static HttpRow {
    let has = |row: &&HttpRow| (row.first..=row.last).contains(&http);
    #[expect(clippy::expect_used, reason = "the last row has all")]
    HTTP_ROWS.iter().find(has).expect("a row for each status")
}

/// Whether a status leaves open what became of an instance that had left as a whole: whoever says that something went wrong, often a
/// proxy, does not say that it is not stored.
pub fn leaves_open(http: u16) -> bool {
    matches!(http, 408 | 500..=502 | 504..=506 | 508..=599)
}

/// What an answer means. `is_early`: the service had not all of the instance when it gave it, so it cannot have stored it.
pub fn meaning_of(http: u16, is_early: bool, said: Said, overrides: &StatusOverrides) -> Meaning {
    let row = row_of(http);
    match (row.means, said) {
        (Meaning::Fault | Meaning::Busy, _) => row.means,
        (_, Said::Failed(reason)) => Meaning::Status(failure(reason, overrides)),
        (Meaning::Unsaid, Said::Stored(warning)) if !is_early => {
            Meaning::Status(warning.map_or(Status::SUCCESS, |code| warned(Status(code), overrides)))
        }
        // Whatever sense an operator gives to a code: the service has not said it.
        (Meaning::Status(status), _) if overrides.verdict(status) == Some(Verdict::Stored) => Meaning::Unsaid,
        (means, _) => means,
    }
}

/// A Warning Reason as a status. Of what is stored none can be refused or sent again; some services have codes of their own there, too.
fn warned(status: Status, overrides: &StatusOverrides) -> Status {
    let is_stored = of_retry(dimse::retry(Service::Store, status)) == Verdict::Stored;
    match is_stored || overrides.verdict(status).is_some() {
        true => status,
        false => WARNING,
    }
}

/// A Failure Reason as a status. A code by which a C-STORE would be stored is no such thing among failures, unless an operator has
/// written that out; some services have codes of their own there.
fn failure(reason: Option<u16>, overrides: &StatusOverrides) -> Status {
    let status = reason.map_or(Status::PROCESSING_FAILURE, Status);
    let would_be_stored =
        status != DUPLICATE_SOP_INSTANCE && of_retry(dimse::retry(Service::Store, status)) == Verdict::Stored;
    match would_be_stored && overrides.verdict(status).is_none() {
        true => Status::PROCESSING_FAILURE,
        false => status,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::forward::verdict;

    fn overrides(map: &[(&str, Verdict)]) -> StatusOverrides {
        let map = map.iter().map(|(code, verdict)| ((*code).to_owned(), *verdict));
        StatusOverrides::try_from(map.collect::<BTreeMap<_, _>>()).unwrap()
    }

    #[test]
    fn only_a_success_that_names_the_instance_is_one() {
        let none = StatusOverrides::default();
        let of = |http, said| meaning_of(http, false, said, &none);
        for http in [200, 201, 202] {
            assert_eq!(of(http, Said::Stored(None)), Meaning::Status(Status::SUCCESS));
            assert_eq!(of(http, Said::Stored(Some(0xB007))), Meaning::Status(Status(0xB007)));
            assert_eq!(
                of(http, Said::Stored(Some(0xC000))),
                Meaning::Status(Status(0xB000)),
                "a code of its own"
            );
            assert_eq!(of(http, Said::Failed(Some(0xA900))), Meaning::Status(Status(0xA900)));
            assert_eq!(of(http, Said::Nothing), Meaning::Unsaid);
        }
        // Every status, whatever is said: stored is only what a success says is stored.
        for http in 0..=1000 {
            for said in [
                Said::Nothing,
                Said::Failed(None),
                Said::Failed(Some(0)),
                Said::Failed(Some(0xB000)),
                Said::Stored(None),
            ] {
                for is_early in [false, true] {
                    let stored = match meaning_of(http, is_early, said, &none) {
                        Meaning::Status(status) => verdict(status, &none, true) == Verdict::Stored,
                        _ => false,
                    };
                    let said_so = (200..300).contains(&http) && said == Said::Stored(None) && !is_early;
                    assert_eq!(stored, said_so, "{http} {said:?} early {is_early}");
                }
            }
        }
    }

    #[test]
    fn each_status_alone_is_mended_waited_for_or_judged() {
        use Meaning::{Busy, Fault};
        use Verdict::{Deferred, Refused};
        let none = StatusOverrides::default();
        for (http, want) in [
            (301, Fault),
            (307, Fault),
            (401, Fault),
            (403, Fault),
            (404, Fault),
            (405, Fault),
            (406, Fault),
            (407, Fault),
            (410, Fault),
            (411, Fault),
            (421, Fault),
            (408, Busy),
            (425, Busy),
            (429, Busy),
            (502, Busy),
            (503, Busy),
            (504, Busy),
        ] {
            for said in [Said::Nothing, Said::Stored(None), Said::Failed(Some(0xC000))] {
                assert_eq!(meaning_of(http, false, said, &none), want, "{http}");
            }
        }
        for (http, status, want) in [
            (400, 0x0110, Deferred),
            (402, 0x0110, Deferred),
            (409, 0x0110, Deferred),
            (413, 0xC413, Refused),
            (415, 0xC122, Refused),
            (422, 0x0110, Deferred),
            (500, 0x0110, Deferred),
            (501, 0x0110, Deferred),
            (507, 0xA700, Deferred),
            (599, 0x0110, Deferred),
        ] {
            let meaning = meaning_of(http, false, Said::Nothing, &none);
            assert_eq!(meaning, Meaning::Status(Status(status)), "{http}");
            assert_eq!(verdict(Status(status), &none, true), want, "{http}");
        }
    }

    #[test]
    fn a_failure_goes_by_its_reason_and_never_for_success_unless_that_is_written_out() {
        let none = StatusOverrides::default();
        let of = |reason, overrides| meaning_of(409, false, Said::Failed(reason), overrides);
        for (reason, want) in [
            (None, 0x0110),
            (Some(0xA700), 0xA700),
            (Some(0xA900), 0xA900),
            (Some(0xC122), 0xC122),
            (Some(0x0122), 0x0122),
            (Some(0x0111), 0x0111),
            (Some(0x0000), 0x0110),
            (Some(0xB00E), 0x0110),
            (Some(0x0107), 0x0110),
            (Some(0xFE00), 0xFE00),
        ] {
            assert_eq!(of(reason, &none), Meaning::Status(Status(want)), "{reason:?}");
        }
        let written = overrides(&[("B00E", Verdict::Stored)]);
        assert_eq!(of(Some(0xB00E), &written), Meaning::Status(Status(0xB00E)));
        // What the service has not said is not stored by it.
        let odd = overrides(&[("0110", Verdict::Stored), ("Cxxx", Verdict::Stored)]);
        for http in [400, 413, 415, 500] {
            assert_eq!(meaning_of(http, false, Said::Nothing, &odd), Meaning::Unsaid, "{http}");
        }
    }

    #[test]
    fn whoever_has_to_mend_something_is_told_how() {
        for row in HTTP_ROWS {
            assert_eq!(row.remedy.is_empty(), row.means == Meaning::Busy, "{}", row.meaning);
        }
        assert!((0..=u16::MAX).all(|http| row_of(http).first <= http && http <= row_of(http).last));
    }
}
