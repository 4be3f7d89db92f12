use bytes::Bytes;

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
        // A plain fill runs at memory speed; the barrier keeps the compiler from leaving it out.
        self.0.fill(0);
        zeroize::optimization_barrier(&*self.0);
    }
}

/// Makes a buffer of a vector that is wiped when its last clone is dropped.
pub fn wiping(bytes: Vec<u8>) -> Bytes {
    Bytes::from_owner(Segment(bytes))
}
