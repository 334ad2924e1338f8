//! The element and its conductor, with commands that only tests can send or observe.

use super::*;
use std::time::Instant;

fn element() -> super::super::RoomWebRtcSink {
    gst::init().expect("GStreamer");
    glib::Object::new()
}

/// The text of the next error on the bus.
fn next_error(pipeline: &gst::Pipeline) -> Option<String> {
    let message =
        pipeline.bus()?.timed_pop_filtered(gst::ClockTime::from_seconds(20), &[gst::MessageType::Error])?;
    match message.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        _ => None,
    }
}

#[test]
fn a_panic_of_the_conductor_is_an_error_and_the_element_can_be_started_again() {
    let element = element();
    let pipeline = gst::Pipeline::new();
    // No server listens on this port.
    element.set_property("signaling-uri", "ws://127.0.0.1:9");
    pipeline.add(&element).expect("added");
    for _ in 0..2 {
        pipeline.set_state(gst::State::Playing).expect("the element starts");
        assert!(element.imp().conductor.send(Command::Panic));
        let error = next_error(&pipeline).expect("an error");
        assert!(error.contains("the conductor panicked: requested by a test"), "{error}");
        pipeline.set_state(gst::State::Null).expect("the element stops");
        assert!(!element.imp().conductor.send(Command::RequestKeyframe), "the conductor has ended");
    }
}

#[test]
fn a_property_stays_locked_until_the_conductor_has_its_value() {
    let element = element();
    let (sender, commands) = mpsc::channel();
    element.imp().conductor.connect(Some(sender));
    let blocked = element.imp().conductor.block();
    let setter = {
        let element = element.clone();
        std::thread::spawn(move || element.set_property("max-receivers", 7_u32))
    };
    // Without this lock, another thread could set and send a later value before this one is sent.
    let end = Instant::now() + Duration::from_secs(20);
    while element.imp().properties.try_lock().is_ok() {
        assert!(Instant::now() < end, "the properties are locked while the value is sent");
        std::thread::yield_now();
    }
    drop(blocked);
    setter.join().expect("no panic");
    let Ok(Command::Settings(settings)) = commands.try_recv() else { panic!("no command") };
    assert_eq!(settings.max_receivers, 7);
    element.imp().conductor.connect(None);
}
