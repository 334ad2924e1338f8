//! Encoders upstream: their configuration for low latency, and warnings about those that delay the stream.

use crate::bed::{Line, SERVER, Temporary, wait_until};
use gst::prelude::*;
use std::time::{Duration, Instant};

#[test]
fn a_bare_x264enc_is_paced_tuned_and_constrained_baseline() {
    let line = Line::new(&format!("videotestsrc num-buffers=45 ! x264enc name=e ! {SERVER}"));
    let start = Instant::now();
    line.play();
    let tuned = line.wait(&[gst::MessageType::Element]);
    let message = tuned.structure().unwrap();
    assert_eq!(message.name(), "room-upstream-tuned");
    assert!(message.get::<&str>("properties").unwrap().contains("tune=zerolatency"));
    line.wait(&[gst::MessageType::Eos]);
    assert!(start.elapsed() >= Duration::from_millis(1400), "45 frames at 30/s took {:?}", start.elapsed());
    let caps = line.input().static_pad("sink").unwrap().current_caps().unwrap();
    let caps = caps.structure(0).unwrap();
    assert_eq!(caps.get::<&str>("profile"), Ok("constrained-baseline"));
    assert_eq!(caps.get::<&str>("stream-format"), Ok("byte-stream"));
    let stats = line.sink().property::<gst::Structure>("stats");
    assert!(stats.get::<u64>("frames").unwrap() >= 1);
}

#[test]
fn tuning_can_be_disabled_and_an_encoder_that_delays_the_stream_is_reported() {
    let line =
        Line::new(&format!("videotestsrc is-live=true ! x264enc name=e ! {SERVER} tune-upstream=false"));
    line.play();
    let warning = line.wait(&[gst::MessageType::Warning, gst::MessageType::Error]);
    let gst::MessageView::Warning(warning) = warning.view() else { panic!("{warning:?}") };
    assert!(warning.error().to_string().contains("tune=zerolatency"), "{warning:?}");
    assert_eq!(line.0.by_name("e").unwrap().property::<u32>("key-int-max"), 0);
}

#[test]
fn an_encoder_that_is_linked_while_playing_is_tuned() {
    let line = Line::new(&format!("videotestsrc is-live=true ! x264enc ! {SERVER}"));
    line.play();
    wait_until("access units arrive", || line.frames() > 5);
    let branch = gst::parse::bin_from_description(
        "videotestsrc is-live=true ! video/x-raw,width=160,height=120 ! x264enc name=second",
        true,
    )
    .unwrap();
    line.0.add(&branch).unwrap();
    let pad = line.sink().request_pad_simple("video_%u").unwrap();
    branch.static_pad("src").unwrap().link(&pad).unwrap();
    let encoder = branch.by_name("second").unwrap();
    assert_eq!(encoder.property::<u32>("key-int-max"), 60);
    branch.sync_state_with_parent().unwrap();
    wait_until("the second stream flows", || line.0.by_name("input-video_1").is_some());
}

#[test]
fn an_encoder_that_is_linked_when_its_data_arrives_is_tuned() {
    // decodebin adds its pad while the pipeline starts, and only then is the rest linked.
    let file = Temporary::new("late.mkv");
    let path = file.path();
    let writer = Line::new(&format!(
        "videotestsrc num-buffers=60 ! x264enc ! h264parse ! matroskamux ! filesink location={path}"
    ));
    writer.play().wait(&[gst::MessageType::Eos]);
    drop(writer);
    let line =
        Line::new(&format!("filesrc location={path} ! decodebin ! videoconvert ! x264enc name=e ! {SERVER}"));
    line.play();
    wait_until("access units arrive", || line.frames() > 5);
    let encoder = line.0.by_name("e").unwrap();
    assert_eq!(encoder.property::<u32>("key-int-max"), 60);
    assert_eq!(encoder.property::<u32>("vbv-buf-capacity"), 120);
}

#[test]
fn an_encoder_that_is_already_encoding_is_reported() {
    let line = Line::new(&format!(
        "videotestsrc is-live=true ! video/x-raw,format=I420 ! x264enc name=e ! tee name=t ! queue ! fakesink {SERVER}"
    ));
    line.sink().set_locked_state(true);
    line.play();
    wait_until("the encoder is encoding", || {
        line.0.by_name("e").unwrap().static_pad("src").unwrap().current_caps().is_some()
    });
    line.sink().set_locked_state(false);
    line.sink().sync_state_with_parent().unwrap();
    let branch = line.0.by_name("t").unwrap().request_pad_simple("src_%u").unwrap();
    branch.link(&line.sink().request_pad_simple("video_%u").unwrap()).unwrap();
    let warning = line.wait(&[gst::MessageType::Warning]);
    let gst::MessageView::Warning(warning) = warning.view() else { unreachable!() };
    let warning = warning.error().to_string();
    assert!(warning.contains("tune=zerolatency") && warning.contains("before it starts"), "{warning}");
}

#[test]
fn only_the_encoders_own_delay_is_reported_and_only_once() {
    let warnings = |line: &Line| {
        let bus = line.0.bus().unwrap();
        std::iter::from_fn(move || bus.pop_filtered(&[gst::MessageType::Warning, gst::MessageType::Error]))
            .map(|message| match message.view() {
                gst::MessageView::Warning(warning) => warning.error().to_string(),
                _ => panic!("{message:?}"),
            })
            .collect::<Vec<_>>()
    };
    // The queue delays the stream, not the encoder.
    let line = Line::new(&format!(
        "videotestsrc is-live=true ! queue min-threshold-time=300000000 ! x264enc tune=zerolatency ! h264parse ! {SERVER} \
         tune-upstream=false"
    ));
    line.play();
    wait_until("access units arrive", || line.frames() > 10);
    assert_eq!(warnings(&line), [""; 0]);
    drop(line);

    let line = Line::new(&format!(
        "videotestsrc is-live=true ! capsfilter name=f caps=video/x-raw,width=320,height=240 ! x264enc ! {SERVER} \
         tune-upstream=false"
    ));
    line.play();
    wait_until("access units arrive", || line.frames() > 0);
    let wider: gst::Caps = "video/x-raw,width=640,height=480".parse().unwrap();
    line.0.by_name("f").unwrap().set_property("caps", wider);
    wait_until("the size changes", || {
        let caps = line.input().static_pad("sink").unwrap().current_caps();
        caps.is_some_and(|caps| caps.structure(0).unwrap().get("width") == Ok(640))
    });
    let reported = warnings(&line);
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(reported.iter().all(|text| text.contains("tune=zerolatency")), "{reported:?}");
}
