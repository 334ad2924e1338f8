//! The provider: as long as it is started, its list is that of librealsense.

use super::device::RealSenseDevice;
use crate::{
    CAT,
    camera::{Context, Device, Subscription},
};
use gst::{glib, prelude::*, subclass::prelude::*};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// State of the provider.
#[derive(Default)]
pub struct RealSenseDeviceProvider {
    watch: Mutex<Option<Subscription>>,
    /// Cameras that were announced.
    known: Mutex<Vec<(Device, RealSenseDevice)>>,
}

#[glib::object_subclass]
impl ObjectSubclass for RealSenseDeviceProvider {
    const NAME: &'static str = "GstRealSenseDeviceProvider";
    type Type = super::RealSenseDeviceProvider;
    type ParentType = gst::DeviceProvider;
}

impl ObjectImpl for RealSenseDeviceProvider {}

impl GstObjectImpl for RealSenseDeviceProvider {}

impl DeviceProviderImpl for RealSenseDeviceProvider {
    fn metadata() -> Option<&'static gst::subclass::DeviceProviderMetadata> {
        static METADATA: LazyLock<gst::subclass::DeviceProviderMetadata> = LazyLock::new(|| {
            gst::subclass::DeviceProviderMetadata::new(
                "RealSense cameras",
                "Source/Video",
                "Lists RealSense cameras as they come and go",
                "The room-signaling developers",
            )
        });
        Some(&METADATA)
    }

    fn probe(&self) -> Vec<gst::Device> {
        let cameras = Context::shared().and_then(|context| there(&context));
        match cameras {
            Ok(cameras) => cameras.iter().filter_map(announced).map(Cast::upcast).collect(),
            Err(error) => {
                gst::warning!(CAT, imp = self, "{error}");
                Vec::new()
            }
        }
    }

    fn start(&self) -> Result<(), gst::LoggableError> {
        let said = |error| gst::loggable_error!(CAT, "{error}");
        let context = Context::shared().map_err(said)?;
        // First this, so that none is missed; what comes twice is known by then.
        let weak = self.obj().downgrade();
        let watch = context.watch(move |change| {
            let Some(provider) = weak.upgrade() else { return };
            let provider = provider.imp();
            provider.forget(|camera| change.removed.contains(camera));
            if let Ok(cameras) = change.added.devices() {
                provider.announce(cameras.into_iter().flatten());
            }
        });
        *lock(&self.watch) = Some(watch);
        self.announce(there(&context).map_err(said)?);
        Ok(())
    }

    fn stop(&self) {
        let watch = lock(&self.watch).take();
        drop(watch);
        lock(&self.known).clear();
    }
}

impl RealSenseDeviceProvider {
    fn announce(&self, cameras: impl IntoIterator<Item = Device>) {
        for camera in cameras {
            let Some(device) = announced(&camera) else { continue };
            {
                let mut known = lock(&self.known);
                if known.iter().any(|(other, _)| other.serial() == camera.serial()) {
                    continue;
                }
                known.push((camera, device.clone()));
            }
            // Applications are called in here, and the lock is not held.
            self.obj().device_add(&device);
        }
    }

    fn forget(&self, is_gone: impl Fn(&Device) -> bool) {
        let (gone, left) = lock(&self.known).drain(..).partition(|(camera, _)| is_gone(camera));
        *lock(&self.known) = left;
        let gone: Vec<(Device, RealSenseDevice)> = gone;
        for (_, device) in gone {
            self.obj().device_remove(&device);
        }
    }
}

fn there(context: &Context) -> Result<Vec<Device>, crate::camera::Error> {
    Ok(context.devices()?.into_iter().flatten().collect())
}

/// `None` where the camera can't be read: it is no longer there, or not yet.
fn announced(camera: &Device) -> Option<RealSenseDevice> {
    RealSenseDevice::new(camera).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
