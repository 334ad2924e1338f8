//! Receivers that join late a stream that carries its parameter sets only once.

use crate::bed::{Line, init, wait_until};
use gst::prelude::*;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// The NAL units of a byte stream, each with its start code.
fn nal_units(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes[*at..].starts_with(&[0, 0, 1]))
        .map(|at| if at > 0 && bytes[at - 1] == 0 { at - 1 } else { at })
        .collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(start, end)| &bytes[*start..end]).collect()
}

/// Whether a NAL unit is an SPS or a PPS.
fn is_parameter_set(nal_unit: &[u8]) -> bool {
    let header = nal_unit.iter().skip_while(|byte| **byte == 0).nth(1);
    header.is_some_and(|header| matches!(header & 0x1f, 7 | 8))
}

/// Removes the parameter sets from all access units but the first. Returns the number of access units
/// that had some.
fn keep_only_the_first_parameter_sets(encoder: &gst::Element) -> Arc<AtomicU64> {
    let stripped = Arc::new(AtomicU64::new(0));
    let (is_first, count) = (AtomicBool::new(true), stripped.clone());
    let pad = encoder.static_pad("src").unwrap();
    // Like many cameras, the encoder ignores requests for keyframes, at which h264parse would insert parameter sets.
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, |_, info| match info.event() {
        Some(event) if event.structure().is_some_and(|fields| fields.name() == "GstForceKeyUnit") => {
            gst::PadProbeReturn::Handled
        }
        _ => gst::PadProbeReturn::Ok,
    });
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if is_first.swap(false, Ordering::Relaxed) {
            return gst::PadProbeReturn::Ok;
        }
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
            let (kept, found) = {
                let bytes = buffer.map_readable().unwrap();
                let all = nal_units(&bytes);
                let kept: Vec<u8> =
                    all.iter().filter(|unit| !is_parameter_set(unit)).copied().flatten().copied().collect();
                (kept, all.iter().any(|unit| is_parameter_set(unit)))
            };
            count.fetch_add(u64::from(found), Ordering::Relaxed);
            let mut copy = gst::Buffer::from_mut_slice(kept);
            let flags = gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS;
            buffer.copy_into(copy.get_mut().unwrap(), flags, ..).unwrap();
            *buffer = copy;
        }
        gst::PadProbeReturn::Ok
    });
    stripped
}

fn server() -> room_signaling_server::Running {
    init();
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    room_signaling_server::spawn_thread(room_signaling_server::Config { listen, ..Default::default() })
        .unwrap()
}

/// Starts a receiver, and waits for pictures that it has decoded.
fn assert_decodes(uri: &str) -> Line {
    let receiver = Line::new(&format!(
        "roomwebrtcsrc signaling-uri={uri} ! avdec_h264 ! appsink name=a sync=false async=false"
    ));
    receiver.play();
    let sink = receiver.0.by_name("a").unwrap();
    for _ in 0..10 {
        let sample = sink.emit_by_name::<Option<gst::Sample>>(
            "try-pull-sample",
            &[&gst::ClockTime::from_seconds(20).nseconds()],
        );
        assert!(sample.is_some(), "a decoded picture");
    }
    receiver
}

const ENCODER: &str = "videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=120,framerate=30/1 ! \
                       x264enc name=e tune=zerolatency key-int-max=30";

#[test]
fn a_late_receiver_decodes_a_stream_with_parameter_sets_in_the_caps_only() {
    let server = server();
    let uri = format!("ws://{}", server.local_addr());
    let sender = Line::new(&format!(
        "{ENCODER} ! video/x-h264,stream-format=avc,alignment=au ! roomwebrtcsink name=s signaling-uri={uri}"
    ));
    sender.play();
    let caps = || sender.0.by_name("e").unwrap().static_pad("src").unwrap().current_caps();
    wait_until("the stream begins", || caps().is_some());
    assert!(caps().unwrap().structure(0).unwrap().has_field("codec_data"));
    let _early = assert_decodes(&uri);
    wait_until("several IDR pictures have passed", || sender.frames() > 65);
    let _late = assert_decodes(&uri);
}

#[test]
fn a_late_receiver_decodes_a_stream_with_parameter_sets_at_its_start_only() {
    let server = server();
    let uri = format!("ws://{}", server.local_addr());
    let sender = Line::new(&format!(
        "{ENCODER} ! video/x-h264,stream-format=byte-stream,alignment=au ! roomwebrtcsink name=s signaling-uri={uri}"
    ));
    let stripped = keep_only_the_first_parameter_sets(&sender.0.by_name("e").unwrap());
    sender.play();
    let _early = assert_decodes(&uri);
    wait_until("parameter sets were removed", || stripped.load(Ordering::Relaxed) > 1);
    let _late = assert_decodes(&uri);
}
