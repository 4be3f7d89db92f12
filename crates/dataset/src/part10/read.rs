use std::io::{Read, Seek, SeekFrom};

use base::{Phi, Uid};

use super::{FileMeta, FileMetaError};
use crate::element::{Tag, Vr};
use crate::limits::FILE_META_BYTES_MAX;
use crate::syntax::Encoding;
use crate::walk::Walker;

const SOP_CLASS: (&str, Tag) = ("Media Storage SOP Class UID", Tag(0x0002, 0x0002));
const SOP_INSTANCE: (&str, Tag) = ("Media Storage SOP Instance UID", Tag(0x0002, 0x0003));
const TRANSFER_SYNTAX: (&str, Tag) = ("Transfer Syntax UID", Tag(0x0002, 0x0010));
const GROUP_LENGTH: Tag = Tag(0x0002, 0x0000);
const PREFIX: &[u8] = b"DICM";
const PREAMBLE_BYTES: usize = 128;
/// Nearly every file's group 0002 is within the first read.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// Reads the head of a file and leaves the reader at the data set's first byte.
///
/// Takes files without preamble, without group length or with a wrong one, with an implicit VR group 0002,
/// and with media storage UIDs that are missing or differ from the data set's own. From memory: give it an
/// [`std::io::Cursor`].
pub fn read_file_meta(mut reader: impl Read + Seek) -> Result<FileMeta, FileMetaError> {
    let mut head = Vec::new();
    let mut want = FIRST_READ_BYTES;
    let group = loop {
        let missing = want.saturating_sub(head.len()) as u64;
        let read = reader.by_ref().take(missing).read_to_end(&mut head)?;
        let complete = (read as u64) < missing;
        if let Some(group) = Group::parse(&head, complete)? {
            break group;
        }
        if want >= FILE_META_BYTES_MAX {
            return Err(FileMetaError::TooLong);
        }
        want *= 4;
    };
    let transfer_syntax =
        uid(group.transfer_syntax.as_deref(), TRANSFER_SYNTAX)?.ok_or_else(|| missing(TRANSFER_SYNTAX))?;
    let data_set_offset = group.data_set_offset as u64;
    reader.seek(SeekFrom::Start(data_set_offset))?;
    let (sop_class, sop_instance) = sop_uids(&mut reader, &transfer_syntax)?;
    reader.seek(SeekFrom::Start(data_set_offset))?;
    let sop_class = match sop_class {
        Some(own) => own,
        None => uid(group.sop_class.as_deref(), SOP_CLASS)?.ok_or_else(|| missing(SOP_CLASS))?,
    };
    let sop_instance = match sop_instance {
        Some(own) => own,
        None => {
            Phi::new(uid(group.sop_instance.as_deref(), SOP_INSTANCE)?.ok_or_else(|| missing(SOP_INSTANCE))?)
        }
    };
    Ok(FileMeta { sop_class, sop_instance, transfer_syntax, data_set_offset })
}

/// What group 0002 said.
#[derive(Default)]
struct Group {
    sop_class: Option<Vec<u8>>,
    sop_instance: Option<Vec<u8>>,
    transfer_syntax: Option<Vec<u8>>,
    data_set_offset: usize,
}

impl Group {
    /// `None` when more bytes are needed; `complete` says that there are none.
    fn parse(file: &[u8], complete: bool) -> Result<Option<Self>, FileMetaError> {
        if file.len() < PREAMBLE_BYTES + PREFIX.len() && !complete {
            return Ok(None);
        }
        let mut at = start(file)?;
        let mut group = Self::default();
        let mut end = None;
        loop {
            let rest = file.get(at..).unwrap_or_default();
            let here = match Element::parse(rest) {
                Head::Element(element) if end == Some(at) && !element.is_explicit_meta() => break,
                Head::Element(element) => element,
                Head::Other => break,
                Head::Partial if !complete => return Ok(None),
                Head::Partial if rest.is_empty() => break,
                Head::Partial => return Err(FileMetaError::Truncated { offset: at as u64 }),
            };
            let Some(value) = rest.get(here.value..here.value + here.length) else {
                return match here.length {
                    0..=FILE_META_BYTES_MAX if complete => {
                        Err(FileMetaError::Truncated { offset: at as u64 })
                    }
                    0..=FILE_META_BYTES_MAX => Ok(None),
                    _ => Err(FileMetaError::Damaged { offset: at as u64 }),
                };
            };
            at += here.value + here.length;
            match here.tag {
                GROUP_LENGTH => end = group_end(at, value),
                tag if tag == SOP_CLASS.1 => group.sop_class = Some(value.to_vec()),
                tag if tag == SOP_INSTANCE.1 => group.sop_instance = Some(value.to_vec()),
                tag if tag == TRANSFER_SYNTAX.1 => group.transfer_syntax = Some(value.to_vec()),
                _ => {}
            }
        }
        group.data_set_offset = at;
        Ok(Some(group))
    }
}

/// Where group 0002 starts.
fn start(file: &[u8]) -> Result<usize, FileMetaError> {
    if file.get(PREAMBLE_BYTES..).is_some_and(|rest| rest.starts_with(PREFIX)) {
        return Ok(PREAMBLE_BYTES + PREFIX.len());
    }
    if file.starts_with(PREFIX) {
        return Ok(PREFIX.len());
    }
    if matches!(Element::parse(file), Head::Element(element) if element.tag.1 <= 0x0102 && element.length <= file.len())
    {
        return Ok(0);
    }
    Err(if is_data_set(file) { FileMetaError::NoFileMeta } else { FileMetaError::NotDicom })
}

/// Whether the bytes could be a data set from group 0008 on, in any encoding.
fn is_data_set(file: &[u8]) -> bool {
    let (Some(group), Some(second)) = (file.first_chunk::<2>(), file.get(4..6)) else { return false };
    let explicit = second.iter().all(u8::is_ascii_uppercase);
    let little = u16::from_le_bytes(*group) == 0x0008;
    let big = u16::from_be_bytes(*group) == 0x0008;
    // In implicit VR the length of a first element of group 0008 has no more than two bytes.
    explicit && (little || big) || little && file.get(6..8) == Some(&[0, 0])
}

fn group_end(after: usize, value: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*value.first_chunk()?);
    after.checked_add(usize::try_from(length).ok()?)
}

struct Element {
    tag: Tag,
    explicit: bool,
    /// Where the value starts.
    value: usize,
    length: usize,
}

enum Head {
    Element(Element),
    /// Not of group 0002.
    Other,
    /// Too few bytes to tell.
    Partial,
}

impl Element {
    fn parse(bytes: &[u8]) -> Head {
        let encoding = Encoding::ExplicitLittle;
        match bytes.first_chunk::<2>() {
            None => return Head::Partial,
            Some(group) if encoding.u16(*group) != 0x0002 => return Head::Other,
            Some(_) => {}
        }
        let Some(&[_, _, e0, e1, v0, v1, l0, l1]) = bytes.first_chunk::<8>() else { return Head::Partial };
        let tag = Tag(0x0002, encoding.u16([e0, e1]));
        let vr = Vr([v0, v1]);
        let (value, length) = if !vr.is_plausible() {
            (8, encoding.u32([v0, v1, l0, l1]))
        } else if vr.has_long_length() {
            let Some(&[.., a, b, c, d]) = bytes.first_chunk::<12>() else { return Head::Partial };
            (12, encoding.u32([a, b, c, d]))
        } else {
            (8, u32::from(encoding.u16([l0, l1])))
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX - value);
        Head::Element(Self { tag, explicit: vr.is_plausible(), value, length })
    }

    /// Surely one of group 0002, also behind the end that the group length gives: a deflated data set may
    /// start with the bytes of such a tag, but not with all of this.
    fn is_explicit_meta(&self) -> bool {
        self.explicit && self.tag.1 <= 0x0102 && self.length < 1024
    }
}

fn missing((name, tag): (&'static str, Tag)) -> FileMetaError {
    FileMetaError::Missing { name, tag }
}

/// `None` for an absent or empty value.
fn uid(value: Option<&[u8]>, (name, tag): (&'static str, Tag)) -> Result<Option<Uid>, FileMetaError> {
    match value.map(Uid::from_value) {
        None | Some(Err(base::UidError::Empty)) => Ok(None),
        Some(Ok(uid)) => Ok(Some(uid)),
        Some(Err(source)) => Err(FileMetaError::NotUid { name, tag, source }),
    }
}

/// SOP Class and SOP Instance UID of the data set that the reader stands at. What cannot be read is not found.
fn sop_uids(
    reader: &mut impl Read,
    transfer_syntax: &Uid,
) -> Result<(Option<Uid>, Option<Phi<Uid>>), FileMetaError> {
    let mut walker = Walker::new(transfer_syntax);
    let mut piece = Vec::with_capacity(FIRST_READ_BYTES);
    for _ in 0..FILE_META_BYTES_MAX / FIRST_READ_BYTES {
        piece.clear();
        reader.by_ref().take(FIRST_READ_BYTES as u64).read_to_end(&mut piece)?;
        let readable = walker.is_on() && walker.feed(&piece).is_ok();
        if piece.is_empty() || !readable || !walker.is_before_sop_uids() {
            break;
        }
    }
    let (class, instance) = walker.sop_uids();
    Ok((class.cloned(), instance.cloned()))
}
