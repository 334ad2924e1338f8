//! Senders that change: another codec, another pad, a `bye` while another sender is present. An EOS event without a
//! sender. Pipelines with a high latency.

use crate::bed::{Server, TestPipeline, Watcher, assert_rising, wait_until};
use gst::prelude::*;

fn vp8_sender(server: &Server, id: &str, width: u32) -> TestPipeline {
    TestPipeline::play(&format!(
        "videotestsrc is-live=true ! video/x-raw,width={width},height=120,framerate=30/1 ! vp8enc deadline=1 ! \
         roomwebrtcsink name=s client-id={id} {}",
        server.room()
    ))
}

/// Adds another H.264 branch to a sender.
fn add_pad(sender: &TestPipeline, width: u32) {
    let branch = gst::parse::bin_from_description(
        &format!(
            "videotestsrc is-live=true ! video/x-raw,width={width},height=120 ! x264enc tune=zerolatency"
        ),
        true,
    );
    let branch = branch.unwrap();
    sender.0.add(&branch).unwrap();
    branch.link(&sender.element()).unwrap();
    branch.sync_state_with_parent().unwrap();
}

#[test]
fn a_restarted_sender_with_another_codec_ends_the_pad_and_gets_another_one() {
    let server = Server::start();
    let sender = server.sender("camera", 160);
    let watcher = Watcher::play(&server.room());
    watcher.first_of(160);
    let ended = watcher.expect_eos("video_0");
    sender.stop();
    let _sender = vp8_sender(&server, "camera", 320);
    let first = watcher.first_of(320);
    assert_eq!((first.pad.as_str(), first.media.as_str()), ("video_1", "video/x-vp8"));
    wait_until("EOS on the first pad", || ended.load(std::sync::atomic::Ordering::Relaxed));
    let pads =
        || watcher.line.element().src_pads().iter().map(gst::prelude::GstObjectExt::name).collect::<Vec<_>>();
    wait_until("the first pad is gone", || pads() == ["video_1"]);
    watcher.next(10);
    watcher.line.assert_no_error();
}

#[test]
fn a_codec_that_changes_back_and_forth_never_reuses_the_name_of_a_pad_that_exists() {
    let server = Server::start();
    let watcher = Watcher::play(&server.room());
    for round in 0..2 {
        let h264 = server.sender("camera", 160 + round * 16);
        watcher.first_of(i32::try_from(160 + round * 16).unwrap());
        h264.stop();
        let vp8 = vp8_sender(&server, "camera", 320 + round * 16);
        watcher.first_of(i32::try_from(320 + round * 16).unwrap());
        vp8.stop();
    }
    watcher.line.assert_no_error();
}

#[test]
fn a_sender_that_adds_a_pad_keeps_its_receiver_although_another_sender_is_present() {
    let server = Server::start();
    let first = server.sender("zebra", 160);
    let watcher = Watcher::play(&server.room());
    watcher.first_of(160);
    let _other = server.sender("ant", 320);
    watcher.next(30);
    while watcher.line.0.bus().unwrap().pop().is_some() {}
    add_pad(&first, 176);
    watcher.first_of(176);
    watcher.next(60);
    assert!(watcher.all().iter().all(|frame| frame.width != 320), "the other sender is shown");
    let states = watcher.element_messages("room-signaling-state");
    assert!(states.is_empty(), "the element left the room: {states:?}");
}

#[test]
fn after_a_bye_without_another_offer_the_other_sender_is_received() {
    let server = Server::start();
    let first = server.sender("zebra", 160);
    let watcher = Watcher::play(&format!("{} client-id=viewer", server.room()));
    watcher.first_of(160);
    let _other = server.sender("ant", 320);
    watcher.next(30);
    first.element().emit_by_name::<()>("kick", &[&"viewer"]);
    watcher.first_of(320);
    assert_rising(&watcher.all());
}

#[test]
fn an_eos_event_without_a_sender_ends_the_pipeline() {
    let server = Server::start();
    for others in ["", "videotestsrc is-live=true ! fakesink async=false"] {
        let line = TestPipeline::play(&format!(
            "roomwebrtcsrc name=s {} ! fakesink async=false {others}",
            server.room()
        ));
        wait_until("in the room", || line.signaling_state() == "joined");
        assert!(line.0.send_event(gst::event::Eos::new()));
        let end = line.wait(&[gst::MessageType::Eos, gst::MessageType::Error]);
        assert_eq!(end.type_(), gst::MessageType::Eos, "{others}: {end:?}");
        wait_until("out of the room", || line.signaling_state() == "closed");
    }
}

#[test]
fn a_pipeline_with_more_latency_than_the_jitter_buffer_loses_no_frame() {
    let server = Server::start();
    let _sender = server.sender("camera", 160);
    let line = TestPipeline::new(&format!(
        "roomwebrtcsrc name=s {} ! h264parse ! fakesink name=f sync=true",
        server.room()
    ));
    line.0.set_latency(gst::ClockTime::from_seconds(3));
    line.0.set_state(gst::State::Playing).unwrap();
    assert_eq!(dropped_while_rendering(&line, 60), 0);
}

#[test]
fn a_sink_that_is_late_on_purpose_loses_frames_at_the_start_only() {
    let server = Server::start();
    let _sender = server.sender("camera", 160);
    let line = TestPipeline::play(&format!(
        "roomwebrtcsrc name=s {} ! h264parse ! fakesink name=f sync=true ts-offset=2000000000",
        server.room()
    ));
    let mut frames = 0;
    // One second of frames is lost before the delay is recognized.
    wait_until("three seconds without a loss", || {
        frames += 90;
        dropped_while_rendering(&line, frames) == 0
    });
}

fn dropped(line: &TestPipeline) -> u64 {
    let stats = line.element().property::<gst::Structure>("stats");
    stats.get::<gst::Structure>("video_0").map_or(0, |pad| pad.get::<u64>("dropped").unwrap())
}

/// The number of access units that are dropped until `frames` are rendered, without those before the first keyframe.
fn dropped_while_rendering(line: &TestPipeline, frames: u64) -> u64 {
    let sink = line.0.by_name("f").unwrap();
    let rendered = || sink.property::<gst::Structure>("stats").get::<u64>("rendered").unwrap_or(0);
    wait_until("the first frame", || rendered() > 0);
    let before = dropped(line);
    wait_until("frames", || rendered() >= frames);
    dropped(line) - before
}
