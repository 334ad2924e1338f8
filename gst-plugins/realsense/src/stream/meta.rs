//! The metadata of a frame on its buffer: `GstReferenceTimestampMeta` with the camera's timestamp, and the custom meta
//! `GstRealSenseMeta`, a structure that applications in every language can read.

use crate::camera::{Frame, StreamKind, TimeDomain};

/// The name of the custom meta and of its structure.
const NAME: &str = "GstRealSenseMeta";

/// Registers the custom meta. Must be called before it is used.
pub(crate) fn register() {
    if !gst::meta::CustomMeta::is_registered(NAME) {
        gst::meta::CustomMeta::register(NAME, &[]);
    }
}

/// The caps of timestamps of this clock.
pub(super) fn reference(domain: TimeDomain) -> gst::Caps {
    gst::Caps::builder("timestamp/x-realsense").field("domain", domain.name()).build()
}

/// Attaches the metadata of `frame` to `buffer`. `depth` is the depth frame that `frame` was colored from, and has the
/// depth units.
pub(super) fn add(
    buffer: &mut gst::BufferRef,
    kind: StreamKind,
    number: u64,
    frame: &Frame,
    depth: Option<&Frame>,
    (reference, time): (&gst::Caps, gst::ClockTime),
) {
    gst::ReferenceTimestampMeta::add(buffer, reference, time, gst::ClockTime::NONE);
    // Fails only if the meta is not registered.
    let Ok(mut meta) = gst::meta::CustomMeta::add(buffer, NAME) else { return };
    let structure = meta.mut_structure();
    structure.set("stream", kind.name());
    structure.set("frame-number", number);
    for (field, value) in [("exposure", frame.exposure()), ("gain", frame.gain())] {
        if let Some(value) = value {
            structure.set(field, value);
        }
    }
    if kind == StreamKind::Depth
        && let Some(units) = depth.unwrap_or(frame).depth_units()
    {
        structure.set("depth-units", shortest(units));
    }
    // Motion has no intrinsics.
    let Ok(intrinsics) = frame.intrinsics() else { return };
    structure.set("width", intrinsics.width);
    structure.set("height", intrinsics.height);
    structure.set("fx", f64::from(intrinsics.fx));
    structure.set("fy", f64::from(intrinsics.fy));
    structure.set("ppx", f64::from(intrinsics.ppx));
    structure.set("ppy", f64::from(intrinsics.ppy));
    structure.set("distortion", intrinsics.model);
    for (index, coefficient) in intrinsics.coefficients.into_iter().enumerate() {
        structure.set(format!("coeff-{index}"), f64::from(coefficient));
    }
}

/// The shortest decimal number for the value: 0.001 instead of 0.0010000000474974513.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
