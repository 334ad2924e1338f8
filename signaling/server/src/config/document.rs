//! All layers of settings as one document: TOML, every problem of which is reported with its place.
//!
//! The layers are texts that lie one behind the other, so the offset of a value says which layer it is from.

use super::{
    advice::advise,
    given::{Accepted, Given},
    problem::{ConfigError, Place, Problem},
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

type Key<'a> = Spanned<DeString<'a>>;
type Value<'a> = Spanned<DeValue<'a>>;

/// The longest configuration file: far more than anybody writes.
const MAX_LENGTH: u64 = 1 << 20;
/// Problems that are reported at a time.
const MAX_PROBLEMS: usize = 50;

/// The texts of all layers.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Those above the file, the lowest first.
    given: Vec<Layer>,
    file: Option<Layer>,
    /// Where the next layer starts.
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

/// What is found beside the settings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Document {
    /// Reads the file, and what was given above it as far as settings of `T` accept it.
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
                Accepted::Unknown(words) => findings.warnings.push(words),
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

    /// The folder that a relative path in the layer at this offset starts from. `None`: the current folder.
    pub(super) fn folder(&self, offset: usize) -> Option<&Path> {
        match &self.layer_at(offset)?.origin {
            Origin::File(path) => path.parent(),
            Origin::Given(_) => None,
        }
    }

    /// Whether the value at this offset is from the file.
    pub(super) fn is_of_file(&self, offset: usize) -> bool {
        self.file.as_ref().is_some_and(|file| offset >= file.start)
    }

    /// The place of a byte.
    pub(super) fn place(&self, offset: usize) -> Option<Place> {
        let layer = self.layer_at(offset)?;
        Some(match &layer.origin {
            Origin::Given(name) => Place::Given(name.clone()),
            Origin::File(file) => {
                let before = layer.text.bytes().take(offset - layer.start);
                let lines = before.filter(|byte| *byte == b'\n').count();
                Place::File { file: file.clone(), line: Some(lines + 1) }
            }
        })
    }

    fn layer_at(&self, offset: usize) -> Option<&Layer> {
        self.given.iter().chain(&self.file).rfind(|layer| layer.start <= offset)
    }

    /// The settings of all layers together, without those that are wrong: these are reported. One problem at a time
    /// is found and taken out, and the rest is read again.
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
            let taken = error.span().and_then(|span| take_out(&mut root, &span));
            let found = taken.is_some();
            findings.problems.push(self.problem(&error, taken));
            if !found || findings.problems.len() >= MAX_PROBLEMS {
                return T::default();
            }
        }
    }

    fn problem(&self, error: &toml::de::Error, key: Option<String>) -> Problem {
        let place = error.span().and_then(|span| self.place(span.start));
        let of_file = || {
            let Origin::File(file) = &self.file.as_ref()?.origin else { return None };
            Some(Place::File { file: file.clone(), line: None })
        };
        Problem { place: place.or_else(of_file), key, words: advise(error.message()) }
    }
}

impl Layer {
    /// The text, behind as many spaces as there are bytes before it.
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
            place: Some(Place::File { file: path.into(), line: None }),
            key: None,
            words: format!("can't read the configuration file: {error}"),
        })
    })
}

/// Lays a table over another one: the entries of `above` replace those below, and tables are merged.
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

/// Takes the innermost entry out that the span of an error lies in and names it. What is left is still worth reading.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    for (key, value) in table.iter_mut() {
        let rest = match value.get_mut() {
            DeValue::Table(inner) => take_out(inner, span),
            DeValue::Array(list) => take_element(list, span),
            _ => None,
        };
        if let Some(rest) = rest {
            return Some(format!("{}.{rest}", key.get_ref()));
        }
    }
    let in_it =
        |(key, value): &(&Key<'_>, &Value<'_>)| holds(&key.span(), span) || holds(&value.span(), span);
    let key = table.iter().find(in_it).map(|(key, _)| key.clone())?;
    table.remove(&key);
    Some(key.into_inner().into_owned())
}

/// Takes a table out of a list of them, whatever is wrong in it: without one of its entries it would be wrong, too.
fn take_element(list: &mut DeArray<'_>, span: &Range<usize>) -> Option<String> {
    let mut element_with_error = |(index, element): (usize, &mut Value<'_>)| match element.get_mut() {
        DeValue::Table(inner) => take_out(inner, span).map(|rest| (index, rest)),
        _ => None,
    };
    let (wrong, rest) = list.iter_mut().enumerate().find_map(&mut element_with_error)?;
    let others = list.iter().enumerate().filter(|(index, _)| *index != wrong);
    *list = others.map(|(_, element)| element.clone()).collect();
    Some(rest)
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}
