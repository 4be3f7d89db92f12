//! HPKE (RFC 9180) in base mode with the KEMs of the two suites, behind two functions and one trait.

use base::Secret;
use hkdf::Hkdf;
use hpke::aead::{Aead, AeadCtxR, AeadCtxS, AesGcm256, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::{MlKem768P256, XWing};
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{Suite, schedule};

/// The secret of a session, from which keys are exported (RFC 9180 §5.3). Wiped when dropped.
pub(crate) trait Exporter: Send + Sync {
    /// The 32 bytes that belong to a context.
    fn export(&self, context: &[u8]) -> Secret<[u8; 32]>;
}

/// Length of the public key of a suite's KEM.
pub(crate) const fn public_key_bytes(suite: Suite) -> usize {
    match suite {
        Suite::A => 1216,
        Suite::B => 1249,
    }
}

/// Length of what a suite's KEM sends along (`enc`).
pub(crate) const fn encapsulated_bytes(suite: Suite) -> usize {
    match suite {
        Suite::A => 1120,
        Suite::B => 1153,
    }
}

/// The public key of the pair that follows from 32 random bytes (DeriveKeyPair).
pub(crate) fn public_key(suite: Suite, seed: &Secret<[u8; 32]>) -> Vec<u8> {
    match suite {
        Suite::A => XWing::derive_keypair(seed.expose()).1.to_bytes().to_vec(),
        Suite::B => MlKem768P256::derive_keypair(seed.expose()).1.to_bytes().to_vec(),
    }
}

/// Makes a shared secret for the owner of a public key; `None` when the key is none.
pub(crate) fn encapsulate(
    suite: Suite,
    public_key: &[u8],
    info: &[u8],
    seed: &Secret<[u8; 32]>,
) -> Option<(Vec<u8>, Box<dyn Exporter>)> {
    match suite {
        Suite::A => encapsulate_to::<ChaCha20Poly1305, XWing>(public_key, info, seed),
        Suite::B => encapsulate_to::<AesGcm256, MlKem768P256>(public_key, info, seed),
    }
}

/// Finds the shared secret again; `None` when `encapsulated` cannot have been made for any key.
pub(crate) fn decapsulate(
    suite: Suite,
    seed: &Secret<[u8; 32]>,
    encapsulated: &[u8],
    info: &[u8],
) -> Option<Box<dyn Exporter>> {
    match suite {
        Suite::A => decapsulate_from::<ChaCha20Poly1305, XWing>(seed, encapsulated, info),
        Suite::B => decapsulate_from::<AesGcm256, MlKem768P256>(seed, encapsulated, info),
    }
}

fn encapsulate_to<A: Aead + 'static, K: Kem + 'static>(
    public_key: &[u8],
    info: &[u8],
    seed: &Secret<[u8; 32]>,
) -> Option<(Vec<u8>, Box<dyn Exporter>)>
where
    AeadCtxS<A, HkdfSha256, K>: Send + Sync,
{
    let key = K::PublicKey::from_bytes(public_key).ok()?;
    let mut random = SeededRandom::new(seed);
    let (encapsulated, context) =
        hpke::setup_sender_with_rng::<A, HkdfSha256, K>(&OpModeS::Base, &key, info, &mut random).ok()?;
    Some((encapsulated.to_bytes().to_vec(), Box::new(Sending(context))))
}

fn decapsulate_from<A: Aead + 'static, K: Kem + 'static>(
    seed: &Secret<[u8; 32]>,
    encapsulated: &[u8],
    info: &[u8],
) -> Option<Box<dyn Exporter>>
where
    AeadCtxR<A, HkdfSha256, K>: Send + Sync,
{
    let (key, _) = K::derive_keypair(seed.expose());
    let encapsulated = K::EncappedKey::from_bytes(encapsulated).ok()?;
    let context = hpke::setup_receiver::<A, HkdfSha256, K>(&OpModeR::Base, &key, &encapsulated, info).ok()?;
    Some(Box::new(Receiving(context)))
}

struct Sending<A: Aead, K: Kem>(AeadCtxS<A, HkdfSha256, K>);
struct Receiving<A: Aead, K: Kem>(AeadCtxR<A, HkdfSha256, K>);

impl<A: Aead, K: Kem> Exporter for Sending<A, K>
where
    AeadCtxS<A, HkdfSha256, K>: Send + Sync,
{
    fn export(&self, context: &[u8]) -> Secret<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        #[expect(clippy::expect_used, reason = "HPKE refuses only exports of 65536 bytes and more")]
        self.0.export(context, key.as_mut()).expect("32 bytes can be exported");
        Secret::new(*key)
    }
}

impl<A: Aead, K: Kem> Exporter for Receiving<A, K>
where
    AeadCtxR<A, HkdfSha256, K>: Send + Sync,
{
    fn export(&self, context: &[u8]) -> Secret<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        #[expect(clippy::expect_used, reason = "HPKE refuses only exports of 65536 bytes and more")]
        self.0.export(context, key.as_mut()).expect("32 bytes can be exported");
        Secret::new(*key)
    }
}

/// The random source that HPKE wants, fed by 32 random bytes of the caller: HKDF blocks under a counter.
struct SeededRandom {
    hkdf: Hkdf<Sha256>,
    counter: u64,
}

impl SeededRandom {
    fn new(seed: &Secret<[u8; 32]>) -> Self {
        Self { hkdf: Hkdf::new(Some(b"sluis/1 encapsulation"), seed.expose()), counter: 0 }
    }
}

impl TryRng for SeededRandom {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for piece in out.chunks_mut(32) {
            let block = Zeroizing::new(schedule::expand(&self.hkdf, &[&self.counter.to_be_bytes()]));
            self.counter += 1;
            for (to, from) in piece.iter_mut().zip(block.iter()) {
                *to = *from;
            }
        }
        Ok(())
    }
}

impl TryCryptoRng for SeededRandom {}
