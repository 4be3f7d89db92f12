use base::{AeTitle, InstanceMeta, Uid};

use crate::element::{Tag, Vr};

/// Who writes the file (PS3.7 D.3.3.2).
#[derive(Clone, Copy, Debug)]
pub struct Implementation<'a> {
    /// Implementation Class UID (0002,0012).
    pub class_uid: &'a Uid,
    /// Implementation Version Name (0002,0013): what exceeds 16 characters, and what is not printable
    /// ASCII, is left out.
    pub version_name: &'a str,
}

const VERSION_NAME_MAX: usize = 16;
const PREAMBLE_BYTES: usize = 128;

/// Preamble of zeros, prefix and group 0002 with its length; the data set as sent goes behind it.
/// `source` becomes Source Application Entity Title (0002,0016).
pub fn write_file_meta(meta: &InstanceMeta, writer: Implementation<'_>, source: Option<&AeTitle>) -> Vec<u8> {
    let mut group = Vec::with_capacity(384);
    element(&mut group, Tag(0x0002, 0x0001), Vr::OB, &[0, 1]);
    uid(&mut group, Tag(0x0002, 0x0002), &meta.sop_class);
    uid(&mut group, Tag(0x0002, 0x0003), meta.sop_instance.reveal());
    uid(&mut group, Tag(0x0002, 0x0010), &meta.transfer_syntax);
    uid(&mut group, Tag(0x0002, 0x0012), writer.class_uid);
    let version: String = writer
        .version_name
        .chars()
        .filter(|c| (' '..='~').contains(c) && *c != '\\')
        .take(VERSION_NAME_MAX)
        .collect();
    if !version.trim().is_empty() {
        text(&mut group, Tag(0x0002, 0x0013), Vr(*b"SH"), &version);
    }
    if let Some(source) = source {
        text(&mut group, Tag(0x0002, 0x0016), Vr(*b"AE"), source.as_str());
    }

    let mut file = vec![0; PREAMBLE_BYTES];
    file.extend_from_slice(b"DICM");
    #[expect(clippy::cast_possible_truncation, reason = "four UIDs and two short texts")]
    element(&mut file, Tag(0x0002, 0x0000), Vr(*b"UL"), &(group.len() as u32).to_le_bytes());
    file.append(&mut group);
    file
}

fn uid(out: &mut Vec<u8>, tag: Tag, uid: &Uid) {
    let mut value = uid.as_str().as_bytes().to_vec();
    value.resize(value.len().next_multiple_of(2), 0);
    element(out, tag, Vr(*b"UI"), &value);
}

fn text(out: &mut Vec<u8>, tag: Tag, vr: Vr, text: &str) {
    let mut value = text.as_bytes().to_vec();
    value.resize(value.len().next_multiple_of(2), b' ');
    element(out, tag, vr, &value);
}

/// Explicit VR little endian, which group 0002 always has.
#[expect(clippy::cast_possible_truncation, reason = "no value here exceeds 64 bytes")]
fn element(out: &mut Vec<u8>, tag: Tag, vr: Vr, value: &[u8]) {
    out.extend_from_slice(&tag.0.to_le_bytes());
    out.extend_from_slice(&tag.1.to_le_bytes());
    out.extend_from_slice(&vr.0);
    if vr.has_long_length() {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    } else {
        out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    }
    out.extend_from_slice(value);
}
