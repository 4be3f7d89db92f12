use std::fmt;

/// What a signature is for. A signature made for one use never counts for another: the text is the
/// `ctx` of ML-DSA, and, padded with zeros to [`Context::PREFIX_BYTES`], the start of what Ed25519
/// signs (Ed25519 itself has no context parameter).
///
/// All contexts are in this file, so that no two uses can share one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context(&'static str);

impl Context {
    /// A peer card.
    pub const CARD: Self = Self::new("sluis/1 card");
    /// A peer card, by the earlier keys that it names.
    pub const SUCCESSION: Self = Self::new("sluis/1 succession");
    /// A bundle that offers a prekey.
    pub const PREKEY: Self = Self::new("sluis/1 prekey");
    /// The opening of a session.
    pub const SESSION: Self = Self::new("sluis/1 session");
    /// The root over one batch of settlements.
    pub const BATCH: Self = Self::new("sluis/1 batch");
    /// The root over one batch of what a sender sent.
    pub const MANIFEST: Self = Self::new("sluis/1 manifest");
    /// The head of a log.
    pub const CHECKPOINT: Self = Self::new("sluis/1 checkpoint");

    /// What a destination accepts, as its receiver found out.
    pub const TABLE: Self = Self::new("sluis/1 table");

    /// Every context, for tables and tests.
    pub const ALL: [Self; 8] = [
        Self::CARD,
        Self::SUCCESSION,
        Self::PREKEY,
        Self::SESSION,
        Self::BATCH,
        Self::MANIFEST,
        Self::CHECKPOINT,
        Self::TABLE,
    ];

    /// Length of what precedes the signed bytes under Ed25519. Fixed, so that no context followed by
    /// some bytes can be read as another context followed by others.
    pub const PREFIX_BYTES: usize = 32;

    const fn new(text: &'static str) -> Self {
        assert!(!text.is_empty() && text.len() <= Self::PREFIX_BYTES);
        Self(text)
    }

    /// The text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    pub(crate) fn prefixed(self, bytes: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(Self::PREFIX_BYTES + bytes.len());
        message.extend_from_slice(self.0.as_bytes());
        message.resize(Self::PREFIX_BYTES, 0);
        message.extend_from_slice(bytes);
        message
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_differ_and_prefixes_have_one_length() {
        for (i, a) in Context::ALL.into_iter().enumerate() {
            assert_eq!(a.prefixed(b"").len(), Context::PREFIX_BYTES);
            for b in Context::ALL.into_iter().skip(i + 1) {
                assert_ne!(a.prefixed(b"x"), b.prefixed(b"x"));
            }
        }
    }
}
