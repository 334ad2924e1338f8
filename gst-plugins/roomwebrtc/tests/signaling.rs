//! The properties and messages of both elements on the connection to the signaling server, and the embedded server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use gst::{glib, prelude::*};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

const SINK: &str = "videotestsrc is-live=true ! x264enc ! roomwebrtcsink name=e";
const SOURCE: &str = "roomwebrtcsrc name=e ! fakesink";

/// A running pipeline with an element `e`, which is stopped on drop.
struct Line(gst::Pipeline);

impl Line {
    fn play(description: &str) -> Self {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            gst::init().unwrap();
            gstroomwebrtc::plugin_register_static().unwrap();
        });
        let line = Self(gst::parse::launch(description).unwrap().downcast().unwrap());
        let _ = line.0.set_state(gst::State::Playing);
        line
    }

    fn element(&self) -> gst::Element {
        self.0.by_name("e").unwrap()
    }

    fn state(&self) -> String {
        self.element().property_value("signaling-state").serialize().unwrap().into()
    }

    fn reason(&self) -> Option<String> {
        self.element().property("signaling-reason")
    }

    fn wait(&self, types: &[gst::MessageType]) -> gst::Message {
        let bus = self.0.bus().unwrap();
        bus.timed_pop_filtered(gst::ClockTime::from_seconds(20), types).expect("a message within 20 s")
    }

    /// The texts of this element's warnings since the last call.
    fn warnings(&self) -> Vec<String> {
        let bus = self.0.bus().unwrap();
        std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Warning]))
            .filter_map(|message| match message.view() {
                gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
                _ => None,
            })
            .filter(|text| text.contains("signaling server"))
            .collect()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An address on which no server listens.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn with(element: &str, properties: &str) -> String {
    element.replacen("name=e", &format!("name=e room=r {properties}"), 1)
}

#[test]
fn an_unreachable_server_is_one_warning_with_address_and_cause() {
    for element in [SINK, SOURCE] {
        let address = free_address();
        let line = Line::play(&with(element, &format!("signaling-uri=ws://{address}?key=secret")));
        let warning = match line.wait(&[gst::MessageType::Warning, gst::MessageType::Error]).view() {
            gst::MessageView::Warning(warning) => warning.error().to_string(),
            other => panic!("{other:?}"),
        };
        for part in [address.to_string().as_str(), "refused"] {
            assert!(warning.contains(part), "{part} in {warning}");
        }
        assert!(!warning.contains("secret"), "{warning}");
        assert!(line.reason().unwrap().contains("refused"));
        // Further attempts cause no further warning.
        let attempts = count_attempts(address, 3);
        assert!(line.warnings().iter().all(|text| !text.contains("refused")), "after {attempts} attempts");
    }
}

/// Waits for this many attempts of the client to connect, which fail because no server answers.
fn count_attempts(address: SocketAddr, attempts: usize) -> usize {
    let listener = TcpListener::bind(address).unwrap();
    (0..attempts).filter(|_| listener.accept().is_ok()).count()
}

#[test]
fn joining_the_room_clears_the_reason() {
    let address = free_address();
    let line = Line::play(&with(SOURCE, &format!("signaling-uri=ws://{address}")));
    wait_until("a reason", || line.reason().is_some());
    assert_eq!(line.state(), "connecting");
    let config = room_signaling_server::Config { listen: vec![address], ..Default::default() };
    let server = room_signaling_server::spawn_thread(config).unwrap();
    wait_until("the element joins the room", || line.state() == "joined");
    assert_eq!(line.reason(), None);
    drop(server);
    wait_until("the loss of the server", || line.state() == "reconnecting");
    assert!(line.reason().is_some());
}

#[test]
fn a_proxy_without_its_server_is_a_warning_and_not_an_error() {
    for status in ["404 Not Found", "502 Bad Gateway"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let line = Line::play(&with(SOURCE, &format!("signaling-uri=ws://{address}/ws")));
        let (mut proxy, _) = listener.accept().unwrap();
        assert!(proxy.read(&mut [0; 4096]).unwrap() > 0);
        proxy.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
        let message = line.wait(&[gst::MessageType::Warning, gst::MessageType::Error]);
        let gst::MessageView::Warning(warning) = message.view() else { panic!("{message:?}") };
        let text = warning.error().to_string();
        assert!(text.contains(&status[..3]) && text.contains(&address.to_string()), "{text}");
        assert!(listener.accept().is_ok(), "the element tries again");
    }
}

#[test]
fn a_refusal_is_the_reason_of_a_failed_element() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = Line::play(&with(SINK, &format!("signaling-uri=ws://{}", listener.local_addr().unwrap())));
    let (mut server, _) = listener.accept().unwrap();
    assert!(server.read(&mut [0; 4096]).unwrap() > 0);
    server.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").unwrap();
    line.wait(&[gst::MessageType::Error]);
    assert_eq!(line.state(), "failed");
    assert!(line.reason().unwrap().contains("403"));
}

#[test]
fn the_embedded_server_serves_the_names_of_the_machine_and_the_allowed_names() {
    let address = free_address();
    let _line = Line::play(&with(
        SINK,
        &format!(
            "run-signaling-server=true signaling-server-listen={address} \
             signaling-server-allow-hosts=<robot.example,other.example:8080>"
        ),
    ));
    let own = glib::host_name().to_string();
    for (host, status) in [
        (own.clone(), 200),
        (format!("{own}:{}", address.port()), 200),
        (format!("{}.local", own.split('.').next().unwrap()), 200),
        ("robot.example".to_owned(), 200),
        ("other.example:8080".to_owned(), 200),
        ("evil.example".to_owned(), 403),
    ] {
        let mut page = TcpStream::connect(address).unwrap();
        page.write_all(format!("GET /?room=r HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        page.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
        assert!(status == 200 || answer.contains("signaling-server-allow-hosts"), "{answer}");
    }
}
