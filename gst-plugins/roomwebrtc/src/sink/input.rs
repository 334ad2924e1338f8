//! One request pad: the caps it answers, the chain behind it (parser, then an appsink that paces what is not live), and
//! the way of each access unit into the fan-out.

use super::{
    caps::{self, Refusal},
    conductor::Command,
    fanout::{Fanout, Restamp},
    mailbox::Mailbox,
    reorder::ReorderWatch,
    session::StreamInfo,
    upstream::{self, Origin, Tuned},
};
use crate::{codec::Codec, log::CAT, stream_key::StreamKey};
use gst::{glib, prelude::*};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

/// A pad of the sink, from its request to its release.
pub(crate) struct Input {
    pub(crate) key: StreamKey,
    pub(crate) ghost: gst::GhostPad,
    mailbox: Mailbox,
    fanout: Arc<Fanout>,
    /// The stream jumped (flush): the next unit starts anew.
    jumped: Arc<AtomicBool>,
    chain: Mutex<Option<Chain>>,
    /// The depayloader upstream that is watched over.
    depayloader: Mutex<Option<gst::Element>>,
}

/// What stands behind a pad once its codec is known.
struct Chain {
    codec: Option<&'static Codec>,
    parser: Option<gst::Element>,
    sink: gst_app::AppSink,
}

impl Input {
    /// A pad with nothing behind it yet.
    pub(crate) fn new(key: StreamKey, ghost: gst::GhostPad, mailbox: Mailbox) -> Self {
        Self {
            key,
            ghost,
            mailbox,
            fanout: Arc::default(),
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
            self.build(bin, Some(codec))
                .map_err(|error| Refusal::Unknown(format!("{} ({error})", codec.encoding)))?;
        }
        let timing = upstream::timing(self.ghost.upcast_ref());
        if let Some(chain) = &*self.chain() {
            // Live input comes at its own pace, and waiting for the clock would only add delay.
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

    /// The stream jumps: receivers go on at the next IDR.
    pub(crate) fn flushed(&self) {
        self.jumped.store(true, Ordering::Release);
        self.fanout.regate();
    }

    /// A flush took running time back to zero. Base time stays where it is, as nothing here waits for a preroll: the
    /// stream goes on at `now`, or all of it up to then would be late and go out at once.
    pub(crate) fn goes_on_at(&self, now: gst::ClockTime) {
        self.ghost.set_offset(i64::try_from(now.nseconds()).unwrap_or(i64::MAX));
    }

    /// The pipeline plays (again), at this running time. If it is back at zero, another sink did wait for its preroll
    /// after the flush, and base time moved.
    pub(crate) fn plays_at(&self, now: gst::ClockTime) {
        if u64::try_from(self.ghost.offset()).is_ok_and(|offset| offset > now.nseconds()) {
            self.goes_on_at(now);
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
        sink.set_callbacks(self.callbacks(bin));
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

    /// Takes the chain out of the bin.
    pub(crate) fn release(&self, bin: &super::RoomWebRtcSink) {
        self.mailbox.send(Command::PadGone(self.key));
        let _ = self.ghost.set_target(None::<&gst::Pad>);
        let Some(chain) = self.chain().take() else { return };
        for element in chain.parser.iter().chain([chain.sink.upcast_ref()]) {
            let _ = element.set_state(gst::State::Null);
            let _ = bin.remove(element);
        }
    }

    /// What the streaming thread does with each access unit.
    fn callbacks(&self, bin: &super::RoomWebRtcSink) -> gst_app::AppSinkCallbacks {
        let mut unit = UnitPath {
            bin: bin.downgrade(),
            key: self.key,
            fanout: self.fanout.clone(),
            mailbox: self.mailbox.clone(),
            jumped: self.jumped.clone(),
            restamp: Restamp::default(),
            reorder: ReorderWatch::default(),
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
                if is_h264 && known.as_ref() != Some(&depayloader) {
                    crate::units::keep_whole(&depayloader);
                    *known = Some(depayloader);
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
    restamp: Restamp,
    reorder: ReorderWatch,
}

impl UnitPath {
    fn take(&mut self, sink: &gst_app::AppSink) -> Result<gst::FlowSuccess, gst::FlowError> {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        let Some(buffer) = sample.buffer() else { return Ok(gst::FlowSuccess::Ok) };
        if self.jumped.swap(false, Ordering::AcqRel) {
            self.reorder.reset();
        }
        if self.reorder.has_b_frames(buffer.pts()) {
            if let Some(bin) = self.bin.upgrade() {
                gst::element_error!(bin, gst::StreamError::WrongType, ("{}", Refusal::BFrames));
            }
            return Err(gst::FlowError::Error);
        }
        let Some(time) = clock_time(sink, &sample, buffer) else { return Ok(gst::FlowSuccess::Ok) };
        let unit = self.restamp.unit(buffer, time);
        if self.fanout.push(&unit) {
            self.mailbox.send(Command::Keyframe(self.key));
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

/// When a buffer is due, on the clock: running time jumps with pauses and seeks, base time plus running time does not.
fn clock_time(
    sink: &gst_app::AppSink,
    sample: &gst::Sample,
    buffer: &gst::BufferRef,
) -> Option<gst::ClockTime> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let running =
        buffer.pts().and_then(|pts| segment.to_running_time(pts)).or_else(|| sink.current_running_time())?;
    let time = sink.base_time()?.checked_add(running)?;
    // What was captured during a pause comes with a time that base time has moved on from. webrtcbin would hold it, and
    // all that follows, until then.
    Some(sink.clock().map_or(time, |clock| time.min(clock.time())))
}
