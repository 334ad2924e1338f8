//! The element and its conductor, with commands that only tests can send or observe.

use super::*;
use std::sync::Barrier;

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
fn the_conductor_receives_property_changes_in_the_order_in_which_they_are_made() {
    const ROUNDS: u32 = 500;
    let element = element();
    let (sender, commands) = mpsc::channel();
    element.imp().conductor.connect(Some(sender));
    let barrier = Arc::new(Barrier::new(3));
    let threads: Vec<_> = (0..2)
        .map(|thread| {
            let (element, barrier) = (element.clone(), barrier.clone());
            std::thread::spawn(move || {
                for round in 0..ROUNDS {
                    barrier.wait();
                    element.set_property("max-receivers", 2 * round + thread + 1);
                    barrier.wait();
                }
            })
        })
        .collect();
    for round in 0..ROUNDS {
        // Both threads set the property between these two.
        barrier.wait();
        barrier.wait();
        let last = commands.try_iter().last();
        let Some(Command::Settings(settings)) = last else { panic!("no command in round {round}") };
        assert_eq!(settings.max_receivers, element.property::<u32>("max-receivers"), "round {round}");
    }
    for thread in threads {
        thread.join().expect("no panic");
    }
    element.imp().conductor.connect(None);
}
