//! TLS 1.3 on the admin port: for an address that is not this machine's own. Certificate and key are files that somebody
//! else renews; they are read again on SIGHUP and on `POST /reload`, and where they cannot be used the earlier ones stay.
//!
//! Commands of the same configuration know the daemon by its certificate file: exactly that certificate, and no authority.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme, version};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tracing::{debug, error, info};

/// Handshakes at one time; more connections wait in the kernel.
const HANDSHAKES_MAX: usize = 64;
/// One handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After an accept that failed, as when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// `[admin] tls = { cert = "…", key = "…" }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminTlsTable {
    /// PEM file of the certificate, and behind it of those that lead to its authority.
    pub cert: PathBuf,
    /// PEM file of its private key (PKCS #8, PKCS #1 or SEC 1), not encrypted.
    pub key: PathBuf,
}

/// Certificate and key of an admin port, as they are now: clones see the same.
#[derive(Clone)]
pub struct AdminTls {
    cert: PathBuf,
    key: PathBuf,
    now: Arc<RwLock<Now>>,
}

struct Now {
    config: Arc<ServerConfig>,
    /// Why the files are not used that are there.
    refused: Option<String>,
}

/// Why certificate and key cannot be used.
#[derive(Debug, Error)]
pub enum AdminTlsError {
    /// The certificate file.
    #[error("{}: no certificate in PEM can be read: {reason}; correct the path, or the file", path.display())]
    Cert {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key file.
    #[error("{}: no private key in PEM can be read: {reason}; correct the path, or the file", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// They do not belong together, or are of a kind that is not supported.
    #[error("{} and {} cannot be used together: {reason}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
        /// What is wrong.
        reason: rustls::Error,
    },
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The certificates of a PEM file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AdminTlsError> {
    let refuse = |reason: String| AdminTlsError::Cert { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|error| refuse(error.to_string()))?;
    if chain.is_empty() { Err(refuse("there is none".to_owned())) } else { Ok(chain) }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, AdminTlsError> {
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| AdminTlsError::Key { path: key.to_owned(), reason: error.to_string() })?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, private));
    let pair = |reason| AdminTlsError::Pair { cert: cert.to_owned(), key: key.to_owned(), reason };
    let mut config = config.map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl AdminTls {
    /// Reads both files.
    pub fn read(cert: PathBuf, key: PathBuf) -> Result<Self, AdminTlsError> {
        let config = read(&cert, &key)?;
        Ok(Self { cert, key, now: Arc::new(RwLock::new(Now { config, refused: None })) })
    }

    /// Both files, for a sandbox.
    pub fn files(&self) -> [&Path; 2] {
        [&self.cert, &self.key]
    }

    /// Reads them again; where they cannot be used, the earlier ones stay. It blocks for as long as two small files take.
    pub fn reload(&self) -> Result<(), String> {
        let read = read(&self.cert, &self.key).map_err(|error| error.to_string());
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(config) => {
                info!(cert = %self.cert.display(), "certificate of the admin port read again");
                *now = Now { config, refused: None };
                Ok(())
            }
            Err(reason) => {
                error!(reason, "the admin port keeps its earlier certificate");
                now.refused = Some(reason.clone());
                Err(reason)
            }
        }
    }

    /// Why the files that are there are not used, if they are not.
    pub fn refused(&self) -> Option<String> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).refused.clone()
    }

    fn config(&self) -> Arc<ServerConfig> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).config.clone()
    }
}

impl std::fmt::Debug for AdminTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminTls").field("cert", &self.cert).finish_non_exhaustive()
    }
}

/// A port whose connections have finished their handshakes. One that is slow keeps nobody waiting.
pub(crate) struct TlsListener {
    tcp: TcpListener,
    tls: AdminTls,
    shaking: JoinSet<io::Result<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl TlsListener {
    pub(crate) fn new(tcp: TcpListener, tls: AdminTls) -> Self {
        Self { tcp, tls, shaking: JoinSet::new() }
    }

    fn shake(&mut self, stream: TcpStream, from: SocketAddr) {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.tls.config());
        self.shaking.spawn(async move {
            let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
            Ok((stream, from))
        });
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                accepted = self.tcp.accept(), if self.shaking.len() < HANDSHAKES_MAX => match accepted {
                    Ok((stream, from)) => self.shake(stream, from),
                    Err(error) => {
                        debug!(%error, "admin port");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(shaken) = self.shaking.join_next() => match shaken {
                    Ok(Ok(connection)) => return connection,
                    Ok(Err(error)) => debug!(%error, "TLS handshake on the admin port"),
                    Err(error) => debug!(%error, "TLS handshake on the admin port"),
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// Where a daemon's admin port is, and by which certificate it is known, if it speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Address and TCP port.
    pub address: SocketAddr,
    certificate: Option<CertificateDer<'static>>,
}

impl From<SocketAddr> for Access {
    fn from(address: SocketAddr) -> Self {
        Self { address, certificate: None }
    }
}

impl From<&Self> for Access {
    fn from(access: &Self) -> Self {
        access.clone()
    }
}

impl Access {
    /// With the first certificate of a file.
    pub fn with_certificate(address: SocketAddr, cert: &Path) -> Result<Self, AdminTlsError> {
        Ok(Self { address, certificate: certificates(cert)?.into_iter().next() })
    }

    /// Makes a connection secure; None where it is a plain one.
    pub(crate) async fn secured(
        &self,
        stream: TcpStream,
    ) -> io::Result<Result<tokio_rustls::client::TlsStream<TcpStream>, TcpStream>> {
        let Some(certificate) = &self.certificate else { return Ok(Err(stream)) };
        let verifier = Arc::new(Exactly { certificate: certificate.clone(), provider: provider() });
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let name = ServerName::from(self.address.ip());
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(Ok)
    }
}

/// Whether a handshake ended because the other side showed another certificate.
pub(crate) fn is_other_certificate(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)))
}

/// Takes one certificate, whatever it says of itself; that its key is there, the handshake proves.
#[derive(Debug)]
struct Exactly {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
