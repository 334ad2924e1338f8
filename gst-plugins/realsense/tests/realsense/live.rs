//! Live cameras: they stall, are unplugged and plugged in again, and their settings, caps and pads change in PLAYING.

use crate::bed::{
    LONG, LiveCamera, Recording, TestPipeline, bytes, color, content, depth, meta, push, video, wait_until,
};
use gst::prelude::*;
use gstrealsense::software::{Imager, Pixels, PluggedRecording, Setting, SoftwareDevice, Stream};
use std::time::{Duration, Instant};

#[test]
fn a_camera_is_found_by_its_serial_number_and_is_live() {
    let other = LiveCamera::new("other", &[color()]);
    let camera = LiveCamera::new("wanted", &[color(), depth()]);
    let plugs = (other.device.plug().unwrap(), camera.device.plug().unwrap());
    let line = TestPipeline::new(
        "realsensesrc name=camera serial=wanted stream=depth ! appsink name=sink sync=false",
    );
    assert_eq!(line.0.set_state(gst::State::Paused), Ok(gst::StateChangeSuccess::NoPreroll));
    line.play();
    let mut last = (0, gst::ClockTime::ZERO);
    for _ in 0..30 {
        let sample = line.sample("sink").unwrap();
        let number = meta(&sample).get::<u64>("frame-number").unwrap();
        assert!(content(&sample) == bytes(depth(), u8::try_from((number - 1) % 256).unwrap()));
        let pts = sample.buffer().unwrap().pts().unwrap();
        assert!(number > last.0 && pts > last.1 && pts <= line.0.current_running_time().unwrap());
        last = (number, pts);
    }
    drop(plugs);
}

#[test]
fn two_elements_read_two_cameras() {
    let cameras = [LiveCamera::new("one", &[color()]), LiveCamera::new("two", &[depth()])];
    let plugs: Vec<_> = cameras.iter().map(|camera| camera.device.plug().unwrap()).collect();
    let line = TestPipeline::new(
        "realsensesrc serial=one ! appsink name=one sync=false realsensesrc serial=two stream=depth ! appsink name=two sync=false",
    );
    line.play();
    for (sink, stream) in [("one", "color"), ("two", "depth")] {
        for _ in 0..10 {
            assert_eq!(meta(&line.sample(sink).unwrap()).get::<&str>("stream"), Ok(stream));
        }
    }
    drop(plugs);
}

#[test]
fn a_camera_that_stalls_is_an_error_with_its_name() {
    let mut camera = LiveCamera::new("stalls", &[color()]);
    let _plug = camera.device.plug().unwrap();
    let line = TestPipeline::new("realsensesrc serial=stalls ! appsink name=sink sync=false");
    line.play().sample("sink");
    camera.stop();
    let began = Instant::now();
    let text = line.error();
    assert!(text.contains("no frame of color for 5 s") && text.contains("stalls"), "{text}");
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn a_wait_for_a_frame_is_interrupted_immediately() {
    let camera = SoftwareDevice::new("silent", &[color()]).unwrap();
    let _plug = camera.plug().unwrap();
    let line = TestPipeline::new("realsensesrc serial=silent ! appsink name=sink sync=false");
    for _ in 0..3 {
        line.play();
        let began = Instant::now();
        line.0.set_state(gst::State::Null).unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

#[test]
fn an_eos_event_ends_the_stream_of_a_silent_camera() {
    let mut camera = LiveCamera::new("mute", &[color()]);
    let _plug = camera.device.plug().unwrap();
    let line = TestPipeline::new("realsensesrc serial=mute ! appsink name=sink sync=false");
    line.play().sample("sink");
    camera.stop();
    assert!(line.0.send_event(gst::event::Eos::new()));
    let began = Instant::now();
    line.finish();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn an_unplugged_camera_is_an_error_with_its_name() {
    let recording = Recording::new("unplugged", &[color()], 60);
    let plug = PluggedRecording::plug(&recording.path).unwrap();
    let line = TestPipeline::new("realsensesrc serial=rec-unplugged ! appsink name=sink sync=false");
    line.play().sample("sink").unwrap();
    let began = Instant::now();
    drop(plug);
    let text = line.error();
    assert!(text.contains("rec-unplugged") && text.contains("was unplugged"), "{text}");
    assert!(text.contains("reconnect=true"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_camera_that_is_plugged_in_again_continues() {
    let recording = Recording::new("back", &[color()], 60);
    let plug = PluggedRecording::plug(&recording.path).unwrap();
    let line =
        TestPipeline::new("realsensesrc serial=rec-back reconnect=true ! appsink name=sink sync=false");
    line.play();
    let before = line.sample("sink").unwrap().buffer().unwrap().pts().unwrap();
    drop(plug);
    let warning = line.wait(&[gst::MessageType::Warning, gst::MessageType::Error]);
    assert_eq!(warning.type_(), gst::MessageType::Warning, "{warning:?}");
    let _plug = PluggedRecording::plug(&recording.path).unwrap();
    let info = line.wait(&[gst::MessageType::Info, gst::MessageType::Error]);
    assert_eq!(info.type_(), gst::MessageType::Info, "{info:?}");
    let again = std::iter::from_fn(|| line.sample("sink"))
        .find(|sample| sample.buffer().unwrap().flags().contains(gst::BufferFlags::DISCONT))
        .unwrap();
    assert_eq!(meta(&again).get::<u64>("frame-number"), Ok(1));
    assert!(again.buffer().unwrap().pts().unwrap() > before);
}

#[test]
fn controls_take_effect_in_playing() {
    let camera = LiveCamera::new("controls", &[color(), depth()]);
    let _plug = camera.device.plug().unwrap();
    let is_set = |imager, setting, value: u16| {
        (camera.device.setting(imager, setting).unwrap() - f32::from(value)).abs() < 0.5
    };
    let line = TestPipeline::new(
        "realsensesrc name=camera serial=controls exposure=300 ! appsink name=sink sync=false",
    );
    line.play().sample("sink").unwrap();
    assert!(is_set(Imager::Color, Setting::Exposure, 300));
    assert!(is_set(Imager::Color, Setting::AutoExposure, 0));
    let element = line.camera();
    element.set_property("exposure", -1);
    wait_until("automatic exposure", || is_set(Imager::Color, Setting::AutoExposure, 1));
    for (property, imager, what, value) in [
        ("gain", Imager::Color, Setting::Gain, 99),
        ("white-balance", Imager::Color, Setting::WhiteBalance, 3200),
        ("depth-exposure", Imager::Depth, Setting::Exposure, 4000),
        ("depth-gain", Imager::Depth, Setting::Gain, 30),
        ("laser-power", Imager::Depth, Setting::LaserPower, 90),
    ] {
        element.set_property(property, i32::from(value));
        wait_until(property, || is_set(imager, what, value));
    }
    element.set_property_from_str("emitter", "off");
    wait_until("emitter", || is_set(Imager::Depth, Setting::Emitter, 0));
    element.set_property("laser-power", 1000);
    let warning = line.wait(&[gst::MessageType::Warning, gst::MessageType::Error]);
    let gst::MessageView::Warning(warning) = warning.view() else { panic!("{warning:?}") };
    let text = warning.error().to_string();
    assert!(text.contains("laser-power is 1000") && text.contains("0 to 360"), "{text}");
    line.sample("sink").unwrap();
}

#[test]
fn size_and_format_can_change_in_playing() {
    let large =
        Stream::Video { imager: Imager::Color, pixels: Pixels::Yuyv, width: 128, height: 96, rate: 30 };
    let camera = LiveCamera::new("sizes", &[color(), large]);
    let _plug = camera.device.plug().unwrap();
    let line = TestPipeline::new(
        "realsensesrc serial=sizes ! capsfilter name=filter caps=video/x-raw,width=64 ! appsink name=sink sync=false",
    );
    line.play();
    let filter = line.0.by_name("filter").unwrap();
    for (caps, width, format) in [
        ("video/x-raw,width=64", 64, "YUY2"),
        ("video/x-raw,width=128", 128, "YUY2"),
        ("video/x-raw,width=128,format=NV12", 128, "NV12"),
        ("video/x-raw,width=64", 64, "YUY2"),
    ] {
        filter.set_property("caps", caps.parse::<gst::Caps>().unwrap());
        let arrived = std::iter::from_fn(|| line.sample("sink")).any(|sample| {
            let caps = sample.caps().unwrap().structure(0).unwrap();
            (caps.get("width"), caps.get("format")) == (Ok(width), Ok(format))
        });
        assert!(arrived, "{caps}");
    }
}

#[test]
fn pads_can_be_requested_and_released_in_playing() {
    let camera = LiveCamera::new("pads", &[color(), depth(), video(Imager::Infrared(1), Pixels::Y8)]);
    let _plug = camera.device.plug().unwrap();
    let line = TestPipeline::new("realsensesrc name=camera serial=pads ! appsink name=sink sync=false");
    line.play().sample("sink").unwrap();
    let element = line.camera();
    for template in ["depth", "infrared_%u"] {
        let sink = gst_app::AppSink::builder().sync(false).build();
        line.0.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        let pad = element.request_pad_simple(template).unwrap();
        assert_eq!(pad.name(), template.replace("%u", "1"));
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        for _ in 0..5 {
            sink.try_pull_sample(gst::ClockTime::try_from(LONG).unwrap()).expect("a sample of the new pad");
        }
        pad.unlink(&sink.static_pad("sink").unwrap()).unwrap();
        element.release_request_pad(&pad);
        sink.set_state(gst::State::Null).unwrap();
        line.0.remove(&sink).unwrap();
        for _ in 0..5 {
            line.sample("sink").unwrap();
        }
    }
    assert_eq!(element.src_pads().len(), 1);
    assert!(line.0.bus().unwrap().pop_filtered(&[gst::MessageType::Error]).is_none());
}

#[test]
fn an_unlinked_pad_does_not_disturb_the_others() {
    let camera = LiveCamera::new("unlinked", &[color(), depth()]);
    let _plug = camera.device.plug().unwrap();
    let line = TestPipeline::new(
        "realsensesrc name=camera serial=unlinked camera.depth ! appsink name=sink sync=false",
    );
    line.camera().request_pad_simple("color").unwrap();
    line.play();
    for _ in 0..10 {
        line.sample("sink").unwrap();
    }
    let streams = line.camera().downcast::<gst::Bin>().unwrap().children();
    let playing = streams.iter().filter(|stream| stream.current_state() == gst::State::Playing).count();
    assert_eq!((playing, streams.len()), (1, 3));
}

#[test]
fn one_stream_can_leave_two_pads() {
    let camera = LiveCamera::new("twice", &[color()]);
    let _plug = camera.device.plug().unwrap();
    let line = TestPipeline::new(
        "realsensesrc name=camera serial=twice ! appsink name=one sync=false \
         camera.color ! video/x-raw,format=RGB ! appsink name=two sync=false",
    );
    line.play();
    for _ in 0..10 {
        line.sample("one").unwrap();
        line.sample("two").unwrap();
    }
}

#[test]
fn a_repeated_frame_is_sent_once() {
    let device = SoftwareDevice::new("repeats", &[color()]).unwrap();
    let _plug = device.plug().unwrap();
    let line = TestPipeline::new("realsensesrc serial=repeats ! appsink name=sink sync=false");
    line.play();
    // Frames are discarded until the camera streams.
    let mut number = 0;
    let sink: gst_app::AppSink = line.0.by_name("sink").unwrap().downcast().unwrap();
    wait_until("streaming", || {
        number += 1;
        push(&device, 0, color(), number);
        sink.try_pull_sample(gst::ClockTime::from_mseconds(100)).is_some()
    });
    for _ in 0..2 {
        push(&device, 0, color(), number);
    }
    push(&device, 0, color(), number + 1);
    let next = line.sample("sink").unwrap();
    assert_eq!(meta(&next).get::<u64>("frame-number"), Ok(u64::from(number) + 2));
}

#[test]
fn playback_resumes_with_recent_frames_after_a_pause() {
    let camera = LiveCamera::new("pause", &[color()]);
    let _plug = camera.device.plug().unwrap();
    let recording = Recording::new("pause", &[color()], 20);
    let played = format!("realsensesrc recording-location={} loop=true", recording.path.display());
    for source in ["realsensesrc serial=pause", &played] {
        let line =
            TestPipeline::new(&format!("{source} ! appsink name=sink sync=false drop=true max-buffers=1"));
        line.play().sample("sink").unwrap();
        line.0.set_state(gst::State::Paused).unwrap();
        let paused = Instant::now();
        wait_until("a while", || paused.elapsed() > Duration::from_millis(700));
        line.play();
        let mut last = gst::ClockTime::ZERO;
        // The number of successive frames that are recent and whose times rise.
        let mut steady = 0;
        wait_until("recent frames", || {
            let pts = line.sample("sink").unwrap().buffer().unwrap().pts().unwrap();
            let age = line.0.current_running_time().unwrap().checked_sub(pts);
            let fresh = age.is_some_and(|age| age < gst::ClockTime::from_mseconds(200));
            let steps = pts > last + gst::ClockTime::from_mseconds(20);
            steady = if fresh && steps { steady + 1 } else { 0 };
            last = pts;
            steady >= 5
        });
    }
}
