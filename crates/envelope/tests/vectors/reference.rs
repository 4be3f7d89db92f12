//! A second writer of the format, from `FORMAT.md` and the AEAD, HKDF and HPKE crates alone. It can
//! write what the sealer refuses to: that is what most vectors are.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use base::{Digest, Fingerprint, ObjectId, PrekeyId, RouteId, Secret, SessionId};
use chacha20poly1305::ChaCha20Poly1305;
use envelope::{BodyMeta, Suite};
use hkdf::Hkdf;
use hpke::aead::{AesGcm256, ChaCha20Poly1305 as HpkeChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::{MlKem768P256, XWing};
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Kem, OpModeS, Serializable as _, setup_sender_with_rng};
use identity::{Context, IdentityKey, Signature};
use minicbor::Encoder;
use sha2::{Digest as _, Sha256};

pub(crate) fn cbor(write: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder);
    encoder.into_writer()
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn seal(suite: Suite, key: &[u8; 32], nonce: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut message = plaintext.to_vec();
    let tag = match suite {
        Suite::A => ChaCha20Poly1305::new(key.into()).encrypt_inout_detached(
            &nonce.into(),
            aad,
            message.as_mut_slice().into(),
        ),
        Suite::B => Aes256Gcm::new(key.into()).encrypt_inout_detached(
            &nonce.into(),
            aad,
            message.as_mut_slice().into(),
        ),
    };
    message.extend_from_slice(&tag.unwrap());
    message
}

fn hkdf32(salt: &[u8], ikm: &[u8], info: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, &mut out).unwrap();
    out
}

/// What a body is bound to, and its key.
#[derive(Clone, Copy)]
pub(crate) struct Body {
    pub(crate) suite: Suite,
    pub(crate) object: ObjectId,
    pub(crate) profile: Digest,
    pub(crate) content_key: [u8; 32],
}

impl Body {
    fn context(&self) -> Vec<u8> {
        [&[1, self.suite.code()][..], &self.object.0, &self.profile.0].concat()
    }

    pub(crate) fn commitment(&self) -> [u8; 32] {
        let info = [&b"commitment\0"[..], &self.context()].concat();
        hkdf32(b"sluis/1 content key", &self.content_key, &info)
    }

    /// One chunk, with whatever number and mark.
    pub(crate) fn chunk(&self, number: u64, last: bool, plaintext: &[u8]) -> Vec<u8> {
        let info = [&b"body key\0"[..], &self.context()].concat();
        let key = hkdf32(b"sluis/1 content key", &self.content_key, &info);
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = u8::from(last);
        seal(self.suite, &key, nonce, &[], plaintext)
    }

    /// Chunks in order, the last one marked.
    pub(crate) fn seal(&self, chunks: &[Vec<u8>]) -> Vec<u8> {
        let last = chunks.len() - 1;
        let sealed = chunks.iter().zip(0u64..).map(|(c, n)| self.chunk(n, n == last as u64, c));
        sealed.collect::<Vec<_>>().concat()
    }

    pub(crate) fn record(
        &self,
        delivery: [u8; 32],
        attempt: u32,
        salt: [u8; 32],
        plaintext: &[u8],
    ) -> Vec<u8> {
        let info = [&b"sluis/1 record\0"[..], &self.context(), &delivery, &attempt.to_be_bytes()].concat();
        let key = hkdf32(&salt, &self.content_key, &info);
        [&salt[..], &seal(self.suite, &key, [0; 12], &[], plaintext)].concat()
    }
}

pub(crate) fn typed(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind][..], &length, value].concat()
}

pub(crate) fn meta_cbor(meta: &BodyMeta) -> Vec<u8> {
    let m = &meta.instance;
    cbor(|e| {
        e.array(9).unwrap();
        e.str(m.sop_class.as_str()).unwrap().str(m.sop_instance.reveal().as_str()).unwrap();
        e.str(m.transfer_syntax.as_str()).unwrap();
        e.str(m.calling.as_str()).unwrap().str(m.called.as_str()).unwrap();
        match &m.move_originator {
            Some(o) => e.str(o.ae.as_str()).unwrap().u16(o.message_id).unwrap(),
            None => e.null().unwrap().null().unwrap(),
        };
        e.u16(m.priority.code()).unwrap().bytes(meta.uid_hash_key.expose()).unwrap();
    })
}

pub(crate) fn meta_record(meta: &BodyMeta) -> Vec<u8> {
    typed(1, &meta_cbor(meta))
}

pub(crate) fn trailer_record(data: &[u8]) -> Vec<u8> {
    typed(4, &[&(data.len() as u64).to_be_bytes()[..], &sha256(data).0].concat())
}

/// Names of a session, as they enter `info`.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub(crate) version: u8,
    pub(crate) suite: Suite,
    pub(crate) route: RouteId,
    pub(crate) sender: Fingerprint,
    pub(crate) receiver: Fingerprint,
    pub(crate) prekey: PrekeyId,
    pub(crate) session: SessionId,
}

impl Names {
    pub(crate) fn info(&self) -> Vec<u8> {
        cbor(|e| {
            e.array(7).unwrap().u8(self.version).unwrap().u8(self.suite.code()).unwrap();
            e.bytes(&self.route.0).unwrap().bytes(&self.sender.0).unwrap().bytes(&self.receiver.0).unwrap();
            e.bytes(&self.prekey.0).unwrap().bytes(&self.session.0).unwrap();
        })
    }
}

pub(crate) fn signature_cbor(signature: &Signature, e: &mut Encoder<Vec<u8>>) {
    e.array(2).unwrap().bytes(&signature.ed25519).unwrap().bytes(&signature.ml_dsa[..]).unwrap();
}

/// Bytes and signature, as bundles and openings are.
pub(crate) fn signed(bytes: &[u8], signature: &Signature) -> Vec<u8> {
    cbor(|e| {
        e.array(2).unwrap().bytes(bytes).unwrap();
        signature_cbor(signature, e);
    })
}

pub(crate) fn statement(info: &[u8], encapsulated: &[u8], prekey_digest: &Digest, not_after: u64) -> Vec<u8> {
    cbor(|e| {
        e.array(4).unwrap().bytes(info).unwrap().bytes(encapsulated).unwrap();
        e.bytes(&prekey_digest.0).unwrap().u64(not_after).unwrap();
    })
}

pub(crate) fn opening(key: &IdentityKey, statement: &[u8]) -> Vec<u8> {
    signed(statement, &key.sign(Context::SESSION, statement))
}

type Export = Box<dyn Fn(&[u8]) -> [u8; 32]>;

/// An encapsulation, and the keys that are exported from it.
pub(crate) struct Session {
    pub(crate) suite: Suite,
    pub(crate) encapsulated: Vec<u8>,
    export: Export,
}

impl Session {
    pub(crate) fn new(suite: Suite, public_key: &[u8], info: &[u8]) -> Self {
        let mut random = Bytes(b"not random at all".iter().copied().cycle().take(4096).collect());
        match suite {
            Suite::A => {
                let key = <XWing as Kem>::PublicKey::from_bytes(public_key).unwrap();
                let (encapsulated, context) =
                    setup_sender_with_rng::<HpkeChaCha20Poly1305, HkdfSha256, XWing>(
                        &OpModeS::Base,
                        &key,
                        info,
                        &mut random,
                    )
                    .unwrap();
                let export = move |context_bytes: &[u8]| {
                    let mut out = [0; 32];
                    context.export(context_bytes, &mut out).unwrap();
                    out
                };
                Self { suite, encapsulated: encapsulated.to_bytes().to_vec(), export: Box::new(export) }
            }
            Suite::B => {
                let key = <MlKem768P256 as Kem>::PublicKey::from_bytes(public_key).unwrap();
                let (encapsulated, context) = setup_sender_with_rng::<AesGcm256, HkdfSha256, MlKem768P256>(
                    &OpModeS::Base,
                    &key,
                    info,
                    &mut random,
                )
                .unwrap();
                let export = move |context_bytes: &[u8]| {
                    let mut out = [0; 32];
                    context.export(context_bytes, &mut out).unwrap();
                    out
                };
                Self { suite, encapsulated: encapsulated.to_bytes().to_vec(), export: Box::new(export) }
            }
        }
    }

    /// The content key, wrapped for a sequence number with the header's core as AAD.
    pub(crate) fn wrap(&self, sequence: u32, core: &[u8], content_key: &[u8; 32]) -> Vec<u8> {
        let key = (self.export)(&[&b"sluis/1 wrap"[..], &sequence.to_be_bytes()].concat());
        seal(self.suite, &key, [0; 12], core, content_key)
    }

    pub(crate) fn close_tag(&self, count: u32) -> [u8; 32] {
        (self.export)(&[&b"sluis/1 close"[..], &count.to_be_bytes()].concat())
    }
}

/// The fields of a header.
#[derive(Clone)]
pub(crate) struct Core {
    pub(crate) version: u8,
    pub(crate) session: SessionId,
    pub(crate) opening: Opening,
    pub(crate) sequence: u32,
    pub(crate) delivery: [u8; 32],
    pub(crate) attempt: u32,
    pub(crate) body: Body,
    pub(crate) commitment: [u8; 32],
}

#[derive(Clone)]
pub(crate) enum Opening {
    Known(Digest),
    Full(Vec<u8>),
}

impl Core {
    pub(crate) fn encode(&self) -> Vec<u8> {
        cbor(|e| {
            e.array(8).unwrap().u8(self.version).unwrap().bytes(&self.session.0).unwrap();
            match &self.opening {
                Opening::Known(digest) => {
                    e.array(2).unwrap().u8(0).unwrap().array(1).unwrap().bytes(&digest.0).unwrap()
                }
                Opening::Full(bytes) => {
                    e.array(2).unwrap().u8(1).unwrap().array(1).unwrap().bytes(bytes).unwrap()
                }
            };
            e.u32(self.sequence).unwrap().bytes(&self.delivery).unwrap().u32(self.attempt).unwrap();
            e.array(3).unwrap().u8(self.body.suite.code()).unwrap();
            e.bytes(&self.body.object.0).unwrap().bytes(&self.body.profile.0).unwrap();
            e.bytes(&self.commitment).unwrap();
        })
    }
}

pub(crate) fn header(core: &[u8], wrapped: &[u8]) -> Vec<u8> {
    cbor(|e| {
        e.array(2).unwrap().bytes(core).unwrap().bytes(wrapped).unwrap();
    })
}

/// The body of a prekey bundle.
pub(crate) struct BundleBody {
    pub(crate) version: u8,
    pub(crate) route: RouteId,
    pub(crate) id: PrekeyId,
    pub(crate) suite: Suite,
    pub(crate) kind: u8,
    pub(crate) public_key: Vec<u8>,
    pub(crate) not_after: u64,
}

impl BundleBody {
    pub(crate) fn encode(&self) -> Vec<u8> {
        cbor(|e| {
            e.array(7).unwrap().u8(self.version).unwrap().bytes(&self.route.0).unwrap();
            e.bytes(&self.id.0).unwrap().u8(self.suite.code()).unwrap().u8(self.kind).unwrap();
            e.bytes(&self.public_key).unwrap().u64(self.not_after).unwrap();
        })
    }
}

/// The public key that follows from a prekey's seed.
pub(crate) fn public_key(suite: Suite, seed: &[u8; 32]) -> Vec<u8> {
    match suite {
        Suite::A => XWing::derive_keypair(seed).1.to_bytes().to_vec(),
        Suite::B => MlKem768P256::derive_keypair(seed).1.to_bytes().to_vec(),
    }
}

/// SHA-256 over length-prefixed fields, cut to 16 bytes.
pub(crate) fn prekey_id(public_key: &[u8]) -> PrekeyId {
    let mut hash = Sha256::new();
    for field in [&b"sluis/1 prekey id"[..], public_key] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    PrekeyId(hash.finalize()[..16].try_into().unwrap())
}

pub(crate) fn identity(name: &str, seed: u8) -> IdentityKey {
    IdentityKey::generate(base::Name::parse(name).unwrap(), &Secret::new([seed; identity::SEEDS_BYTES]))
}

/// A "random" source that gives out given bytes in order.
pub(crate) struct Bytes(pub(crate) std::collections::VecDeque<u8>);

impl TryRng for Bytes {
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
        for byte in out {
            *byte = self.0.pop_front().expect("the vector holds enough randomness");
        }
        Ok(())
    }
}

impl TryCryptoRng for Bytes {}
