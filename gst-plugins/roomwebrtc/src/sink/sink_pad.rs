//! One request pad: its answers to caps queries, its handling of events, and the chain behind it, which is a parser and an
//! appsink. `sample_handler.rs` handles the access units that the appsink receives.

use super::{
    bitstream::Bitstream,
    caps::{self, PictureFormat, UnsupportedStream},
    command_sender::CommandSender,
    conductor::Command,
    fanout::{DRAIN, Fanout},
    sample_handler::SampleHandler,
    session::StreamInfo,
    timestamps::TimestampGenerator,
    timing::{SharedTime, Timing},
    upstream,
    upstream_monitor::UpstreamMonitor,
};
use crate::{codec::Codec, log::CAT, stream_key::StreamKey, sync::lock, time::Now};
use gst::{glib, prelude::*};
use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

/// A pad of the sink, from its request to its release.
pub(crate) struct SinkPad {
    pub(crate) key: StreamKey,
    pub(crate) ghost: gst::GhostPad,
    conductor: CommandSender,
    fanout: Arc<Fanout>,
    pub(crate) timing: Arc<Timing>,
    timestamps: Arc<TimestampGenerator>,
    /// Set by a flush or a step of the timestamps: the next unit does not follow the one before it.
    discontinuity: Arc<AtomicBool>,
    chain: Mutex<Option<Chain>>,
    upstream: UpstreamMonitor,
    /// Whether data without caps has been reported.
    reported_no_caps: AtomicBool,
    /// Set before the pad is removed, while its streaming thread may still be handling an event.
    released: AtomicBool,
}

/// The elements behind a pad whose codec is known.
struct Chain {
    /// `None` if the stream ended before its codec was known.
    codec: Option<&'static Codec>,
    format: Option<PictureFormat>,
    parser: Option<gst::Element>,
    sink: gst_app::AppSink,
}

impl SinkPad {
    /// A pad without a chain.
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
            timestamps: Arc::default(),
            discontinuity: Arc::default(),
            chain: Mutex::new(None),
            upstream: UpstreamMonitor::default(),
            reported_no_caps: AtomicBool::new(false),
            released: AtomicBool::new(false),
        }
    }

    fn chain(&self) -> MutexGuard<'_, Option<Chain>> {
        lock(&self.chain)
    }

    fn codec(&self) -> Option<&'static Codec> {
        self.chain().as_ref().and_then(|chain| chain.codec)
    }

    /// Adds this pad to those that the conductor knows.
    pub(crate) fn announce_pad(&self) {
        self.conductor.send(Command::PadAdded(self.key, self.ghost.downgrade()));
    }

    /// Informs the conductor that the stream of this pad flows.
    fn announce_stream(&self, codec: &'static Codec) {
        let fanout = self.fanout.clone();
        self.conductor.send(Command::PadReady(StreamInfo { key: self.key, codec, fanout }));
    }

    /// Monitors the element upstream and, if `tunes`, configures an encoder for low latency.
    pub(crate) fn monitor_upstream(&self, bin: &super::RoomWebRtcSink, tunes: bool) {
        self.upstream.update(bin, self.ghost.upcast_ref(), tunes);
    }

    // --- queries and events, on the streaming thread

    /// The answer to a caps query.
    pub(crate) fn query_caps(&self, filter: Option<&gst::Caps>) -> gst::Caps {
        match filter {
            Some(filter) => caps::answer(self.codec(), filter),
            None => caps::accepted(self.codec()),
        }
    }

    /// Whether this pad knows the media type of `caps`. Other caps are accepted here although they cannot be sent, because
    /// [`SinkPad::handle_caps`] then posts an error that names the fix, instead of "not-negotiated".
    pub(crate) fn accepts(caps: &gst::Caps) -> bool {
        caps::template().can_intersect(caps)
    }

    /// Handles CAPS: builds the chain, decides whether the stream has to be paced, and announces the stream.
    pub(crate) fn handle_caps(
        &self,
        bin: &super::RoomWebRtcSink,
        caps: &gst::CapsRef,
    ) -> Result<(), UnsupportedStream> {
        let codec = caps::codec_of(caps, self.codec())?;
        let format = PictureFormat::of(caps);
        if self.codec().is_some() {
            // Other parameter sets come with the next IDR picture. Caps that differ in other fields interrupt nothing.
            if self.replace_format(&format) != Some(format) {
                self.fanout.wait_for_idr();
            }
        } else {
            // An EOS before the first caps may have built a chain without a codec.
            self.remove_chain(bin);
            self.build_chain(bin, Some(codec))
                .map_err(|error| UnsupportedStream::Unknown(format!("{} ({error})", codec.encoding)))?;
            self.replace_format(&format);
        }
        let live = upstream::is_live(self.ghost.upcast_ref());
        self.timing.set_live(live);
        if let Some(chain) = &*self.chain() {
            chain.sink.set_sync(!live);
        }
        self.upstream.report_latency(bin, self.ghost.upcast_ref());
        self.announce_stream(codec);
        Ok(())
    }

    /// Stores the format of the pictures. Returns the previous one.
    fn replace_format(&self, format: &PictureFormat) -> Option<PictureFormat> {
        self.chain().as_mut().and_then(|chain| chain.format.replace(format.clone()))
    }

    /// Handles SEGMENT: a stream that had ended flows again, for instance after a seek.
    pub(crate) fn handle_segment(&self, segment: &gst::Segment) -> Result<(), UnsupportedStream> {
        let Some(codec) = self.codec() else { return Ok(()) };
        // A parser converts a segment in bytes.
        if codec.parser.is_none() && segment.format() != gst::Format::Time {
            return Err(UnsupportedStream::NoTime(codec.encoding));
        }
        self.announce_stream(codec);
        Ok(())
    }

    /// Handles FLUSH_STOP: receivers resume at the next IDR picture.
    pub(crate) fn handle_flush_stop(&self, bin: &super::RoomWebRtcSink, event: &gst::event::FlushStop) {
        self.discontinuity.store(true, Ordering::Release);
        self.fanout.wait_for_idr();
        if event.resets_time() {
            self.timing.flush(event.seqnum(), Now::of(bin));
        }
    }

    /// Handles EOS. A stream without caps also needs a chain, because the pipeline waits for the EOS of every sink.
    pub(crate) fn handle_eos(&self, bin: &super::RoomWebRtcSink) {
        if self.chain().is_none()
            && let Err(error) = self.build_chain(bin, None)
        {
            gst::error!(CAT, obj = self.ghost, "{error}");
        }
    }

    /// Handles a buffer of a stream without caps: posts an error once, instead of "not-linked".
    pub(crate) fn refuse_data_without_caps(&self, bin: &super::RoomWebRtcSink) {
        if self.chain().is_none()
            && !self.released.load(Ordering::Acquire)
            && !self.reported_no_caps.swap(true, Ordering::Relaxed)
        {
            gst::element_error!(bin, gst::StreamError::Format, ("{}", UnsupportedStream::NoCaps));
        }
    }

    // --- the chain

    fn build_chain(
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
        // The order of these probes matters: the timing reads the timestamps.
        self.generate_timestamps(bin, &sink);
        let discontinuity = self.discontinuity.clone();
        self.timing.watch(bin, &sink, move || discontinuity.store(true, Ordering::Release));
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
        // `release` sets the flag before it takes the lock, so one of the two removes the chain.
        if self.released.load(Ordering::Acquire) {
            self.remove_chain(bin);
        }
        Ok(())
    }

    /// Adds timestamps to units that have none.
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
                        if let Some(warning) = timestamps.complete(ghost.upcast_ref(), &sink, buffer, now) {
                            gst::element_warning!(bin, gst::StreamError::Format, ("{warning}"));
                        }
                    }
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
    }

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
            discontinuity: self.discontinuity.clone(),
            timing: self.timing.clone(),
            timestamps: self.timestamps.clone(),
            bitstream: codec.map(Bitstream::new),
        };
        let (conductor, key) = (self.conductor.clone(), self.key);
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| handler.handle(sink))
            .eos(move |_| {
                // The appsink posts its EOS message when this returns. Receivers get all queued units before that.
                let (done, drained) = mpsc::sync_channel(1);
                if conductor.send(Command::PadEnded(key, done)) {
                    let _ = drained.recv_timeout(DRAIN + Duration::from_millis(200));
                }
            })
            .build()
    }

    /// Stops the pad before its removal.
    pub(crate) fn release(&self, bin: &super::RoomWebRtcSink) {
        self.released.store(true, Ordering::Release);
        self.conductor.send(Command::PadGone(self.key));
        self.upstream.clear();
        // Deactivating the pad waits for its streaming thread, which may be waiting in the chain.
        self.remove_chain(bin);
        let _ = self.ghost.set_active(false);
    }

    /// Removes the chain, and with it the codec of the pad.
    pub(crate) fn remove_chain(&self, bin: &super::RoomWebRtcSink) {
        self.reported_no_caps.store(false, Ordering::Relaxed);
        let Some(chain) = self.chain().take() else { return };
        // The appsink stops first: a streaming thread that waits in it returns and releases the parser's pads.
        for element in [chain.sink.upcast_ref()].into_iter().chain(&chain.parser) {
            element.set_locked_state(true);
            let _ = element.set_state(gst::State::Null);
        }
        let _ = self.ghost.set_target(None::<&gst::Pad>);
        for element in [chain.sink.upcast_ref()].into_iter().chain(&chain.parser) {
            let _ = bin.remove(element);
        }
    }
}

fn make_parser(
    bin: &super::RoomWebRtcSink,
    name: &str,
    sink: &gst_app::AppSink,
) -> Result<gst::Element, glib::BoolError> {
    let parser = gst::ElementFactory::make(name).build()?;
    // Receivers can join at every IDR picture, so each one needs the parameter sets.
    parser.set_property("config-interval", -1);
    bin.add(&parser)?;
    parser.link(sink)?;
    Ok(parser)
}
