//! The transfer syntaxes of PS3.6 Table A-1 and what they do to pixels, so that a presentation context
//! which offers several can be answered without making the requestor compress or lose something.

use base::Uid;

/// What a transfer syntax does to the pixels of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferSyntaxKind {
    /// Native pixels.
    Uncompressed,
    /// The whole data set is deflated (PS3.5 §A.5).
    Deflated,
    /// Compressed without loss, always.
    Lossless,
    /// Compressed with loss, or possibly so: a syntax whose code stream may be either counts as lossy.
    Lossy,
    /// The pixels are elsewhere and the data set names the place (JPIP).
    Referenced,
    /// No encoding of a stored data set: retired mail and XML forms, real-time video.
    Other,
}

use TransferSyntaxKind::{Deflated, Lossless, Lossy, Other, Referenced, Uncompressed};

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferSyntax {
    /// UID.
    pub uid: &'static str,
    /// UID name.
    pub name: &'static str,
    /// What it does to pixels.
    pub kind: TransferSyntaxKind,
}

const fn row(uid: &'static str, name: &'static str, kind: TransferSyntaxKind) -> TransferSyntax {
    TransferSyntax { uid, name, kind }
}

/// Implicit VR Little Endian, the default transfer syntax for DICOM.
pub const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";
/// Explicit VR Little Endian.
pub const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";

/// PS3.6 Table A-1, retired ones included.
#[rustfmt::skip]
pub const TRANSFER_SYNTAXES: &[TransferSyntax] = &[
    row("1.2.840.10008.1.2", "Implicit VR Little Endian", Uncompressed),
    row("1.2.840.10008.1.2.1", "Explicit VR Little Endian", Uncompressed),
    row("1.2.840.10008.1.2.1.98", "Encapsulated Uncompressed Explicit VR Little Endian", Uncompressed),
    row("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", Deflated),
    row("1.2.840.10008.1.2.2", "Explicit VR Big Endian", Uncompressed),
    row("1.2.840.10008.1.2.4.50", "JPEG Baseline (Process 1)", Lossy),
    row("1.2.840.10008.1.2.4.51", "JPEG Extended (Process 2 & 4)", Lossy),
    row("1.2.840.10008.1.2.4.52", "JPEG Extended (Process 3 & 5)", Lossy),
    row("1.2.840.10008.1.2.4.53", "JPEG Spectral Selection, Non-Hierarchical (Process 6 & 8)", Lossy),
    row("1.2.840.10008.1.2.4.54", "JPEG Spectral Selection, Non-Hierarchical (Process 7 & 9)", Lossy),
    row("1.2.840.10008.1.2.4.55", "JPEG Full Progression, Non-Hierarchical (Process 10 & 12)", Lossy),
    row("1.2.840.10008.1.2.4.56", "JPEG Full Progression, Non-Hierarchical (Process 11 & 13)", Lossy),
    row("1.2.840.10008.1.2.4.57", "JPEG Lossless, Non-Hierarchical (Process 14)", Lossless),
    row("1.2.840.10008.1.2.4.58", "JPEG Lossless, Non-Hierarchical (Process 15)", Lossless),
    row("1.2.840.10008.1.2.4.59", "JPEG Extended, Hierarchical (Process 16 & 18)", Lossy),
    row("1.2.840.10008.1.2.4.60", "JPEG Extended, Hierarchical (Process 17 & 19)", Lossy),
    row("1.2.840.10008.1.2.4.61", "JPEG Spectral Selection, Hierarchical (Process 20 & 22)", Lossy),
    row("1.2.840.10008.1.2.4.62", "JPEG Spectral Selection, Hierarchical (Process 21 & 23)", Lossy),
    row("1.2.840.10008.1.2.4.63", "JPEG Full Progression, Hierarchical (Process 24 & 26)", Lossy),
    row("1.2.840.10008.1.2.4.64", "JPEG Full Progression, Hierarchical (Process 25 & 27)", Lossy),
    row("1.2.840.10008.1.2.4.65", "JPEG Lossless, Hierarchical (Process 28)", Lossless),
    row("1.2.840.10008.1.2.4.66", "JPEG Lossless, Hierarchical (Process 29)", Lossless),
    row("1.2.840.10008.1.2.4.70", "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14, Selection Value 1)", Lossless),
    row("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless Image Compression", Lossless),
    row("1.2.840.10008.1.2.4.81", "JPEG-LS Lossy (Near-Lossless) Image Compression", Lossy),
    row("1.2.840.10008.1.2.4.90", "JPEG 2000 Image Compression (Lossless Only)", Lossless),
    row("1.2.840.10008.1.2.4.91", "JPEG 2000 Image Compression", Lossy),
    row("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)", Lossless),
    row("1.2.840.10008.1.2.4.93", "JPEG 2000 Part 2 Multi-component Image Compression", Lossy),
    row("1.2.840.10008.1.2.4.94", "JPIP Referenced", Referenced),
    row("1.2.840.10008.1.2.4.95", "JPIP Referenced Deflate", Referenced),
    row("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level", Lossy),
    row("1.2.840.10008.1.2.4.100.1", "Fragmentable MPEG2 Main Profile / Main Level", Lossy),
    row("1.2.840.10008.1.2.4.101", "MPEG2 Main Profile / High Level", Lossy),
    row("1.2.840.10008.1.2.4.101.1", "Fragmentable MPEG2 Main Profile / High Level", Lossy),
    row("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1", Lossy),
    row("1.2.840.10008.1.2.4.102.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1", Lossy),
    row("1.2.840.10008.1.2.4.103", "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", Lossy),
    row("1.2.840.10008.1.2.4.103.1", "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", Lossy),
    row("1.2.840.10008.1.2.4.104", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video", Lossy),
    row("1.2.840.10008.1.2.4.104.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video", Lossy),
    row("1.2.840.10008.1.2.4.105", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", Lossy),
    row("1.2.840.10008.1.2.4.105.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", Lossy),
    row("1.2.840.10008.1.2.4.106", "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", Lossy),
    row("1.2.840.10008.1.2.4.106.1", "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", Lossy),
    row("1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile / Level 5.1", Lossy),
    row("1.2.840.10008.1.2.4.108", "HEVC/H.265 Main 10 Profile / Level 5.1", Lossy),
    row("1.2.840.10008.1.2.4.110", "JPEG XL Lossless", Lossless),
    row("1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression", Lossy),
    row("1.2.840.10008.1.2.4.112", "JPEG XL", Lossy),
    row("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Image Compression (Lossless Only)", Lossless),
    row("1.2.840.10008.1.2.4.202", "High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)", Lossless),
    row("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000 Image Compression", Lossy),
    row("1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced", Referenced),
    row("1.2.840.10008.1.2.4.205", "JPIP HTJ2K Referenced Deflate", Referenced),
    row("1.2.840.10008.1.2.5", "RLE Lossless", Lossless),
    row("1.2.840.10008.1.2.6.1", "RFC 2557 MIME encapsulation", Other),
    row("1.2.840.10008.1.2.6.2", "XML Encoding", Other),
    row("1.2.840.10008.1.2.7.1", "SMPTE ST 2110-20 Uncompressed Progressive Active Video", Other),
    row("1.2.840.10008.1.2.7.2", "SMPTE ST 2110-20 Uncompressed Interlaced Active Video", Other),
    row("1.2.840.10008.1.2.7.3", "SMPTE ST 2110-30 PCM Digital Audio", Other),
    row("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression", Lossless),
    row("1.2.840.10008.1.20", "Papyrus 3 Implicit VR Little Endian", Uncompressed),
];

/// The row of a standard transfer syntax; `None` for a private or newer one.
pub fn transfer_syntax(uid: &Uid) -> Option<&'static TransferSyntax> {
    TRANSFER_SYNTAXES.iter().find(|row| row.uid == uid.as_str())
}

/// Those that differ in the layout of elements only, so that one can be made of another without touching a value.
pub const PLAIN_TRANSFER_SYNTAXES: [&str; 3] =
    [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.1.99"];

/// Chooses among the transfer syntaxes that one presentation context offers.
///
/// Where a lossless one is offered the lossy ones do not count: the requestor would compress for us. Then
/// the first of `prefer` that is offered; else by rank: Explicit VR Little Endian, lossless compressed,
/// Implicit VR Little Endian, Deflated, other uncompressed ones, private, unknown and lossy ones, and at
/// last what is no encoding of a stored data set. Within one rank the requestor's order decides.
pub fn choose_transfer_syntax<'a>(offered: &'a [Uid], prefer: &[Uid]) -> Option<&'a Uid> {
    let lossless_offered = offered.iter().any(is_lossless);
    let eligible: Vec<&Uid> = offered.iter().filter(|uid| !(lossless_offered && is_lossy(uid))).collect();
    choose_among(&eligible, prefer)
}

/// The same among those that are eligible.
pub(crate) fn choose_among<'a>(eligible: &[&'a Uid], prefer: &[Uid]) -> Option<&'a Uid> {
    let preferred = prefer.iter().find_map(|wanted| eligible.iter().find(|uid| **uid == wanted));
    preferred.or_else(|| eligible.iter().min_by_key(|uid| rank(uid))).copied()
}

/// It keeps every pixel.
pub(crate) fn is_lossless(uid: &Uid) -> bool {
    matches!(kind(uid), Some(Uncompressed | Deflated | Lossless))
}

/// It may change pixels.
pub(crate) fn is_lossy(uid: &Uid) -> bool {
    kind(uid) == Some(Lossy)
}

fn kind(uid: &Uid) -> Option<TransferSyntaxKind> {
    transfer_syntax(uid).map(|row| row.kind)
}

fn rank(uid: &Uid) -> u8 {
    match (uid.as_str(), transfer_syntax(uid).map(|row| row.kind)) {
        (EXPLICIT_VR_LITTLE_ENDIAN, _) => 0,
        (_, Some(Lossless)) => 1,
        (IMPLICIT_VR_LITTLE_ENDIAN, _) => 2,
        (_, Some(Deflated)) => 3,
        (_, Some(Uncompressed)) => 4,
        (_, Some(Lossy) | None) => 5,
        (_, Some(Referenced)) => 6,
        (_, Some(Other)) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids(list: &[&str]) -> Vec<Uid> {
        list.iter().map(|uid| Uid::parse(uid).unwrap()).collect()
    }

    #[test]
    fn rows_are_unique_and_parse() {
        let mut seen: Vec<&str> = TRANSFER_SYNTAXES.iter().map(|row| row.uid).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), TRANSFER_SYNTAXES.len());
        assert!(TRANSFER_SYNTAXES.iter().all(|row| Uid::parse(row.uid).is_ok() && !row.name.is_empty()));
    }

    #[test]
    fn one_of_several_offered_syntaxes_is_chosen_without_loss() {
        const EXPLICIT: &str = "1.2.840.10008.1.2.1";
        const IMPLICIT: &str = "1.2.840.10008.1.2";
        const BIG: &str = "1.2.840.10008.1.2.2";
        const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
        const BASELINE: &str = "1.2.840.10008.1.2.4.50";
        const J2K: &str = "1.2.840.10008.1.2.4.91";
        const J2K_LOSSLESS: &str = "1.2.840.10008.1.2.4.90";
        const RLE: &str = "1.2.840.10008.1.2.5";
        const JPIP: &str = "1.2.840.10008.1.2.4.94";
        const PRIVATE: &str = "1.3.6.1.4.1.99.1";
        let cases: &[(&[&str], &[&str], Option<&str>)] = &[
            (&[], &[], None),
            (&[IMPLICIT, EXPLICIT], &[], Some(EXPLICIT)),
            (&[IMPLICIT, BIG], &[], Some(IMPLICIT)),
            (&[BIG], &[], Some(BIG)),
            (&[IMPLICIT, RLE, J2K_LOSSLESS], &[], Some(RLE)),
            (&[IMPLICIT, DEFLATED], &[], Some(IMPLICIT)),
            (&[DEFLATED, BASELINE], &[], Some(DEFLATED)),
            (&[BASELINE, IMPLICIT], &[], Some(IMPLICIT)),
            (&[BASELINE, J2K], &[], Some(BASELINE)),
            (&[BASELINE], &[], Some(BASELINE)),
            (&[PRIVATE], &[], Some(PRIVATE)),
            (&[PRIVATE, IMPLICIT], &[], Some(IMPLICIT)),
            (&[J2K, PRIVATE], &[], Some(J2K)),
            (&[JPIP, BASELINE], &[], Some(BASELINE)),
            (&[IMPLICIT, EXPLICIT], &[IMPLICIT], Some(IMPLICIT)),
            (&[IMPLICIT, EXPLICIT], &[RLE, IMPLICIT], Some(IMPLICIT)),
            (&[IMPLICIT, PRIVATE], &[PRIVATE], Some(PRIVATE)),
            (&[BASELINE, EXPLICIT], &[BASELINE], Some(EXPLICIT)),
            (&[BASELINE, J2K], &[J2K], Some(J2K)),
        ];
        for (offered, prefer, want) in cases {
            let (offered_uids, prefer_uids) = (uids(offered), uids(prefer));
            let chosen = choose_transfer_syntax(&offered_uids, &prefer_uids).map(Uid::as_str);
            assert_eq!(chosen, *want, "offered {offered:?}, preferred {prefer:?}");
        }
    }
}
