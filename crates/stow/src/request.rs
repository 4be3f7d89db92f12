//! The head of a request.

use std::fmt;

use base::{Secret, ServiceUrl};

use crate::{authorization::Authorization, multipart::Boundary};

/// How a server finds the end of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// It has this many bytes.
    Length(u64),
    /// In chunks (RFC 9112 §7.1): nobody knows yet how many bytes there are.
    Chunked,
}

/// A POST to the Studies resource, up to its body. It may hold a password, and so prints nothing and is wiped.
pub struct Request {
    pub(crate) head: Secret<Vec<u8>>,
    pub(crate) framing: Framing,
}

impl Request {
    /// Of a body with this boundary. `agent` is who we say we are.
    pub fn store(
        url: &ServiceUrl,
        authorization: Option<&Authorization>,
        agent: &str,
        boundary: &Boundary,
        framing: Framing,
    ) -> Self {
        let mut head = format!(
            "POST {}/studies HTTP/1.1\r\nHost: {}\r\nUser-Agent: {agent}\r\nAccept: application/dicom+json\r\n\
             Content-Type: {}\r\n",
            url.path(),
            url.authority(),
            boundary.content_type(),
        )
        .into_bytes();
        match framing {
            Framing::Length(bytes) => {
                head.extend_from_slice(format!("Content-Length: {bytes}\r\n").as_bytes())
            }
            Framing::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
        // Last, and into what is wiped: a buffer that grows leaves its earlier self behind.
        let (name, value) = match authorization {
            Some(authorization) => (&b"Authorization: "[..], authorization.value()),
            None => (&b""[..], &b""[..]),
        };
        let end: &[u8] = if authorization.is_some() { b"\r\n\r\n" } else { b"\r\n" };
        Self { head: Secret::new([&head, name, value, end].concat()), framing }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("framing", &self.framing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_what_it_brings_and_what_it_wants_to_hear() {
        let url = ServiceUrl::parse("https://pacs.example:8443/dicom-web").unwrap();
        let token = Authorization::bearer(&Secret::new("geheim".to_owned())).unwrap();
        let boundary = Boundary::random();
        let request = Request::store(&url, Some(&token), "SLUIS_1", &boundary, Framing::Chunked);
        let want = format!(
            "POST /dicom-web/studies HTTP/1.1\r\nHost: pacs.example:8443\r\nUser-Agent: SLUIS_1\r\n\
             Accept: application/dicom+json\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\
             Authorization: Bearer geheim\r\n\r\n",
            boundary.content_type()
        );
        assert_eq!(request.head.expose(), want.as_bytes());
        assert!(!format!("{request:?}").contains("geheim"));
        let root = ServiceUrl::parse("http://127.0.0.1/").unwrap();
        let request = Request::store(&root, None, "SLUIS_1", &boundary, Framing::Length(12));
        let text = String::from_utf8(request.head.expose().clone()).unwrap();
        assert!(text.starts_with("POST /studies HTTP/1.1\r\nHost: 127.0.0.1\r\n"), "{text}");
        assert!(
            text.ends_with("\r\nContent-Length: 12\r\n\r\n") && !text.contains("Authorization"),
            "{text}"
        );
    }
}
