use std::fmt;
use std::sync::Arc;

use base::{Fingerprint, Hasher, Secret, Timestamp};
use identity::{IdentityKey, PeerCard};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme, version,
};
use thiserror::Error;
use tracing::{info, warn};

use crate::Admission;

/// The name in the handshake. Pins decide, never this name.
pub(crate) const SERVER_NAME: &str = "sluis";

/// Our TLS key pair.
#[derive(Clone)]
pub struct TlsIdentity {
    pkcs8: Secret<Vec<u8>>,
    spki: Vec<u8>,
}

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Our key cannot be used.
    #[error("the TLS key of the identity cannot be used; create the identity anew")]
    Key,
    /// The TLS library refused the settings.
    #[error("TLS settings refused")]
    Settings(#[from] rustls::Error),
    /// The cipher suite that QUIC starts with is missing.
    #[error("TLS has no cipher suite for QUIC")]
    Suite,
}

impl TlsIdentity {
    /// The TLS key of an identity.
    pub fn of(identity: &IdentityKey) -> Self {
        Self { pkcs8: identity.tls_pkcs8(), spki: identity.tls_spki() }
    }

    /// Whether it is the key of this identity.
    pub fn is_of(&self, identity: &IdentityKey) -> bool {
        self.spki == identity.tls_spki()
    }

    /// A key of this identity for something else than TLS, the same in each run.
    pub(crate) fn derived(&self, purpose: &str) -> Secret<[u8; 32]> {
        let mut hasher = Hasher::new(purpose.as_bytes());
        hasher.field(self.pkcs8.expose());
        Secret::new(hasher.finish().0)
    }

    fn certified(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.expose().clone()));
        let key = aws_lc_rs::sign::any_supported_type(&der).map_err(|_| TlsError::Key)?;
        Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(self.spki.clone())], key)))
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity")
    }
}

/// AWS-LC with one key exchange: no classical-only handshake is possible, in either direction.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: vec![kx_group::X25519MLKEM768], ..aws_lc_rs::default_provider() })
}

/// Connects to the relay with that card and to nobody else.
pub(crate) fn client_config(
    identity: &TlsIdentity,
    relay: &PeerCard,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, TlsError> {
    let verifier =
        Pinned { algorithms: provider.signature_verification_algorithms, keys: OneRelay(relay.clone()) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(identity.certified()?)));
    config.alpn_protocols = vec![wire::ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// Accepts whoever `admission` knows.
pub(crate) fn server_config(
    identity: &TlsIdentity,
    admission: Arc<dyn Admission>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let verifier =
        Pinned { algorithms: provider.signature_verification_algorithms, keys: Admitted(admission) };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(identity.certified()?)));
    config.alpn_protocols = vec![wire::ALPN.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The peer whose key was shown in a finished handshake.
pub(crate) fn peer_of(connection: &quinn::Connection, admission: &dyn Admission) -> Option<Fingerprint> {
    let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    admission.peer(shown.first()?.as_ref())
}

/// Which keys a verifier takes.
trait Keys: Send + Sync {
    fn known(&self, spki: &[u8]) -> bool;
    /// Tells an operator whose pin it was and what was shown instead.
    fn tell_refused(&self, spki: &[u8]);
}

/// The keys of one card: two while it says that they are being rotated.
struct OneRelay(PeerCard);

impl Keys for OneRelay {
    fn known(&self, spki: &[u8]) -> bool {
        // A public key against a public pin: nothing secret to leak by timing.
        self.0.tls_keys(Timestamp::now()).any(|pinned| pinned == spki)
    }

    fn tell_refused(&self, spki: &[u8]) {
        warn!(
            relay = %self.0.name,
            fingerprint = %identity::fingerprint_text(&self.0.identity.fingerprint()),
            tls_key_pinned = %key_text(&self.0.tls_spki),
            tls_key_shown = %key_text(spki),
            "the relay shows another TLS key than the one on its pinned card: if its keys were rotated, take its new card by `peer update CARD`; else ask for its card and compare fingerprints"
        );
    }
}

/// A TLS key as `key fingerprint` shows other keys.
fn key_text(spki: &[u8]) -> String {
    identity::fingerprint_text(&Fingerprint(base::Digest::of(spki).0))
}

struct Admitted(Arc<dyn Admission>);

impl Keys for Admitted {
    fn known(&self, spki: &[u8]) -> bool {
        self.0.peer(spki).is_some()
    }

    /// Whose it is nobody knows; where it came from stands in the line of the refused connection.
    fn tell_refused(&self, spki: &[u8]) {
        info!(tls_key_shown = %key_text(spki), "a TLS key that is on no pinned card");
    }
}

/// Takes a raw public key that is known, and then only a signature by it.
struct Pinned<K> {
    algorithms: WebPkiSupportedAlgorithms,
    keys: K,
}

impl<K: Keys> Pinned<K> {
    fn pinned(
        &self,
        end_entity: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        if others.is_empty() && self.keys.known(end_entity.as_ref()) {
            return Ok(());
        }
        self.keys.tell_refused(end_entity.as_ref());
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure))
    }

    fn signed(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let spki = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signature, &self.algorithms)
    }
}

fn not_tls12() -> rustls::Error {
    rustls::PeerIncompatible::Tls12NotOffered.into()
}

impl<K: Keys> ServerCertVerifier for Pinned<K> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.pinned(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(not_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl<K: Keys> ClientCertVerifier for Pinned<K> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.pinned(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(not_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl<K> fmt::Debug for Pinned<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}
