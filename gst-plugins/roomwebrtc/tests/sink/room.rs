//! Configuration, and the connection to the signaling server.

use crate::bed::{Line, SERVER, init, wait_until};
use gst::prelude::*;
use std::time::{Duration, Instant};

#[test]
fn an_invalid_property_is_an_error_that_names_the_fix() {
    let in_use = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use =
        format!("run-signaling-server=true signaling-server-listen={}", in_use.local_addr().unwrap());
    for (setting, text) in [
        ("signaling-uri=http://127.0.0.1:1", "ws://"),
        ("signaling-uri=ws://", "ws://192.0.2.1:8765"),
        ("room=\"\u{202e}x\"", "room"),
        ("client-id=\" \"", "client-id"),
        ("meta={", "meta"),
        ("ice-servers=x", "ice-servers"),
        ("stun-server=stun.example", "stun://"),
        ("tls-ca-file=/nonexistent/ca.pem signaling-uri=wss://127.0.0.1:1", "ca.pem"),
        ("run-signaling-server=true signaling-server-listen=nowhere", "address:port"),
        (in_use.as_str(), "another port"),
    ] {
        let line =
            Line::new(&format!("videotestsrc is-live=true ! x264enc ! roomwebrtcsink name=s {setting}"));
        let error = line.play().error();
        assert!(error.contains(text), "{setting}: {error}");
    }
}

#[test]
fn an_unreachable_server_is_a_state_and_not_an_error() {
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
fn an_element_that_the_server_refused_stops_without_delay() {
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
    wait_until("the element joins the room", || {
        first.sink().property_value("signaling-state").serialize().unwrap() == "joined"
    });
    let second = sender();
    let error = second.play().error();
    assert!(error.contains("in use by another process"), "{error}");
    wait_until("the element has failed", || {
        second.sink().property_value("signaling-state").serialize().unwrap() == "failed"
    });
    let stopping = Instant::now();
    second.0.set_state(gst::State::Null).unwrap();
    // Much less than the limit for a conductor that does not end.
    assert!(stopping.elapsed() < Duration::from_secs(3), "{:?}", stopping.elapsed());
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
    assert!(sink.set_state(gst::State::Ready).is_err(), "the port is in use");
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
fn the_assigned_id_can_be_read_while_the_element_is_in_the_room() {
    let line = Line::new(&format!("videotestsrc is-live=true ! x264enc ! {SERVER} client-id=camera"));
    let sink = line.sink();
    assert_eq!(sink.property::<Option<String>>("assigned-client-id"), None);
    line.play();
    wait_until("the element joins the room", || {
        sink.property::<Option<String>>("assigned-client-id").is_some()
    });
    assert_eq!(sink.property::<Option<String>>("assigned-client-id").unwrap(), "camera");
    line.0.set_state(gst::State::Null).unwrap();
    assert_eq!(sink.property::<Option<String>>("assigned-client-id"), None);
}
