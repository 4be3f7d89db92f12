//! Exit codes that scripts can rely on, and how an error reaches a person.

use std::error::Error;
use std::process::ExitCode;

use thiserror::Error;

use crate::config::ConfigError;

/// Everything asked for was done.
pub const DONE: u8 = 0;
/// It was tried and failed.
pub const FAILED: u8 = 1;
/// The command line does not make sense (the code that clap uses, too).
pub const USAGE: u8 = 2;
/// The configuration cannot be used; nothing was started.
pub const CONFIGURATION: u8 = 64;

/// Nobody reads the output any more: as a shell shows a process that SIGPIPE has ended.
const READER_GONE: u8 = 141;

/// Put this into the chain of an error to make it a usage error.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Ends the process quietly when whoever reads its output has gone, as in `receipt list | head`: `println!` panics then. For commands,
/// which hold nothing; a daemon prints nothing.
pub fn leave_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to stdout") && text.contains("Broken pipe") {
            std::process::exit(READER_GONE.into());
        }
        usual(panic);
    }));
}

/// Prints an error, if there is one, and turns the result of a command into its exit code.
pub fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::from(DONE),
        Err(error) => {
            eprint!("{}", report(error.as_ref()));
            ExitCode::from(code(&error))
        }
    }
}

/// The exit code of an error: by the first cause in its chain that decides it.
pub fn code(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| {
            if cause.is::<ConfigError>() {
                Some(CONFIGURATION)
            } else if cause.is::<UsageError>() {
                Some(USAGE)
            } else {
                None
            }
        })
        .unwrap_or(FAILED)
}

/// An error and its causes, one a line. A cause that its parent's text already contains is left out.
pub fn report(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for (i, cause) in causes(error).into_iter().enumerate() {
        text.push_str(if i == 0 { "error: " } else { "caused by: " });
        text.push_str(&cause);
        text.push('\n');
    }
    text
}

/// An error and its causes on one line, for a log.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).join(": ")
}

fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_code_comes_from_the_cause_that_decides_it() {
        let failed = anyhow::anyhow!("no route to host").context("relay is not reachable");
        let usage = anyhow::Error::new(UsageError("--from needs --to".to_owned())).context("send");
        let config = ConfigError::Read { path: "x.toml".into(), reason: "no such file".to_owned() };
        let configuration: anyhow::Error = Err::<(), _>(config).context("cannot start").unwrap_err();
        assert_eq!([failed, usage, configuration].map(|e| code(&e)), [FAILED, USAGE, CONFIGURATION]);
    }

    #[test]
    fn a_report_has_one_line_for_each_cause_and_repeats_nothing() {
        #[derive(Debug, Error)]
        #[error("cannot open outbox: {0}")]
        struct Outer(#[source] std::io::Error);
        let error =
            anyhow::Error::new(Outer(std::io::Error::other("permission denied"))).context("gateway-out");
        assert_eq!(
            report(error.as_ref()),
            "error: gateway-out\ncaused by: cannot open outbox: permission denied\n"
        );
        assert_eq!(chain(error.as_ref()), "gateway-out: cannot open outbox: permission denied");
    }
}
