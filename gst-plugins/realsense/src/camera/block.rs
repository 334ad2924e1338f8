//! What librealsense can do to frames: filters of depth, color for depth, alignment.

use super::{
    error::{Error, check},
    frame::Frame,
    handle::Handle,
    profile::StreamKind,
};
use realsense_sys as sys;
use std::ptr::null_mut;

/// A step that takes frames and gives frames.
#[derive(Debug)]
pub(crate) struct Block {
    // Freed before the queue, into which it puts its results.
    raw: Handle<sys::rs2_processing_block>,
    results: Handle<sys::rs2_frame_queue>,
}

/// Results that wait at most: one comes for each frame, and is taken at once.
const RESULTS: i32 = 4;

/// What fills a hole in depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoleFilling {
    FromLeft,
    FarthestFromAround,
    NearestFromAround,
}

/// A filter of depth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Filter {
    /// Every that many pixels become one, in both directions.
    Decimation(u8),
    /// Depth outside of these meters becomes 0.
    Threshold { min: f32, max: f32 },
    /// Smooths within a picture.
    Spatial,
    /// Smooths from picture to picture.
    Temporal,
    /// Gives pixels without depth that of their neighbors.
    HoleFilling(HoleFilling),
}

impl Block {
    pub(super) fn new(
        make: impl FnOnce(*mut *mut sys::rs2_error) -> *mut sys::rs2_processing_block,
    ) -> Result<Self, Error> {
        let raw = Handle::new(sys::rs2_delete_processing_block, make)?;
        // SAFETY: takes a number.
        let results = Handle::new(sys::rs2_delete_frame_queue, |error| unsafe {
            sys::rs2_create_frame_queue(RESULTS, error)
        })?;
        // SAFETY: both are alive, and the block is freed first.
        check(|error| unsafe { sys::rs2_start_processing_queue(raw.raw(), results.raw(), error) })?;
        Ok(Self { raw, results })
    }

    /// A filter of depth: of a depth frame, or of the depth in a set.
    pub(crate) fn filter(filter: Filter) -> Result<Self, Error> {
        // SAFETY (for each): the functions take only the place for an error.
        match filter {
            Filter::Decimation(size) => {
                let block = Self::new(|error| unsafe { sys::rs2_create_decimation_filter_block(error) })?;
                block.set(sys::rs2_option_RS2_OPTION_FILTER_MAGNITUDE, f32::from(size))?;
                Ok(block)
            }
            Filter::Threshold { min, max } => {
                let block = Self::new(|error| unsafe { sys::rs2_create_threshold(error) })?;
                // The library refuses a minimum above the maximum that it has at that moment (4 m).
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

    /// Depth to RGB.
    pub(crate) fn colorizer() -> Result<Self, Error> {
        // SAFETY: takes only the place for an error.
        Self::new(|error| unsafe { sys::rs2_create_colorizer(error) })
    }

    /// Sets in which the other streams are seen from where this one's sensor is.
    pub(crate) fn align(to: StreamKind) -> Result<Self, Error> {
        let to = match to {
            StreamKind::Depth => sys::rs2_stream_RS2_STREAM_DEPTH,
            _ => sys::rs2_stream_RS2_STREAM_COLOR,
        };
        // SAFETY: takes a number.
        Self::new(|error| unsafe { sys::rs2_create_align(to, error) })
    }

    fn set(&self, option: sys::rs2_option, value: f32) -> Result<(), Error> {
        let options = self.raw.raw().cast_const().cast();
        // SAFETY: a processing block is its own object of options, and alive.
        check(|error| unsafe { sys::rs2_set_option(options, option, value, error) })
    }

    fn put(&self, frame: &Frame) -> Result<(), Error> {
        let frame = frame.share()?;
        let raw = frame.into_raw();
        // SAFETY: both are alive; the block takes over the reference, whatever comes of it.
        check(|error| unsafe { sys::rs2_process_frame(self.raw.raw(), raw, error) })
    }

    /// A result, where one waits.
    fn poll(&self) -> Result<Option<Frame>, Error> {
        let mut frame = null_mut();
        // SAFETY: the queue is alive, the place for the result on our stack.
        let there =
            check(|error| unsafe { sys::rs2_poll_for_frame(self.results.raw(), &raw mut frame, error) })?;
        if there == 0 {
            return Ok(None);
        }
        // SAFETY: the queue gives its reference away.
        Ok(unsafe { Frame::take(frame) })
    }

    /// What becomes of this frame; `None` where the block makes nothing of it.
    pub(crate) fn process(&self, frame: &Frame) -> Result<Option<Frame>, Error> {
        self.put(frame)?;
        let mut last = None;
        while let Some(result) = self.poll()? {
            last = Some(result);
        }
        Ok(last)
    }
}
