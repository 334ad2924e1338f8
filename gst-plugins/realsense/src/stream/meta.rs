//! What is known of a frame, on its buffer: `GstReferenceTimestampMeta` with the camera's time, and the custom meta
//! `GstRealSenseMeta`, a structure that every language can read.

use crate::camera::{Frame, StreamKind, TimeDomain};

/// The name of the custom meta, and of its structure.
const NAME: &str = "GstRealSenseMeta";

/// Makes the custom meta known. Once, before anything else.
pub(crate) fn register() {
    if !gst::meta::CustomMeta::is_registered(NAME) {
        gst::meta::CustomMeta::register(NAME, &[]);
    }
}

/// The caps of times on this clock of the camera's.
pub(super) fn reference(domain: TimeDomain) -> gst::Caps {
    gst::Caps::builder("timestamp/x-realsense").field("domain", domain.name()).build()
}

/// Writes what is known of `frame` on `buffer`. The units of depth, where `depth` is what a picture with colors was made
/// of, are of that.
pub(super) fn add(
    buffer: &mut gst::BufferRef,
    kind: StreamKind,
    number: u64,
    frame: &Frame,
    depth: Option<&Frame>,
    (reference, time): (&gst::Caps, gst::ClockTime),
) {
    gst::ReferenceTimestampMeta::add(buffer, reference, time, gst::ClockTime::NONE);
    // Refused only where it isn't registered.
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
    // Motion has none.
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

/// 0.001 and not 0.0010000000474974513.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
