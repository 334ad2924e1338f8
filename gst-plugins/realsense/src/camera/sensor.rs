//! A sensor of a device: its profiles, its options, and the frames that it gives while it is open.

use super::{
    error::{Error, check},
    frame::Frame,
    handle::Handle,
    profile::{Profile, StreamKind},
};
use realsense_rust::kind::Rs2Option;
use realsense_sys as sys;
use std::{ffi::c_void, sync::Arc};

/// Settings of a sensor that this crate changes.
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

/// What a [`Control`] takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    pub(crate) min: f32,
    pub(crate) max: f32,
    pub(crate) default: f32,
}

/// A sensor and all its modes that this crate knows.
#[derive(Debug)]
pub(crate) struct Sensor {
    // The profiles point into the list.
    profiles: Vec<Profile>,
    _list: Handle<sys::rs2_stream_profile_list>,
    raw: Handle<sys::rs2_sensor>,
}

// SAFETY: the profiles' pointers are into the list that is held beside them, which the library never changes.
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
            // SAFETY: the list is alive, the index inside.
            let profile = check(|error| unsafe { sys::rs2_get_stream_profile(list.raw(), index, error) })?;
            // SAFETY: the list holds its profiles, and this sensor holds the list.
            profiles.extend(unsafe { Profile::read(profile) }?);
        }
        Ok(Self { profiles, _list: list, raw })
    }

    /// All that it can stream.
    pub(crate) fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// Whether it gives this stream.
    pub(crate) fn has(&self, kind: StreamKind) -> bool {
        self.profiles.iter().any(|profile| profile.shape.kind == kind)
    }

    /// What the control takes; `None` where this sensor doesn't have it or only shows it.
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

    /// The sensor as realsense-rust sees it: a view that frees nothing.
    fn options(&self) -> realsense_rust::sensor::Sensor {
        self.raw.non_null().into()
    }

    /// Takes the sensor for these profiles of its own, all at once.
    pub(crate) fn open(self: &Arc<Self>, profiles: &[Profile]) -> Result<OpenSensor, Error> {
        let mut raw: Vec<_> = profiles.iter().map(|profile| profile.raw).collect();
        let count = i32::try_from(raw.len()).unwrap_or(i32::MAX);
        // SAFETY: sensor and profiles are alive, and there are `count` of them.
        check(|error| unsafe {
            sys::rs2_open_multiple(self.raw.raw(), raw.as_mut_ptr(), count, error);
        })?;
        Ok(OpenSensor { sensor: self.clone(), callback: None })
    }
}

type Callback = dyn Fn(Frame) + Send + Sync;

/// A sensor that is open, and that streams once it is started. Stops and closes when dropped.
pub(crate) struct OpenSensor {
    sensor: Arc<Sensor>,
    // Boxed twice: the library holds a thin pointer to the inner box.
    callback: Option<Box<Box<Callback>>>,
}

impl OpenSensor {
    /// Calls `callback` with each frame, in a thread of the library.
    pub(crate) fn start(&mut self, callback: impl Fn(Frame) + Send + Sync + 'static) -> Result<(), Error> {
        let callback: Box<Box<Callback>> = Box::new(Box::new(callback));
        let user = (&raw const *callback).cast_mut().cast::<c_void>();
        // SAFETY: the sensor is alive; `user` is the box that stays in `self` until the sensor has stopped.
        check(|error| unsafe { sys::rs2_start(self.sensor.raw.raw(), Some(on_frame), user, error) })?;
        self.callback = Some(callback);
        Ok(())
    }
}

impl Drop for OpenSensor {
    fn drop(&mut self) {
        let raw = self.sensor.raw.raw();
        // A camera that was unplugged refuses both, and is as good as closed. Stopping waits for callbacks that run.
        if self.callback.is_some() {
            // SAFETY: the sensor is alive.
            let _ = check(|error| unsafe { sys::rs2_stop(raw, error) });
        }
        // SAFETY: the sensor is alive.
        let _ = check(|error| unsafe { sys::rs2_close(raw, error) });
    }
}

unsafe extern "C" fn on_frame(frame: *mut sys::rs2_frame, user: *mut c_void) {
    // SAFETY: `user` is the box given to rs2_start, which outlives the streaming.
    let callback = unsafe { &*user.cast::<Box<Callback>>() };
    // SAFETY: the library gives its reference to the callback.
    if let Some(frame) = unsafe { Frame::take(frame) } {
        callback(frame);
    }
}
