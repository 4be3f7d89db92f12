use base::{EpochId, Name};
use identity::NoteName;
use thiserror::Error;

/// Why an origin is not that of one of our logs.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the origin of a log is the relay's name, a slash, and 32 hexadecimal digits")]
pub struct OriginError;

/// The origin of one epoch of a relay's log: `name/epoch`.
pub fn origin(relay: &Name, epoch: EpochId) -> NoteName {
    #[expect(clippy::expect_used, reason = "a peer's name and hexadecimal digits have no refused characters")]
    NoteName::parse(&format!("{relay}/{epoch}")).expect("at most 97 plain characters")
}

/// Whose log it is, and which.
pub fn parse_origin(origin: &NoteName) -> Result<(Name, EpochId), OriginError> {
    let (relay, epoch) = origin.as_str().split_once('/').ok_or(OriginError)?;
    let (relay, id) = (Name::parse(relay).map_err(|_| OriginError)?, EpochId::from_hex(epoch));
    // Upper case digits would be a second name of the same epoch.
    let id = id.ok().filter(|id| id.to_string() == epoch).ok_or(OriginError)?;
    Ok((relay, id))
}
