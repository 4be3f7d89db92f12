use std::fmt;

use minicbor::{Decode, Encode};

/// How urgent a delivery is: the only thing that a relay learns of why it should go before others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Urgency {
    /// When nothing else is to be done: archives, migrations.
    #[n(0)]
    Bulk,
    /// As most are.
    #[default]
    #[n(1)]
    Normal,
    /// Before all others.
    #[n(2)]
    Urgent,
}

impl Urgency {
    /// All of them, the least urgent first.
    pub const ALL: [Self; 3] = [Self::Bulk, Self::Normal, Self::Urgent];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place in [`Urgency::ALL`].
    pub const fn level(self) -> usize {
        match self {
            Self::Bulk => 0,
            Self::Normal => 1,
            Self::Urgent => 2,
        }
    }

    /// The word for it, in configurations and `--json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Normal => "normal",
            Self::Urgent => "urgent",
        }
    }
}

impl fmt::Display for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
