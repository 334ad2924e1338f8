//! The modes of a sensor: stream, format, size and frame rate.

use super::error::{Error, check, text};
use num_traits::FromPrimitive;
use realsense_rust::kind::{Rs2Format, Rs2StreamKind};
use realsense_sys as sys;

/// The streams that this crate knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum StreamKind {
    Color,
    Depth,
    /// The left imager is 1, the right one 2. librealsense gives a single imager the index 0, which becomes 1 here.
    Infrared(u8),
    Gyro,
    Accel,
}

impl StreamKind {
    fn from_raw(stream: sys::rs2_stream, index: i32) -> Option<Self> {
        match Rs2StreamKind::from_u32(stream)? {
            Rs2StreamKind::Color => Some(Self::Color),
            Rs2StreamKind::Depth => Some(Self::Depth),
            Rs2StreamKind::Infrared => Some(Self::Infrared(u8::try_from(index.max(1)).ok()?)),
            Rs2StreamKind::Gyro => Some(Self::Gyro),
            Rs2StreamKind::Accel => Some(Self::Accel),
            _ => None,
        }
    }

    /// The name in properties and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Color => "color",
            Self::Depth => "depth",
            Self::Infrared(1) => "infrared1",
            Self::Infrared(_) => "infrared2",
            Self::Gyro => "gyro",
            Self::Accel => "accel",
        }
    }
}

/// The formats that this crate knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PixelFormat {
    Yuyv,
    Uyvy,
    Rgb8,
    Bgr8,
    Rgba8,
    Bgra8,
    Y8,
    Y16,
    Z16,
    /// Three floats of a motion sensor.
    Xyz32f,
}

/// The librealsense name of each format, and the number of bytes of one pixel.
const FORMATS: [(PixelFormat, Rs2Format, usize); 10] = [
    (PixelFormat::Yuyv, Rs2Format::Yuyv, 2),
    (PixelFormat::Uyvy, Rs2Format::Uyvy, 2),
    (PixelFormat::Rgb8, Rs2Format::Rgb8, 3),
    (PixelFormat::Bgr8, Rs2Format::Bgr8, 3),
    (PixelFormat::Rgba8, Rs2Format::Rgba8, 4),
    (PixelFormat::Bgra8, Rs2Format::Bgra8, 4),
    (PixelFormat::Y8, Rs2Format::Y8, 1),
    (PixelFormat::Y16, Rs2Format::Y16, 2),
    (PixelFormat::Z16, Rs2Format::Z16, 2),
    (PixelFormat::Xyz32f, Rs2Format::MotionXyz32F, 12),
];

impl PixelFormat {
    fn from_raw(raw: sys::rs2_format) -> Option<Self> {
        let raw = Rs2Format::from_u32(raw)?;
        FORMATS.iter().find(|(_, theirs, _)| *theirs == raw).map(|(format, ..)| *format)
    }

    /// The number of bytes of a pixel, or of a motion sample.
    pub(crate) fn bytes(self) -> usize {
        FORMATS.iter().find(|(format, ..)| *format == self).map_or(0, |(.., bytes)| *bytes)
    }
}

/// A mode of a stream: the content of a stream profile of librealsense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamMode {
    pub(crate) kind: StreamKind,
    pub(crate) format: PixelFormat,
    /// In pixels; 0 for motion.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Frames or samples per second.
    pub(crate) rate: u32,
}

/// A stream profile of a sensor. It is valid as long as the list of the sensor, which [`super::Sensor`] holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    pub(super) raw: *const sys::rs2_stream_profile,
    pub(crate) mode: StreamMode,
}

impl Profile {
    /// Reads a profile. Returns `None` for a stream or format that this crate does not know.
    ///
    /// # Safety
    ///
    /// `raw` points to a profile that outlives the returned value.
    pub(super) unsafe fn read(raw: *const sys::rs2_stream_profile) -> Result<Option<Self>, Error> {
        let (mut stream, mut format, mut index, mut unique, mut rate) = (0, 0, 0, 0, 0);
        // SAFETY: `raw` is alive (ensured by the caller); the results are written to our stack.
        check(|error| unsafe {
            sys::rs2_get_stream_profile_data(
                raw,
                &raw mut stream,
                &raw mut format,
                &raw mut index,
                &raw mut unique,
                &raw mut rate,
                error,
            );
        })?;
        let (Some(kind), Some(format)) = (StreamKind::from_raw(stream, index), PixelFormat::from_raw(format))
        else {
            return Ok(None);
        };
        let (mut width, mut height) = (0, 0);
        if format != PixelFormat::Xyz32f {
            // SAFETY: as above.
            check(|error| unsafe {
                sys::rs2_get_video_stream_resolution(raw, &raw mut width, &raw mut height, error);
            })?;
        }
        let size = |value: i32| u32::try_from(value).unwrap_or(0);
        let mode = StreamMode { kind, format, width: size(width), height: size(height), rate: size(rate) };
        Ok(Some(Self { raw, mode }))
    }
}

/// The intrinsics of a camera, which map pixels and depth to points.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Intrinsics {
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) ppx: f32,
    pub(crate) ppy: f32,
    pub(crate) fx: f32,
    pub(crate) fy: f32,
    /// librealsense's name of the distortion model.
    pub(crate) model: String,
    pub(crate) coefficients: [f32; 5],
}

impl Intrinsics {
    /// Reads the intrinsics of a video stream.
    ///
    /// # Safety
    ///
    /// `profile` points to a profile that is alive.
    pub(super) unsafe fn read(profile: *const sys::rs2_stream_profile) -> Result<Self, Error> {
        let mut raw = sys::rs2_intrinsics {
            width: 0,
            height: 0,
            ppx: 0.0,
            ppy: 0.0,
            fx: 0.0,
            fy: 0.0,
            model: sys::rs2_distortion_RS2_DISTORTION_NONE,
            coeffs: [0.0; 5],
        };
        // SAFETY: the profile is alive (ensured by the caller); the result is written to our stack.
        check(|error| unsafe { sys::rs2_get_video_stream_intrinsics(profile, &raw mut raw, error) })?;
        // SAFETY: the function returns a static string for every number, known or not.
        let model = unsafe { text(sys::rs2_distortion_to_string(raw.model)) };
        Ok(Self {
            width: raw.width,
            height: raw.height,
            ppx: raw.ppx,
            ppy: raw.ppy,
            fx: raw.fx,
            fy: raw.fy,
            model,
            coefficients: raw.coeffs,
        })
    }
}
