//! What the crate promises of bodies, sessions and questions, seen from outside: one program, since each links everything anew.
#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "all of it is tests")]

mod bodies_open_whole_or_not_at_all;
mod questions_are_answered_once;
mod sessions_bind_what_they_carry;
