//! One pad of the element. It outlives sessions: when the sender goes and comes back, or another one takes its place,
//! the next session goes on here, later in time, with a discontinuity marked.
//!
//! Each output is an appsrc behind a ghost pad, so that downstream has a thread of its own and a session's network
//! threads never wait for it.

use super::{
    RoomWebRtcSrc,
    control::Command,
    timeline::{self, Timeline, Unit, Verdict, Way},
};
use crate::{codec::MediaKind, log::CAT, stream_key::StreamKey};
use gst::{glib, prelude::*};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

/// What all outputs of one run of the element share.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) element: glib::WeakRef<RoomWebRtcSrc>,
    pub(super) group: gst::GroupId,
    pub(super) latency: gst::ClockTime,
    pub(super) commands: mpsc::Sender<Command>,
}

/// The outputs of one run of the element.
pub(super) struct Outputs {
    origin: Origin,
    /// `None` once the element has taken its pads away.
    list: Mutex<Option<BTreeMap<StreamKey, Arc<Output>>>>,
}

impl Outputs {
    /// None yet.
    pub(super) fn new(origin: Origin) -> Self {
        Self { origin, list: Mutex::new(Some(BTreeMap::new())) }
    }

    /// The output of this stream; a new one where there is none, which makes the application hear of a new pad.
    /// Only for the control thread.
    pub(super) fn get_or_add(
        &self,
        key: StreamKey,
        caps: &gst::Caps,
    ) -> Result<Arc<Output>, glib::BoolError> {
        let closed = || glib::bool_error!("the element has stopped");
        if let Some(output) = self.lock().as_ref().ok_or_else(closed)?.get(&key) {
            return Ok(output.clone());
        }
        // The application is called in here, and the lock is not held.
        let output = Arc::new(Output::new(&self.origin, key, caps)?);
        if let Some(list) = self.lock().as_mut() {
            list.insert(key, output.clone());
            return Ok(output);
        }
        output.remove();
        Err(closed())
    }

    /// EOS on all; false where there are none.
    pub(super) fn end(&self) -> bool {
        let outputs = self.all();
        for output in &outputs {
            output.end();
        }
        !outputs.is_empty()
    }

    /// Takes all pads away, for good. For an element that is in READY.
    pub(super) fn close(&self) {
        let list = self.lock().take();
        list.iter().flat_map(BTreeMap::values).for_each(|output| output.remove());
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> Vec<Arc<Output>> {
        self.lock().iter().flat_map(BTreeMap::values).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<StreamKey, Arc<Output>>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pad and what feeds it.
pub(super) struct Output {
    key: StreamKey,
    origin: Origin,
    source: gst_app::AppSrc,
    pad: gst::GhostPad,
    state: Mutex<State>,
    sent: AtomicU64,
    dropped: AtomicU64,
}

struct State {
    timeline: Timeline,
    caps: gst::Caps,
}

impl Output {
    /// Adds a pad to the element. What is given to [`Output::take`] comes out of it.
    pub(super) fn new(origin: &Origin, key: StreamKey, caps: &gst::Caps) -> Result<Self, glib::BoolError> {
        let element = origin.element.upgrade().ok_or_else(|| glib::bool_error!("the element is gone"))?;
        let source = gst_app::AppSrc::builder()
            .name(format!("source_{}", key.pad_name()))
            .is_live(true)
            .format(gst::Format::Time)
            .caps(caps)
            .max_bytes(0)
            .min_latency(i64::try_from(origin.latency.nseconds()).unwrap_or(i64::MAX))
            .build();
        let template = match key.kind {
            MediaKind::Video => "video_%u",
            MediaKind::Audio => "audio_%u",
        };
        let template =
            element.pad_template(template).ok_or_else(|| glib::bool_error!("no pad template {template}"))?;
        let target = source.static_pad("src").ok_or_else(|| glib::bool_error!("appsrc without a pad"))?;
        // First of all, as this unlinks the pads of what is added.
        element.add(&source)?;
        let pad = gst::GhostPad::builder_from_template_with_target(&template, &target)?
            .name(key.pad_name())
            .build();
        let output = Self {
            key,
            origin: origin.clone(),
            source,
            pad,
            state: Mutex::new(State { timeline: Timeline::new(), caps: caps.clone() }),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        output.add_probes(&element, &target);
        output.pad.set_active(true)?;
        element.add_pad(&output.pad)?;
        output.source.sync_state_with_parent()?;
        Ok(output)
    }

    /// One access unit, with times on `clock`. Never waits.
    pub(super) fn take(&self, sample: gst::Sample, clock: &gst::Clock) {
        let (Some(buffer), Some(caps), Some(element)) =
            (sample.buffer_owned(), sample.caps_owned(), self.origin.element.upgrade())
        else {
            return;
        };
        // The last reference but one: what follows writes into the buffer's head without copying it.
        drop(sample);
        let unit = Unit {
            pts: buffer.pts(),
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            discont: buffer.flags().contains(gst::BufferFlags::DISCONT),
        };
        let way = self.way(&element, clock);
        let mut state = self.lock();
        match state.timeline.admit(unit, way) {
            Verdict::Send { pts, discont } => {
                if state.caps != caps {
                    self.source.set_caps(Some(&caps));
                    state.caps = caps;
                }
                drop(state);
                self.sent.fetch_add(1, Ordering::Relaxed);
                // Refused only while the element shuts down.
                let _ = self.source.push_buffer(restamped(buffer, pts, discont, way.offset));
            }
            Verdict::Drop { ask } => {
                drop(state);
                gst::log!(CAT, obj = self.pad, "dropping {unit:?}");
                self.dropped.fetch_add(1, Ordering::Relaxed);
                if ask {
                    self.ask_for_keyframe();
                }
            }
        }
    }

    /// Another session goes on here.
    pub(super) fn restart(&self) {
        self.lock().timeline.restart();
    }

    /// Whether nothing can go on until a keyframe comes.
    pub(super) fn needs_keyframe(&self) -> bool {
        self.lock().timeline.needs_keyframe()
    }

    /// Access units sent and dropped.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }

    /// Which stream this is.
    pub(super) fn key(&self) -> StreamKey {
        self.key
    }

    /// No more data will come: EOS, after what is still waiting.
    pub(super) fn end(&self) {
        // Refused only while the element shuts down.
        let _ = self.source.end_of_stream();
    }

    /// Takes the pad away. For an element that is in READY.
    pub(super) fn remove(&self) {
        let Some(element) = self.origin.element.upgrade() else { return };
        // Each of these fails only for what is not there, and that is what is wanted.
        let _ = self.pad.set_active(false);
        let _ = element.remove_pad(&self.pad);
        let _ = self.source.set_state(gst::State::Null);
        let _ = element.remove(&self.source);
    }

    fn way(&self, element: &RoomWebRtcSrc, session: &gst::Clock) -> Way {
        let times = element.clock().zip(element.base_time());
        Way {
            open: times.is_some() && element.is_playing() && self.pad.is_linked(),
            level: self.source.current_level_time(),
            offset: times.map_or(0, |(clock, base)| timeline::offset(session, &clock, base)),
        }
    }

    fn ask_for_keyframe(&self) {
        // Fails when the control thread has ended, and nothing is received any more.
        let _ = self.origin.commands.send(Command::Keyframe(self.key));
    }

    fn add_probes(&self, element: &RoomWebRtcSrc, pad: &gst::Pad) {
        let (key, commands) = (self.key, self.origin.commands.clone());
        pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
            if info.event().is_some_and(|event| gst_video::ForceKeyUnitEvent::is(event)) {
                let _ = commands.send(Command::Keyframe(key));
            }
            // Not dropped, which costs a critical warning in GStreamer 1.22: the source at its end ignores it.
            gst::PadProbeReturn::Ok
        });
        let (group, id) =
            (self.origin.group, self.pad.create_stream_id(element, Some(key.pad_name().as_str())));
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            // Streams that belong together say so by the group.
            if let Some(event) = info.event().filter(|event| event.type_() == gst::EventType::StreamStart) {
                let event =
                    gst::event::StreamStart::builder(&id).group_id(group).seqnum(event.seqnum()).build();
                info.data = Some(gst::PadProbeData::Event(event));
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn restamped(mut buffer: gst::Buffer, pts: gst::ClockTime, discont: bool, offset: i64) -> gst::Buffer {
    let head = buffer.make_mut();
    head.set_dts(head.dts().and_then(|dts| timeline::shift(dts, offset)).map(|dts| dts.min(pts)));
    head.set_pts(pts);
    if discont {
        head.set_flags(gst::BufferFlags::DISCONT);
    } else {
        head.unset_flags(gst::BufferFlags::DISCONT);
    }
    buffer
}
