//! For tests of both elements: malformed variants of a description, and a counter of GLib's critical messages.

use gst::glib;
use std::sync::{
    LazyLock,
    atomic::{AtomicUsize, Ordering},
};

/// Each variant of `text`, with a description of the change: a line removed, doubled, without its value or with another
/// one, and whole sections removed, doubled or swapped.
pub(crate) fn variants(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let join = |lines: &[&str]| lines.iter().flat_map(|line| [line, "\r\n"]).collect::<String>();
    let mut all = vec![("nothing".to_owned(), String::new())];
    for (at, line) in lines.iter().enumerate() {
        let with = |replacement: &[&str]| {
            let (before, after) = (lines.iter().take(at), lines.iter().skip(at + 1));
            join(&before.chain(replacement).chain(after).copied().collect::<Vec<_>>())
        };
        all.push((format!("without {line}"), with(&[])));
        all.push((format!("twice {line}"), with(&[line, line])));
        let end = line.find(':').or_else(|| line.find('=')).unwrap_or(line.len());
        let key = line.get(..=end).unwrap_or(line);
        for value in ["", "0", "-1 99999999999", "\u{fc}", &"x".repeat(300), &"x ".repeat(300)] {
            all.push((format!("{key} with {value:.20}"), with(&[&format!("{key}{value}")])));
        }
    }
    let sections: Vec<String> = text.split("m=").skip(1).map(|section| format!("m={section}")).collect();
    let head = text.split("m=").next().unwrap_or_default();
    let turned: String = sections.iter().rev().cloned().collect();
    all.push(("no section".to_owned(), head.to_owned()));
    all.push(("sections twice".to_owned(), format!("{text}{}", sections.concat())));
    all.push(("sections turned round".to_owned(), format!("{head}{turned}")));
    for (old, new) in [
        ("setup:active", "setup:actpass"),
        ("setup:active", "setup:passive"),
        ("setup:actpass", "setup:active"),
        ("recvonly", "sendonly"),
        ("recvonly", "sendrecv"),
        ("recvonly", "inactive"),
        ("H264", "VP8"),
        ("apt=96", "apt=97"),
        ("m=video 9", "m=video 0"),
        ("m=video 9", "m=audio 9"),
        ("m=video 9", "m=application 9"),
        ("m=application 9", "m=application 0"),
        ("m=application 9", "m=image 9"),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
        ("packetization-mode=1", "payload=x;clock-rate=y;ssrc=z"),
        ("BUNDLE ", "BUNDLE x "),
        ("BUNDLE ", "LS "),
    ] {
        if text.contains(old) {
            all.push((format!("{new} instead of {old}"), text.replace(old, new)));
        }
    }
    all
}

static CRITICALS: AtomicUsize = AtomicUsize::new(0);

/// The number of CRITICAL messages that GLib and its libraries have logged since the first call. These are failed checks of
/// arguments, after which the behavior is undefined.
pub(crate) fn criticals() -> usize {
    static WATCH: LazyLock<()> = LazyLock::new(|| {
        glib::log_set_default_handler(|domain, level, message| {
            if level == glib::LogLevel::Critical {
                CRITICALS.fetch_add(1, Ordering::Relaxed);
                eprintln!("{}: {message}", domain.unwrap_or_default());
            }
        });
    });
    LazyLock::force(&WATCH);
    CRITICALS.load(Ordering::Relaxed)
}
