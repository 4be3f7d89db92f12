//! What a service is shown so that it lets us store: a bearer token (RFC 6750) or a name with its password (RFC 7617).

use std::fmt;

use base::Secret;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use thiserror::Error;

/// The value of an Authorization field.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization(Secret<Vec<u8>>);

/// Why something cannot be shown. None of these repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AuthorizationError {
    /// RFC 6750 §2.1.
    #[error("a bearer token has letters, digits and -._~+/ only, with = at its end")]
    Token,
    /// RFC 7617 §2.
    #[error("a user name for HTTP has no colon and no control character")]
    User,
    /// RFC 7617 §2.
    #[error("a password for HTTP has no control character")]
    Password,
}

impl Authorization {
    /// A token.
    pub fn bearer(token: &Secret<String>) -> Result<Self, AuthorizationError> {
        let token = token.expose().as_bytes();
        let end = token.iter().rposition(|byte| *byte != b'=').ok_or(AuthorizationError::Token)?;
        let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
        if !token.iter().take(end + 1).all(is_good) {
            return Err(AuthorizationError::Token);
        }
        Ok(Self(Secret::new([b"Bearer ", token].concat())))
    }

    /// A name and its password.
    pub fn basic(user: &str, password: &Secret<String>) -> Result<Self, AuthorizationError> {
        if user.contains(':') || user.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(AuthorizationError::User);
        }
        if password.expose().bytes().any(|byte| byte.is_ascii_control()) {
            return Err(AuthorizationError::Password);
        }
        let pair = Secret::new([user, ":", password.expose()].concat());
        let encoded = Secret::new(STANDARD.encode(pair.expose()).into_bytes());
        Ok(Self(Secret::new([b"Basic ", encoded.expose().as_slice()].concat())))
    }

    pub(crate) fn value(&self) -> &[u8] {
        self.0.expose()
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn credentials_are_written_as_their_rfcs_say() {
        let basic = Authorization::basic("Aladdin", &secret("open sesame")).unwrap();
        assert_eq!(basic.value(), b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(
            Authorization::bearer(&secret("mF_9.B5f-4.1JqM==")).unwrap().value(),
            b"Bearer mF_9.B5f-4.1JqM=="
        );
        assert_eq!(format!("{basic:?}"), "Authorization");
    }

    #[test]
    fn what_would_change_the_request_is_refused() {
        for token in ["", "==", "a b", "a\r\nX: y", "a=b", "ä", "a\0"] {
            assert_eq!(Authorization::bearer(&secret(token)), Err(AuthorizationError::Token), "{token:?}");
        }
        for (user, password, want) in [
            ("a:b", "c", AuthorizationError::User),
            ("a\n", "c", AuthorizationError::User),
            ("a", "c\r", AuthorizationError::Password),
        ] {
            assert_eq!(Authorization::basic(user, &secret(password)), Err(want));
        }
    }
}
