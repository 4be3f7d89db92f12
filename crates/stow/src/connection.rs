//! A connection to a service: one request after another, each written piece by piece, with an eye on what the server says
//! meanwhile.

use std::{
    fmt,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use dimse::Stream;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    body::{Reading, Step},
    failure::{Failure, Unfinished},
    limits::{INTERIM_MAX, LAST_WORDS},
    request::{Framing, Request},
    response::{Head, Response, take_head},
};

/// Read at one time.
const READ_BYTES: usize = 8 * 1024;

/// What came of a piece.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has left, as far as anybody can tell.
    Sent,
    /// The server has answered already. The connection is good for nothing more.
    Answered(Response),
}

/// A byte stream, and how it ends where it must not look complete.
pub trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Makes the close a reset.
    fn reset_on_close(&self);
}

impl Wire for Stream {
    fn reset_on_close(&self) {
        Self::reset_on_close(self);
    }
}

/// See the module. One that is dropped within a request is reset, so that a server cannot take a part for the whole.
pub struct Connection<S: Wire = Stream> {
    stream: S,
    /// What came and is not looked at yet.
    buffer: BytesMut,
    /// One write, and all of a response.
    patience: Duration,
    framing: Framing,
    /// Until when another request may be sent; none within one, or after one that ends the connection.
    idle_until: Option<Instant>,
    /// Some of a request may have left, and it was not answered after all of it.
    is_within: bool,
    interim: usize,
}

impl<S: Wire> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("idle_until", &self.idle_until).finish_non_exhaustive()
    }
}

impl<S: Wire> Drop for Connection<S> {
    fn drop(&mut self) {
        if self.is_within {
            self.stream.reset_on_close();
        }
    }
}

impl<S: Wire> Connection<S> {
    /// On a new connection. `patience` is for each piece that is written, and for a whole response.
    pub fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            patience,
            framing: Framing::Chunked,
            idle_until: Some(Instant::now() + patience),
            is_within: false,
            interim: 0,
        }
    }

    /// Another request can be sent: the last one was answered, the server keeps the connection as far as it says, and nothing
    /// has come that nobody asked for, such as its end.
    pub fn is_idle(&mut self) -> bool {
        let in_time = self.idle_until.is_some_and(|until| Instant::now() < until);
        in_time && self.buffer.is_empty() && self.read_now().is_pending()
    }

    fn read_now(&mut self) -> Poll<std::io::Result<usize>> {
        let read = pin!(self.stream.read_buf(&mut self.buffer));
        let mut read: Pin<&mut _> = read;
        read.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Sends the head of a request. From here on the connection is good only for the rest of it.
    pub async fn begin(&mut self, request: &Request) -> Result<Progress, Failure> {
        (self.idle_until, self.framing, self.interim) = (None, request.framing, 0);
        self.is_within = true;
        self.write(&mut request.head.expose().as_slice()).await
    }

    /// Sends a piece of the body; or says what the server has answered before it had all of it. After it was cancelled the connection is good for
    /// nothing more.
    pub async fn send(&mut self, piece: Bytes) -> Result<Progress, Failure> {
        if piece.is_empty() {
            return Ok(Progress::Sent);
        }
        match self.framing {
            Framing::Length(_) => self.write(&mut { piece }).await,
            Framing::Chunked => {
                let size = Bytes::from(format!("{:x}\r\n", piece.len()));
                self.write(&mut size.chain(piece).chain(&b"\r\n"[..])).await
            }
        }
    }

    /// Sends the last piece and the end of the body, and waits for the answer. Whatever goes wrong in here, the server may
    /// have all of it. `keep` is how long the connection may be idle afterwards.
    pub async fn finish(&mut self, last: Bytes, keep: Duration) -> Result<Response, Unfinished> {
        let mut end = BytesMut::new();
        match self.framing {
            Framing::Length(_) => end.extend_from_slice(&last),
            Framing::Chunked => {
                end.extend_from_slice(format!("{:x}\r\n", last.len()).as_bytes());
                end.extend_from_slice(&last);
                end.extend_from_slice(b"\r\n0\r\n\r\n");
            }
        }
        match self.write(&mut end).await? {
            Progress::Answered(early) => Ok(early),
            Progress::Sent => {
                let (response, keeps) = self.answer(None).await?;
                self.is_within = false;
                self.idle_until = keeps.map(|hint| Instant::now() + hint.min(keep));
                Ok(response)
            }
        }
    }

    /// Writes all of it, reading beside it. A server that reads no more may have said why.
    async fn write(&mut self, bytes: &mut (impl Buf + Send)) -> Result<Progress, Failure> {
        match timeout(self.patience, self.write_and_listen(bytes)).await {
            Err(_) => Err(Failure::NotTaken(self.patience)),
            Ok(Ok(None)) => Ok(Progress::Sent),
            Ok(Ok(Some(head))) => Ok(Progress::Answered(early(self.answer(Some(head)).await?.0))),
            Ok(Err(failure)) => match timeout(LAST_WORDS, self.answer(None)).await {
                Ok(Ok((response, _))) => Ok(Progress::Answered(early(response))),
                _ => Err(failure),
            },
        }
    }

    /// Gives the head of an answer that came too early.
    async fn write_and_listen(&mut self, bytes: &mut (impl Buf + Send)) -> Result<Option<Head>, Failure> {
        loop {
            if let Some(head) = self.final_head()? {
                return Ok(Some(head));
            }
            let (mut reader, mut writer) = split(&mut self.stream);
            self.buffer.reserve(READ_BYTES);
            let written = async {
                writer.write_all_buf(bytes).await?;
                // TLS keeps what the kernel does not take at once.
                writer.flush().await
            };
            tokio::select! {
                biased;
                read = reader.read_buf(&mut self.buffer) => if read? == 0 {
                    return Err(Failure::Closed);
                },
                written = written => {
                    written?;
                    return Ok(None);
                }
            }
        }
    }

    /// The head of the final response, as soon as it is there (RFC 9110 §15.2: any number of interim ones may come before).
    fn final_head(&mut self) -> Result<Option<Head>, Failure> {
        while let Some(head) = take_head(&mut self.buffer)? {
            match head.status {
                101 => return Err(Failure::NotHttp("it changes to another protocol")),
                100..200 if self.interim < INTERIM_MAX => self.interim += 1,
                100..200 => return Err(Failure::NotHttp("too many interim answers")),
                _ => return Ok(Some(head)),
            }
        }
        Ok(None)
    }

    /// Reads a response, or the rest of one; and says how long its server keeps the connection, where it does.
    async fn answer(&mut self, head: Option<Head>) -> Result<(Response, Option<Duration>), Failure> {
        let until = Instant::now() + self.patience;
        let head = match head {
            Some(head) => head,
            None => match timeout_at(until, self.read_head()).await {
                Ok(head) => head?,
                Err(_) => return Err(Failure::NoAnswer(self.patience)),
            },
        };
        // A status without its body is still one.
        let body = timeout_at(until, self.read_body(Reading::new(head.length))).await;
        let body = body.ok().and_then(Result::ok).flatten();
        let hint = head.keeps_for.map_or(Duration::MAX, |hint| hint / 2);
        let keeps = (head.keeps && body.is_some()).then_some(hint);
        Ok((Response { status: head.status, body, retry_after: head.retry_after, is_early: false }, keeps))
    }

    async fn read_head(&mut self) -> Result<Head, Failure> {
        loop {
            if let Some(head) = self.final_head()? {
                return Ok(head);
            }
            if self.read().await? == 0 {
                return Err(Failure::Closed);
            }
        }
    }

    /// Nothing, where it is too long.
    async fn read_body(&mut self, mut reading: Reading) -> Result<Option<Bytes>, Failure> {
        loop {
            match reading.take(&mut self.buffer)? {
                Step::Whole(body) => return Ok(Some(body)),
                Step::TooLong => return Ok(None),
                Step::More => {}
            }
            if self.read().await? == 0 {
                return reading.closed().map(Some);
            }
        }
    }

    async fn read(&mut self) -> Result<usize, Failure> {
        self.buffer.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.buffer).await?)
    }
}

fn early(response: Response) -> Response {
    Response { is_early: true, ..response }
}

#[cfg(test)]
mod tests {
    use base::ServiceUrl;
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use tokio::io::{DuplexStream, ReadBuf, duplex};

    use super::*;
    use crate::multipart::Boundary;

    const PATIENCE: Duration = Duration::from_secs(60);
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

    fn request(framing: Framing) -> Request {
        let url = ServiceUrl::parse("http://127.0.0.1/").unwrap();
        Request::store(&url, None, "SLUIS", &Boundary::random(), framing)
    }

    /// A pipe that remembers whether it was reset.
    struct Pipe(DuplexStream, Arc<AtomicBool>);

    impl Wire for Pipe {
        fn reset_on_close(&self) {
            self.1.store(true, Ordering::Relaxed);
        }
    }

    impl AsyncRead for Pipe {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Pipe {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    fn pair(room: usize) -> (Connection<Pipe>, DuplexStream) {
        let (ours, theirs) = duplex(room);
        (Connection::new(Pipe(ours, Arc::default()), PATIENCE), theirs)
    }

    async fn received(theirs: &mut DuplexStream) -> String {
        let mut bytes = vec![0; 8192];
        let length = theirs.read(&mut bytes).await.unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_end_of_a_body_leaves_only_with_the_last_call() {
        for (framing, before, after) in [
            (Framing::Length(7), "abcd", "efg"),
            (Framing::Chunked, "4\r\nabcd\r\n", "3\r\nefg\r\n0\r\n\r\n"),
        ] {
            let (mut ours, mut theirs) = pair(8192);
            assert_eq!(ours.begin(&request(framing)).await.unwrap(), Progress::Sent);
            assert!(received(&mut theirs).await.ends_with("\r\n\r\n"));
            // An empty chunk would be the end.
            assert_eq!(ours.send(Bytes::new()).await.unwrap(), Progress::Sent);
            assert_eq!(ours.send(Bytes::from_static(b"abcd")).await.unwrap(), Progress::Sent);
            assert_eq!(received(&mut theirs).await, before);
            assert!(!ours.is_idle(), "within a request");
            theirs.write_all(OK.as_bytes()).await.unwrap();
            let finished = ours.finish(Bytes::from_static(b"efg"), PATIENCE).await;
            // What is there already when the end is written was said before it.
            assert!(finished.unwrap().is_early);
            assert!(!ours.is_idle());
            let (mut ours, mut theirs) = pair(8192);
            ours.begin(&request(framing)).await.unwrap();
            ours.send(Bytes::from_static(b"abcd")).await.unwrap();
            received(&mut theirs).await;
            let answering = async {
                assert_eq!(received(&mut theirs).await, after);
                theirs.write_all(OK.as_bytes()).await.unwrap();
            };
            let (finished, ()) = tokio::join!(ours.finish(Bytes::from_static(b"efg"), PATIENCE), answering);
            let want = Response {
                status: 200,
                body: Some(Bytes::from_static(b"{}")),
                retry_after: None,
                is_early: false,
            };
            assert_eq!(finished.unwrap(), want);
            assert!(ours.is_idle());
            drop(theirs);
            assert!(!ours.is_idle(), "its server has gone");
        }
    }

    #[tokio::test]
    async fn whoever_is_dropped_within_a_request_is_reset_and_nobody_else() {
        let was_reset = |connection: Connection<Pipe>| {
            let flag = Arc::clone(&connection.stream.1);
            drop(connection);
            flag.load(Ordering::Relaxed)
        };
        let (ours, _theirs) = pair(8192);
        assert!(!was_reset(ours), "nothing was sent");
        let (mut ours, _theirs) = pair(8192);
        ours.begin(&request(Framing::Length(1))).await.unwrap();
        assert!(was_reset(ours));
        for (answer, want) in [(OK, false), ("HTTP/1.1 200 OK\r\n", true), ("", true)] {
            let (mut ours, mut theirs) = pair(8192);
            ours.begin(&request(Framing::Length(1))).await.unwrap();
            received(&mut theirs).await;
            let answering = async {
                received(&mut theirs).await;
                theirs.write_all(answer.as_bytes()).await.unwrap();
                theirs.shutdown().await.unwrap();
            };
            let (_, ()) = tokio::join!(ours.finish(Bytes::from_static(b"x"), PATIENCE), answering);
            assert_eq!(was_reset(ours), want, "{answer}");
        }
    }

    #[tokio::test]
    async fn an_answer_before_the_end_is_heard_while_nothing_is_taken() {
        let (mut ours, mut theirs) = pair(64);
        theirs.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let answering = async {
            received(&mut theirs).await;
            theirs.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        };
        let request = request(Framing::Chunked);
        let (begun, ()) = tokio::join!(ours.begin(&request), answering);
        let Progress::Answered(response) = begun.unwrap() else { panic!("nobody has taken that much") };
        assert_eq!((response.status, response.is_early), (401, true));
    }

    #[tokio::test]
    async fn what_a_server_said_before_it_went_is_heard() {
        let (mut ours, mut theirs) = pair(8192);
        ours.begin(&request(Framing::Chunked)).await.unwrap();
        theirs.write_all(b"HTTP/1.1 413 No\r\nConnection: close\r\n\r\nno").await.unwrap();
        drop(theirs);
        let Progress::Answered(response) = ours.send(Bytes::from_static(b"x")).await.unwrap() else {
            panic!("sent")
        };
        assert_eq!((response.status, response.body.as_deref()), (413, Some(&b"no"[..])));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_or_says_nothing_is_not_waited_for() {
        let (mut ours, _theirs) = pair(8);
        let begun = ours.begin(&request(Framing::Chunked)).await;
        assert!(matches!(begun, Err(Failure::NotTaken(PATIENCE))), "{begun:?}");
        let (mut ours, _theirs) = pair(8192);
        ours.begin(&request(Framing::Length(1))).await.unwrap();
        let finished = ours.finish(Bytes::from_static(b"x"), PATIENCE).await;
        assert!(matches!(finished, Err(Unfinished(Failure::NoAnswer(PATIENCE)))), "{finished:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_whose_body_never_ends_is_one_without_a_body() {
        for rest in [
            "Content-Length: 9\r\n\r\n{",
            "Transfer-Encoding: chunked\r\n\r\nnot a size\r\n",
            "Content-Length: 99999999\r\n\r\n",
        ] {
            let (mut ours, mut theirs) = pair(8192);
            ours.begin(&request(Framing::Length(1))).await.unwrap();
            received(&mut theirs).await;
            let answering = async {
                received(&mut theirs).await;
                theirs.write_all(format!("HTTP/1.1 200 OK\r\n{rest}").as_bytes()).await.unwrap();
            };
            let (finished, ()) = tokio::join!(ours.finish(Bytes::from_static(b"x"), PATIENCE), answering);
            let response = finished.unwrap();
            assert_eq!((response.status, response.body), (200, None), "{rest}");
            assert!(!ours.is_idle());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_used_for_half_as_long_as_its_server_says() {
        let (mut ours, mut theirs) = pair(8192);
        ours.begin(&request(Framing::Length(1))).await.unwrap();
        received(&mut theirs).await;
        let answering = async {
            received(&mut theirs).await;
            let text = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=4\r\nContent-Length: 0\r\n\r\n";
            theirs.write_all(text.as_bytes()).await.unwrap();
        };
        let (finished, ()) = tokio::join!(ours.finish(Bytes::from_static(b"x"), PATIENCE), answering);
        finished.unwrap();
        tokio::time::advance(Duration::from_millis(1900)).await;
        assert!(ours.is_idle());
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(!ours.is_idle());
    }
}
