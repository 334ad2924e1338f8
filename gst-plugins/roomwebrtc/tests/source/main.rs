//! Tests of roomwebrtcsrc with a real server and real senders. Each test runs in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
mod changes;
mod refresh;
mod time;

use bed::{PATIENCE, Server, TestPipeline, Watcher, assert_rising, plain_sender, wait_until};
use gst::prelude::*;
use room_signaling_client::{
    ClientConfig, Event, Options, new_instance,
    protocol::{ClientId, RoomId, SessionId},
    wire::{Body, Role, Signal},
};
use std::time::Duration;

/// The main function of a sender process. Does nothing when it runs as a test.
#[test]
fn child_process() {
    bed::be_child_process();
}

#[test]
fn a_stream_arrives_depayloaded_parsed_and_on_time() {
    let server = Server::start();
    let _sender = server.sender("camera", 320);
    let watcher = Watcher::play(&server.room());
    wait_until("two seconds of frames", || watcher.count() >= 60);
    let frames = watcher.all();
    let first = &frames[0];
    assert_eq!((first.media.as_str(), first.width), ("video/x-h264", 320));
    assert!(first.key && first.discont, "{first:?}");
    assert!(!frames[5].key && !frames[5].discont, "{:?}", frames[5]);
    assert_rising(&frames);
    let mut ages: Vec<Duration> = frames.iter().map(|frame| frame.age).collect();
    ages.sort();
    let median = ages[ages.len() / 2];
    assert!(median < Duration::from_millis(40), "the frames arrived {median:?} after their time");
    let span = frames[frames.len() - 1].pts - frames[10].pts;
    let expected = gst::ClockTime::from_mseconds(33) * u64::try_from(frames.len() - 11).unwrap();
    assert!(span > expected * 9 / 10 && span < expected * 11 / 10, "{span} for {expected}");
    assert_eq!(*watcher.pads.lock().unwrap(), ["video_0", "no more"]);
    wait_until("the sender's time", || watcher.all().last().is_some_and(|frame| frame.captured.is_some()));
    let stats = watcher.line.element().property::<gst::Structure>("stats");
    assert_eq!(stats.get::<&str>("sender-id"), Ok("camera"));
    wait_until("webrtcbin's statistics are among them", || {
        watcher.line.element().property::<gst::Structure>("stats").has_field("webrtc")
    });
    watcher.line.assert_no_error();
}

#[test]
fn without_a_sender_it_is_live_and_reports_its_latency() {
    let server = Server::start();
    let line = TestPipeline::new(&format!("roomwebrtcsrc name=s latency=70 {}", server.room()));
    let source = line.element();
    assert_eq!(line.0.set_state(gst::State::Paused), Ok(gst::StateChangeSuccess::NoPreroll));
    assert_eq!(line.0.set_state(gst::State::Playing), Ok(gst::StateChangeSuccess::Success));
    let mut query = gst::query::Latency::new();
    assert!(source.query(&mut query));
    let (latency, held) = (gst::ClockTime::from_mseconds(70), gst::ClockTime::from_seconds(10));
    assert_eq!(query.result(), (true, latency, Some(latency + held)));
    assert_eq!(line.0.set_state(gst::State::Paused), Ok(gst::StateChangeSuccess::NoPreroll));
    wait_until("in the room", || line.signaling_state() == "joined");
}

#[test]
fn two_streams_leave_two_pads_and_a_codec_that_is_not_accepted_is_not_received() {
    let server = Server::start();
    let room = server.room();
    let _sender = TestPipeline::play(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=160,height=120 ! x264enc tune=zerolatency ! s.video_0 \
         videotestsrc is-live=true ! video/x-raw,width=320,height=240 ! vp8enc deadline=1 ! s.video_1 \
         roomwebrtcsink name=s {room}"
    ));
    let both = Watcher::play(&room);
    let one = Watcher::play(&format!("{room} codecs=<vp8>"));
    wait_until("all pads", || both.pads.lock().unwrap().len() == 3 && one.pads.lock().unwrap().len() == 2);
    assert_eq!(both.pads.lock().unwrap().last().unwrap(), "no more");
    assert_eq!(*one.pads.lock().unwrap(), ["video_0", "no more"]);
    for (pad, media) in [("video_0", "video/x-h264"), ("video_1", "video/x-vp8")] {
        let frames = || both.all().into_iter().filter(|frame| frame.pad == pad).collect::<Vec<_>>();
        wait_until(pad, || frames().len() > 10);
        assert!(frames().iter().all(|frame| frame.media == media), "{pad}");
        assert_rising(&frames());
    }
    assert!(one.next(10).iter().all(|frame| frame.media == "video/x-vp8"));
}

#[test]
fn a_sender_that_said_bye_and_rejoins_resumes_on_the_same_pad() {
    let server = Server::start();
    let sender = server.sender("camera", 160);
    let watcher = Watcher::play(&server.room());
    watcher.first_of(160);
    sender.stop();
    let _sender = server.sender("camera", 320);
    let first = watcher.first_of(320);
    assert!(first.key && first.discont, "{first:?}");
    assert!(first.age < Duration::from_secs(1), "{first:?} follows the clock");
    watcher.next(30);
    assert_rising(&watcher.all());
    assert_eq!(*watcher.pads.lock().unwrap(), ["video_0", "no more"]);
    watcher.line.assert_no_error();
}

#[test]
fn a_killed_sender_that_restarts_resumes_on_the_same_pad() {
    let server = Server::start();
    let mut sender = server.sender_process("camera", 160);
    let watcher = Watcher::play(&server.room());
    watcher.first_of(160);
    sender.kill();
    let _sender = server.sender_process("camera", 320);
    let first = watcher.first_of(320);
    assert!(first.key && first.discont, "{first:?}");
    watcher.next(10);
    assert_rising(&watcher.all());
    assert_eq!(*watcher.pads.lock().unwrap(), ["video_0", "no more"]);
    watcher.line.assert_no_error();
}

#[test]
fn the_first_sender_is_kept_until_it_leaves_and_the_next_one_follows() {
    let server = Server::start();
    let first = server.sender("first", 160);
    let watcher = Watcher::play(&server.room());
    watcher.first_of(160);
    let _second = server.sender("second", 320);
    assert!(watcher.next(45).iter().all(|frame| frame.width == 160));
    first.stop();
    assert!(watcher.first_of(320).discont);
    assert_rising(&watcher.all());
    assert_eq!(*watcher.pads.lock().unwrap(), ["video_0", "no more"]);
}

#[test]
fn only_the_sender_named_by_sender_id_is_received() {
    let server = Server::start();
    let _other = server.sender("other", 160);
    let watcher = Watcher::play(&format!("{} sender-id=mine", server.room()));
    wait_until("in the room", || watcher.line.signaling_state() == "joined");
    let _mine = server.sender("mine", 320);
    watcher.first_of(320);
    assert!(watcher.next(10).iter().all(|frame| frame.width == 320));
}

#[test]
fn a_killed_sender_is_replaced_by_the_next_one() {
    let server = Server::start();
    let mut first = server.sender_process("first", 160);
    let watcher = Watcher::play(&server.room());
    watcher.first_of(160);
    let _second = server.sender("second", 320);
    watcher.next(15);
    first.kill();
    watcher.first_of(320);
    assert_rising(&watcher.all());
    watcher.line.assert_no_error();
}

#[test]
fn a_server_restart_costs_no_frame() {
    let server = Server::start();
    let _sender = server.sender("camera", 160);
    let watcher = Watcher::play(&server.room());
    watcher.next(30);
    let server = server.restart(Duration::from_millis(300));
    wait_until("back in the room", || watcher.line.signaling_state() == "joined");
    watcher.next(30);
    let frames = watcher.all();
    let longest = frames.windows(2).map(|pair| pair[1].pts - pair[0].pts).max().unwrap();
    assert!(longest < gst::ClockTime::from_mseconds(200), "a gap of {longest}");
    let marked: Vec<_> = frames.iter().enumerate().filter(|(_, frame)| frame.discont).collect();
    assert_eq!(marked.len(), 1, "{marked:?}");
    // A receiver that joins now is served.
    Watcher::play(&server.room()).first_of(160);
}

#[test]
fn a_stream_that_the_sender_adds_gets_a_pad_and_the_first_one_continues() {
    let server = Server::start();
    let sender = server.sender("camera", 160);
    let watcher = Watcher::play(&server.room());
    watcher.first_of(160);
    let more = gst::parse::bin_from_description(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=240 ! x264enc tune=zerolatency",
        true,
    );
    let more = more.unwrap();
    sender.0.add(&more).unwrap();
    more.link(&sender.element()).unwrap();
    more.sync_state_with_parent().unwrap();
    let of = |pad: &str| watcher.all().into_iter().filter(|frame| frame.pad == pad).collect::<Vec<_>>();
    wait_until("frames of both", || of("video_1").len() > 10);
    assert!(of("video_1").iter().all(|frame| frame.width == 320));
    let before = of("video_0").len();
    wait_until("more of the first", || of("video_0").len() > before + 10);
    assert!(of("video_0").iter().all(|frame| frame.width == 160));
    assert_rising(&of("video_0"));
}

#[test]
fn a_plain_webrtcbin_is_received_with_sound() {
    let server = Server::start();
    let _sender = plain_sender(
        &server,
        "videotestsrc is-live=true ! video/x-raw,width=160,height=120 ! vp8enc deadline=1 ! rtpvp8pay pt=96 ! s. \
         audiotestsrc is-live=true ! opusenc ! rtpopuspay pt=97 ! s. webrtcbin name=s bundle-policy=max-bundle",
    );
    let watcher = Watcher::play(&server.room());
    wait_until("all pads", || watcher.pads.lock().unwrap().len() == 3);
    assert_eq!(watcher.pads.lock().unwrap().last().unwrap(), "no more");
    for (pad, media) in [("video_0", "video/x-vp8"), ("audio_0", "audio/x-opus")] {
        let frames = || watcher.all().into_iter().filter(|frame| frame.pad == pad).collect::<Vec<_>>();
        wait_until(pad, || frames().len() > 20);
        assert!(frames().iter().all(|frame| frame.media == media), "{pad}");
        assert_rising(&frames());
    }
    watcher.line.assert_no_error();
}

#[test]
fn after_a_loss_the_stream_continues_with_a_requested_keyframe() {
    let server = Server::start();
    let _sender = plain_sender(
        &server,
        "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=30/1 ! \
         x264enc tune=zerolatency key-int-max=1000 ! rtph264pay pt=96 aggregate-mode=zero-latency config-interval=-1 ! \
         netsim drop-probability=0.03 ! webrtcbin name=s bundle-policy=max-bundle",
    );
    let watcher = Watcher::play(&format!("{} retransmission=false", server.room()));
    let losses = || watcher.all().into_iter().skip(1).filter(|frame| frame.discont).collect::<Vec<_>>();
    wait_until("three losses", || losses().len() >= 3);
    assert!(losses().iter().all(|frame| frame.key), "{:?}", losses());
    assert_rising(&watcher.all());
}

#[test]
fn a_sender_that_pauses_briefly_loses_no_frame() {
    let server = Server::start();
    let sender = TestPipeline::new(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=30/1 ! identity name=hesitant ! \
         x264enc tune=zerolatency key-int-max=1000 ! roomwebrtcsink name=s {}",
        server.room()
    ));
    let frames = std::sync::atomic::AtomicU32::new(1);
    sender.0.by_name("hesitant").unwrap().connect("handoff", false, move |_| {
        if frames.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(20) {
            std::thread::sleep(Duration::from_millis(150));
        }
        None
    });
    sender.0.set_state(gst::State::Playing).unwrap();
    let watcher = Watcher::play(&server.room());
    wait_until("some seconds", || watcher.count() >= 120);
    let marked: Vec<_> = watcher.all().into_iter().filter(|frame| frame.discont || frame.key).collect();
    assert_eq!(marked.len(), 1, "{marked:?}");
}

#[test]
fn an_eos_event_ends_the_stream() {
    let server = Server::start();
    let _sender = server.sender("camera", 160);
    let watcher = Watcher::play(&server.room());
    watcher.first_of(160);
    assert!(watcher.line.0.send_event(gst::event::Eos::new()));
    watcher.line.wait(&[gst::MessageType::Eos]);
}

#[test]
fn with_eos_on_bye_a_bye_ends_the_stream() {
    let server = Server::start();
    let watcher = Watcher::play(&format!("{} eos-on-bye=true", server.room()));
    let sender = server.sender("camera", 160);
    watcher.first_of(160);
    sender.stop();
    watcher.line.wait(&[gst::MessageType::Eos]);
    wait_until("out of the room", || watcher.line.signaling_state() == "closed");
}

#[test]
fn a_keyframe_that_downstream_requests_arrives() {
    let server = Server::start();
    let _sender = server.sender("camera", 160);
    let watcher = Watcher::play(&server.room());
    watcher.first_of(160);
    wait_until("a second without keyframes", || {
        let frames = watcher.all();
        frames.len() > 30 && frames.iter().rev().take(30).all(|frame| !frame.key)
    });
    let pad = watcher.line.element().static_pad("video_0").unwrap();
    pad.send_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
    assert!(watcher.next(30).iter().any(|frame| frame.key), "no keyframe arrived");
}

#[test]
fn after_a_pause_the_stream_continues_with_a_keyframe_on_time() {
    let server = Server::start();
    let sender = server.sender("camera", 160);
    let watcher = Watcher::play(&server.room());
    watcher.next(30);
    let pipeline = &watcher.line.0;
    pipeline.set_state(gst::State::Paused).unwrap();
    let frames = || sender.element().property::<gst::Structure>("stats").get::<u64>("frames").unwrap();
    let at_pause = frames();
    wait_until("the sender continues", || frames() > at_pause + 20);
    let before = watcher.count();
    pipeline.set_state(gst::State::Playing).unwrap();
    let resumed = || watcher.all().split_off(before).into_iter().position(|frame| frame.key && frame.discont);
    wait_until("a keyframe", || resumed().is_some());
    watcher.next(15);
    let after = watcher.all().split_off(before + resumed().unwrap());
    assert!(after.iter().all(|frame| frame.age < Duration::from_millis(500)), "{after:?}");
    assert_rising(&watcher.all());
}

#[test]
fn an_unlinked_pad_is_no_error_and_starts_when_it_is_linked() {
    let server = Server::start();
    let _sender = server.sender("camera", 160);
    let line = TestPipeline::play(&format!("roomwebrtcsrc name=s {}", server.room()));
    let dropped = || {
        let stats = line.element().property::<gst::Structure>("stats");
        stats.get::<gst::Structure>("video_0").map_or(0, |pad| pad.get::<u64>("dropped").unwrap())
    };
    wait_until("access units for the unlinked pad", || dropped() > 10);
    line.assert_no_error();
    let late = gst::ElementFactory::make("fakesink")
        .property("async", false)
        .property("sync", false)
        .build()
        .unwrap();
    line.0.add(&late).unwrap();
    late.sync_state_with_parent().unwrap();
    line.element().static_pad("video_0").unwrap().link(&late.static_pad("sink").unwrap()).unwrap();
    wait_until("frames", || {
        late.property::<gst::Structure>("stats").get::<u64>("rendered").unwrap_or(0) > 10
    });
}

#[test]
fn each_stop_leaves_the_room_and_the_element_can_be_restarted() {
    let server = Server::start();
    let sender = server.sender("camera", 160);
    let receivers = || sender.element().property::<Vec<String>>("receivers");
    let watcher = Watcher::new(&format!("{} client-id=viewer", server.room()));
    for round in 1..=3 {
        let before = watcher.count();
        watcher.line.0.set_state(gst::State::Playing).unwrap();
        wait_until("frames", || watcher.count() > before + 5);
        assert_eq!(receivers(), ["viewer"]);
        let began = std::time::Instant::now();
        watcher.line.stop();
        assert!(began.elapsed() < Duration::from_millis(1500), "stopping took {:?}", began.elapsed());
        assert_eq!(watcher.line.signaling_state(), "idle");
        assert!(watcher.line.element().src_pads().is_empty(), "round {round}");
        wait_until("the sender ends the session", || receivers().is_empty());
    }
}

#[test]
fn a_malformed_offer_is_no_error_and_the_next_sender_is_received() {
    let server = Server::start();
    let incomplete = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n";
    let senders = ["nonsense", "", "v=0\r\n", incomplete].map(|sdp| malformed_sender(&server, sdp));
    let watcher = Watcher::play(&server.room());
    for refused in senders {
        refused.recv_timeout(PATIENCE).expect("each malformed offer is answered with bye");
    }
    let _sender = server.sender("camera", 160);
    watcher.first_of(160);
    watcher.line.assert_no_error();
}

/// A sender that offers `sdp` to every receiver. Reports when a receiver has answered with `bye`.
fn malformed_sender(server: &Server, sdp: &str) -> std::sync::mpsc::Receiver<()> {
    let (uri, sdp) = (server.uri(), sdp.to_owned());
    let (report, reported) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = ClientConfig::new(RoomId::new("living_room").unwrap(), Role::Sender, new_instance());
            let (handle, mut events) = room_signaling_client::spawn(Options::new(uri, config)).unwrap();
            while let Some(event) = events.recv().await {
                match event {
                    Event::PeerReady(peer) => handle.send(offer(peer.client_id, &sdp)),
                    Event::Signal(Signal { body: Body::Bye, .. }) => break,
                    _ => {}
                }
            }
            handle.shutdown();
            while events.recv().await.is_some() {}
            let _ = report.send(());
        });
    });
    reported
}

fn offer(to: ClientId, sdp: &str) -> Signal {
    let body = Body::Offer { sdp: sdp.to_owned() };
    Signal { body, target_id: Some(to), session_id: SessionId::new("malformed").ok(), from: None }
}

#[test]
fn a_sender_without_an_accepted_codec_is_a_warning_and_the_next_one_is_received() {
    let server = Server::start();
    let _sender = server.sender("camera", 160);
    let watcher = Watcher::play(&format!("{} codecs=<vp8>", server.room()));
    let message = watcher.line.wait(&[gst::MessageType::Warning, gst::MessageType::Error]);
    let gst::MessageView::Warning(warning) = message.view() else { panic!("{message:?}") };
    let text = warning.error().to_string();
    assert!(text.contains("camera") && text.contains("vp8"), "{text}");
    let _other = TestPipeline::play(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=240 ! vp8enc deadline=1 ! roomwebrtcsink name=s {}",
        server.room()
    ));
    watcher.first_of(320);
}

#[test]
fn an_invalid_property_is_an_error_that_names_the_fix() {
    for (setting, fix) in [
        ("signaling-uri=http://127.0.0.1:1", "ws://"),
        ("room=\"\u{202e}x\"", "room"),
        ("sender-id=\" \"", "sender-id"),
        ("codecs=<theora>", "h264, vp8, opus"),
        ("min-rtp-port=2 max-rtp-port=1", "max-rtp-port"),
    ] {
        let line = TestPipeline::play(&format!("roomwebrtcsrc name=s {setting}"));
        let error = line.error();
        assert!(error.contains(fix), "{setting}: {error}");
    }
}

#[test]
fn a_taken_id_is_an_error_that_names_it() {
    let server = Server::start();
    let room = format!("{} client-id=me", server.room());
    let first = Watcher::play(&room);
    wait_until("in the room", || first.line.signaling_state() == "joined");
    let second = Watcher::play(&room);
    let error = second.line.error();
    assert!(error.contains("me"), "{error}");
    assert_eq!(second.line.signaling_state(), "failed");
    assert_eq!(first.line.signaling_state(), "joined");
}

#[test]
fn a_uri_names_server_and_room() {
    bed::init();
    let source =
        gst::Element::make_from_uri(gst::URIType::Src, "rooms://h:1/%E5%AE%A2%E5%8E%85", None).unwrap();
    assert_eq!(source.factory().unwrap().name(), "roomwebrtcsrc");
    assert_eq!(source.property::<String>("signaling-uri"), "wss://h:1");
    assert_eq!(source.property::<String>("room"), "客厅");
    let handler = source.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    assert_eq!(handler.uri().unwrap(), "rooms://h:1/%E5%AE%A2%E5%8E%85");
    assert!(handler.set_uri("room:///x").is_err());
}

#[test]
fn a_player_plays_a_room() {
    let server = Server::start();
    let _sender = server.sender("camera", 160);
    for player in ["playbin", "playbin3"] {
        let line = TestPipeline::new(&format!("{player} uri=room://{}/living_room", server.address()));
        let screen = gst::ElementFactory::make("fakesink").property("sync", true).build().unwrap();
        line.0.set_property("video-sink", &screen);
        let _ = line.0.set_state(gst::State::Playing);
        let rendered = || screen.property::<gst::Structure>("stats").get::<u64>("rendered").unwrap_or(0);
        wait_until(player, || rendered() > 15);
        line.assert_no_error();
    }
}

#[test]
fn a_room_is_relayed_into_another_one_without_decoding() {
    let server = Server::start();
    let _sender = server.sender("camera", 160);
    let other = format!("signaling-uri={} room=other", server.uri());
    let relay =
        TestPipeline::play(&format!("roomwebrtcsrc {} ! roomwebrtcsink name=s {other}", server.room()));
    let watcher = Watcher::play(&other);
    watcher.first_of(160);
    assert_rising(&watcher.next(30));
    relay.assert_no_error();
}
