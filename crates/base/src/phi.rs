use std::fmt;

/// Patient data, or what leads to it (an instance UID, a patient id, a destination's error comment).
/// It prints nothing, so that no log line, error or panic message can carry it; [`Phi::reveal`] is
/// the one way in, and easy to search for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Marks a value as patient data.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value. Never pass it to a log, a metric, an error text or a file name.
    pub const fn reveal(&self) -> &T {
        &self.0
    }

    /// Unwraps the value, under the same rule.
    pub fn into_revealed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phi")
    }
}

impl<T> fmt::Display for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[patient data]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_printed() {
        let name = Phi::new("DOE^JANE");
        assert_eq!(format!("{name} {name:?}"), "[patient data] Phi");
    }
}
