//! One request pad: the caps it answers, the chain behind it (parser, then an appsink that paces what is not live), and
//! the way of each access unit into the fan-out.

use super::{
    bitstream::{Arrival, Bitstream, Warning},
    caps::{self, PictureFormat, UnsupportedStream},
    command_sender::CommandSender,
    conductor::Command,
    fanout::{self, Fanout, OutgoingUnit},
    session::StreamInfo,
    timestamps::TimestampGenerator,
    timing::{SharedTime, Timing},
    tuning::{self, TuningOutcome},
    upstream::{self, Producer, SizeWatch},
};
use crate::{codec::Codec, h264_repair::H264Repair, log::CAT, stream_key::StreamKey, time::Now};
use gst::{glib, prelude::*};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// A pad of the sink, from its request to its release.
pub(crate) struct SinkPad {
    pub(crate) key: StreamKey,
    pub(crate) ghost: gst::GhostPad,
    conductor: CommandSender,
    fanout: Arc<Fanout>,
    pub(crate) timing: Arc<Timing>,
    /// The stream jumped (flush): the next unit starts anew.
    jumped: Arc<AtomicBool>,
    chain: Mutex<Option<Chain>>,
    timestamps: Arc<TimestampGenerator>,
    upstream: Mutex<Option<Upstream>>,
    /// Data without caps has been refused.
    refused: AtomicBool,
}

/// What stands behind a pad once its codec is known.
struct Chain {
    codec: Option<&'static Codec>,
    format: Option<PictureFormat>,
    parser: Option<gst::Element>,
    sink: gst_app::AppSink,
}

impl SinkPad {
    /// A pad with nothing behind it yet.
    pub(crate) fn new(
        key: StreamKey,
        ghost: gst::GhostPad,
        conductor: CommandSender,
        time: Arc<SharedTime>,
    ) -> Self {
        Self {
            key,
            ghost,
            conductor,
            fanout: Arc::default(),
            timing: Arc::new(Timing::new(time)),
            jumped: Arc::default(),
            chain: Mutex::new(None),
            timestamps: Arc::default(),
            upstream: Mutex::new(None),
            refused: AtomicBool::new(false),
        }
    }

    fn chain(&self) -> MutexGuard<'_, Option<Chain>> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn codec(&self) -> Option<&'static Codec> {
        self.chain().as_ref().and_then(|chain| chain.codec)
    }

    /// Tells the conductor of this pad, and of its stream where that is known.
    pub(crate) fn announce_pad(&self) {
        self.conductor.send(Command::PadAdded(self.key, self.ghost.downgrade()));
    }

    /// The caps that upstream may choose from.
    pub(crate) fn answer_caps(&self, filter: Option<&gst::Caps>) -> gst::Caps {
        match filter {
            Some(filter) => caps::answer(self.codec(), filter),
            None => caps::accepted(self.codec()),
        }
    }

    /// Whether this pad knows the media type of `caps`. [`SinkPad::set_caps`] refuses the rest with an error that says what
    /// to change; a negative answer here would leave "not-negotiated".
    pub(crate) fn accepts(caps: &gst::Caps) -> bool {
        caps::template().can_intersect(caps)
    }

    /// The stream is known now: builds the chain, decides on pacing, tells the conductor.
    pub(crate) fn set_caps(
        &self,
        bin: &super::RoomWebRtcSink,
        caps: &gst::CapsRef,
    ) -> Result<(), UnsupportedStream> {
        let codec = caps::codec_of(caps, self.codec())?;
        let format = PictureFormat::of(caps);
        if self.codec().is_some() {
            // Decoders need the parameter sets of the next IDR picture, but only if these differ.
            if self.replace_format(&format) != Some(format) {
                self.fanout.wait_for_idr();
            }
        } else {
            // An end of stream may have come before the first caps, and built a chain without a codec.
            self.remove_chain(bin);
            self.build(bin, Some(codec))
                .map_err(|error| UnsupportedStream::Unknown(format!("{} ({error})", codec.encoding)))?;
            self.replace_format(&format);
        }
        let live = upstream::is_live(self.ghost.upcast_ref());
        self.timing.set_live(live);
        if let Some(chain) = &*self.chain() {
            chain.sink.set_sync(!live);
        }
        self.report_latency(bin);
        self.announce_stream(codec);
        Ok(())
    }

    /// Replaces what is known of the pictures; returns what was known before.
    fn replace_format(&self, format: &PictureFormat) -> Option<PictureFormat> {
        self.chain().as_mut().and_then(|chain| chain.format.replace(format.clone()))
    }

    fn announce_stream(&self, codec: &'static Codec) {
        self.conductor.send(Command::PadReady(StreamInfo {
            key: self.key,
            codec,
            fanout: self.fanout.clone(),
        }));
    }

    /// Handles SEGMENT: after an end of stream, for instance after a seek back, the stream flows again.
    pub(crate) fn segment(&self, segment: &gst::Segment) -> Result<(), UnsupportedStream> {
        let Some(codec) = self.codec() else { return Ok(()) };
        // A parser finds times in bytes.
        if codec.parser.is_none() && segment.format() != gst::Format::Time {
            return Err(UnsupportedStream::NoTime(codec.encoding));
        }
        self.announce_stream(codec);
        Ok(())
    }

    /// Handles FLUSH_STOP: the stream jumps, and receivers resume at the next IDR.
    pub(crate) fn flushed(&self, bin: &super::RoomWebRtcSink, event: &gst::event::FlushStop) {
        self.jumped.store(true, Ordering::Release);
        self.fanout.wait_for_idr();
        if event.resets_time() {
            self.timing.flush(event.seqnum(), Now::of(bin));
        }
    }

    /// The stream ends. One that never began needs a sink too, or the pipeline's end of stream would never come.
    pub(crate) fn handle_eos(&self, bin: &super::RoomWebRtcSink) {
        if self.chain().is_none()
            && let Err(error) = self.build(bin, None)
        {
            gst::error!(CAT, obj = self.ghost, "{error}");
        }
    }

    fn build(
        &self,
        bin: &super::RoomWebRtcSink,
        codec: Option<&'static Codec>,
    ) -> Result<(), glib::BoolError> {
        let sink = gst_app::AppSink::builder()
            .name(format!("input-{}", self.key))
            .async_(false)
            .sync(true)
            .enable_last_sample(false)
            .build();
        if let Some(codec) = codec {
            sink.set_caps(Some(&codec.unit_caps()));
        }
        sink.set_callbacks(self.callbacks(bin, codec));
        self.generate_timestamps(bin, &sink);
        let jumped = self.jumped.clone();
        self.timing.watch(bin, &sink, move || jumped.store(true, Ordering::Release));
        bin.add(&sink)?;
        let parser =
            codec.and_then(|codec| codec.parser).map(|name| make_parser(bin, name, &sink)).transpose()?;
        let first = parser.as_ref().unwrap_or(sink.upcast_ref());
        sink.sync_state_with_parent()?;
        if let Some(parser) = &parser {
            parser.sync_state_with_parent()?;
        }
        self.ghost.set_target(first.static_pad("sink").as_ref())?;
        *self.chain() = Some(Chain { codec, format: None, parser, sink });
        Ok(())
    }

    /// Gives times to units that have none, before anything else looks at these.
    fn generate_timestamps(&self, bin: &super::RoomWebRtcSink, sink: &gst_app::AppSink) {
        let Some(pad) = sink.static_pad("sink") else { return };
        let (timestamps, ghost) = (self.timestamps.clone(), self.ghost.downgrade());
        let (bin, sink) = (bin.downgrade(), sink.downgrade());
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            match &mut info.data {
                Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Segment => {
                    timestamps.reset();
                }
                Some(gst::PadProbeData::Buffer(buffer)) => {
                    if let (Some(bin), Some(sink), Some(ghost)) =
                        (bin.upgrade(), sink.upgrade(), ghost.upgrade())
                    {
                        let now = bin.current_running_time().unwrap_or_default();
                        if let Some(warning) = timestamps.arrive(ghost.upcast_ref(), &sink, buffer, now) {
                            gst::element_warning!(bin, gst::StreamError::Format, ("{warning}"));
                        }
                    }
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// The pad is to be removed. Its chain stops first: the streaming thread may be waiting in there, and deactivating
    /// the pad waits for that thread.
    pub(crate) fn release(&self, bin: &super::RoomWebRtcSink) {
        self.conductor.send(Command::PadGone(self.key));
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.remove_chain(bin);
        let _ = self.ghost.set_active(false);
    }

    /// Removes what is behind the pad, which forgets its codec.
    pub(crate) fn remove_chain(&self, bin: &super::RoomWebRtcSink) {
        self.refused.store(false, Ordering::Relaxed);
        let Some(chain) = self.chain().take() else { return };
        // The sink first: what waits in it returns, and the parser's pads are free then.
        for element in [chain.sink.upcast_ref()].into_iter().chain(&chain.parser) {
            element.set_locked_state(true);
            let _ = element.set_state(gst::State::Null);
        }
        let _ = self.ghost.set_target(None::<&gst::Pad>);
        for element in [chain.sink.upcast_ref()].into_iter().chain(&chain.parser) {
            let _ = bin.remove(element);
        }
    }

    /// What the streaming thread does with each access unit.
    fn callbacks(
        &self,
        bin: &super::RoomWebRtcSink,
        codec: Option<&'static Codec>,
    ) -> gst_app::AppSinkCallbacks {
        let mut handler = SampleHandler {
            bin: bin.downgrade(),
            key: self.key,
            fanout: self.fanout.clone(),
            conductor: self.conductor.clone(),
            jumped: self.jumped.clone(),
            timing: self.timing.clone(),
            bitstream: codec.map(Bitstream::new),
            timestamps: self.timestamps.clone(),
        };
        let (conductor, key) = (self.conductor.clone(), self.key);
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| handler.handle_sample(sink))
            .eos(move |_| {
                // The end-of-stream message follows when this returns: by then all has been sent.
                let (done, drained) = mpsc::sync_channel(1);
                if conductor.send(Command::PadEnded(key, done)) {
                    let _ = drained.recv_timeout(super::fanout::DRAIN + Duration::from_millis(200));
                }
            })
            .build()
    }

    /// Finds the element that produces the stream: repairs H.264 that comes by RTP, watches an encoder, and, where `tunes`,
    /// sets it to low latency.
    pub(crate) fn look_upstream(&self, bin: &super::RoomWebRtcSink, tunes: bool) {
        let producer = upstream::producer(self.ghost.upcast_ref());
        let mut known = self.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(producer) = producer else {
            *known = None;
            return;
        };
        if known.as_ref().is_none_or(|known| known.element != *producer.element()) {
            *known = Some(Upstream::new(bin, &producer));
        }
        drop(known);
        if tunes && let Producer::Encoder(encoder) = producer {
            self.tune(bin, &encoder);
        }
    }

    /// Tunes an encoder and posts what was set.
    fn tune(&self, bin: &super::RoomWebRtcSink, encoder: &gst::Element) {
        match tuning::tune(encoder) {
            TuningOutcome::Set(set) if set.is_empty() => {}
            TuningOutcome::Set(set) => {
                let set = set.join(" ");
                gst::info!(CAT, obj = bin, "{} was not set to low latency: set {set}", encoder.name());
                let message = gst::Structure::builder("room-upstream-tuned")
                    .field("encoder", encoder.name().as_str())
                    .field("properties", set)
                    .build();
                let _ = bin.post_message(gst::message::Element::builder(message).src(bin).build());
            }
            TuningOutcome::TooLate(needed) => {
                if self.first_time(|known| &mut known.reported_too_late) {
                    gst::element_warning!(
                        bin,
                        gst::StreamError::Encode,
                        (
                            "{} is at work already and cannot be set to low latency any more: set {} before it starts",
                            encoder.name(),
                            needed.join(" ")
                        )
                    );
                }
            }
            TuningOutcome::Unknown => {
                gst::info!(CAT, obj = bin, "no low-latency settings are known for {}", encoder.name());
            }
        }
    }

    /// Reports an encoder that holds pictures back. Others may add latency, too, such as a jitter buffer, but the sink
    /// does not wait for it.
    fn report_latency(&self, bin: &super::RoomWebRtcSink) {
        let Some(Producer::Encoder(encoder)) = upstream::producer(self.ghost.upcast_ref()) else { return };
        let Some(latency) = upstream::latency_of(&encoder).filter(|latency| *latency > upstream::TOO_LATE)
        else {
            return;
        };
        if self.first_time(|known| &mut known.reported_latency) {
            gst::element_warning!(
                bin,
                gst::StreamError::Encode,
                (
                    "{} delays the stream by {} ms: set it to low latency (no B-frames, no lookahead; \
                     x264enc: tune=zerolatency)",
                    encoder.name(),
                    latency.mseconds()
                )
            );
        }
    }

    /// Whether something about the element upstream has not been reported yet.
    fn first_time(&self, reported: impl FnOnce(&mut Upstream) -> &mut bool) -> bool {
        let mut known = self.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_mut().is_none_or(|known| !std::mem::replace(reported(known), true))
    }

    /// Posts an error for data whose caps are unknown: otherwise the pipeline would end with "not-linked".
    pub(crate) fn refuse_data_without_caps(&self, bin: &super::RoomWebRtcSink) {
        let is_first = || !self.refused.swap(true, Ordering::Relaxed);
        if self.chain().is_none() && is_first() {
            gst::element_error!(bin, gst::StreamError::Format, ("{}", UnsupportedStream::NoCaps));
        }
    }
}

/// The element that produces the stream, and what is done to it.
struct Upstream {
    element: gst::Element,
    _watch: Option<Watch>,
    reported_latency: bool,
    reported_too_late: bool,
}

/// Work on an element upstream that ends with this value.
enum Watch {
    Repair { _repair: H264Repair },
    Size { _watch: SizeWatch },
}

impl Upstream {
    fn new(bin: &super::RoomWebRtcSink, producer: &Producer) -> Self {
        let element = producer.element().clone();
        let watch = match producer {
            Producer::Encoder(encoder) => {
                SizeWatch::new(encoder, bin).map(|watch| Watch::Size { _watch: watch })
            }
            Producer::Depayloader(depayloader) => depayloader
                .factory()
                .filter(|factory| factory.name() == "rtph264depay")
                .map(|_| Watch::Repair { _repair: H264Repair::new(depayloader) }),
        };
        Self { element, _watch: watch, reported_latency: false, reported_too_late: false }
    }
}

fn make_parser(
    bin: &super::RoomWebRtcSink,
    name: &str,
    sink: &gst_app::AppSink,
) -> Result<gst::Element, glib::BoolError> {
    let parser = gst::ElementFactory::make(name).build()?;
    // Parameter sets with every IDR: receivers join at any of them.
    parser.set_property("config-interval", -1);
    bin.add(&parser)?;
    parser.link(sink)?;
    Ok(parser)
}

/// The way of an access unit from the appsink into the fan-out. Owned by the streaming thread.
struct SampleHandler {
    bin: glib::WeakRef<super::RoomWebRtcSink>,
    key: StreamKey,
    fanout: Arc<Fanout>,
    conductor: CommandSender,
    jumped: Arc<AtomicBool>,
    timing: Arc<Timing>,
    /// `None`: the stream ended before its codec was known.
    bitstream: Option<Bitstream>,
    timestamps: Arc<TimestampGenerator>,
}

impl SampleHandler {
    fn handle_sample(&mut self, sink: &gst_app::AppSink) -> Result<gst::FlowSuccess, gst::FlowError> {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        let Some(buffer) = sample.buffer() else { return Ok(gst::FlowSuccess::Ok) };
        let Some(bitstream) = &mut self.bitstream else { return Ok(gst::FlowSuccess::Ok) };
        if self.jumped.swap(false, Ordering::AcqRel) {
            bitstream.jump();
        }
        let arrival = Arrival {
            pts: buffer.pts().filter(|_| !self.timestamps.is_untimed()),
            requests: self.fanout.keyframe_requests(),
            now: Instant::now(),
        };
        let inspected = {
            let bytes = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            bitstream.inspect(&bytes, arrival)
        };
        let inspected = inspected.map_err(|refusal| {
            if let Some(bin) = self.bin.upgrade() {
                gst::element_error!(bin, gst::StreamError::WrongType, ("{refusal}"));
            }
            gst::FlowError::Error
        })?;
        inspected.warnings.iter().for_each(|warning| self.warn(*warning));
        let time = self.bin.upgrade().and_then(|bin| self.timing.session_time(&bin, &sample));
        let Some(time) = time else { return Ok(gst::FlowSuccess::Ok) };
        let unit = OutgoingUnit {
            buffer: fanout::restamped(buffer, time),
            is_idr: inspected.is_idr,
            random_access: inspected.random_access,
        };
        if self.fanout.push(&unit) {
            self.conductor.send(Command::Keyframe(self.key));
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn warn(&self, warning: Warning) {
        if let Some(bin) = self.bin.upgrade() {
            gst::element_warning!(bin, gst::StreamError::Encode, ("{warning}"));
        }
    }
}
