//! Keeps H.264 pictures whole in rtph264depay.
//!
//! rtph264pay with `config-interval=-1`, which most GStreamer senders use, writes parameter sets before each slice of an
//! IDR picture. rtph264depay mistakes them for the beginning of the next access unit. A keyframe of an encoder that makes
//! several slices (x264enc with tune=zerolatency) would therefore leave it as two units, neither of which is a picture.
//! This module hides parameter sets that are repeated within a picture from the depayloader, and drops access units that
//! are incomplete because packets were lost.

use crate::{
    codec::h264::{self, nal},
    sync::lock,
};
use gst::{glib, prelude::*};
use std::sync::Mutex;

/// The repair of one depayloader, for as long as this value lives.
pub(crate) struct H264Repair {
    probes: Vec<(glib::WeakRef<gst::Pad>, gst::PadProbeId)>,
}

impl H264Repair {
    /// Repairs the input and the output of `depay`, an rtph264depay.
    pub(crate) fn new(depay: &gst::Element) -> Self {
        let hidden =
            depay.static_pad("sink").and_then(|pad| Some((pad.downgrade(), hide_repetitions(&pad)?)));
        let dropped = depay.static_pad("src").and_then(|pad| Some((pad.downgrade(), drop_fragments(&pad)?)));
        Self { probes: hidden.into_iter().chain(dropped).collect() }
    }
}

impl Drop for H264Repair {
    fn drop(&mut self) {
        for (pad, probe) in self.probes.drain(..) {
            if let Some(pad) = pad.upgrade() {
                pad.remove_probe(probe);
            }
        }
    }
}

fn hide_repetitions(pad: &gst::Pad) -> Option<gst::PadProbeId> {
    let packets = Mutex::new(Packets::default());
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
        let mut packets = lock(&packets);
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(packet)) => packets.repair(packet.make_mut()),
            Some(gst::PadProbeData::BufferList(list)) => {
                let list = list.make_mut();
                for at in 0..list.len() {
                    if let Some(packet) = list.get_mut(at) {
                        packets.repair(packet);
                    }
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    })
}

fn drop_fragments(pad: &gst::Pad) -> Option<gst::PadProbeId> {
    let lost = Mutex::new(false);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(gst::PadProbeData::Buffer(unit)) = &mut info.data else { return gst::PadProbeReturn::Ok };
        let mut lost = lock(&lost);
        let layout = Layout::of(pad.current_caps().as_deref());
        if !unit.map_readable().is_ok_and(|bytes| layout.is_whole(&bytes)) {
            *lost = true;
            return gst::PadProbeReturn::Drop;
        }
        if std::mem::take(&mut *lost) {
            unit.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        gst::PadProbeReturn::Ok
    })
}

/// The format of a depayloader's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `alignment=nal`: any slice of a picture.
    Slices,
    /// Access units in byte-stream format.
    ByteStream,
    /// Access units whose NAL units follow lengths of this many bytes (avc).
    Lengths(usize),
}

impl Layout {
    fn of(caps: Option<&gst::CapsRef>) -> Self {
        let Some(structure) = caps.and_then(|caps| caps.structure(0)) else { return Layout::Slices };
        if structure.get::<&str>("alignment") != Ok("au") {
            return Layout::Slices;
        }
        if structure.get::<&str>("stream-format") == Ok("byte-stream") {
            return Layout::ByteStream;
        }
        let record = structure.get::<gst::Buffer>("codec_data").ok();
        let size = record.and_then(|record| h264::length_size(&record.map_readable().ok()?));
        size.map_or(Layout::Slices, Layout::Lengths)
    }

    /// Whether an access unit has its first slice, or no slice at all.
    fn is_whole(self, bytes: &[u8]) -> bool {
        let begins = match self {
            Layout::Slices => None,
            Layout::ByteStream => h264::begins_picture(nal::in_byte_stream(bytes)),
            Layout::Lengths(size) => h264::begins_picture(nal::with_lengths(bytes, size)),
        };
        begins.unwrap_or(true)
    }
}

/// The packets of a stream, in order.
#[derive(Default)]
struct Packets {
    /// The RTP timestamp of the current picture, once a slice of it has arrived.
    picture: Option<u32>,
}

impl Packets {
    fn repair(&mut self, packet: &mut gst::BufferRef) {
        let Ok(rtp) = gst_rtp::RTPBuffer::from_buffer_readable(packet) else { return };
        let hidden =
            rtp.payload().map(|payload| self.repetitions(rtp.timestamp(), payload)).unwrap_or_default();
        if rtp.is_marker() {
            // The picture is complete. Some senders use the same timestamp for the next one.
            self.picture = None;
        }
        drop(rtp);
        if hidden.is_empty() {
            return;
        }
        if let Ok(mut rtp) = gst_rtp::RTPBuffer::from_buffer_writable(packet)
            && let Ok(payload) = rtp.payload_mut()
        {
            for at in hidden {
                if let Some(header) = payload.get_mut(at) {
                    // Filler data, which decoders skip.
                    *header = (*header & 0xe0) | 0x0c;
                }
            }
        }
    }

    /// The offsets of the NAL unit headers in this payload (RFC 6184, section 5.2) that repeat parameter sets within a
    /// picture.
    fn repetitions(&mut self, timestamp: u32, payload: &[u8]) -> Vec<usize> {
        let mut repetitions = Vec::new();
        for (at, kind) in headers(payload) {
            match kind {
                // Slices (ITU-T H.264, table 7-1).
                1..=5 => self.picture = Some(timestamp),
                // SEI, SPS, PPS, access unit delimiter.
                6..=9 if self.picture == Some(timestamp) => repetitions.push(at),
                _ => {}
            }
        }
        repetitions
    }
}

/// The offsets and types of the NAL unit headers in an RTP payload.
fn headers(payload: &[u8]) -> Vec<(usize, u8)> {
    let Some(first) = payload.first() else { return Vec::new() };
    match first & 0x1f {
        // STAP-A: several units, each with its length in front.
        24 => {
            let (mut found, mut at) = (Vec::new(), 1);
            while let Some(&[high, low, header]) = payload.get(at..at + 3) {
                found.push((at + 2, header & 0x1f));
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
            }
            found
        }
        // FU-A: the type is in the second byte, and there is no header that could be changed. Parameter sets are never
        // long enough to be fragmented.
        28 => payload
            .get(1)
            .filter(|header| matches!(**header & 0x1f, 1..=5))
            .map(|header| (1, header & 0x1f))
            .into_iter()
            .collect(),
        kind => vec![(0, kind)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst_rtp::prelude::*;

    const SPS: u8 = 0x67;
    const PPS: u8 = 0x68;
    const IDR: u8 = 0x65;

    /// STAP-A with units of these headers and two bytes more.
    fn together(headers: &[u8]) -> Vec<u8> {
        let units = headers.iter().flat_map(|header| [0, 3, *header, 1, 2]);
        std::iter::once(0x78).chain(units).collect()
    }

    #[test]
    fn parameter_sets_after_a_slice_of_the_same_picture_are_repetitions() {
        let mut packets = Packets::default();
        assert!(packets.repetitions(1, &[SPS, 1]).is_empty());
        assert!(packets.repetitions(1, &together(&[SPS, PPS])).is_empty());
        assert_eq!(packets.repetitions(1, &together(&[IDR, SPS, PPS, IDR])), [8, 13]);
        assert_eq!(packets.repetitions(1, &[PPS, 1]), [0]);
        assert!(packets.repetitions(2, &[SPS, 1]).is_empty(), "the next picture");
        assert!(packets.repetitions(2, &[0x7c, 0x80 | 5, 1]).is_empty(), "a slice in fragments");
        assert_eq!(packets.repetitions(2, &together(&[9])), [3]);
    }

    #[test]
    fn parameter_sets_after_a_marker_are_not_repetitions() {
        gst::init().expect("GStreamer");
        let mut packets = Packets::default();
        let mut hidden_in = |marker: bool, payload: &[u8]| {
            let mut packet =
                gst::Buffer::new_rtp_with_sizes(u32::try_from(payload.len()).expect("short"), 0, 0)
                    .expect("a packet");
            let packet = packet.get_mut().expect("our own");
            {
                let mut rtp = gst_rtp::RTPBuffer::from_buffer_writable(packet).expect("a packet");
                rtp.set_marker(marker);
                rtp.payload_mut().expect("a payload").copy_from_slice(payload);
            }
            packets.repair(packet);
            gst_rtp::RTPBuffer::from_buffer_readable(packet).expect("a packet").payload().expect("a payload")
                != payload
        };
        assert!(!hidden_in(false, &[SPS, 1]));
        assert!(!hidden_in(false, &[IDR, 1]));
        assert!(hidden_in(false, &[SPS, 1]));
        assert!(!hidden_in(true, &[IDR, 1]));
        assert!(!hidden_in(false, &[SPS, 1]), "the same time stamp, but another picture");
    }

    #[test]
    fn malformed_payloads_are_left_alone() {
        let mut packets = Packets::default();
        packets.repetitions(1, &[IDR]);
        for payload in [&[][..], &[24], &[24, 0], &[24, 255, 255], &[28], &[28, SPS], &[31, SPS]] {
            assert!(packets.repetitions(1, payload).is_empty(), "{payload:?}");
        }
        assert_eq!(packets.repetitions(1, &[24, 0, 0, SPS]), [3], "a unit of no length ends nothing");
    }

    #[test]
    fn whether_a_unit_is_whole_depends_on_its_layout() {
        gst::init().expect("GStreamer");
        let layout = |caps: &str| Layout::of(Some(&caps.parse::<gst::Caps>().expect(caps)));
        let byte_stream = layout("video/x-h264,stream-format=byte-stream,alignment=au");
        let first = [0, 0, 0, 1, SPS, 1, 0, 0, 1, IDR, 0x88];
        let second = [0, 0, 0, 1, SPS, 1, 0, 0, 1, IDR, 0x48];
        assert!(byte_stream.is_whole(&first) && !byte_stream.is_whole(&second));
        assert!(byte_stream.is_whole(&[]) && byte_stream.is_whole(&[0, 0, 1, SPS]), "no slice");

        let slices = layout("video/x-h264,stream-format=byte-stream,alignment=nal");
        assert!(slices.is_whole(&first) && slices.is_whole(&second));

        let avc = layout("video/x-h264,stream-format=avc,alignment=au,codec_data=(buffer)0142c00dffe100");
        // The length of the first unit, 0x0000014d, looks like a start code.
        let long = [&[0, 0, 1, 0x4d, 0x06, 5][..], &[1; 0x14b], &[0, 0, 0, 2, IDR, 0x88]].concat();
        assert!(avc.is_whole(&long), "a start code is nothing special in avc");
        assert!(!avc.is_whole(&[0, 0, 0, 2, IDR, 0x48]));
    }

    #[test]
    fn fragments_pass_again_once_the_repair_is_dropped() {
        use std::sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        };
        gst::init().expect("GStreamer");
        let passed = Arc::new(AtomicU32::new(0));
        let count = passed.clone();
        let sink = gst::Pad::builder(gst::PadDirection::Sink)
            .chain_function(move |_, _, _| {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(gst::FlowSuccess::Ok)
            })
            .build();
        let source = gst::Pad::builder(gst::PadDirection::Src).build();
        source.set_active(true).and_then(|()| sink.set_active(true)).expect("active pads");
        source.link(&sink).expect("a link");
        let caps = gst::Caps::builder("video/x-h264")
            .field("stream-format", "byte-stream")
            .field("alignment", "au")
            .build();
        source.push_event(gst::event::StreamStart::new("stream"));
        source.push_event(gst::event::Caps::new(&caps));
        source.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        let push = |unit: &'static [u8]| {
            source.push(gst::Buffer::from_slice(unit)).expect("a flow");
            passed.load(Ordering::Relaxed)
        };
        let probe = drop_fragments(&source).expect("a probe");
        let repair = H264Repair { probes: vec![(source.downgrade(), probe)] };
        assert_eq!(push(&[0, 0, 1, IDR, 0x88]), 1);
        assert_eq!(push(&[0, 0, 1, IDR, 0x48]), 1, "a second slice alone is no picture");
        drop(repair);
        assert_eq!(push(&[0, 0, 1, IDR, 0x48]), 2);
    }

    #[test]
    fn pictures_that_rtph264pay_would_split_stay_whole() {
        gst::init().expect("GStreamer");
        // All slices in one packet, and several packets for each slice.
        whole_pictures("pattern=black ! video/x-raw,width=64,height=480");
        whole_pictures("pattern=smpte ! video/x-raw,width=640,height=480");
    }

    fn whole_pictures(source: &str) {
        let line = format!(
            "videotestsrc num-buffers=4 {source} ! \
             x264enc tune=zerolatency threads=4 sliced-threads=true key-int-max=2 ! \
             rtph264pay config-interval=-1 aggregate-mode=zero-latency ! rtph264depay name=depay ! \
             video/x-h264,stream-format=byte-stream,alignment=au ! h264parse ! fakesink name=sink signal-handoffs=true"
        );
        let pipeline =
            gst::parse::launch(&line).expect(&line).downcast::<gst::Pipeline>().expect("a pipeline");
        let repair = H264Repair::new(&pipeline.by_name("depay").expect("depay"));
        let (tell, told) = std::sync::mpsc::channel();
        let sink = pipeline.by_name("sink").expect("a sink");
        sink.connect("handoff", false, move |values| {
            let buffer = values.get(1).and_then(|value| value.get::<gst::Buffer>().ok()).expect("a buffer");
            let slices = buffer.map_readable().expect("memory").windows(4).filter(|at| is_slice(at)).count();
            let _ = tell.send((
                buffer.pts().is_some(),
                slices,
                buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            ));
            None
        });
        pipeline.set_state(gst::State::Playing).expect("playing");
        let units: Vec<_> =
            (0..4).map_while(|_| told.recv_timeout(std::time::Duration::from_secs(20)).ok()).collect();
        pipeline.set_state(gst::State::Null).expect("null");
        drop(repair);
        let slices = units.first().map_or(0, |unit| unit.1);
        assert!(slices > 1, "the encoder made no slices: {units:?}");
        assert_eq!(units, [false, true, false, true].map(|delta| (true, slices, delta)));
    }

    fn is_slice(at: &[u8]) -> bool {
        matches!(at, [0, 0, 1, header] if matches!(header & 0x1f, 1..=5))
    }
}
