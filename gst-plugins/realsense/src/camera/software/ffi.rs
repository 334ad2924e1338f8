//! Declarations of librealsense's rs_internal.h, versions 2.56 and 2.57, which realsense-sys does not cover.

use realsense_sys as sys;
use std::ffi::{c_char, c_int, c_void};

#[repr(C)]
pub(super) struct VideoStream {
    pub(super) type_: sys::rs2_stream,
    pub(super) index: c_int,
    pub(super) uid: c_int,
    pub(super) width: c_int,
    pub(super) height: c_int,
    pub(super) fps: c_int,
    /// The number of bytes of a pixel.
    pub(super) bpp: c_int,
    pub(super) fmt: sys::rs2_format,
    pub(super) intrinsics: sys::rs2_intrinsics,
}

#[repr(C)]
pub(super) struct MotionStream {
    pub(super) type_: sys::rs2_stream,
    pub(super) index: c_int,
    pub(super) uid: c_int,
    pub(super) fps: c_int,
    pub(super) fmt: sys::rs2_format,
    pub(super) intrinsics: sys::rs2_motion_device_intrinsic,
}

/// Must not be `None`, because the library calls it without a check.
pub(super) type Deleter = Option<unsafe extern "C" fn(*mut c_void)>;

#[repr(C)]
pub(super) struct VideoFrame {
    pub(super) pixels: *mut c_void,
    pub(super) deleter: Deleter,
    pub(super) stride: c_int,
    pub(super) bpp: c_int,
    pub(super) timestamp: f64,
    pub(super) domain: sys::rs2_timestamp_domain,
    pub(super) frame_number: c_int,
    pub(super) profile: *const sys::rs2_stream_profile,
    pub(super) depth_units: f32,
}

#[repr(C)]
pub(super) struct MotionFrame {
    pub(super) data: *mut c_void,
    pub(super) deleter: Deleter,
    pub(super) timestamp: f64,
    pub(super) domain: sys::rs2_timestamp_domain,
    pub(super) frame_number: c_int,
    pub(super) profile: *const sys::rs2_stream_profile,
}

pub(super) type ErrorPlace = *mut *mut sys::rs2_error;

unsafe extern "C" {
    pub(super) fn rs2_create_software_device(error: ErrorPlace) -> *mut sys::rs2_device;
    pub(super) fn rs2_software_device_add_sensor(
        device: *mut sys::rs2_device,
        name: *const c_char,
        error: ErrorPlace,
    ) -> *mut sys::rs2_sensor;
    pub(super) fn rs2_software_device_create_matcher(
        device: *mut sys::rs2_device,
        matcher: sys::rs2_matchers,
        error: ErrorPlace,
    );
    pub(super) fn rs2_software_device_register_info(
        device: *mut sys::rs2_device,
        info: sys::rs2_camera_info,
        value: *const c_char,
        error: ErrorPlace,
    );
    pub(super) fn rs2_software_sensor_add_video_stream_ex(
        sensor: *mut sys::rs2_sensor,
        stream: VideoStream,
        is_default: c_int,
        error: ErrorPlace,
    ) -> *mut sys::rs2_stream_profile;
    pub(super) fn rs2_software_sensor_add_motion_stream_ex(
        sensor: *mut sys::rs2_sensor,
        stream: MotionStream,
        is_default: c_int,
        error: ErrorPlace,
    ) -> *mut sys::rs2_stream_profile;
    pub(super) fn rs2_software_sensor_on_video_frame(
        sensor: *mut sys::rs2_sensor,
        frame: VideoFrame,
        error: ErrorPlace,
    );
    pub(super) fn rs2_software_sensor_on_motion_frame(
        sensor: *mut sys::rs2_sensor,
        frame: MotionFrame,
        error: ErrorPlace,
    );
    pub(super) fn rs2_software_sensor_set_metadata(
        sensor: *mut sys::rs2_sensor,
        field: sys::rs2_frame_metadata_value,
        value: i64,
        error: ErrorPlace,
    );
    pub(super) fn rs2_software_sensor_add_read_only_option(
        sensor: *mut sys::rs2_sensor,
        option: sys::rs2_option,
        value: f32,
        error: ErrorPlace,
    );
    pub(super) fn rs2_software_sensor_add_option(
        sensor: *mut sys::rs2_sensor,
        option: sys::rs2_option,
        least: f32,
        most: f32,
        step: f32,
        first: f32,
        is_writable: c_int,
        error: ErrorPlace,
    );
}
