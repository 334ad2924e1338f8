//! Formats that are refused with an error that names the fix, and formats that are converted or sent unchanged.

use crate::bed::{Line, SERVER, Temporary, byte_stream, wait_until};
use gst::prelude::*;

#[test]
fn formats_that_no_browser_decodes_are_refused_on_every_route() {
    for raw in ["Y444", "Y42B", "I420_10LE"] {
        let profile = match raw {
            "Y444" => "high-4:4:4",
            "Y42B" => "high-4:2:2",
            _ => "high-10",
        };
        let encoder = format!("video/x-raw,format={raw} ! x264enc ! video/x-h264,profile={profile}");
        for route in [
            "h264parse",
            "h264parse ! video/x-h264,stream-format=avc",
            "h264parse ! video/x-h264,stream-format=byte-stream ! capssetter replace=true caps=video/x-h264,stream-format=byte-stream,alignment=au",
            "rtph264pay ! rtph264depay",
        ] {
            let line = Line::new(&format!(
                "videotestsrc num-buffers=200 ! {encoder} ! {route} ! {SERVER} tune-upstream=false"
            ));
            let error = line.play().error();
            assert!(error.contains(profile), "{route}: {error}");
            assert!(
                error.contains("profile=constrained-baseline") && error.contains("format=I420"),
                "{route}: {error}"
            );
        }
    }
}

#[test]
fn b_frames_are_refused_with_an_error_that_names_the_fix() {
    let line = Line::new(&format!(
        "videotestsrc num-buffers=200 ! x264enc bframes=2 b-adapt=false ! video/x-h264,profile=main ! h264parse ! {SERVER} \
         tune-upstream=false"
    ));
    let error = line.play().error();
    assert!(error.contains("bframes=0"), "{error}");
}

#[test]
fn b_frames_are_recognized_without_timestamps() {
    let file = Temporary::new("b-frames.264");
    byte_stream(&file, "x264enc bframes=2 b-adapt=false ! capsfilter caps=video/x-h264,profile=main", 50);
    let line = Line::new(&format!("filesrc location={} ! h264parse ! {SERVER}", file.path()));
    let error = line.play().error();
    assert!(error.contains("bframes=0"), "{error}");
}

#[test]
fn concatenated_files_are_not_mistaken_for_b_frames() {
    let temporary = Temporary::new("loop.mp4");
    let file = temporary.path();
    let writer = Line::new(&format!(
        "videotestsrc num-buffers=10 ! video/x-raw,format=I420 ! x264enc bframes=0 ! h264parse ! mp4mux ! filesink location={file}"
    ));
    writer.play().wait(&[gst::MessageType::Eos]);
    drop(writer);
    let files = format!("filesrc location={file} ! qtdemux ! queue ! c. ").repeat(6);
    let line = Line::new(&format!("concat name=c ! h264parse ! {SERVER} {files}"));
    let end = line.play().wait(&[gst::MessageType::Eos, gst::MessageType::Error]);
    if let gst::MessageView::Error(error) = end.view() {
        panic!("{}", error.error());
    }
    wait_until("all frames are counted", || line.frames() == 60);
}

#[test]
fn data_without_caps_or_times_is_refused_with_an_error_that_names_the_fix() {
    let file = Temporary::new("raw.h264");
    std::fs::write(&file.0, [0, 0, 0, 1, 9, 0xf0]).unwrap();
    let line = Line::new(&format!("filesrc location={} ! {SERVER}", file.path()));
    let error = line.play().error();
    assert!(error.contains("h264parse"), "{error}");

    let line = Line::new(&format!("appsrc name=a caps=video/x-vp8 ! {SERVER}"));
    line.play();
    let source = line.0.by_name("a").unwrap();
    let _ = source.emit_by_name::<gst::FlowReturn>("push-buffer", &[&gst::Buffer::from_slice([0x51, 0, 0])]);
    let error = line.error();
    assert!(error.contains("format=time"), "{error}");
}

#[test]
fn an_odd_size_is_scaled_if_there_is_a_scaler_and_reported_otherwise() {
    let source = "videotestsrc is-live=true ! video/x-raw,format=I420,width=641,height=481";
    let line = Line::new(&format!("{source} ! videoscale ! x264enc ! {SERVER}"));
    line.play();
    wait_until("access units arrive", || line.frames() > 5);
    let caps = line.input().static_pad("sink").unwrap().current_caps().unwrap();
    let caps = caps.structure(0).unwrap();
    assert_eq!((caps.get("width"), caps.get("height")), (Ok(640), Ok(480)));
    assert_eq!(caps.get::<&str>("profile"), Ok("constrained-baseline"));
    drop(line);

    let line = Line::new(&format!("{source} ! x264enc ! {SERVER}"));
    line.play();
    let warning = line.wait(&[gst::MessageType::Warning]);
    let gst::MessageView::Warning(warning) = warning.view() else { unreachable!() };
    assert!(warning.error().to_string().contains("videoscale"), "{warning:?}");
}

#[test]
fn an_rgb_source_is_converted_to_a_format_that_browsers_decode() {
    // videoconvert would prefer 4:4:4, which loses least.
    let line = Line::new(&format!(
        "videotestsrc is-live=true ! video/x-raw,format=BGRx ! videoconvert ! x264enc ! {SERVER}"
    ));
    line.play();
    wait_until("access units arrive", || line.frames() > 5);
    let caps = line.input().static_pad("sink").unwrap().current_caps().unwrap();
    assert_eq!(caps.structure(0).unwrap().get::<&str>("profile"), Ok("constrained-baseline"));
}

#[test]
fn a_size_that_is_not_a_multiple_of_16_is_sent_unchanged() {
    let line = Line::new(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=1366,height=768 ! x264enc ! {SERVER}"
    ));
    line.play();
    wait_until("access units arrive", || line.frames() > 5);
    let caps = line.input().static_pad("sink").unwrap().current_caps().unwrap();
    assert_eq!(caps.structure(0).unwrap().get("width"), Ok(1366));
}

#[test]
fn interlaced_pictures_are_reported() {
    let line = Line::new(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! interlace field-pattern=1:1 ! \
         x264enc tune=zerolatency ! video/x-h264,profile=main ! {SERVER}"
    ));
    line.play();
    let warning = line.wait(&[gst::MessageType::Warning, gst::MessageType::Error]);
    let gst::MessageView::Warning(warning) = warning.view() else { panic!("{warning:?}") };
    assert!(warning.error().to_string().contains("deinterlace"), "{warning:?}");
}

#[test]
fn the_size_may_change_during_the_stream() {
    let line = Line::new(&format!(
        "videotestsrc num-buffers=60 ! capsfilter name=f caps=video/x-raw,width=320,height=240 ! x264enc ! {SERVER}"
    ));
    line.play();
    wait_until("access units arrive", || line.frames() > 10);
    let wider: gst::Caps = "video/x-raw,width=640,height=480".parse().unwrap();
    line.0.by_name("f").unwrap().set_property("caps", wider);
    let end = line.wait(&[gst::MessageType::Eos, gst::MessageType::Error]);
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    let caps = line.input().static_pad("sink").unwrap().current_caps().unwrap();
    assert_eq!(caps.structure(0).unwrap().get::<i32>("width"), Ok(640));
}
