//! Settings that are given as text, by an environment variable or by a flag.
//!
//! Text has no type, but TOML has. Each text is therefore tried as a string, as a TOML value, as JSON and as a
//! comma-separated list, until the setting accepts one of these.

use super::{
    advice::{MUST_BE_LIST, advise, nearest},
    disk::read_file,
    problem::{Location, Problem},
};
use serde::de::DeserializeOwned;
use std::{ffi::OsString, path::Path};
use toml::{Deserializer, de::DeTable};

/// One setting, given as text.
#[derive(Debug, Clone)]
pub struct Given {
    /// The key with its tables: `limits.max_rooms`.
    key: String,
    /// One text, or one for each occurrence of a flag.
    texts: Vec<String>,
    /// The name of the variable or the flag.
    name: String,
    /// The common prefix of all variables, if this is a variable.
    prefix: Option<&'static str>,
}

/// The result of checking a setting.
pub(super) enum Accepted {
    /// The equivalent TOML.
    Toml(String),
    /// The text is empty, and the setting can't be empty, so it counts as unset.
    Unset,
    /// There is no such setting. The text names a similar one.
    Unknown(String),
    Refused(Problem),
}

impl Given {
    /// A setting that is given by a flag, once or several times.
    pub fn flag(name: impl Into<String>, key: &str, texts: Vec<String>) -> Self {
        Self { key: key.into(), texts, name: name.into(), prefix: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Finds a TOML form of the text that the setting of `T` accepts.
    pub(super) fn accept<T: DeserializeOwned>(&self, warnings: &mut Vec<String>) -> Accepted {
        let candidates = candidates(&self.texts);
        let mut errors = Vec::new();
        for candidate in &candidates {
            let text = format!("{} = {candidate}\n", quoted_path(&self.key));
            match DeTable::parse(&text).map(|table| T::deserialize(Deserializer::from(table))) {
                Ok(Ok(_)) => return Accepted::Toml(text),
                Ok(Err(error)) | Err(error) => errors.push(error.message().to_owned()),
            }
        }
        match errors.first() {
            Some(error) if error.starts_with("unknown field") => self.unknown::<T>(error, warnings),
            _ if self.texts.iter().all(String::is_empty) => Accepted::Unset,
            Some(first) => {
                let of_value = errors.iter().find(|error| !error.starts_with("invalid type"));
                let text = advise(of_value.unwrap_or(first));
                let is_list = text == MUST_BE_LIST;
                self.refuse(if is_list { format!("{text}, separated by commas") } else { text })
            }
            None => self.refuse("must be text".into()),
        }
    }

    /// Handles `…_FILE`: any setting may be in a file that a variable with this suffix names.
    fn unknown<T: DeserializeOwned>(&self, error: &str, warnings: &mut Vec<String>) -> Accepted {
        let path = self.texts.first().filter(|path| !path.is_empty());
        if let (Some(key), Some(path)) = (self.key.strip_suffix("_file"), path)
            && self.prefix.is_some()
        {
            let mut of_file =
                Self { key: key.into(), texts: vec![String::new()], prefix: None, ..self.clone() };
            if !matches!(of_file.accept::<T>(&mut Vec::new()), Accepted::Unknown(_)) {
                return match read_file(Path::new(path)) {
                    Ok((content, mode)) => {
                        if mode & 0o004 != 0 {
                            warnings.push(format!(
                                "{}: every user of this machine can read {path}: run chmod o-r {path}",
                                self.name
                            ));
                        }
                        of_file.texts = vec![String::from_utf8_lossy(&content).trim_end().to_owned()];
                        of_file.accept::<T>(warnings)
                    }
                    Err(error) => self.refuse(format!("{path}: can't be read: {error}")),
                };
            }
        }
        let hint = nearest(error).map(|(wrong, right)| {
            let key: Vec<&str> =
                self.key.split('.').map(|part| if part == wrong { right } else { part }).collect();
            format!("; did you mean {}{}?", self.prefix.unwrap_or_default(), key.join("__").to_uppercase())
        });
        Accepted::Unknown(format!("{}: there is no such setting{}", self.name, hint.unwrap_or_default()))
    }

    fn refuse(&self, text: String) -> Accepted {
        let location = Some(Location::Given(self.name.clone()));
        Accepted::Refused(Problem { location, key: Some(self.key.clone()), text })
    }
}

/// The settings in environment variables: with the prefix `ROOM_SIGNALING_`, the variable `ROOM_SIGNALING_LIMITS__MAX_ROOMS`
/// is `limits.max_rooms`. `names` are additional variables and their keys; the key "" marks a variable that is no setting.
pub fn variables(
    prefix: &'static str,
    names: &[(&str, &str)],
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<Given> {
    let mut given: Vec<Given> = environment
        .filter_map(|(name, text)| {
            let name = name.into_string().ok()?;
            let rest = name.strip_prefix(prefix)?;
            let own = names.iter().find(|(own, _)| *own == name).map(|(_, key)| (*key).to_owned());
            let key = own.unwrap_or_else(|| rest.to_lowercase().replace("__", "."));
            // A value that is not UTF-8 has no candidate, so it is refused.
            let texts = text.into_string().into_iter().collect();
            (!key.is_empty()).then_some(Given { key, texts, name, prefix: Some(prefix) })
        })
        .collect();
    // The environment has no order, but problems and warnings are reported in one.
    given.sort_by(|a, b| a.name.cmp(&b.name));
    given
}

/// The TOML values that the texts may represent, the likeliest first.
fn candidates(texts: &[String]) -> Vec<String> {
    let entries = |text: &str| -> Vec<String> {
        text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(quoted).collect()
    };
    let list: Vec<String> = texts.iter().flat_map(|text| entries(text)).collect();
    let list = format!("[{}]", list.join(", "));
    match texts {
        [] => Vec::new(),
        [text] => {
            let is_value =
                DeTable::parse(&format!("x = {text}\n")).is_ok_and(|table| table.get_ref().len() == 1);
            let toml = is_value.then(|| text.clone());
            let json = serde_json::from_str::<serde_json::Value>(text).ok();
            let json = json.filter(|json| json.is_array() || json.is_object()).map(|json| of_json(&json));
            [Some(quoted(text)), toml, json, Some(list)].into_iter().flatten().collect()
        }
        _ => vec![list],
    }
}

/// The TOML form of a JSON value.
fn of_json(json: &serde_json::Value) -> String {
    match json {
        serde_json::Value::String(text) => quoted(text),
        serde_json::Value::Array(entries) => {
            format!("[{}]", entries.iter().map(of_json).collect::<Vec<_>>().join(", "))
        }
        serde_json::Value::Object(entries) => {
            let entries = entries.iter().filter(|(_, value)| !value.is_null());
            let entries = entries.map(|(key, value)| format!("{} = {}", quoted(key), of_json(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A basic string of TOML. TOML has the escapes of JSON, and also requires one for DEL.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

fn quoted_path(key: &str) -> String {
    key.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::num::NonZeroUsize;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        name: Option<String>,
        names: Option<Vec<String>>,
        count: Option<NonZeroUsize>,
        seconds: Option<f64>,
        on: Option<bool>,
        inner: Inner,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        size: Option<u32>,
        token_file: Option<String>,
        list: Option<Vec<Entry>>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        name: String,
    }

    fn of(name: &str, text: &str) -> Given {
        variables("X_", &[("X_ALIAS", "inner.size")], [(name.into(), text.into())].into_iter()).remove(0)
    }

    fn accept(name: &str, text: &str) -> Settings {
        match of(name, text).accept::<Settings>(&mut Vec::new()) {
            Accepted::Toml(toml) => toml::from_str(&toml).unwrap(),
            Accepted::Unset => Settings::default(),
            Accepted::Unknown(expected) => panic!("{expected}"),
            Accepted::Refused(problem) => panic!("{problem}"),
        }
    }

    fn refusal(name: &str, text: &str) -> String {
        match of(name, text).accept::<Settings>(&mut Vec::new()) {
            Accepted::Toml(toml) => panic!("{toml}"),
            Accepted::Unset => panic!("unset"),
            Accepted::Unknown(expected) => expected,
            Accepted::Refused(problem) => problem.to_string(),
        }
    }

    #[test]
    fn a_text_is_converted_to_the_type_of_its_setting() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(accept("X_NAME", "15").name.as_deref(), Some("15"));
        assert_eq!(accept("X_NAME", "say \"a\\b\", \u{7f}").name.as_deref(), Some("say \"a\\b\", \u{7f}"));
        assert_eq!(accept("X_NAME", "").name.as_deref(), Some(""));
        assert_eq!(accept("X_COUNT", "15").count, NonZeroUsize::new(15));
        assert_eq!(accept("X_SECONDS", "2").seconds, Some(2.0));
        assert_eq!(accept("X_ON", "true").on, Some(true));
        assert_eq!(accept("X_NAMES", "a, b,").names, names(&["a", "b"]));
        assert_eq!(accept("X_NAMES", "['a,b']").names, names(&["a,b"]));
        assert_eq!(accept("X_NAMES", "").names, names(&[]));
        assert_eq!(accept("X_INNER__SIZE", "7").inner.size, Some(7));
        assert_eq!(accept("X_ALIAS", "7").inner.size, Some(7));
        assert_eq!(accept("X_COUNT", ""), Settings::default());
        for list in [r#"[{"name": "a"}]"#, "[{name = 'a'}]"] {
            assert_eq!(accept("X_INNER__LIST", list).inner.list, Some(vec![Entry { name: "a".into() }]));
        }
    }

    #[test]
    fn a_wrong_text_is_refused_with_the_name_of_its_variable_and_not_repeated() {
        for (name, text, expected) in [
            ("X_COUNT", "hush", "X_COUNT: count: must be a whole number, 1 or more"),
            ("X_COUNT", "0", "X_COUNT: count: must be a whole number, 1 or more"),
            ("X_COUNT", "1\nname = 2", "X_COUNT: count: must be a whole number, 1 or more"),
            ("X_INNER__LIST", r#"[{"nama": "hush"}]"#, "did you mean `name`?"),
        ] {
            let reported = refusal(name, text);
            assert!(reported.contains(expected) && !reported.contains("hush"), "{reported}");
        }
    }

    #[test]
    fn an_unknown_variable_is_named_with_the_nearest_known_one() {
        for (name, expected) in [
            ("X_COUNTS", "X_COUNTS: there is no such setting; did you mean X_COUNT?"),
            ("X_INNER__SIZES", "X_INNER__SIZES: there is no such setting; did you mean X_INNER__SIZE?"),
            ("X_ZEBRA", "X_ZEBRA: there is no such setting"),
        ] {
            assert_eq!(refusal(name, "1"), expected);
        }
    }

    #[test]
    fn a_variable_that_ends_in_file_names_the_file_of_its_setting() {
        let path = std::env::temp_dir().join(format!("room-given-{}", std::process::id()));
        std::fs::write(&path, "15\n").unwrap();
        let path_text = path.to_str().unwrap();
        assert_eq!(accept("X_COUNT_FILE", path_text).count, NonZeroUsize::new(15));
        // A setting whose own name ends in `_file` is the path itself.
        assert_eq!(accept("X_INNER__TOKEN_FILE", path_text).inner.token_file.as_deref(), Some(path_text));
        std::fs::remove_file(&path).unwrap();
        let reported = refusal("X_COUNT_FILE", path_text);
        assert!(reported.starts_with("X_COUNT_FILE: ") && reported.contains("can't be read"), "{reported}");
    }
}
