//! roomwebrtcsink at the edge to its pipeline: caps, tuning, pacing, end of stream, and words for what is wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use gst::prelude::*;
use std::time::{Duration, Instant};

fn init() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstroomwebrtc::plugin_register_static().unwrap();
    });
}

/// A pipeline that is always taken down.
struct Line(gst::Pipeline);

impl Line {
    fn new(description: &str) -> Self {
        init();
        Self(gst::parse::launch(description).unwrap().downcast().unwrap())
    }

    fn play(&self) -> &Self {
        // A failure shows on the bus.
        let _ = self.0.set_state(gst::State::Playing);
        self
    }

    /// The first message of these types, within 20 s.
    fn wait(&self, types: &[gst::MessageType]) -> gst::Message {
        let bus = self.0.bus().unwrap();
        bus.timed_pop_filtered(gst::ClockTime::from_seconds(20), types).expect("a message within 20 s")
    }

    fn error(&self) -> String {
        match self.wait(&[gst::MessageType::Error, gst::MessageType::Eos]).view() {
            gst::MessageView::Error(error) => error.error().to_string(),
            _ => panic!("the stream ended without an error"),
        }
    }

    fn sink(&self) -> gst::Element {
        self.0.by_name("s").unwrap()
    }

    fn frames(&self) -> u64 {
        self.sink().property::<gst::Structure>("stats").get("frames").unwrap_or_default()
    }

    fn input(&self) -> gst::Element {
        self.0.by_name("input-video_0").expect("the pad has its chain")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

const SERVER: &str = "roomwebrtcsink name=s run-signaling-server=true signaling-server-listen=127.0.0.1:0";

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_bare_x264enc_is_paced_tuned_and_constrained_baseline() {
    let line = Line::new(&format!("videotestsrc num-buffers=45 ! x264enc name=e ! {SERVER}"));
    let start = Instant::now();
    line.play();
    let tuned = line.wait(&[gst::MessageType::Element]);
    let words = tuned.structure().unwrap();
    assert_eq!(words.name(), "room-upstream-tuned");
    assert!(words.get::<&str>("properties").unwrap().contains("tune=zerolatency"));
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
fn live_input_is_not_held_back() {
    let line = Line::new(&format!("videotestsrc is-live=true ! x264enc ! h264parse ! queue ! {SERVER}"));
    line.play();
    wait_until("frames come", || line.0.by_name("input-video_0").is_some() && line.frames() > 5);
    assert!(!line.input().property::<bool>("sync"));
}

#[test]
fn tuning_can_be_switched_off_and_a_late_encoder_is_pointed_out() {
    let line =
        Line::new(&format!("videotestsrc is-live=true ! x264enc name=e ! {SERVER} tune-upstream=false"));
    line.play();
    let warning = line.wait(&[gst::MessageType::Warning, gst::MessageType::Error]);
    let gst::MessageView::Warning(warning) = warning.view() else { panic!("{warning:?}") };
    assert!(warning.error().to_string().contains("tune=zerolatency"), "{warning:?}");
    assert_eq!(line.0.by_name("e").unwrap().property::<u32>("key-int-max"), 0);
}

#[test]
fn what_nobody_decodes_is_refused_with_words() {
    for (encoder, words) in [
        ("video/x-raw,format=Y444 ! x264enc ! video/x-h264,profile=high-4:4:4 ! h264parse", "format=I420"),
        ("x264enc bframes=2 b-adapt=false ! video/x-h264,profile=main ! h264parse", "bframes=0"),
    ] {
        let line =
            Line::new(&format!("videotestsrc num-buffers=200 ! {encoder} ! {SERVER} tune-upstream=false"));
        let error = line.play().error();
        assert!(
            error.contains(words) || error.contains("not-negotiated") && words.contains("I420"),
            "{error}"
        );
    }
}

#[test]
fn a_size_may_change_in_mid_stream() {
    let line = Line::new(&format!(
        "videotestsrc num-buffers=60 ! capsfilter name=f caps=video/x-raw,width=320,height=240 ! x264enc ! {SERVER}"
    ));
    line.play();
    wait_until("frames come", || line.frames() > 10);
    let wider: gst::Caps = "video/x-raw,width=640,height=480".parse().unwrap();
    line.0.by_name("f").unwrap().set_property("caps", wider);
    let end = line.wait(&[gst::MessageType::Eos, gst::MessageType::Error]);
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    let caps = line.input().static_pad("sink").unwrap().current_caps().unwrap();
    assert_eq!(caps.structure(0).unwrap().get::<i32>("width"), Ok(640));
}

#[test]
fn a_stream_that_ends_before_it_began_still_ends() {
    let line = Line::new(&format!("videotestsrc num-buffers=0 ! x264enc ! {SERVER}"));
    line.play();
    let end = line.wait(&[gst::MessageType::Eos, gst::MessageType::Error]);
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
}

#[test]
fn wrong_configuration_is_an_error_at_once_and_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("run-signaling-server=true signaling-server-listen={}", taken.local_addr().unwrap());
    for (setting, words) in [
        ("signaling-uri=http://127.0.0.1:1", "ws://"),
        ("signaling-uri=ws://", "ws://192.0.2.1:8765"),
        ("room=\"\u{202e}x\"", "room"),
        ("client-id=\" \"", "client-id"),
        ("meta={", "meta"),
        ("ice-servers=x", "ice-servers"),
        ("stun-server=stun.example", "stun://"),
        ("tls-ca-file=/nonexistent/ca.pem signaling-uri=wss://127.0.0.1:1", "ca.pem"),
        ("run-signaling-server=true signaling-server-listen=nowhere", "address:port"),
        (taken.as_str(), "another port"),
    ] {
        let line =
            Line::new(&format!("videotestsrc is-live=true ! x264enc ! roomwebrtcsink name=s {setting}"));
        let error = line.play().error();
        assert!(error.contains(words), "{setting}: {error}");
    }
}

#[test]
fn a_server_that_is_not_there_is_a_state_and_no_error() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let line = Line::new(&format!(
        "videotestsrc num-buffers=30 ! x264enc ! roomwebrtcsink name=s signaling-uri=ws://{free}"
    ));
    line.play();
    let end = line.wait(&[gst::MessageType::Eos, gst::MessageType::Error]);
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    let state = line.sink().property_value("signaling-state").serialize().unwrap();
    assert!(["connecting", "reconnecting"].contains(&state.as_str()), "{state}");
}

#[test]
fn states_may_go_up_and_down_and_pads_come_and_go() {
    let line = Line::new(&format!("videotestsrc is-live=true ! x264enc ! {SERVER}"));
    for _ in 0..3 {
        line.play();
        wait_until("in the room", || {
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
fn the_sink_has_no_more_pads_than_a_session_can_have_streams() {
    init();
    let sink = gst::ElementFactory::make("roomwebrtcsink").build().unwrap();
    let pads: Vec<gst::Pad> = (0..40).map_while(|_| sink.request_pad_simple("video_%u")).collect();
    assert_eq!(pads.len(), 30);
    sink.release_request_pad(pads.last().unwrap());
    assert!(sink.request_pad_simple("video_%u").is_some(), "a released pad makes room for another");
}

#[test]
fn an_element_that_the_server_refused_stops_at_once() {
    let server = room_signaling_server::spawn_thread(room_signaling_server::Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        drain: Duration::ZERO,
        ..room_signaling_server::Config::default()
    })
    .unwrap();
    let sender = || {
        let uri = format!("ws://{}", server.local_addr());
        Line::new(&format!(
            "videotestsrc is-live=true ! x264enc ! roomwebrtcsink name=s client-id=cam signaling-uri={uri}"
        ))
    };
    let first = sender();
    first.play();
    wait_until("in the room", || {
        first.sink().property_value("signaling-state").serialize().unwrap() == "joined"
    });
    let second = sender();
    let error = second.play().error();
    assert!(error.contains("in use by another process"), "{error}");
    wait_until("told so", || {
        second.sink().property_value("signaling-state").serialize().unwrap() == "failed"
    });
    let stopping = Instant::now();
    second.0.set_state(gst::State::Null).unwrap();
    // Far below what stopping would wait for a conductor that doesn't end.
    assert!(stopping.elapsed() < Duration::from_secs(3), "{:?}", stopping.elapsed());
}

#[test]
fn a_pad_is_requested_under_its_one_name() {
    init();
    let sink = gst::ElementFactory::make("roomwebrtcsink").build().unwrap();
    let template = sink.pad_template("video_%u").unwrap();
    let request = |name: Option<&str>| sink.request_pad(&template, name, None).map(|pad| pad.name());
    assert_eq!(request(Some("video_1")).unwrap(), "video_1");
    assert_eq!(request(Some("video_1")), None, "it exists already");
    assert_eq!(request(Some("video_01")), None, "a second name for the same pad");
    assert_eq!(request(None).unwrap(), "video_0");
    assert_eq!(request(None).unwrap(), "video_2");
}

#[test]
fn threads_that_request_pads_at_once_get_different_ones() {
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
