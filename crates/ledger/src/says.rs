use base::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::receipt::{Destination, Level, Outcome, Party, Receipt, Remark};

impl Receipt {
    /// What the receipt says, field by field, for a file and a screen. None of it is patient data. Once published, a
    /// text here is part of the format of receipt files.
    pub fn says(&self) -> Vec<(&'static str, String)> {
        let party = |p: &Party| format!("{} {}", p.name, p.fingerprint);
        let outcome = match self.outcome {
            Outcome::Stored => "stored",
            Outcome::Refused => "refused",
        };
        let destination = match &self.kind {
            Destination::Dicom(ae) => format!("{} (AE {ae})", self.destination),
            Destination::Folder => format!("{} (folder)", self.destination),
            Destination::Stow(url) => format!("{} (STOW-RS {url})", self.destination),
        };
        let level = match self.level {
            Level::Answered => "1 (the destination answered)",
            Level::Awaited => "1 (the destination answered; it is asked to commit)",
            Level::Committed => match self.outcome {
                Outcome::Stored => "2 (the destination committed)",
                Outcome::Refused => "2 (the destination does not commit)",
            },
        };
        let remark = match self.remark {
            None => "none",
            Some(Remark::AlreadyThere) => "an identical file was there already",
            Some(Remark::Numbered) => "another file of this instance was there; this one is numbered",
            Some(Remark::Repeated) => "an earlier attempt had an unknown outcome",
            Some(Remark::NotReencoded) => "refused by the receiver, which could not re-encode it",
            Some(Remark::NotCoerced) => "refused by the receiver, which could not coerce it",
            Some(Remark::Unanswered) => "the destination did not say in time whether it commits",
        };
        let mut says = vec![
            ("outcome", outcome.to_owned()),
            ("status", self.status.to_string()),
            ("destination", destination),
            ("sender", party(&self.sender)),
            ("receiver", party(&self.receiver)),
            ("received_at", rfc3339(self.received_at)),
            ("answered_at", rfc3339(self.answered_at)),
            ("level", level.to_owned()),
            ("remark", remark.to_owned()),
            ("sop_class", self.sop_class.to_string()),
            ("uid_hash", self.uid_hash.to_string()),
            ("delivery", self.delivery.to_string()),
            ("attempt", self.attempt.to_string()),
            ("object", self.object.to_string()),
            ("data_bytes", self.data_bytes.to_string()),
            ("data_sha256", self.data_digest.to_string()),
            ("body_sha256", self.body_digest.to_string()),
        ];
        if let Some(changed) = &self.changed {
            says.extend([
                ("received_syntax", changed.received_syntax.to_string()),
                ("stored_syntax", changed.stored_syntax.to_string()),
                ("received_bytes", changed.received_bytes.to_string()),
                ("received_sha256", changed.received_digest.to_string()),
                (
                    "coercion",
                    changed.rules.map_or_else(|| "none".to_owned(), |rules| format!("rules {rules}")),
                ),
            ]);
        }
        says
    }
}

/// UTC with milliseconds; a time that no calendar holds is shown as its number.
fn rfc3339(time: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.0) * 1_000_000)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} ms since 1970", time.0))
}
