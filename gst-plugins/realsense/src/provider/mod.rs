//! The device provider: lists the connected cameras for GStreamer's device monitors.

use gst::{glib, prelude::*};

mod device;
mod imp;

glib::wrapper! {
    /// Lists RealSense cameras as they are plugged in and unplugged.
    pub struct RealSenseDeviceProvider(ObjectSubclass<imp::RealSenseDeviceProvider>)
        @extends gst::DeviceProvider, gst::Object;
}

/// Registers the provider.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    let type_ = RealSenseDeviceProvider::static_type();
    gst::DeviceProvider::register(Some(plugin), "realsensedeviceprovider", gst::Rank::PRIMARY, type_)
}
