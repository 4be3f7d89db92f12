//! A `[[destination]]` of the kind `stow`: the URL of a DICOM web service, the certificates that it is called with, and what it is
//! shown so that it lets us store.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base::{Host, ServiceUrl};
use dimse::{Dialer, PeerTls, TlsRefused};
use serde::{Deserialize, Serialize};
use service::{
    config::{ConfigError, Loaded},
    files,
};
use stow::Authorization;

use super::{Config, DestinationTable, Kind, PrivateVrRule, Reencode};
use crate::commitment::Means;

/// `tls` of a `[[destination]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsTable {
    /// PEM file of the authorities of the destination's certificate. There are no others: the host's own do not count.
    pub ca: PathBuf,
    /// PEM file of our certificate, and behind it of those that lead to its authority. A `stow` destination need not be shown one.
    pub cert: Option<PathBuf>,
    /// PEM file of its private key (PKCS #8, PKCS #1 or SEC 1), not encrypted.
    pub key: Option<PathBuf>,
    /// The host name or address among the subject alternative names of the destination's certificate. Default: the address that we
    /// call, or for `stow` the host in `url`. `"*"` is any: whoever has a certificate of `ca` is then taken for the destination.
    pub name: Option<String>,
}

impl TlsTable {
    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.ca).chain(&self.cert).chain(&self.key)
    }

    /// As an application entity is called: with a certificate of ours.
    pub(super) fn peer(&self) -> Result<PeerTls, &'static str> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Ok(PeerTls {
                ca: self.ca.clone(),
                cert: cert.clone(),
                key: key.clone(),
                name: self.name.clone(),
            }),
            _ => Err("an application entity is shown a certificate: give `cert` and `key`"),
        }
    }

    fn web(&self, loaded: &Loaded<Config>, host: &str) -> Result<Dialer, TlsRefused> {
        let own = self.cert.as_ref().zip(self.key.as_ref());
        let own = own.map(|(cert, key)| (loaded.resolve(cert), loaded.resolve(key)));
        Dialer::web(loaded.resolve(&self.ca), own, (self.name.as_deref(), host))
    }
}

/// A `kind = "stow"` destination.
#[derive(Debug, Clone)]
pub struct StowTarget {
    /// The root of its services.
    pub url: ServiceUrl,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is called: with TLS, or without.
    pub dialer: Dialer,
    /// What it is shown.
    pub credentials: Credentials,
    /// Connections at one time.
    pub max_associations: usize,
    /// How long an idle connection is kept.
    pub linger: Duration,
    /// Limit of connecting and handshake.
    pub connect_timeout: Duration,
    /// Limit of each wait for the service.
    pub response_timeout: Duration,
    /// Pace at which one that is down is asked.
    pub probe_every: Duration,
}

impl StowTarget {
    /// Takes over certificates and credentials of the same service, for requests from now on.
    pub fn exchange(&self, now: &Self) {
        if (&self.url, self.address) == (&now.url, now.address) {
            self.dialer.exchange(&now.dialer);
            self.credentials.exchange(&now.credentials);
        }
    }
}

/// What a service is shown, as it is now: clones see the same.
#[derive(Debug, Clone)]
pub struct Credentials(Arc<RwLock<Option<Authorization>>>);

impl Credentials {
    /// For the next request.
    pub fn now(&self) -> Option<Authorization> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn exchange(&self, other: &Self) {
        let now = other.now();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// Checks all keys of one such table.
pub(super) fn check(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
) -> Result<StowTarget, ConfigError> {
    let refuse = |key: &str, message: String| loaded.error(&format!("destination[{i}].{key}"), message);
    let Some(url) = &table.url else {
        let hint = "give the root of its DICOM web services, as in \"https://pacs.example/dicom-web\"";
        return Err(super::destination::missing(loaded, i, table, "url", hint));
    };
    if url.path().ends_with("/studies") {
        let message = "\"/studies\" is added to it: give the root of the service without it".to_owned();
        return Err(refuse("url", message));
    }
    if let Some((key, why)) = foreign(table) {
        return Err(refuse(key, format!("{why}; remove it")));
    }
    let address = address(url, table.address).map_err(|why| refuse("address", why))?;
    let dialer = dialer(loaded, i, table, url)?;
    let credentials = credentials(loaded, i, table)?;
    if credentials.is_some() && !url.is_secure() && !address.ip().is_loopback() {
        let message =
            "without TLS everybody on the way could read the credentials; give an https:// URL and `tls`";
        return Err(refuse("url", message.to_owned()));
    }
    Ok(StowTarget {
        url: url.clone(),
        address,
        dialer,
        credentials: Credentials(Arc::new(RwLock::new(credentials))),
        max_associations: table.max_associations.clamp(1, 64),
        linger: table.linger.0,
        connect_timeout: table.connect_timeout.0,
        response_timeout: table.response_timeout.0,
        probe_every: table.probe_every.0.max(Duration::from_millis(100)),
    })
}

/// Keys of other kinds, which would be without effect here.
fn foreign(table: &DestinationTable) -> Option<(&'static str, &'static str)> {
    let of_entity = "a web service is called by no AE title";
    let takes_any = "a web service is sent every transfer syntax, and asked for none before";
    let not_proposed = "there is no association that could propose it";
    [
        (table.dir.is_some(), "dir", "only a folder has one"),
        (table.ae.is_some(), "ae", of_entity),
        (table.calling.is_some(), "calling", of_entity),
        (table.probe_calling.is_some(), "probe_calling", of_entity),
        (!table.probe_classes.is_empty(), "probe_classes", takes_any),
        (table.probe_syntaxes.is_some(), "probe_syntaxes", takes_any),
        (table.reencode != Reencode::Off, "reencode", takes_any),
        (table.private_vr != PrivateVrRule::Keep, "private_vr", takes_any),
        (table.async_operations.is_some(), "async_operations", not_proposed),
        (table.means != Means::Delivered, "means", "a web service has no storage commitment"),
        (table.commitment.is_some(), "commitment", "a web service has no storage commitment"),
    ]
    .into_iter()
    .find_map(|(is_given, key, why)| is_given.then_some((key, why)))
}

/// Keys of this kind, in a table of another.
pub(super) fn only_here(table: &DestinationTable) -> Option<&'static str> {
    match table.kind {
        Kind::Stow => None,
        _ if table.url.is_some() => Some("url"),
        _ if table.bearer.is_some() => Some("bearer"),
        _ => None,
    }
}

/// Nothing asks DNS, so a name alone is not enough.
fn address(url: &ServiceUrl, given: Option<SocketAddr>) -> Result<SocketAddr, String> {
    match (url.host(), given) {
        (Host::Address(ip), None) => Ok(SocketAddr::new(*ip, url.port())),
        (Host::Address(ip), Some(given)) if given == SocketAddr::new(*ip, url.port()) => Ok(given),
        (Host::Address(_), Some(_)) => Err("`url` has another address; remove one of the two".to_owned()),
        (Host::Name(_), Some(given)) => Ok(given),
        (Host::Name(name), None) => Err(format!(
            "no name is looked up by this daemon: give the address and port of {name} here, as in \"192.0.2.7:{}\"",
            url.port()
        )),
    }
}

fn dialer(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
    url: &ServiceUrl,
) -> Result<Dialer, ConfigError> {
    let refuse =
        |key: &str, message: &str| Err(loaded.error(&format!("destination[{i}].{key}"), message.to_owned()));
    match (&table.tls, url.is_secure()) {
        (None, false) => Ok(Dialer::plain()),
        (None, true) => refuse(
            "url",
            "https needs `tls = { ca = \"…\" }`, the authority of the service's certificate; the host's own do not count",
        ),
        (Some(_), false) => {
            refuse("tls", "`url` is http://, which has no TLS; write https://, or remove this")
        }
        (Some(tls), true) if tls.cert.is_some() != tls.key.is_some() => {
            refuse("tls", "a certificate needs its key, and a key its certificate: give both, or neither")
        }
        (Some(tls), true) => {
            let host = match url.host() {
                Host::Address(IpAddr::V6(ip)) => ip.to_string(),
                host => host.to_string(),
            };
            let refused = |refused: TlsRefused| {
                loaded.error(&format!("destination[{i}].tls.{}", refused.key), refused.to_string())
            };
            tls.web(loaded, &host).map_err(refused)
        }
    }
}

fn credentials(
    loaded: &Loaded<Config>,
    i: usize,
    table: &DestinationTable,
) -> Result<Option<Authorization>, ConfigError> {
    let refuse = |key: &str, message: String| loaded.error(&format!("destination[{i}].{key}"), message);
    match (&table.bearer, &table.user) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(refuse("bearer", "the service is shown a token or a user, not both; remove one".to_owned()))
        }
        (Some(file), None) => {
            let file = loaded.resolve(file);
            let token = files::read_secret(&file).map_err(|why| refuse("bearer", why.to_string()))?;
            let shown = |error| refuse("bearer", format!("{}: {error}", file.display()));
            Authorization::bearer(&token).map(Some).map_err(shown)
        }
        (None, Some(user)) => {
            let Some(file) = &user.passcode else {
                let message = "HTTP has no user without a password: give its file as `passcode`".to_owned();
                return Err(refuse("user", message));
            };
            let file = loaded.resolve(file);
            let password =
                files::read_secret(&file).map_err(|why| refuse("user.passcode", why.to_string()))?;
            match Authorization::basic(&user.name, &password) {
                Ok(basic) if !user.name.is_empty() => Ok(Some(basic)),
                Ok(_) => Err(refuse("user.name", "empty; give a name, or leave `user` out".to_owned())),
                Err(error @ stow::AuthorizationError::Password) => {
                    Err(refuse("user.passcode", format!("{}: {error}", file.display())))
                }
                Err(error) => Err(refuse("user.name", error.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Secret;

    use super::*;

    fn target(url: &str, port: u16, token: Option<&str>) -> StowTarget {
        let token = token.map(|token| Authorization::bearer(&Secret::new(token.to_owned())).unwrap());
        StowTarget {
            url: ServiceUrl::parse(url).unwrap(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            dialer: Dialer::plain(),
            credentials: Credentials(Arc::new(RwLock::new(token))),
            max_associations: 1,
            linger: Duration::ZERO,
            connect_timeout: Duration::ZERO,
            response_timeout: Duration::ZERO,
            probe_every: Duration::ZERO,
        }
    }

    #[test]
    fn another_token_is_shown_to_the_same_service_only() {
        let url = "http://127.0.0.1:8042/dicom-web";
        for (later, port, is_taken) in
            [(url, 8042, true), ("http://127.0.0.1:8042/other", 8042, false), (url, 8043, false)]
        {
            let running = target(url, 8042, Some("first"));
            let used = running.clone();
            let now = target(later, port, Some("second"));
            running.exchange(&now);
            let want = if is_taken { &now } else { &target(url, 8042, Some("first")) };
            assert_eq!(used.credentials.now(), want.credentials.now(), "{later} at {port}");
        }
        let running = target(url, 8042, Some("first"));
        running.exchange(&target(url, 8042, None));
        assert_eq!(running.credentials.now(), None);
    }

    #[test]
    fn a_name_needs_an_address_and_an_address_none() {
        let address = |text: &str| Some(text.parse().unwrap());
        let cases = [
            ("http://127.0.0.1:8042/", None, Ok("127.0.0.1:8042")),
            ("http://[::1]/", None, Ok("[::1]:80")),
            ("https://192.0.2.7/", address("192.0.2.7:443"), Ok("192.0.2.7:443")),
            ("https://pacs.example/", address("192.0.2.7:8443"), Ok("192.0.2.7:8443")),
            ("https://192.0.2.7/", address("192.0.2.8:443"), Err("another address")),
            ("https://pacs.example/", None, Err("as in \"192.0.2.7:443\"")),
        ];
        for (url, given, want) in cases {
            match (super::address(&ServiceUrl::parse(url).unwrap(), given), want) {
                (Ok(found), Ok(want)) => assert_eq!(found.to_string(), want),
                (Err(error), Err(want)) => assert!(error.contains(want), "{error}"),
                (outcome, _) => panic!("{url}: {outcome:?}"),
            }
        }
    }
}
