//! Limits that more than one crate must agree on. A limit of one crate lives in that crate.

use std::time::Duration;

/// Plaintext bytes of a sealed chunk.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// What one admitted body reserves in a relay for its whole life.
pub const BODY_WINDOW_BYTES: u64 = 1024 * 1024;
/// The longest control frame between gateway and relay.
pub const CONTROL_FRAME_BYTES_MAX: usize = 64 * 1024;
/// The longest life of a session, and of the prekey it was opened to.
pub const SESSION_LIFE_MAX: Duration = Duration::from_secs(3600);
/// The most instances one session carries.
pub const SESSION_INSTANCES_MAX: u32 = 10_000;
/// Clock skew that a sender tolerates in a prekey bundle.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(24 * 3600);
