//! What is written: the attributes that say what was done (PS3.15 E.1.1), and dummy values.

use dataset::{NewElement, Tag, Vr};

use crate::option::{MethodCode, ProfileOption};
use crate::originals::ENCRYPTED_ATTRIBUTES;
use crate::plan::Plan;
use crate::recode::Recode;
use crate::table::EDITION;

const IDENTITY_REMOVED: Tag = Tag(0x0012, 0x0062);
const METHOD: Tag = Tag(0x0012, 0x0063);
const METHOD_CODES: Tag = Tag(0x0012, 0x0064);
const LONGITUDINAL: Tag = Tag(0x0028, 0x0303);
const CODE_VALUE: Tag = Tag(0x0008, 0x0100);
const CODING_SCHEME: Tag = Tag(0x0008, 0x0102);
const CODE_MEANING: Tag = Tag(0x0008, 0x0104);
const CS: Vr = Vr(*b"CS");
const SH: Vr = Vr(*b"SH");

/// Attributes that are written anew, whatever the instance came with.
pub(crate) const TAGS: [Tag; 4] = [IDENTITY_REMOVED, METHOD, METHOD_CODES, LONGITUDINAL];

/// Written where pixels were masked.
pub(crate) const BURNED_IN: Tag = Tag(0x0028, 0x0301);

const PHOTOMETRIC: Tag = Tag(0x0028, 0x0004);
const PLANAR: Tag = Tag(0x0028, 0x0006);
const LOSSY: Tag = Tag(0x0028, 0x2110);

/// Whether it is written anew where pixels were decoded.
pub(crate) fn is_recoded(tag: Tag, recode: &Recode) -> bool {
    tag == PHOTOMETRIC || tag == PLANAR || tag == LOSSY && recode.is_lossy()
}

/// What replaces text.
const REDACTED: &[u8] = b"REDACTED";

/// The attributes of [`TAGS`], in their order, with the codes of what was done, and what is true of pixels that were decoded:
/// what they lost when they were compressed stays lost. `originals` is the Encrypted Attributes Sequence.
pub(crate) fn elements(
    plan: &Plan,
    codes: &[MethodCode],
    masked: bool,
    recode: Option<&Recode>,
    originals: Option<NewElement>,
) -> Vec<(Tag, NewElement)> {
    let value = |tag, vr, text: &str| NewElement::Value { tag, vr, bytes: text.as_bytes().to_vec() };
    let item = |code: &MethodCode| {
        vec![
            value(CODE_VALUE, SH, code.value),
            value(CODING_SCHEME, SH, "DCM"),
            value(CODE_MEANING, Vr::LO, code.meaning),
        ]
    };
    let longitudinal = if plan.options.has(ProfileOption::RetainFullDates) {
        "UNMODIFIED"
    } else if plan.options.has(ProfileOption::RetainModifiedDates) {
        "MODIFIED"
    } else {
        "REMOVED"
    };
    let method = format!("Sluis {}: PS3.15 {EDITION} Annex E", env!("CARGO_PKG_VERSION"));
    let burned_in = masked.then(|| (BURNED_IN, value(BURNED_IN, CS, "NO")));
    let elements = [
        value(IDENTITY_REMOVED, CS, "YES"),
        value(METHOD, Vr::LO, &method),
        NewElement::Sequence { tag: METHOD_CODES, items: codes.iter().map(item).collect() },
        value(LONGITUDINAL, CS, longitudinal),
    ];
    let mut marks: Vec<_> = TAGS.into_iter().zip(elements).chain(burned_in).collect();
    if let Some(recode) = recode {
        let goes = &recode.goes;
        marks.push((PHOTOMETRIC, value(PHOTOMETRIC, CS, &goes.photometric)));
        if goes.samples > 1 {
            marks.push((PLANAR, NewElement::Value { tag: PLANAR, vr: Vr(*b"US"), bytes: vec![0; 2] }));
        }
        if recode.is_lossy() {
            marks.push((LOSSY, value(LOSSY, CS, "01")));
        }
    }
    marks.extend(originals.map(|element| (ENCRYPTED_ATTRIBUTES, element)));
    marks.sort_by_key(|(tag, _)| *tag);
    marks
}

/// What an instance says whose original values are back.
pub(crate) fn identity_is_there() -> (Tag, NewElement) {
    (IDENTITY_REMOVED, NewElement::Value { tag: IDENTITY_REMOVED, vr: CS, bytes: b"NO".to_vec() })
}

/// A value that says nothing, of the form that the representation asks for (PS3.15 Table E.1-1a, D).
pub(crate) fn dummy(tag: Tag, vr: Vr) -> Vec<u8> {
    match &vr.0 {
        _ if tag == CODING_SCHEME => b"99SLUIS".to_vec(),
        b"AS" => b"000Y".to_vec(),
        b"DA" => b"19000101".to_vec(),
        b"DT" => b"19000101000000".to_vec(),
        b"TM" => b"000000".to_vec(),
        b"DS" | b"IS" => b"0".to_vec(),
        b"UR" => b"urn:redacted".to_vec(),
        _ if vr.is_text() => REDACTED.to_vec(),
        b"FD" | b"SV" | b"UV" | b"OD" | b"OV" => vec![0; 8],
        b"FL" | b"SL" | b"UL" | b"AT" | b"OF" | b"OL" => vec![0; 4],
        _ => vec![0; 2],
    }
}
