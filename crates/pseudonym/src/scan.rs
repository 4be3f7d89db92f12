//! The first look at a header, which changes nothing: who the patient is, what the instance is, what must not be left of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Phi;
use dataset::{
    Content, Decision, DictionaryVr, Edit, EditError, ElementHeader, Encoding, Outcome, Place, Tag, Vr,
    WholeElement,
};

use crate::mask::{Layout, Rectangle};
use crate::originals::Originals;
use crate::plan::{Action, Plan};
use crate::scope::Kind;
use crate::traces::{TRACE_BYTES_MAX, TRACES_MAX, Traces};

/// Bytes of one value that is looked at.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;
/// From this group on, the first level of a data set is pixels and what follows them.
pub(crate) const PIXEL_GROUP: u16 = 0x7FE0;

const BIRTH_DATE: Tag = Tag(0x0010, 0x0030);
/// Identifiers that people type from one system into another's free text.
const IDENTIFIERS: &[Tag] = &[
    Tag::PATIENT_ID,
    Tag::ACCESSION,
    Tag(0x0010, 0x1000),
    Tag(0x0038, 0x0010),
    Tag(0x0038, 0x0060),
    Tag(0x0040, 0x2016),
    Tag(0x0040, 0x2017),
];
const IMAGE_TYPE: Tag = Tag(0x0008, 0x0008);
const CONVERSION: Tag = Tag(0x0008, 0x0064);
const MANUFACTURER: Tag = Tag(0x0008, 0x0070);
const MODEL: Tag = Tag(0x0008, 0x1090);
const ROWS: Tag = Tag(0x0028, 0x0010);
const COLUMNS: Tag = Tag(0x0028, 0x0011);
const BURNED_IN: Tag = Tag(0x0028, 0x0301);
const SAMPLES: Tag = Tag(0x0028, 0x0002);
const PHOTOMETRIC: Tag = Tag(0x0028, 0x0004);
const PLANAR: Tag = Tag(0x0028, 0x0006);
const FRAMES: Tag = Tag(0x0028, 0x0008);
const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
const BITS_STORED: Tag = Tag(0x0028, 0x0101);
/// Sequence of Ultrasound Regions, and the corners of one: left, top, right, bottom, all within.
const REGIONS: Tag = Tag(0x0018, 0x6011);
const CORNERS: [Tag; 4] =
    [Tag(0x0018, 0x6018), Tag(0x0018, 0x601A), Tag(0x0018, 0x601C), Tag(0x0018, 0x601E)];
/// Regions of one instance.
const REGIONS_MAX: usize = 64;
const PERSON_NAME: Vr = Vr(*b"PN");
/// First-level attributes that say what the instance is, and whose.
const FACTS: &[Tag] = &[
    IMAGE_TYPE,
    Tag::SOP_CLASS,
    Tag::SOP_INSTANCE,
    Tag::MODALITY,
    CONVERSION,
    MANUFACTURER,
    MODEL,
    Tag::PATIENT_ID,
    Tag::PATIENT_ID_ISSUER,
    Tag::STUDY,
    ROWS,
    COLUMNS,
    BURNED_IN,
    SAMPLES,
    PHOTOMETRIC,
    PLANAR,
    FRAMES,
    BITS_ALLOCATED,
    BITS_STORED,
];

/// What the first look found.
pub(crate) struct Facts {
    pub(crate) kind: Kind,
    pub(crate) patient_id: Phi<String>,
    pub(crate) issuer: Phi<String>,
    pub(crate) study: Phi<String>,
    pub(crate) sop_instance: Phi<String>,
    pub(crate) traces: Traces,
    pub(crate) originals: Originals,
}

pub(crate) struct Scan {
    plan: Arc<Plan>,
    /// Values of [`FACTS`], as they came, in Unicode as far as their character set tells.
    facts: BTreeMap<Tag, Phi<String>>,
    traces: Traces,
    /// Corners of ultrasound regions, as far as they have come.
    regions: Vec<[Option<u32>; 4]>,
    /// What will be encrypted.
    originals: Originals,
    ended: bool,
}

impl Scan {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Self {
            plan,
            facts: BTreeMap::new(),
            traces: Traces::default(),
            regions: Vec::new(),
            originals: Originals::default(),
            ended: false,
        }
    }

    /// The header is over: what comes now is pixels.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What was found, once the header is over.
    pub(crate) fn facts(mut self) -> Facts {
        let mut take = |tag| self.facts.remove(&tag).unwrap_or_default();
        let mut text = |tag| take(tag).into_revealed();
        let kind = Kind {
            sop_class: text(Tag::SOP_CLASS),
            modality: text(Tag::MODALITY),
            image_type: text(IMAGE_TYPE),
            burned_in: text(BURNED_IN),
            conversion: text(CONVERSION),
            manufacturer: text(MANUFACTURER),
            model: text(MODEL),
            rows: text(ROWS).parse().ok(),
            columns: text(COLUMNS).parse().ok(),
            layout: Layout {
                rows: 0,
                columns: 0,
                samples: text(SAMPLES).parse().unwrap_or(1),
                photometric: text(PHOTOMETRIC),
                planes: text(PLANAR) == "1",
                frames: match text(FRAMES).as_str() {
                    "" => 1,
                    frames => frames.parse().unwrap_or(0),
                },
                bits_allocated: text(BITS_ALLOCATED).parse().unwrap_or(0),
                bits_stored: text(BITS_STORED).parse().unwrap_or(0),
            },
            regions: self.regions.iter().filter_map(region).collect(),
        };
        let kind = Kind {
            layout: Layout {
                rows: kind.rows.unwrap_or(0).into(),
                columns: kind.columns.unwrap_or(0).into(),
                ..kind.layout
            },
            ..kind
        };
        Facts {
            kind,
            patient_id: take(Tag::PATIENT_ID),
            issuer: take(Tag::PATIENT_ID_ISSUER),
            study: take(Tag::STUDY),
            sop_instance: take(Tag::SOP_INSTANCE),
            traces: self.traces,
            originals: self.originals,
        }
    }

    fn corner(&mut self, place: &Place<'_>, tag: Tag, value: &[u8]) {
        let item = place.path.first().map_or(0, |step| step.item as usize);
        let corner = CORNERS.iter().position(|corner| *corner == tag);
        if item >= REGIONS_MAX {
            return;
        }
        if self.regions.len() <= item {
            self.regions.resize(item + 1, [None; 4]);
        }
        let number = value.first_chunk().map(|bytes| place.encoding.u32(*bytes));
        let slot = self.regions.get_mut(item).zip(corner).and_then(|(region, at)| region.get_mut(at));
        if let Some(slot) = slot {
            *slot = number;
        }
    }

    /// Whether its value goes with the instance, encrypted: not what is bulk, as overlays and documents are.
    fn is_encrypted(&self, header: &ElementHeader) -> bool {
        let vr = vr(header);
        !vr.is_other() && vr != Vr::UN && self.plan.is_encrypted(header.tag)
    }

    fn is_kept(&self, tag: Tag) -> bool {
        matches!(self.plan.action(tag), Some(Action::Keep))
    }
}

impl Edit for Scan {
    fn is_identity(&self) -> bool {
        true
    }

    fn opens_unknown(&self) -> bool {
        true
    }

    fn element(&mut self, place: &Place<'_>, header: &ElementHeader) -> Result<Decision, EditError> {
        let (tag, first_level) = (header.tag, place.path.is_empty());
        if first_level && tag.0 >= PIXEL_GROUP {
            self.ended = true;
        }
        if self.ended {
            return Ok(Decision::Keep);
        }
        if header.content != Content::Value {
            return Ok(Decision::Descend);
        }
        let is_corner = is_region(place) && CORNERS.contains(&tag);
        let is_fact = is_corner || first_level && FACTS.contains(&tag);
        let is_read = is_fact || is_trace(header) || first_level && self.is_encrypted(header);
        Ok(if is_read { Decision::Read { bytes_max: VALUE_BYTES_MAX } } else { Decision::Keep })
    }

    fn read(&mut self, place: &Place<'_>, element: WholeElement<'_>) -> Result<Outcome, EditError> {
        let (tag, value) = (element.header.tag, element.value());
        if place.path.is_empty() && FACTS.contains(&tag) {
            let text = match (vr(element.header), value.first_chunk()) {
                (Vr::US, Some(bytes)) => place.encoding.u16(*bytes).to_string(),
                _ => text(place, value),
            };
            self.facts.entry(tag).or_insert_with(|| Phi::new(text));
        }
        if is_region(place) && CORNERS.contains(&tag) {
            self.corner(place, tag, value);
            return Ok(Outcome::Keep);
        }
        if place.path.is_empty() && self.is_encrypted(element.header) {
            let is_binary = !vr(element.header).is_text() && vr(element.header) != Vr::UI;
            if is_binary && place.encoding == Encoding::ExplicitBig {
                return Err(EditError::Refused {
                    tag,
                    why: "is big endian and cannot be encrypted as it is",
                });
            }
            if !self.originals.keep(tag, vr(element.header), value) {
                return Err(EditError::Refused { tag, why: "comes after more bytes than can be encrypted" });
            }
        }
        if self.is_kept(tag) || !is_trace(element.header) {
            return Ok(Outcome::Keep);
        }
        if value.len() > TRACE_BYTES_MAX {
            return Err(EditError::Refused {
                tag,
                why: "is longer than any name or identifier that can be searched for",
            });
        }
        if IDENTIFIERS.contains(&tag) {
            self.traces.id(value, place.characters);
        } else if tag == BIRTH_DATE {
            self.traces.birth_date(value);
        } else if vr(element.header) == PERSON_NAME {
            self.traces.name(value, place.characters);
        }
        if self.traces.len() >= TRACES_MAX {
            return Err(EditError::Refused {
                tag,
                why: "comes after more different names than can be searched for",
            });
        }
        Ok(Outcome::Keep)
    }
}

/// Names, numbers and the birth date.
fn is_trace(header: &ElementHeader) -> bool {
    vr(header) == PERSON_NAME || IDENTIFIERS.contains(&header.tag) || header.tag == BIRTH_DATE
}

fn is_region(place: &Place<'_>) -> bool {
    matches!(place.path, [step] if step.sequence == REGIONS)
}

/// A region whose corners have all come.
fn region(corners: &[Option<u32>; 4]) -> Option<Rectangle> {
    let [Some(x), Some(y), Some(right), Some(bottom)] = *corners else { return None };
    let (width, height) = (right.checked_sub(x)?.checked_add(1)?, bottom.checked_sub(y)?.checked_add(1)?);
    Some(Rectangle { x, y, width, height })
}

/// A value in Unicode, without padding.
pub(crate) fn text(place: &Place<'_>, value: &[u8]) -> String {
    let text =
        place.characters.decode(value).unwrap_or_else(|| value.iter().copied().map(char::from).collect());
    text.trim_matches([' ', '\0']).to_owned()
}

/// The value representation that counts: of UN and in implicit VR the dictionary's. Text that calls itself numbers, or by a name that
/// nobody knows, is text all the same, and a name stays a name.
pub(crate) fn vr(header: &ElementHeader) -> Vr {
    let known = header.tag.dictionary_vr().map(|known| match known {
        DictionaryVr::Exact(vr) => vr,
        DictionaryVr::Sample => Vr::US,
        DictionaryVr::Words => Vr::OW,
    });
    match (header.vr.filter(|vr| *vr != Vr::UN && vr.is_known()), known) {
        (Some(vr), Some(known)) if known == PERSON_NAME || known.is_text() && !vr.is_text() => known,
        (Some(vr), _) => vr,
        (None, known) => known.unwrap_or(Vr::UN),
    }
}
