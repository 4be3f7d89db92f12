//! The user agent of the Store transaction of the Studies Service (STOW-RS, PS3.18 §10.5): one instance in one POST, over
//! HTTP/1.1.
//!
//! A request leaves in pieces that the caller gives ([`Connection::begin`], [`Connection::send`]), and its end, without which no
//! server has an instance, only by [`Connection::finish`]. So it is known at each moment what a server can have. That is why the
//! bytes are written here and not by a library that has a queue of its own: what stands in such a queue may have left or not.
//! Responses are read within limits ([`limits`]); their heads and chunk sizes are parsed by httparse.
//!
//! What it does not do: it decides nothing about what an answer means for custody, follows no redirect, tries nothing again, keeps no
//! cookie, resolves no name, and never logs what a server wrote.
//!
//! Read first: [`Connection`], [`Request`], [`Said`].

mod answer;
mod authorization;
mod body;
mod connection;
mod failure;
pub mod limits;
mod multipart;
mod request;
mod response;

pub use answer::Said;
pub use authorization::{Authorization, AuthorizationError};
pub use connection::{Connection, Progress, Wire};
pub use failure::{Failure, Unfinished};
pub use multipart::Boundary;
pub use request::{Framing, Request};
pub use response::Response;
