use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Everything that was logged: all levels, all modules, span fields included.
#[derive(Clone, Debug, Default)]
pub struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    /// Captures what this thread logs until the guard is dropped: for tests without tasks on other threads.
    pub fn of_thread() -> (Self, DefaultGuard) {
        let logs = Self::default();
        let guard = tracing::subscriber::set_default(logs.subscriber());
        (logs, guard)
    }

    /// Captures what the whole process logs from now on. Every caller in one process gets the same logs. Fails if
    /// somebody else has started logging.
    pub fn of_process() -> Self {
        static LOGS: OnceLock<Logs> = OnceLock::new();
        let start = || {
            let logs = Self::default();
            let taken = tracing::subscriber::set_global_default(logs.subscriber());
            assert!(taken.is_ok(), "logging was started before the capture, so that lines are missing");
            logs
        };
        LOGS.get_or_init(start).clone()
    }

    /// All that was logged so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// The lines that contain a text.
    pub fn lines_with(&self, part: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }

    /// Fails if one of the secrets was logged: as it is, in hexadecimal, as a list of byte values, or in another case.
    pub fn assert_absent<S: AsRef<str>>(&self, secrets: impl IntoIterator<Item = S>) {
        let text = self.text();
        for secret in secrets {
            let secret = secret.as_ref();
            for form in forms(secret) {
                let line = text.lines().find(|line| line.to_lowercase().contains(&form));
                assert_eq!(line, None, "{secret:?} was logged");
            }
        }
    }

    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + 'static {
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(self.clone())
            .finish()
    }
}

/// How a text may look in a log, in lower case.
fn forms(secret: &str) -> [String; 3] {
    let hex = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let list: Vec<String> = secret.bytes().map(|b| b.to_string()).collect();
    [secret.to_lowercase(), hex, list.join(", ")]
}

impl<'a> MakeWriter<'a> for Logs {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use base::Phi;
    use tracing::{debug, error, info, trace};

    use super::*;
    use crate::PLANTED;

    fn leaks(log: impl Fn()) -> bool {
        let (logs, guard) = Logs::of_thread();
        log();
        drop(guard);
        assert!(!logs.text().is_empty(), "nothing was captured");
        catch_unwind(AssertUnwindSafe(|| logs.assert_absent(PLANTED))).is_err()
    }

    #[test]
    fn planted_data_is_found_in_whatever_form_it_was_logged() {
        let name = PLANTED[0];
        assert!(leaks(|| error!("cannot store {name}")));
        assert!(leaks(|| trace!(patient = name, "received")));
        assert!(leaks(|| debug!(bytes = ?name.as_bytes(), "received")));
        assert!(leaks(|| info!(id = %PLANTED[1].to_lowercase())));
        assert!(leaks(|| info!("{}", name.bytes().map(|b| format!("{b:02X}")).collect::<String>())));
        assert!(leaks(|| {
            let _span = tracing::trace_span!("association", patient = name).entered();
        }));
    }

    #[test]
    fn what_is_marked_as_patient_data_is_not_logged() {
        let name = Phi::new(PLANTED[0]);
        assert!(!leaks(|| info!(%name, other = ?name, "received {name}")));
    }

    #[test]
    fn lines_are_found_by_a_part_of_them() {
        let (logs, guard) = Logs::of_thread();
        info!(transfer = 7, "deposited");
        trace!("unusual");
        drop(guard);
        info!("after the end");
        assert_eq!(logs.lines_with("transfer=7").len(), 1);
        assert_eq!(logs.text().lines().count(), 2);
    }

    #[test]
    fn the_process_has_one_capture() {
        let (first, second) = (Logs::of_process(), Logs::of_process());
        std::thread::spawn(|| info!("from another thread")).join().unwrap();
        assert_eq!(first.lines_with("from another thread"), second.lines_with("from another thread"));
        assert_eq!(first.lines_with("from another thread").len(), 1);
    }
}
