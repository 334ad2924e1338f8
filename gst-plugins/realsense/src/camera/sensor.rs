//! A sensor of a device: its modes, its controls, and its frames while it streams.

use super::{
    error::{Error, check},
    frame::Frame,
    handle::Handle,
    profile::{Profile, StreamKind},
};
use realsense_rust::kind::Rs2Option;
use realsense_sys as sys;
use std::{ffi::c_void, sync::Arc};

/// The controls of a sensor that this crate sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Exposure,
    AutoExposure,
    Gain,
    WhiteBalance,
    AutoWhiteBalance,
    Emitter,
    LaserPower,
}

impl Control {
    fn option(self) -> Rs2Option {
        match self {
            Self::Exposure => Rs2Option::Exposure,
            Self::AutoExposure => Rs2Option::EnableAutoExposure,
            Self::Gain => Rs2Option::Gain,
            Self::WhiteBalance => Rs2Option::WhiteBalance,
            Self::AutoWhiteBalance => Rs2Option::EnableAutoWhiteBalance,
            Self::Emitter => Rs2Option::EmitterEnabled,
            Self::LaserPower => Rs2Option::LaserPower,
        }
    }
}

/// The values that a [`Control`] accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    pub(crate) min: f32,
    pub(crate) max: f32,
    pub(crate) default: f32,
}

/// A sensor and its modes.
#[derive(Debug)]
pub(crate) struct Sensor {
    // The profiles point into the list.
    profiles: Vec<Profile>,
    _list: Handle<sys::rs2_stream_profile_list>,
    raw: Handle<sys::rs2_sensor>,
}

// SAFETY: the pointers of the profiles refer to the list that this value holds, which the library never changes.
unsafe impl Send for Sensor {}
// SAFETY: as above.
unsafe impl Sync for Sensor {}

impl Sensor {
    pub(super) fn new(raw: Handle<sys::rs2_sensor>) -> Result<Self, Error> {
        // SAFETY: the sensor is alive.
        let list = Handle::new(sys::rs2_delete_stream_profiles_list, |error| unsafe {
            sys::rs2_get_stream_profiles(raw.raw(), error)
        })?;
        // SAFETY: the list is alive.
        let count = check(|error| unsafe { sys::rs2_get_stream_profiles_count(list.raw(), error) })?;
        let mut profiles = Vec::new();
        for index in 0..count {
            // SAFETY: the list is alive, and the index is in range.
            let profile = check(|error| unsafe { sys::rs2_get_stream_profile(list.raw(), index, error) })?;
            // SAFETY: the list holds its profiles, and this sensor holds the list.
            profiles.extend(unsafe { Profile::read(profile) }?);
        }
        Ok(Self { profiles, _list: list, raw })
    }

    /// The modes of the sensor.
    pub(crate) fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// Whether the sensor has this stream.
    pub(crate) fn has(&self, kind: StreamKind) -> bool {
        self.profiles.iter().any(|profile| profile.mode.kind == kind)
    }

    /// The values that the control accepts; `None` if the sensor lacks the control or it is read-only.
    pub(crate) fn range(&self, control: Control) -> Option<Range> {
        let (sensor, option) = (self.options(), control.option());
        let range = sensor.get_option_range(option).filter(|_| !sensor.is_option_read_only(option))?;
        Some(Range { min: range.min, max: range.max, default: range.default })
    }

    /// Sets the control.
    pub(crate) fn set(&self, control: Control, value: f32) -> Result<(), Error> {
        let set = self.options().set_option(control.option(), value);
        set.map_err(|error| Error::new("rs2_set_option", error.to_string()))
    }

    /// A non-owning view of the sensor as realsense-rust wraps it.
    fn options(&self) -> realsense_rust::sensor::Sensor {
        self.raw.non_null().into()
    }

    /// Opens the sensor for these of its profiles.
    pub(crate) fn open(self: &Arc<Self>, profiles: &[Profile]) -> Result<OpenSensor, Error> {
        let mut raw: Vec<_> = profiles.iter().map(|profile| profile.raw).collect();
        let count = i32::try_from(raw.len()).unwrap_or(i32::MAX);
        // SAFETY: the sensor and the profiles are alive, and there are `count` of them.
        check(|error| unsafe {
            sys::rs2_open_multiple(self.raw.raw(), raw.as_mut_ptr(), count, error);
        })?;
        Ok(OpenSensor { sensor: self.clone(), callback: None })
    }
}

type Callback = dyn Fn(Frame) + Send + Sync;

/// An open sensor, which streams once it is started. Stopped and closed on drop.
pub(crate) struct OpenSensor {
    sensor: Arc<Sensor>,
    // Boxed twice, because the library holds a thin pointer to the inner box.
    callback: Option<Box<Box<Callback>>>,
}

impl OpenSensor {
    /// Starts streaming. Calls `callback` with each frame on a thread of the library.
    pub(crate) fn start(&mut self, callback: impl Fn(Frame) + Send + Sync + 'static) -> Result<(), Error> {
        let callback: Box<Box<Callback>> = Box::new(Box::new(callback));
        let user = (&raw const *callback).cast_mut().cast::<c_void>();
        // SAFETY: the sensor is alive; `user` is the box that `self` holds until the sensor has stopped.
        check(|error| unsafe { sys::rs2_start(self.sensor.raw.raw(), Some(on_frame), user, error) })?;
        self.callback = Some(callback);
        Ok(())
    }
}

impl Drop for OpenSensor {
    fn drop(&mut self) {
        let raw = self.sensor.raw.raw();
        // A camera that was unplugged refuses both calls, and counts as closed. Stopping waits for running callbacks.
        if self.callback.is_some() {
            // SAFETY: the sensor is alive.
            let _ = check(|error| unsafe { sys::rs2_stop(raw, error) });
        }
        // SAFETY: the sensor is alive.
        let _ = check(|error| unsafe { sys::rs2_close(raw, error) });
    }
}

unsafe extern "C" fn on_frame(frame: *mut sys::rs2_frame, user: *mut c_void) {
    // SAFETY: `user` is the box registered with rs2_start, which outlives the streaming.
    let callback = unsafe { &*user.cast::<Box<Callback>>() };
    // SAFETY: the library passes its reference to the callback.
    if let Some(frame) = unsafe { Frame::take(frame) } {
        callback(frame);
    }
}
