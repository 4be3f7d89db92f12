//! What a daemon shows on its admin port beside health and status, without knowing the server behind it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The path, with its first slash.
    pub path: String,
    /// What follows the question mark. A name that is given twice counts once, by its last value.
    pub query: BTreeMap<String, String>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
}

/// Nothing is loaded from anywhere, nothing runs, nobody frames it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Ask {
    pub(crate) fn of(uri: &Uri) -> Self {
        Self { path: uri.path().to_owned(), query: pairs(uri.query().unwrap_or("")) }
    }

    /// A decimal number in the query; `default` where it is not given.
    pub fn number(&self, name: &str, default: u64) -> Result<u64, Answer> {
        match self.query.get(name) {
            None => Ok(default),
            Some(text) => {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                let number = text.parse().ok().filter(|_| digits);
                number.ok_or_else(|| Answer::refused(400, &format!("{name} is not a decimal number")))
            }
        }
    }
}

impl Answer {
    /// 200 with bytes of that type.
    pub fn new(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, content_type, body: body.into() }
    }

    /// 200 with text.
    pub fn text(body: String) -> Self {
        Self::new("text/plain; charset=utf-8", body)
    }

    /// 200 with a page.
    pub fn html(body: String) -> Self {
        Self::new("text/html; charset=utf-8", body)
    }

    /// 200 with JSON.
    pub fn json(body: &Value) -> Self {
        Self::new("application/json", body.to_string())
    }

    /// Another status, and why, as JSON.
    pub fn refused(status: u16, reason: &str) -> Self {
        let body = json!({ "ok": false, "error": reason }).to_string().into_bytes();
        Self { status, content_type: "application/json", body }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

/// Names and values as they stand there: what needs an escape is none of ours, and is refused as a value.
fn pairs(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect()
}

/// For a path that is none of a daemon's.
pub(crate) async fn nothing_here() -> Response {
    Answer::refused(404, "nothing is at this path").into_response()
}

/// Routes for GET on these paths (axum's notation), all answered by one function.
pub(crate) fn router<F, A>(paths: &[&str], answer: F) -> Router
where
    F: Fn(Ask) -> A + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let answer = Arc::new(answer);
    let handler = move |request: Request| {
        let answer = answer.clone();
        async move { answer(Ask::of(request.uri())).await.into_response() }
    };
    paths.iter().fold(Router::new(), |router, path| router.route(path, get(handler.clone())))
}
