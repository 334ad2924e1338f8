//! Request pads: names, release, and reuse; changes of state.

use crate::bed::{Line, SERVER, init, wait_until};
use gst::prelude::*;
use std::time::Duration;

#[test]
fn the_state_and_the_pads_can_change_repeatedly() {
    let line = Line::new(&format!("videotestsrc is-live=true ! x264enc ! {SERVER}"));
    for _ in 0..3 {
        line.play();
        wait_until("the element joins the room", || {
            line.sink().property_value("signaling-state").serialize().unwrap() == "joined"
        });
        line.0.set_state(gst::State::Null).unwrap();
        assert_eq!(line.sink().property_value("signaling-state").serialize().unwrap(), "idle");
    }
    let pad = line.sink().request_pad_simple("video_%u").unwrap();
    assert_eq!(pad.name(), "video_1");
    line.sink().release_request_pad(&pad);
    assert_eq!(line.sink().sink_pads().len(), 1);
}

#[test]
fn the_number_of_pads_is_limited_to_the_streams_of_a_session() {
    init();
    let sink = gst::ElementFactory::make("roomwebrtcsink").build().unwrap();
    let pads: Vec<gst::Pad> = (0..40).map_while(|_| sink.request_pad_simple("video_%u")).collect();
    assert_eq!(pads.len(), 30);
    sink.release_request_pad(pads.last().unwrap());
    assert!(
        sink.request_pad_simple("video_%u").is_some(),
        "a pad can be requested after another was released"
    );
}

#[test]
fn a_pad_can_be_released_while_its_streaming_thread_waits() {
    for state in [gst::State::Paused, gst::State::Playing] {
        let line = Line::new(&format!(
            "videotestsrc ! video/x-raw,format=I420,framerate=1/1 ! x264enc tune=zerolatency name=e ! {SERVER}"
        ));
        line.0.set_state(state).unwrap();
        wait_until("the pad has its chain", || line.0.by_name("input-video_0").is_some());
        let source = line.0.by_name("e").unwrap().static_pad("src").unwrap();
        let pad = source.peer().unwrap();
        let (done, released) = std::sync::mpsc::channel();
        let sink = line.sink();
        std::thread::spawn(move || {
            sink.release_request_pad(&pad);
            let _ = done.send(());
        });
        released.recv_timeout(Duration::from_secs(10)).expect("the pad is released");
        assert!(line.0.by_name("input-video_0").is_none() && line.sink().sink_pads().is_empty());
        assert!(line.0.bus().unwrap().pop_filtered(&[gst::MessageType::Error]).is_none());
    }
}

#[test]
fn a_pad_of_a_stopped_pipeline_takes_another_codec() {
    let line = Line::new(&format!("videotestsrc is-live=true name=v ! x264enc name=e ! {SERVER}"));
    for state in [gst::State::Null, gst::State::Ready] {
        line.play();
        wait_until("access units arrive", || line.frames() > 5);
        line.0.set_state(state).unwrap();
        assert!(line.0.by_name("input-video_0").is_none());
        let [source, old] = ["v", "e"].map(|name| line.0.by_name(name).unwrap());
        let factory = if old.factory().unwrap().name() == "x264enc" { "vp8enc" } else { "x264enc" };
        old.set_state(gst::State::Null).unwrap();
        line.0.remove(&old).unwrap();
        let encoder = gst::ElementFactory::make(factory).name("e").build().unwrap();
        line.0.add(&encoder).unwrap();
        source.link(&encoder).unwrap();
        encoder.link_pads(Some("src"), &line.sink(), Some("video_0")).unwrap();
    }
    line.play();
    wait_until("access units arrive", || line.frames() > 5);
}

#[test]
fn each_pad_has_exactly_one_name() {
    init();
    let sink = gst::ElementFactory::make("roomwebrtcsink").build().unwrap();
    let template = sink.pad_template("video_%u").unwrap();
    let request = |name: Option<&str>| sink.request_pad(&template, name, None).map(|pad| pad.name());
    assert_eq!(request(Some("video_1")).unwrap(), "video_1");
    assert_eq!(request(Some("video_1")), None, "it already exists");
    assert_eq!(request(Some("video_01")), None, "a second name for the same pad");
    assert_eq!(request(None).unwrap(), "video_0");
    assert_eq!(request(None).unwrap(), "video_2");
}

#[test]
fn threads_that_request_pads_at_the_same_time_get_different_ones() {
    init();
    let sink = gst::ElementFactory::make("roomwebrtcsink").build().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let sink = sink.clone();
            std::thread::spawn(move || {
                let request = |_| sink.request_pad_simple("video_%u").unwrap().name().to_string();
                (0..3).map(request).collect::<Vec<_>>()
            })
        })
        .collect();
    let names: std::collections::BTreeSet<String> =
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(names.len(), 24);
    assert_eq!(sink.sink_pads().len(), 24);
}
