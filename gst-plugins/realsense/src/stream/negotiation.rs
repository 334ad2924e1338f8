//! Negotiation: the modes of the camera as caps, and the selection of one that downstream accepts.

use super::PadStream;
use crate::{
    camera::{PixelFormat, StreamKind, StreamMode},
    depth::Processing,
};
use gst_video::VideoFormat;
use std::collections::{BTreeMap, BTreeSet};

/// The media type of motion samples: three floats and the index of the sensor.
pub(crate) const MOTION: &str = "application/x-realsense-motion";

/// The preferred mode if downstream accepts several.
const SIZE: (u32, u32) = (640, 480);
const RATE: u32 = 30;
const MOTION_RATE: u32 = 200;

/// The formats that video can be converted to, the cheapest and most useful first.
const CONVERTED: [VideoFormat; 7] = [
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Yuy2,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgba,
    VideoFormat::Gray8,
];

/// GStreamer's name of the camera's pixel format.
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

/// All formats that can leave a pad.
pub(crate) fn all_formats() -> impl Iterator<Item = VideoFormat> {
    CONVERTED.into_iter().chain([VideoFormat::Uyvy, VideoFormat::Bgra, VideoFormat::Gray16Le])
}

/// One way to stream: the modes of the camera, and the video that results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutputMode {
    /// The mode of this stream and, with alignment, of the stream that it is aligned to.
    pub(super) modes: Vec<StreamMode>,
    /// Width and height of the video.
    pub(super) size: (u32, u32),
    pub(super) rate: u32,
    /// The format that needs no conversion.
    pub(super) native: VideoFormat,
}

impl OutputMode {
    /// The possible formats, in order of preference.
    fn formats(&self) -> impl Iterator<Item = VideoFormat> + '_ {
        let converted = CONVERTED.into_iter().filter(|format| *format != self.native);
        // Depth of 16 bits is a measurement and is never converted implicitly.
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

/// All that a stream can deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Capabilities {
    Video(Vec<OutputMode>),
    Motion { accel: Vec<StreamMode>, gyro: Vec<StreamMode> },
}

/// The result of the negotiation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    Video(OutputMode, VideoFormat),
    Motion(Vec<StreamMode>),
}

impl Capabilities {
    /// The capabilities of a stream. `modes` returns the camera's modes of a stream.
    pub(super) fn new(
        pad_stream: PadStream,
        processing: &Processing,
        modes: impl Fn(StreamKind) -> Vec<StreamMode>,
    ) -> Self {
        match pad_stream {
            PadStream::Motion => {
                Self::Motion { accel: modes(StreamKind::Accel), gyro: modes(StreamKind::Gyro) }
            }
            PadStream::Video(kind) => {
                let own = modes(kind);
                let outputs = match processing.reference(kind) {
                    None => own.iter().filter_map(|mode| plain(*mode, processing)).collect(),
                    Some(reference) => aligned(&own, &modes(reference), processing),
                };
                Self::Video(outputs)
            }
        }
    }

    /// The capabilities as caps.
    pub(super) fn caps(&self) -> gst::Caps {
        match self {
            Self::Video(outputs) => video_caps(outputs),
            Self::Motion { accel, gyro } => {
                let rates = |modes: &[StreamMode]| {
                    let rates: BTreeSet<_> = modes.iter().map(|mode| signed(mode.rate)).collect();
                    gst::List::new(if rates.is_empty() { BTreeSet::from([0]) } else { rates })
                };
                gst::Caps::builder(MOTION)
                    .field("accel-rate", rates(accel))
                    .field("gyro-rate", rates(gyro))
                    .build()
            }
        }
    }

    /// The best selection that `wanted` allows; `None` if nothing fits.
    pub(super) fn select(&self, wanted: &gst::Caps) -> Option<Selection> {
        match self {
            Self::Video(outputs) => {
                let pairs =
                    outputs.iter().flat_map(|output| output.formats().map(move |format| (output, format)));
                let fitting = pairs.filter(|(output, format)| wanted.can_intersect(&output.caps(*format)));
                let (output, format) = fitting.min_by_key(|(output, format)| cost(output, *format))?;
                Some(Selection::Video(output.clone(), format))
            }
            Self::Motion { accel, gyro } => {
                let options = |modes: &[StreamMode]| {
                    let options: Vec<_> = modes.iter().copied().map(Some).collect();
                    if options.is_empty() { vec![None] } else { options }
                };
                let rate = |mode: &Option<StreamMode>| mode.map_or(0, |mode| mode.rate);
                let pairs = options(accel)
                    .into_iter()
                    .flat_map(|accel| options(gyro).into_iter().map(move |gyro| (accel, gyro)));
                let fitting =
                    pairs.filter(|(accel, gyro)| wanted.can_intersect(&motion_caps(rate(accel), rate(gyro))));
                let (accel, gyro) = fitting.min_by_key(|(accel, gyro)| {
                    (rate(accel).abs_diff(MOTION_RATE), rate(gyro).abs_diff(MOTION_RATE))
                })?;
                Some(Selection::Motion(accel.into_iter().chain(gyro).collect()))
            }
        }
    }

    /// A description for the user: sizes, rates and formats.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Video(outputs) => {
                let mut rates = BTreeMap::<_, BTreeSet<u32>>::new();
                for output in outputs {
                    rates.entry(output.size).or_default().insert(output.rate);
                }
                let line = |((width, height), rates): (&(u32, u32), &BTreeSet<u32>)| {
                    let rates: Vec<_> = rates.iter().map(u32::to_string).collect();
                    format!("{width}x{height} at {}", rates.join(", "))
                };
                let sizes: Vec<_> = rates.iter().map(line).collect();
                let formats: BTreeSet<_> =
                    outputs.iter().flat_map(OutputMode::formats).map(VideoFormat::to_str).collect();
                let formats: Vec<_> = formats.into_iter().map(ToString::to_string).collect();
                format!("{} frames/s; as {}", sizes.join("; "), formats.join(", "))
            }
            Self::Motion { accel, gyro } => {
                let rates = |modes: &[StreamMode]| {
                    let rates: Vec<_> = modes.iter().map(|mode| mode.rate.to_string()).collect();
                    rates.join(", ")
                };
                format!("accel-rate {}; gyro-rate {}", rates(accel), rates(gyro))
            }
        }
    }
}

impl Selection {
    /// The selection as fixed caps.
    pub(super) fn caps(&self) -> gst::Caps {
        match self {
            Self::Video(output, format) => output.caps(*format),
            Self::Motion(modes) => {
                let rate = |kind| modes.iter().find(|mode| mode.kind == kind).map_or(0, |mode| mode.rate);
                motion_caps(rate(StreamKind::Accel), rate(StreamKind::Gyro))
            }
        }
    }

    /// The modes that the camera has to stream.
    pub(super) fn modes(&self) -> &[StreamMode] {
        match self {
            Self::Video(output, _) => &output.modes,
            Self::Motion(modes) => modes,
        }
    }
}

fn plain(mode: StreamMode, processing: &Processing) -> Option<OutputMode> {
    let depth = mode.kind == StreamKind::Depth;
    let size = (mode.width, mode.height);
    Some(OutputMode {
        modes: vec![mode],
        size: if depth { processing.decimated(size) } else { size },
        rate: mode.rate,
        native: native(mode, processing)?,
    })
}

/// Aligned video has the frame rate of this stream and the size of the other one. The mode of this stream is the one
/// with the nearest size, and the mode of the other stream is the one with the nearest rate.
fn aligned(own: &[StreamMode], others: &[StreamMode], processing: &Processing) -> Vec<OutputMode> {
    let mut outputs = BTreeMap::new();
    let rates: BTreeSet<u32> = own.iter().map(|mode| mode.rate).collect();
    for (other, rate) in others.iter().flat_map(|other| rates.iter().map(move |rate| (other, *rate))) {
        let size = (other.width, other.height);
        let nearest = own
            .iter()
            .filter(|mode| mode.rate == rate)
            .min_by_key(|mode| (distance((mode.width, mode.height), size), rank(mode)));
        let Some(mode) = nearest else { continue };
        let Some(native) = native(*mode, processing) else { continue };
        let output = OutputMode { modes: vec![*mode, *other], size, rate, native };
        let fit = (rate.abs_diff(other.rate), rank(other));
        let best = outputs.entry((size, rate)).or_insert_with(|| (fit, output.clone()));
        if fit < best.0 {
            *best = (fit, output);
        }
    }
    outputs.into_values().map(|(_, output)| output).collect()
}

fn native(mode: StreamMode, processing: &Processing) -> Option<VideoFormat> {
    if mode.kind == StreamKind::Depth && processing.colorize {
        // The format of librealsense's colorizer.
        return Some(VideoFormat::Rgb);
    }
    video_format(mode.format)
}

/// The rank of a camera format as the input of a conversion. The sensor's native format comes first.
fn rank(mode: &StreamMode) -> usize {
    use PixelFormat::{Bgr8, Bgra8, Rgb8, Rgba8, Uyvy, Xyz32f, Y8, Y16, Yuyv, Z16};
    if matches!((mode.kind, mode.format), (StreamKind::Infrared(_), Y8)) {
        // Some left imagers also provide color, but infrared is gray by default.
        return 0;
    }
    let order = [Yuyv, Uyvy, Z16, Rgb8, Bgr8, Rgba8, Bgra8, Y8, Y16, Xyz32f];
    order.iter().position(|known| *known == mode.format).map_or(usize::MAX, |position| position + 1)
}

fn cost(output: &OutputMode, format: VideoFormat) -> (u64, u32, usize, usize) {
    let conversion = output.formats().position(|known| known == format).unwrap_or(usize::MAX);
    let rank = output.modes.first().map_or(0, rank);
    (distance(output.size, SIZE), output.rate.abs_diff(RATE), conversion, rank)
}

fn distance(one: (u32, u32), other: (u32, u32)) -> u64 {
    let pixels = |(width, height)| u64::from(width) * u64::from(height);
    pixels(one).abs_diff(pixels(other))
}

fn video_caps(outputs: &[OutputMode]) -> gst::Caps {
    let mut groups: Vec<(&OutputMode, BTreeSet<u32>)> = Vec::new();
    for output in outputs {
        match groups.iter_mut().find(|(first, _)| first.size == output.size && first.native == output.native)
        {
            Some((_, rates)) => {
                rates.insert(output.rate);
            }
            None => groups.push((output, BTreeSet::from([output.rate]))),
        }
    }
    groups.sort_by_key(|(output, _)| cost(output, output.native));
    let mut caps = gst::Caps::new_empty();
    for (output, rates) in groups {
        let builder = gst_video::VideoCapsBuilder::new()
            .format_list(output.formats())
            .width(signed(output.size.0))
            .height(signed(output.size.1))
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

    fn mode(kind: StreamKind, format: PixelFormat, (width, height): (u32, u32), rate: u32) -> StreamMode {
        StreamMode { kind, format, width, height, rate }
    }

    fn color(format: PixelFormat, size: (u32, u32), rate: u32) -> StreamMode {
        mode(StreamKind::Color, format, size, rate)
    }

    fn capabilities(pad_stream: StreamKind, processing: &Processing, modes: &[StreamMode]) -> Capabilities {
        gst::init().expect("GStreamer");
        Capabilities::new(PadStream::Video(pad_stream), processing, |kind| {
            modes.iter().filter(|mode| mode.kind == kind).copied().collect()
        })
    }

    fn selected(capabilities: &Capabilities, caps: &str) -> Option<(StreamMode, VideoFormat)> {
        match capabilities.select(&caps.parse().expect("caps"))? {
            Selection::Video(output, format) => Some((output.modes[0], format)),
            Selection::Motion(_) => None,
        }
    }

    fn d435() -> Vec<StreamMode> {
        use PixelFormat::{Rgb8, Yuyv};
        [(1280, 720, 30), (640, 480, 15), (640, 480, 30), (640, 480, 60), (320, 240, 60)]
            .into_iter()
            .flat_map(|(w, h, rate)| [Rgb8, Yuyv].map(|format| color(format, (w, h), rate)))
            .collect()
    }

    #[test]
    fn the_native_format_at_640x480_and_30_is_the_default() {
        let capabilities = capabilities(StreamKind::Color, &Processing::default(), &d435());
        let best = color(PixelFormat::Yuyv, (640, 480), 30);
        assert_eq!(selected(&capabilities, "ANY"), Some((best, VideoFormat::Yuy2)));
        assert_eq!(
            selected(&capabilities, "video/x-raw,format={I420,NV12}"),
            Some((best, VideoFormat::I420))
        );
        let rgb = color(PixelFormat::Rgb8, (640, 480), 30);
        assert_eq!(selected(&capabilities, "video/x-raw,format=RGB"), Some((rgb, VideoFormat::Rgb)));
    }

    #[test]
    fn size_and_rate_match_exactly_or_negotiation_fails() {
        let capabilities = capabilities(StreamKind::Color, &Processing::default(), &d435());
        let hd = color(PixelFormat::Yuyv, (1280, 720), 30);
        assert_eq!(selected(&capabilities, "video/x-raw,width=1280"), Some((hd, VideoFormat::Yuy2)));
        let fast = color(PixelFormat::Yuyv, (640, 480), 60);
        assert_eq!(
            selected(&capabilities, "video/x-raw,width=640,framerate=60/1"),
            Some((fast, VideoFormat::Yuy2))
        );
        assert_eq!(selected(&capabilities, "video/x-raw,width=1280,framerate=60/1"), None);
        assert_eq!(selected(&capabilities, "video/x-raw,width=333"), None);
        assert!(
            capabilities.describe().contains("640x480 at 15, 30, 60; 1280x720 at 30"),
            "{}",
            capabilities.describe()
        );
    }

    #[test]
    fn each_selection_is_in_the_caps_and_selects_itself() {
        let capabilities = capabilities(StreamKind::Color, &Processing::default(), &d435());
        for caps in ["ANY", "video/x-raw,format=GRAY8", "video/x-raw,height=720,format=BGR"] {
            let select = capabilities.select(&caps.parse().expect("caps")).expect("a selection");
            assert!(
                select.caps().is_fixed() && select.caps().is_subset(&capabilities.caps()),
                "{:?}",
                select.caps()
            );
            assert_eq!(capabilities.select(&select.caps()), Some(select));
        }
    }

    #[test]
    fn depth_is_16_bits_unless_it_is_colored() {
        let modes = [mode(StreamKind::Depth, PixelFormat::Z16, (848, 480), 30)];
        let plain = capabilities(StreamKind::Depth, &Processing::default(), &modes);
        assert_eq!(selected(&plain, "video/x-raw,format=I420"), None);
        assert_eq!(selected(&plain, "ANY"), Some((modes[0], VideoFormat::Gray16Le)));
        let processing = Processing { colorize: true, decimation: 2, ..Processing::default() };
        let colored = capabilities(StreamKind::Depth, &processing, &modes);
        assert_eq!(selected(&colored, "video/x-raw,format=GRAY16_LE"), None);
        assert_eq!(selected(&colored, "video/x-raw,width=424"), Some((modes[0], VideoFormat::Rgb)));
    }

    #[test]
    fn aligned_video_has_the_size_of_the_other_stream() {
        let depth = [(640, 480), (848, 480)].map(|size| mode(StreamKind::Depth, PixelFormat::Z16, size, 30));
        let modes: Vec<_> = d435().into_iter().chain(depth).collect();
        let processing = Processing { align: Some(StreamKind::Color), ..Processing::default() };
        let capabilities = capabilities(StreamKind::Depth, &processing, &modes);
        let Some(Selection::Video(output, _)) =
            capabilities.select(&"video/x-raw,width=1280".parse().expect("caps"))
        else {
            panic!("nothing selected");
        };
        assert_eq!(output.modes, [depth[1], color(PixelFormat::Yuyv, (1280, 720), 30)]);
        assert_eq!(selected(&capabilities, "video/x-raw,width=848"), None);
    }

    #[test]
    fn aligned_video_keeps_the_rate_of_its_own_stream() {
        let depth = [30, 90].map(|rate| mode(StreamKind::Depth, PixelFormat::Z16, (640, 480), rate));
        let color = [30, 60].map(|rate| color(PixelFormat::Yuyv, (640, 480), rate));
        let processing = Processing { align: Some(StreamKind::Color), ..Processing::default() };
        let capabilities = capabilities(StreamKind::Depth, &processing, &[depth, color].concat());
        for (rate, modes) in [(30, [depth[0], color[0]]), (90, [depth[1], color[1]])] {
            let caps = format!("video/x-raw,framerate={rate}/1").parse().expect("caps");
            let select = capabilities.select(&caps).expect("a mode");
            assert_eq!(select.modes(), modes);
        }
    }

    #[test]
    fn infrared_is_gray_although_the_left_imager_provides_color_too() {
        let infrared = |format| mode(StreamKind::Infrared(1), format, (640, 480), 30);
        let modes = [infrared(PixelFormat::Uyvy), infrared(PixelFormat::Rgb8), infrared(PixelFormat::Y8)];
        let capabilities = capabilities(StreamKind::Infrared(1), &Processing::default(), &modes);
        assert_eq!(selected(&capabilities, "ANY"), Some((modes[2], VideoFormat::Gray8)));
        assert_eq!(selected(&capabilities, "video/x-raw,format=I420"), Some((modes[2], VideoFormat::I420)));
        assert_eq!(selected(&capabilities, "video/x-raw,format=UYVY"), Some((modes[0], VideoFormat::Uyvy)));
    }

    #[test]
    fn motion_has_the_rates_nearest_to_200() {
        gst::init().expect("GStreamer");
        let motion = |kind, rate| mode(kind, PixelFormat::Xyz32f, (0, 0), rate);
        let (accel, gyro) = (StreamKind::Accel, StreamKind::Gyro);
        let all = [motion(accel, 63), motion(accel, 250), motion(gyro, 200), motion(gyro, 400)];
        let capabilities = Capabilities::new(PadStream::Motion, &Processing::default(), |kind| {
            all.iter().filter(|mode| mode.kind == kind).copied().collect()
        });
        assert_eq!(capabilities.select(&gst::Caps::new_any()), Some(Selection::Motion(vec![all[1], all[2]])));
        let wanted = "application/x-realsense-motion,gyro-rate=400".parse().expect("caps");
        assert_eq!(capabilities.select(&wanted), Some(Selection::Motion(vec![all[1], all[3]])));
        let only_gyro = Capabilities::Motion { accel: Vec::new(), gyro: vec![all[2]] };
        assert_eq!(only_gyro.select(&only_gyro.caps()), Some(Selection::Motion(vec![all[2]])));
    }
}
