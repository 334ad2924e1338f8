//! Ownership of the library's objects.

use super::error::{Error, check};
use realsense_sys as sys;
use std::{mem::ManuallyDrop, ptr::NonNull};

/// An object of librealsense, freed when this is dropped.
#[derive(Debug)]
pub(super) struct Handle<T> {
    raw: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

// SAFETY: the library's objects belong to no thread: they are shared pointers to objects with locks of their own, and its
// own callbacks use them from its threads.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Handle<T> {
    /// Takes what `make` returns; `free` is the library's function that deletes objects of this kind.
    pub(super) fn new(
        free: unsafe extern "C" fn(*mut T),
        make: impl FnOnce(*mut *mut sys::rs2_error) -> *mut T,
    ) -> Result<Self, Error> {
        let raw = check(make)?;
        let raw = NonNull::new(raw).ok_or_else(|| Error::new("make", "nothing came back"))?;
        Ok(Self { raw, free })
    }

    /// Valid as long as this value.
    pub(super) fn raw(&self) -> *mut T {
        self.raw.as_ptr()
    }

    /// The same, for who takes only what is there.
    pub(super) fn non_null(&self) -> NonNull<T> {
        self.raw
    }

    /// Gives the object away: to who frees it in its stead.
    pub(super) fn into_inner(self) -> NonNull<T> {
        ManuallyDrop::new(self).raw
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: the object was made for this value alone, which is never copied.
        unsafe { (self.free)(self.raw.as_ptr()) }
    }
}
