//! DIMSE over TLS (PS3.15 B.12 and B.13: BCP 195, that is RFC 8996 and RFC 9325), by convention on port 2762.
//!
//! TLS 1.3 and 1.2, the latter with the four ECDHE suites with AES-GCM that RFC 9325 §4.2 recommends, and with
//! ChaCha20-Poly1305 beside them. Key exchange: X25519MLKEM768, X25519, P-256, P-384. What rustls has not: the
//! DHE-RSA suites of RFC 7525 (the retired profile of PS3.15 B.9), any CBC or RSA key transport suite (retired profiles
//! B.1 and B.3), and renegotiation; RFC 9325 asks for none of them. Revocation lists are not read. Nothing is resumed,
//! so that each association has a handshake in which certificates are verified.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use base::Secret;
use bytes::BytesMut;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{client, server};

use crate::link::Socket;

/// Port for DICOM over TLS, registered as dicom-tls (PS3.15 B.12).
pub const TLS_PORT: u16 = 2762;

/// Where certificates and key are, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate, then those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
    /// The authorities that sign peers' certificates. There are no others.
    pub authorities: PathBuf,
}

/// Why TLS cannot be set up. The operator has to act.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file.
    #[error("{path} cannot be read: {error}; correct the path")]
    Read {
        /// Its name.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No certificate where one must be.
    #[error("{path} holds no certificate in PEM; give one that begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// No key where one must be, or an encrypted one.
    #[error(
        "{path} holds no private key in PEM (an encrypted one cannot be used: decrypt it, and protect the file)"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate that cannot sign others.
    #[error("{path} holds a certificate that cannot be used as an authority: {error}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// They do not belong together, or are of a kind that is not supported.
    #[error("certificate and key cannot be used: {0}")]
    Identity(rustls::Error),
    /// The authorities cannot be used.
    #[error("authorities cannot be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A peer's name.
    #[error("\"{0}\" is neither a host name nor an address; its certificate could not be compared with it")]
    PeerName(String),
}

/// Our certificate with its key, and the authorities of peers.
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: Secret<Vec<u8>>,
    kind: KeyKind,
    pub(crate) authorities: Authorities,
}

/// Who signs peers' certificates.
#[derive(Clone)]
pub(crate) struct Authorities(Arc<RootCertStore>);

impl Authorities {
    pub(crate) fn read(path: &Path) -> Result<Self, TlsError> {
        let mut authorities = RootCertStore::empty();
        for certificate in certificates(path)? {
            let refused = |error| TlsError::Authority { path: path.to_owned(), error };
            authorities.add(certificate).map_err(refused)?;
        }
        Ok(Self(Arc::new(authorities)))
    }
}

#[derive(Clone, Copy)]
enum KeyKind {
    Pkcs1,
    Pkcs8,
    Sec1,
}

impl Credentials {
    /// Reads them. It blocks, for as long as three small files take.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let chain = certificates(&files.certificate)?;
        let pem = Secret::new(read(&files.key)?);
        let no_key = || TlsError::NoKey { path: files.key.clone() };
        let key = PrivateKeyDer::from_pem_slice(pem.expose()).map_err(|_| no_key())?;
        let kind = match &key {
            PrivateKeyDer::Pkcs1(_) => KeyKind::Pkcs1,
            PrivateKeyDer::Pkcs8(_) => KeyKind::Pkcs8,
            PrivateKeyDer::Sec1(_) => KeyKind::Sec1,
            _ => return Err(no_key()),
        };
        let authorities = Authorities::read(&files.authorities)?;
        let key = Secret::new(key.secret_der().to_vec());
        Ok(Self { chain, key, kind, authorities })
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        let der = self.key.expose().clone();
        match self.kind {
            KeyKind::Pkcs1 => PrivateKeyDer::Pkcs1(der.into()),
            KeyKind::Pkcs8 => PrivateKeyDer::Pkcs8(der.into()),
            KeyKind::Sec1 => PrivateKeyDer::Sec1(der.into()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let none = || TlsError::NoCertificate { path: path.to_owned() };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(none)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The cipher suites that are offered and taken, by their IANA names, the most wanted first.
pub fn cipher_suites() -> Vec<String> {
    let name =
        |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
    provider().cipher_suites.iter().map(name).collect()
}

/// The acceptor's side. Peers must show a certificate of one of the authorities.
#[derive(Clone)]
pub struct TlsAcceptor(tokio_rustls::TlsAcceptor);

impl TlsAcceptor {
    /// With these credentials.
    pub fn new(credentials: &Credentials) -> Result<Self, TlsError> {
        let authorities = Arc::clone(&credentials.authorities.0);
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider()).build()?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Identity)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(credentials.chain.clone(), credentials.key())
            .map_err(TlsError::Identity)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(tokio_rustls::TlsAcceptor::from(Arc::new(config))))
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

/// Which name a peer's certificate must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerName {
    /// This host name or address, among its subject alternative names.
    Is(String),
    /// Any. Certificates of DICOM devices often name no host, and whoever has one of the authorities' certificates is
    /// then as good as any other: use an authority of its own for each peer.
    NotChecked,
}

/// The requestor's side. It shows its certificate where the peer asks for one.
#[derive(Clone)]
pub struct TlsConnector {
    connector: tokio_rustls::TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnector {
    /// With these credentials, to peers of that name.
    pub fn new(credentials: &Credentials, peer: &PeerName) -> Result<Self, TlsError> {
        Self::build(&credentials.authorities, Some(credentials), peer, &[])
    }

    /// To a web server, which need not ask for a certificate; it is told that HTTP/1.1 is spoken (RFC 7301).
    pub(crate) fn web(
        authorities: &Authorities,
        own: Option<&Credentials>,
        peer: &PeerName,
    ) -> Result<Self, TlsError> {
        Self::build(authorities, own, peer, &[b"http/1.1"])
    }

    fn build(
        authorities: &Authorities,
        own: Option<&Credentials>,
        peer: &PeerName,
        protocols: &[&[u8]],
    ) -> Result<Self, TlsError> {
        let authorities = Arc::clone(&authorities.0);
        let verifier = WebPkiServerVerifier::builder_with_provider(authorities, provider()).build()?;
        let (verifier, name): (Arc<dyn ServerCertVerifier>, _) = match peer {
            PeerName::Is(name) => (verifier, name.as_str()),
            // Sent to nobody: see below.
            PeerName::NotChecked => (Arc::new(AnyName(verifier)), "dicom.invalid"),
        };
        let not_a_name = |_| TlsError::PeerName(name.to_owned());
        let name = ServerName::try_from(name.to_owned()).map_err(not_a_name)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Identity)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match own {
            Some(own) => {
                builder.with_client_auth_cert(own.chain.clone(), own.key()).map_err(TlsError::Identity)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = Resumption::disabled();
        config.enable_sni = matches!(peer, PeerName::Is(_));
        Ok(Self { connector: tokio_rustls::TlsConnector::from(Arc::new(config)), name })
    }

    /// Both want the same name.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.name == other.name
    }

    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<client::TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Verifies all but the name, which is compared last.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Why a TLS handshake failed. The text of the library names certificates' faults and hosts, never a patient.
#[derive(Debug, Error)]
pub enum TlsFailure {
    /// The first bytes were no TLS.
    #[error("peer does not speak TLS; does it send plain DICOM to the TLS port?")]
    NotTls,
    /// Older versions, or suites that BCP 195 has no place for.
    #[error("peer has no TLS 1.2 or 1.3, or none of the cipher suites that BCP 195 recommends ({0})")]
    Incompatible(String),
    /// Anything else: certificates, versions, a connection that broke.
    #[error("TLS handshake failed: {0}")]
    Handshake(io::Error),
}

impl TlsFailure {
    /// The error is one of TLS, and not of the connection below it.
    pub(crate) fn is_one(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>())
    }
}

impl From<io::Error> for TlsFailure {
    fn from(error: io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            Some(rustls::Error::PeerIncompatible(why)) => Self::Incompatible(format!("{why:?}")),
            _ => Self::Handshake(error),
        }
    }
}

impl Socket for server::TlsStream<TcpStream> {
    fn rearm_quickack(&self) {
        self.get_ref().0.rearm_quickack();
    }

    fn try_write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_now(self, bytes)
    }

    fn try_read_now(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        now(pin!(self.read_buf(buffer)))
    }

    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

impl Socket for client::TlsStream<TcpStream> {
    fn rearm_quickack(&self) {
        self.get_ref().0.rearm_quickack();
    }

    fn try_write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_now(self, bytes)
    }

    fn try_read_now(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        now(pin!(self.read_buf(buffer)))
    }

    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

/// What comes of it without waiting.
fn now<T>(mut attempt: Pin<&mut impl Future<Output = io::Result<T>>>) -> io::Result<T> {
    match attempt.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// All or nothing: what TLS has taken but the kernel has not counts as not written.
fn write_now(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<usize> {
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(&mut context, bytes) else {
        return Err(io::ErrorKind::WouldBlock.into());
    };
    let written = written?;
    match Pin::new(stream).poll_flush(&mut context) {
        Poll::Ready(flushed) => flushed.map(|()| written),
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
