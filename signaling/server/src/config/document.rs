//! Merges all layers of settings into one TOML document, and reports every problem with its location.
//!
//! The texts of the layers are concatenated, so the offset of a value identifies its layer.

use super::{
    advice::advise,
    given::{Accepted, Given},
    problem::{ConfigError, Location, Problem},
};
use serde::de::DeserializeOwned;
use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
};
use toml::{
    Deserializer, Spanned,
    de::{DeArray, DeString, DeTable, DeValue},
};

type TomlKey<'a> = Spanned<DeString<'a>>;
type TomlValue<'a> = Spanned<DeValue<'a>>;

/// The longest configuration file, in bytes.
const MAX_LENGTH: u64 = 1 << 20;
/// The most problems that are reported.
const MAX_PROBLEMS: usize = 50;

/// The texts of all layers.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// The layers that override the file, in increasing precedence.
    given: Vec<Layer>,
    file: Option<Layer>,
    /// The offset at which the next layer starts.
    end: usize,
}

#[derive(Debug)]
struct Layer {
    origin: Origin,
    /// The offset of its first byte.
    start: usize,
    text: String,
}

#[derive(Debug)]
enum Origin {
    /// A flag or a variable, by its name.
    Given(String),
    File(PathBuf),
}

/// The problems and warnings that were found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Document {
    /// Reads the file and those overriding settings that `T` accepts.
    pub(super) fn read<T: DeserializeOwned>(
        file: Option<&Path>,
        given: &[Given],
        findings: &mut Findings,
    ) -> Result<Self, ConfigError> {
        let mut document = Self::default();
        for given in given {
            match given.accept::<T>(&mut findings.warnings) {
                Accepted::Toml(text) => {
                    let layer = document.layer(Origin::Given(given.name().to_owned()), text);
                    document.given.push(layer);
                }
                Accepted::Unset => {}
                Accepted::Unknown(warning) => findings.warnings.push(warning),
                Accepted::Refused(problem) => findings.problems.push(problem),
            }
        }
        if let Some(path) = file {
            let text = read_file(path)?;
            document.file = Some(document.layer(Origin::File(path.into()), text));
        }
        Ok(document)
    }

    fn layer(&mut self, origin: Origin, text: String) -> Layer {
        let start = self.end;
        self.end += text.len() + 1;
        Layer { origin, start, text }
    }

    /// The folder to which a relative path in the layer at this offset refers. `None`: the current folder.
    pub(super) fn folder(&self, offset: usize) -> Option<&Path> {
        match &self.layer_at(offset)?.origin {
            Origin::File(path) => path.parent(),
            Origin::Given(_) => None,
        }
    }

    /// Whether the value at this offset comes from the file.
    pub(super) fn is_of_file(&self, offset: usize) -> bool {
        self.file.as_ref().is_some_and(|file| offset >= file.start)
    }

    /// The location of a byte.
    pub(super) fn location(&self, offset: usize) -> Option<Location> {
        let layer = self.layer_at(offset)?;
        Some(match &layer.origin {
            Origin::Given(name) => Location::Given(name.clone()),
            Origin::File(file) => {
                let before = layer.text.bytes().take(offset - layer.start);
                let lines = before.filter(|byte| *byte == b'\n').count();
                Location::File { file: file.clone(), line: Some(lines + 1) }
            }
        })
    }

    fn layer_at(&self, offset: usize) -> Option<&Layer> {
        self.given.iter().chain(&self.file).rfind(|layer| layer.start <= offset)
    }

    /// The merged settings of all layers. Each faulty entry is reported and removed, and the rest is parsed again.
    pub(super) fn settings<T: DeserializeOwned + Default>(&self, findings: &mut Findings) -> T {
        let texts: Vec<String> = self.file.iter().chain(&self.given).map(Layer::padded).collect();
        let mut root = DeTable::new();
        for text in &texts {
            let (table, errors) = DeTable::parse_recoverable(text);
            if !errors.is_empty() {
                let errors = errors.into_iter().take(MAX_PROBLEMS);
                findings.problems.extend(errors.map(|error| self.problem(&error, None)));
                return T::default();
            }
            merge(&mut root, table.into_inner());
        }
        loop {
            let table = Spanned::new(0..self.end, root.clone());
            let error = match T::deserialize(Deserializer::from(table)) {
                Ok(settings) => return settings,
                Err(error) => error,
            };
            let removed = error.span().and_then(|span| remove_entry(&mut root, &span));
            let is_removed = removed.is_some();
            findings.problems.push(self.problem(&error, removed));
            if !is_removed || findings.problems.len() >= MAX_PROBLEMS {
                return T::default();
            }
        }
    }

    fn problem(&self, error: &toml::de::Error, key: Option<String>) -> Problem {
        let location = error.span().and_then(|span| self.location(span.start));
        let of_file = || {
            let Origin::File(file) = &self.file.as_ref()?.origin else { return None };
            Some(Location::File { file: file.clone(), line: None })
        };
        Problem { location: location.or_else(of_file), key, text: advise(error.message()) }
    }
}

impl Layer {
    /// The text, preceded by spaces so that its offsets are those of the document.
    fn padded(&self) -> String {
        " ".repeat(self.start) + &self.text
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(MAX_LENGTH + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_LENGTH {
            return Err(io::Error::other("longer than 1 MiB: is it a configuration file?"));
        }
        Ok(text)
    };
    read().map_err(|error| {
        ConfigError::of(Problem {
            location: Some(Location::File { file: path.into(), line: None }),
            key: None,
            text: format!("can't read the configuration file: {error}"),
        })
    })
}

/// Merges a table into another one. The entries of `above` replace those of `below`; tables are merged recursively.
fn merge<'a>(below: &mut DeTable<'a>, above: DeTable<'a>) {
    for (key, mut value) in above {
        let old = below.iter_mut().find(|(old, _)| old.get_ref() == key.get_ref()).map(|(_, old)| old);
        match (old.map(Spanned::get_mut), value.get_mut()) {
            (Some(DeValue::Table(old)), DeValue::Table(new)) => merge(old, std::mem::take(new)),
            (Some(old), new) => std::mem::swap(old, new),
            (None, _) => {
                below.insert(key, value);
            }
        }
    }
}

/// Removes the innermost entry that contains the span of an error. Returns its key.
fn remove_entry(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    for (key, value) in table.iter_mut() {
        let rest = match value.get_mut() {
            DeValue::Table(inner) => remove_entry(inner, span),
            DeValue::Array(list) => remove_element(list, span),
            _ => None,
        };
        if let Some(rest) = rest {
            return Some(format!("{}.{rest}", key.get_ref()));
        }
    }
    let has_error = |(key, value): &(&TomlKey<'_>, &TomlValue<'_>)| {
        contains(&key.span(), span) || contains(&value.span(), span)
    };
    let key = table.iter().find(has_error).map(|(key, _)| key.clone())?;
    table.remove(&key);
    Some(key.into_inner().into_owned())
}

/// Removes a faulty table from a list of tables. Without its faulty entry, the table would be incomplete.
fn remove_element(list: &mut DeArray<'_>, span: &Range<usize>) -> Option<String> {
    let mut element_with_error = |(index, element): (usize, &mut TomlValue<'_>)| match element.get_mut() {
        DeValue::Table(inner) => remove_entry(inner, span).map(|rest| (index, rest)),
        _ => None,
    };
    let (wrong, rest) = list.iter_mut().enumerate().find_map(&mut element_with_error)?;
    let others = list.iter().enumerate().filter(|(index, _)| *index != wrong);
    *list = others.map(|(_, element)| element.clone()).collect();
    Some(rest)
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}
