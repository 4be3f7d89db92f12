use bytes::Bytes;
use zeroize::Zeroize;

/// Bytes of a body in their own allocation of exactly their size, wiped when the last reader is done.
///
/// What quinn gives out pins the datagrams it came in, often several times its size: whoever keeps body
/// bytes copies them once into one of these, and hands it back to quinn without another copy.
struct Segment(Vec<u8>);

impl AsRef<[u8]> for Segment {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Makes a wiping buffer of a vector.
pub(crate) fn wiping(bytes: Vec<u8>) -> Bytes {
    Bytes::from_owner(Segment(bytes))
}
