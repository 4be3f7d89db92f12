//! The head of a response (RFC 9112 §4 to §6), and the whole of it.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    failure::Failure,
    limits::{FIELDS_MAX, HEAD_BYTES_MAX, RETRY_AFTER_MAX},
};

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status, 200 to 599.
    pub status: u16,
    /// Its body. May name a patient. `None`: it is too long, or did not come to its end.
    pub body: Option<Bytes>,
    /// Before this much time another request is in vain (`Retry-After` in seconds; a date is not read).
    pub retry_after: Option<Duration>,
    /// It was said before all of the request had left.
    pub is_early: bool,
}

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Bytes(u64),
    Chunked,
    /// All until the connection ends.
    UntilClosed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: Length,
    /// The connection can be used for another request.
    pub(crate) keeps: bool,
    /// For so long, where the server says so.
    pub(crate) keeps_for: Option<Duration>,
    pub(crate) retry_after: Option<Duration>,
}

/// Takes a head from the front, once all of it is there. 1xx is one, too.
pub(crate) fn take_head(buffer: &mut BytesMut) -> Result<Option<Head>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(end)) if end <= HEAD_BYTES_MAX => {
            let head = head(&parsed)?;
            buffer.advance(end);
            Ok(Some(head))
        }
        Ok(httparse::Status::Partial) if buffer.len() <= HEAD_BYTES_MAX => Ok(None),
        Ok(_) => Err(Failure::NotHttp("its head is too long")),
        Err(_) => Err(Failure::NotHttp("its head cannot be parsed")),
    }
}

fn head(parsed: &httparse::Response<'_, '_>) -> Result<Head, Failure> {
    let status = parsed.code.filter(|code| (100..600).contains(code));
    let status = status.ok_or(Failure::NotHttp("its status is out of range"))?;
    let fields = |name: &'static str| {
        let named = parsed.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| std::str::from_utf8(field.value).unwrap_or_default().trim())
    };
    let listed = |name| fields(name).flat_map(|value| value.split(',')).map(str::trim);
    let (mut codings, mut lengths) = (listed("transfer-encoding"), listed("content-length"));
    let length = match (codings.next(), lengths.next()) {
        _ if status < 200 || status == 204 || status == 304 => Length::Bytes(0),
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") && codings.next().is_none() => {
            Length::Chunked
        }
        (Some(_), _) => return Err(Failure::NotHttp("it has a transfer coding other than chunked")),
        (None, None) => Length::UntilClosed,
        // Of a list of lengths all have to be the same (RFC 9112 §6.3).
        (None, Some(text)) => match number(text).filter(|_| lengths.all(|other| other == text)) {
            Some(bytes) => Length::Bytes(bytes),
            None => return Err(Failure::NotHttp("its length cannot be used")),
        },
    };
    let (mut keeps, both) = (
        parsed.version == Some(1),
        fields("transfer-encoding").count() > 0 && fields("content-length").count() > 0,
    );
    for option in listed("connection") {
        keeps &= !option.eq_ignore_ascii_case("close");
    }
    let keeps_for = listed("keep-alive").find_map(|option| option.strip_prefix("timeout=").and_then(number));
    let retry_after = fields("retry-after").find_map(number).map(Duration::from_secs);
    Ok(Head {
        status,
        length,
        keeps: keeps && !both && length != Length::UntilClosed,
        keeps_for: keeps_for.map(Duration::from_secs),
        retry_after: retry_after.map(|time| time.min(RETRY_AFTER_MAX)),
    })
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(text: &str) -> Result<Option<Head>, Failure> {
        take_head(&mut BytesMut::from(text.as_bytes()))
    }

    #[test]
    fn a_head_says_how_the_body_ends_and_what_becomes_of_the_connection() {
        use Length::{Bytes, Chunked, UntilClosed};
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", 200, Bytes(12), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 12, 12\r\n\r\n", 200, Bytes(12), true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", 200, Chunked, true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
                200,
                Chunked,
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", 200, UntilClosed, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, Bytes(0), true),
            ("HTTP/1.1 100 Continue\r\n\r\n", 100, Bytes(0), true),
            (
                "HTTP/1.1 401 \r\nContent-Length: 0\r\nConnection: keep-alive, Close\r\n\r\n",
                401,
                Bytes(0),
                false,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", 200, Bytes(1), false),
        ];
        for (text, status, length, keeps) in cases {
            let head = taken(text).unwrap().unwrap();
            assert_eq!((head.status, head.length, head.keeps), (status, length, keeps), "{text}");
        }
    }

    #[test]
    fn hints_about_time_are_numbers_and_bounded() {
        let of = |fields: &str| {
            taken(&format!("HTTP/1.1 503 x\r\nContent-Length: 0\r\n{fields}\r\n")).unwrap().unwrap()
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(of("Retry-After: 30\r\n").retry_after, seconds(30));
        assert_eq!(of("Retry-After: 99999999999\r\n").retry_after, Some(RETRY_AFTER_MAX));
        assert_eq!(of("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n").retry_after, None);
        assert_eq!(of("Retry-After: -1\r\n").retry_after, None);
        assert_eq!(of("Keep-Alive: timeout=5, max=100\r\n").keeps_for, seconds(5));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(FIELDS_MAX + 1));
        let unending = "HTTP/1.1 200 ".to_owned() + &"a".repeat(HEAD_BYTES_MAX);
        for text in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 600 Odd\r\n\r\n",
            "HTTP/1.1 099 Odd\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            &long,
            &many,
            &unending,
        ] {
            assert!(matches!(taken(text), Err(Failure::NotHttp(_))), "{:.60}", text);
        }
        assert!(taken("HTTP/1.1 200 OK\r\nContent-").unwrap().is_none());
    }

    proptest! {
        #[test]
        fn random_bytes_are_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = take_head(&mut BytesMut::from(&bytes[..]));
            let _ = take_head(&mut BytesMut::from(&[b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat()[..]));
        }
    }
}
