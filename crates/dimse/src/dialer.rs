//! What an operator writes about TLS with peers, checked; and the one way to open an association to a peer, with TLS or
//! without. Certificates are exchanged while all of it is in use: clones see the same.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};

use crate::{
    failure::ConnectError,
    requestor::{Requestor, RequestorConfig},
    tls::{Authorities, Credentials, PeerName, TlsAcceptor, TlsConnector, TlsError, TlsFiles},
};

/// `tls = { ca = "…", cert = "…", key = "…", name = "…" }` of a peer that we call: the association is TLS 1.2 or 1.3,
/// and both sides show a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerTls {
    /// PEM file of the authorities of the peer's certificate. There are no others: the host's own do not count.
    pub ca: PathBuf,
    /// PEM file of our certificate, and behind it of those that lead to its authority.
    pub cert: PathBuf,
    /// PEM file of its private key (PKCS #8, PKCS #1 or SEC 1), not encrypted.
    pub key: PathBuf,
    /// The host name or address among the subject alternative names of the peer's certificate. Default: the address that
    /// we call. `"*"` is any: whoever has a certificate of `ca` is then taken for the peer.
    pub name: Option<String>,
}

/// `[dicom.tls]`: the port on which peers speak TLS 1.2 or 1.3, and show a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenTls {
    /// Address and port; 2762 by convention.
    pub listen: SocketAddr,
    /// PEM file of our certificate, and behind it of those that lead to its authority.
    pub cert: PathBuf,
    /// PEM file of its private key (PKCS #8, PKCS #1 or SEC 1), not encrypted.
    pub key: PathBuf,
    /// PEM file of the authorities of peers' certificates: whoever shows none of theirs is refused. A certificate is bound
    /// to no AE title: which peer may use which route is said there.
    pub clients: PathBuf,
}

/// Which key of a table cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct TlsRefused {
    /// As the table calls it.
    pub key: &'static str,
    /// Why.
    pub error: TlsError,
}

/// The keys by which a table calls the three files.
struct Keys {
    files: TlsFiles,
    authorities: &'static str,
}

impl Keys {
    fn refused(&self, error: TlsError) -> TlsRefused {
        let key = match &error {
            TlsError::Read { path, .. } | TlsError::NoCertificate { path }
                if *path == self.files.certificate =>
            {
                "cert"
            }
            TlsError::Read { path, .. } if *path == self.files.key => "key",
            TlsError::Read { .. }
            | TlsError::NoCertificate { .. }
            | TlsError::Authority { .. }
            | TlsError::Verifier(_) => self.authorities,
            TlsError::NoKey { .. } | TlsError::Identity(_) => "key",
            TlsError::PeerName(_) => "name",
        };
        TlsRefused { key, error }
    }
}

impl PeerTls {
    /// The files that it names.
    pub fn files(&self) -> [&PathBuf; 3] {
        [&self.ca, &self.cert, &self.key]
    }

    /// Reads them; `resolve` says where a file of that name is, and `address` whom we call.
    pub fn read(
        &self,
        resolve: impl Fn(&Path) -> PathBuf,
        address: IpAddr,
    ) -> Result<TlsConnector, TlsRefused> {
        let files = TlsFiles {
            certificate: resolve(&self.cert),
            key: resolve(&self.key),
            authorities: resolve(&self.ca),
        };
        let keys = Keys { files, authorities: "ca" };
        let name = match self.name.as_deref() {
            Some("*") => PeerName::NotChecked,
            Some(name) => PeerName::Is(name.to_owned()),
            None => PeerName::Is(address.to_string()),
        };
        let connector =
            Credentials::read(&keys.files).and_then(|credentials| TlsConnector::new(&credentials, &name));
        connector.map_err(|error| keys.refused(error))
    }
}

impl ListenTls {
    /// The files that it names.
    pub fn files(&self) -> [&PathBuf; 3] {
        [&self.cert, &self.key, &self.clients]
    }

    /// Reads them; `resolve` says where a file of that name is.
    pub fn read(&self, resolve: impl Fn(&Path) -> PathBuf) -> Result<Doorkeeper, TlsRefused> {
        let files = TlsFiles {
            certificate: resolve(&self.cert),
            key: resolve(&self.key),
            authorities: resolve(&self.clients),
        };
        let keys = Keys { files, authorities: "clients" };
        let acceptor = Credentials::read(&keys.files).and_then(|credentials| TlsAcceptor::new(&credentials));
        let acceptor = acceptor.map_err(|error| keys.refused(error))?;
        Ok(Doorkeeper(Arc::new(RwLock::new(acceptor))))
    }
}

/// The certificates of a TLS port, as they are now.
#[derive(Debug, Clone)]
pub struct Doorkeeper(Arc<RwLock<TlsAcceptor>>);

impl Doorkeeper {
    /// For the next association.
    pub fn now(&self) -> TlsAcceptor {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over the other's certificates, for associations from now on.
    pub fn exchange(&self, other: &Self) {
        let now = other.now();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// Opens associations to a peer.
#[derive(Debug, Clone, Default)]
pub struct Dialer {
    pub(crate) tls: Option<Arc<RwLock<TlsConnector>>>,
}

impl Dialer {
    /// Without TLS.
    pub fn plain() -> Self {
        Self::default()
    }

    /// With TLS.
    pub fn secure(connector: TlsConnector) -> Self {
        Self { tls: Some(Arc::new(RwLock::new(connector))) }
    }

    /// With or without, as a table says.
    pub fn of(
        table: Option<&PeerTls>,
        resolve: impl Fn(&Path) -> PathBuf,
        address: IpAddr,
    ) -> Result<Self, TlsRefused> {
        table.map_or(Ok(Self::plain()), |table| Ok(Self::secure(table.read(resolve, address)?)))
    }

    /// With TLS, to a web server. It need not be shown a certificate; where it asks for one, that of `own` is: its file, and that
    /// of its key. `host` is whom its certificate has to name where `name` is not given.
    pub fn web(
        authorities: PathBuf,
        own: Option<(PathBuf, PathBuf)>,
        (name, host): (Option<&str>, &str),
    ) -> Result<Self, TlsRefused> {
        let name = match name {
            Some("*") => PeerName::NotChecked,
            name => PeerName::Is(name.unwrap_or(host).to_owned()),
        };
        let is_shown = own.is_some();
        let (certificate, key) = own.unwrap_or_default();
        let keys = Keys { files: TlsFiles { certificate, key, authorities }, authorities: "ca" };
        let connector = match is_shown {
            true => Credentials::read(&keys.files).and_then(|credentials| {
                TlsConnector::web(&credentials.authorities, Some(&credentials), &name)
            }),
            false => Authorities::read(&keys.files.authorities)
                .and_then(|authorities| TlsConnector::web(&authorities, None, &name)),
        };
        connector.map(Self::secure).map_err(|error| keys.refused(error))
    }

    /// TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Takes over the other's certificates, for associations from now on; nothing, where only one of them speaks TLS, or
    /// to a peer of another name.
    pub fn exchange(&self, other: &Self) {
        if let (Some(own), Some(other)) = (&self.tls, &other.tls) {
            let now = other.read().unwrap_or_else(PoisonError::into_inner).clone();
            let mut own = own.write().unwrap_or_else(PoisonError::into_inner);
            if own.is_like(&now) {
                *own = now;
            }
        }
    }

    /// Connects and negotiates.
    pub async fn dial(
        &self,
        address: SocketAddr,
        config: RequestorConfig,
    ) -> Result<Requestor, ConnectError> {
        let tls = self.tls.as_ref().map(|tls| tls.read().unwrap_or_else(PoisonError::into_inner).clone());
        match tls {
            Some(tls) => Requestor::connect_tls(address, config, &tls).await,
            None => Requestor::connect(address, config).await,
        }
    }
}
