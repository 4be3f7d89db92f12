//! The custody rules as tables: each step fails once before and once after its effect.

mod asks;
mod faults;
mod memory;
mod revocation;
mod urgency;
mod world;
