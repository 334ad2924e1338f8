//! A camera, or a recording that plays as one.

use super::{
    context::Context,
    error::{Error, check},
    handle::Handle,
    sensor::Sensor,
};
use realsense_rust::kind::Rs2CameraInfo;
use realsense_sys as sys;
use std::{
    ffi::CString,
    path::Path,
    ptr::NonNull,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How far a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaybackStatus {
    Playing,
    Paused,
    /// At its end, or not yet begun.
    Stopped,
}

/// A camera or a recording.
#[derive(Debug)]
pub(crate) struct Device {
    /// What realsense-rust can do; it frees the device.
    inner: realsense_rust::device::Device,
    /// The same, for what it can't do: it keeps its pointer to itself.
    raw: NonNull<sys::rs2_device>,
    name: String,
    serial: String,
    sensors: Mutex<Option<Arc<[Arc<Sensor>]>>>,
    // A recording lives in a context of its own, so that it is no camera to anybody else. Freed after the device.
    _context: Option<Handle<sys::rs2_context>>,
}

// SAFETY: as with every [`Handle`].
unsafe impl Send for Device {}
// SAFETY: as with every [`Handle`].
unsafe impl Sync for Device {}

impl Device {
    pub(super) fn new(raw: Handle<sys::rs2_device>, context: Option<Handle<sys::rs2_context>>) -> Self {
        let raw = raw.into_inner();
        let inner = realsense_rust::device::Device::from(raw);
        let name = text(&inner, Rs2CameraInfo::Name).unwrap_or_default();
        let serial = text(&inner, Rs2CameraInfo::SerialNumber).unwrap_or_default();
        Self { inner, raw, name, serial, sensors: Mutex::new(None), _context: context }
    }

    /// Opens a recording.
    pub(crate) fn recording(path: &Path) -> Result<Self, Error> {
        let bytes = path.as_os_str().as_encoded_bytes();
        let file = CString::new(bytes).map_err(|_| Error::new("recording", "the path has a zero byte"))?;
        let context = Context::without_cameras()?;
        // SAFETY: the context is alive, the string until the call returns.
        let device = Handle::new(sys::rs2_delete_device, |error| unsafe {
            sys::rs2_context_add_device(context.raw(), file.as_ptr(), error)
        })?;
        Ok(Self::new(device, Some(context)))
    }

    pub(super) fn raw(&self) -> *mut sys::rs2_device {
        self.raw.as_ptr()
    }

    /// The model, as the camera says it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The serial number.
    pub(crate) fn serial(&self) -> &str {
        &self.serial
    }

    /// The version of its firmware, where it says it.
    pub(crate) fn firmware(&self) -> Option<String> {
        text(&self.inner, Rs2CameraInfo::FirmwareVersion)
    }

    /// The version of USB that it is connected with, where it says it.
    pub(crate) fn usb(&self) -> Option<String> {
        text(&self.inner, Rs2CameraInfo::UsbTypeDescriptor)
    }

    /// Its sensors, read once.
    pub(crate) fn sensors(&self) -> Result<Arc<[Arc<Sensor>]>, Error> {
        let mut known = self.sensors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sensors) = &*known {
            return Ok(sensors.clone());
        }
        // SAFETY: the device is alive.
        let list = Handle::new(sys::rs2_delete_sensor_list, |error| unsafe {
            sys::rs2_query_sensors(self.raw(), error)
        })?;
        // SAFETY: the list is alive.
        let count = check(|error| unsafe { sys::rs2_get_sensors_count(list.raw(), error) })?;
        let sensors = (0..count)
            .map(|index| {
                // SAFETY: the list is alive, the index inside.
                let sensor = Handle::new(sys::rs2_delete_sensor, |error| unsafe {
                    sys::rs2_create_sensor(list.raw(), index, error)
                })?;
                Sensor::new(sensor).map(Arc::new)
            })
            .collect::<Result<Arc<[_]>, _>>()?;
        *known = Some(sensors.clone());
        Ok(sensors)
    }

    fn can(&self, extension: sys::rs2_extension) -> bool {
        // SAFETY: the device is alive.
        check(|error| unsafe { sys::rs2_is_device_extendable_to(self.raw(), extension, error) })
            .is_ok_and(|can| can != 0)
    }

    /// Loads a preset: the JSON that the RealSense Viewer writes.
    pub(crate) fn load_preset(&self, json: &str) -> Result<(), Error> {
        if !self.can(sys::rs2_extension_RS2_EXTENSION_SERIALIZABLE) {
            return Err(Error::new("rs2_load_json", "this device takes no presets"));
        }
        let size = u32::try_from(json.len()).map_err(|_| Error::new("rs2_load_json", "too long"))?;
        // SAFETY: the device is alive and takes presets; the text is alive during the call and has that many bytes.
        check(|error| unsafe { sys::rs2_load_json(self.raw(), json.as_ptr().cast(), size, error) })
    }

    /// Of a recording: at its own pace, leaving out what comes too late, or every frame at the pace of who takes them.
    pub(crate) fn set_real_time(&self, real_time: bool) -> Result<(), Error> {
        // SAFETY: the device is alive; the library checks that it is a recording.
        check(|error| unsafe {
            sys::rs2_playback_device_set_real_time(self.raw(), i32::from(real_time), error);
        })
    }

    /// Of a recording: whether it plays.
    pub(crate) fn playback_status(&self) -> Result<PlaybackStatus, Error> {
        // SAFETY: as above.
        let raw = check(|error| unsafe { sys::rs2_playback_device_get_current_status(self.raw(), error) })?;
        Ok(match raw {
            sys::rs2_playback_status_RS2_PLAYBACK_STATUS_PLAYING => PlaybackStatus::Playing,
            sys::rs2_playback_status_RS2_PLAYBACK_STATUS_PAUSED => PlaybackStatus::Paused,
            _ => PlaybackStatus::Stopped,
        })
    }

    /// Of a recording: how much is still to be read, up to the last frame of any stream in it.
    pub(crate) fn playback_left(&self) -> Result<Duration, Error> {
        // SAFETY: as above.
        let whole = check(|error| unsafe { sys::rs2_playback_get_duration(self.raw(), error) })?;
        // SAFETY: as above.
        let position = check(|error| unsafe { sys::rs2_playback_get_position(self.raw(), error) })?;
        Ok(Duration::from_nanos(whole.saturating_sub(position)))
    }

    /// Of a recording: holds it.
    pub(crate) fn pause(&self) -> Result<(), Error> {
        // SAFETY: as above.
        check(|error| unsafe { sys::rs2_playback_device_pause(self.raw(), error) })
    }

    /// Of a recording: goes on.
    pub(crate) fn resume(&self) -> Result<(), Error> {
        // SAFETY: as above.
        check(|error| unsafe { sys::rs2_playback_device_resume(self.raw(), error) })
    }
}

fn text(device: &realsense_rust::device::Device, field: Rs2CameraInfo) -> Option<String> {
    device.info(field).map(|text| text.to_string_lossy().into_owned())
}
