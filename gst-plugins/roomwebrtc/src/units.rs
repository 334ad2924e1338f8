//! Keeps H.264 pictures whole on their way through rtph264depay.
//!
//! rtph264pay with `config-interval=-1`, which is what most GStreamer senders use, writes parameter sets before each
//! slice of an IDR picture. rtph264depay takes them for the beginning of the next access unit; and so a keyframe of an
//! encoder with several slices (x264enc with tune=zerolatency) would come out as two units, neither of which is a
//! picture. What repeats itself inside a picture is hidden from it here. What is still no picture, because packets of
//! it were lost, goes no further.

use gst::prelude::*;
use std::sync::{Mutex, PoisonError};

/// Watches over what goes into and comes out of `depay`, an rtph264depay.
pub(crate) fn keep_whole(depay: &gst::Element) {
    if let Some(pad) = depay.static_pad("sink") {
        hide_repetitions(&pad);
    }
    if let Some(pad) = depay.static_pad("src") {
        drop_fragments(&pad);
    }
}

fn hide_repetitions(pad: &gst::Pad) {
    let packets = Mutex::new(Packets::default());
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
        let mut packets = packets.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(packet)) => packets.look_at(packet.make_mut()),
            Some(gst::PadProbeData::BufferList(list)) => {
                let list = list.make_mut();
                (0..list.len())
                    .for_each(|at| list.get_mut(at).into_iter().for_each(|packet| packets.look_at(packet)));
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

fn drop_fragments(pad: &gst::Pad) {
    let lost = Mutex::new(false);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(gst::PadProbeData::Buffer(unit)) = &mut info.data else { return gst::PadProbeReturn::Ok };
        let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
        if !unit.map_readable().is_ok_and(|map| begins_picture(&map)) {
            *lost = true;
            return gst::PadProbeReturn::Drop;
        }
        if std::mem::take(&mut *lost) {
            unit.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        gst::PadProbeReturn::Ok
    });
}

/// The packets of a stream, in order.
#[derive(Default)]
struct Packets {
    /// The time stamp of the picture of which a slice has come.
    picture: Option<u32>,
}

impl Packets {
    fn look_at(&mut self, packet: &mut gst::BufferRef) {
        let Ok(rtp) = gst_rtp::RTPBuffer::from_buffer_readable(packet) else { return };
        let hidden =
            rtp.payload().map(|payload| self.repetitions(rtp.timestamp(), payload)).unwrap_or_default();
        if rtp.is_marker() {
            // The picture is complete, and senders exist that give the next one the same time stamp.
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
                    // Filler data, which everyone skips.
                    *header = (*header & 0xe0) | 0x0c;
                }
            }
        }
    }

    /// The headers in this payload (RFC 6184, section 5.2) of what repeats itself inside a picture.
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

/// Where the NAL units of an RTP payload have their headers, and of which type they are.
fn headers(payload: &[u8]) -> Vec<(usize, u8)> {
    let Some(first) = payload.first() else { return Vec::new() };
    match first & 0x1f {
        // STAP-A: units, each with its length in front.
        24 => {
            let (mut found, mut at) = (Vec::new(), 1);
            while let Some(&[high, low, header]) = payload.get(at..at + 3) {
                found.push((at + 2, header & 0x1f));
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
            }
            found
        }
        // FU-A: the type is in the second byte, and there is no header that could be changed. Sets are never so long.
        28 => payload
            .get(1)
            .filter(|header| matches!(**header & 0x1f, 1..=5))
            .map(|header| (1, header & 0x1f))
            .into_iter()
            .collect(),
        kind => vec![(0, kind)],
    }
}

/// Whether the first slice of a byte stream is the first one of its picture: its header begins with first_mb_in_slice,
/// and the Exp-Golomb code of 0 is a single bit (ITU-T H.264, sections 7.3.3 and 9.1). What has no slice begins one too.
fn begins_picture(stream: &[u8]) -> bool {
    slice_header(stream).is_none_or(|header| stream.get(header + 1).is_some_and(|bits| bits & 0x80 != 0))
}

/// The position of the first NAL unit header of a slice.
fn slice_header(stream: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let code = stream.get(at..)?.windows(3).position(|code| code == [0, 0, 1])?;
        let header = at + code + 3;
        if matches!(stream.get(header)? & 0x1f, 1..=5) {
            return Some(header);
        }
        at = header;
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
    fn after_a_marker_nothing_is_a_repetition() {
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
            packets.look_at(packet);
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
    fn payloads_that_make_no_sense_are_left_alone() {
        let mut packets = Packets::default();
        packets.repetitions(1, &[IDR]);
        for payload in [&[][..], &[24], &[24, 0], &[24, 255, 255], &[28], &[28, SPS], &[31, SPS]] {
            assert!(packets.repetitions(1, payload).is_empty(), "{payload:?}");
        }
        assert_eq!(packets.repetitions(1, &[24, 0, 0, SPS]), [3], "a unit of no length ends nothing");
    }

    #[test]
    fn a_unit_that_lacks_its_first_slice_begins_no_picture() {
        assert!(begins_picture(&[0, 0, 0, 1, SPS, 1, 0, 0, 1, IDR, 0x88]));
        assert!(!begins_picture(&[0, 0, 0, 1, SPS, 1, 0, 0, 1, IDR, 0x48]));
        assert!(!begins_picture(&[0, 0, 1, IDR]));
        for no_slice in [&[][..], &[0], &[0, 0, 1], &[0, 0, 0, 0], &[0, 0, 1, SPS]] {
            assert!(begins_picture(no_slice), "{no_slice:?}");
        }
    }

    #[test]
    fn what_gstreamers_own_payloader_would_cut_stays_whole() {
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
        keep_whole(&pipeline.by_name("depay").expect("depay"));
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
        let slices = units.first().map_or(0, |unit| unit.1);
        assert!(slices > 1, "the encoder made no slices: {units:?}");
        assert_eq!(units, [false, true, false, true].map(|delta| (true, slices, delta)));
    }

    fn is_slice(at: &[u8]) -> bool {
        matches!(at, [0, 0, 1, header] if matches!(header & 0x1f, 1..=5))
    }
}
