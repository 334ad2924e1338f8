//! Limits retransmissions. rtprtxsend answers every NACK, and a receiver on an overloaded link sends NACKs without end.
//! Without a limit, retransmissions would fill the link, and the receiver would see no new picture.

use crate::sync::lock;
use gst::prelude::*;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// The maximum number of retransmissions per packet sent.
const SHARE: f64 = 0.25;
/// The maximum number of retransmissions in a burst.
const BURST: f64 = 100.0;

/// The token bucket of a session, and the state of its streams.
#[derive(Debug)]
struct Budget {
    allowed: f64,
    streams: BTreeMap<u32, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// The link is overloaded: no retransmission until the next IDR picture.
    held: bool,
    /// The first packet of the first IDR picture after an overload. Earlier packets are useless.
    first: Option<u16>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { allowed: BURST, streams: BTreeMap::new() }
    }
}

impl Budget {
    /// Handles a packet that is sent. `is_start`: decoding can start at it.
    fn sent(&mut self, ssrc: u32, sequence: u16, is_start: bool) {
        self.allowed = (self.allowed + SHARE).min(BURST);
        if let Some(stream) = self.streams.get_mut(&ssrc)
            && stream.held
            && is_start
        {
            *stream = Stream { held: false, first: Some(sequence) };
        }
    }

    /// Whether a packet may be retransmitted. Takes a token if it may.
    fn allows(&mut self, ssrc: u32, sequence: u16) -> bool {
        let useful = self.streams.get(&ssrc).is_none_or(|stream| {
            // Sequence numbers wrap, so those in the half of the circle before `first` are older (RFC 1982).
            !stream.held && stream.first.is_none_or(|first| sequence.wrapping_sub(first) < 0x8000)
        });
        if !useful || self.allowed < 1.0 {
            return false;
        }
        self.allowed -= 1.0;
        true
    }

    fn hold(&mut self, ssrc: u32) {
        self.streams.entry(ssrc).or_default().held = true;
    }
}

/// The limiter of one session.
#[derive(Debug, Default, Clone)]
pub(super) struct RetransmissionLimiter(Arc<Mutex<Budget>>);

impl RetransmissionLimiter {
    /// Limits every rtprtxsend that `webrtcbin` will create. Must be called before the first pad is requested.
    pub(super) fn install(webrtcbin: &gst::Element) -> Self {
        let limiter = Self::default();
        if let Some(bin) = webrtcbin.downcast_ref::<gst::Bin>() {
            let watching = limiter.clone();
            bin.connect_deep_element_added(move |_, _, element| {
                if element.factory().is_some_and(|factory| factory.name() == "rtprtxsend") {
                    watching.watch(element);
                }
            });
        }
        limiter
    }

    /// Handles an overload: nothing is retransmitted until the next IDR picture, and later no packet before it.
    pub(super) fn hold(&self, ssrc: u32) {
        self.with_budget(|budget| budget.hold(ssrc));
    }

    fn watch(&self, rtprtxsend: &gst::Element) {
        let sent = self.clone();
        if let Some(pad) = rtprtxsend.static_pad("sink") {
            pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
                match &info.data {
                    Some(gst::PadProbeData::Buffer(packet)) => sent.sent(packet),
                    Some(gst::PadProbeData::BufferList(list)) => {
                        list.iter().for_each(|packet| sent.sent(packet));
                    }
                    _ => {}
                }
                gst::PadProbeReturn::Ok
            });
        }
        let requests = self.clone();
        if let Some(pad) = rtprtxsend.static_pad("src") {
            pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| match info.event() {
                // Not `Drop`: the bindings would release the event, and GStreamer 1.22 would release it a second time.
                Some(event) if !requests.allows(event) => gst::PadProbeReturn::Handled,
                _ => gst::PadProbeReturn::Ok,
            });
        }
    }

    fn sent(&self, packet: &gst::BufferRef) {
        let is_start = !packet.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let mut header = [0; 12];
        // RFC 3550, section 5.1: the sequence number is in bytes 2 and 3, the SSRC in bytes 8 to 11.
        if packet.copy_to_slice(0, &mut header).is_ok() {
            let [_, _, high, low, _, _, _, _, ssrc @ ..] = header;
            let (sequence, ssrc) = (u16::from_be_bytes([high, low]), u32::from_be_bytes(ssrc));
            self.with_budget(|budget| budget.sent(ssrc, sequence, is_start));
        }
    }

    /// Whether an upstream event may pass. Only a retransmission request can be refused.
    fn allows(&self, event: &gst::EventRef) -> bool {
        let Some(request) =
            event.structure().filter(|request| request.name() == "GstRTPRetransmissionRequest")
        else {
            return true;
        };
        let number = |name| request.get::<u32>(name).ok();
        let (Some(ssrc), Some(sequence)) = (number("ssrc"), number("seqnum")) else { return true };
        u16::try_from(sequence).is_ok_and(|sequence| self.with_budget(|budget| budget.allows(ssrc, sequence)))
    }

    fn with_budget<R>(&self, act: impl FnOnce(&mut Budget) -> R) -> R {
        act(&mut lock(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_losses_is_repaired_but_a_storm_of_nacks_is_not() {
        let mut budget = Budget::default();
        assert!((0..100).all(|sequence| budget.allows(1, sequence)));
        assert!(!budget.allows(1, 100));
        // 400 packets, each of which is requested ten times.
        let mut repeated = 0;
        for sequence in 0..400 {
            budget.sent(1, sequence, false);
            repeated += (0..10).filter(|_| budget.allows(1, sequence)).count();
        }
        assert_eq!(repeated, 100);
    }

    #[test]
    fn after_an_overload_no_packet_before_the_next_idr_is_retransmitted() {
        let mut budget = Budget::default();
        budget.hold(1);
        assert!(!budget.allows(1, 9));
        assert!(budget.allows(2, 9), "the other stream is not overloaded");
        budget.sent(1, 65_535, false);
        assert!(!budget.allows(1, 65_535));
        budget.sent(1, 2, true);
        budget.sent(1, 3, false);
        let allowed: Vec<u16> =
            [65_535, 0, 1, 2, 3].into_iter().filter(|sequence| budget.allows(1, *sequence)).collect();
        assert_eq!(allowed, [2, 3]);
    }

    #[test]
    fn a_refused_request_is_dropped_and_other_events_pass() {
        gst::init().expect("GStreamer");
        let limiter = RetransmissionLimiter::default();
        let request = gst::Structure::builder("GstRTPRetransmissionRequest")
            .field("ssrc", 1_u32)
            .field("seqnum", 5_u32)
            .build();
        let request = gst::event::CustomUpstream::new(request);
        assert!(limiter.allows(&request));
        limiter.hold(1);
        assert!(!limiter.allows(&request));
        assert!(limiter.allows(&gst::event::Reconfigure::new()));
    }
}
