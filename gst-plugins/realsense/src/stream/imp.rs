//! The source: negotiation, times, latency, and frames to buffers.

use super::{
    Which, meta,
    offer::{Offer, Pick},
    picture::{Picture, PictureError, with_colors},
};
use crate::{
    CAT,
    camera::{Frame, PixelFormat, StreamKind, TimeDomain},
    depth::Chain,
    reader::{Arrived, Interrupt, Member},
    timeline::Stamp,
};
use gst::{glib, prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_src::CreateSuccess, prelude::*},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

/// State of a stream.
#[derive(Default)]
pub struct RealSenseStream {
    attached: Mutex<Option<Attached>>,
    flow: Mutex<Option<Flow>>,
    latency: Mutex<Option<gst::ClockTime>>,
}

#[derive(Clone)]
struct Attached {
    which: Which,
    member: Arc<Member>,
}

/// What comes out, once negotiated. Only the streaming thread uses it.
struct Flow {
    output: Output,
    chain: Option<Chain>,
    /// Of each stream: the epoch and number of the last frame. The library repeats frames.
    seen: BTreeMap<StreamKind, (u64, u64)>,
    epoch: u64,
    last: Option<gst::ClockTime>,
    /// Of the camera's times: their clock, and its caps.
    reference: Option<(TimeDomain, gst::Caps)>,
}

enum Output {
    Video(Picture),
    Motion,
}

/// A frame after all that is done to it.
struct Finished {
    frame: Frame,
    /// As it was before it got its colors.
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
                "The room-signaling developers",
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
            attached.member.set_flushing(true);
        }
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        if let Ok(attached) = self.attached() {
            attached.member.set_flushing(false);
        }
        Ok(())
    }

    fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
        let caps = match self.attached() {
            Ok(attached) => attached.offer().caps(),
            Err(_) => self.obj().src_pad().pad_template_caps(),
        };
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
            None => caps,
        })
    }

    fn negotiate(&self) -> Result<(), gst::LoggableError> {
        let attached = self.attached().map_err(|_| gst::loggable_error!(CAT, "no camera is attached"))?;
        let processing = attached.member.processing();
        if let Which::Video(kind) = attached.which
            && let Some(reference) = processing.reference(kind)
            && !attached.member.wait_for_choice(reference)
        {
            return Err(gst::loggable_error!(CAT, "flushing"));
        }
        let offer = attached.offer();
        let accepted = self.obj().src_pad().peer_query_caps(Some(&offer.caps()));
        let Some(pick) = offer.pick(&accepted) else {
            self.refuse(&attached, &offer);
            return Err(gst::loggable_error!(CAT, "nothing fits"));
        };
        let mut caps = pick.caps();
        if let Pick::Video(mode, format) = &pick {
            caps = with_colors(caps, mode, *format, &accepted);
        }
        attached.member.choose(pick.shapes().to_vec());
        self.obj().set_caps(&caps).map_err(|error| gst::loggable_error!(CAT, "{error}"))
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let attached = self.attached().map_err(|_| gst::loggable_error!(CAT, "no camera is attached"))?;
        let pick = attached.offer().pick(caps);
        let output = match &pick {
            Some(Pick::Video(mode, _)) => {
                let picture = Picture::new(mode, caps);
                Output::Video(picture.map_err(|error| gst::loggable_error!(CAT, "{error}"))?)
            }
            Some(Pick::Motion(_)) => Output::Motion,
            None => return Err(gst::loggable_error!(CAT, "no mode of the camera's is {caps}")),
        };
        *lock(&self.latency) = output.duration();
        let mut flow = lock(&self.flow);
        let (epoch, last, seen) =
            flow.take().map_or_else(Default::default, |flow| (flow.epoch, flow.last, flow.seen));
        *flow = Some(Flow { output, chain: None, seen, epoch, last, reference: None });
        drop(flow);
        gst::info!(CAT, imp = self, "{} as {caps}", attached.which.name());
        let _ = self.post_latency();
        Ok(())
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Latency(query) = query.view_mut() {
            let live = self.attached().map_or(true, |attached| attached.member.is_live());
            if live {
                // A frame is here when the next one is begun; what waits to be taken may be four frames old.
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
            let arrived = match attached.member.next() {
                Ok(arrived) => arrived,
                Err(Interrupt::Flushing) => return Err(gst::FlowError::Flushing),
                Err(Interrupt::Ended) => return Err(gst::FlowError::Eos),
                Err(Interrupt::Failed(words)) => {
                    gst::element_imp_error!(self, gst::ResourceError::Read, ("{}", words));
                    return Err(gst::FlowError::Error);
                }
            };
            match self.buffer_of(&attached, arrived) {
                Ok(Some(buffer)) => return Ok(CreateSuccess::NewBuffer(buffer)),
                Ok(None) => {}
                Err(PictureError::Flow(flow)) => return Err(flow),
                Err(error) => {
                    let name = attached.which.name();
                    gst::element_imp_error!(self, gst::StreamError::Failed, ("{name}: {error}"));
                    return Err(gst::FlowError::Error);
                }
            }
        }
    }
}

impl Attached {
    fn offer(&self) -> Offer {
        Offer::new(self.which, &self.member.processing(), |kind| self.member.shapes(kind))
    }

    fn kind(&self) -> Option<StreamKind> {
        match self.which {
            Which::Video(kind) => Some(kind),
            Which::Motion => None,
        }
    }
}

impl RealSenseStream {
    pub(super) fn attach(&self, which: Which, member: Arc<Member>) {
        self.obj().set_live(member.is_live());
        *lock(&self.attached) = Some(Attached { which, member });
    }

    pub(super) fn detach(&self) {
        *lock(&self.attached) = None;
    }

    fn attached(&self) -> Result<Attached, gst::FlowError> {
        lock(&self.attached).clone().ok_or(gst::FlowError::Flushing)
    }

    /// Latency may have changed.
    fn post_latency(&self) -> Result<(), glib::BoolError> {
        let source = self.obj();
        source.post_message(gst::message::Latency::builder().src(&*source).build())
    }

    /// Says what was asked for and what there is.
    fn refuse(&self, attached: &Attached, offer: &Offer) {
        let name = attached.which.name();
        let asked = self.obj().src_pad().peer_query_caps(None);
        let wants_pictures = asked.iter().all(|structure| structure.name() == "video/x-raw");
        let hint = match attached.kind() {
            Some(StreamKind::Depth) if wants_pictures && !attached.member.processing().colorize => {
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
                    "{} gives no {name} of the kind that is asked for: {name} has {}{hint}",
                    attached.member.device().name(),
                    offer.describe()
                )
            ),
            ["asked for: {}", asked]
        );
    }

    /// `None` where nothing is to go out.
    fn buffer_of(&self, attached: &Attached, arrived: Arrived) -> Result<Option<gst::Buffer>, PictureError> {
        let mut flow = lock(&self.flow);
        let Some(flow) = &mut *flow else { return Ok(None) };
        let Arrived { frame, at, epoch, after_loss } = arrived;
        let Some(Finished { frame, depth, kind }) = flow.finish(attached, frame, epoch)? else {
            return Ok(None);
        };
        let number = frame.number()?;
        if flow.seen.insert(kind, (epoch, number)) == Some((epoch, number)) {
            return Ok(None);
        }
        let mut buffer = flow.output.make(&frame, kind)?;
        let domain = frame.time_domain()?.unwrap_or(TimeDomain::SystemTime);
        let device = nanoseconds(frame.timestamp()?);
        let duration = flow.output.duration();
        let stamp = Stamp {
            kind,
            epoch,
            domain,
            device,
            arrival: self.clock_at(at),
            duration: signed(duration.unwrap_or_default()),
        };
        let pts = self.pts(attached, stamp, flow.last);
        flow.last = Some(pts);
        let is_new_epoch = epoch != std::mem::replace(&mut flow.epoch, epoch);
        if let Some(target) = buffer.get_mut() {
            target.set_pts(pts);
            target.set_duration(duration);
            target.set_offset(number);
            if is_new_epoch || after_loss {
                target.set_flags(gst::BufferFlags::DISCONT);
            }
            let device = gst::ClockTime::from_nseconds(u64::try_from(device).unwrap_or(0));
            meta::add(target, kind, number, &frame, depth.as_ref(), (flow.reference(domain), device));
        }
        let took = at.elapsed().as_micros();
        gst::log!(CAT, imp = self, "{} frame {number} goes out {took} µs after its arrival", kind.name());
        Ok(Some(buffer))
    }

    /// The running time of a frame: after that of the one before.
    fn pts(&self, attached: &Attached, stamp: Stamp, last: Option<gst::ClockTime>) -> gst::ClockTime {
        let time = attached.member.with_timeline(|timeline| timeline.place(stamp));
        let base = match self.obj().base_time() {
            Some(base) if attached.member.is_live() => signed(base),
            _ => 0,
        };
        let pts = gst::ClockTime::from_nseconds(u64::try_from(time.saturating_sub(base)).unwrap_or(0));
        last.map_or(pts, |last| pts.max(last + gst::ClockTime::from_nseconds(1)))
    }

    /// What the pipeline's clock showed at that moment.
    fn clock_at(&self, moment: std::time::Instant) -> i64 {
        let now = self.obj().clock().map_or(gst::ClockTime::ZERO, |clock| clock.time());
        let ago = i64::try_from(moment.elapsed().as_nanos()).unwrap_or(i64::MAX);
        signed(now).saturating_sub(ago)
    }
}

impl Flow {
    fn reference(&mut self, domain: TimeDomain) -> &gst::Caps {
        let fits = self.reference.take().filter(|(known, _)| *known == domain);
        &self.reference.insert(fits.unwrap_or_else(|| (domain, meta::reference(domain)))).1
    }

    /// What the camera's frame becomes before it is a buffer.
    fn finish(
        &mut self,
        attached: &Attached,
        frame: Frame,
        epoch: u64,
    ) -> Result<Option<Finished>, PictureError> {
        let Some(kind) = attached.kind() else {
            return Ok(frame.shape()?.map(|shape| Finished { frame, depth: None, kind: shape.kind }));
        };
        let processing = attached.member.processing();
        // A new start is a new scene: the temporal filter has to forget.
        let fits = self.chain.as_ref().is_some_and(|chain| chain.does(&processing)) && epoch == self.epoch;
        if !fits {
            self.chain = Some(Chain::new(kind, *processing)?);
        }
        let Some(chain) = &self.chain else { return Ok(None) };
        Ok(chain.run(frame)?.map(|(frame, depth)| Finished { frame, depth, kind }))
    }
}

impl Output {
    fn make(&mut self, frame: &Frame, kind: StreamKind) -> Result<gst::Buffer, PictureError> {
        match self {
            Self::Video(picture) => picture.make(frame),
            Self::Motion => sample(frame, kind),
        }
    }

    fn duration(&self) -> Option<gst::ClockTime> {
        match self {
            Self::Video(picture) => picture.duration(),
            Self::Motion => None,
        }
    }
}

/// Three floats and which sensor they are of: 0 for the accelerometer, 1 for the gyroscope.
fn sample(frame: &Frame, kind: StreamKind) -> Result<gst::Buffer, PictureError> {
    let data = frame.data()?;
    let Some(floats) = data.get(..PixelFormat::Xyz32f.bytes()) else {
        return Err(PictureError::Unexpected {
            came: format!("{} bytes", data.len()),
            expected: "a sample of motion".to_owned(),
        });
    };
    // The library's floats are in the host's order; out they go as little endian.
    let (floats, _) = floats.as_chunks::<4>();
    let mut bytes: Vec<u8> =
        floats.iter().flat_map(|float| f32::from_ne_bytes(*float).to_le_bytes()).collect();
    bytes.extend(u32::from(kind == StreamKind::Gyro).to_le_bytes());
    Ok(gst::Buffer::from_mut_slice(bytes))
}

#[allow(clippy::cast_possible_truncation, reason = "what lies beyond is no time, and saturates")]
fn nanoseconds(milliseconds: f64) -> i64 {
    (milliseconds * 1e6).round() as i64
}

fn signed(time: gst::ClockTime) -> i64 {
    i64::try_from(time.nseconds()).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
