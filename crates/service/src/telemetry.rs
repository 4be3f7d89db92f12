//! Logs, to standard error, as text for people or JSON for machines.

use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The `[log]` table of a daemon's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` (default) or `json`, one object a line.
    pub format: LogFormat,
    /// `error`, `warn`, `info` (default), `debug` or `trace`. The environment's `RUST_LOG` goes before it and may name
    /// single modules.
    pub level: LogLevel,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least important line that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something stopped.
    Error,
    /// Somebody should look at it.
    Warn,
    /// A state changed.
    #[default]
    Info,
    /// An unusual path was taken.
    Debug,
    /// Each message.
    Trace,
}

/// Starts logging. Called again (as tests do) it changes nothing and returns false.
pub fn init(config: &LogConfig) -> bool {
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::from(config.level).into()).from_env_lossy();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).finish().try_init().is_ok(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init().is_ok(),
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_twice_is_harmless() {
        init(&LogConfig::default());
        assert!(!init(&LogConfig { format: LogFormat::Json, level: LogLevel::Trace }));
    }
}
