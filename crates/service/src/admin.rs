//! The admin port: health, readiness and state over HTTP, for a loopback address, or over TLS.
//!
//! It carries no patient data and asks for no password. Without TLS it answers only requests that were made to an address or
//! to `localhost`: a web page in a browser on the same machine cannot reach it by a name of its own (DNS rebinding); with TLS
//! the certificate's name keeps such a page out. A route that changes something must take its input as JSON (axum's
//! `Json`), which another site's page cannot send.

use std::future::{Future, IntoFuture as _};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Reloads;
use crate::pages::{self, Answer, Ask};
use crate::tls::{self, Access, AdminTls, TlsListener};

/// The most that a client of ours reads of an answer.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long a client of ours waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const RELOAD: &str = "/reload";

/// Whether a daemon can do its work now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, for this reason.
    NotReady(String),
}

/// The routes of an admin port.
#[derive(Debug)]
pub struct Admin {
    router: Router,
    /// Set before serving; also seen by the routes.
    tls: Arc<OnceLock<AdminTls>>,
}

impl Admin {
    /// `/healthz` answers 200 as long as the process runs, `/readyz` 200 or 503 by `ready`, `/status` the JSON of
    /// `status`, with what the process did to itself under `sandbox`.
    pub fn new<R, RF, S, SF>(ready: R, status: S) -> Self
    where
        R: Fn() -> RF + Send + Sync + 'static,
        RF: Future<Output = Readiness> + Send + 'static,
        S: Fn() -> SF + Send + Sync + 'static,
        SF: Future<Output = Value> + Send + 'static,
    {
        let (ready, status) = (Arc::new(ready), Arc::new(status));
        let readyz = move || {
            let ready = ready.clone();
            async move {
                match ready().await {
                    Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
                    Readiness::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
                }
            }
        };
        let tls = Arc::new(OnceLock::new());
        let shown: Arc<OnceLock<AdminTls>> = tls.clone();
        let status = move || {
            let (status, tls) = (status.clone(), shown.clone());
            async move { Json(with_process(status().await, tls.get())) }
        };
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/status", get(status));
        Self { router, tls }
    }

    /// Speaks TLS, if there is a certificate.
    #[must_use]
    pub fn with_tls(self, tls: Option<AdminTls>) -> Self {
        if let Some(tls) = tls {
            let _ = self.tls.set(tls);
        }
        self
    }

    /// `POST /reload` reads the configuration again: 200 with what changed, or 409 with why everything stays as it was.
    #[must_use]
    pub fn with_reload(self, reloads: Reloads) -> Self {
        self.with_request(RELOAD, reloads)
    }

    /// `POST` of a JSON value to `path` asks the daemon for something: 200 with what was done, or 409 with why not.
    #[must_use]
    pub fn with_request(self, path: &str, reloads: Reloads) -> Self {
        let tls = (path == RELOAD).then(|| self.tls.clone());
        let handler = move |Json(_): Json<Value>| {
            let (reloads, tls) = (reloads.clone(), tls.clone());
            async move {
                let asked = reloads.ask().await;
                let tls = tls.and_then(|tls| tls.get().cloned());
                match asked {
                    Ok(changed) => Json(with_certificate(changed, tls).await).into_response(),
                    Err(reason) => (StatusCode::CONFLICT, format!("{reason}\n")).into_response(),
                }
            }
        };
        self.merge(Router::new().route(path, post(handler)))
    }

    /// `POST` of a JSON value to `path` has `act` done with it: 200 with what came of it, or 409 with why nothing did.
    #[must_use]
    pub fn with_action<F, A>(self, path: &str, act: F) -> Self
    where
        F: Fn(Value) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Value, String>> + Send + 'static,
    {
        let act = Arc::new(act);
        let handler = move |Json(ask): Json<Value>| {
            let act = act.clone();
            async move {
                match act(ask).await {
                    Ok(done) => Json(done).into_response(),
                    Err(reason) => (StatusCode::CONFLICT, format!("{reason}\n")).into_response(),
                }
            }
        };
        self.merge(Router::new().route(path, post(handler)))
    }

    /// Answers GET on these paths (axum's notation) by one function, which knows nothing of the server.
    #[must_use]
    pub fn with_pages<F, A>(self, paths: &[&str], answer: F) -> Self
    where
        F: Fn(Ask) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        self.merge(pages::router(paths, answer))
    }

    /// Adds a daemon's own routes.
    #[must_use]
    pub fn merge(self, routes: Router) -> Self {
        Self { router: self.router.merge(routes), ..self }
    }

    /// Serves until the token is cancelled and the running requests are answered.
    pub async fn serve(self, listener: TcpListener, token: CancellationToken) -> io::Result<()> {
        let router = self.router.fallback(pages::nothing_here);
        let Some(tls) = self.tls.get().cloned() else {
            let address = listener.local_addr()?;
            if !address.ip().is_loopback() {
                warn!(%address, "THE ADMIN PORT SPEAKS NO TLS and is open to other machines: without_tls = true");
            }
            let router = router.layer(middleware::from_fn(local_only));
            return axum::serve(listener, router).with_graceful_shutdown(token.cancelled_owned()).await;
        };
        let router = router.layer(middleware::from_fn(uncached));
        let hangups = reload_on_hangup(tls.clone());
        let serving = axum::serve(TlsListener::new(listener, tls), router);
        tokio::select! {
            ended = serving.with_graceful_shutdown(token.cancelled_owned()).into_future() => ended,
            failed = hangups => failed,
        }
    }
}

/// Reads certificate and key again on each SIGHUP.
async fn reload_on_hangup(tls: AdminTls) -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    while hangups.recv().await.is_some() {
        let tls = tls.clone();
        // What came of it is logged, and shown by the status.
        let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
    }
    std::future::pending().await
}

/// Where the certificate could not be taken over, the rest was all the same.
async fn with_certificate(mut changed: Value, tls: Option<AdminTls>) -> Value {
    let Some(tls) = tls else { return changed };
    let read = tokio::task::spawn_blocking(move || tls.reload()).await;
    if let (Some(changed), Ok(Err(reason))) = (changed.as_object_mut(), read) {
        changed.insert("admin_tls_refused".to_owned(), json!(reason));
    }
    changed
}

fn with_process(mut status: Value, tls: Option<&AdminTls>) -> Value {
    if let (Some(status), Some(tls)) = (status.as_object_mut(), tls) {
        status.insert("admin_tls".to_owned(), json!({ "refused": tls.refused() }));
    }
    let report = sandbox::report().and_then(|report| serde_json::to_value(report).ok());
    if let (Some(status), Some(report)) = (status.as_object_mut(), report) {
        status.insert("sandbox".to_owned(), report);
    }
    status
}

/// Refuses requests made to a name other than `localhost`.
async fn local_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(HeaderValue::to_str);
    let allowed = match host {
        None => true,
        Some(Ok(host)) => {
            host.parse::<Uri>().ok().and_then(|u| u.host().map(is_address_or_localhost)) == Some(true)
        }
        Some(Err(_)) => false,
    };
    match allowed {
        true => uncached(request, next).await,
        false => (StatusCode::MISDIRECTED_REQUEST, "ask by address, not by name\n").into_response(),
    }
}

/// Keeps answers out of caches.
async fn uncached(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn is_address_or_localhost(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok() || bare.eq_ignore_ascii_case("localhost")
}

/// Why a daemon's admin port gave no usable answer.
#[derive(Debug, Error)]
pub enum RequestError {
    /// Nobody listens, or the connection broke.
    #[error("no answer from the admin port {address}; is the daemon running?")]
    Connection {
        /// Where it was tried.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer from the admin port {0} in time")]
    TimeOut(SocketAddr),
    /// It shows another certificate than the configuration names.
    #[error(
        "{0} shows another certificate than [admin] tls names: if the file was renewed, have the daemon read it (SIGHUP); if not, somebody else listens there"
    )]
    OtherCertificate(SocketAddr),
    /// No TLS where there should be.
    #[error(
        "{address} does not speak TLS as [admin] tls says: was the daemon restarted since that was written?"
    )]
    Tls {
        /// Where it was tried.
        address: SocketAddr,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// Somebody else listens there.
    #[error("what answers at {0} is not an admin port of ours")]
    NotOurs(SocketAddr),
    /// The daemon refused.
    #[error("the daemon answered {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its body, if it is text.
        text: String,
    },
}

/// The JSON of `/status`.
pub async fn fetch_status(access: impl Into<Access>) -> Result<Value, RequestError> {
    fetch(access, "/status").await
}

/// Lets a daemon read its configuration again; gives what changed.
pub async fn ask_to_reload(access: impl Into<Access>) -> Result<Value, RequestError> {
    post_json(access, RELOAD, &json!({})).await
}

/// A GET that is answered with JSON. `path` starts with a slash and is percent-encoded where it has to be.
pub async fn fetch(access: impl Into<Access>, path: &str) -> Result<Value, RequestError> {
    let access = access.into();
    let address = access.address;
    let head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n");
    exchange(&access, head.into_bytes(), ANSWER_TIMEOUT).await
}

/// A GET that is answered with text.
pub async fn fetch_text(access: impl Into<Access>, path: &str) -> Result<String, RequestError> {
    let access = access.into();
    let address = access.address;
    let head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let body = answer(&access, head.into_bytes(), ANSWER_TIMEOUT).await?;
    String::from_utf8(body).map_err(|_| RequestError::NotOurs(address))
}

/// A POST of JSON that is answered with JSON.
pub async fn post_json(access: impl Into<Access>, path: &str, body: &Value) -> Result<Value, RequestError> {
    post_json_within(access, path, body, ANSWER_TIMEOUT).await
}

/// The same for what takes longer.
pub async fn post_json_within(
    access: impl Into<Access>,
    path: &str,
    body: &Value,
    within: Duration,
) -> Result<Value, RequestError> {
    let access = access.into();
    let address = access.address;
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    exchange(&access, head.into_bytes(), within).await
}

/// A GET whose answer comes line by line, for as long as the daemon gives it.
pub async fn follow(
    access: impl Into<Access>,
    path: &str,
    mut line: impl FnMut(&str),
) -> Result<(), RequestError> {
    let access = access.into();
    let address = access.address;
    let connection = |source| RequestError::Connection { address, source };
    let head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let connected = tokio::time::timeout(ANSWER_TIMEOUT, connect(&access));
    let mut stream = connected.await.map_err(|_| RequestError::TimeOut(address))??;
    stream.write_all(head.as_bytes()).await.map_err(connection)?;
    let mut lines = BufReader::new(stream).lines();
    let mut next = async || lines.next_line().await.map_err(connection);
    let first = next().await?.ok_or(RequestError::NotOurs(address))?;
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status: u16 = status.ok_or(RequestError::NotOurs(address))?;
    while next().await?.is_some_and(|header| !header.is_empty()) {}
    while let Some(said) = next().await? {
        if !(200..300).contains(&status) {
            return Err(RequestError::Refused { status, text: said });
        }
        line(&said);
    }
    Ok(())
}

async fn exchange(access: &Access, request: Vec<u8>, within: Duration) -> Result<Value, RequestError> {
    let body = answer(access, request, within).await?;
    if body.is_empty() {
        return Ok(json!(null));
    }
    serde_json::from_slice(&body).map_err(|_| RequestError::NotOurs(access.address))
}

/// HTTP/1.0: the answer ends with the connection, so there is no chunked coding to undo.
async fn answer(access: &Access, request: Vec<u8>, within: Duration) -> Result<Vec<u8>, RequestError> {
    let address = access.address;
    let connection = |source| RequestError::Connection { address, source };
    let answer = tokio::time::timeout(within, async {
        ask(connect(access).await?, &request).await.map_err(connection)
    });
    let answer = answer.await.map_err(|_| RequestError::TimeOut(address))??;
    let (status, body) = split(&answer).ok_or(RequestError::NotOurs(address))?;
    if !(200..300).contains(&status) {
        let text = String::from_utf8_lossy(body).trim().chars().take(500).collect();
        return Err(RequestError::Refused { status, text });
    }
    Ok(body.to_vec())
}

/// To the admin port, with TLS or without.
async fn connect(access: &Access) -> Result<Box<dyn Connection>, RequestError> {
    let address = access.address;
    let stream =
        TcpStream::connect(address).await.map_err(|source| RequestError::Connection { address, source })?;
    let secured =
        access.secured(stream).await.map_err(|source| match tls::is_other_certificate(&source) {
            true => RequestError::OtherCertificate(address),
            false => RequestError::Tls { address, source },
        })?;
    Ok(match secured {
        Ok(stream) => Box::new(stream),
        Err(stream) => Box::new(stream),
    })
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Connection for S {}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Status code and body of an HTTP/1 answer.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end + 4)?;
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let rest = line.strip_prefix("HTTP/1.0 ").or_else(|| line.strip_prefix("HTTP/1.1 "))?;
    Some((rest.get(..3)?.parse().ok()?, body))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Running {
        address: SocketAddr,
        ready: Arc<AtomicBool>,
        token: CancellationToken,
        task: tokio::task::JoinHandle<io::Result<()>>,
    }

    async fn start() -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, token) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let flag = ready.clone();
        let readiness = move || {
            let ready = flag.load(Ordering::SeqCst);
            async move { if ready { Readiness::Ready } else { Readiness::NotReady("no relay connected".into()) } }
        };
        let admin = Admin::new(readiness, || async { json!({ "role": "relay", "held": 3 }) });
        let admin = admin.merge(Router::new().route("/echo", post(|body: Json<Value>| async { body })));
        let task = tokio::spawn(admin.serve(listener, token.clone()));
        Running { address, ready, token, task }
    }

    async fn raw(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn status_is_fetched_and_serving_ends_with_the_token() {
        let running = start().await;
        assert_eq!(fetch_status(running.address).await.unwrap(), json!({ "role": "relay", "held": 3 }));
        assert_eq!(post_json(running.address, "/echo", &json!([1, "ä"])).await.unwrap(), json!([1, "ä"]));
        running.token.cancel();
        running.task.await.unwrap().unwrap();
        let error = fetch_status(running.address).await.unwrap_err();
        assert!(error.to_string().ends_with("is the daemon running?"), "{error}");
    }

    #[tokio::test]
    async fn readiness_follows_the_daemon() {
        let running = start().await;
        let error = fetch(running.address, "/readyz").await.unwrap_err();
        assert_eq!(error.to_string(), "the daemon answered 503: no relay connected");
        running.ready.store(true, Ordering::SeqCst);
        let answer = raw(running.address, "GET /readyz HTTP/1.0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("ready\n"), "{answer}");
        let answer = raw(running.address, "GET /healthz HTTP/1.0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("no-store"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_by_another_name_is_refused() {
        let running = start().await;
        let cases = [
            ("127.0.0.1:9000", "200"),
            ("[::1]:9000", "200"),
            ("localhost:9000", "200"),
            ("LOCALHOST", "200"),
            ("evil.example", "421"),
            ("127.0.0.1.evil.example:80", "421"),
            ("localhost.evil.example", "421"),
            ("", "421"),
        ];
        for (host, status) in cases {
            let answer =
                raw(running.address, &format!("GET /healthz HTTP/1.0\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(answer.get(9..12), Some(status), "{host:?}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_stranger_on_the_port_is_recognised() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stranger = tokio::spawn(async move {
            for answer in ["SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n<html>", "HTTP/1.1 4"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        for _ in 0..3 {
            assert!(matches!(fetch_status(address).await, Err(RequestError::NotOurs(_))));
        }
        stranger.await.unwrap();
    }
}
