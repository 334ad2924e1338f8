//! The list of connected cameras, and notification of its changes.

use super::{
    device::Device,
    error::{Error, check},
    handle::Handle,
};
use crate::sync::lock;
use realsense_sys as sys;
use std::{
    collections::BTreeMap,
    ffi::c_void,
    sync::{Arc, Mutex, Weak},
};

/// librealsense's view of the cameras of this machine.
#[derive(Debug)]
pub(crate) struct Context {
    // Dropped before the watchers, because the context's callback points there.
    raw: Handle<sys::rs2_context>,
    watchers: Arc<Watchers>,
}

impl Context {
    /// The context of this process: created on first use, dropped with its last reference.
    pub(crate) fn shared() -> Result<Arc<Self>, Error> {
        static SHARED: Mutex<Weak<Context>> = Mutex::new(Weak::new());
        let mut shared = lock(&SHARED);
        if let Some(context) = shared.upgrade() {
            return Ok(context);
        }
        let context = Arc::new(Self::new()?);
        *shared = Arc::downgrade(&context);
        Ok(context)
    }

    fn new() -> Result<Self, Error> {
        let raw = Self::raw()?;
        let watchers = Arc::<Watchers>::default();
        let user = Arc::as_ptr(&watchers).cast_mut().cast::<c_void>();
        // SAFETY: the context is alive; `user` points to the watchers, which outlive it.
        check(|error| unsafe {
            sys::rs2_set_devices_changed_callback(raw.raw(), Some(on_change), user, error);
        })?;
        Ok(Self { raw, watchers })
    }

    fn raw() -> Result<Handle<sys::rs2_context>, Error> {
        // SAFETY: the function takes a number.
        Handle::new(sys::rs2_delete_context, |error| unsafe { sys::rs2_create_context(version(), error) })
    }

    /// Creates a context for a recording. It does not search for cameras, which the library otherwise does ten times a
    /// second.
    pub(super) fn without_cameras() -> Result<Handle<sys::rs2_context>, Error> {
        let settings = format!("{{\"device-mask\":{}}}\0", sys::RS2_PRODUCT_LINE_SW_ONLY);
        // SAFETY: the function takes a number and a null-terminated string.
        Handle::new(sys::rs2_delete_context, |error| unsafe {
            sys::rs2_create_context_ex(version(), settings.as_ptr().cast(), error)
        })
    }

    #[cfg(feature = "software-device")]
    pub(super) fn handle(&self) -> *mut sys::rs2_context {
        self.raw.raw()
    }

    /// The connected cameras. A camera that can't be opened, because it was just unplugged or the user lacks
    /// permission, is an error in its place.
    pub(crate) fn devices(&self) -> Result<Vec<Result<Device, Error>>, Error> {
        // SAFETY: the context is alive.
        let list = Handle::new(sys::rs2_delete_device_list, |error| unsafe {
            sys::rs2_query_devices(self.raw.raw(), error)
        })?;
        DeviceList(list).devices()
    }

    /// Calls `watcher` on a thread of the library whenever cameras are plugged in or unplugged, until the subscription
    /// is dropped.
    pub(crate) fn watch(self: &Arc<Self>, watcher: impl Fn(&Change) + Send + Sync + 'static) -> Subscription {
        let mut list = lock(&self.watchers.0);
        let key = list.last_key_value().map_or(0, |(last, _)| last + 1);
        list.insert(key, Arc::new(watcher));
        Subscription { context: self.clone(), key }
    }
}

/// A list of cameras at one moment.
#[derive(Debug)]
pub(crate) struct DeviceList(Handle<sys::rs2_device_list>);

impl DeviceList {
    /// Opens the cameras.
    pub(crate) fn devices(&self) -> Result<Vec<Result<Device, Error>>, Error> {
        // SAFETY: the list is alive.
        let count = check(|error| unsafe { sys::rs2_get_device_count(self.0.raw(), error) })?;
        let open = |index| {
            // SAFETY: the list is alive, and the index is in range.
            let raw = Handle::new(sys::rs2_delete_device, |error| unsafe {
                sys::rs2_create_device(self.0.raw(), index, error)
            })?;
            Ok(Device::new(raw, None))
        };
        Ok((0..count).map(open).collect())
    }

    /// Whether the list contains this camera.
    pub(crate) fn contains(&self, device: &Device) -> bool {
        // SAFETY: both are alive.
        check(|error| unsafe { sys::rs2_device_list_contains(self.0.raw(), device.raw(), error) })
            .is_ok_and(|contains| contains != 0)
    }
}

/// A change of the connected cameras.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) removed: Arc<DeviceList>,
    pub(crate) added: Arc<DeviceList>,
}

type Watcher = dyn Fn(&Change) + Send + Sync;

#[derive(Default)]
struct Watchers(Mutex<BTreeMap<u64, Arc<Watcher>>>);

impl std::fmt::Debug for Watchers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} watchers", lock(&self.0).len())
    }
}

/// Unsubscribes when dropped. A call of the watcher that has begun may still finish afterwards.
#[derive(Debug)]
pub(crate) struct Subscription {
    context: Arc<Context>,
    key: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        lock(&self.context.watchers.0).remove(&self.key);
    }
}

unsafe extern "C" fn on_change(
    removed: *mut sys::rs2_device_list,
    added: *mut sys::rs2_device_list,
    user: *mut c_void,
) {
    // SAFETY: `user` is the watchers of the context that calls, which are dropped after the context.
    let watchers = unsafe { &*user.cast::<Watchers>() };
    let own = |raw| Handle::new(sys::rs2_delete_device_list, |_| raw).map(|list| Arc::new(DeviceList(list)));
    let (Ok(removed), Ok(added)) = (own(removed), own(added)) else { return };
    let change = Change { removed, added };
    // The lock is not held during the calls, because a watcher may subscribe or drop a subscription.
    let list: Vec<_> = lock(&watchers.0).values().cloned().collect();
    for watcher in list {
        watcher(&change);
    }
}

/// The version of the library's API that this crate is built for.
fn version() -> i32 {
    i32::try_from(sys::RS2_API_VERSION).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_for_a_recording_has_no_thread_that_searches_for_cameras() {
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        let _recordings = Context::without_cameras().unwrap();
        assert_eq!(threads(), before);
        let _cameras = Context::raw().unwrap();
        assert!(threads() > before);
    }
}
