//! Two frames as one set, which is what alignment works on.

use super::{block::Block, error::Error, error::check, frame::Frame};
use realsense_sys as sys;
use std::{
    ffi::c_void,
    sync::{Mutex, PoisonError},
};

/// Makes sets of two frames. (The library's own syncer knows only streams of real cameras as belonging together, and
/// lets each frame of a recording through alone.)
pub(crate) struct Bundler {
    // Freed before the partner, to which its callback points.
    block: Block,
    partner: Box<Mutex<Option<Frame>>>,
}

impl Bundler {
    pub(crate) fn new() -> Result<Self, Error> {
        let partner: Box<Mutex<Option<Frame>>> = Box::default();
        let user = (&raw const *partner).cast_mut().cast::<c_void>();
        // SAFETY: `user` is the box that stays beside the block until that is freed.
        let block = Block::new(|error| unsafe {
            sys::rs2_create_processing_block_fptr(Some(on_frame), user, error)
        })?;
        Ok(Self { block, partner })
    }

    /// The two as a set.
    pub(crate) fn bundle(&self, one: &Frame, other: Frame) -> Result<Option<Frame>, Error> {
        *self.partner.lock().unwrap_or_else(PoisonError::into_inner) = Some(other);
        self.block.process(one)
    }
}

unsafe extern "C" fn on_frame(frame: *mut sys::rs2_frame, source: *mut sys::rs2_source, user: *mut c_void) {
    // SAFETY: `user` is the box given with the callback, which outlives the block.
    let partner = unsafe { &*user.cast::<Mutex<Option<Frame>>>() };
    let partner = partner.lock().unwrap_or_else(PoisonError::into_inner).take();
    // SAFETY: the library gives its reference to the callback.
    let (Some(frame), Some(partner)) = (unsafe { Frame::take(frame) }, partner) else { return };
    let mut frames = [frame.into_raw(), partner.into_raw()];
    // SAFETY: the source is alive during the callback; the set takes over both references.
    let set =
        check(|error| unsafe { sys::rs2_allocate_composite_frame(source, frames.as_mut_ptr(), 2, error) });
    if let Ok(set) = set {
        // A set that can't be handed on is as lost as a frame is.
        // SAFETY: as above; the reference to the set is given away.
        let _ = check(|error| unsafe { sys::rs2_synthetic_frame_ready(source, set, error) });
    }
}
