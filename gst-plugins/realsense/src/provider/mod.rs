//! The device provider: tells GStreamer's device monitors which cameras are there.

use gst::{glib, prelude::*};

mod device;
mod imp;

glib::wrapper! {
    /// Lists RealSense cameras as they come and go.
    pub struct RealSenseDeviceProvider(ObjectSubclass<imp::RealSenseDeviceProvider>)
        @extends gst::DeviceProvider, gst::Object;
}

/// Makes the provider known to GStreamer.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    let type_ = RealSenseDeviceProvider::static_type();
    gst::DeviceProvider::register(Some(plugin), "realsensedeviceprovider", gst::Rank::PRIMARY, type_)
}
