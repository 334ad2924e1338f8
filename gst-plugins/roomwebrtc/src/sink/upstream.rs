//! Searches upstream of a pad: the element that produces the stream, its latency, and the kind of source.

use gst::prelude::*;

/// The element that produces a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Producer {
    /// A video encoder in this pipeline.
    Encoder(gst::Element),
    /// An RTP depayloader.
    Depayloader(gst::Element),
}

impl Producer {
    pub(crate) fn element(&self) -> &gst::Element {
        match self {
            Producer::Encoder(element) | Producer::Depayloader(element) => element,
        }
    }
}

/// Posts a warning when an H.264 encoder gets pictures with an odd width or height, which it cannot encode as 4:2:0: x264enc
/// fails with "Can not initialize x264 encoder", or chooses 4:4:4. Ends when this value is dropped.
pub(crate) struct SizeWatch {
    pad: gst::glib::WeakRef<gst::Pad>,
    probe: Option<gst::PadProbeId>,
}

impl SizeWatch {
    /// `reporter` posts the warnings. `None` for encoders of other codecs.
    pub(crate) fn new(encoder: &gst::Element, reporter: &impl IsA<gst::Element>) -> Option<Self> {
        let h264 = gst::Caps::new_empty_simple(crate::codec::H264.media_type);
        if !encoder.static_pad("src")?.pad_template_caps().can_intersect(&h264) {
            return None;
        }
        let pad = encoder.static_pad("sink")?;
        let (reporter, name) = (reporter.upcast_ref::<gst::Element>().downgrade(), encoder.name());
        let probe = pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
                && let Some((width, height)) = odd_size(caps.caps())
                && let Some(reporter) = reporter.upgrade()
            {
                gst::element_warning!(
                    reporter,
                    gst::StreamError::Encode,
                    (
                        "{name} gets pictures of {width}x{height}, but 4:2:0 requires an even width and height: put \
                         `videoscale ! video/x-raw,width={},height={}` in front of it",
                        width & !1,
                        height & !1
                    )
                );
            }
            gst::PadProbeReturn::Ok
        });
        Some(Self { pad: pad.downgrade(), probe })
    }
}

impl Drop for SizeWatch {
    fn drop(&mut self) {
        if let Some((pad, probe)) = self.pad.upgrade().zip(self.probe.take()) {
            pad.remove_probe(probe);
        }
    }
}

fn odd_size(caps: &gst::CapsRef) -> Option<(i32, i32)> {
    let structure = caps.structure(0)?;
    let size = (structure.get("width").ok()?, structure.get("height").ok()?);
    (size.0 % 2 != 0 || size.1 % 2 != 0).then_some(size)
}

/// The producer of the stream that `pad` receives. The search passes parsers, queues, capsfilters and bins.
pub(crate) fn producer(pad: &gst::Pad) -> Option<Producer> {
    let mut source = feeding_pad(pad)?;
    // The limit ends the search in a pipeline with a loop.
    for _ in 0..32 {
        let element = source.parent_element()?;
        let class = element.metadata(gst::ELEMENT_METADATA_KLASS).unwrap_or_default();
        if class.contains("Encoder") && class.contains("Video") {
            return Some(Producer::Encoder(element));
        }
        if class.contains("Depayloader") {
            return Some(Producer::Depayloader(element));
        }
        if ["Source", "Decoder", "Demuxer"].iter().any(|word| class.contains(word)) {
            return None;
        }
        let sink = source.iterate_internal_links().into_iter().flatten().next()?;
        source = feeding_pad(&sink)?;
    }
    None
}

/// The source pad that feeds `sink`, behind the ghost pads between them.
fn feeding_pad(sink: &gst::Pad) -> Option<gst::Pad> {
    let mut peer = sink.peer()?;
    for _ in 0..16 {
        if let Some(ghost) = peer.downcast_ref::<gst::GhostPad>() {
            peer = ghost.target()?;
        } else if let Some(ghost) = peer.parent().and_downcast::<gst::GhostPad>() {
            // The inner side of a bin's sink pad: its peer is outside.
            peer = ghost.peer()?;
        } else {
            return Some(peer);
        }
    }
    None
}

/// The latency that `encoder` itself adds.
pub(crate) fn latency_of(encoder: &gst::Element) -> Option<gst::ClockTime> {
    let (mut before, mut after) = (gst::query::Latency::new(), gst::query::Latency::new());
    let answered =
        encoder.static_pad("sink")?.peer_query(&mut before) && encoder.static_pad("src")?.query(&mut after);
    answered.then(|| after.result().1.saturating_sub(before.result().1))
}

/// Whether upstream is live. Without an answer to the query, it is not.
pub(crate) fn is_live(pad: &gst::Pad) -> bool {
    let mut query = gst::query::Latency::new();
    pad.peer_query(&mut query) && query.result().0
}

/// Whether the source of the stream is seekable in bytes, which files are, and pipes and sockets are not.
pub(crate) fn can_seek(pad: &gst::Pad) -> bool {
    let mut sink = pad.clone();
    for _ in 0..32 {
        let Some(source) = feeding_pad(&sink) else { return false };
        let before = source.iterate_internal_links().into_iter().flatten().next();
        let Some(before) = before else {
            let mut query = gst::query::Seeking::new(gst::Format::Bytes);
            return source.query(&mut query) && query.result().0;
        };
        sink = before;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer_in(line: &str) -> (gst::Bin, Option<Producer>) {
        gst::init().unwrap();
        let bin = gst::parse::bin_from_description(&format!("{line} ! fakesink name=end"), false).unwrap();
        let pad = bin.by_name("end").unwrap().static_pad("sink").unwrap();
        let producer = producer(&pad);
        (bin, producer)
    }

    #[test]
    fn an_encoder_is_found_behind_parsers_queues_and_bins() {
        for line in [
            "videotestsrc ! x264enc name=e ! h264parse ! queue ! capsfilter",
            "videotestsrc ! ( x264enc name=e ! queue ) ! identity",
            "videotestsrc ! x264enc name=e ! ( queue ! h264parse )",
        ] {
            let (bin, producer) = producer_in(line);
            assert_eq!(producer, bin.by_name("e").map(Producer::Encoder), "{line}");
        }
    }

    #[test]
    fn a_depayloader_ends_the_search() {
        let (bin, producer) = producer_in("udpsrc ! rtph264depay name=d ! h264parse");
        assert_eq!(producer, bin.by_name("d").map(Producer::Depayloader));
    }

    #[test]
    fn only_the_latency_of_the_encoder_itself_counts() {
        gst::init().unwrap();
        let line = "videotestsrc is-live=true ! identity name=i ! x264enc tune=zerolatency name=fast ! fakesink \
                    videotestsrc is-live=true ! x264enc name=slow ! fakesink";
        let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
        // A source with two seconds of latency, such as a jitter buffer.
        let slow_source = pipeline.by_name("i").unwrap().static_pad("src").unwrap();
        slow_source.add_probe(gst::PadProbeType::QUERY_UPSTREAM | gst::PadProbeType::PULL, |_, info| {
            let two_seconds = gst::ClockTime::from_seconds(2);
            if let Some(gst::PadProbeData::Query(query)) = &mut info.data
                && let gst::QueryViewMut::Latency(latency) = query.view_mut()
            {
                latency.set(true, two_seconds, gst::ClockTime::NONE);
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        for (name, range) in [("fast", 0..100), ("slow", 1000..2000)] {
            let encoder = pipeline.by_name(name).unwrap();
            let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while encoder.static_pad("src").unwrap().current_caps().is_none() {
                assert!(std::time::Instant::now() < until, "{name} starts");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let latency = latency_of(&encoder).unwrap().mseconds();
            assert!(range.contains(&latency), "{name} adds {latency} ms");
        }
        pipeline.set_state(gst::State::Null).unwrap();
    }
}
