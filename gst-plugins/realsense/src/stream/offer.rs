//! What a camera has, as caps, and which of its modes fits what downstream takes.

use super::Which;
use crate::{
    camera::{PixelFormat, Shape, StreamKind},
    depth::Processing,
};
use gst_video::VideoFormat;
use std::collections::{BTreeMap, BTreeSet};

/// Samples of motion: three floats and which sensor they are of.
pub(crate) const MOTION: &str = "application/x-realsense-motion";

/// What is aimed at where downstream takes anything.
const SIZE: (u32, u32) = (640, 480);
const RATE: u32 = 30;
const MOTION_RATE: u32 = 200;

/// What pictures can be converted to, the cheapest and most wanted first.
const CONVERTED: [VideoFormat; 7] = [
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Yuy2,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgba,
    VideoFormat::Gray8,
];

/// The format of GStreamer that is the same as the camera's.
pub(crate) fn video_format(format: PixelFormat) -> Option<VideoFormat> {
    Some(match format {
        PixelFormat::Yuyv => VideoFormat::Yuy2,
        PixelFormat::Uyvy => VideoFormat::Uyvy,
        PixelFormat::Rgb8 => VideoFormat::Rgb,
        PixelFormat::Bgr8 => VideoFormat::Bgr,
        PixelFormat::Rgba8 => VideoFormat::Rgba,
        PixelFormat::Bgra8 => VideoFormat::Bgra,
        PixelFormat::Y8 => VideoFormat::Gray8,
        PixelFormat::Y16 | PixelFormat::Z16 => VideoFormat::Gray16Le,
        PixelFormat::Xyz32f => return None,
    })
}

/// All formats that ever come out.
pub(crate) fn all_formats() -> impl Iterator<Item = VideoFormat> {
    CONVERTED.into_iter().chain([VideoFormat::Uyvy, VideoFormat::Bgra, VideoFormat::Gray16Le])
}

/// A way to stream: what the camera has to do, and what comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mode {
    /// The mode of this stream, and of the one that it is aligned to.
    pub(super) shapes: Vec<Shape>,
    /// What comes out.
    pub(super) size: (u32, u32),
    pub(super) rate: u32,
    /// Without a conversion.
    pub(super) native: VideoFormat,
}

impl Mode {
    /// In order of preference.
    fn formats(&self) -> impl Iterator<Item = VideoFormat> + '_ {
        let converted = CONVERTED.into_iter().filter(|format| *format != self.native);
        // 16 bits are measurements: nothing is made of them by itself.
        std::iter::once(self.native).chain(converted.filter(|_| self.native != VideoFormat::Gray16Le))
    }

    fn caps(&self, format: VideoFormat) -> gst::Caps {
        gst_video::VideoCapsBuilder::new()
            .format(format)
            .width(signed(self.size.0))
            .height(signed(self.size.1))
            .framerate(gst::Fraction::new(signed(self.rate), 1))
            .pixel_aspect_ratio(gst::Fraction::new(1, 1))
            .build()
    }
}

/// All that a stream can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Offer {
    Video(Vec<Mode>),
    Motion { accel: Vec<Shape>, gyro: Vec<Shape> },
}

/// What was picked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pick {
    Video(Mode, VideoFormat),
    Motion(Vec<Shape>),
}

impl Offer {
    /// Of a stream; `shapes` are the modes that the camera has of one.
    pub(super) fn new(
        which: Which,
        processing: &Processing,
        shapes: impl Fn(StreamKind) -> Vec<Shape>,
    ) -> Self {
        match which {
            Which::Motion => {
                Self::Motion { accel: shapes(StreamKind::Accel), gyro: shapes(StreamKind::Gyro) }
            }
            Which::Video(kind) => {
                let own = shapes(kind);
                let modes = match processing.reference(kind) {
                    None => own.iter().filter_map(|shape| plain(*shape, processing)).collect(),
                    Some(reference) => aligned(&own, &shapes(reference), processing),
                };
                Self::Video(modes)
            }
        }
    }

    /// As caps.
    pub(super) fn caps(&self) -> gst::Caps {
        match self {
            Self::Video(modes) => video_caps(modes),
            Self::Motion { accel, gyro } => {
                let rates = |shapes: &[Shape]| {
                    let rates: BTreeSet<_> = shapes.iter().map(|shape| signed(shape.rate)).collect();
                    gst::List::new(if rates.is_empty() { BTreeSet::from([0]) } else { rates })
                };
                gst::Caps::builder(MOTION)
                    .field("accel-rate", rates(accel))
                    .field("gyro-rate", rates(gyro))
                    .build()
            }
        }
    }

    /// The best that `wanted` allows; `None` where nothing fits.
    pub(super) fn pick(&self, wanted: &gst::Caps) -> Option<Pick> {
        match self {
            Self::Video(modes) => {
                let pairs = modes.iter().flat_map(|mode| mode.formats().map(move |format| (mode, format)));
                let fitting = pairs.filter(|(mode, format)| wanted.can_intersect(&mode.caps(*format)));
                let (mode, format) = fitting.min_by_key(|(mode, format)| cost(mode, *format))?;
                Some(Pick::Video(mode.clone(), format))
            }
            Self::Motion { accel, gyro } => {
                let options = |shapes: &[Shape]| {
                    let options: Vec<_> = shapes.iter().copied().map(Some).collect();
                    if options.is_empty() { vec![None] } else { options }
                };
                let rate = |shape: &Option<Shape>| shape.map_or(0, |shape| shape.rate);
                let pairs = options(accel)
                    .into_iter()
                    .flat_map(|accel| options(gyro).into_iter().map(move |gyro| (accel, gyro)));
                let fitting =
                    pairs.filter(|(accel, gyro)| wanted.can_intersect(&motion_caps(rate(accel), rate(gyro))));
                let (accel, gyro) = fitting.min_by_key(|(accel, gyro)| {
                    (rate(accel).abs_diff(MOTION_RATE), rate(gyro).abs_diff(MOTION_RATE))
                })?;
                Some(Pick::Motion(accel.into_iter().chain(gyro).collect()))
            }
        }
    }

    /// In words: sizes and rates.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Video(modes) => {
                let mut rates = BTreeMap::<_, BTreeSet<u32>>::new();
                for mode in modes {
                    rates.entry(mode.size).or_default().insert(mode.rate);
                }
                let line = |((width, height), rates): (&(u32, u32), &BTreeSet<u32>)| {
                    let rates: Vec<_> = rates.iter().map(u32::to_string).collect();
                    format!("{width}x{height} at {}", rates.join(", "))
                };
                let sizes: Vec<_> = rates.iter().map(line).collect();
                let formats: BTreeSet<_> =
                    modes.iter().flat_map(Mode::formats).map(VideoFormat::to_str).collect();
                let formats: Vec<_> = formats.into_iter().map(ToString::to_string).collect();
                format!("{} frames/s; as {}", sizes.join("; "), formats.join(", "))
            }
            Self::Motion { accel, gyro } => {
                let rates = |shapes: &[Shape]| {
                    let rates: Vec<_> = shapes.iter().map(|shape| shape.rate.to_string()).collect();
                    rates.join(", ")
                };
                format!("accel-rate {}; gyro-rate {}", rates(accel), rates(gyro))
            }
        }
    }
}

impl Pick {
    /// Fixed caps.
    pub(super) fn caps(&self) -> gst::Caps {
        match self {
            Self::Video(mode, format) => mode.caps(*format),
            Self::Motion(shapes) => {
                let rate =
                    |kind| shapes.iter().find(|shape| shape.kind == kind).map_or(0, |shape| shape.rate);
                motion_caps(rate(StreamKind::Accel), rate(StreamKind::Gyro))
            }
        }
    }

    /// What the camera has to do.
    pub(super) fn shapes(&self) -> &[Shape] {
        match self {
            Self::Video(mode, _) => &mode.shapes,
            Self::Motion(shapes) => shapes,
        }
    }
}

fn plain(shape: Shape, processing: &Processing) -> Option<Mode> {
    let depth = shape.kind == StreamKind::Depth;
    let size = (shape.width, shape.height);
    Some(Mode {
        shapes: vec![shape],
        size: if depth { processing.decimated(size) } else { size },
        rate: shape.rate,
        native: native(shape, processing)?,
    })
}

/// Pictures at the rate of this stream and as large as those of the other one, from the nearest mode of this stream. Of
/// the other stream, the mode with the nearest rate serves.
fn aligned(own: &[Shape], others: &[Shape], processing: &Processing) -> Vec<Mode> {
    let mut modes = BTreeMap::new();
    let rates: BTreeSet<u32> = own.iter().map(|shape| shape.rate).collect();
    for (other, rate) in others.iter().flat_map(|other| rates.iter().map(move |rate| (other, *rate))) {
        let size = (other.width, other.height);
        let nearest = own
            .iter()
            .filter(|shape| shape.rate == rate)
            .min_by_key(|shape| (distance((shape.width, shape.height), size), rank(shape)));
        let Some(shape) = nearest else { continue };
        let Some(native) = native(*shape, processing) else { continue };
        let mode = Mode { shapes: vec![*shape, *other], size, rate, native };
        let fit = (rate.abs_diff(other.rate), rank(other));
        let best = modes.entry((size, rate)).or_insert_with(|| (fit, mode.clone()));
        if fit < best.0 {
            *best = (fit, mode);
        }
    }
    modes.into_values().map(|(_, mode)| mode).collect()
}

fn native(shape: Shape, processing: &Processing) -> Option<VideoFormat> {
    if shape.kind == StreamKind::Depth && processing.colorize {
        // What librealsense's colorizer makes.
        return Some(VideoFormat::Rgb);
    }
    video_format(shape.format)
}

/// Which of the camera's formats is best to convert from: what the sensor itself gives comes first.
fn rank(shape: &Shape) -> usize {
    use PixelFormat::{Bgr8, Bgra8, Rgb8, Rgba8, Uyvy, Xyz32f, Y8, Y16, Yuyv, Z16};
    if matches!((shape.kind, shape.format), (StreamKind::Infrared(_), Y8)) {
        // Some left imagers can give color, too; who asks for infrared wants gray.
        return 0;
    }
    let order = [Yuyv, Uyvy, Z16, Rgb8, Bgr8, Rgba8, Bgra8, Y8, Y16, Xyz32f];
    order.iter().position(|known| *known == shape.format).map_or(usize::MAX, |position| position + 1)
}

fn cost(mode: &Mode, format: VideoFormat) -> (u64, u32, usize, usize) {
    let conversion = mode.formats().position(|known| known == format).unwrap_or(usize::MAX);
    let rank = mode.shapes.first().map_or(0, rank);
    (distance(mode.size, SIZE), mode.rate.abs_diff(RATE), conversion, rank)
}

fn distance(one: (u32, u32), other: (u32, u32)) -> u64 {
    let pixels = |(width, height)| u64::from(width) * u64::from(height);
    pixels(one).abs_diff(pixels(other))
}

fn video_caps(modes: &[Mode]) -> gst::Caps {
    let mut groups: Vec<(&Mode, BTreeSet<u32>)> = Vec::new();
    for mode in modes {
        match groups.iter_mut().find(|(first, _)| first.size == mode.size && first.native == mode.native) {
            Some((_, rates)) => {
                rates.insert(mode.rate);
            }
            None => groups.push((mode, BTreeSet::from([mode.rate]))),
        }
    }
    groups.sort_by_key(|(mode, _)| cost(mode, mode.native));
    let mut caps = gst::Caps::new_empty();
    for (mode, rates) in groups {
        let builder = gst_video::VideoCapsBuilder::new()
            .format_list(mode.formats())
            .width(signed(mode.size.0))
            .height(signed(mode.size.1))
            .framerate_list(rates.into_iter().map(|rate| gst::Fraction::new(signed(rate), 1)))
            .pixel_aspect_ratio(gst::Fraction::new(1, 1));
        caps.merge(builder.build());
    }
    caps
}

fn motion_caps(accel: u32, gyro: u32) -> gst::Caps {
    gst::Caps::builder(MOTION).field("accel-rate", signed(accel)).field("gyro-rate", signed(gyro)).build()
}

fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(kind: StreamKind, format: PixelFormat, (width, height): (u32, u32), rate: u32) -> Shape {
        Shape { kind, format, width, height, rate }
    }

    fn color(format: PixelFormat, size: (u32, u32), rate: u32) -> Shape {
        shape(StreamKind::Color, format, size, rate)
    }

    fn offer(which: StreamKind, processing: &Processing, shapes: &[Shape]) -> Offer {
        gst::init().expect("GStreamer");
        Offer::new(Which::Video(which), processing, |kind| {
            shapes.iter().filter(|shape| shape.kind == kind).copied().collect()
        })
    }

    fn picked(offer: &Offer, caps: &str) -> Option<(Shape, VideoFormat)> {
        match offer.pick(&caps.parse().expect("caps"))? {
            Pick::Video(mode, format) => Some((mode.shapes[0], format)),
            Pick::Motion(_) => None,
        }
    }

    fn d435() -> Vec<Shape> {
        use PixelFormat::{Rgb8, Yuyv};
        [(1280, 720, 30), (640, 480, 15), (640, 480, 30), (640, 480, 60), (320, 240, 60)]
            .into_iter()
            .flat_map(|(w, h, rate)| [Rgb8, Yuyv].map(|format| color(format, (w, h), rate)))
            .collect()
    }

    #[test]
    fn who_takes_anything_gets_what_the_sensor_gives_at_640x480_and_30() {
        let offer = offer(StreamKind::Color, &Processing::default(), &d435());
        let best = color(PixelFormat::Yuyv, (640, 480), 30);
        assert_eq!(picked(&offer, "ANY"), Some((best, VideoFormat::Yuy2)));
        assert_eq!(picked(&offer, "video/x-raw,format={I420,NV12}"), Some((best, VideoFormat::I420)));
        let rgb = color(PixelFormat::Rgb8, (640, 480), 30);
        assert_eq!(picked(&offer, "video/x-raw,format=RGB"), Some((rgb, VideoFormat::Rgb)));
    }

    #[test]
    fn size_and_rate_are_what_is_asked_for_or_nothing() {
        let offer = offer(StreamKind::Color, &Processing::default(), &d435());
        let hd = color(PixelFormat::Yuyv, (1280, 720), 30);
        assert_eq!(picked(&offer, "video/x-raw,width=1280"), Some((hd, VideoFormat::Yuy2)));
        let fast = color(PixelFormat::Yuyv, (640, 480), 60);
        assert_eq!(picked(&offer, "video/x-raw,width=640,framerate=60/1"), Some((fast, VideoFormat::Yuy2)));
        assert_eq!(picked(&offer, "video/x-raw,width=1280,framerate=60/1"), None);
        assert_eq!(picked(&offer, "video/x-raw,width=333"), None);
        assert!(offer.describe().contains("640x480 at 15, 30, 60; 1280x720 at 30"), "{}", offer.describe());
    }

    #[test]
    fn each_pick_is_in_the_caps_and_picks_itself() {
        let offer = offer(StreamKind::Color, &Processing::default(), &d435());
        for caps in ["ANY", "video/x-raw,format=GRAY8", "video/x-raw,height=720,format=BGR"] {
            let pick = offer.pick(&caps.parse().expect("caps")).expect("a pick");
            assert!(pick.caps().is_fixed() && pick.caps().is_subset(&offer.caps()), "{:?}", pick.caps());
            assert_eq!(offer.pick(&pick.caps()), Some(pick));
        }
    }

    #[test]
    fn depth_is_16_bits_unless_it_gets_colors() {
        let shapes = [shape(StreamKind::Depth, PixelFormat::Z16, (848, 480), 30)];
        let plain = offer(StreamKind::Depth, &Processing::default(), &shapes);
        assert_eq!(picked(&plain, "video/x-raw,format=I420"), None);
        assert_eq!(picked(&plain, "ANY"), Some((shapes[0], VideoFormat::Gray16Le)));
        let processing = Processing { colorize: true, decimation: 2, ..Processing::default() };
        let colored = offer(StreamKind::Depth, &processing, &shapes);
        assert_eq!(picked(&colored, "video/x-raw,format=GRAY16_LE"), None);
        assert_eq!(picked(&colored, "video/x-raw,width=424"), Some((shapes[0], VideoFormat::Rgb)));
    }

    #[test]
    fn aligned_pictures_are_as_large_as_those_of_the_other_stream() {
        let depth = [(640, 480), (848, 480)].map(|size| shape(StreamKind::Depth, PixelFormat::Z16, size, 30));
        let shapes: Vec<_> = d435().into_iter().chain(depth).collect();
        let processing = Processing { align: Some(StreamKind::Color), ..Processing::default() };
        let offer = offer(StreamKind::Depth, &processing, &shapes);
        let Some(Pick::Video(mode, _)) = offer.pick(&"video/x-raw,width=1280".parse().expect("caps")) else {
            panic!("nothing picked");
        };
        assert_eq!(mode.shapes, [depth[1], color(PixelFormat::Yuyv, (1280, 720), 30)]);
        assert_eq!(picked(&offer, "video/x-raw,width=848"), None);
    }

    #[test]
    fn streams_of_different_rates_are_aligned_at_the_rate_of_the_one_that_is_wanted() {
        let depth = [30, 90].map(|rate| shape(StreamKind::Depth, PixelFormat::Z16, (640, 480), rate));
        let color = [30, 60].map(|rate| color(PixelFormat::Yuyv, (640, 480), rate));
        let processing = Processing { align: Some(StreamKind::Color), ..Processing::default() };
        let offer = offer(StreamKind::Depth, &processing, &[depth, color].concat());
        for (rate, shapes) in [(30, [depth[0], color[0]]), (90, [depth[1], color[1]])] {
            let caps = format!("video/x-raw,framerate={rate}/1").parse().expect("caps");
            let pick = offer.pick(&caps).expect("a mode");
            assert_eq!(pick.shapes(), shapes);
        }
    }

    #[test]
    fn infrared_is_gray_where_the_left_imager_gives_color_too() {
        let infrared = |format| shape(StreamKind::Infrared(1), format, (640, 480), 30);
        let shapes = [infrared(PixelFormat::Uyvy), infrared(PixelFormat::Rgb8), infrared(PixelFormat::Y8)];
        let offer = offer(StreamKind::Infrared(1), &Processing::default(), &shapes);
        assert_eq!(picked(&offer, "ANY"), Some((shapes[2], VideoFormat::Gray8)));
        assert_eq!(picked(&offer, "video/x-raw,format=I420"), Some((shapes[2], VideoFormat::I420)));
        assert_eq!(picked(&offer, "video/x-raw,format=UYVY"), Some((shapes[0], VideoFormat::Uyvy)));
    }

    #[test]
    fn motion_has_the_rates_nearest_to_200() {
        gst::init().expect("GStreamer");
        let motion = |kind, rate| shape(kind, PixelFormat::Xyz32f, (0, 0), rate);
        let (accel, gyro) = (StreamKind::Accel, StreamKind::Gyro);
        let all = [motion(accel, 63), motion(accel, 250), motion(gyro, 200), motion(gyro, 400)];
        let offer = Offer::new(Which::Motion, &Processing::default(), |kind| {
            all.iter().filter(|shape| shape.kind == kind).copied().collect()
        });
        assert_eq!(offer.pick(&gst::Caps::new_any()), Some(Pick::Motion(vec![all[1], all[2]])));
        let wanted = "application/x-realsense-motion,gyro-rate=400".parse().expect("caps");
        assert_eq!(offer.pick(&wanted), Some(Pick::Motion(vec![all[1], all[3]])));
        let only_gyro = Offer::Motion { accel: Vec::new(), gyro: vec![all[2]] };
        assert_eq!(only_gyro.pick(&only_gyro.caps()), Some(Pick::Motion(vec![all[2]])));
    }
}
