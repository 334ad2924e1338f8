//! Records software devices into files, like those of real cameras.

use super::{Error, SoftwareDevice};
use crate::camera::{error::check, handle::Handle};
use realsense_sys as sys;
use std::{
    ffi::{CString, c_int, c_void},
    path::Path,
    ptr::null_mut,
};

/// Records a software device into a file.
#[derive(Debug)]
pub struct Recorder {
    sensors: Vec<Handle<sys::rs2_sensor>>,
    _raw: Handle<sys::rs2_device>,
}

impl Recorder {
    /// Starts to record all streams of the device. With `compress`, images are compressed with LZ4.
    pub fn start(device: &SoftwareDevice, path: &Path, compress: bool) -> Result<Self, Error> {
        let path = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: the device is alive, and the path is alive during the call.
        let raw = Handle::new(sys::rs2_delete_device, |error| unsafe {
            sys::rs2_create_record_device_ex(device.raw.raw(), path.as_ptr(), compress.into(), error)
        })?;
        // SAFETY: the recorder is alive.
        let list = Handle::new(sys::rs2_delete_sensor_list, |error| unsafe {
            sys::rs2_query_sensors(raw.raw(), error)
        })?;
        let mut recorder = Self { sensors: Vec::new(), _raw: raw };
        // The sensors of the recorder have the order in which those of the device were created.
        let mut modules: Vec<_> = device.streams.iter().map(|made| made.stream.module()).collect::<Vec<_>>();
        let mut seen = Vec::new();
        modules.retain(|module| {
            !seen.contains(module) && {
                seen.push(*module);
                true
            }
        });
        for (index, module) in modules.into_iter().enumerate() {
            let index = c_int::try_from(index)?;
            // SAFETY: the list is alive.
            let sensor = Handle::new(sys::rs2_delete_sensor, |error| unsafe {
                sys::rs2_create_sensor(list.raw(), index, error)
            })?;
            let mut profiles: Vec<_> = device
                .streams
                .iter()
                .filter(|made| made.stream.module() == module)
                .map(|made| made.profile.cast_const())
                .collect();
            let count = c_int::try_from(profiles.len())?;
            // SAFETY: the sensor is alive, and the profiles belong to the recorded device.
            check(|error| unsafe {
                sys::rs2_open_multiple(sensor.raw(), profiles.as_mut_ptr(), count, error);
            })?;
            // SAFETY: the callback uses nothing but the frame.
            check(|error| unsafe { sys::rs2_start(sensor.raw(), Some(release), null_mut(), error) })?;
            recorder.sensors.push(sensor);
        }
        Ok(recorder)
    }

    /// Closes the file.
    pub fn finish(self) -> Result<(), Error> {
        for sensor in &self.sensors {
            // SAFETY: the sensor is alive.
            check(|error| unsafe { sys::rs2_stop(sensor.raw(), error) })?;
            // SAFETY: the sensor is alive.
            check(|error| unsafe { sys::rs2_close(sensor.raw(), error) })?;
        }
        Ok(())
    }
}

unsafe extern "C" fn release(frame: *mut sys::rs2_frame, _user: *mut c_void) {
    // SAFETY: the library passes its reference to the callback.
    unsafe { sys::rs2_release_frame(frame) }
}
