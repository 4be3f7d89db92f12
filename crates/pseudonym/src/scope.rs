//! Which instances are let through at all: by SOP class, and by what their pixels may show.

use serde::{Deserialize, Serialize};

use crate::content;
use crate::mask::{Layout, Mask, Rectangle};
use crate::objects::{self, ObjectAction};
use crate::option::ProfileOption;
use crate::plan::Plan;
use crate::refusal::Refusal;

/// What is known of an instance before anything is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) sop_class: String,
    pub(crate) modality: String,
    pub(crate) image_type: String,
    pub(crate) burned_in: String,
    pub(crate) conversion: String,
    pub(crate) manufacturer: String,
    pub(crate) model: String,
    pub(crate) rows: Option<u16>,
    pub(crate) columns: Option<u16>,
    /// How its pixels are encoded.
    pub(crate) layout: Layout,
    /// Where an ultrasound machine says that its picture is, without what is written around it.
    pub(crate) regions: Vec<Rectangle>,
}

/// Images that are passed or refused otherwise than by default. What is not given fits any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelRule {
    /// SOP Class UID.
    pub sop_class: Option<String>,
    /// Modality (0008,0060).
    pub modality: Option<String>,
    /// Manufacturer (0008,0070).
    pub manufacturer: Option<String>,
    /// Manufacturer's Model Name (0008,1090).
    pub model: Option<String>,
    /// Rows (0028,0010).
    pub rows: Option<u16>,
    /// Columns (0028,0011).
    pub columns: Option<u16>,
    /// What is done.
    pub pixels: PixelAction,
    /// With `mask`: what becomes black. It holds for one size of image, so `rows` and `columns` stand beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rectangles: Vec<Rectangle>,
    /// With `mask`: everything becomes black but the regions that an ultrasound machine has calibrated (0018,6011).
    #[serde(default)]
    pub regions: bool,
}

/// What is done with the images that a rule fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelAction {
    /// They pass as they are: somebody has seen that nothing is burned in.
    Pass,
    /// They are refused.
    Refuse,
    /// Parts of them become black, also where the instance says that something is burned in. Native pixels only.
    Mask,
}

/// SOP classes of cross-sectional and projection images that machines make, without text in the pixels unless they say so, and of
/// objects without pixels whose text stands in attributes of the table.
const COVERED: &[&str] = &[
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.2",
    "1.2.840.10008.5.1.4.1.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.1.3",
    "1.2.840.10008.5.1.4.1.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.4.3",
    "1.2.840.10008.5.1.4.1.1.4.4",
    "1.2.840.10008.5.1.4.1.1.12.1",
    "1.2.840.10008.5.1.4.1.1.12.1.1",
    "1.2.840.10008.5.1.4.1.1.12.2",
    "1.2.840.10008.5.1.4.1.1.12.2.1",
    "1.2.840.10008.5.1.4.1.1.13.1.1",
    "1.2.840.10008.5.1.4.1.1.13.1.2",
    "1.2.840.10008.5.1.4.1.1.13.1.3",
    "1.2.840.10008.5.1.4.1.1.13.1.4",
    "1.2.840.10008.5.1.4.1.1.13.1.5",
    "1.2.840.10008.5.1.4.1.1.20",
    "1.2.840.10008.5.1.4.1.1.128",
    "1.2.840.10008.5.1.4.1.1.128.1",
    "1.2.840.10008.5.1.4.1.1.130",
    "1.2.840.10008.5.1.4.1.1.30",
    "1.2.840.10008.5.1.4.1.1.66.1",
    "1.2.840.10008.5.1.4.1.1.66.2",
    "1.2.840.10008.5.1.4.1.1.66.3",
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.481.1",
    "1.2.840.10008.5.1.4.1.1.481.2",
    "1.2.840.10008.5.1.4.1.1.481.3",
    "1.2.840.10008.5.1.4.1.1.481.4",
    "1.2.840.10008.5.1.4.1.1.481.5",
    "1.2.840.10008.5.1.4.1.1.481.6",
    "1.2.840.10008.5.1.4.1.1.481.7",
    "1.2.840.10008.5.1.4.1.1.481.8",
    "1.2.840.10008.5.1.4.1.1.481.9",
];

/// SOP classes of softcopy presentation states, most of which are graphics: they can be cleaned by the option, and not otherwise.
const PRESENTATION_STATES: &[&str] = &[
    "1.2.840.10008.5.1.4.1.1.11.1",
    "1.2.840.10008.5.1.4.1.1.11.2",
    "1.2.840.10008.5.1.4.1.1.11.3",
    "1.2.840.10008.5.1.4.1.1.11.4",
];

/// Values of Image Type (0008,0008) that name pictures of a screen or of a document.
const SCREENS: &[&str] = &[
    "SCREEN SAVE",
    "SCREENSHOT",
    "SECONDARY",
    "REPORT",
    "DOSE",
    "DOSE_INFO",
    "PROT",
    "PROTOCOL",
    "OVERVIEW",
];

/// What becomes of the pixels of an instance that may go on: `None`, they pass as they are.
pub(crate) fn admit(kind: &Kind, plan: &Plan, native: bool) -> Result<Option<Mask>, Refusal> {
    let (options, profile) = (plan.options, &plan.profile);
    let object = objects::action(&profile.object_rules, &kind.sop_class);
    if object == Some(ObjectAction::Refuse) {
        return Err(Refusal::SopClass(kind.sop_class.clone()));
    }
    let rule = profile.pixel_rules.iter().find(|rule| rule.fits(kind));
    let burned_in = kind.burned_in.trim();
    match rule {
        Some(rule) if rule.pixels == PixelAction::Mask => {
            if !native {
                return Err(Refusal::Pixels("they cannot be masked: they are compressed"));
            }
            return rule.mask(kind).map(Some);
        }
        // What its maker says of its own pixels, no rule about its class overrules.
        _ if burned_in.eq_ignore_ascii_case("YES") => {
            return Err(Refusal::Pixels("Burned In Annotation (0028,0301) is YES"));
        }
        _ if !burned_in.is_empty() && !burned_in.eq_ignore_ascii_case("NO") => {
            return Err(Refusal::Pixels("Burned In Annotation (0028,0301) is neither YES nor NO"));
        }
        Some(rule) if rule.pixels == PixelAction::Refuse => {
            return Err(Refusal::Pixels("a rule refuses images of this kind"));
        }
        Some(_) => return Ok(None),
        None => {}
    }
    if object == Some(ObjectAction::Pass) {
        return Ok(None);
    }
    let class = kind.sop_class.as_str();
    let is_report = options.has(ProfileOption::CleanStructuredContent) && content::CLASSES.contains(&class);
    let is_graphics = options.has(ProfileOption::CleanGraphics) && PRESENTATION_STATES.contains(&class);
    if !COVERED.contains(&class) && !is_report && !is_graphics {
        return Err(Refusal::SopClass(kind.sop_class.clone()));
    }
    if !kind.conversion.trim().is_empty() {
        return Err(Refusal::Pixels("Conversion Type (0008,0064) says that it was scanned or drawn"));
    }
    let shows_screen = kind
        .image_type
        .split('\\')
        .any(|value| SCREENS.contains(&value.trim().to_ascii_uppercase().as_str()));
    if shows_screen {
        return Err(Refusal::Pixels(
            "Image Type (0008,0008) says that it is a picture of a screen or a secondary capture",
        ));
    }
    Ok(None)
}

impl PixelRule {
    /// Why it cannot be used.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let masks = self.pixels == PixelAction::Mask;
        let within = |start: u32, length: u32, size: Option<u16>| {
            length > 0
                && start.checked_add(length).is_some_and(|end| size.is_none_or(|size| end <= size.into()))
        };
        let is_within =
            |one: &Rectangle| within(one.x, one.width, self.columns) && within(one.y, one.height, self.rows);
        match (self.rectangles.is_empty(), self.regions) {
            (false, _) | (_, true) if !masks => Some("only \"mask\" has rectangles or regions"),
            (true, false) if masks => Some("\"mask\" needs rectangles, or regions = true"),
            (false, true) => Some("rectangles or regions, not both"),
            (false, false) if self.rows.is_none() || self.columns.is_none() => {
                Some("rectangles hold for one size of image: give rows and columns")
            }
            _ if !self.rectangles.iter().all(is_within) => {
                Some("a rectangle has no width or height, or reaches beyond rows and columns")
            }
            _ => None,
        }
    }

    fn mask(&self, kind: &Kind) -> Result<Mask, Refusal> {
        match self.regions {
            false => kind.layout.mask(&self.rectangles, false),
            true if kind.regions.is_empty() => {
                Err(Refusal::Pixels("Sequence of Ultrasound Regions (0018,6011) is missing"))
            }
            true => kind.layout.mask(&kind.regions, true),
        }
    }

    fn fits(&self, kind: &Kind) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.trim().eq_ignore_ascii_case(value.trim()))
        };
        is(&self.sop_class, &kind.sop_class)
            && is(&self.modality, &kind.modality)
            && is(&self.manufacturer, &kind.manufacturer)
            && is(&self.model, &kind.model)
            && self.rows.is_none_or(|rows| kind.rows == Some(rows))
            && self.columns.is_none_or(|columns| kind.columns == Some(columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use crate::words::WordList;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const US: &str = "1.2.840.10008.5.1.4.1.1.6.1";

    fn plan(options: &[ProfileOption], pixels: &[PixelRule]) -> Plan {
        let profile =
            Profile { options: options.to_vec(), pixel_rules: pixels.to_vec(), ..Profile::default() };
        Plan::new(profile, WordList::default(), "").unwrap()
    }

    fn kind(sop_class: &str) -> Kind {
        Kind { sop_class: sop_class.into(), image_type: "ORIGINAL\\PRIMARY\\AXIAL".into(), ..Kind::default() }
    }

    #[test]
    fn what_may_show_a_name_is_refused_unless_a_rule_says_that_it_does_not() {
        let pass = PixelRule {
            sop_class: Some(US.into()),
            modality: None,
            manufacturer: Some("Maker".into()),
            model: None,
            rows: Some(480),
            columns: None,
            pixels: PixelAction::Pass,
            rectangles: Vec::new(),
            regions: false,
        };
        let fitting = Kind { manufacturer: "MAKER ".into(), rows: Some(480), ..kind(US) };
        let cases = [
            (kind(CT), true),
            (kind(US), false),
            (fitting.clone(), true),
            (Kind { rows: Some(481), ..fitting.clone() }, false),
            (Kind { burned_in: "YES ".into(), ..fitting }, false),
            (Kind { burned_in: "NO".into(), ..kind(CT) }, true),
            (Kind { image_type: "DERIVED\\SECONDARY\\AXIAL".into(), ..kind(CT) }, false),
            (Kind { conversion: "WSD".into(), ..kind(CT) }, false),
            (kind("1.2.840.10008.5.1.4.1.1.104.1"), false),
            (kind("1.2.3.4"), false),
            (kind(""), false),
        ];
        for (kind, want) in cases {
            let admitted = admit(&kind, &plan(&[], std::slice::from_ref(&pass)), true);
            assert_eq!(admitted.is_ok(), want, "{kind:?}");
        }
        let refuse = PixelRule {
            sop_class: Some(CT.into()),
            manufacturer: None,
            rows: None,
            pixels: PixelAction::Refuse,
            ..pass
        };
        assert!(admit(&kind(CT), &plan(&[], &[refuse]), true).is_err());
        let report = kind(content::CLASSES[0]);
        assert!(admit(&report, &plan(&[], &[]), true).is_err());
        assert!(admit(&report, &plan(&[ProfileOption::CleanStructuredContent], &[]), true).is_ok());
        let state = kind(PRESENTATION_STATES[0]);
        assert!(admit(&state, &plan(&[], &[]), true).is_err());
        assert!(admit(&state, &plan(&[ProfileOption::CleanGraphics], &[]), true).is_ok());
    }
}
