//! The implementation of a stream: negotiation, latency, and how a frame becomes a buffer with a PTS.

use super::{
    PadStream,
    frame_converter::{ConvertError, FrameConverter, with_colors},
    meta,
    negotiation::{Capabilities, Selection},
};
use crate::{
    CAT,
    camera::{Frame, PixelFormat, StreamKind, TimeDomain},
    depth::ProcessingChain,
    reader::{Consumer, Interrupt, ReceivedFrame},
    sync::lock,
    timeline::FrameTime,
};
use gst::{glib, prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_src::CreateSuccess, prelude::*},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
};

/// The state of a stream.
#[derive(Default)]
pub struct RealSenseStream {
    attached: Mutex<Option<Attached>>,
    flow: Mutex<Option<Negotiated>>,
    latency: Mutex<Option<gst::ClockTime>>,
}

#[derive(Clone)]
struct Attached {
    pad_stream: PadStream,
    consumer: Arc<Consumer>,
}

/// The state after negotiation. Only the streaming thread uses it.
struct Negotiated {
    output: Output,
    chain: Option<ProcessingChain>,
    /// The epoch and the number of the last frame of each stream, because librealsense repeats frames.
    seen: BTreeMap<StreamKind, (u64, u64)>,
    epoch: u64,
    last: Option<gst::ClockTime>,
    /// The caps of the reference timestamps, and the clock that they are for.
    reference: Option<(TimeDomain, gst::Caps)>,
}

enum Output {
    Video(FrameConverter),
    Motion,
}

/// A frame after processing.
struct ProcessedFrame {
    frame: Frame,
    /// The depth frame that was colored.
    depth: Option<Frame>,
    kind: StreamKind,
}

#[glib::object_subclass]
impl ObjectSubclass for RealSenseStream {
    const NAME: &'static str = "GstRealSenseStream";
    type Type = super::RealSenseStream;
    type ParentType = gst_base::PushSrc;
}

impl ObjectImpl for RealSenseStream {
    fn constructed(&self) {
        self.parent_constructed();
        let source = self.obj();
        source.set_live(true);
        source.set_format(gst::Format::Time);
    }
}

impl GstObjectImpl for RealSenseStream {}

impl ElementImpl for RealSenseStream {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "RealSense stream",
                "Source/Video/Hardware",
                "One stream of a RealSense camera, inside realsensesrc",
                "The room-signaling project",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let mut caps = gst_video::VideoCapsBuilder::new().format_list(super::all_formats()).build();
            caps.merge(gst::Caps::new_empty_simple(super::MOTION));
            let source = gst::PadDirection::Src;
            gst::PadTemplate::new("src", source, gst::PadPresence::Always, &caps).into_iter().collect()
        });
        &TEMPLATES
    }
}

impl BaseSrcImpl for RealSenseStream {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        match self.attached() {
            Ok(_) => Ok(()),
            Err(_) => Err(gst::error_msg!(gst::ResourceError::Settings, ["no camera is attached"])),
        }
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.flow) = None;
        *lock(&self.latency) = None;
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        if let Ok(attached) = self.attached() {
            attached.consumer.set_flushing(true);
        }
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        if let Ok(attached) = self.attached() {
            attached.consumer.set_flushing(false);
        }
        Ok(())
    }

    fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
        let caps = match self.attached() {
            Ok(attached) => attached.capabilities().caps(),
            Err(_) => self.obj().src_pad().pad_template_caps(),
        };
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
            None => caps,
        })
    }

    fn negotiate(&self) -> Result<(), gst::LoggableError> {
        let attached = self.attached().map_err(|_| gst::loggable_error!(CAT, "no camera is attached"))?;
        let processing = attached.consumer.processing();
        if let PadStream::Video(kind) = attached.pad_stream
            && let Some(reference) = processing.reference(kind)
            && !attached.consumer.wait_for_mode(reference)
        {
            return Err(gst::loggable_error!(CAT, "flushing"));
        }
        let capabilities = attached.capabilities();
        let accepted = self.obj().src_pad().peer_query_caps(Some(&capabilities.caps()));
        let Some(select) = capabilities.select(&accepted) else {
            self.report_unsupported_caps(&attached, &capabilities);
            return Err(gst::loggable_error!(CAT, "downstream accepts none of the camera's modes"));
        };
        let mut caps = select.caps();
        if let Selection::Video(output, format) = &select {
            caps = with_colors(caps, output, *format, &accepted);
        }
        attached.consumer.select_modes(select.modes().to_vec());
        self.obj().set_caps(&caps).map_err(|error| gst::loggable_error!(CAT, "{error}"))
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let attached = self.attached().map_err(|_| gst::loggable_error!(CAT, "no camera is attached"))?;
        let select = attached.capabilities().select(caps);
        let output = match &select {
            Some(Selection::Video(output, _)) => {
                let converter = FrameConverter::new(output, caps);
                Output::Video(converter.map_err(|error| gst::loggable_error!(CAT, "{error}"))?)
            }
            Some(Selection::Motion(_)) => Output::Motion,
            None => return Err(gst::loggable_error!(CAT, "the camera has no mode for {caps}")),
        };
        *lock(&self.latency) = output.duration();
        let mut flow = lock(&self.flow);
        let (epoch, last, seen) =
            flow.take().map_or_else(Default::default, |flow| (flow.epoch, flow.last, flow.seen));
        *flow = Some(Negotiated { output, chain: None, seen, epoch, last, reference: None });
        drop(flow);
        gst::info!(CAT, imp = self, "{} streams as {caps}", attached.pad_stream.name());
        let _ = self.post_latency();
        Ok(())
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Latency(query) = query.view_mut() {
            let live = self.attached().map_or(true, |attached| attached.consumer.is_live());
            if live {
                // A frame is complete when the next one begins. The queue of the pad holds up to four frames.
                let frame = lock(&self.latency).unwrap_or(gst::ClockTime::ZERO);
                query.set(true, frame, frame * 4);
            } else {
                query.set(false, gst::ClockTime::ZERO, gst::ClockTime::NONE);
            }
            return true;
        }
        BaseSrcImplExt::parent_query(self, query)
    }
}

impl PushSrcImpl for RealSenseStream {
    fn create(&self, _buffer: Option<&mut gst::BufferRef>) -> Result<CreateSuccess, gst::FlowError> {
        let attached = self.attached()?;
        loop {
            let received = match attached.consumer.next() {
                Ok(arrived) => arrived,
                Err(Interrupt::Flushing) => return Err(gst::FlowError::Flushing),
                Err(Interrupt::Ended) => return Err(gst::FlowError::Eos),
                Err(Interrupt::Failed(message)) => {
                    gst::element_imp_error!(self, gst::ResourceError::Read, ("{}", message));
                    return Err(gst::FlowError::Error);
                }
            };
            match self.make_buffer(&attached, received) {
                Ok(Some(buffer)) => return Ok(CreateSuccess::NewBuffer(buffer)),
                Ok(None) => {}
                Err(ConvertError::Flow(flow)) => return Err(flow),
                Err(error) => {
                    let name = attached.pad_stream.name();
                    gst::element_imp_error!(self, gst::StreamError::Failed, ("{name}: {error}"));
                    return Err(gst::FlowError::Error);
                }
            }
        }
    }
}

impl Attached {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(self.pad_stream, &self.consumer.processing(), |kind| self.consumer.modes(kind))
    }

    fn kind(&self) -> Option<StreamKind> {
        match self.pad_stream {
            PadStream::Video(kind) => Some(kind),
            PadStream::Motion => None,
        }
    }
}

impl RealSenseStream {
    pub(super) fn attach(&self, pad_stream: PadStream, consumer: Arc<Consumer>) {
        self.obj().set_live(consumer.is_live());
        *lock(&self.attached) = Some(Attached { pad_stream, consumer });
    }

    pub(super) fn detach(&self) {
        *lock(&self.attached) = None;
    }

    fn attached(&self) -> Result<Attached, gst::FlowError> {
        lock(&self.attached).clone().ok_or(gst::FlowError::Flushing)
    }

    /// Announces that the latency may have changed.
    fn post_latency(&self) -> Result<(), glib::BoolError> {
        let source = self.obj();
        source.post_message(gst::message::Latency::builder().src(&*source).build())
    }

    /// Posts an error that lists what downstream accepts and what the camera has.
    fn report_unsupported_caps(&self, attached: &Attached, capabilities: &Capabilities) {
        let name = attached.pad_stream.name();
        let accepted = self.obj().src_pad().peer_query_caps(None);
        let wants_video = accepted.iter().all(|structure| structure.name() == "video/x-raw");
        let hint = match attached.kind() {
            Some(StreamKind::Depth) if wants_video && !attached.consumer.processing().colorize => {
                " (depth is GRAY16_LE unless colorize=true)"
            }
            _ => "",
        };
        gst::element_imp_error!(
            self,
            gst::StreamError::Format,
            (
                "{}",
                format!(
                    "{} has no {name} mode that downstream accepts; {name} has {}{hint}",
                    attached.consumer.device().name(),
                    capabilities.describe()
                )
            ),
            ["downstream accepts: {}", accepted]
        );
    }

    /// Makes the buffer of a frame. Returns `None` if the frame is to be left out.
    fn make_buffer(
        &self,
        attached: &Attached,
        received: ReceivedFrame,
    ) -> Result<Option<gst::Buffer>, ConvertError> {
        let mut flow = lock(&self.flow);
        let Some(flow) = &mut *flow else { return Ok(None) };
        let ReceivedFrame { frame, received_at, epoch, after_loss } = received;
        let Some(ProcessedFrame { frame, depth, kind }) = flow.process(attached, frame, epoch)? else {
            return Ok(None);
        };
        let number = frame.number()?;
        if flow.seen.insert(kind, (epoch, number)) == Some((epoch, number)) {
            return Ok(None);
        }
        let mut buffer = flow.output.make(&frame, kind)?;
        let domain = frame.time_domain()?.unwrap_or(TimeDomain::SystemTime);
        let timestamp = nanoseconds(frame.timestamp()?);
        let duration = flow.output.duration();
        let frame_time = FrameTime {
            kind,
            epoch,
            domain,
            timestamp,
            arrival: self.clock_at(received_at),
            duration: signed(duration.unwrap_or_default()),
        };
        let pts = self.pts(attached, frame_time, flow.last);
        flow.last = Some(pts);
        let is_new_epoch = epoch != std::mem::replace(&mut flow.epoch, epoch);
        if let Some(target) = buffer.get_mut() {
            target.set_pts(pts);
            target.set_duration(duration);
            target.set_offset(number);
            if is_new_epoch || after_loss {
                target.set_flags(gst::BufferFlags::DISCONT);
            }
            let captured = gst::ClockTime::from_nseconds(u64::try_from(timestamp).unwrap_or(0));
            meta::add(target, kind, number, &frame, depth.as_ref(), (flow.reference(domain), captured));
        }
        let elapsed = received_at.elapsed().as_micros();
        gst::log!(CAT, imp = self, "{} frame {number} is sent {elapsed} µs after its arrival", kind.name());
        Ok(Some(buffer))
    }

    /// The running time of a frame, which is always later than that of the frame before it.
    fn pts(
        &self,
        attached: &Attached,
        frame_time: FrameTime,
        last: Option<gst::ClockTime>,
    ) -> gst::ClockTime {
        let time = attached.consumer.with_timeline(|timeline| timeline.map(frame_time));
        let base = match self.obj().base_time() {
            Some(base) if attached.consumer.is_live() => signed(base),
            _ => 0,
        };
        let pts = gst::ClockTime::from_nseconds(u64::try_from(time.saturating_sub(base)).unwrap_or(0));
        last.map_or(pts, |last| pts.max(last + gst::ClockTime::from_nseconds(1)))
    }

    /// The time of the pipeline's clock at that moment.
    fn clock_at(&self, moment: std::time::Instant) -> i64 {
        let now = self.obj().clock().map_or(gst::ClockTime::ZERO, |clock| clock.time());
        let ago = i64::try_from(moment.elapsed().as_nanos()).unwrap_or(i64::MAX);
        signed(now).saturating_sub(ago)
    }
}

impl Negotiated {
    fn reference(&mut self, domain: TimeDomain) -> &gst::Caps {
        let fits = self.reference.take().filter(|(known, _)| *known == domain);
        &self.reference.insert(fits.unwrap_or_else(|| (domain, meta::reference(domain)))).1
    }

    /// Runs the processing chain on a frame. Returns `None` if the frame is to be left out.
    fn process(
        &mut self,
        attached: &Attached,
        frame: Frame,
        epoch: u64,
    ) -> Result<Option<ProcessedFrame>, ConvertError> {
        let Some(kind) = attached.kind() else {
            return Ok(frame.mode()?.map(|mode| ProcessedFrame { frame, depth: None, kind: mode.kind }));
        };
        let processing = attached.consumer.processing();
        // The temporal filter must not mix frames of different starts.
        let fits = self.chain.as_ref().is_some_and(|chain| chain.matches(&processing)) && epoch == self.epoch;
        if !fits {
            self.chain = Some(ProcessingChain::new(kind, *processing)?);
        }
        let Some(chain) = &self.chain else { return Ok(None) };
        Ok(chain.run(frame)?.map(|(frame, depth)| ProcessedFrame { frame, depth, kind }))
    }
}

impl Output {
    fn make(&mut self, frame: &Frame, kind: StreamKind) -> Result<gst::Buffer, ConvertError> {
        match self {
            Self::Video(converter) => converter.make(frame),
            Self::Motion => sample(frame, kind),
        }
    }

    fn duration(&self) -> Option<gst::ClockTime> {
        match self {
            Self::Video(converter) => converter.duration(),
            Self::Motion => None,
        }
    }
}

/// A sample of motion: three floats and the index of the sensor, 0 for the accelerometer and 1 for the gyroscope.
fn sample(frame: &Frame, kind: StreamKind) -> Result<gst::Buffer, ConvertError> {
    let data = frame.data()?;
    let Some(floats) = data.get(..PixelFormat::Xyz32f.bytes()) else {
        return Err(ConvertError::Unexpected {
            received: format!("{} bytes", data.len()),
            expected: "a motion sample".to_owned(),
        });
    };
    // The library's floats have the byte order of the host; the buffer is little endian.
    let (floats, _) = floats.as_chunks::<4>();
    let mut bytes: Vec<u8> =
        floats.iter().flat_map(|float| f32::from_ne_bytes(*float).to_le_bytes()).collect();
    bytes.extend(u32::from(kind == StreamKind::Gyro).to_le_bytes());
    Ok(gst::Buffer::from_mut_slice(bytes))
}

#[allow(clippy::cast_possible_truncation, reason = "times out of range saturate")]
fn nanoseconds(milliseconds: f64) -> i64 {
    (milliseconds * 1e6).round() as i64
}

fn signed(time: gst::ClockTime) -> i64 {
    i64::try_from(time.nseconds()).unwrap_or(i64::MAX)
}
