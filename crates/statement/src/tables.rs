//! Rows that both gateways claim, made of the tables that `dimse` acts on.

use std::time::Duration;

use base::{Status, Uid};
use dataset::Syntax;
use dimse::{
    NOT_STORAGE_SOP_CLASSES, Retry, STORAGE_SOP_CLASSES, Service, SopClass, TRANSFER_SYNTAXES,
    TransferSyntax, TransferSyntaxKind, VERIFICATION,
};

use crate::model::{ClassRow, Fact, Role, SecurityRow, SyntaxRow};

/// The SOP classes that are stored by C-STORE.
pub fn sop_classes(role: Role) -> Vec<ClassRow> {
    STORAGE_SOP_CLASSES.iter().map(|row| class(role, "sop-class", row)).collect()
}

/// The SOP classes of the standard that a storage node does not accept; those in `accepted` are left out.
pub fn refused_sop_classes(role: Role, accepted: &[&str]) -> Vec<ClassRow> {
    let refused = NOT_STORAGE_SOP_CLASSES.iter().filter(|row| !accepted.contains(&row.uid));
    refused.map(|row| class(role, "refused-sop-class", row)).collect()
}

fn class(role: Role, group: &str, row: &SopClass) -> ClassRow {
    ClassRow {
        claim: role.claim(group, row.uid),
        uid: row.uid.to_owned(),
        name: row.name.to_owned(),
        retired: row.retired,
    }
}

/// Every transfer syntax of the standard.
pub fn transfer_syntaxes(role: Role) -> Vec<SyntaxRow> {
    TRANSFER_SYNTAXES.iter().map(|row| syntax(role, row)).collect()
}

fn syntax(role: Role, row: &TransferSyntax) -> SyntaxRow {
    let pixels = match row.kind {
        TransferSyntaxKind::Uncompressed => "native",
        TransferSyntaxKind::Deflated => "native, data set deflated",
        TransferSyntaxKind::Lossless => "lossless",
        TransferSyntaxKind::Lossy => "lossy, or possibly so",
        TransferSyntaxKind::Referenced => "elsewhere, by reference",
        TransferSyntaxKind::Other => "no encoding of a stored data set",
    };
    SyntaxRow {
        claim: role.claim("transfer-syntax", row.uid),
        uid: row.uid.to_owned(),
        name: row.name.to_owned(),
        pixels: pixels.to_owned(),
        walked: Uid::parse(row.uid).is_ok_and(|uid| Syntax::of(&uid).is_some()),
    }
}

/// A name, a value and what to know of it.
pub fn fact(claim: String, name: &str, value: impl Into<String>, note: &str) -> Fact {
    Fact { claim, name: name.to_owned(), value: value.into(), note: note.to_owned() }
}

/// What both gateways say of themselves in every association.
pub fn implementation(role: Role) -> Vec<Fact> {
    let claim = |row| role.claim("association", row);
    vec![
        fact(
            claim("application-context"),
            "Application Context Name",
            dimse::APPLICATION_CONTEXT,
            "PS3.7 A.2.1",
        ),
        fact(
            claim("implementation-class-uid"),
            "Implementation Class UID",
            dimse::IMPLEMENTATION_CLASS_UID,
            "the same for every version",
        ),
        fact(
            claim("implementation-version-name"),
            "Implementation Version Name",
            dimse::IMPLEMENTATION_VERSION_NAME,
            "",
        ),
    ]
}

/// What holds for DICOM over TLS on both sides; `offered` says where.
pub fn tls(role: Role, offered: &str) -> Vec<SecurityRow> {
    let row = |row: &str, name: &str, value: String| SecurityRow {
        claim: role.claim("security", row),
        name: name.to_owned(),
        value,
    };
    vec![
        row("tls", "DICOM over TLS", offered.to_owned()),
        row(
            "tls-versions",
            "TLS versions",
            "1.3 and 1.2: BCP 195 (RFC 8996, RFC 9325) TLS profiles of PS3.15 B.12 and B.13; SSL, TLS 1.0 and 1.1 are refused"
                .to_owned(),
        ),
        row("tls-suites", "Cipher suites", dimse::cipher_suites().join(", ")),
    ]
}

/// Verification SOP Class.
pub fn verification() -> &'static str {
    VERIFICATION
}

/// The standard's words for a status that we answer.
pub fn meaning(service: Service, status: Status) -> String {
    dimse::status_row(service, status).map_or("", |row| row.meaning).to_owned()
}

/// Whether sending the same again can help after a status that we answer.
pub fn again(service: Service, status: Status) -> String {
    match dimse::retry(service, status) {
        Retry::Done => "nothing to do",
        Retry::Later => "later, as it is",
        Retry::AfterChange => "only after a change",
    }
    .to_owned()
}

/// Four hexadecimal digits.
pub fn status(status: Status) -> String {
    format!("{:04X}", status.0)
}

/// Hexadecimal digits of a range of statuses, `x` for each that is free.
pub fn status_range(code: u16, mask: u16) -> String {
    let digit = |at: u32| {
        let (code, mask) = (code >> (4 * at) & 0xF, mask >> (4 * at) & 0xF);
        if mask == 0xF { format!("{code:X}") } else { "x".to_owned() }
    };
    (0..4).rev().map(digit).collect()
}

/// `ClassMismatch` as `class-mismatch`: the last part of a claim, out of the name of an enum's variant.
pub fn key(variant: &impl std::fmt::Debug) -> String {
    let mut key = String::new();
    for (at, letter) in format!("{variant:?}").chars().take_while(char::is_ascii_alphanumeric).enumerate() {
        if letter.is_ascii_uppercase() && at > 0 {
            key.push('-');
        }
        key.push(letter.to_ascii_lowercase());
    }
    key
}

/// `Transaction UID is in use` as `transaction-uid-is-in-use`: the last part of a claim, out of a comment.
pub fn slug(comment: &str) -> String {
    let words = comment.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

/// `30 s`, `10 min`, `24 h`.
pub fn seconds(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 != 0 => format!("{ms} ms"),
        ms if ms >= 3_600_000 && ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        ms if ms >= 60_000 && ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms => format!("{} s", ms / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_statuses_has_an_x_for_each_free_digit() {
        let cases = [(0x0000, 0xFFFF, "0000"), (0xA700, 0xFF00, "A7xx"), (0xB000, 0xF000, "Bxxx")];
        for (code, mask, want) in cases {
            assert_eq!(status_range(code, mask), want);
        }
    }

    #[test]
    fn the_key_of_a_variant_is_its_name_in_lower_case() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "only printed")]
        enum Sample {
            ClassMismatch,
            RejectedPermanent { reason: u8 },
        }
        assert_eq!(key(&Sample::ClassMismatch), "class-mismatch");
        assert_eq!(key(&Sample::RejectedPermanent { reason: 1 }), "rejected-permanent");
    }

    #[test]
    fn times_have_their_unit() {
        let cases =
            [(200, "200 ms"), (1000, "1 s"), (60_000, "1 min"), (90_000, "90 s"), (86_400_000, "24 h")];
        for (ms, want) in cases {
            assert_eq!(seconds(Duration::from_millis(ms)), want);
        }
    }

    #[test]
    fn every_class_is_either_claimed_or_refused() {
        let (claimed, refused) =
            (sop_classes(Role::GatewayOut), refused_sop_classes(Role::GatewayOut, &[VERIFICATION]));
        assert_eq!(
            claimed.len() + refused.len() + 1,
            STORAGE_SOP_CLASSES.len() + NOT_STORAGE_SOP_CLASSES.len()
        );
        assert!(refused.iter().all(|row| claimed.iter().all(|other| other.uid != row.uid)));
    }
}
