//! What can be pseudonymized, from the engine's own tables.

use pseudonym::{HEADER_BYTES_MAX, MethodCode, ProfileOption, table};
use statement::DeidentificationRow;

use super::claim;

/// The profile and all its options.
pub(super) fn rows() -> Vec<DeidentificationRow> {
    let row = |code: MethodCode, offered: bool, note: String| DeidentificationRow {
        claim: claim("deidentification", code.value),
        code: code.value.to_owned(),
        name: code.meaning.to_owned(),
        offered,
        note,
    };
    let basic = row(MethodCode::BASIC, true, "always, where a route has `pseudonymize`".to_owned());
    let options = ProfileOption::ALL.into_iter().map(|option| {
        let note = match option.is_offered() {
            _ if option == ProfileOption::CleanPixelData => {
                "where a rule of `pixels` masks: native pixels, and RLE, JPEG, JPEG-LS (one sample) and JPEG 2000, which go on as \
                 Explicit VR Little Endian"
                    .to_owned()
            }
            true => format!("`options = [\"{}\"]`, or a preset that has it", option.name()),
            false => "never claimed: what needs it is refused, or removed".to_owned(),
        };
        row(option.code(), option.is_offered() || option == ProfileOption::CleanPixelData, note)
    });
    std::iter::once(basic).chain(options).collect()
}

/// Around the table.
pub(super) fn prose() -> Vec<String> {
    vec![
        format!(
            "A route may pseudonymize what passes (`pseudonymize`), by the Basic Application Level Confidentiality Profile \
             of PS3.15 Annex E, edition {}: each of the {} rows of Table E.1-1, at every depth. The result is pseudonymized, \
             not anonymous: identifiers, UIDs and shifts of dates are keyed, and whoever has the key can link them.",
            table::EDITION,
            table::Table::get().rows().len()
        ),
        format!(
            "Codes of what was applied are written to De-identification Method Code Sequence (0012,0064). Private attributes \
             and unknown ones are removed, safe private ones (Table E.3.10-1) only unless that option is chosen. Before \
             anything leaves, the finished header, at most {} MiB of it, is searched for names, identifiers and birth date \
             of its own patient; a hit refuses the instance. Structured reports are refused without the option that cleans \
             them; encapsulated documents, video, waveforms, secondary capture and private SOP classes unless a rule of the \
             route lets them pass, or makes parts of their pixels black. Storage Commitment is never given for what was pseudonymized.",
            HEADER_BYTES_MAX >> 20
        ),
        "Where a route names certificates (`reidentify`), the original values of first-level attributes go with each instance in \
         Encrypted Attributes Sequence (0400,0500): CMS EnvelopedData with AES-256 in CBC mode, key transport by RSAES-OAEP with \
         SHA-256 (PS3.15 E.1.1). `gateway-out reidentify` is the way back (E.1.2)."
            .to_owned(),
    ]
}
