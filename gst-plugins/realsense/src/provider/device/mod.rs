//! A camera in the list of a device monitor.

use crate::{
    camera::{Device, Error, StreamKind},
    stream::caps_of,
};
use gst::{glib, subclass::prelude::*};

mod imp;

glib::wrapper! {
    /// A RealSense camera.
    pub struct RealSenseDevice(ObjectSubclass<imp::RealSenseDevice>) @extends gst::Device, gst::Object;
}

impl RealSenseDevice {
    /// The entry for this camera.
    pub(super) fn new(camera: &Device) -> Result<Self, Error> {
        let mut modes = Vec::new();
        for sensor in camera.sensors()?.iter() {
            modes.extend(sensor.profiles().iter().map(|profile| profile.mode));
        }
        let mut properties = gst::Structure::builder("realsense-device")
            .field("device.api", "realsense")
            .field("device.serial", camera.serial())
            .field("device.product.name", camera.name());
        if let Some(firmware) = camera.firmware() {
            properties = properties.field("realsense.firmware", firmware);
        }
        if let Some(usb) = camera.usb() {
            properties = properties.field("realsense.usb", usb);
        }
        let device: Self = glib::Object::builder()
            .property("display-name", format!("{} ({})", camera.name(), camera.serial()))
            .property("device-class", "Video/Source/Hardware")
            .property("caps", caps_of(StreamKind::Color, &modes))
            .property("properties", properties.build())
            .build();
        device.imp().set_serial(camera.serial());
        Ok(device)
    }
}
