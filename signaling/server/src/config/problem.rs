//! The problems of a configuration, as text for the operator who corrects them.

use std::{fmt, path::PathBuf};

/// All problems of a configuration. The text has one line for each, with its location, its cause and its fix.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

/// One problem.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) location: Option<Location>,
    /// The key with its tables: `tls.key`.
    pub(super) key: Option<String>,
    /// The cause and the fix.
    pub(super) text: String,
}

/// The location of a setting, in the order of a list of problems.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Location {
    /// The name of a flag or a variable.
    Given(String),
    File {
        file: PathBuf,
        line: Option<usize>,
    },
}

impl ConfigError {
    pub(super) fn of(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }

    /// `None`: there is no problem.
    pub(super) fn new(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort_by(|a, b| a.location.cmp(&b.location));
        (!problems.is_empty()).then_some(Self { problems })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(Location::Given(name)) => write!(f, "{name}: ")?,
            Some(Location::File { file, line: Some(line) }) => write!(f, "{}:{line}: ", file.display())?,
            Some(Location::File { file, line: None }) => write!(f, "{}: ", file.display())?,
            None => {}
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.text)
    }
}
