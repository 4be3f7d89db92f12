use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The root of a DICOM web service (PS3.18 §8.2): scheme, host, port and path, in one form. It can be printed and signed: there
/// is no place in it for a user, a password or a query.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceUrl {
    secure: bool,
    host: Host,
    port: u16,
    /// Without a slash at its end; empty for the root.
    path: String,
}

/// Whom a [`ServiceUrl`] names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// By number.
    Address(IpAddr),
    /// By name, in lower case.
    Name(String),
}

/// Why a text is not the root of a service. None of these repeats the text: a password may stand in it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ServiceUrlError {
    /// Neither of the two schemes.
    #[error("a URL begins with https:// or http://")]
    Scheme,
    /// Too much to be signed with each receipt.
    #[error("URL has {0} characters; at most {max} are allowed", max = ServiceUrl::CHARACTERS_MAX)]
    TooLong(usize),
    /// Credentials in it.
    #[error(
        "a user or password does not belong into a URL, which is logged and signed; remove what stands before the \"@\""
    )]
    Credentials,
    /// A query or fragment.
    #[error(
        "a URL of a service has no \"?\" and no \"#\"; give its root, as in \"https://pacs.example/dicom-web\""
    )]
    Query,
    /// The host.
    #[error("URL has no host name or address that can be used")]
    Host,
    /// The port.
    #[error("the port in the URL is not a number from 1 to 65535")]
    Port,
    /// The path.
    #[error(
        "the path of the URL has an empty part, \".\", \"..\", or a character that has to be written as %XX"
    )]
    Path,
}

impl ServiceUrl {
    /// The most characters that one has.
    pub const CHARACTERS_MAX: usize = 400;

    /// Checks it and brings it into its one form: scheme and host in lower case, no default port, no slash at the end.
    pub fn parse(text: &str) -> Result<Self, ServiceUrlError> {
        if text.len() > Self::CHARACTERS_MAX {
            return Err(ServiceUrlError::TooLong(text.len()));
        }
        let (scheme, rest) = text.split_once("://").ok_or(ServiceUrlError::Scheme)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(ServiceUrlError::Scheme),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(ServiceUrlError::Credentials);
        }
        if path.contains(['?', '#']) {
            return Err(ServiceUrlError::Query);
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None => default_port(secure),
            Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port != 0).ok_or(ServiceUrlError::Port)?
            }
            Some(_) => return Err(ServiceUrlError::Port),
        };
        Ok(Self { secure, host: parse_host(host)?, port, path: parse_path(path)? })
    }

    /// It is `https`.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whom it names.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, the scheme's own where none is written.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its path without a slash at the end; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and, where it is not the scheme's own, port: what a request calls its host (RFC 9110 §7.2).
    pub fn authority(&self) -> String {
        match self.port == default_port(self.secure) {
            true => self.host.to_string(),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Brackets stay with the host.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), ServiceUrlError> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']').ok_or(ServiceUrlError::Host)? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    match port.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if port.is_empty() => Ok((host, None)),
        None => Err(ServiceUrlError::Host),
    }
}

fn parse_host(text: &str) -> Result<Host, ServiceUrlError> {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address
            .parse::<Ipv6Addr>()
            .map(|it| Host::Address(it.into()))
            .map_err(|_| ServiceUrlError::Host);
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    let name = text.to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // What ends in a number was meant to be an address (WHATWG URL, "ends in a number").
    let number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    match name.len() <= 253 && name.split('.').all(is_label) && !number {
        true => Ok(Host::Name(name)),
        false => Err(ServiceUrlError::Host),
    }
}

/// The characters of RFC 3986 §3.3, as they stand.
fn parse_path(text: &str) -> Result<String, ServiceUrlError> {
    let path = text.strip_suffix('/').unwrap_or(text);
    let Some(inside) = path.strip_prefix('/') else {
        return if path.is_empty() { Ok(String::new()) } else { Err(ServiceUrlError::Path) };
    };
    let is_segment = |segment: &str| {
        let encoded = segment.split('%').skip(1);
        !matches!(segment, "" | "." | "..")
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%".contains(&byte))
            && encoded.into_iter().all(|rest| {
                rest.get(..2).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            })
    };
    if inside.split('/').all(is_segment) { Ok(path.to_owned()) } else { Err(ServiceUrlError::Path) }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceUrl({self})")
    }
}

impl TryFrom<String> for ServiceUrl {
    type Error = ServiceUrlError;
    fn try_from(text: String) -> Result<Self, ServiceUrlError> {
        Self::parse(&text)
    }
}

impl From<ServiceUrl> for String {
    fn from(url: ServiceUrl) -> Self {
        url.to_string()
    }
}

impl std::str::FromStr for ServiceUrl {
    type Err = ServiceUrlError;
    fn from_str(text: &str) -> Result<Self, ServiceUrlError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_root_has_one_form() {
        let cases = [
            ("https://pacs.example/dicom-web", "https://pacs.example/dicom-web", "pacs.example", 443),
            ("HTTPS://Pacs.Example:443/dicom-web/", "https://pacs.example/dicom-web", "pacs.example", 443),
            ("http://127.0.0.1:8042/dicom-web", "http://127.0.0.1:8042/dicom-web", "127.0.0.1:8042", 8042),
            ("http://[::1]:80/", "http://[::1]", "[::1]", 80),
            ("http://[2001:DB8:0::7]:8080", "http://[2001:db8::7]:8080", "[2001:db8::7]:8080", 8080),
            (
                "https://arc_1.hospital/dcm4chee-arc/aets/A%20B/rs",
                "https://arc_1.hospital/dcm4chee-arc/aets/A%20B/rs",
                "arc_1.hospital",
                443,
            ),
        ];
        for (text, want, authority, port) in cases {
            let url = ServiceUrl::parse(text).unwrap();
            assert_eq!(
                (url.to_string().as_str(), url.authority().as_str(), url.port()),
                (want, authority, port)
            );
            assert_eq!(ServiceUrl::parse(want), Ok(url));
        }
    }

    #[test]
    fn what_is_no_root_is_refused_without_being_repeated() {
        use ServiceUrlError::{Credentials, Host, Path, Port, Query, Scheme};
        let cases = [
            ("", Scheme),
            ("pacs.example/dicom-web", Scheme),
            ("ftp://pacs.example", Scheme),
            ("https://", Host),
            ("https:///dicom-web", Host),
            ("https://user:geheim@pacs.example/", Credentials),
            ("https://pacs.example/dicom-web?token=geheim", Query),
            ("https://pacs.example?token=geheim", Query),
            ("https://pacs.example/#geheim", Query),
            ("https://pacs example/", Host),
            ("https://-pacs.example/", Host),
            ("https://pacs..example/", Host),
            ("https://192.0.2/", Host),
            ("https://192.0.2.256/", Host),
            ("https://[::1/", Host),
            ("https://[::1]x/", Host),
            ("https://pacs.example:/", Port),
            ("https://pacs.example:0/", Port),
            ("https://pacs.example:65536/", Port),
            ("https://pacs.example:+80/", Port),
            ("https://pacs.example//dicom-web", Path),
            ("https://pacs.example/../dicom-web", Path),
            ("https://pacs.example/dicom web", Path),
            ("https://pacs.example/%4", Path),
            ("https://pacs.example/\r\nX: y", Path),
        ];
        for (text, want) in cases {
            let error = ServiceUrl::parse(text).unwrap_err();
            assert_eq!(error, want, "{text}");
            assert!(!error.to_string().contains("geheim"));
        }
        let long = format!("https://pacs.example/{}", "a".repeat(ServiceUrl::CHARACTERS_MAX));
        assert_eq!(ServiceUrl::parse(&long), Err(ServiceUrlError::TooLong(long.len())));
    }
}
