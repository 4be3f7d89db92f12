//! Headers as bytes.

use crate::element::{ElementHeader, Length, Tag, Vr};
use crate::syntax::Encoding;

/// The longest value of a VR with a 16 bit length: the greatest even number.
pub(crate) const SHORT_VALUE_BYTES_MAX: usize = 0xFFFE;

impl Encoding {
    pub(crate) fn put_u16(self, out: &mut Vec<u8>, number: u16) {
        out.extend_from_slice(&match self {
            Self::ExplicitBig => number.to_be_bytes(),
            Self::ImplicitLittle | Self::ExplicitLittle => number.to_le_bytes(),
        });
    }

    pub(crate) fn put_u32(self, out: &mut Vec<u8>, number: u32) {
        out.extend_from_slice(&match self {
            Self::ExplicitBig => number.to_be_bytes(),
            Self::ImplicitLittle | Self::ExplicitLittle => number.to_le_bytes(),
        });
    }
}

fn put_tag(out: &mut Vec<u8>, tag: Tag, encoding: Encoding) {
    encoding.put_u16(out, tag.0);
    encoding.put_u16(out, tag.1);
}

/// An element's header. `None` where the VR has no room for the length.
pub(crate) fn element(out: &mut Vec<u8>, tag: Tag, vr: Vr, length: Length, encoding: Encoding) -> Option<()> {
    let field = length.bytes().unwrap_or(u32::MAX);
    if !encoding.is_explicit() {
        put_tag(out, tag, encoding);
        encoding.put_u32(out, field);
        return Some(());
    }
    if vr.has_long_length() {
        put_tag(out, tag, encoding);
        out.extend_from_slice(&vr.0);
        out.extend_from_slice(&[0, 0]);
        encoding.put_u32(out, field);
        return Some(());
    }
    let short = u16::try_from(length.bytes()?).ok()?;
    put_tag(out, tag, encoding);
    out.extend_from_slice(&vr.0);
    encoding.put_u16(out, short);
    Some(())
}

/// An item's header or a delimiter (PS3.5 §7.5).
pub(crate) fn item(out: &mut Vec<u8>, tag: Tag, length: Length, encoding: Encoding) {
    put_tag(out, tag, encoding);
    let delimiter = tag == Tag::ITEM_DELIMITER || tag == Tag::SEQUENCE_DELIMITER;
    encoding.put_u32(out, if delimiter { 0 } else { length.bytes().unwrap_or(u32::MAX) });
}

/// The header of a sequence as it stood, but of undefined length.
pub(crate) fn undefined(out: &mut Vec<u8>, header: &ElementHeader) {
    if header.length == Length::Undefined {
        return out.extend_from_slice(header.raw.as_slice());
    }
    let raw = header.raw.as_slice();
    let before_length = raw.len().saturating_sub(4);
    out.extend_from_slice(raw.get(..before_length).unwrap_or_default());
    out.extend_from_slice(&u32::MAX.to_le_bytes());
}
