//! A setting that is missing or cannot be used.

use std::fmt;

/// A setting that is missing or cannot be used. The text names it and says why, and quotes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    store: &'static str,
    entry: &'static str,
    problem: String,
}

impl SettingError {
    /// An entry of the Secret Store.
    pub fn secret(entry: &'static str, problem: impl fmt::Display) -> Self {
        Self { store: "secret store `fanout`", entry, problem: problem.to_string() }
    }

    /// An entry of the Config Store.
    pub fn config(entry: &'static str, problem: impl fmt::Display) -> Self {
        Self { store: "config store `fanout_config`", entry, problem: problem.to_string() }
    }

    /// The name of the entry.
    pub const fn entry(&self) -> &'static str {
        self.entry
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The entry {} of the {} {}", self.entry, self.store, self.problem)
    }
}
