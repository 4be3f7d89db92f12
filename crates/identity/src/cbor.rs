use minicbor::{Decode, Encode};

pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "a Vec takes all bytes and no encoder of this crate fails by itself"
    )]
    minicbor::to_vec(value).expect("encoding into memory")
}

/// Decodes bytes that hold exactly one value in the one form that [`encode`] gives it. Signed bytes
/// with a second reading would let two parties disagree about what was signed.
pub(crate) fn decode_canonical<'b, T: Decode<'b, ()> + Encode<()>>(bytes: &'b [u8]) -> Option<T> {
    let value = minicbor::decode(bytes).ok()?;
    (encode(&value) == bytes).then_some(value)
}
