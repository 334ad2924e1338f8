//! Bounds retransmissions. rtprtxsend repeats every packet of every NACK, and a receiver on an overloaded link asks again
//! and again: the repetitions then take the link, and the picture stands still.

use gst::prelude::*;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The share of retransmissions in what is sent.
const SHARE: f64 = 0.25;
/// How many packets may be repeated at once after a time without losses.
const BURST: f64 = 100.0;

/// Which retransmissions are allowed.
#[derive(Debug)]
struct Budget {
    allowed: f64,
    streams: BTreeMap<u32, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// The link is overloaded: no retransmission until the next IDR.
    held: bool,
    /// The first packet of the last IDR after an overload. Those before it are of no use any more.
    first: Option<u16>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { allowed: BURST, streams: BTreeMap::new() }
    }
}

impl Budget {
    /// A packet is sent; `is_start` if decoding can start at it.
    fn sent(&mut self, ssrc: u32, sequence: u16, is_start: bool) {
        self.allowed = (self.allowed + SHARE).min(BURST);
        if let Some(stream) = self.streams.get_mut(&ssrc)
            && stream.held
            && is_start
        {
            *stream = Stream { held: false, first: Some(sequence) };
        }
    }

    /// Whether a packet may be sent again.
    fn allows(&mut self, ssrc: u32, sequence: u16) -> bool {
        let useful = self.streams.get(&ssrc).is_none_or(|stream| {
            // Numbers wrap: those in the half of the circle before `first` are older (RFC 1982).
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

/// The guard of one session's retransmissions.
#[derive(Debug, Default, Clone)]
pub(super) struct RetransmissionLimiter(Arc<Mutex<Budget>>);

impl RetransmissionLimiter {
    /// Guards every rtprtxsend that `webrtcbin` will have. Call it before the first pad.
    pub(super) fn install(webrtcbin: &gst::Element) -> Self {
        let guard = Self::default();
        if let Some(bin) = webrtcbin.downcast_ref::<gst::Bin>() {
            let watching = guard.clone();
            bin.connect_deep_element_added(move |_, _, element| {
                if element.factory().is_some_and(|factory| factory.name() == "rtprtxsend") {
                    watching.watch(element);
                }
            });
        }
        guard
    }

    /// The link of this stream is overloaded: nothing is sent again until the next IDR, and never what was before it.
    pub(super) fn hold(&self, ssrc: u32) {
        self.with(|budget| budget.hold(ssrc));
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
        let asked = self.clone();
        if let Some(pad) = rtprtxsend.static_pad("src") {
            pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| match info.event() {
                // Not `Drop`: the bindings release the event then, and GStreamer 1.22 releases it once more.
                Some(event) if !asked.allows(event) => gst::PadProbeReturn::Handled,
                _ => gst::PadProbeReturn::Ok,
            });
        }
    }

    fn sent(&self, packet: &gst::BufferRef) {
        let is_start = !packet.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let mut header = [0; 12];
        // The header of RTP: the sequence number is in bytes 2 and 3, the SSRC in bytes 8 to 11.
        if packet.copy_to_slice(0, &mut header).is_ok() {
            let [_, _, high, low, _, _, _, _, ssrc @ ..] = header;
            let (sequence, ssrc) = (u16::from_be_bytes([high, low]), u32::from_be_bytes(ssrc));
            self.with(|budget| budget.sent(ssrc, sequence, is_start));
        }
    }

    /// Whether an event may pass: all but the requests for retransmissions that are not allowed.
    fn allows(&self, event: &gst::EventRef) -> bool {
        let Some(request) =
            event.structure().filter(|request| request.name() == "GstRTPRetransmissionRequest")
        else {
            return true;
        };
        let number = |name| request.get::<u32>(name).ok();
        let (Some(ssrc), Some(sequence)) = (number("ssrc"), number("seqnum")) else { return true };
        u16::try_from(sequence).is_ok_and(|sequence| self.with(|budget| budget.allows(ssrc, sequence)))
    }

    fn with<R>(&self, act: impl FnOnce(&mut Budget) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_losses_is_repaired_and_a_storm_is_not() {
        let mut budget = Budget::default();
        assert!((0..100).all(|sequence| budget.allows(1, sequence)));
        assert!(!budget.allows(1, 100));
        // 400 packets, each of which is asked for ten times.
        let mut repeated = 0;
        for sequence in 0..400 {
            budget.sent(1, sequence, false);
            repeated += (0..10).filter(|_| budget.allows(1, sequence)).count();
        }
        assert_eq!(repeated, 100);
    }

    #[test]
    fn an_overloaded_stream_repeats_nothing_until_an_idr_and_never_what_was_before_it() {
        let mut budget = Budget::default();
        budget.hold(1);
        assert!(!budget.allows(1, 9));
        assert!(budget.allows(2, 9), "the other stream is not concerned");
        budget.sent(1, 65_535, false);
        assert!(!budget.allows(1, 65_535));
        budget.sent(1, 2, true);
        budget.sent(1, 3, false);
        let allowed: Vec<u16> =
            [65_535, 0, 1, 2, 3].into_iter().filter(|sequence| budget.allows(1, *sequence)).collect();
        assert_eq!(allowed, [2, 3]);
    }

    #[test]
    fn a_request_is_dropped_as_an_event_and_other_events_pass() {
        gst::init().expect("GStreamer");
        let guard = RetransmissionLimiter::default();
        let request = gst::Structure::builder("GstRTPRetransmissionRequest")
            .field("ssrc", 1_u32)
            .field("seqnum", 5_u32)
            .build();
        let request = gst::event::CustomUpstream::new(request);
        assert!(guard.allows(&request));
        guard.hold(1);
        assert!(!guard.allows(&request));
        assert!(guard.allows(&gst::event::Reconfigure::new()));
    }
}
