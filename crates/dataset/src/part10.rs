//! What stands before a data set in a file: preamble, prefix and group 0002 (PS3.10 §7.1).
//!
//! Reading is tolerant, since archives and test sets hold all kinds of files; writing is exact.

mod read;
mod write;

use std::io;

use base::{Phi, Uid, UidError};
use thiserror::Error;

use crate::element::Tag;
use crate::limits::FILE_META_BYTES_MAX;

pub use read::read_file_meta;
pub use write::{Implementation, write_file_meta};

/// What a C-STORE needs to know of a file before its data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// The data set's SOP Class UID (0008,0016); Media Storage SOP Class UID (0002,0002) where that is missing
    /// or the transfer syntax is unknown. The two should be equal (PS3.10 §7.1); where they are not, the data
    /// set's is what a C-STORE of it must name.
    pub sop_class: Uid,
    /// SOP Instance UID (0008,0018), or Media Storage SOP Instance UID (0002,0003), by the same rule.
    pub sop_instance: Phi<Uid>,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax: Uid,
    /// The first byte of the data set.
    pub data_set_offset: u64,
}

impl FileMeta {
    /// Whether the file is a DICOMDIR (PS3.3 Annex F): DICOM, but nothing that a C-STORE carries.
    pub fn is_directory(&self) -> bool {
        self.sop_class.as_str() == "1.2.840.10008.1.3.10"
    }
}

/// Why a file cannot be sent as an instance.
#[derive(Debug, Error)]
pub enum FileMetaError {
    /// The operating system's word.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    /// Something else than DICOM.
    #[error("not a DICOM file: no DICM at byte 128 and no group 0002 at the start")]
    NotDicom,
    /// DICOM elements from the first byte on.
    #[error(
        "a data set without file meta information, so its transfer syntax is unknown; convert it first (DCMTK: dcmconv +F)"
    )]
    NoFileMeta,
    /// Group 0002 ends in mid-air.
    #[error("file is truncated inside its file meta information, at byte {offset}")]
    Truncated {
        /// Where the incomplete element starts.
        offset: u64,
    },
    /// Group 0002 does not hold what it must.
    #[error("file meta information is damaged at byte {offset}")]
    Damaged {
        /// Where the element starts.
        offset: u64,
    },
    /// No end of group 0002 in sight.
    #[error("file meta information exceeds {FILE_META_BYTES_MAX} bytes")]
    TooLong,
    /// A required element is neither in group 0002 nor (for the SOP UIDs) in the data set.
    #[error("file has no {name} {tag}")]
    Missing {
        /// The attribute's name.
        name: &'static str,
        /// Its tag.
        tag: Tag,
    },
    /// A required element holds no UID.
    #[error("{name} {tag} is not a UID: {source}")]
    NotUid {
        /// The attribute's name.
        name: &'static str,
        /// Its tag.
        tag: Tag,
        /// What is wrong with it.
        source: UidError,
    },
}
