//! The implementation of a listed camera: creates a `realsensesrc` for it.

use crate::CAT;
use gst::{glib, prelude::*, subclass::prelude::*};
use std::sync::OnceLock;

/// A listed camera.
#[derive(Default)]
pub struct RealSenseDevice {
    serial: OnceLock<String>,
}

#[glib::object_subclass]
impl ObjectSubclass for RealSenseDevice {
    const NAME: &'static str = "GstRealSenseDevice";
    type Type = super::RealSenseDevice;
    type ParentType = gst::Device;
}

impl ObjectImpl for RealSenseDevice {}

impl GstObjectImpl for RealSenseDevice {}

impl DeviceImpl for RealSenseDevice {
    fn create_element(&self, name: Option<&str>) -> Result<gst::Element, gst::LoggableError> {
        let mut builder = gst::ElementFactory::make("realsensesrc");
        if let Some(name) = name {
            builder = builder.name(name);
        }
        builder
            .property("serial", self.serial.get())
            .build()
            .map_err(|error| gst::loggable_error!(CAT, "{error}"))
    }

    fn reconfigure_element(&self, element: &gst::Element) -> Result<(), gst::LoggableError> {
        if element.type_() != crate::source::RealSenseSrc::static_type() {
            return Err(gst::loggable_error!(CAT, "only a realsensesrc can use a RealSense camera"));
        }
        element.set_property("serial", self.serial.get());
        Ok(())
    }
}

impl RealSenseDevice {
    pub(super) fn set_serial(&self, serial: &str) {
        self.serial.get_or_init(|| serial.to_owned());
    }
}
