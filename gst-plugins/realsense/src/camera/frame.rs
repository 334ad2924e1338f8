//! A frame: one image or motion sample of a sensor, or a frameset.

use super::{
    error::{Error, check},
    handle::Handle,
    profile::{Intrinsics, Profile, StreamMode},
};
use num_traits::FromPrimitive;
use realsense_rust::kind::{Rs2FrameMetadata, Rs2TimestampDomain};
use realsense_sys as sys;
use std::slice;

/// The clock of a frame's timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimeDomain {
    /// The camera's clock.
    HardwareClock,
    /// The host's clock at the arrival of the frame.
    SystemTime,
    /// The camera's clock, converted to the host's clock.
    GlobalTime,
}

impl TimeDomain {
    /// The name in caps and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HardwareClock => "hardware-clock",
            Self::SystemTime => "system-time",
            Self::GlobalTime => "global-time",
        }
    }
}

/// A frame, or a frameset.
#[derive(Debug)]
pub(crate) struct Frame(Handle<sys::rs2_frame>);

impl Frame {
    /// Takes ownership of a frame from a callback or a queue of the library. Returns `None` for null.
    ///
    /// # Safety
    ///
    /// `raw` is null or a frame whose reference the caller owns.
    pub(super) unsafe fn take(raw: *mut sys::rs2_frame) -> Option<Self> {
        Handle::new(sys::rs2_release_frame, |_| raw).ok().map(Self)
    }

    pub(super) fn raw(&self) -> *mut sys::rs2_frame {
        self.0.raw()
    }

    pub(super) fn into_raw(self) -> *mut sys::rs2_frame {
        self.0.into_inner().as_ptr()
    }

    /// Adds a reference to the frame.
    pub(crate) fn share(&self) -> Result<Self, Error> {
        // SAFETY: the frame is alive; the new value releases the added reference.
        check(|error| unsafe { sys::rs2_frame_add_ref(self.raw(), error) })?;
        Ok(Self(Handle::new(sys::rs2_release_frame, |_| self.raw())?))
    }

    /// Stops counting the frame as one of the few that a sensor may have in use. Needed for frames that are held for
    /// long.
    pub(crate) fn keep(&self) {
        // SAFETY: the frame is alive.
        unsafe { sys::rs2_keep_frame(self.raw()) }
    }

    /// The mode of the frame; `None` for a stream or format that this crate does not know.
    pub(crate) fn mode(&self) -> Result<Option<StreamMode>, Error> {
        // SAFETY: the profile belongs to the frame and is not used after it.
        Ok(unsafe { Profile::read(self.profile()?) }?.map(|profile| profile.mode))
    }

    /// The intrinsics of this frame, which filters and alignment change.
    pub(crate) fn intrinsics(&self) -> Result<Intrinsics, Error> {
        // SAFETY: the profile belongs to the frame, which is alive.
        unsafe { Intrinsics::read(self.profile()?) }
    }

    fn profile(&self) -> Result<*const sys::rs2_stream_profile, Error> {
        // SAFETY: the frame is alive.
        check(|error| unsafe { sys::rs2_get_frame_stream_profile(self.raw(), error) })
    }

    /// The frame number of the sensor.
    pub(crate) fn number(&self) -> Result<u64, Error> {
        // SAFETY: the frame is alive.
        check(|error| unsafe { sys::rs2_get_frame_number(self.raw(), error) })
    }

    /// The capture time in milliseconds, on the clock [`Frame::time_domain`].
    pub(crate) fn timestamp(&self) -> Result<f64, Error> {
        // SAFETY: the frame is alive.
        check(|error| unsafe { sys::rs2_get_frame_timestamp(self.raw(), error) })
    }

    /// The clock of the timestamp; `None` for one that this crate does not know.
    pub(crate) fn time_domain(&self) -> Result<Option<TimeDomain>, Error> {
        // SAFETY: the frame is alive.
        let raw = check(|error| unsafe { sys::rs2_get_frame_timestamp_domain(self.raw(), error) })?;
        Ok(Rs2TimestampDomain::from_u32(raw).map(|domain| match domain {
            Rs2TimestampDomain::HardwareClock => TimeDomain::HardwareClock,
            Rs2TimestampDomain::SystemTime => TimeDomain::SystemTime,
            Rs2TimestampDomain::GlobalTime => TimeDomain::GlobalTime,
        }))
    }

    /// The exposure time in the camera's own unit.
    pub(crate) fn exposure(&self) -> Option<i64> {
        self.metadata(Rs2FrameMetadata::ActualExposure)
    }

    /// The gain of the sensor.
    pub(crate) fn gain(&self) -> Option<i64> {
        self.metadata(Rs2FrameMetadata::GainLevel)
    }

    fn metadata(&self, field: Rs2FrameMetadata) -> Option<i64> {
        let field = field as sys::rs2_frame_metadata_value;
        // SAFETY: the frame is alive.
        let known = check(|error| unsafe { sys::rs2_supports_frame_metadata(self.raw(), field, error) });
        if known.ok()? == 0 {
            return None;
        }
        // SAFETY: the frame is alive.
        check(|error| unsafe { sys::rs2_get_frame_metadata(self.raw(), field, error) }).ok()
    }

    /// The depth of one unit in meters; `None` if the frame is not a depth frame.
    pub(crate) fn depth_units(&self) -> Option<f32> {
        if !self.is(sys::rs2_extension_RS2_EXTENSION_DEPTH_FRAME) {
            return None;
        }
        // SAFETY: the frame is alive and is a depth frame.
        check(|error| unsafe { sys::rs2_depth_frame_get_units(self.raw(), error) }).ok()
    }

    fn is(&self, extension: sys::rs2_extension) -> bool {
        // SAFETY: the frame is alive.
        check(|error| unsafe { sys::rs2_is_frame_extendable_to(self.raw(), extension, error) })
            .is_ok_and(|is| is != 0)
    }

    /// The number of bytes from one row to the next.
    pub(crate) fn stride(&self) -> Result<usize, Error> {
        // SAFETY: the frame is alive.
        let stride = check(|error| unsafe { sys::rs2_get_frame_stride_in_bytes(self.raw(), error) })?;
        usize::try_from(stride)
            .map_err(|_| Error::new("rs2_get_frame_stride_in_bytes", "the stride is negative"))
    }

    /// The bytes of the frame: its height times its stride.
    pub(crate) fn data(&self) -> Result<&[u8], Error> {
        // SAFETY: the frame is alive.
        let raw = check(|error| unsafe { sys::rs2_get_frame_data(self.raw(), error) })?;
        let size = self.data_size()?;
        if raw.is_null() || size == 0 {
            return Ok(&[]);
        }
        // SAFETY: the library holds this many bytes until the last reference to the frame is released, and does not
        // write to a frame that it has delivered.
        Ok(unsafe { slice::from_raw_parts(raw.cast::<u8>(), size) })
    }

    fn data_size(&self) -> Result<usize, Error> {
        // SAFETY: the frame is alive.
        let size = check(|error| unsafe { sys::rs2_get_frame_data_size(self.raw(), error) })?;
        // The size is 0 for frames of software devices, whose pixels are stored outside of the library. Then the stride
        // counts.
        if size > 0 {
            return Ok(usize::try_from(size).unwrap_or(0));
        }
        let Some(mode) = self.mode()? else { return Ok(0) };
        if mode.height == 0 {
            return Ok(mode.format.bytes());
        }
        Ok(self.stride()? * mode.height as usize)
    }

    /// The frames of a frameset; empty for a single frame.
    pub(crate) fn parts(&self) -> Result<Vec<Self>, Error> {
        if !self.is(sys::rs2_extension_RS2_EXTENSION_COMPOSITE_FRAME) {
            return Ok(Vec::new());
        }
        // SAFETY: the frame is alive and is a frameset.
        let count = check(|error| unsafe { sys::rs2_embedded_frames_count(self.raw(), error) })?;
        (0..count)
            .map(|index| {
                // SAFETY: the frameset is alive, and the index is in range; the returned reference is ours.
                Ok(Self(Handle::new(sys::rs2_release_frame, |error| unsafe {
                    sys::rs2_extract_frame(self.raw(), index, error)
                })?))
            })
            .collect()
    }
}
