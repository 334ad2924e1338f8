//! Helps sections to check their settings: reads the files that they name, and collects problems and warnings.

use super::{
    disk::read_file,
    document::{Document, Findings},
    given::Given,
    problem::{ConfigError, Problem},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use toml::Spanned;

/// A value of a setting, with its location.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Spanned<T>", bound = "T: DeserializeOwned")]
pub struct Located<T> {
    pub(crate) value: T,
    at: usize,
}

/// A path. A relative path in the configuration file refers to the folder of that file.
pub type FilePath = Located<PathBuf>;

impl<T> Located<T> {
    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }
}

impl<T> From<Spanned<T>> for Located<T> {
    fn from(spanned: Spanned<T>) -> Self {
        Self { at: spanned.span().start, value: spanned.into_inner() }
    }
}

/// Collects the problems and warnings while settings are loaded.
#[derive(Debug)]
pub(crate) struct Loader {
    document: Document,
    findings: Findings,
}

/// Reads settings from a file and from the settings that override it. [`Loader::finish`] returns the problems, except that an
/// unreadable file is an error here.
pub(crate) fn read<T>(file: Option<&Path>, given: &[Given]) -> Result<(T, Loader), ConfigError>
where
    T: DeserializeOwned + Default,
{
    let mut findings = Findings::default();
    let document = Document::read::<T>(file, given, &mut findings)?;
    let settings = document.settings(&mut findings);
    Ok((settings, Loader { document, findings }))
}

impl Loader {
    /// Reports a problem of the value of a key. The text says how to correct it.
    pub(crate) fn refuse<T>(&mut self, key: &str, value: &Located<T>, text: impl Into<String>) {
        let location = self.document.location(value.at);
        self.findings.problems.push(Problem { location, key: Some(key.into()), text: text.into() });
    }

    /// Reports a problem of the file that a key names.
    pub(crate) fn refuse_file(&mut self, key: &str, file: &FilePath, text: impl std::fmt::Display) {
        let path = self.resolve(file);
        self.refuse(key, file, format!("{}: {text}", path.display()));
    }

    /// Reports a setting that is valid but questionable.
    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.findings.warnings.push(text.into());
    }

    /// The content of the file that a key names. `None`: the file can't be read; that is reported.
    pub(crate) fn read(&mut self, key: &str, file: &FilePath) -> Option<Vec<u8>> {
        self.open(key, file).map(|(content, _)| content)
    }

    /// The content of a secret file. If other users can read the file, that is a warning.
    pub(crate) fn read_secret(&mut self, key: &str, file: &FilePath) -> Option<Vec<u8>> {
        let (content, mode) = self.open(key, file)?;
        if mode & 0o004 != 0 {
            let path = self.resolve(file);
            self.warn(format!(
                "{key}: every user of this machine can read {0}: run chmod o-r {0}",
                path.display()
            ));
        }
        Some(content)
    }

    fn open(&mut self, key: &str, file: &FilePath) -> Option<(Vec<u8>, u32)> {
        match read_file(&self.resolve(file)) {
            Ok(content_and_mode) => Some(content_and_mode),
            Err(error) => {
                self.refuse_file(key, file, format_args!("can't be read: {error}"));
                None
            }
        }
    }

    /// The warnings, or all problems.
    pub(crate) fn finish(self) -> Result<Vec<String>, ConfigError> {
        match ConfigError::new(self.findings.problems) {
            Some(error) => Err(error),
            None => Ok(self.findings.warnings),
        }
    }

    /// The path of a file. A relative path in the configuration file refers to the folder of that file.
    pub(crate) fn resolve(&self, file: &FilePath) -> PathBuf {
        match self.document.folder(file.at) {
            Some(folder) => folder.join(&file.value),
            None => file.value.clone(),
        }
    }

    /// Whether a value comes from the configuration file, not from a variable or a flag.
    pub(crate) fn is_of_file<T>(&self, value: &Located<T>) -> bool {
        self.document.is_of_file(value.at)
    }
}
