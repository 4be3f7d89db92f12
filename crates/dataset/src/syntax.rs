use base::Uid;
use dicom_dictionary_std::uids;
use dicom_encoding::{Codec, Endianness};
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};

/// How elements are laid out (PS3.5 §7 and Annex A).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// PS3.5 A.1.
    ImplicitLittle,
    /// PS3.5 A.2, and A.4 with encapsulated pixel data.
    ExplicitLittle,
    /// PS3.5 A.3, retired.
    ExplicitBig,
}

impl Encoding {
    /// Whether each element names its value representation.
    pub fn is_explicit(self) -> bool {
        !matches!(self, Self::ImplicitLittle)
    }

    /// A number of two bytes.
    pub fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::ExplicitBig => u16::from_be_bytes(bytes),
            Self::ImplicitLittle | Self::ExplicitLittle => u16::from_le_bytes(bytes),
        }
    }

    /// A number of four bytes.
    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::ExplicitBig => u32::from_be_bytes(bytes),
            Self::ImplicitLittle | Self::ExplicitLittle => u32::from_le_bytes(bytes),
        }
    }
}

/// What a transfer syntax UID says about the bytes of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Syntax {
    /// The layout of the elements, once inflated.
    pub encoding: Encoding,
    /// Whether the whole data set is an RFC 1951 stream (PS3.5 A.5; also both JPIP Referenced Deflate syntaxes).
    pub deflated: bool,
}

/// JPEG processes retired from PS3.5 and never put into the registry. All are encapsulated (PS3.5 A.4).
const RETIRED_JPEG: [&str; 14] = [
    "1.2.840.10008.1.2.4.52",
    "1.2.840.10008.1.2.4.53",
    "1.2.840.10008.1.2.4.54",
    "1.2.840.10008.1.2.4.55",
    "1.2.840.10008.1.2.4.56",
    "1.2.840.10008.1.2.4.58",
    "1.2.840.10008.1.2.4.59",
    "1.2.840.10008.1.2.4.60",
    "1.2.840.10008.1.2.4.61",
    "1.2.840.10008.1.2.4.62",
    "1.2.840.10008.1.2.4.63",
    "1.2.840.10008.1.2.4.64",
    "1.2.840.10008.1.2.4.65",
    "1.2.840.10008.1.2.4.66",
];

impl Syntax {
    /// The layout of a known transfer syntax: those of dicom-rs' registry and the retired JPEG processes.
    ///
    /// `None` for private UIDs and for the three in PS3.6 that are no element encoding of their own or are
    /// not defined by PS3.5 any more: RFC 2557 MIME, XML, and Papyrus 3.
    pub fn of(transfer_syntax: &Uid) -> Option<Self> {
        let uid = transfer_syntax.as_str();
        if RETIRED_JPEG.contains(&uid) {
            return Some(Self { encoding: Encoding::ExplicitLittle, deflated: false });
        }
        let known = TransferSyntaxRegistry.get(uid)?;
        let encoding = match known.endianness() {
            Endianness::Big => Encoding::ExplicitBig,
            // The registry does not tell; the default transfer syntax is the only implicit one (PS3.5 §10).
            Endianness::Little if known.uid() == uids::IMPLICIT_VR_LITTLE_ENDIAN => Encoding::ImplicitLittle,
            Endianness::Little => Encoding::ExplicitLittle,
        };
        // In the registry only the deflated syntaxes transform the data set as a whole.
        let deflated = matches!(known.codec(), Codec::Dataset(_));
        Some(Self { encoding, deflated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_syntax_says_its_layout_or_nothing() {
        let of = |encoding, deflated| Some(Syntax { encoding, deflated });
        let cases = [
            ("1.2.840.10008.1.2", of(Encoding::ImplicitLittle, false)),
            ("1.2.840.10008.1.2.1", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.1.98", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.1.99", of(Encoding::ExplicitLittle, true)),
            ("1.2.840.10008.1.2.2", of(Encoding::ExplicitBig, false)),
            ("1.2.840.10008.1.2.4.50", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.4.55", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.4.66", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.4.70", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.4.91", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.4.94", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.4.95", of(Encoding::ExplicitLittle, true)),
            ("1.2.840.10008.1.2.4.108", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.4.112", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.4.203", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.4.205", of(Encoding::ExplicitLittle, true)),
            ("1.2.840.10008.1.2.5", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.8.1", of(Encoding::ExplicitLittle, false)),
            ("1.2.840.10008.1.2.6.1", None),
            ("1.2.840.10008.1.2.6.2", None),
            ("1.2.840.10008.1.20", None),
            ("1.2.840.113619.5.2", None),
            ("2.25.1", None),
        ];
        for (uid, want) in cases {
            assert_eq!(Syntax::of(&Uid::parse(uid).unwrap()), want, "{uid}");
        }
    }
}
