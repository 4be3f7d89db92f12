//! The AEADs of the two suites, in place over a slice.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use base::Secret;
use chacha20poly1305::ChaCha20Poly1305;

use crate::{Suite, TAG_BYTES};

pub(crate) const NONCE_BYTES: usize = 12;

/// For keys that seal exactly one message: nothing is gained by a nonce there.
pub(crate) const ONE_MESSAGE: [u8; NONCE_BYTES] = [0; NONCE_BYTES];

pub(crate) enum Cipher {
    Aes256Gcm(Box<Aes256Gcm>),
    ChaCha20Poly1305(Box<ChaCha20Poly1305>),
}

impl Cipher {
    pub(crate) fn new(suite: Suite, key: &Secret<[u8; 32]>) -> Self {
        match suite {
            Suite::A => Self::ChaCha20Poly1305(Box::new(ChaCha20Poly1305::new(key.expose().into()))),
            Suite::B => Self::Aes256Gcm(Box::new(Aes256Gcm::new(key.expose().into()))),
        }
    }

    /// Encrypts in place and appends the tag.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], buffer: &mut Vec<u8>) {
        let tag = match self {
            Self::Aes256Gcm(cipher) => {
                cipher.encrypt_inout_detached(nonce.into(), aad, buffer.as_mut_slice().into())
            }
            Self::ChaCha20Poly1305(cipher) => {
                cipher.encrypt_inout_detached(nonce.into(), aad, buffer.as_mut_slice().into())
            }
        };
        #[expect(clippy::expect_used, reason = "both AEADs refuse only messages of 64 GiB and more")]
        let tag = tag.expect("a message in memory is short enough");
        buffer.extend_from_slice(&tag);
    }

    /// Decrypts in place. The plaintext is what precedes the tag; `None` when the tag is wrong, and
    /// then the buffer holds nothing of use.
    pub(crate) fn open<'a>(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        buffer: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let (message, tag) = buffer.split_last_chunk_mut::<TAG_BYTES>()?;
        let tag = &(*tag).into();
        let opened = match self {
            Self::Aes256Gcm(cipher) => cipher.decrypt_inout_detached(nonce.into(), aad, message.into(), tag),
            Self::ChaCha20Poly1305(cipher) => {
                cipher.decrypt_inout_detached(nonce.into(), aad, message.into(), tag)
            }
        };
        opened.ok().map(|()| message)
    }
}
