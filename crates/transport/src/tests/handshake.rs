//! Handshakes in memory, with the configurations of the real links.

use std::sync::Arc;

use identity::{CardFields, IdentityKey};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::quic::{ClientConnection, KeyChange, ServerConnection, Version};
use rustls::{ClientConfig, Error, NamedGroup, ProtocolVersion, ServerConfig};

use super::{Cards, key};
use crate::TlsIdentity;
use crate::tls::{client_config, provider, server_config};

struct Outcome {
    group: NamedGroup,
    version: ProtocolVersion,
    alpn: Vec<u8>,
    early_data: bool,
}

/// Runs both sides to their end, or gives the first error of either.
fn shake(client: ClientConfig, server: ServerConfig) -> Result<Outcome, Error> {
    let name = ServerName::try_from(crate::tls::SERVER_NAME).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), Version::V1, name, Vec::new())?;
    let mut server = ServerConnection::new(Arc::new(server), Version::V1, Vec::new())?;
    loop {
        let mut moved = false;
        // One encryption level at a time, as QUIC's packets carry them.
        loop {
            let mut flight = Vec::new();
            let change: Option<KeyChange> = client.write_hs(&mut flight);
            if flight.is_empty() && change.is_none() {
                break;
            }
            server.read_hs(&flight)?;
            moved = true;
        }
        loop {
            let mut flight = Vec::new();
            let change: Option<KeyChange> = server.write_hs(&mut flight);
            if flight.is_empty() && change.is_none() {
                break;
            }
            client.read_hs(&flight)?;
            moved = true;
        }
        if !moved {
            break;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    let groups = [client.negotiated_key_exchange_group(), server.negotiated_key_exchange_group()];
    let [Some(one), Some(other)] = groups else { panic!("no key exchange") };
    assert_eq!(one.name(), other.name());
    Ok(Outcome {
        group: one.name(),
        version: client.protocol_version().unwrap(),
        alpn: client.alpn_protocol().unwrap().to_vec(),
        early_data: client.is_early_data_accepted(),
    })
}

/// As AWS-LC has it, with everything classical and hybrid.
fn any_group() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: aws_lc_rs::ALL_KX_GROUPS.to_vec(), ..aws_lc_rs::default_provider() })
}

fn classical_only() -> Arc<CryptoProvider> {
    let groups = aws_lc_rs::ALL_KX_GROUPS.iter().copied();
    let classical = groups.filter(|group| {
        matches!(group.name(), NamedGroup::X25519 | NamedGroup::secp256r1 | NamedGroup::secp384r1)
    });
    Arc::new(CryptoProvider { kx_groups: classical.collect(), ..aws_lc_rs::default_provider() })
}

struct Keys {
    relay: IdentityKey,
    gateway: IdentityKey,
    stranger: IdentityKey,
}

impl Keys {
    fn new() -> Self {
        Self { relay: key("relay"), gateway: key("gateway"), stranger: key("stranger") }
    }

    fn client(&self, key: &IdentityKey, pinned: &IdentityKey, provider: Arc<CryptoProvider>) -> ClientConfig {
        client_config(&TlsIdentity::of(key), &pinned.card(CardFields::new(1, &[])), provider).unwrap()
    }

    fn server(&self, provider: Arc<CryptoProvider>) -> ServerConfig {
        let admitted = Cards::of(&[self.gateway.card(CardFields::new(1, &[]))]);
        server_config(&TlsIdentity::of(&self.relay), admitted, provider).unwrap()
    }
}

#[test]
fn pinned_peers_agree_on_tls_13_and_the_hybrid_group() {
    let keys = Keys::new();
    // Also where the other side would take something else.
    for (ours, theirs) in [(provider(), provider()), (provider(), any_group()), (any_group(), provider())] {
        let outcome = shake(keys.client(&keys.gateway, &keys.relay, ours), keys.server(theirs)).unwrap();
        assert_eq!(outcome.group, NamedGroup::X25519MLKEM768);
        assert_eq!(outcome.version, ProtocolVersion::TLSv1_3);
        assert_eq!(outcome.alpn, wire::ALPN);
        assert!(!outcome.early_data);
    }
}

#[test]
fn everything_else_is_refused() {
    let keys = Keys::new();
    let Keys { relay, gateway, stranger } = &keys;
    let good = || keys.client(gateway, relay, provider());
    let other_alpn = |protocols: &[&[u8]]| {
        let mut config = good();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config
    };
    let cases: [(&str, ClientConfig, ServerConfig); 7] = [
        (
            "a relay that is not the pinned one",
            keys.client(gateway, stranger, provider()),
            keys.server(provider()),
        ),
        ("a gateway that is not pinned", keys.client(stranger, relay, provider()), keys.server(provider())),
        ("a classical-only gateway", keys.client(gateway, relay, classical_only()), keys.server(provider())),
        ("a classical-only relay", good(), keys.server(classical_only())),
        ("another protocol", other_alpn(&[b"h3"]), keys.server(provider())),
        ("no protocol", other_alpn(&[]), keys.server(provider())),
        ("no client key", anonymous(&keys), keys.server(provider())),
    ];
    for (name, client, server) in cases {
        assert!(shake(client, server).is_err(), "{name}");
    }
    assert!(shake(good(), keys.server(provider())).is_ok());
}

/// The pinned key of somebody else, with a private key of one's own: the signature over the handshake gives it away.
#[test]
fn a_shown_key_is_worth_nothing_without_its_private_half() {
    use rustls::client::AlwaysResolvesClientRawPublicKeys;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::sign::CertifiedKey;

    let keys = Keys::new();
    let own = PrivatePkcs8KeyDer::from(keys.stranger.tls_pkcs8().expose().clone());
    let own = aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::Pkcs8(own)).unwrap();
    let shown = CertifiedKey::new(vec![CertificateDer::from(keys.gateway.tls_spki())], own);
    let mut client = keys.client(&keys.gateway, &keys.relay, provider());
    client.client_auth_cert_resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::new(shown)));
    assert!(shake(client, keys.server(provider())).is_err());
}

fn anonymous(keys: &Keys) -> ClientConfig {
    let mut config = keys.client(&keys.gateway, &keys.relay, provider());
    config.client_auth_cert_resolver = Arc::new(Nobody);
    config
}

#[derive(Debug)]
struct Nobody;

impl rustls::client::ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}
