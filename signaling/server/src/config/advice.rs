//! Turns the messages of serde into advice on how to correct a setting.

/// The unknown name in a message of serde, and the most similar known one, if there is one.
pub(super) fn nearest(message: &str) -> Option<(&str, &str)> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    let likeness = |word: &&str| (1000.0 * strsim::jaro_winkler(wrong, word)).round();
    let nearest = quoted.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&nearest) >= 700.0).then_some((wrong, nearest))
}

/// The message of serde, with the name that was probably meant.
pub(super) fn advise(message: &str) -> String {
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
