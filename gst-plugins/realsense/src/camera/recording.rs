//! Recordings: opening a file as a [`Device`], and controlling its playback.

use super::{
    context::Context,
    device::Device,
    error::{Error, check},
    handle::Handle,
};
use realsense_sys as sys;
use std::{ffi::CString, path::Path, time::Duration};

/// The state of the playback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaybackStatus {
    Playing,
    Paused,
    /// At the end, or before the start.
    Stopped,
}

impl Device {
    /// Opens a recording.
    pub(crate) fn recording(path: &Path) -> Result<Self, Error> {
        let bytes = path.as_os_str().as_encoded_bytes();
        let file = CString::new(bytes).map_err(|_| Error::new("recording", "the path has a zero byte"))?;
        let context = Context::without_cameras()?;
        // SAFETY: the context is alive, and the string is alive during the call.
        let device = Handle::new(sys::rs2_delete_device, |error| unsafe {
            sys::rs2_context_add_device(context.raw(), file.as_ptr(), error)
        })?;
        Ok(Self::new(device, Some(context)))
    }

    /// Selects how a recording plays: in real time, skipping frames that are late, or every frame at the pace at which
    /// frames are released.
    pub(crate) fn set_real_time(&self, real_time: bool) -> Result<(), Error> {
        // SAFETY: the device is alive; the library checks that it is a recording.
        check(|error| unsafe {
            sys::rs2_playback_device_set_real_time(self.raw(), i32::from(real_time), error);
        })
    }

    /// The state of the playback of a recording.
    pub(crate) fn playback_status(&self) -> Result<PlaybackStatus, Error> {
        // SAFETY: as above.
        let raw = check(|error| unsafe { sys::rs2_playback_device_get_current_status(self.raw(), error) })?;
        Ok(match raw {
            sys::rs2_playback_status_RS2_PLAYBACK_STATUS_PLAYING => PlaybackStatus::Playing,
            sys::rs2_playback_status_RS2_PLAYBACK_STATUS_PAUSED => PlaybackStatus::Paused,
            _ => PlaybackStatus::Stopped,
        })
    }

    /// The remaining duration of a recording, up to the last frame of any stream in it.
    pub(crate) fn playback_left(&self) -> Result<Duration, Error> {
        // SAFETY: as above.
        let whole = check(|error| unsafe { sys::rs2_playback_get_duration(self.raw(), error) })?;
        // SAFETY: as above.
        let position = check(|error| unsafe { sys::rs2_playback_get_position(self.raw(), error) })?;
        Ok(Duration::from_nanos(whole.saturating_sub(position)))
    }

    /// Pauses a recording.
    pub(crate) fn pause(&self) -> Result<(), Error> {
        // SAFETY: as above.
        check(|error| unsafe { sys::rs2_playback_device_pause(self.raw(), error) })
    }

    /// Resumes a recording.
    pub(crate) fn resume(&self) -> Result<(), Error> {
        // SAFETY: as above.
        check(|error| unsafe { sys::rs2_playback_device_resume(self.raw(), error) })
    }
}
