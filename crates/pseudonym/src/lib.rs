//! Pseudonymizes instances as they pass: the Basic Application Level Confidentiality Profile of PS3.15 Annex E with its options, keyed.
//!
//! A data set goes in piece by piece and comes out rewritten ([`Pseudonymizer`]); what is not acted on keeps its bytes. A [`Plan`] is
//! what is done to which attribute: Table E.1-1 as data, the options, the overrides of a [`Profile`]. [`Pseudonyms`] are keyed, so
//! that one patient, study or UID stays one, also on another day and at another gateway with the same key, and nobody without the
//! key can compute them. Whatever cannot be cleaned is refused ([`Refusal`]); what comes out was searched for names, identifiers and
//! birth date of its own patient.
//!
//! The result is pseudonymized, not anonymous: whoever has the key can link it (GDPR recital 26), and pixels may show a face.
//!
//! Where a route says for whom, what was taken away goes with the instance, encrypted ([`enveloped`]), and comes back by
//! [`Reidentifier`] and [`Restorer`].
//!
//! What it does not do: it looks at no pixels, so images that may show text are refused unless a rule says that they do not, or what is
//! to become black of them; it cleans graphics and structured reports only by their options; it keeps no key, no file and no
//! crosswalk.
//!
//! Read first: [`Pseudonymizer`], [`Plan`], [`table`].

mod codestream;
mod content;
mod date;
mod decode;
mod engine;
pub mod enveloped;
mod key;
mod mark;
mod mask;
mod objects;
mod option;
mod originals;
mod pass;
mod patient;
mod plan;
mod profile;
mod recode;
mod refusal;
mod report;
pub mod safe_private;
mod scan;
mod scope;
pub mod table;
mod traces;
mod words;

pub use content::ContentRules;
pub use engine::{HEADER_BYTES_MAX, Pseudonymizer};
pub use key::{PatientKey, Pseudonyms, SITE_KEY_BYTES};
pub use mask::Rectangle;
pub use objects::{ObjectAction, ObjectRule};
pub use option::{MethodCode, OptionSet, ProfileOption};
pub use originals::{Reidentified, Reidentifier, ReidentifyError, Restorer};
pub use patient::{Case, PatientRules, Zeros};
pub use plan::Plan;
pub use profile::{DateShift, Override, OverrideAction, Preset, Profile, ProfileError};
pub use refusal::Refusal;
pub use report::{Done, Pseudonymized, Report};
pub use scope::{PixelAction, PixelRule};
pub use words::WordList;
