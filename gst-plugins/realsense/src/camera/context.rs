//! Which cameras are there, and who wants to know when that changes.

use super::{
    device::Device,
    error::{Error, check},
    handle::Handle,
};
use realsense_sys as sys;
use std::{
    collections::BTreeMap,
    ffi::c_void,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// The library's view of the cameras of this machine.
#[derive(Debug)]
pub(crate) struct Context {
    // Freed before the watchers, to which its callback points.
    raw: Handle<sys::rs2_context>,
    watchers: Arc<Watchers>,
}

impl Context {
    /// The one of this process: made when the first asks for it, freed when nobody has it any more.
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
        // SAFETY: the context is alive; `user` points to the watchers, which live longer than it.
        check(|error| unsafe {
            sys::rs2_set_devices_changed_callback(raw.raw(), Some(on_change), user, error);
        })?;
        Ok(Self { raw, watchers })
    }

    fn raw() -> Result<Handle<sys::rs2_context>, Error> {
        // SAFETY: takes a number.
        Handle::new(sys::rs2_delete_context, |error| unsafe { sys::rs2_create_context(version(), error) })
    }

    /// A context for recordings. It looks for no cameras, which the library otherwise does ten times a second.
    pub(super) fn without_cameras() -> Result<Handle<sys::rs2_context>, Error> {
        let settings = format!("{{\"device-mask\":{}}}\0", sys::RS2_PRODUCT_LINE_SW_ONLY);
        // SAFETY: takes a number, and a string that ends with zero.
        Handle::new(sys::rs2_delete_context, |error| unsafe {
            sys::rs2_create_context_ex(version(), settings.as_ptr().cast(), error)
        })
    }

    #[cfg(feature = "software-device")]
    pub(super) fn handle(&self) -> *mut sys::rs2_context {
        self.raw.raw()
    }

    /// The cameras that are there now. One that can't be talked to (it has just been unplugged, or this user may not)
    /// is an error in its place.
    pub(crate) fn devices(&self) -> Result<Vec<Result<Device, Error>>, Error> {
        // SAFETY: the context is alive.
        let list = Handle::new(sys::rs2_delete_device_list, |error| unsafe {
            sys::rs2_query_devices(self.raw.raw(), error)
        })?;
        DeviceList(list).devices()
    }

    /// Calls `watcher` whenever cameras come or go, in a thread of the library, until the subscription is dropped.
    pub(crate) fn watch(self: &Arc<Self>, watcher: impl Fn(&Change) + Send + Sync + 'static) -> Subscription {
        let mut list = lock(&self.watchers.0);
        let key = list.last_key_value().map_or(0, |(last, _)| last + 1);
        list.insert(key, Arc::new(watcher));
        Subscription { context: self.clone(), key }
    }
}

/// Cameras as of one moment.
#[derive(Debug)]
pub(crate) struct DeviceList(Handle<sys::rs2_device_list>);

impl DeviceList {
    /// Opens them.
    pub(crate) fn devices(&self) -> Result<Vec<Result<Device, Error>>, Error> {
        // SAFETY: the list is alive.
        let count = check(|error| unsafe { sys::rs2_get_device_count(self.0.raw(), error) })?;
        let open = |index| {
            // SAFETY: the list is alive, the index inside.
            let raw = Handle::new(sys::rs2_delete_device, |error| unsafe {
                sys::rs2_create_device(self.0.raw(), index, error)
            })?;
            Ok(Device::new(raw, None))
        };
        Ok((0..count).map(open).collect())
    }

    /// Whether this camera is among them.
    pub(crate) fn contains(&self, device: &Device) -> bool {
        // SAFETY: both are alive.
        check(|error| unsafe { sys::rs2_device_list_contains(self.0.raw(), device.raw(), error) })
            .is_ok_and(|contains| contains != 0)
    }
}

/// Cameras came or went.
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

/// Ends the watching when dropped. A call that has begun may still come to its end.
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
    // SAFETY: `user` is the watchers of the context that calls, which frees them after the context.
    let watchers = unsafe { &*user.cast::<Watchers>() };
    let take = |raw| Handle::new(sys::rs2_delete_device_list, |_| raw).map(|list| Arc::new(DeviceList(list)));
    let (Ok(removed), Ok(added)) = (take(removed), take(added)) else { return };
    let change = Change { removed, added };
    // Called without the lock: a watcher may subscribe or drop a subscription.
    let list: Vec<_> = lock(&watchers.0).values().cloned().collect();
    for watcher in list {
        watcher(&change);
    }
}

/// Of the library that this is built for, as it wants to be told.
fn version() -> i32 {
    i32::try_from(sys::RS2_API_VERSION).unwrap_or(i32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_for_recordings_has_no_thread_that_looks_for_cameras() {
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        let _recordings = Context::without_cameras().unwrap();
        assert_eq!(threads(), before);
        let _cameras = Context::raw().unwrap();
        assert!(threads() > before);
    }
}
