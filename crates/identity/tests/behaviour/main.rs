//! What the crate promises of cards, key files and signatures, seen from outside: one program, since each links everything anew.
#![expect(clippy::unwrap_used, reason = "all of it is tests")]

mod cards_are_signed_over_every_field;
mod key_files_are_private;
mod rotated_cards_are_endorsed;
mod signatures_need_both_algorithms;
mod signatures_of_notes;
