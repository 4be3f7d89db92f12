//! What becomes of a User Identity item (PS3.7 D.3.3.7): one table, by which the DICOM ports act and which the Conformance
//! Statement shows.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt, path::Path};

use base::Secret;
use dimse::{UserIdentity, UserIdentityKind};
use serde::{Deserialize, Serialize};

/// `[dicom] user_identity`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnIdentity {
    /// As if none had come.
    #[default]
    Ignored,
    /// Names, with or without passcode, are accepted: those in `users`, or any where there is no such file.
    Accepted,
    /// An association with one is rejected.
    Refused,
}

/// What an item is, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Offered {
    /// A name that is taken, with its passcode where it has one.
    Known,
    /// A name that is in no line of `users`, or has another passcode there.
    Unknown,
    /// A Kerberos ticket, a SAML assertion, a JSON Web Token: nobody here can verify it.
    Unverifiable,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Follows {
    /// Nothing is decided by it, and nothing answered.
    Ignored,
    /// Accepted, and confirmed where a positive response was asked for.
    Confirmed,
    /// The association is rejected.
    Rejected,
}

/// All of it.
#[rustfmt::skip]
pub(crate) const IDENTITIES: &[(OnIdentity, Offered, Follows)] = &[
    (OnIdentity::Ignored, Offered::Known, Follows::Ignored),
    (OnIdentity::Ignored, Offered::Unknown, Follows::Ignored),
    (OnIdentity::Ignored, Offered::Unverifiable, Follows::Ignored),
    (OnIdentity::Accepted, Offered::Known, Follows::Confirmed),
    (OnIdentity::Accepted, Offered::Unknown, Follows::Rejected),
    (OnIdentity::Accepted, Offered::Unverifiable, Follows::Rejected),
    (OnIdentity::Refused, Offered::Known, Follows::Rejected),
    (OnIdentity::Refused, Offered::Unknown, Follows::Rejected),
    (OnIdentity::Refused, Offered::Unverifiable, Follows::Rejected),
];

/// Who is known, and what follows from the others.
#[derive(Debug, Default)]
pub struct IdentityRule {
    on: OnIdentity,
    users: Option<Users>,
}

/// By name; with a passcode, where one is asked for.
type Users = HashMap<Vec<u8>, Option<Secret<Vec<u8>>>>;

/// Why `users` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It is not there, for instance.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Others may read it.
    #[error("others may read it (mode {0:04o}); passcodes belong to the daemon alone: chmod 600")]
    Exposed(u32),
    /// Too long.
    #[error("longer than {USERS_BYTES_MAX} bytes")]
    TooLong,
    /// No text.
    #[error("not UTF-8")]
    Text,
    /// A line without a name, or a name twice.
    #[error("line {0} has no name, or one that another line has")]
    Line(usize),
}

const USERS_BYTES_MAX: u64 = 1 << 20;

impl IdentityRule {
    /// Reads `users`: a line for each, `NAME` or `NAME:PASSCODE`; empty lines and those that begin with `#` are skipped.
    pub fn read(on: OnIdentity, users: Option<&Path>) -> Result<Self, UsersError> {
        let Some(path) = users else { return Ok(Self { on, users: None }) };
        let metadata = fs::metadata(path)?;
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(UsersError::Exposed(mode));
        }
        if metadata.len() > USERS_BYTES_MAX {
            return Err(UsersError::TooLong);
        }
        let bytes = Secret::new(fs::read(path)?);
        let text = std::str::from_utf8(bytes.expose()).map_err(|_| UsersError::Text)?;
        let mut known = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, passcode) = match line.split_once(':') {
                Some((name, passcode)) => (name, Some(Secret::new(passcode.as_bytes().to_vec()))),
                None => (line, None),
            };
            if name.is_empty() || known.insert(name.as_bytes().to_vec(), passcode).is_some() {
                return Err(UsersError::Line(number));
            }
        }
        Ok(Self { on, users: Some(known) })
    }

    /// The server response for the A-ASSOCIATE-AC, which is empty for names (PS3.7 Table D.3-15); or `Err`: it is rejected.
    pub fn answer(&self, identity: Option<&UserIdentity>) -> Result<Option<Vec<u8>>, NotTaken> {
        let Some(identity) = identity else { return Ok(None) };
        match follows(self.on, self.offered(identity)) {
            Follows::Ignored => Ok(None),
            Follows::Confirmed => Ok(Some(Vec::new())),
            Follows::Rejected => Err(NotTaken),
        }
    }

    fn offered(&self, identity: &UserIdentity) -> Offered {
        let passcode = match identity.kind {
            UserIdentityKind::Name => None,
            UserIdentityKind::NameAndPasscode => Some(identity.secondary.expose()),
            UserIdentityKind::KerberosTicket
            | UserIdentityKind::SamlAssertion
            | UserIdentityKind::JsonWebToken => return Offered::Unverifiable,
        };
        let Some(users) = &self.users else { return Offered::Known };
        let is_right = match users.get(identity.primary.expose()) {
            None => false,
            Some(None) => true,
            Some(Some(known)) => passcode.is_some_and(|passcode| same(passcode, known.expose())),
        };
        if is_right { Offered::Known } else { Offered::Unknown }
    }
}

/// A user identity that is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotTaken;

fn follows(on: OnIdentity, offered: Offered) -> Follows {
    let mut rows = IDENTITIES.iter();
    let row = rows.find(|(setting, what, _)| (*setting, *what) == (on, offered));
    row.map_or(Follows::Rejected, |(_, _, follows)| *follows)
}

/// In a time that does not tell how much of it was right.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differs = one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b));
    one.len() == other.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn identity(kind: UserIdentityKind, name: &str, passcode: &str) -> UserIdentity {
        UserIdentity {
            kind,
            positive_response_requested: true,
            primary: Secret::new(name.as_bytes().to_vec()),
            secondary: Secret::new(passcode.as_bytes().to_vec()),
        }
    }

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn the_table_has_each_case_once() {
        for on in [OnIdentity::Ignored, OnIdentity::Accepted, OnIdentity::Refused] {
            for offered in [Offered::Known, Offered::Unknown, Offered::Unverifiable] {
                let rows = IDENTITIES.iter().filter(|(setting, what, _)| (*setting, *what) == (on, offered));
                assert_eq!(rows.count(), 1, "{on:?} {offered:?}");
            }
        }
    }

    #[test]
    fn a_name_counts_with_the_passcode_that_it_has() {
        use UserIdentityKind::{JsonWebToken, KerberosTicket, Name, NameAndPasscode, SamlAssertion};
        let (_dir, path) = file("# who may send\n\nct1\nct2:over:there\n", 0o600);
        let rule = IdentityRule::read(OnIdentity::Accepted, Some(&path)).unwrap();
        let cases = [
            (Name, "ct1", "", true),
            (NameAndPasscode, "ct1", "anything", true),
            (Name, "ct2", "", false),
            (NameAndPasscode, "ct2", "over:there", true),
            (NameAndPasscode, "ct2", "over:ther", false),
            (NameAndPasscode, "ct2", "over:there!", false),
            (NameAndPasscode, "ct2", "", false),
            (Name, "ct3", "", false),
            (Name, "# who may send", "", false),
            (KerberosTicket, "ct1", "", false),
            (SamlAssertion, "ct1", "", false),
            (JsonWebToken, "ct1", "", false),
        ];
        for (kind, name, passcode, taken) in cases {
            let answer = rule.answer(Some(&identity(kind, name, passcode)));
            assert_eq!(answer, if taken { Ok(Some(Vec::new())) } else { Err(NotTaken) }, "{kind:?} {name}");
        }
        assert_eq!(
            rule.answer(None),
            Ok(None),
            "who does not say who he is is admitted by title and address"
        );
        let any = IdentityRule::read(OnIdentity::Accepted, None).unwrap();
        assert_eq!(any.answer(Some(&identity(Name, "ct9", ""))), Ok(Some(Vec::new())));
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_ambiguous_is_refused() {
        for (text, mode, refused) in [
            ("ct1\n", 0o640, "chmod 600"),
            (":secret\n", 0o600, "line 1"),
            ("ct1\nct1:secret\n", 0o600, "line 2"),
        ] {
            let (_dir, path) = file(text, mode);
            let error = IdentityRule::read(OnIdentity::Accepted, Some(&path)).unwrap_err().to_string();
            assert!(error.contains(refused) && !error.contains("secret"), "{error}");
        }
        assert!(IdentityRule::read(OnIdentity::Accepted, Some(Path::new("/nowhere"))).is_err());
    }
}
