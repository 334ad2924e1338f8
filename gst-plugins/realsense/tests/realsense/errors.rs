//! A configuration that can't work is reported immediately, with a text that names the fix.

use crate::bed::{HEIGHT, Recording, TestPipeline, WIDTH, color, depth, init, write};
use std::time::{Duration, Instant};

/// The text of the error, which must be posted within two seconds.
fn refused(description: &str) -> String {
    init();
    let line = TestPipeline::new(description);
    let began = Instant::now();
    let text = line.play().error();
    assert!(began.elapsed() < Duration::from_secs(2), "{description}: after {:?}", began.elapsed());
    text
}

fn check(description: &str, expected: &[&str]) {
    let text = refused(description);
    for part in expected {
        assert!(text.contains(part), "{description}: {text:?} lacks {part:?}");
    }
}

#[test]
fn without_a_camera_the_error_names_the_port_and_the_alternative() {
    check("realsensesrc ! fakesink", &["no RealSense camera", "USB 3", "recording-location"]);
    check("realsensesrc serial=0815 ! fakesink", &["0815", "serial", "none"]);
}

#[test]
fn unreadable_files_are_named_with_the_reason() {
    let recording = Recording::new("files", &[color(), depth()], 3);
    let folder = recording.path.parent().unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let whole = std::fs::read(&recording.path).unwrap();
    write(&folder.join("cut.bag"), &whole[..whole.len() / 2]);
    write(&folder.join("other.bag"), b"not a recording at all");
    write(&folder.join("empty.bag"), b"");
    for name in ["cut.bag", "other.bag", "empty.bag"] {
        let source = format!("realsensesrc recording-location={} ! fakesink", path(name));
        check(&source, &["recording-location", &path(name), "can't be played", "librealsense"]);
    }
    let source = |name: &str| format!("realsensesrc recording-location={} ! fakesink", path(name));
    check(&source("none.bag"), &["recording-location", &path("none.bag"), "No such file"]);
    check(&source(""), &["recording-location", "not a file"]);
    let preset = |name: &str| format!("{} json-preset={} ! fakesink", recording.source(), path(name));
    check(&preset("none.json"), &["json-preset", &path("none.json"), "No such file"]);
    write(&folder.join("text.json"), b"exposure: 3");
    check(&preset("text.json"), &["json-preset", "text.json", "Viewer"]);
    write(&folder.join("valid.json"), b"{}");
    check(&preset("valid.json"), &["json-preset", "valid.json", "accepts no presets"]);
}

#[test]
fn a_recording_of_another_camera_is_refused() {
    let recording = Recording::new("other", &[color(), depth()], 3);
    check(&format!("{} serial=0815 ! fakesink", recording.source()), &["rec-other", "0815"]);
}

#[test]
fn impossible_caps_are_answered_with_the_available_modes() {
    let recording = Recording::new("caps", &[color(), depth()], 3);
    let size = format!("{WIDTH}x{HEIGHT} at 30");
    for caps in ["width=333", "framerate=31/1", "format=GRAY16_LE"] {
        let source = format!("{} ! capsfilter caps=video/x-raw,{caps} ! fakesink", recording.source());
        check(&source, &["color", &size, "I420"]);
    }
    let encoded = format!("{} stream=depth ! x264enc ! fakesink", recording.source());
    check(&encoded, &["depth", &size, "GRAY16_LE", "colorize=true"]);
}

#[test]
fn a_missing_stream_is_named_with_the_available_ones() {
    let recording = Recording::new("lacks", &[color(), depth()], 3);
    for (setting, lacking) in
        [("stream=infrared2 ! fakesink", "infrared2"), ("camera.motion ! fakesink", "motion")]
    {
        let text = refused(&format!("{} {setting}", recording.source()));
        assert!(text.contains(&format!("no {lacking}")) && text.contains("color, depth"), "{text}");
    }
    let only_depth = Recording::new("only-depth", &[depth()], 3);
    check(&format!("{} stream=depth align=color ! fakesink", only_depth.source()), &["no color", "depth"]);
}

#[test]
fn contradictory_settings_are_named() {
    check("realsensesrc loop=true ! fakesink", &["loop", "recording-location"]);
    check("realsensesrc threshold=\"<4.0, 0.3>\" ! fakesink", &["threshold", "<0.3, 4.0>"]);
    check("realsensesrc fakesink", &["no pad is linked"]);
}
