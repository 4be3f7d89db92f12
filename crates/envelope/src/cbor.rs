use identity::Signature;
use minicbor::{Decode, Encode};

pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "a Vec takes all bytes and no encoder of this crate fails by itself"
    )]
    minicbor::to_vec(value).expect("encoding into memory")
}

/// Decodes bytes that hold exactly one value in the one form that [`encode`] gives it. Signed or
/// authenticated bytes with a second reading would let two parties disagree about them.
pub(crate) fn decode_canonical<'b, T: Decode<'b, ()> + Encode<()>>(bytes: &'b [u8]) -> Option<T> {
    let value = minicbor::decode(bytes).ok()?;
    (encode(&value) == bytes).then_some(value)
}

/// Bytes and a signature over them.
#[derive(Encode, Decode)]
pub(crate) struct Signed {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) bytes: Vec<u8>,
    #[n(1)]
    pub(crate) signature: Signature,
}
