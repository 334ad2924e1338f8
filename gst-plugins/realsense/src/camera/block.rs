//! Processing blocks of librealsense: filters of depth, alignment, and the colorizer.

use super::{
    error::{Error, check},
    frame::Frame,
    handle::Handle,
    profile::StreamKind,
};
use realsense_sys as sys;
use std::ptr::null_mut;

/// A processing block, which turns each frame into another one.
#[derive(Debug)]
pub(crate) struct Block {
    // Dropped before the queue, because the block puts its results there.
    raw: Handle<sys::rs2_processing_block>,
    results: Handle<sys::rs2_frame_queue>,
}

/// The capacity of the result queue. A block has one result for each frame, which is removed immediately.
const RESULTS: i32 = 4;

/// The value for pixels without depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoleFilling {
    FromLeft,
    FarthestFromAround,
    NearestFromAround,
}

/// A depth filter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Filter {
    /// This many pixels, in both directions, become one.
    Decimation(u8),
    /// Depth outside of this range, in meters, becomes 0.
    Threshold { min: f32, max: f32 },
    /// Smooths within a frame.
    Spatial,
    /// Smooths from frame to frame.
    Temporal,
    /// Fills pixels without depth from their neighbors.
    HoleFilling(HoleFilling),
}

impl Block {
    pub(super) fn new(
        make: impl FnOnce(*mut *mut sys::rs2_error) -> *mut sys::rs2_processing_block,
    ) -> Result<Self, Error> {
        let raw = Handle::new(sys::rs2_delete_processing_block, make)?;
        // SAFETY: the function takes a number.
        let results = Handle::new(sys::rs2_delete_frame_queue, |error| unsafe {
            sys::rs2_create_frame_queue(RESULTS, error)
        })?;
        // SAFETY: both are alive, and the block is dropped first.
        check(|error| unsafe { sys::rs2_start_processing_queue(raw.raw(), results.raw(), error) })?;
        Ok(Self { raw, results })
    }

    /// Creates a depth filter, for depth frames and framesets.
    pub(crate) fn filter(filter: Filter) -> Result<Self, Error> {
        // SAFETY (each call): the function takes only the address for an error.
        match filter {
            Filter::Decimation(size) => {
                let block = Self::new(|error| unsafe { sys::rs2_create_decimation_filter_block(error) })?;
                block.set(sys::rs2_option_RS2_OPTION_FILTER_MAGNITUDE, f32::from(size))?;
                Ok(block)
            }
            Filter::Threshold { min, max } => {
                let block = Self::new(|error| unsafe { sys::rs2_create_threshold(error) })?;
                // The library refuses a minimum above its current maximum (4 m by default).
                block.set(sys::rs2_option_RS2_OPTION_MAX_DISTANCE, max)?;
                block.set(sys::rs2_option_RS2_OPTION_MIN_DISTANCE, min)?;
                Ok(block)
            }
            Filter::Spatial => Self::new(|error| unsafe { sys::rs2_create_spatial_filter_block(error) }),
            Filter::Temporal => Self::new(|error| unsafe { sys::rs2_create_temporal_filter_block(error) }),
            Filter::HoleFilling(how) => {
                let block = Self::new(|error| unsafe { sys::rs2_create_hole_filling_filter_block(error) })?;
                let how = match how {
                    HoleFilling::FromLeft => 0.0,
                    HoleFilling::FarthestFromAround => 1.0,
                    HoleFilling::NearestFromAround => 2.0,
                };
                block.set(sys::rs2_option_RS2_OPTION_HOLES_FILL, how)?;
                Ok(block)
            }
        }
    }

    /// Creates a block that turns depth into RGB.
    pub(crate) fn colorizer() -> Result<Self, Error> {
        // SAFETY: the function takes only the address for an error.
        Self::new(|error| unsafe { sys::rs2_create_colorizer(error) })
    }

    /// Creates a block that aligns the other streams of a frameset to this stream.
    pub(crate) fn align(to: StreamKind) -> Result<Self, Error> {
        let to = match to {
            StreamKind::Depth => sys::rs2_stream_RS2_STREAM_DEPTH,
            _ => sys::rs2_stream_RS2_STREAM_COLOR,
        };
        // SAFETY: the function takes a number.
        Self::new(|error| unsafe { sys::rs2_create_align(to, error) })
    }

    fn set(&self, option: sys::rs2_option, value: f32) -> Result<(), Error> {
        let options = self.raw.raw().cast_const().cast();
        // SAFETY: a processing block can be cast to an options object, and this one is alive.
        check(|error| unsafe { sys::rs2_set_option(options, option, value, error) })
    }

    fn put(&self, frame: &Frame) -> Result<(), Error> {
        let frame = frame.share()?;
        let raw = frame.into_raw();
        // SAFETY: both are alive; the block takes over the reference, even if it fails.
        check(|error| unsafe { sys::rs2_process_frame(self.raw.raw(), raw, error) })
    }

    /// Removes a result from the queue, if there is one.
    fn poll(&self) -> Result<Option<Frame>, Error> {
        let mut frame = null_mut();
        // SAFETY: the queue is alive, and the result is written to our stack.
        let found =
            check(|error| unsafe { sys::rs2_poll_for_frame(self.results.raw(), &raw mut frame, error) })?;
        if found == 0 {
            return Ok(None);
        }
        // SAFETY: the queue passes its reference to the caller.
        Ok(unsafe { Frame::take(frame) })
    }

    /// Processes a frame. Returns `None` if the block has no result for it.
    pub(crate) fn process(&self, frame: &Frame) -> Result<Option<Frame>, Error> {
        self.put(frame)?;
        let mut last = None;
        while let Some(result) = self.poll()? {
            last = Some(result);
        }
        Ok(last)
    }
}
