//! The configuration file as a document: TOML, of which everything that is wrong is told, with its line.

use super::{
    problem::{ConfigError, Place, Problem},
    settings::Settings,
};
use serde::Deserialize;
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

/// More than anybody writes.
const MAX_LENGTH: u64 = 1 << 20;
/// Problems that are told at a time.
const MAX_PROBLEMS: usize = 50;

/// The text of the file.
#[derive(Debug)]
pub(super) struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let read = || -> io::Result<String> {
            let mut text = String::new();
            File::open(path)?.take(MAX_LENGTH + 1).read_to_string(&mut text)?;
            if text.len() as u64 > MAX_LENGTH {
                return Err(io::Error::other("longer than 1 MiB: is it a configuration file?"));
            }
            Ok(text)
        };
        let problem = |error: io::Error| Problem {
            place: Some(Place { file: path.into(), line: None }),
            key: None,
            words: format!("can't read the configuration file: {error}"),
        };
        match read() {
            Ok(text) => Ok(Self { path: path.into(), text }),
            Err(error) => Err(ConfigError::of(problem(error))),
        }
    }

    #[cfg(test)]
    pub(super) fn of(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The folder that relative paths in the file start from.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The place of a byte of it.
    pub(super) fn place(&self, offset: usize) -> Place {
        let lines = self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        Place { file: self.path.clone(), line: Some(lines + 1) }
    }

    /// What the file says, without what is wrong in it: that goes to `problems`. One thing at a time is found,
    /// taken out, and the rest read again.
    pub(super) fn settings(&self, problems: &mut Vec<Problem>) -> Settings {
        let (mut root, errors) = DeTable::parse_recoverable(&self.text);
        if !errors.is_empty() {
            problems.extend(errors.into_iter().take(MAX_PROBLEMS).map(|error| self.problem(&error, None)));
            return Settings::default();
        }
        loop {
            let error = match Settings::deserialize(Deserializer::from(root.clone())) {
                Ok(settings) => return settings,
                Err(error) => error,
            };
            let taken = error.span().and_then(|span| take_out(root.get_mut(), &span));
            let found = taken.is_some();
            problems.push(self.problem(&error, taken));
            if !found || problems.len() == MAX_PROBLEMS {
                return Settings::default();
            }
        }
    }

    fn problem(&self, error: &toml::de::Error, key: Option<String>) -> Problem {
        let place = match error.span() {
            Some(span) => self.place(span.start),
            None => Place { file: self.path.clone(), line: None },
        };
        Problem { place: Some(place), key, words: advise(error.message()) }
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

/// Serde's words, with the word that was probably meant.
fn advise(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next() {
        Some(wrong) if message.starts_with("unknown ") => {
            let known: Vec<&str> = quoted.collect();
            let likeness = |word: &&&str| (1000.0 * strsim::jaro_winkler(wrong, word)).round();
            let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            let what = if message.starts_with("unknown field") { "key" } else { "word" };
            let hint = match nearest {
                Some(nearest) if likeness(&nearest) >= 700.0 => format!("did you mean `{nearest}`?"),
                Some(_) => format!("known here: {}", known.join(", ")),
                None => "nothing may stand here".to_owned(),
            };
            format!("unknown {what} `{wrong}`; {hint}")
        }
        _ => message.to_owned(),
    }
}
