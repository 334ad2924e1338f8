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
fn formats_that_no_browser_decodes_are_refused_however_they_arrive() {
    for raw in ["Y444", "Y42B", "I420_10LE"] {
        let profile = match raw {
            "Y444" => "high-4:4:4",
            "Y42B" => "high-4:2:2",
            _ => "high-10",
        };
        let encoder = format!("video/x-raw,format={raw} ! x264enc ! video/x-h264,profile={profile}");
        for way in [
            "h264parse",
            "h264parse ! video/x-h264,stream-format=avc",
            "h264parse ! video/x-h264,stream-format=byte-stream ! capssetter replace=true caps=video/x-h264,stream-format=byte-stream,alignment=au",
            "rtph264pay ! rtph264depay",
        ] {
            let line = Line::new(&format!(
                "videotestsrc num-buffers=200 ! {encoder} ! {way} ! {SERVER} tune-upstream=false"
            ));
            let error = line.play().error();
            assert!(error.contains(profile), "{way}: {error}");
            assert!(
                error.contains("profile=constrained-baseline") && error.contains("format=I420"),
                "{way}: {error}"
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
fn files_in_a_row_are_no_b_frames() {
    let folder = std::env::temp_dir().join(format!("room-loop-{}.mp4", std::process::id()));
    let file = folder.to_str().unwrap();
    let writer = Line::new(&format!(
        "videotestsrc num-buffers=10 ! video/x-raw,format=I420 ! x264enc bframes=0 ! h264parse ! mp4mux ! filesink location={file}"
    ));
    writer.play().wait(&[gst::MessageType::Eos]);
    drop(writer);
    let files = format!("filesrc location={file} ! qtdemux ! queue ! c. ").repeat(6);
    let line = Line::new(&format!("concat name=c ! h264parse ! {SERVER} {files}"));
    let end = line.play().wait(&[gst::MessageType::Eos, gst::MessageType::Error]);
    std::fs::remove_file(file).unwrap();
    if let gst::MessageView::Error(error) = end.view() {
        panic!("{}", error.error());
    }
    wait_until("all frames are counted", || line.frames() == 60);
}

#[test]
fn an_encoder_that_is_linked_while_playing_is_tuned() {
    let line = Line::new(&format!("videotestsrc is-live=true ! x264enc ! {SERVER}"));
    line.play();
    wait_until("frames come", || line.frames() > 5);
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
fn an_encoder_whose_link_comes_with_its_data_is_tuned() {
    // decodebin gets its pad while the pipeline starts: only then is the rest of the line linked.
    let file = std::env::temp_dir().join(format!("room-late-{}.mkv", std::process::id()));
    let path = file.to_str().unwrap();
    let writer = Line::new(&format!(
        "videotestsrc num-buffers=60 ! x264enc ! h264parse ! matroskamux ! filesink location={path}"
    ));
    writer.play().wait(&[gst::MessageType::Eos]);
    drop(writer);
    let line =
        Line::new(&format!("filesrc location={path} ! decodebin ! videoconvert ! x264enc name=e ! {SERVER}"));
    line.play();
    wait_until("frames come", || line.frames() > 5);
    std::fs::remove_file(file).unwrap();
    let encoder = line.0.by_name("e").unwrap();
    assert_eq!(encoder.property::<u32>("key-int-max"), 60);
    assert_eq!(encoder.property::<u32>("vbv-buf-capacity"), 120);
}

#[test]
fn an_encoder_that_is_at_work_is_pointed_out_once() {
    let line = Line::new(&format!(
        "videotestsrc is-live=true ! video/x-raw,format=I420 ! x264enc name=e ! tee name=t ! queue ! fakesink {SERVER}"
    ));
    line.sink().set_locked_state(true);
    line.play();
    wait_until("the encoder works", || {
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
fn only_the_encoder_is_blamed_for_delay_and_only_once() {
    let warnings = |line: &Line| {
        let bus = line.0.bus().unwrap();
        std::iter::from_fn(move || bus.pop_filtered(&[gst::MessageType::Warning, gst::MessageType::Error]))
            .map(|message| match message.view() {
                gst::MessageView::Warning(warning) => warning.error().to_string(),
                _ => panic!("{message:?}"),
            })
            .collect::<Vec<_>>()
    };
    // A second of frames waits in the queue, not in the encoder.
    let line = Line::new(&format!(
        "videotestsrc is-live=true ! queue min-threshold-time=300000000 ! x264enc tune=zerolatency ! h264parse ! {SERVER} \
         tune-upstream=false"
    ));
    line.play();
    wait_until("frames come", || line.frames() > 10);
    assert_eq!(warnings(&line), [""; 0]);
    drop(line);

    let line = Line::new(&format!(
        "videotestsrc is-live=true ! capsfilter name=f caps=video/x-raw,width=320,height=240 ! x264enc ! {SERVER} \
         tune-upstream=false"
    ));
    line.play();
    wait_until("frames come", || line.frames() > 0);
    let wider: gst::Caps = "video/x-raw,width=640,height=480".parse().unwrap();
    line.0.by_name("f").unwrap().set_property("caps", wider);
    wait_until("the size changes", || {
        let caps = line.input().static_pad("sink").unwrap().current_caps();
        caps.is_some_and(|caps| caps.structure(0).unwrap().get("width") == Ok(640))
    });
    let told = warnings(&line);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told.iter().all(|text| text.contains("tune=zerolatency")), "{told:?}");
}

#[test]
fn data_without_caps_or_times_is_refused_with_an_error_that_names_the_fix() {
    let file = std::env::temp_dir().join(format!("room-raw-{}.h264", std::process::id()));
    std::fs::write(&file, [0, 0, 0, 1, 9, 0xf0]).unwrap();
    let line = Line::new(&format!("filesrc location={} ! {SERVER}", file.to_str().unwrap()));
    let error = line.play().error();
    std::fs::remove_file(file).unwrap();
    assert!(error.contains("h264parse"), "{error}");

    let line = Line::new(&format!("appsrc name=a caps=video/x-vp8 ! {SERVER}"));
    line.play();
    let source = line.0.by_name("a").unwrap();
    let _ = source.emit_by_name::<gst::FlowReturn>("push-buffer", &[&gst::Buffer::from_slice([0x51, 0, 0])]);
    let error = line.error();
    assert!(error.contains("format=time"), "{error}");
}

/// A temporary file that is removed.
struct Temporary(std::path::PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("room-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes a byte stream of so many pictures without timestamps.
fn byte_stream(file: &Temporary, encoder: &str, pictures: u32) {
    let writer = Line::new(&format!(
        "videotestsrc num-buffers={pictures} ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! {encoder} ! \
         video/x-h264,stream-format=byte-stream ! filesink location={}",
        file.path()
    ));
    writer.play().wait(&[gst::MessageType::Eos]);
    assert!(std::fs::metadata(&file.0).unwrap().len() > 0, "{encoder}");
}

#[test]
fn a_file_without_timestamps_is_paced() {
    let file = Temporary::new("untimed.264");
    for (encoder, rate) in [("x264enc tune=zerolatency", true), ("openh264enc", false)] {
        byte_stream(&file, encoder, 50);
        let line = Line::new(&format!("filesrc location={} ! h264parse ! {SERVER}", file.path()));
        let start = Instant::now();
        line.play();
        let mut warned = false;
        loop {
            let all = [gst::MessageType::Eos, gst::MessageType::Error, gst::MessageType::Warning];
            match line.wait(&all).view() {
                gst::MessageView::Eos(_) => break,
                gst::MessageView::Warning(warning) => {
                    let text = warning.error().to_string();
                    assert!(text.contains("frame rate"), "{encoder}: {text}");
                    warned = true;
                }
                other => panic!("{encoder}: {other:?}"),
            }
        }
        assert!(start.elapsed() >= Duration::from_millis(1900), "{encoder}: {:?}", start.elapsed());
        assert_eq!(warned, !rate, "{encoder}: a stream that names its frame rate needs no warning");
    }
    // The frame rate can be named.
    let rate = "capssetter join=true caps=video/x-h264,framerate=50/1";
    let line = Line::new(&format!("filesrc location={} ! h264parse ! {rate} ! {SERVER}", file.path()));
    let start = Instant::now();
    let end = line.play().wait(&[gst::MessageType::Eos, gst::MessageType::Error, gst::MessageType::Warning]);
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    assert!(start.elapsed() >= Duration::from_millis(950), "{:?}", start.elapsed());
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
fn a_camera_that_writes_into_a_pipe_faster_than_its_header_says_is_not_held_back() {
    use std::{io::Write, os::fd::AsRawFd};
    let file = Temporary::new("camera.264");
    byte_stream(&file, "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30", 180);
    let reader = Line::new(&format!(
        "filesrc location={} ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=a sync=false",
        file.path()
    ));
    reader.play();
    let sink = reader.0.by_name("a").unwrap();
    let units: Vec<Vec<u8>> = std::iter::from_fn(|| {
        let sample = sink.emit_by_name::<Option<gst::Sample>>("pull-sample", &[])?;
        Some(sample.buffer().unwrap().map_readable().unwrap().to_vec())
    })
    .collect();
    assert_eq!(units.len(), 180);

    let (output, mut input) = std::io::pipe().unwrap();
    let line = Line::new(&format!("fdsrc fd={} ! h264parse ! {SERVER}", output.as_raw_fd()));
    line.play();
    let start = Instant::now();
    let camera = std::thread::spawn(move || {
        // 60 pictures a second; the header says 25.
        let mut due = Instant::now();
        for unit in units {
            input.write_all(&unit).unwrap();
            due += Duration::from_micros(16_667);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    });
    wait_until("all pictures are sent", || line.frames() >= 178);
    let took = start.elapsed();
    camera.join().unwrap();
    assert!(took < Duration::from_secs(180 / 25 - 1), "{took:?}: as long as the header says");
}

#[test]
fn an_odd_size_is_scaled_where_a_scaler_is_and_pointed_out_otherwise() {
    let source = "videotestsrc is-live=true ! video/x-raw,format=I420,width=641,height=481";
    let line = Line::new(&format!("{source} ! videoscale ! x264enc ! {SERVER}"));
    line.play();
    wait_until("frames come", || line.frames() > 5);
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
fn a_source_in_rgb_is_converted_to_what_browsers_decode() {
    // Among the formats of x264enc, 4:4:4 would lose least.
    let line = Line::new(&format!(
        "videotestsrc is-live=true ! video/x-raw,format=BGRx ! videoconvert ! x264enc ! {SERVER}"
    ));
    line.play();
    wait_until("frames come", || line.frames() > 5);
    let caps = line.input().static_pad("sink").unwrap().current_caps().unwrap();
    assert_eq!(caps.structure(0).unwrap().get::<&str>("profile"), Ok("constrained-baseline"));
}

#[test]
fn a_size_that_is_no_multiple_of_16_is_sent_as_it_is() {
    let line = Line::new(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=1366,height=768 ! x264enc ! {SERVER}"
    ));
    line.play();
    wait_until("frames come", || line.frames() > 5);
    let caps = line.input().static_pad("sink").unwrap().current_caps().unwrap();
    assert_eq!(caps.structure(0).unwrap().get("width"), Ok(1366));
}

#[test]
fn interlaced_pictures_are_pointed_out() {
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
        wait_until("frames come", || line.frames() > 5);
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
    wait_until("frames come", || line.frames() > 5);
}

#[test]
fn data_may_follow_an_end_of_stream_that_came_before_any() {
    let line = Line::new(&format!("appsrc name=a is-live=true format=time ! identity name=i ! {SERVER}"));
    line.play();
    let output = line.0.by_name("i").unwrap().static_pad("src").unwrap();
    let source = line.0.by_name("a").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    assert!(output.push_event(gst::event::StreamStart::new("nothing")));
    assert!(output.push_event(gst::event::Eos::new()));
    line.wait(&[gst::MessageType::Eos]);
    // A flush takes the end of the stream back, without a change of state.
    assert!(output.push_event(gst::event::FlushStart::new()));
    assert!(output.push_event(gst::event::FlushStop::new(true)));
    source.set_caps(Some(&"video/x-vp8,width=2,height=2,framerate=30/1".parse().unwrap()));
    wait_until("frames come", || {
        let mut buffer = gst::Buffer::from_slice([0_u8; 10]);
        buffer.make_mut().set_pts(gst::ClockTime::ZERO);
        source.push_buffer(buffer).unwrap();
        line.frames() > 5
    });
    assert!(line.0.bus().unwrap().pop_filtered(&[gst::MessageType::Error]).is_none());
}

#[test]
fn an_element_that_the_server_refused_stops_at_once() {
    let server = room_signaling_server::spawn_thread(room_signaling_server::Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
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

fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}

#[test]
fn a_start_that_fails_leaves_no_thread_and_no_port() {
    init();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    let sink = gst::ElementFactory::make("roomwebrtcsink")
        .property("run-signaling-server", true)
        .property("signaling-server-listen", &address)
        .build()
        .unwrap();
    assert!(sink.set_state(gst::State::Ready).is_err(), "the port is taken");
    drop(free);
    let child = gst::ElementFactory::make("fakesink").build().unwrap();
    child.set_property_from_str("state-error", "null-to-ready");
    sink.downcast_ref::<gst::Bin>().unwrap().add(&child).unwrap();
    assert!(sink.set_state(gst::State::Ready).is_err(), "a child fails after the server has started");
    std::net::TcpListener::bind(&address).expect("the port is free again");
    let left: Vec<String> = threads().into_iter().filter(|name| name.starts_with("room-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_id_in_the_room_can_be_read_while_the_element_is_in_it() {
    let line = Line::new(&format!("videotestsrc is-live=true ! x264enc ! {SERVER} client-id=camera"));
    let sink = line.sink();
    assert_eq!(sink.property::<Option<String>>("assigned-client-id"), None);
    line.play();
    wait_until("the room", || sink.property::<Option<String>>("assigned-client-id").is_some());
    assert_eq!(sink.property::<Option<String>>("assigned-client-id").unwrap(), "camera");
    line.0.set_state(gst::State::Null).unwrap();
    assert_eq!(sink.property::<Option<String>>("assigned-client-id"), None);
}
