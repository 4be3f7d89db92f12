//! Custody across the whole path: gateway-out, relay and gateway-in in one process, with a PACS that
//! sends and destinations that behave as badly as real ones.

#[cfg(test)]
mod common;

#[cfg(test)]
mod hostile_envelopes;
