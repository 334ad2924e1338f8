//! Ownership of librealsense's objects.

use super::error::{Error, check};
use realsense_sys as sys;
use std::{mem::ManuallyDrop, ptr::NonNull};

/// An object of librealsense, which is freed on drop.
#[derive(Debug)]
pub(super) struct Handle<T> {
    raw: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

// SAFETY: the library's objects are shared pointers to objects with locks of their own and are not bound to a thread.
// The library itself uses them on several threads.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Handle<T> {
    /// Takes ownership of the result of `make`. `free` is the function of the library that deletes such objects.
    pub(super) fn new(
        free: unsafe extern "C" fn(*mut T),
        make: impl FnOnce(*mut *mut sys::rs2_error) -> *mut T,
    ) -> Result<Self, Error> {
        let raw = check(make)?;
        let raw = NonNull::new(raw).ok_or_else(|| Error::new("make", "the library returned null"))?;
        Ok(Self { raw, free })
    }

    /// The pointer, which is valid as long as this value.
    pub(super) fn raw(&self) -> *mut T {
        self.raw.as_ptr()
    }

    /// The pointer as a `NonNull`.
    pub(super) fn non_null(&self) -> NonNull<T> {
        self.raw
    }

    /// Passes the object on to an owner that frees it instead.
    pub(super) fn into_inner(self) -> NonNull<T> {
        ManuallyDrop::new(self).raw
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: this value is the only owner of the object, and is never copied.
        unsafe { (self.free)(self.raw.as_ptr()) }
    }
}
