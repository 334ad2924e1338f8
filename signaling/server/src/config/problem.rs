//! What is wrong with a configuration, for those who have to put it right.

use std::{fmt, path::PathBuf};

/// Everything that is wrong with a configuration. Its text has a line for each: where, what, and the way out.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug)]
pub(super) struct Problem {
    /// Where it stands.
    pub(super) place: Option<Place>,
    /// The key with those of the tables that it is in: `tls.key`.
    pub(super) key: Option<String>,
    pub(super) words: String,
}

/// A place in the file. Ordered as one reads.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    pub(super) line: Option<usize>,
}

impl ConfigError {
    pub(super) fn of(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }

    /// `None` where nothing is wrong.
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
        if let Some(Place { file, line }) = &self.place {
            write!(f, "{}:", file.display())?;
            if let Some(line) = line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.words)
    }
}
