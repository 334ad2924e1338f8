//! Combines two frames into a frameset, which alignment needs.

use super::{block::Block, error::Error, error::check, frame::Frame};
use crate::sync::lock;
use realsense_sys as sys;
use std::{ffi::c_void, sync::Mutex};

/// Combines frames into framesets. librealsense's own syncer only combines streams of real cameras, and passes the
/// frames of a recording on one by one.
pub(crate) struct FramesetBuilder {
    // Dropped before the partner, because the block's callback points there.
    block: Block,
    partner: Box<Mutex<Option<Frame>>>,
}

impl FramesetBuilder {
    pub(crate) fn new() -> Result<Self, Error> {
        let partner: Box<Mutex<Option<Frame>>> = Box::default();
        let user = (&raw const *partner).cast_mut().cast::<c_void>();
        // SAFETY: `user` is the box that this value holds until the block has been dropped.
        let block = Block::new(|error| unsafe {
            sys::rs2_create_processing_block_fptr(Some(on_frame), user, error)
        })?;
        Ok(Self { block, partner })
    }

    /// Combines two frames.
    pub(crate) fn build(&self, one: &Frame, other: Frame) -> Result<Option<Frame>, Error> {
        *lock(&self.partner) = Some(other);
        self.block.process(one)
    }
}

unsafe extern "C" fn on_frame(frame: *mut sys::rs2_frame, source: *mut sys::rs2_source, user: *mut c_void) {
    // SAFETY: `user` is the box registered with the callback, which outlives the block.
    let partner = unsafe { &*user.cast::<Mutex<Option<Frame>>>() };
    let partner = lock(partner).take();
    // SAFETY: the library passes its reference to the callback.
    let (Some(frame), Some(partner)) = (unsafe { Frame::take(frame) }, partner) else { return };
    let mut frames = [frame.into_raw(), partner.into_raw()];
    // SAFETY: the source is alive during the callback; the frameset takes over both references.
    let set =
        check(|error| unsafe { sys::rs2_allocate_composite_frame(source, frames.as_mut_ptr(), 2, error) });
    if let Ok(set) = set {
        // SAFETY: as above; the reference to the frameset is passed on. A frameset that can't be delivered counts as
        // lost.
        let _ = check(|error| unsafe { sys::rs2_synthetic_frame_ready(source, set, error) });
    }
}
