use std::fmt;

use serde::{Deserialize, Serialize};

/// An option of the Basic Application Level Confidentiality Profile (PS3.15 E.3), by its code in CID 7050.
///
/// Clean Recognizable Visual Features (113102) is not among them: nobody can promise it for every image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum ProfileOption {
    /// 113101
    CleanPixelData,
    /// 113103
    CleanGraphics,
    /// 113104
    CleanStructuredContent,
    /// 113105
    CleanDescriptors,
    /// 113106
    RetainFullDates,
    /// 113107
    RetainModifiedDates,
    /// 113108
    RetainPatientCharacteristics,
    /// 113109
    RetainDeviceIdentity,
    /// 113110
    RetainUids,
    /// 113111
    RetainSafePrivate,
    /// 113112
    RetainInstitutionIdentity,
}

/// A code of context group 7050 (PS3.16), of scheme DCM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodCode {
    /// Code Value (0008,0100).
    pub value: &'static str,
    /// Code Meaning (0008,0104).
    pub meaning: &'static str,
}

impl MethodCode {
    /// The basic profile itself.
    pub const BASIC: Self = Self { value: "113100", meaning: "Basic Application Confidentiality Profile" };
}

impl ProfileOption {
    /// All of them, by code.
    pub const ALL: [Self; 11] = [
        Self::CleanPixelData,
        Self::CleanGraphics,
        Self::CleanStructuredContent,
        Self::CleanDescriptors,
        Self::RetainFullDates,
        Self::RetainModifiedDates,
        Self::RetainPatientCharacteristics,
        Self::RetainDeviceIdentity,
        Self::RetainUids,
        Self::RetainSafePrivate,
        Self::RetainInstitutionIdentity,
    ];

    /// As configurations write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CleanPixelData => "clean-pixel-data",
            Self::CleanGraphics => "clean-graphics",
            Self::CleanStructuredContent => "clean-structured-content",
            Self::CleanDescriptors => "clean-descriptors",
            Self::RetainFullDates => "retain-full-dates",
            Self::RetainModifiedDates => "retain-modified-dates",
            Self::RetainPatientCharacteristics => "retain-patient-characteristics",
            Self::RetainDeviceIdentity => "retain-device-identity",
            Self::RetainUids => "retain-uids",
            Self::RetainSafePrivate => "retain-safe-private",
            Self::RetainInstitutionIdentity => "retain-institution-identity",
        }
    }

    /// Whether it can be chosen. Clean Pixel Data is none to choose: it follows from masking.
    pub fn is_offered(self) -> bool {
        self != Self::CleanPixelData
    }

    /// Its code.
    pub fn code(self) -> MethodCode {
        let (value, meaning) = match self {
            Self::CleanPixelData => ("113101", "Clean Pixel Data Option"),
            Self::CleanGraphics => ("113103", "Clean Graphics Option"),
            Self::CleanStructuredContent => ("113104", "Clean Structured Content Option"),
            Self::CleanDescriptors => ("113105", "Clean Descriptors Option"),
            Self::RetainFullDates => ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
            Self::RetainModifiedDates => {
                ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
            }
            Self::RetainPatientCharacteristics => ("113108", "Retain Patient Characteristics Option"),
            Self::RetainDeviceIdentity => ("113109", "Retain Device Identity Option"),
            Self::RetainUids => ("113110", "Retain UIDs Option"),
            Self::RetainSafePrivate => ("113111", "Retain Safe Private Option"),
            Self::RetainInstitutionIdentity => ("113112", "Retain Institution Identity Option"),
        };
        MethodCode { value, meaning }
    }
}

/// A set of options.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct OptionSet(u16);

impl OptionSet {
    /// Adds one.
    pub fn insert(&mut self, option: ProfileOption) {
        self.0 |= 1 << option as u8;
    }

    /// Whether it is in it.
    pub fn has(self, option: ProfileOption) -> bool {
        self.0 & (1 << option as u8) != 0
    }

    /// Whether both have one.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Those in it, by code.
    pub fn iter(self) -> impl Iterator<Item = ProfileOption> {
        ProfileOption::ALL.into_iter().filter(move |option| self.has(*option))
    }
}

impl FromIterator<ProfileOption> for OptionSet {
    fn from_iter<I: IntoIterator<Item = ProfileOption>>(options: I) -> Self {
        let mut set = Self::default();
        options.into_iter().for_each(|option| set.insert(option));
        set
    }
}

impl fmt::Debug for OptionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
