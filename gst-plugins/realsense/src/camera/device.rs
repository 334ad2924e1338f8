//! A camera, or a recording that is played like one.

use super::{
    error::{Error, check},
    handle::Handle,
    sensor::Sensor,
};
use crate::sync::lock;
use realsense_rust::kind::Rs2CameraInfo;
use realsense_sys as sys;
use std::{
    ptr::NonNull,
    sync::{Arc, Mutex},
};

/// A camera or a recording.
#[derive(Debug)]
pub(crate) struct Device {
    /// The device as realsense-rust wraps it, which also frees it.
    inner: realsense_rust::device::Device,
    /// The same device, for functions that realsense-rust lacks, because its pointer is private.
    raw: NonNull<sys::rs2_device>,
    name: String,
    serial: String,
    sensors: Mutex<Option<Arc<[Arc<Sensor>]>>>,
    // A recording has a context of its own, so that other elements do not find it as a camera. Dropped after the
    // device.
    _context: Option<Handle<sys::rs2_context>>,
}

// SAFETY: as for [`Handle`].
unsafe impl Send for Device {}
// SAFETY: as for [`Handle`].
unsafe impl Sync for Device {}

impl Device {
    pub(super) fn new(raw: Handle<sys::rs2_device>, context: Option<Handle<sys::rs2_context>>) -> Self {
        let raw = raw.into_inner();
        let inner = realsense_rust::device::Device::from(raw);
        let name = text(&inner, Rs2CameraInfo::Name).unwrap_or_default();
        let serial = text(&inner, Rs2CameraInfo::SerialNumber).unwrap_or_default();
        Self { inner, raw, name, serial, sensors: Mutex::new(None), _context: context }
    }

    pub(super) fn raw(&self) -> *mut sys::rs2_device {
        self.raw.as_ptr()
    }

    /// The model name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The serial number.
    pub(crate) fn serial(&self) -> &str {
        &self.serial
    }

    /// The firmware version, if the camera reports it.
    pub(crate) fn firmware(&self) -> Option<String> {
        text(&self.inner, Rs2CameraInfo::FirmwareVersion)
    }

    /// The version of USB that the camera is connected by, if the camera reports it.
    pub(crate) fn usb(&self) -> Option<String> {
        text(&self.inner, Rs2CameraInfo::UsbTypeDescriptor)
    }

    /// The sensors. They are read once.
    pub(crate) fn sensors(&self) -> Result<Arc<[Arc<Sensor>]>, Error> {
        let mut known = lock(&self.sensors);
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
                // SAFETY: the list is alive, and the index is in range.
                let sensor = Handle::new(sys::rs2_delete_sensor, |error| unsafe {
                    sys::rs2_create_sensor(list.raw(), index, error)
                })?;
                Sensor::new(sensor).map(Arc::new)
            })
            .collect::<Result<Arc<[_]>, _>>()?;
        *known = Some(sensors.clone());
        Ok(sensors)
    }

    fn supports(&self, extension: sys::rs2_extension) -> bool {
        // SAFETY: the device is alive.
        check(|error| unsafe { sys::rs2_is_device_extendable_to(self.raw(), extension, error) })
            .is_ok_and(|supported| supported != 0)
    }

    /// Loads a preset, in the JSON format of the RealSense Viewer.
    pub(crate) fn load_preset(&self, json: &str) -> Result<(), Error> {
        if !self.supports(sys::rs2_extension_RS2_EXTENSION_SERIALIZABLE) {
            return Err(Error::new("rs2_load_json", "this device accepts no presets"));
        }
        let size =
            u32::try_from(json.len()).map_err(|_| Error::new("rs2_load_json", "the preset is too long"))?;
        // SAFETY: the device is alive and accepts presets; the text is alive during the call and has this length.
        check(|error| unsafe { sys::rs2_load_json(self.raw(), json.as_ptr().cast(), size, error) })
    }
}

fn text(device: &realsense_rust::device::Device, field: Rs2CameraInfo) -> Option<String> {
    device.info(field).map(|text| text.to_string_lossy().into_owned())
}
