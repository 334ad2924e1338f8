//! Timestamps from the sender's pipeline to the receiver's: seeks, clocks, base times.

use crate::bed::{Server, TestPipeline, Watcher, assert_rising, wait_until};
use gst::prelude::*;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// An H.264 file with 30 frames per second and a keyframe each second.
struct Recording(PathBuf);

impl Recording {
    fn new(name: &str, seconds: u32) -> Self {
        let path = std::env::temp_dir().join(format!("room-{name}-{}.mkv", std::process::id()));
        let line = TestPipeline::play(&format!(
            "videotestsrc num-buffers={} ! video/x-raw,format=I420,width=160,height=120,framerate=30/1 ! \
             x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! matroskamux ! filesink location={}",
            seconds * 30,
            path.display()
        ));
        line.wait(&[gst::MessageType::Eos]);
        Self(path)
    }

    /// A sender that plays the file; `branch` is inserted between the parser and the sink.
    fn player(&self, server: &Server, branch: &str) -> TestPipeline {
        TestPipeline::play(&format!(
            "filesrc location={} ! matroskademux ! h264parse ! {branch} roomwebrtcsink name=s {}",
            self.0.display(),
            server.room()
        ))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn seek_to_start(line: &TestPipeline) {
    line.0.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO).unwrap();
}

/// Asserts that a second of frames takes about a second.
fn assert_paced(watcher: &Watcher) {
    let began = Instant::now();
    watcher.next(45);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1100), "45 frames in {took:?}: not paced by the clock");
    assert!(took < Duration::from_secs(3), "45 frames in {took:?}: held back");
}

/// The RTP timestamps that the sink gives to future sessions.
fn rtp_times(line: &TestPipeline) -> Arc<Mutex<Vec<u32>>> {
    let times = Arc::new(Mutex::new(Vec::new()));
    let list = times.clone();
    line.element().connect("receiver-added", false, move |values| {
        for pad in values[2].get::<gst::Element>().unwrap().sink_pads() {
            let list = list.clone();
            let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
            pad.add_probe(kinds, move |_, info| {
                let mut list = list.lock().unwrap();
                match &info.data {
                    Some(gst::PadProbeData::Buffer(packet)) => add_time(&mut list, packet),
                    Some(gst::PadProbeData::BufferList(packets)) => {
                        packets.iter().for_each(|packet| add_time(&mut list, packet));
                    }
                    _ => {}
                }
                gst::PadProbeReturn::Ok
            });
        }
        None
    });
    times
}

/// Adds the timestamp of an RTP packet (RFC 3550, section 5.1), unless it is that of the previous packet.
fn add_time(list: &mut Vec<u32>, packet: &gst::BufferRef) {
    let mut bytes = [0; 4];
    packet.copy_to_slice(4, &mut bytes).unwrap();
    let time = u32::from_be_bytes(bytes);
    if list.last() != Some(&time) {
        list.push(time);
    }
}

/// Asserts that the frames of the last second are 1/30 s apart in RTP time, which is 3000 ticks.
fn assert_rtp_time_flows(times: &Mutex<Vec<u32>>) {
    let before = times.lock().unwrap().len();
    wait_until("pictures are sent", || times.lock().unwrap().len() > before + 30);
    let times = times.lock().unwrap().clone();
    let mut steps: Vec<u32> =
        times.windows(2).rev().take(25).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    steps.sort_unstable();
    assert!((2000..4000).contains(&steps[12]), "steps of RTP time: {steps:?}");
}

#[test]
fn a_seek_in_paused_continues_immediately_however_long_the_pipeline_has_played() {
    let server = Server::start();
    let recording = Recording::new("paused-seek", 12);
    let sender = recording.player(&server, "");
    let watcher = Watcher::play(&server.room());
    watcher.next(150);
    sender.0.set_state(gst::State::Paused).unwrap();
    seek_to_start(&sender);
    let before = watcher.count();
    let played = Instant::now();
    sender.0.set_state(gst::State::Playing).unwrap();
    wait_until("frames after the seek", || watcher.count() > before + 10);
    assert!(played.elapsed() < Duration::from_millis(2500), "took {:?}", played.elapsed());
    assert_paced(&watcher);
}

#[test]
fn seeks_in_playing_and_pauses_after_them_keep_the_pace() {
    let server = Server::start();
    let recording = Recording::new("playing-seek", 12);
    let sender = recording.player(&server, "");
    let watcher = Watcher::play(&server.room());
    watcher.next(90);
    seek_to_start(&sender);
    watcher.next(5);
    assert_paced(&watcher);
    sender.0.set_state(gst::State::Paused).unwrap();
    sender.0.set_state(gst::State::Playing).unwrap();
    watcher.next(5);
    assert_paced(&watcher);
}

#[test]
fn a_seek_with_another_sink_that_prerolls_continues_immediately() {
    let server = Server::start();
    let recording = Recording::new("preroll", 12);
    let sender = recording.player(
        &server,
        "tee name=t ! queue ! avdec_h264 ! fakesink sync=true t. ! queue max-size-buffers=1 !",
    );
    let watcher = Watcher::play(&server.room());
    watcher.next(120);
    seek_to_start(&sender);
    let before = watcher.count();
    let sought = Instant::now();
    wait_until("frames after the seek", || watcher.count() > before + 10);
    assert!(sought.elapsed() < Duration::from_millis(2500), "took {:?}", sought.elapsed());
    assert_paced(&watcher);
    // A pause afterwards changes nothing.
    sender.0.set_state(gst::State::Paused).unwrap();
    sender.0.set_state(gst::State::Playing).unwrap();
    watcher.next(5);
    assert_paced(&watcher);
}

#[test]
fn the_receiver_gets_the_rate_of_a_seek() {
    let server = Server::start();
    let recording = Recording::new("rate", 20);
    let sender = recording.player(&server, "");
    let watcher = Watcher::play(&server.room());
    watcher.next(30);
    let set = gst::SeekType::Set;
    let start = gst::ClockTime::ZERO;
    sender.0.seek(2.0, gst::SeekFlags::FLUSH, set, start, gst::SeekType::None, gst::ClockTime::NONE).unwrap();
    watcher.next(10);
    let began = Instant::now();
    watcher.next(120);
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(1500) && took < Duration::from_millis(3500),
        "120 frames took {took:?}"
    );
}

#[test]
fn another_clock_does_not_change_rtp_time() {
    let server = Server::start();
    let sender = TestPipeline::new(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=30/1 ! \
         x264enc tune=zerolatency speed-preset=ultrafast ! roomwebrtcsink name=s {}",
        server.room()
    ));
    let times = rtp_times(&sender);
    // The realtime clock is decades ahead of the monotonic clock, which starts at boot.
    let realtime = new_clock(gst::ClockType::Realtime);
    let monotonic = new_clock(gst::ClockType::Monotonic);
    sender.0.use_clock(Some(&realtime));
    sender.0.set_state(gst::State::Playing).unwrap();
    let watcher = Watcher::play(&server.room());
    watcher.next(10);
    assert_rtp_time_flows(&times);
    let first = times.lock().unwrap().last().copied().unwrap();
    let began = Instant::now();

    // The clock changes in the same session, after a pause.
    sender.0.set_state(gst::State::Paused).unwrap();
    sender.0.use_clock(Some(&monotonic));
    sender.0.set_clock(Some(&monotonic)).unwrap();
    sender.0.set_state(gst::State::Playing).unwrap();
    assert_rtp_time_flows(&times);
    let passed = times.lock().unwrap().last().unwrap().wrapping_sub(first);
    let expected = u32::try_from(began.elapsed().as_millis()).unwrap() * 90;
    assert!(passed.abs_diff(expected) < 90_000, "{passed} ticks of RTP time, and {expected} of the clock");

    // The clock changes between two sessions, in READY.
    sender.0.set_state(gst::State::Ready).unwrap();
    sender.0.use_clock(Some(&realtime));
    sender.0.set_state(gst::State::Playing).unwrap();
    watcher.next(10);
    assert_rtp_time_flows(&times);
    sender.0.set_state(gst::State::Ready).unwrap();
    sender.0.use_clock(Some(&monotonic));
    sender.0.set_state(gst::State::Playing).unwrap();
    watcher.next(10);
    assert_rtp_time_flows(&times);
    assert_rising(&watcher.all());
}

/// A clock that is not the default object.
fn new_clock(kind: gst::ClockType) -> gst::Clock {
    gst::glib::Object::builder::<gst::SystemClock>().property("clock-type", kind).build().upcast()
}

#[test]
fn a_receiver_with_another_clock_than_the_sessions_is_on_time() {
    let server = Server::start();
    let _sender = server.sender("camera", 160);
    let watcher = Watcher::new(&server.room());
    watcher.line.0.use_clock(Some(&new_clock(gst::ClockType::Realtime)));
    watcher.line.0.set_state(gst::State::Playing).unwrap();
    let frames = watcher.next(60);
    assert_rising(&frames);
    let late = frames.iter().filter(|frame| frame.age > Duration::from_millis(150)).count();
    assert!(late < 6, "{late} of 60 frames were late: {frames:?}");
}

#[test]
fn two_sinks_in_one_pipeline_send_independently() {
    let server = Server::start();
    let sender = TestPipeline::play(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=30/1 ! \
         x264enc tune=zerolatency speed-preset=ultrafast ! tee name=t ! queue ! roomwebrtcsink name=s {} \
         t. ! queue ! roomwebrtcsink name=s2 signaling-uri={} room=other",
        server.room(),
        server.uri()
    ));
    let one = Watcher::play(&server.room());
    let two = Watcher::play(&format!("signaling-uri={} room=other", server.uri()));
    for watcher in [&one, &two] {
        watcher.next(10);
        assert_paced(watcher);
        assert_rising(&watcher.all());
    }
    sender.assert_no_error();
}
