//! Turns the messages of serde into advice on how to correct a setting.

/// The advice for a setting that has to be a list.
pub(super) const MUST_BE_LIST: &str = "must be a list";

/// The unknown name in a message of serde, and the most similar known one, if there is one.
pub(super) fn nearest(message: &str) -> Option<(&str, &str)> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    let likeness = |word: &&str| (1000.0 * strsim::jaro_winkler(wrong, word)).round();
    let nearest = quoted.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&nearest) >= 700.0).then_some((wrong, nearest))
}

/// The advice that replaces a message of serde. It does not repeat a wrong value, because that may be a secret.
pub(super) fn advise(message: &str) -> String {
    if let Some(expected) = expected(message) {
        return expected;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next() {
        Some(wrong) if message.starts_with("unknown ") => {
            let known: Vec<&str> = quoted.collect();
            let what = if message.starts_with("unknown field") { "key" } else { "value" };
            let hint = match nearest(message) {
                Some((_, nearest)) => format!("did you mean `{nearest}`?"),
                None if known.is_empty() => "no value is allowed here".to_owned(),
                None => format!("allowed here: {}", known.join(", ")),
            };
            format!("unknown {what} `{wrong}`; {hint}")
        }
        _ => message.to_owned(),
    }
}

/// The type that a message of serde expects.
fn expected(message: &str) -> Option<String> {
    let (wrong, expected) = message.split_once(", expected ")?;
    if !["invalid type: ", "invalid value: "].iter().any(|start| wrong.starts_with(start)) {
        return None;
    }
    Some(match expected {
        "a nonzero usize" | "a nonzero u32" | "a nonzero u64" => {
            "must be a whole number, 1 or more".to_owned()
        }
        "a sequence" => MUST_BE_LIST.to_owned(),
        "f64" => "must be a number".to_owned(),
        "a boolean" => "must be true or false".to_owned(),
        _ if expected.starts_with("struct ") => "must be a table".to_owned(),
        _ => format!("must be {expected}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_is_advice_without_the_value() {
        for (message, advice) in [
            ("invalid type: string \"hush\", expected a sequence", "must be a list"),
            ("invalid value: integer `0`, expected a nonzero usize", "must be a whole number, 1 or more"),
            ("invalid type: string \"hush\", expected a boolean", "must be true or false"),
            ("invalid type: integer `1`, expected struct TlsSettings", "must be a table"),
            ("invalid type: integer `1`, expected a string", "must be a string"),
            ("invalid basic string, expected `\"`", "invalid basic string, expected `\"`"),
        ] {
            assert_eq!(advise(message), advice);
        }
    }
}
