//! The implementation of the device provider. While it is started, its list follows that of librealsense.

use super::device::RealSenseDevice;
use crate::{
    CAT,
    camera::{Context, Device, Subscription},
    sync::lock,
};
use gst::{glib, prelude::*, subclass::prelude::*};
use std::sync::{LazyLock, Mutex};

/// The state of the provider.
#[derive(Default)]
pub struct RealSenseDeviceProvider {
    watch: Mutex<Option<Subscription>>,
    /// The cameras in the list.
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
                "Lists RealSense cameras as they are plugged in and unplugged",
                "The room-signaling project",
            )
        });
        Some(&METADATA)
    }

    fn probe(&self) -> Vec<gst::Device> {
        let cameras = Context::shared().and_then(|context| connected(&context));
        match cameras {
            Ok(cameras) => cameras.iter().filter_map(device_for).map(Cast::upcast).collect(),
            Err(error) => {
                gst::warning!(CAT, imp = self, "{error}");
                Vec::new()
            }
        }
    }

    fn start(&self) -> Result<(), gst::LoggableError> {
        let failed = |error| gst::loggable_error!(CAT, "{error}");
        let context = Context::shared().map_err(failed)?;
        // The watch begins before the first listing, so that no camera is missed. A camera that is reported twice is
        // added once.
        let weak = self.obj().downgrade();
        let watch = context.watch(move |change| {
            let Some(provider) = weak.upgrade() else { return };
            let provider = provider.imp();
            provider.remove(|camera| change.removed.contains(camera));
            if let Ok(cameras) = change.added.devices() {
                provider.add(cameras.into_iter().flatten());
            }
        });
        *lock(&self.watch) = Some(watch);
        self.add(connected(&context).map_err(failed)?);
        Ok(())
    }

    fn stop(&self) {
        let watch = lock(&self.watch).take();
        drop(watch);
        lock(&self.known).clear();
    }
}

impl RealSenseDeviceProvider {
    fn add(&self, cameras: impl IntoIterator<Item = Device>) {
        for camera in cameras {
            let Some(device) = device_for(&camera) else { continue };
            {
                let mut known = lock(&self.known);
                if known.iter().any(|(other, _)| other.serial() == camera.serial()) {
                    continue;
                }
                known.push((camera, device.clone()));
            }
            // This calls into the application, so the lock is not held.
            self.obj().device_add(&device);
        }
    }

    fn remove(&self, is_removed: impl Fn(&Device) -> bool) {
        let (removed, left) = lock(&self.known).drain(..).partition(|(camera, _)| is_removed(camera));
        *lock(&self.known) = left;
        let removed: Vec<(Device, RealSenseDevice)> = removed;
        for (_, device) in removed {
            self.obj().device_remove(&device);
        }
    }
}

fn connected(context: &Context) -> Result<Vec<Device>, crate::camera::Error> {
    Ok(context.devices()?.into_iter().flatten().collect())
}

/// `None` if the camera can't be read, because it is being plugged in or unplugged.
fn device_for(camera: &Device) -> Option<RealSenseDevice> {
    RealSenseDevice::new(camera).ok()
}
