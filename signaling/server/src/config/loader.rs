//! Turns settings into what the server takes: reads the files that they name, and collects what is wrong.

use super::{
    document::Document,
    problem::{ConfigError, Problem},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use toml::Spanned;

/// More than any key, chain of certificates or token has.
const MAX_LENGTH: u64 = 1 << 20;

/// A value of the settings, and where in the file it stands, where that is where it comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Spanned<T>", bound = "T: DeserializeOwned")]
pub struct Located<T> {
    pub(crate) value: T,
    at: Option<usize>,
}

/// A path. In the file, a relative one starts from the file's folder.
pub type FilePath = Located<PathBuf>;

impl<T> From<Spanned<T>> for Located<T> {
    fn from(spanned: Spanned<T>) -> Self {
        Self { at: Some(spanned.span().start), value: spanned.into_inner() }
    }
}

impl<T> From<T> for Located<T> {
    fn from(value: T) -> Self {
        Self { value, at: None }
    }
}

/// The work of one loading.
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    document: Option<&'a Document>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(document: Option<&'a Document>, problems: Vec<Problem>) -> Self {
        Self { document, problems, warnings: Vec::new() }
    }

    /// Something is wrong with the value of a key; the words say what would be right.
    pub(crate) fn refuse<T>(&mut self, key: &str, value: &Located<T>, words: impl Into<String>) {
        let place = self.document.zip(value.at).map(|(document, at)| document.place(at));
        self.problems.push(Problem { place, key: Some(key.into()), words: words.into() });
    }

    /// Something is wrong with the file that a key names.
    pub(crate) fn refuse_file(&mut self, key: &str, file: &FilePath, words: impl std::fmt::Display) {
        let path = self.resolve(file);
        self.refuse(key, file, format!("{}: {words}", path.display()));
    }

    /// Something is allowed, and better not done.
    pub(crate) fn warn(&mut self, words: impl Into<String>) {
        self.warnings.push(words.into());
    }

    /// The content of a file that a key names. `None`: it can't be read, which is noted.
    pub(crate) fn read(&mut self, key: &str, file: &FilePath) -> Option<Vec<u8>> {
        self.open(key, file).map(|(content, _)| content)
    }

    /// The same of a file that nobody else should be able to read.
    pub(crate) fn read_secret(&mut self, key: &str, file: &FilePath) -> Option<Vec<u8>> {
        let (content, mode) = self.open(key, file)?;
        if mode & 0o004 != 0 {
            let path = self.resolve(file);
            self.warn(format!(
                "{key}: everybody on this machine can read {0}: chmod o-r {0}",
                path.display()
            ));
        }
        Some(content)
    }

    fn open(&mut self, key: &str, file: &FilePath) -> Option<(Vec<u8>, u32)> {
        match read(&self.resolve(file)) {
            Ok(content_and_mode) => Some(content_and_mode),
            Err(error) => {
                self.refuse_file(key, file, format_args!("can't be read: {error}"));
                None
            }
        }
    }

    /// What was noted beside errors; or the errors.
    pub(super) fn finish(self) -> Result<Vec<String>, ConfigError> {
        match ConfigError::new(self.problems) {
            Some(error) => Err(error),
            None => Ok(self.warnings),
        }
    }

    /// Where the file is.
    pub(crate) fn resolve(&self, file: &FilePath) -> PathBuf {
        match (self.document, file.at) {
            (Some(document), Some(_)) => document.folder().join(&file.value),
            _ => file.value.clone(),
        }
    }
}

/// The content of a file, and its permissions.
fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut content = Vec::new();
    file.take(MAX_LENGTH + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_LENGTH {
        return Err(io::Error::other("longer than 1 MiB"));
    }
    Ok((content, metadata.permissions().mode()))
}
