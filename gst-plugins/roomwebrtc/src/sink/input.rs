//! One request pad: the caps it answers, the chain behind it (parser, then an appsink that paces what is not live), and
//! the way of each access unit into the fan-out.

use super::{
    bitstream::{Arrival, Bitstream, Warning},
    caps::{self, Refusal},
    conductor::Command,
    fanout::{self, Fanout, Unit},
    mailbox::Mailbox,
    session::StreamInfo,
    timing::{SharedTime, Timing},
    upstream::{self, Origin, Tuned},
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
pub(crate) struct Input {
    pub(crate) key: StreamKey,
    pub(crate) ghost: gst::GhostPad,
    mailbox: Mailbox,
    fanout: Arc<Fanout>,
    pub(crate) timing: Arc<Timing>,
    /// The stream jumped (flush): the next unit starts anew.
    jumped: Arc<AtomicBool>,
    chain: Mutex<Option<Chain>>,
    /// The depayloader upstream, and its repair.
    depayloader: Mutex<Option<(gst::Element, H264Repair)>>,
}

/// What stands behind a pad once its codec is known.
struct Chain {
    codec: Option<&'static Codec>,
    parser: Option<gst::Element>,
    sink: gst_app::AppSink,
}

impl Input {
    /// A pad with nothing behind it yet.
    pub(crate) fn new(key: StreamKey, ghost: gst::GhostPad, mailbox: Mailbox, time: Arc<SharedTime>) -> Self {
        Self {
            key,
            ghost,
            mailbox,
            fanout: Arc::default(),
            timing: Arc::new(Timing::new(time)),
            jumped: Arc::default(),
            chain: Mutex::new(None),
            depayloader: Mutex::new(None),
        }
    }

    fn chain(&self) -> MutexGuard<'_, Option<Chain>> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn codec(&self) -> Option<&'static Codec> {
        self.chain().as_ref().and_then(|chain| chain.codec)
    }

    /// Tells the conductor of this pad, and of its stream where that is known.
    pub(crate) fn introduce(&self) {
        self.mailbox.send(Command::PadAdded(self.key, self.ghost.downgrade()));
    }

    /// The caps that upstream may choose from.
    pub(crate) fn answer_caps(&self, filter: Option<&gst::Caps>) -> gst::Caps {
        let caps = caps::accepted(self.codec());
        match filter {
            // In this order the sink's preference wins over the filter's.
            Some(filter) => caps.intersect_with_mode(filter, gst::CapsIntersectMode::First),
            None => caps,
        }
    }

    /// Whether caps are of a kind that this pad knows. What can't be sent all the same is let in here and refused by
    /// [`Input::set_caps`], with words that a plain no to this query would leave unsaid.
    pub(crate) fn accepts(caps: &gst::Caps) -> bool {
        caps::template().can_intersect(caps)
    }

    /// The stream is known now: builds the chain, decides on pacing, tells the conductor.
    pub(crate) fn set_caps(&self, bin: &super::RoomWebRtcSink, caps: &gst::CapsRef) -> Result<(), Refusal> {
        let codec = caps::codec_of(caps, self.codec())?;
        if self.codec().is_some() {
            // Another size, say: decoders go on with the parameter sets of the next IDR.
            self.fanout.regate();
        } else {
            // An end of stream may have come before the first caps, and built a chain without a codec.
            self.take_down(bin);
            self.build(bin, Some(codec))
                .map_err(|error| Refusal::Unknown(format!("{} ({error})", codec.encoding)))?;
        }
        let timing = upstream::timing(self.ghost.upcast_ref());
        self.timing.set_live(timing.live);
        if let Some(chain) = &*self.chain() {
            chain.sink.set_sync(!timing.live);
        }
        if timing.live && timing.latency > upstream::TOO_LATE {
            gst::element_warning!(
                bin,
                gst::StreamError::Encode,
                (
                    "upstream delays the stream by {} ms: set the encoder to low latency (no B-frames, no lookahead, \
                     x264enc: tune=zerolatency)",
                    timing.latency.mseconds()
                )
            );
        }
        self.flows(codec);
        Ok(())
    }

    fn flows(&self, codec: &'static Codec) {
        self.mailbox.send(Command::PadReady(StreamInfo {
            key: self.key,
            codec,
            fanout: self.fanout.clone(),
        }));
    }

    /// A new segment: after an end of stream (a seek back, say) the stream flows again.
    pub(crate) fn segment(&self) {
        if let Some(codec) = self.codec() {
            self.flows(codec);
        }
    }

    /// Handles FLUSH_STOP: the stream jumps, and receivers resume at the next IDR.
    pub(crate) fn flushed(&self, bin: &super::RoomWebRtcSink, event: &gst::event::FlushStop) {
        self.jumped.store(true, Ordering::Release);
        self.fanout.regate();
        if event.resets_time() {
            self.timing.flush(event.seqnum(), Now::of(bin));
        }
    }

    /// The stream ends. One that never began needs a sink too, or the pipeline's end of stream would never come.
    pub(crate) fn ends(&self, bin: &super::RoomWebRtcSink) {
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
        *self.chain() = Some(Chain { codec, parser, sink });
        Ok(())
    }

    /// The pad is to be removed. Its chain stops first: the streaming thread may be waiting in there, and deactivating
    /// the pad waits for that thread.
    pub(crate) fn release(&self, bin: &super::RoomWebRtcSink) {
        self.mailbox.send(Command::PadGone(self.key));
        *self.depayloader.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.take_down(bin);
        let _ = self.ghost.set_active(false);
    }

    /// Removes what is behind the pad, which forgets its codec.
    pub(crate) fn take_down(&self, bin: &super::RoomWebRtcSink) {
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
        let mut unit = UnitPath {
            bin: bin.downgrade(),
            key: self.key,
            fanout: self.fanout.clone(),
            mailbox: self.mailbox.clone(),
            jumped: self.jumped.clone(),
            timing: self.timing.clone(),
            bitstream: codec.map(Bitstream::new),
        };
        let (mailbox, key) = (self.mailbox.clone(), self.key);
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| unit.take(sink))
            .eos(move |_| {
                // The end-of-stream message follows when this returns: by then all has been sent.
                let (done, drained) = mpsc::sync_channel(1);
                if mailbox.send(Command::PadEnded(key, done)) {
                    let _ = drained.recv_timeout(super::fanout::DRAIN + Duration::from_millis(200));
                }
            })
            .build()
    }

    /// Tunes the encoder upstream where there is one that can be, and keeps pictures whole that come by RTP.
    pub(crate) fn tune_upstream(&self, bin: &super::RoomWebRtcSink) {
        match upstream::origin(self.ghost.upcast_ref()) {
            Some(Origin::Encoder(encoder)) => tune(bin, &encoder),
            Some(Origin::Depayloader(depayloader)) => {
                let mut known = self.depayloader.lock().unwrap_or_else(PoisonError::into_inner);
                let is_h264 = depayloader.factory().is_some_and(|factory| factory.name() == "rtph264depay");
                if is_h264 && known.as_ref().is_none_or(|(known, _)| *known != depayloader) {
                    let repair = H264Repair::new(&depayloader);
                    *known = Some((depayloader, repair));
                }
            }
            None => {}
        }
    }
}

/// Tunes an encoder and tells what was set.
fn tune(bin: &super::RoomWebRtcSink, encoder: &gst::Element) {
    match upstream::tune(encoder) {
        Tuned::Set(set) if set.is_empty() => {}
        Tuned::Set(set) => {
            let set = set.join(" ");
            gst::info!(CAT, obj = bin, "{} was not tuned for live: set {set}", encoder.name());
            let message = gst::Structure::builder("room-upstream-tuned")
                .field("encoder", encoder.name().as_str())
                .field("properties", set)
                .build();
            let _ = bin.post_message(gst::message::Element::builder(message).src(bin).build());
        }
        Tuned::Running => gst::warning!(
            CAT,
            obj = bin,
            "{} runs already and can't be tuned: set it to low latency yourself",
            encoder.name()
        ),
        Tuned::Unknown => {
            gst::info!(CAT, obj = bin, "nothing is known of how to tune {}", encoder.name());
        }
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
struct UnitPath {
    bin: glib::WeakRef<super::RoomWebRtcSink>,
    key: StreamKey,
    fanout: Arc<Fanout>,
    mailbox: Mailbox,
    jumped: Arc<AtomicBool>,
    timing: Arc<Timing>,
    /// `None`: the stream ended before its codec was known.
    bitstream: Option<Bitstream>,
}

impl UnitPath {
    fn take(&mut self, sink: &gst_app::AppSink) -> Result<gst::FlowSuccess, gst::FlowError> {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        let Some(buffer) = sample.buffer() else { return Ok(gst::FlowSuccess::Ok) };
        let Some(bitstream) = &mut self.bitstream else { return Ok(gst::FlowSuccess::Ok) };
        if self.jumped.swap(false, Ordering::AcqRel) {
            bitstream.jump();
        }
        let arrival =
            Arrival { pts: buffer.pts(), requests: self.fanout.keyframe_requests(), now: Instant::now() };
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
        let unit = Unit {
            buffer: fanout::restamped(buffer, time),
            is_idr: inspected.is_idr,
            entry: inspected.entry,
        };
        if self.fanout.push(&unit) {
            self.mailbox.send(Command::Keyframe(self.key));
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn warn(&self, warning: Warning) {
        if let Some(bin) = self.bin.upgrade() {
            gst::element_warning!(bin, gst::StreamError::Encode, ("{warning}"));
        }
    }
}
