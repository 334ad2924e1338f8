//! Errors of librealsense, with its messages.

use realsense_sys as sys;
use std::{
    ffi::{CStr, c_char},
    ptr::null_mut,
};

/// A call of librealsense that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("librealsense: {message} ({function})")]
pub(crate) struct Error {
    message: String,
    function: String,
}

impl Error {
    /// An error that this crate detects.
    pub(super) fn new(function: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), function: function.to_owned() }
    }
}

/// Calls the library. `call` gets the address for the error, which every function of the library takes as its last
/// argument.
pub(super) fn check<T>(call: impl FnOnce(*mut *mut sys::rs2_error) -> T) -> Result<T, Error> {
    let mut raw = null_mut();
    let value = call(&raw mut raw);
    if raw.is_null() {
        return Ok(value);
    }
    // SAFETY: `raw` is the error object that was created for this call; its strings are copied before it is freed.
    let error = unsafe {
        let error = Error {
            message: text(sys::rs2_get_error_message(raw)),
            function: text(sys::rs2_get_failed_function(raw)),
        };
        sys::rs2_free_error(raw);
        error
    };
    Err(error)
}

/// Copies a string of the library.
///
/// # Safety
///
/// `raw` is null or a C string that is alive during the call.
pub(super) unsafe fn text(raw: *const c_char) -> String {
    if raw.is_null() {
        return String::new();
    }
    // SAFETY: the caller ensures this.
    unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned()
}
