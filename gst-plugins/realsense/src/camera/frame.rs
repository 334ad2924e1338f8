//! One picture or sample that a sensor gave.

use super::{
    error::{Error, check},
    handle::Handle,
    profile::{Intrinsics, Profile, Shape},
};
use num_traits::FromPrimitive;
use realsense_rust::kind::{Rs2FrameMetadata, Rs2TimestampDomain};
use realsense_sys as sys;
use std::slice;

/// The clock that a frame's time is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimeDomain {
    /// The camera's own.
    HardwareClock,
    /// The host's, when the frame arrived.
    SystemTime,
    /// The camera's, translated to the host's.
    GlobalTime,
}

impl TimeDomain {
    /// The name in caps.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HardwareClock => "hardware-clock",
            Self::SystemTime => "system-time",
            Self::GlobalTime => "global-time",
        }
    }
}

/// A frame, or a set of them that belong together.
#[derive(Debug)]
pub(crate) struct Frame(Handle<sys::rs2_frame>);

impl Frame {
    /// Takes what a callback or a queue of the library gave; `None` for null.
    ///
    /// # Safety
    ///
    /// `raw` is null or a frame whose reference is ours to release.
    pub(super) unsafe fn take(raw: *mut sys::rs2_frame) -> Option<Self> {
        Handle::new(sys::rs2_release_frame, |_| raw).ok().map(Self)
    }

    pub(super) fn raw(&self) -> *mut sys::rs2_frame {
        self.0.raw()
    }

    pub(super) fn into_raw(self) -> *mut sys::rs2_frame {
        self.0.into_inner().as_ptr()
    }

    /// Another reference to the same frame.
    pub(crate) fn share(&self) -> Result<Self, Error> {
        // SAFETY: the frame is alive; the reference added is the one that the new value releases.
        check(|error| unsafe { sys::rs2_frame_add_ref(self.raw(), error) })?;
        Ok(Self(Handle::new(sys::rs2_release_frame, |_| self.raw())?))
    }

    /// Takes the frame out of the sensor's count of frames in use, of which it has few: for frames that wait.
    pub(crate) fn keep(&self) {
        // SAFETY: the frame is alive.
        unsafe { sys::rs2_keep_frame(self.raw()) }
    }

    /// What it is; `None` for a kind or format that this crate doesn't know.
    pub(crate) fn shape(&self) -> Result<Option<Shape>, Error> {
        // SAFETY: the profile belongs to the frame and is not used longer than it.
        Ok(unsafe { Profile::read(self.profile()?) }?.map(|profile| profile.shape))
    }

    /// How the stream projects, as it is in this frame: filters and alignment change it.
    pub(crate) fn intrinsics(&self) -> Result<Intrinsics, Error> {
        // SAFETY: the profile belongs to the frame, which is alive.
        unsafe { Intrinsics::read(self.profile()?) }
    }

    fn profile(&self) -> Result<*const sys::rs2_stream_profile, Error> {
        // SAFETY: the frame is alive.
        check(|error| unsafe { sys::rs2_get_frame_stream_profile(self.raw(), error) })
    }

    /// The number that the sensor gave it.
    pub(crate) fn number(&self) -> Result<u64, Error> {
        // SAFETY: the frame is alive.
        check(|error| unsafe { sys::rs2_get_frame_number(self.raw(), error) })
    }

    /// When it was taken, in milliseconds.
    pub(crate) fn timestamp(&self) -> Result<f64, Error> {
        // SAFETY: the frame is alive.
        check(|error| unsafe { sys::rs2_get_frame_timestamp(self.raw(), error) })
    }

    /// Whose milliseconds; `None` for a domain that this crate doesn't know.
    pub(crate) fn time_domain(&self) -> Result<Option<TimeDomain>, Error> {
        // SAFETY: the frame is alive.
        let raw = check(|error| unsafe { sys::rs2_get_frame_timestamp_domain(self.raw(), error) })?;
        Ok(Rs2TimestampDomain::from_u32(raw).map(|domain| match domain {
            Rs2TimestampDomain::HardwareClock => TimeDomain::HardwareClock,
            Rs2TimestampDomain::SystemTime => TimeDomain::SystemTime,
            Rs2TimestampDomain::GlobalTime => TimeDomain::GlobalTime,
        }))
    }

    /// The exposure time, as the camera says it.
    pub(crate) fn exposure(&self) -> Option<i64> {
        self.metadata(Rs2FrameMetadata::ActualExposure)
    }

    /// The sensor's gain.
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

    /// Meters of one step of depth; `None` where it is no depth.
    pub(crate) fn depth_units(&self) -> Option<f32> {
        if !self.is(sys::rs2_extension_RS2_EXTENSION_DEPTH_FRAME) {
            return None;
        }
        // SAFETY: the frame is alive and of depth.
        check(|error| unsafe { sys::rs2_depth_frame_get_units(self.raw(), error) }).ok()
    }

    fn is(&self, extension: sys::rs2_extension) -> bool {
        // SAFETY: the frame is alive.
        check(|error| unsafe { sys::rs2_is_frame_extendable_to(self.raw(), extension, error) })
            .is_ok_and(|is| is != 0)
    }

    /// Bytes from one row to the next.
    pub(crate) fn stride(&self) -> Result<usize, Error> {
        // SAFETY: the frame is alive.
        let stride = check(|error| unsafe { sys::rs2_get_frame_stride_in_bytes(self.raw(), error) })?;
        usize::try_from(stride).map_err(|_| Error::new("rs2_get_frame_stride_in_bytes", "a negative stride"))
    }

    /// The bytes: as many as shape and stride say.
    pub(crate) fn data(&self) -> Result<&[u8], Error> {
        // SAFETY: the frame is alive.
        let raw = check(|error| unsafe { sys::rs2_get_frame_data(self.raw(), error) })?;
        let size = self.data_size()?;
        if raw.is_null() || size == 0 {
            return Ok(&[]);
        }
        // SAFETY: the library holds that many bytes there until the last reference to the frame is released, and writes
        // no more into a frame that it has given out.
        Ok(unsafe { slice::from_raw_parts(raw.cast::<u8>(), size) })
    }

    fn data_size(&self) -> Result<usize, Error> {
        // SAFETY: the frame is alive.
        let said = check(|error| unsafe { sys::rs2_get_frame_data_size(self.raw(), error) })?;
        // Frames of software devices, whose pixels are held outside of the library, say 0; there the stride counts.
        if said > 0 {
            return Ok(usize::try_from(said).unwrap_or(0));
        }
        let Some(shape) = self.shape()? else { return Ok(0) };
        if shape.height == 0 {
            return Ok(shape.format.bytes());
        }
        Ok(self.stride()? * shape.height as usize)
    }

    /// The frames of a set; none where this is a single one.
    pub(crate) fn parts(&self) -> Result<Vec<Self>, Error> {
        if !self.is(sys::rs2_extension_RS2_EXTENSION_COMPOSITE_FRAME) {
            return Ok(Vec::new());
        }
        // SAFETY: the frame is alive and a set.
        let count = check(|error| unsafe { sys::rs2_embedded_frames_count(self.raw(), error) })?;
        (0..count)
            .map(|index| {
                // SAFETY: the set is alive and the index inside; the reference that comes back is ours.
                Ok(Self(Handle::new(sys::rs2_release_frame, |error| unsafe {
                    sys::rs2_extract_frame(self.raw(), index, error)
                })?))
            })
            .collect()
    }
}
