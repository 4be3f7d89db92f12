use std::fmt;

use zeroize::Zeroize;

/// Key material: prints nothing and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes ownership of key material. The caller wipes any copy it keeps.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The key material, for a cryptographic call only.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<const N: usize> Secret<[u8; N]> {
    /// Fresh key material from the operating system.
    pub fn random() -> Self {
        Self(crate::random_bytes())
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
