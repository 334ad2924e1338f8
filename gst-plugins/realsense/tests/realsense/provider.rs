//! The device provider: cameras appear in the list of a device monitor and disappear from it.

use crate::bed::{LONG, Recording, color, depth, init};
use gst::prelude::*;
use gstrealsense::software::PluggedRecording;

fn next(monitor: &gst::DeviceMonitor, kind: gst::MessageType) -> gst::Device {
    let limit = gst::ClockTime::try_from(LONG).unwrap();
    loop {
        let message = monitor.bus().timed_pop_filtered(limit, &[kind]).expect("no message in time");
        let device = match message.view() {
            gst::MessageView::DeviceAdded(added) => added.device(),
            gst::MessageView::DeviceRemoved(removed) => removed.device(),
            _ => continue,
        };
        // Other providers may list other devices.
        let is_ours = |properties: gst::Structure| properties.get::<&str>("device.api") == Ok("realsense");
        if device.properties().is_some_and(is_ours) {
            return device;
        }
    }
}

#[test]
fn cameras_are_added_and_removed() {
    init();
    let recording = Recording::new("monitor", &[color(), depth()], 5);
    let early = PluggedRecording::plug(&recording.path).unwrap();
    let monitor = gst::DeviceMonitor::new();
    monitor.add_filter(Some("Video/Source"), None).unwrap();
    monitor.start().unwrap();
    next(&monitor, gst::MessageType::DeviceAdded);
    drop(early);
    next(&monitor, gst::MessageType::DeviceRemoved);
    let late = PluggedRecording::plug(&recording.path).unwrap();
    let device = next(&monitor, gst::MessageType::DeviceAdded);
    let properties = device.properties().unwrap();
    assert_eq!(properties.get::<&str>("device.serial"), Ok("rec-monitor"));
    assert!(device.display_name().contains("rec-monitor"));
    let caps = device.caps().unwrap();
    assert!(
        caps.can_intersect(&"video/x-raw,format=YUY2,width=64,framerate=30/1".parse::<gst::Caps>().unwrap())
    );
    let element = device.create_element(Some("made")).unwrap();
    assert_eq!(element.property::<Option<String>>("serial").as_deref(), Some("rec-monitor"));
    element.set_property("serial", "another");
    device.reconfigure_element(&element).unwrap();
    assert_eq!(element.property::<Option<String>>("serial").as_deref(), Some("rec-monitor"));
    drop(late);
    next(&monitor, gst::MessageType::DeviceRemoved);
    monitor.stop();
}
