//! The body of a response, as bytes come in: a value without a socket.

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    failure::Failure,
    limits::{BODY_BYTES_MAX, LINE_BYTES_MAX},
    response::Length,
};

/// A body on its way in.
#[derive(Debug)]
pub(crate) struct Reading {
    state: State,
    body: BytesMut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes of a body with a length are missing.
    Length(u64),
    UntilClosed,
    ChunkSize,
    /// So many bytes of a chunk are missing.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Done,
}

/// What a body needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// More bytes.
    More,
    /// Nothing: this is it.
    Whole(Bytes),
    /// Nothing will help: it is longer than anything that is read.
    TooLong,
}

impl Reading {
    pub(crate) fn new(length: Length) -> Self {
        let state = match length {
            Length::Bytes(bytes) => State::Length(bytes),
            Length::Chunked => State::ChunkSize,
            Length::UntilClosed => State::UntilClosed,
        };
        Self { state, body: BytesMut::new() }
    }

    /// Takes what belongs to the body from the front of what came.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut) -> Result<Step, Failure> {
        loop {
            let next = match self.state {
                State::Length(missing) => match self.copy(buffer, missing)? {
                    Some(0) => State::Done,
                    Some(missing) => State::Length(missing),
                    None => return Ok(Step::TooLong),
                },
                State::UntilClosed => match self.copy(buffer, u64::MAX)? {
                    Some(_) => State::UntilClosed,
                    None => return Ok(Step::TooLong),
                },
                State::Chunk(missing) => match self.copy(buffer, missing)? {
                    Some(0) => State::ChunkEnd,
                    Some(missing) => State::Chunk(missing),
                    None => return Ok(Step::TooLong),
                },
                // httparse takes a size without a digit for 0, which would be the end.
                State::ChunkSize if buffer.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                    return Err(Failure::NotHttp("a chunk has no size"));
                }
                State::ChunkSize => match httparse::parse_chunk_size(buffer) {
                    Ok(httparse::Status::Complete((end, size))) if end <= LINE_BYTES_MAX => {
                        buffer.advance(end);
                        if size == 0 { State::Trailers } else { State::Chunk(size) }
                    }
                    Ok(httparse::Status::Partial) if buffer.len() <= LINE_BYTES_MAX => State::ChunkSize,
                    _ => return Err(Failure::NotHttp("a chunk has no size")),
                },
                State::ChunkEnd => match buffer.get(..2) {
                    Some(b"\r\n") => {
                        buffer.advance(2);
                        State::ChunkSize
                    }
                    Some(_) => return Err(Failure::NotHttp("a chunk is longer than it says")),
                    None => State::ChunkEnd,
                },
                State::Trailers => match buffer.windows(2).position(|pair| pair == b"\r\n") {
                    Some(end) if end <= LINE_BYTES_MAX => {
                        buffer.advance(end + 2);
                        if end == 0 { State::Done } else { State::Trailers }
                    }
                    None if buffer.len() <= LINE_BYTES_MAX => State::Trailers,
                    _ => return Err(Failure::NotHttp("a trailer field is too long")),
                },
                State::Done => return Ok(Step::Whole(self.body.split().freeze())),
            };
            // A trailer line that was taken leaves the state as it was, and there may be another.
            let stands = next == self.state
                && (next != State::Trailers || !buffer.windows(2).any(|pair| pair == b"\r\n"));
            self.state = next;
            if stands {
                return Ok(Step::More);
            }
        }
    }

    /// The connection has ended: that is the end of a body without a length, and of no other.
    pub(crate) fn closed(mut self) -> Result<Bytes, Failure> {
        match self.state {
            State::UntilClosed => Ok(self.body.split().freeze()),
            _ => Err(Failure::Closed),
        }
    }

    /// Moves up to `missing` bytes over; gives how many are still missing, or `None` where the body gets too long.
    fn copy(&mut self, buffer: &mut BytesMut, missing: u64) -> Result<Option<u64>, Failure> {
        if missing != u64::MAX && missing > (BODY_BYTES_MAX - self.body.len()) as u64 {
            return Ok(None);
        }
        let taken = usize::try_from(missing).unwrap_or(usize::MAX).min(buffer.len());
        if self.body.len() + taken > BODY_BYTES_MAX {
            return Ok(None);
        }
        self.body.extend_from_slice(&buffer.split_to(taken));
        Ok(Some(if missing == u64::MAX { missing } else { missing - taken as u64 }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(length: Length, text: &[u8], piece: usize) -> Result<Step, Failure> {
        let (mut reading, mut buffer) = (Reading::new(length), BytesMut::new());
        let mut step = reading.take(&mut buffer)?;
        for piece in text.chunks(piece) {
            if step != Step::More {
                break;
            }
            buffer.extend_from_slice(piece);
            step = reading.take(&mut buffer)?;
        }
        Ok(step)
    }

    #[test]
    fn each_kind_of_body_ends_where_it_says_however_it_comes() {
        let chunked: &[u8] = b"4;x=y\r\n{\"a\"\r\n00003\r\n:1}\r\n0\r\nX: y\r\nZ: z\r\n\r\nHTTP";
        let cases = [(Length::Bytes(7), &b"{\"a\":1}HTTP"[..]), (Length::Chunked, chunked)];
        for (length, text) in cases {
            for piece in 1..=text.len() {
                assert_eq!(
                    read(length, text, piece).unwrap(),
                    Step::Whole(Bytes::from_static(b"{\"a\":1}")),
                    "{piece}"
                );
            }
        }
        assert_eq!(read(Length::Bytes(0), b"", 1).unwrap(), Step::Whole(Bytes::new()));
        assert_eq!(read(Length::UntilClosed, b"abc", 2).unwrap(), Step::More);
        let (mut reading, mut buffer) = (Reading::new(Length::UntilClosed), BytesMut::from(&b"abc"[..]));
        assert_eq!(reading.take(&mut buffer).unwrap(), Step::More);
        assert_eq!(reading.closed().unwrap(), Bytes::from_static(b"abc"));
    }

    #[test]
    fn a_body_that_is_cut_is_none() {
        for (length, text) in
            [(Length::Bytes(7), &b"{\"a\":1"[..]), (Length::Chunked, b"4\r\n{\"a\"\r\n0\r\n")]
        {
            let (mut reading, mut buffer) = (Reading::new(length), BytesMut::from(text));
            assert_eq!(reading.take(&mut buffer).unwrap(), Step::More);
            assert!(matches!(reading.closed(), Err(Failure::Closed)));
        }
    }

    #[test]
    fn a_long_body_is_not_read_and_not_waited_for() {
        let much = vec![b'x'; BODY_BYTES_MAX + 1];
        assert_eq!(read(Length::UntilClosed, &much, 9000).unwrap(), Step::TooLong);
        assert_eq!(read(Length::Bytes(much.len() as u64), b"", 1).unwrap(), Step::TooLong);
        assert_eq!(read(Length::Bytes(u64::MAX - 1), b"", 1).unwrap(), Step::TooLong);
        assert_eq!(read(Length::Chunked, b"fffffffffffffff\r\n", 1).unwrap(), Step::TooLong);
        let chunks = [&b"10000\r\n"[..], &vec![b'x'; 0x10000], b"\r\n"].concat().repeat(5);
        assert_eq!(read(Length::Chunked, &chunks, 9000).unwrap(), Step::TooLong);
    }

    #[test]
    fn chunks_that_are_none_are_refused() {
        let long = [b"5;", &[b'x'; LINE_BYTES_MAX][..], b"\r\n"].concat();
        let trailer = [b"0\r\nX: ", &[b'x'; LINE_BYTES_MAX][..], b"\r\n\r\n"].concat();
        for text in
            [&b"x\r\n"[..], b"-1\r\n", b"3\r\nabcd\r\n", b"\r\n", b"fffffffffffffffff\r\n", &long, &trailer]
        {
            assert!(
                matches!(read(Length::Chunked, text, 1), Err(Failure::NotHttp(_))),
                "{:?}",
                &text[..4.min(text.len())]
            );
        }
    }

    proptest! {
        #[test]
        fn random_bytes_end_or_are_waited_for(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..40) {
            let _ = read(Length::Chunked, &bytes, piece);
            let _ = read(Length::Bytes(100), &bytes, piece);
        }
    }
}
