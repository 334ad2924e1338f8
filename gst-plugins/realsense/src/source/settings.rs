//! The properties: their specifications, their values, and their meaning for the reader.

use crate::{
    camera::{HoleFilling, StreamKind},
    depth::Processing,
    reader::{Controls, Request},
};
use gst::{glib, prelude::*};
use std::path::PathBuf;

/// The stream of the pad `src`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstRealSenseStreamKind")]
pub enum StreamChoice {
    /// Color.
    #[default]
    #[enum_value(name = "Color", nick = "color")]
    Color,
    /// Depth.
    #[enum_value(name = "Depth", nick = "depth")]
    Depth,
    /// The left infrared camera.
    #[enum_value(name = "Infrared, left or only imager", nick = "infrared1")]
    Infrared1,
    /// The right infrared camera.
    #[enum_value(name = "Infrared, right imager", nick = "infrared2")]
    Infrared2,
}

impl StreamChoice {
    /// The stream of the camera.
    pub(super) fn kind(self) -> StreamKind {
        match self {
            Self::Color => StreamKind::Color,
            Self::Depth => StreamKind::Depth,
            Self::Infrared1 => StreamKind::Infrared(1),
            Self::Infrared2 => StreamKind::Infrared(2),
        }
    }
}

/// The property `align`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstRealSenseAlign")]
pub enum AlignTo {
    /// No alignment.
    #[default]
    #[enum_value(name = "No alignment", nick = "none")]
    None,
    /// Depth is aligned to color.
    #[enum_value(name = "Align depth to color", nick = "color")]
    Color,
    /// Color is aligned to depth.
    #[enum_value(name = "Align color to depth", nick = "depth")]
    Depth,
}

/// The property `hole-filling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstRealSenseHoleFilling")]
pub enum HoleFill {
    /// No filling.
    #[default]
    #[enum_value(name = "Leave the pixels at 0", nick = "disabled")]
    Disabled,
    /// The depth of the pixel to the left.
    #[enum_value(name = "Use the depth of the pixel to the left", nick = "fill-from-left")]
    FromLeft,
    /// The greatest depth of the neighbors.
    #[enum_value(name = "Use the greatest depth of the neighbors", nick = "farthest-from-around")]
    Farthest,
    /// The least depth of the neighbors.
    #[enum_value(name = "Use the least depth of the neighbors", nick = "nearest-from-around")]
    Nearest,
}

/// The property `emitter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstRealSenseEmitter")]
pub enum Emitter {
    /// The camera's own setting.
    #[default]
    #[enum_value(name = "Leave it to the camera", nick = "default")]
    Default,
    /// Off.
    #[enum_value(name = "Off", nick = "off")]
    Off,
    /// On.
    #[enum_value(name = "On", nick = "on")]
    On,
}

/// Registers the enumerations as part of the element's API, for the documentation.
pub(super) fn mark_types() {
    for type_ in
        [StreamChoice::static_type(), AlignTo::static_type(), HoleFill::static_type(), Emitter::static_type()]
    {
        type_.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
}

/// The value that leaves a control to the camera.
const AUTO: i32 = -1;

/// The values of the properties.
#[expect(clippy::struct_excessive_bools, reason = "each one is a property")]
#[derive(Debug, Clone)]
pub(super) struct Settings {
    serial: Option<String>,
    recording_location: Option<String>,
    looped: bool,
    real_time: bool,
    json_preset: Option<String>,
    pub(super) reconnect: bool,
    pub(super) stream: StreamChoice,
    colorize: bool,
    align: AlignTo,
    decimation: u32,
    threshold: Option<(f64, f64)>,
    spatial: bool,
    temporal: bool,
    hole_filling: HoleFill,
    exposure: i32,
    gain: i32,
    white_balance: i32,
    depth_exposure: i32,
    depth_gain: i32,
    laser_power: i32,
    emitter: Emitter,
    /// The error for a value that was set and is invalid.
    error: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            serial: None,
            recording_location: None,
            looped: false,
            real_time: true,
            json_preset: None,
            reconnect: false,
            stream: StreamChoice::default(),
            colorize: false,
            align: AlignTo::default(),
            decimation: 1,
            threshold: None,
            spatial: false,
            temporal: false,
            hole_filling: HoleFill::default(),
            exposure: AUTO,
            gain: AUTO,
            white_balance: AUTO,
            depth_exposure: AUTO,
            depth_gain: AUTO,
            laser_power: AUTO,
            emitter: Emitter::default(),
            error: None,
        }
    }
}

/// The specifications of all properties.
pub(super) fn properties() -> Vec<glib::ParamSpec> {
    let mut specs = device_properties();
    specs.extend(depth_properties());
    specs.extend(control_properties());
    specs
}

fn device_properties() -> Vec<glib::ParamSpec> {
    let text = |name, nick, blurb| {
        glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).mutable_ready().build()
    };
    let switch = |name, nick, blurb, default| {
        glib::ParamSpecBoolean::builder(name)
            .nick(nick)
            .blurb(blurb)
            .default_value(default)
            .mutable_ready()
            .build()
    };
    vec![
        text(
            "serial",
            "Serial number",
            "Serial number of the camera to open (null: the first camera that is connected)",
        ),
        text(
            "recording-location",
            "Recording",
            "Recording to play instead of a camera: a .bag file of the RealSense SDK (null: none)",
        ),
        switch("loop", "Loop", "Restart the recording at its end", false),
        switch(
            "real-time",
            "Real time",
            "Play the recording in real time, as a live source (false: every frame, as fast as downstream accepts it)",
            true,
        ),
        text(
            "json-preset",
            "Preset",
            "File of a preset, as the RealSense Viewer saves it, to load before streaming (null: none)",
        ),
        glib::ParamSpecBoolean::builder("reconnect")
            .nick("Reconnect")
            .blurb("Wait for a camera that was unplugged and continue with it (false: post an error)")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder::<StreamChoice>("stream")
            .nick("Stream")
            .blurb("Stream to output on the pad src")
            .mutable_ready()
            .build(),
    ]
}

fn depth_properties() -> Vec<glib::ParamSpec> {
    let switch = |name, nick, blurb| glib::ParamSpecBoolean::builder(name).nick(nick).blurb(blurb);
    vec![
        switch("colorize", "Colorize", "Output depth as a color image (false: as GRAY16_LE)").mutable_ready().build(),
        glib::ParamSpecEnum::builder::<AlignTo>("align")
            .nick("Align")
            .blurb("Reproject one stream to the viewpoint of the other one, so that their pixels correspond")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("decimation")
            .nick("Decimation")
            .blurb("Factor by which depth is reduced in width and height (1: off)")
            .minimum(1)
            .maximum(8)
            .default_value(1)
            .mutable_ready()
            .build(),
        gst::ParamSpecArray::builder("threshold")
            .nick("Threshold")
            .blurb("Least and greatest depth in meters, such as <0.3, 4.0>; depth outside of this range becomes 0 (empty: off)")
            .element_spec(
                &glib::ParamSpecDouble::builder("depth")
                    .nick("Depth")
                    .blurb("Depth in meters")
                    .minimum(0.0)
                    .maximum(65.0)
                    .build(),
            )
            .mutable_playing()
            .build(),
        switch("spatial", "Spatial filter", "Smooth depth within each frame and preserve edges")
            .mutable_playing()
            .build(),
        switch("temporal", "Temporal filter", "Smooth depth over successive frames")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder::<HoleFill>("hole-filling")
            .nick("Hole filling")
            .blurb("Value for pixels without depth")
            .mutable_playing()
            .build(),
    ]
}

fn control_properties() -> Vec<glib::ParamSpec> {
    let number = |name, nick, blurb| {
        glib::ParamSpecInt::builder(name)
            .nick(nick)
            .blurb(blurb)
            .minimum(AUTO)
            .maximum(1_000_000)
            .default_value(AUTO)
            .mutable_playing()
            .build()
    };
    vec![
        number(
            "exposure",
            "Exposure",
            "Exposure time of the color camera in its own unit, which is 100 µs for D400 cameras (-1: automatic)",
        ),
        number("gain", "Gain", "Gain of the color camera, in the range of the camera (-1: automatic)"),
        number(
            "white-balance",
            "White balance",
            "Color temperature of the color camera in kelvin (-1: automatic)",
        ),
        number("depth-exposure", "Depth exposure", "Exposure time of the depth sensor in µs (-1: automatic)"),
        number(
            "depth-gain",
            "Depth gain",
            "Gain of the depth sensor, in the range of the camera (-1: automatic)",
        ),
        number(
            "laser-power",
            "Laser power",
            "Power of the infrared projector in mW (-1: left to the camera)",
        ),
        glib::ParamSpecEnum::builder::<Emitter>("emitter")
            .nick("Emitter")
            .blurb("Whether the infrared projector is on")
            .mutable_playing()
            .build(),
    ]
}

impl Settings {
    /// Sets a property. Returns false if there is no such property.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        let text = || value.get::<Option<String>>().ok().flatten().filter(|text| !text.is_empty());
        let flag = || value.get().unwrap_or_default();
        let number = || value.get().unwrap_or(AUTO);
        match name {
            "serial" => self.serial = text(),
            "recording-location" => self.recording_location = text(),
            "loop" => self.looped = flag(),
            "real-time" => self.real_time = flag(),
            "json-preset" => self.json_preset = text(),
            "reconnect" => self.reconnect = flag(),
            "stream" => self.stream = value.get().unwrap_or_default(),
            "colorize" => self.colorize = flag(),
            "align" => self.align = value.get().unwrap_or_default(),
            "decimation" => self.decimation = value.get().unwrap_or(1),
            "threshold" => self.set_threshold(value),
            "spatial" => self.spatial = flag(),
            "temporal" => self.temporal = flag(),
            "hole-filling" => self.hole_filling = value.get().unwrap_or_default(),
            "exposure" => self.exposure = number(),
            "gain" => self.gain = number(),
            "white-balance" => self.white_balance = number(),
            "depth-exposure" => self.depth_exposure = number(),
            "depth-gain" => self.depth_gain = number(),
            "laser-power" => self.laser_power = number(),
            "emitter" => self.emitter = value.get().unwrap_or_default(),
            _ => return false,
        }
        true
    }

    fn set_threshold(&mut self, value: &glib::Value) {
        let list: Vec<f64> = value
            .get::<gst::ArrayRef<'_>>()
            .map(|list| list.iter().filter_map(|meters| meters.get().ok()).collect())
            .unwrap_or_default();
        (self.threshold, self.error) = match list[..] {
            [] => (None, None),
            [least, greatest] if least < greatest => (Some((least, greatest)), None),
            _ => {
                let error = "threshold takes the least and the greatest depth in meters, such as <0.3, 4.0>";
                (None, Some(error.to_owned()))
            }
        };
    }

    /// The value of a property; `None` if there is no such property.
    pub(super) fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "serial" => self.serial.to_value(),
            "recording-location" => self.recording_location.to_value(),
            "loop" => self.looped.to_value(),
            "real-time" => self.real_time.to_value(),
            "json-preset" => self.json_preset.to_value(),
            "reconnect" => self.reconnect.to_value(),
            "stream" => self.stream.to_value(),
            "colorize" => self.colorize.to_value(),
            "align" => self.align.to_value(),
            "decimation" => self.decimation.to_value(),
            "threshold" => {
                let list = self.threshold.map_or(Vec::new(), |(least, greatest)| vec![least, greatest]);
                gst::Array::new(list).to_value()
            }
            "spatial" => self.spatial.to_value(),
            "temporal" => self.temporal.to_value(),
            "hole-filling" => self.hole_filling.to_value(),
            "exposure" => self.exposure.to_value(),
            "gain" => self.gain.to_value(),
            "white-balance" => self.white_balance.to_value(),
            "depth-exposure" => self.depth_exposure.to_value(),
            "depth-gain" => self.depth_gain.to_value(),
            "laser-power" => self.laser_power.to_value(),
            "emitter" => self.emitter.to_value(),
            _ => return None,
        })
    }

    /// Checks the properties. The error names the property and a valid value.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if self.looped && self.recording_location.is_none() {
            return Err("loop applies to recordings only: set recording-location, or unset loop".to_owned());
        }
        Ok(())
    }

    /// The camera or recording that the properties select.
    pub(super) fn request(&self) -> Request {
        Request {
            serial: self.serial.clone(),
            recording: self.recording_location.as_ref().map(PathBuf::from),
            looped: self.looped,
            real_time: self.real_time,
            reconnect: self.reconnect,
            preset: self.json_preset.as_ref().map(PathBuf::from),
        }
    }

    /// The processing that the properties select.
    #[allow(clippy::cast_possible_truncation, reason = "single precision suffices for meters")]
    pub(super) fn processing(&self) -> Processing {
        Processing {
            decimation: u8::try_from(self.decimation).unwrap_or(1),
            threshold: self.threshold.map(|(least, greatest)| (least as f32, greatest as f32)),
            spatial: self.spatial,
            temporal: self.temporal,
            hole_filling: match self.hole_filling {
                HoleFill::Disabled => None,
                HoleFill::FromLeft => Some(HoleFilling::FromLeft),
                HoleFill::Farthest => Some(HoleFilling::FarthestFromAround),
                HoleFill::Nearest => Some(HoleFilling::NearestFromAround),
            },
            align: match self.align {
                AlignTo::None => None,
                AlignTo::Color => Some(StreamKind::Color),
                AlignTo::Depth => Some(StreamKind::Depth),
            },
            colorize: self.colorize,
        }
    }

    /// The controls to set on the camera.
    #[allow(clippy::cast_precision_loss, reason = "the maximum of the properties is a million")]
    pub(super) fn controls(&self) -> Controls {
        let number = |value: i32| (value != AUTO).then_some(value as f32);
        Controls {
            exposure: number(self.exposure),
            gain: number(self.gain),
            white_balance: number(self.white_balance),
            depth_exposure: number(self.depth_exposure),
            depth_gain: number(self.depth_gain),
            laser_power: number(self.laser_power),
            emitter: match self.emitter {
                Emitter::Default => None,
                Emitter::Off => Some(false),
                Emitter::On => Some(true),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_can_be_set_and_read_back() {
        gst::init().expect("GStreamer");
        let mut settings = Settings::default();
        for spec in properties() {
            let name = spec.name();
            let value = match spec.value_type() {
                glib::Type::STRING => "x".to_value(),
                glib::Type::BOOL => true.to_value(),
                glib::Type::U32 => 3u32.to_value(),
                glib::Type::I32 => 7i32.to_value(),
                _ if name == "threshold" => gst::Array::new([0.5, 2.0]).to_value(),
                _ => spec.default_value().clone(),
            };
            assert!(settings.set(name, &value), "{name} can't be set");
            let back = settings.get(name).expect(name);
            assert_eq!(back.serialize().ok(), value.serialize().ok(), "{name}");
        }
        assert!(!settings.set("no-such", &"".to_value()));
    }

    #[test]
    fn unset_properties_leave_the_controls_to_the_camera() {
        let settings = Settings::default();
        assert_eq!(settings.controls(), Controls::default());
        assert_eq!(settings.processing(), Processing::default());
        assert!(settings.request().is_live());
    }

    #[test]
    fn errors_name_the_invalid_property() {
        gst::init().expect("GStreamer");
        let mut settings = Settings::default();
        settings.set("threshold", &gst::Array::new([4.0, 0.3]).to_value());
        assert!(settings.check().expect_err("in the wrong order").contains("threshold"));
        settings.set("threshold", &gst::Array::new([0.3, 4.0]).to_value());
        assert_eq!(settings.check(), Ok(()));
        settings.set("loop", &true.to_value());
        assert!(settings.check().expect_err("without a recording").contains("recording-location"));
    }
}
