//! `[alarm.webhook]`: a POST of JSON (RFC 9110, RFC 8259).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use super::message::Message;
use crate::config::{ConfigError, Loaded};
use crate::{files, tls};

/// All of it, from the look-up of the name to the answer.
const WITHIN: Duration = Duration::from_secs(20);

/// `[alarm.webhook]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookTable {
    /// Where the JSON is posted to; its `text` is what chat services show. `https_proxy` and `no_proxy` of the environment count.
    pub url: String,
    /// A file with a token, readable for the daemon's user only: sent as `Authorization: Bearer`. Default: none.
    pub token: Option<PathBuf>,
    /// Authorities in PEM that the server's certificate is of. Default: those of the host.
    pub ca: Option<PathBuf>,
}

impl WebhookTable {
    pub(super) fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let uri = self.url.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
        let scheme = uri.as_ref().and_then(Uri::scheme_str);
        if !matches!(scheme, Some("https" | "http")) {
            return Err(loaded.error(
                "alarm.webhook.url",
                "give a URL, as in \"https://chat.hospital.example/hooks/sluis\"",
            ));
        }
        if has_user(&self.url) {
            return Err(loaded.error(
                "alarm.webhook.url",
                "a user or password does not stand in a URL: give a token by its file",
            ));
        }
        if self.token.is_some() && scheme == Some("http") {
            return Err(loaded.error("alarm.webhook.url", "a token is not sent without TLS: give https://"));
        }
        Ok(())
    }

    pub(super) fn check_files<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        if let Some(token) = &self.token {
            files::read_secret(&loaded.resolve(token))
                .map_err(|error| loaded.error("alarm.webhook.token", error.to_string()))?;
        }
        if let Some(ca) = &self.ca {
            tls::certificates(&loaded.resolve(ca))
                .map_err(|error| loaded.error("alarm.webhook.ca", error.to_string()))?;
        }
        Ok(())
    }

    /// Posts it. Paths in the table start at `dir`.
    pub(super) fn send(&self, message: &Message<'_>, dir: &Path) -> Result<String> {
        // The daemon has not necessarily agreed to what stands in the file by now.
        ensure!(!has_user(&self.url), "a user or password does not stand in a URL");
        ensure!(self.token.is_none() || self.url.starts_with("https://"), "a token is not sent without TLS");
        let mut config = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        if let Some(ca) = &self.ca {
            let all = tls::certificates(&dir.join(ca))?;
            let all: Vec<_> = all.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
            config = config.root_certs(RootCerts::new_with_certs(&all));
        }
        let agent: Agent = Agent::config_builder()
            .tls_config(config.build())
            .timeout_global(Some(WITHIN))
            // A token goes to where it is meant for, and a wrong address is an error.
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent("sluis-alarm")
            .build()
            .into();
        let mut request = agent.post(&self.url).header("Content-Type", "application/json");
        if let Some(token) = &self.token {
            let token = files::read_secret(&dir.join(token))?;
            request = request.header("Authorization", format!("Bearer {}", token.expose()));
        }
        let response = request.send(message.json().to_string())?;
        let status = response.status();
        if !status.is_success() {
            bail!("it answers {status}");
        }
        Ok(status.to_string())
    }
}

/// As in `https://user:password@host/`, which HTTP libraries send as a password.
fn has_user(url: &str) -> bool {
    url.parse::<Uri>()
        .ok()
        .is_some_and(|uri| uri.authority().is_some_and(|authority| authority.as_str().contains('@')))
}
