//! The problems of a configuration, in words for the person who has to correct it.

use std::{fmt, path::PathBuf};

/// Every problem of a configuration. Its text has one line for each: where it is, what it is, and how to correct it.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

/// One problem.
#[derive(Debug)]
pub(super) struct Problem {
    /// Where it is.
    pub(super) place: Option<Place>,
    /// The key, with the tables that it is in: `tls.key`.
    pub(super) key: Option<String>,
    pub(super) words: String,
}

/// Where a setting is from. Ordered as in a list of problems.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A flag or a variable, by its name.
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
        problems.sort_by(|a, b| a.place.cmp(&b.place));
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
        match &self.place {
            Some(Place::Given(name)) => write!(f, "{name}: ")?,
            Some(Place::File { file, line: Some(line) }) => write!(f, "{}:{line}: ", file.display())?,
            Some(Place::File { file, line: None }) => write!(f, "{}: ", file.display())?,
            None => {}
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.words)
    }
}
