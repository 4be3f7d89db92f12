//! The words that every other crate shares: titles, unique identifiers, ids, digests, secrets.
//!
//! What it does not do: no protocol, no file, no clock, no task. Each type parses at the edge
//! ([`AeTitle::parse`], [`Uid::parse`]) and cannot be wrong afterwards.
//!
//! Read first: [`InstanceMeta`], [`DeliveryId`], [`Phi`].

mod ae_title;
mod id;
pub mod limits;
mod meta;
mod name;
mod phi;
mod secret;
mod service_url;
mod status;
mod time;
mod uid;

pub use ae_title::{AeTitle, AeTitleError};
pub use id::{
    Attempt, BootId, CommitmentId, DeliveryId, Digest, EpochId, Fingerprint, Hasher, HexError, ObjectId,
    PrekeyId, RouteId, SessionId, random_bytes,
};
pub use meta::{InstanceMeta, MoveOriginator, Priority};
pub use name::{Name, NameError};
pub use phi::Phi;
pub use secret::Secret;
pub use service_url::{Host, ServiceUrl, ServiceUrlError};
pub use status::Status;
pub use time::Timestamp;
pub use uid::{Uid, UidError};
