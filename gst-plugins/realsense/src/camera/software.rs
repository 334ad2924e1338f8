//! Cameras in software, for tests (feature `software-device`). The test pushes their frames. They can be plugged in and
//! unplugged like real cameras, and recorded into the same files.
//!
//! The functions of librealsense that create them are missing from the headers that realsense-sys covers, so `ffi`
//! declares them.

mod ffi;
mod recorder;

pub use recorder::Recorder;

use super::{
    context::{Change, Context, DeviceList},
    error::check,
    handle::Handle,
};
use crate::sync::lock;
use ffi::{MotionFrame, MotionStream, VideoFrame, VideoStream};
use realsense_sys as sys;
use std::{
    ffi::{CStr, CString, c_int, c_void},
    path::Path,
    sync::{Arc, Mutex},
};

/// An error, with the library's message.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The pixel format of a video stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// 4:2:2, Y first.
    Yuyv,
    /// 4:2:2, U first.
    Uyvy,
    /// Three bytes, red first.
    Rgb8,
    /// Three bytes, blue first.
    Bgr8,
    /// Four bytes, red first.
    Rgba8,
    /// Four bytes, blue first.
    Bgra8,
    /// Gray of 8 bits.
    Y8,
    /// Gray of 16 bits.
    Y16,
    /// Depth of 16 bits.
    Z16,
}

impl Pixels {
    fn raw(self) -> (sys::rs2_format, c_int) {
        match self {
            Self::Yuyv => (sys::rs2_format_RS2_FORMAT_YUYV, 2),
            Self::Uyvy => (sys::rs2_format_RS2_FORMAT_UYVY, 2),
            Self::Rgb8 => (sys::rs2_format_RS2_FORMAT_RGB8, 3),
            Self::Bgr8 => (sys::rs2_format_RS2_FORMAT_BGR8, 3),
            Self::Rgba8 => (sys::rs2_format_RS2_FORMAT_RGBA8, 4),
            Self::Bgra8 => (sys::rs2_format_RS2_FORMAT_BGRA8, 4),
            Self::Y8 => (sys::rs2_format_RS2_FORMAT_Y8, 1),
            Self::Y16 => (sys::rs2_format_RS2_FORMAT_Y16, 2),
            Self::Z16 => (sys::rs2_format_RS2_FORMAT_Z16, 2),
        }
    }
}

/// The imager of a video stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imager {
    /// The color camera.
    Color,
    /// The depth of the stereo module.
    Depth,
    /// An infrared camera of the stereo module: 1 is the left one, 2 the right one.
    Infrared(u8),
}

/// A stream of the device. Several streams of one imager are its modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Video.
    Video {
        /// The imager.
        imager: Imager,
        /// The pixel format.
        pixels: Pixels,
        /// The number of pixels in a row.
        width: u16,
        /// The number of rows.
        height: u16,
        /// Frames per second.
        rate: u16,
    },
    /// The gyroscope: three floats in rad/s, at this number of samples per second.
    Gyro(u16),
    /// The accelerometer: three floats in m/s², at this number of samples per second.
    Accel(u16),
}

impl Stream {
    fn module(self) -> usize {
        match self {
            Self::Video { imager: Imager::Color, .. } => 1,
            Self::Video { .. } => 0,
            Self::Gyro(_) | Self::Accel(_) => 2,
        }
    }
}

/// A control of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Exposure time.
    Exposure,
    /// Whether exposure and gain are automatic.
    AutoExposure,
    /// Gain.
    Gain,
    /// Color temperature in kelvin.
    WhiteBalance,
    /// Whether the infrared projector is on.
    Emitter,
    /// The power of the infrared projector in mW.
    LaserPower,
}

impl Setting {
    fn raw(self) -> sys::rs2_option {
        match self {
            Self::Exposure => sys::rs2_option_RS2_OPTION_EXPOSURE,
            Self::AutoExposure => sys::rs2_option_RS2_OPTION_ENABLE_AUTO_EXPOSURE,
            Self::Gain => sys::rs2_option_RS2_OPTION_GAIN,
            Self::WhiteBalance => sys::rs2_option_RS2_OPTION_WHITE_BALANCE,
            Self::Emitter => sys::rs2_option_RS2_OPTION_EMITTER_ENABLED,
            Self::LaserPower => sys::rs2_option_RS2_OPTION_LASER_POWER,
        }
    }
}

/// The metadata of a frame.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameInfo {
    /// The frame number.
    pub number: i32,
    /// The timestamp on the camera's clock, in ms.
    pub timestamp_ms: f64,
    /// Whether the timestamp is the host's time instead, as librealsense reports it for cameras whose driver provides
    /// no metadata.
    pub host_time: bool,
    /// The exposure time in µs.
    pub exposure: Option<i64>,
    /// The gain, in units of the sensor.
    pub gain: Option<i64>,
}

/// The depth of one unit in meters.
const DEPTH_UNITS: f32 = 0.001;

const MODULES: [&CStr; 3] = [c"Stereo Module", c"RGB Camera", c"Motion Module"];

/// The options of each module: option, minimum, maximum, default.
const OPTIONS: [(usize, sys::rs2_option, f32, f32, f32); 9] = [
    (0, sys::rs2_option_RS2_OPTION_EXPOSURE, 1.0, 165_000.0, 8500.0),
    (0, sys::rs2_option_RS2_OPTION_GAIN, 16.0, 248.0, 16.0),
    (0, sys::rs2_option_RS2_OPTION_ENABLE_AUTO_EXPOSURE, 0.0, 1.0, 1.0),
    (0, sys::rs2_option_RS2_OPTION_EMITTER_ENABLED, 0.0, 1.0, 1.0),
    (0, sys::rs2_option_RS2_OPTION_LASER_POWER, 0.0, 360.0, 150.0),
    (1, sys::rs2_option_RS2_OPTION_EXPOSURE, 1.0, 10_000.0, 156.0),
    (1, sys::rs2_option_RS2_OPTION_GAIN, 0.0, 128.0, 64.0),
    (1, sys::rs2_option_RS2_OPTION_ENABLE_AUTO_EXPOSURE, 0.0, 1.0, 1.0),
    (1, sys::rs2_option_RS2_OPTION_WHITE_BALANCE, 2800.0, 6500.0, 4600.0),
];

/// A camera in software.
#[derive(Debug)]
pub struct SoftwareDevice {
    streams: Vec<Made>,
    modules: Vec<Option<Handle<sys::rs2_sensor>>>,
    raw: Handle<sys::rs2_device>,
}

#[derive(Debug)]
struct Made {
    stream: Stream,
    profile: *mut sys::rs2_stream_profile,
}

// SAFETY: the profiles belong to the device that this value holds.
unsafe impl Send for SoftwareDevice {}
// SAFETY: as above.
unsafe impl Sync for SoftwareDevice {}

impl SoftwareDevice {
    /// Creates a camera with this serial number and these streams.
    pub fn new(serial: &str, streams: &[Stream]) -> Result<Self, Error> {
        // SAFETY: the function takes only the address for an error.
        let raw =
            Handle::new(sys::rs2_delete_device, |error| unsafe { ffi::rs2_create_software_device(error) })?;
        let serial = CString::new(serial)?;
        for (field, value) in [
            (sys::rs2_camera_info_RS2_CAMERA_INFO_NAME, c"Intel RealSense Software"),
            (sys::rs2_camera_info_RS2_CAMERA_INFO_SERIAL_NUMBER, serial.as_c_str()),
            (sys::rs2_camera_info_RS2_CAMERA_INFO_FIRMWARE_VERSION, c"5.16.0.1"),
            (sys::rs2_camera_info_RS2_CAMERA_INFO_PRODUCT_LINE, c"D400"),
            (sys::rs2_camera_info_RS2_CAMERA_INFO_USB_TYPE_DESCRIPTOR, c"3.2"),
            (sys::rs2_camera_info_RS2_CAMERA_INFO_PHYSICAL_PORT, serial.as_c_str()),
        ] {
            // SAFETY: the device is alive, and the string is alive during the call.
            check(|error| unsafe {
                ffi::rs2_software_device_register_info(raw.raw(), field, value.as_ptr(), error);
            })?;
        }
        let mut device = Self { streams: Vec::new(), modules: vec![None, None, None], raw };
        for (index, &stream) in streams.iter().enumerate() {
            device.add(index, stream)?;
        }
        device.register_extrinsics()?;
        // SAFETY: the device is alive.
        check(|error| unsafe {
            ffi::rs2_software_device_create_matcher(
                device.raw.raw(),
                sys::rs2_matchers_RS2_MATCHER_DLR_C,
                error,
            );
        })?;
        Ok(device)
    }

    fn add(&mut self, index: usize, stream: Stream) -> Result<(), Error> {
        let sensor = self.module(stream.module())?;
        let unique = c_int::try_from(index)? + 100;
        let profile = match stream {
            Stream::Video { imager, pixels, width, height, rate } => {
                let (type_, index) = match imager {
                    Imager::Color => (sys::rs2_stream_RS2_STREAM_COLOR, 0),
                    Imager::Depth => (sys::rs2_stream_RS2_STREAM_DEPTH, 0),
                    Imager::Infrared(index) => (sys::rs2_stream_RS2_STREAM_INFRARED, index.into()),
                };
                let (fmt, bpp) = pixels.raw();
                let (width, height, fps) = (width.into(), height.into(), rate.into());
                let intrinsics = intrinsics(width, height);
                let video =
                    VideoStream { type_, index, uid: unique, width, height, fps, bpp, fmt, intrinsics };
                // SAFETY: the sensor is alive.
                check(|error| unsafe {
                    ffi::rs2_software_sensor_add_video_stream_ex(sensor, video, 1, error)
                })?
            }
            Stream::Gyro(rate) => add_motion(sensor, sys::rs2_stream_RS2_STREAM_GYRO, unique, rate)?,
            Stream::Accel(rate) => add_motion(sensor, sys::rs2_stream_RS2_STREAM_ACCEL, unique, rate)?,
        };
        self.streams.push(Made { stream, profile });
        Ok(())
    }

    /// The sensor of this module. It is created, with its options, on first use.
    fn module(&mut self, module: usize) -> Result<*mut sys::rs2_sensor, Error> {
        if let Some(Some(sensor)) = self.modules.get(module) {
            return Ok(sensor.raw());
        }
        // SAFETY: the device is alive, and the name is static.
        let sensor = Handle::new(sys::rs2_delete_sensor, |error| unsafe {
            ffi::rs2_software_device_add_sensor(self.raw.raw(), MODULES[module].as_ptr(), error)
        })?;
        let raw = sensor.raw();
        if module == 0 {
            for (option, value) in [
                (sys::rs2_option_RS2_OPTION_DEPTH_UNITS, DEPTH_UNITS),
                (sys::rs2_option_RS2_OPTION_STEREO_BASELINE, 50.0),
            ] {
                // SAFETY: the sensor is alive.
                check(|error| unsafe {
                    ffi::rs2_software_sensor_add_read_only_option(raw, option, value, error);
                })?;
            }
        }
        for (_, option, least, most, first) in OPTIONS.into_iter().filter(|(of, ..)| *of == module) {
            // SAFETY: the sensor is alive.
            check(|error| unsafe {
                ffi::rs2_software_sensor_add_option(raw, option, least, most, 1.0, first, 1, error);
            })?;
        }
        self.modules[module] = Some(sensor);
        Ok(raw)
    }

    /// The depth and color imagers are 15 mm apart.
    fn register_extrinsics(&self) -> Result<(), Error> {
        let extrinsics = sys::rs2_extrinsics {
            rotation: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            translation: [0.015, 0.0, 0.0],
        };
        let of = |module| self.streams.iter().filter(move |made| made.stream.module() == module);
        for from in of(0) {
            for to in of(1) {
                // SAFETY: both profiles are alive, because they belong to the device.
                check(|error| unsafe {
                    sys::rs2_register_extrinsics(from.profile, to.profile, extrinsics, error);
                })?;
            }
        }
        Ok(())
    }

    /// Pushes a frame of a stream, given by its index in the list that the device was created with. The frame is
    /// discarded unless this mode is streaming. `bytes` are the rows in succession, or three floats.
    pub fn push(&self, stream: usize, bytes: &[u8], info: &FrameInfo) -> Result<(), Error> {
        let made = self.streams.get(stream).ok_or("no such stream")?;
        let sensor = self.modules[made.stream.module()].as_ref().ok_or("no sensor")?.raw();
        let metadata = [
            (sys::rs2_frame_metadata_value_RS2_FRAME_METADATA_FRAME_COUNTER, Some(i64::from(info.number))),
            (sys::rs2_frame_metadata_value_RS2_FRAME_METADATA_ACTUAL_EXPOSURE, info.exposure),
            (sys::rs2_frame_metadata_value_RS2_FRAME_METADATA_GAIN_LEVEL, info.gain),
        ];
        for (field, value) in metadata.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            // SAFETY: the sensor is alive.
            check(|error| unsafe { ffi::rs2_software_sensor_set_metadata(sensor, field, value, error) })?;
        }
        let (timestamp, frame_number) = (info.timestamp_ms, info.number);
        let domain = if info.host_time {
            sys::rs2_timestamp_domain_RS2_TIMESTAMP_DOMAIN_SYSTEM_TIME
        } else {
            sys::rs2_timestamp_domain_RS2_TIMESTAMP_DOMAIN_HARDWARE_CLOCK
        };
        let profile = made.profile.cast_const();
        let deleter = Some(gst::glib::ffi::g_free as unsafe extern "C" fn(*mut c_void));
        let size = u32::try_from(bytes.len())?;
        // SAFETY: the function reads exactly the bytes of the slice.
        let copy = || unsafe { gst::glib::ffi::g_memdup(bytes.as_ptr().cast(), size) };
        if let Stream::Video { pixels, width, height, .. } = made.stream {
            let (_, bpp) = pixels.raw();
            let stride = c_int::from(width) * bpp;
            if usize::try_from(stride)? * usize::from(height) != bytes.len() {
                return Err("wrong number of bytes".into());
            }
            let frame = VideoFrame {
                pixels: copy(),
                deleter,
                stride,
                bpp,
                timestamp,
                domain,
                frame_number,
                profile,
                depth_units: DEPTH_UNITS,
            };
            // SAFETY: the sensor and the profile are alive; the copy has the size that stride and height imply, and the
            // library frees it with the deleter.
            check(|error| unsafe { ffi::rs2_software_sensor_on_video_frame(sensor, frame, error) })?;
        } else {
            if bytes.len() != 12 {
                return Err("a sample is three floats".into());
            }
            let frame = MotionFrame { data: copy(), deleter, timestamp, domain, frame_number, profile };
            // SAFETY: as above.
            check(|error| unsafe { ffi::rs2_software_sensor_on_motion_frame(sensor, frame, error) })?;
        }
        Ok(())
    }

    /// The current value of a control of the imager's sensor.
    pub fn setting(&self, imager: Imager, setting: Setting) -> Result<f32, Error> {
        let module = usize::from(imager == Imager::Color);
        let sensor = self.modules[module].as_ref().ok_or("no sensor")?;
        // SAFETY: a sensor can be cast to an options object, and this one is alive.
        Ok(check(|error| unsafe {
            sys::rs2_get_option(sensor.raw().cast_const().cast(), setting.raw(), error)
        })?)
    }

    /// Plugs the camera in, so that this process finds it like a real one.
    pub fn plug(&self) -> Result<Plugged, Error> {
        let context = Context::shared()?;
        // The context drops a software device unless somebody holds the list that announced it.
        let announced = Arc::new(Mutex::new(None));
        let place = announced.clone();
        let subscription = context.watch(move |change: &Change| {
            lock(&place).get_or_insert_with(|| change.added.clone());
        });
        // SAFETY: both are alive.
        check(|error| unsafe {
            sys::rs2_context_add_software_device(context.handle(), self.raw.raw(), error);
        })?;
        drop(subscription);
        let announced = lock(&announced).take().ok_or("not announced")?;
        Ok(Plugged { _announced: announced, _context: context })
    }
}

/// A software device that is plugged in, until this is dropped. librealsense does not report that it is unplugged then;
/// for a [`PluggedRecording`] it does.
#[derive(Debug)]
pub struct Plugged {
    _announced: Arc<DeviceList>,
    _context: Arc<Context>,
}

/// A recording that is plugged in like a camera and plays once. Dropping it unplugs it.
#[derive(Debug)]
pub struct PluggedRecording {
    _device: Handle<sys::rs2_device>,
    path: CString,
    context: Arc<Context>,
}

impl PluggedRecording {
    /// Plugs the recording in.
    pub fn plug(path: &Path) -> Result<Self, Error> {
        let context = Context::shared()?;
        let path = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: the context is alive, and the path is alive during the call.
        let device = Handle::new(sys::rs2_delete_device, |error| unsafe {
            sys::rs2_context_add_device(context.handle(), path.as_ptr(), error)
        })?;
        Ok(Self { _device: device, path, context })
    }
}

impl Drop for PluggedRecording {
    fn drop(&mut self) {
        // SAFETY: the context is alive, and the path is alive during the call.
        let _ = check(|error| unsafe {
            sys::rs2_context_remove_device(self.context.handle(), self.path.as_ptr(), error);
        });
    }
}

fn add_motion(
    sensor: *mut sys::rs2_sensor,
    type_: sys::rs2_stream,
    uid: c_int,
    rate: u16,
) -> Result<*mut sys::rs2_stream_profile, Error> {
    let intrinsics = sys::rs2_motion_device_intrinsic {
        data: [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]],
        noise_variances: [0.0; 3],
        bias_variances: [0.0; 3],
    };
    let fmt = sys::rs2_format_RS2_FORMAT_MOTION_XYZ32F;
    let motion = MotionStream { type_, index: 0, uid, fps: rate.into(), fmt, intrinsics };
    // SAFETY: the sensor is alive.
    Ok(check(|error| unsafe { ffi::rs2_software_sensor_add_motion_stream_ex(sensor, motion, 1, error) })?)
}

#[allow(clippy::cast_precision_loss, reason = "video is not that wide")]
fn intrinsics(width: c_int, height: c_int) -> sys::rs2_intrinsics {
    sys::rs2_intrinsics {
        width,
        height,
        ppx: width as f32 / 2.0,
        ppy: height as f32 / 2.0,
        fx: width as f32,
        fy: width as f32,
        model: sys::rs2_distortion_RS2_DISTORTION_BROWN_CONRADY,
        coeffs: [0.0; 5],
    }
}
