//! What a server may have us keep or wait for.

use std::time::Duration;

/// Status line and fields of a response.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Fields of a response.
pub const FIELDS_MAX: usize = 64;
/// Body of a response: the answer about one instance has some hundred bytes. A longer one is not read.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// A chunk size with its extensions, or a trailer field.
pub const LINE_BYTES_MAX: usize = 4 * 1024;
/// Interim responses (1xx) before the final one.
pub const INTERIM_MAX: usize = 8;
/// The longest `Retry-After` that is believed: a service that is mended before is asked soon after.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// Once a server takes no more, so long an answer may still come that it wrote before.
pub const LAST_WORDS: Duration = Duration::from_secs(1);
