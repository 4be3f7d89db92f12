//! The DICOM Conformance Statement (PS3.2 Annex N) of one gateway: as data, as Markdown, as HTML, as JSON.
//!
//! A gateway makes a [`Statement`] of the tables that drive its behaviour ([`tables`] has those that both share) and of
//! its own sentences; [`Statement::document`] puts it into the order of Annex N, and [`markdown`] and [`html`] write
//! that. Each row that can be seen on the wire has a `claim`; the black-box suite fails while one of them is not proved.
//! [`Difference`] compares what a gateway carries with what a far end takes.
//!
//! What it does not do: it decides nothing about associations, and reads no configuration. A fact that a gateway
//! acts on stands in a table of that gateway or of `dimse`, and is read from there.
//!
//! Read first: [`Statement`], [`Document`], [`FarEnd`].

pub mod command;
mod difference;
mod document;
mod far_end;
pub mod html;
pub mod markdown;
mod model;
mod outline;
mod program;
pub mod tables;

pub use difference::{Difference, Refused};
pub use document::{Block, Cell, Document, Section, Stage, Table};
pub use far_end::{FarEnd, FarEndError, Syntaxes, Takes};
pub use model::{
    AbortRow, AnswerRow, ClassRow, ContextRow, DeidentificationRow, Entity, Fact, FailureRow, OutcomeRow,
    Policy, Product, Prose, RejectionRow, Role, SecurityRow, ServiceRow, Setting, Statement, Storage,
    SyntaxRow, WebServiceRow,
};
pub use program::{Build, ProgramError};
