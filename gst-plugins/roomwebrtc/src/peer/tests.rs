//! Two peers in this process connect, but not if a certificate does not match its description.

use super::*;
use std::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);

/// One end: a peer and its events.
struct End {
    peer: Peer,
    events: mpsc::Receiver<PeerEvent>,
}

impl End {
    fn new(side: Side) -> Self {
        gst::init().expect("GStreamer");
        let (sender, events) = mpsc::channel();
        let events_of_peer: EventSink = Arc::new(move |event| drop(sender.send(event)));
        let peer = Peer::new(side, &IceConfig::default(), events_of_peer).expect("webrtcbin");
        peer.play().expect("playing");
        Self { peer, events }
    }

    /// Handles events until one requires an action.
    fn next(&mut self) -> PeerAction {
        let until = Instant::now() + PATIENCE;
        while let Ok(event) = self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            match self.peer.handle(event) {
                PeerAction::None | PeerAction::LocalSet | PeerAction::Reports(_) => {}
                action => return action,
            }
        }
        panic!("nothing happened within {PATIENCE:?}")
    }

    fn description(&mut self) -> String {
        match self.next() {
            PeerAction::Describe(text) => text,
            other => panic!("{other:?} instead of a description"),
        }
    }

    fn end(self) {
        if let Some(thread) = self.peer.end(|| ()) {
            thread.join().expect("teardown");
        }
    }
}

/// Offers a data channel to an answering peer, whose answer `edit` changes in transit. Returns the result at the offering end.
fn connect(edit: impl Fn(&str) -> String) -> PeerAction {
    let (mut offering, mut answering) = (End::new(Side::Offers), End::new(Side::Answers));
    let options = None::<gst::Structure>;
    let _channel = offering
        .peer
        .webrtcbin()
        .emit_by_name::<Option<gst_webrtc::WebRTCDataChannel>>("create-data-channel", &[&"x", &options]);
    offering.peer.make_offer();
    let offer = Description::offer(&offering.description()).expect("a valid offer");
    answering.peer.accept_offer(offer);
    let answer = edit(&answering.description());
    let answer = offering.peer.read_answer(&answer).expect("a valid answer");
    offering.peer.accept_answer(answer);
    let until = Instant::now() + PATIENCE;
    let result = loop {
        assert!(Instant::now() < until, "no connection and no failure");
        // Only the result of the offering end is returned.
        while let Ok(event) = answering.events.try_recv() {
            if let PeerAction::Candidate(candidate) = answering.peer.handle(event) {
                offering.peer.add_candidate(&candidate);
            }
        }
        let Ok(event) = offering.events.recv_timeout(Duration::from_millis(10)) else { continue };
        match offering.peer.handle(event) {
            PeerAction::Candidate(candidate) => answering.peer.add_candidate(&candidate),
            action @ (PeerAction::Connected | PeerAction::Over(_)) => break action,
            _ => {}
        }
    };
    offering.end();
    answering.end();
    result
}

#[test]
fn a_peer_with_a_matching_certificate_connects() {
    assert!(matches!(connect(str::to_owned), PeerAction::Connected));
}

#[test]
fn a_peer_whose_certificate_does_not_match_its_description_does_not_connect() {
    let ours = certificate::fingerprint().expect("a certificate");
    let mut digits = ours.chars();
    let first = if digits.next() == Some('0') { '1' } else { '0' };
    let other = format!("{first}{}", digits.as_str());
    let result = connect(|answer| answer.replace(ours, &other));
    let PeerAction::Over(reason) = result else { panic!("{result:?}") };
    assert!(reason.contains("a=fingerprint"), "{reason}");
}

#[test]
fn a_session_ends_on_the_callers_thread_if_no_other_can_be_created() {
    let end = End::new(Side::Offers);
    let (done, ended) = mpsc::channel();
    // No address space has room for such a stack.
    let thread = thread::Builder::new().stack_size(usize::MAX / 4);
    assert!(end.peer.end_on(thread, move || done.send(()).unwrap_or_default()).is_none());
    assert!(ended.try_recv().is_ok());
    assert_eq!(end.peer.pipeline().current_state(), gst::State::Null);
}

#[test]
fn candidates_that_libnice_cannot_use_are_ignored() {
    let mut end = End::new(Side::Offers);
    let options = None::<gst::Structure>;
    let _channel = end
        .peer
        .webrtcbin()
        .emit_by_name::<Option<gst_webrtc::WebRTCDataChannel>>("create-data-channel", &[&"x", &options]);
    end.peer.make_offer();
    end.description();
    for (line, mid, m_line) in [
        ("candidate:1 1 udp 2130706431 192.0.2.1 9 typ host", Some("nope"), Some(99)),
        ("candidate:1 1 udp 2130706431 192.0.2.1 9 typ host", Some("nope"), None),
        ("a=candidate:", Some(""), Some(0)),
        ("candidate:1 1 tcp 1 fe80::1%lo 9 typ host tcptype so", None, Some(0)),
        ("", None, None),
    ] {
        end.peer.add_candidate(&IceCandidate {
            candidate: line.to_owned(),
            sdp_mid: mid.map(str::to_owned),
            sdp_m_line_index: m_line,
        });
    }
    end.end();
}
