//! The settings of the camera that may change while it streams: exposure, gain, white balance, projector.

use super::open;
use crate::camera::{Control, Device, Error, Sensor, StreamKind};
use std::sync::Arc;

/// The values to set; `None` leaves a control at the camera's own value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Controls {
    pub(crate) exposure: Option<f32>,
    pub(crate) gain: Option<f32>,
    pub(crate) white_balance: Option<f32>,
    pub(crate) depth_exposure: Option<f32>,
    pub(crate) depth_gain: Option<f32>,
    pub(crate) laser_power: Option<f32>,
    pub(crate) emitter: Option<bool>,
}

/// One control and its value.
struct Setting {
    property: &'static str,
    /// The stream whose sensor has the control.
    kind: StreamKind,
    control: Control,
    /// The control that sets this one automatically, and has to be switched off first.
    auto: Option<Control>,
    value: Option<f32>,
}

impl Controls {
    fn settings(&self) -> [Setting; 7] {
        use Control::{AutoExposure, AutoWhiteBalance, Emitter, Exposure, Gain, LaserPower, WhiteBalance};
        let setting = |property, kind, control, auto, value| Setting { property, kind, control, auto, value };
        let (color, depth) = (StreamKind::Color, StreamKind::Depth);
        let emitter = self.emitter.map(|on| if on { 1.0 } else { 0.0 });
        [
            setting("exposure", color, Exposure, Some(AutoExposure), self.exposure),
            setting("gain", color, Gain, Some(AutoExposure), self.gain),
            setting("white-balance", color, WhiteBalance, Some(AutoWhiteBalance), self.white_balance),
            setting("depth-exposure", depth, Exposure, Some(AutoExposure), self.depth_exposure),
            setting("depth-gain", depth, Gain, Some(AutoExposure), self.depth_gain),
            setting("laser-power", depth, LaserPower, None, self.laser_power),
            setting("emitter", depth, Emitter, None, emitter),
        ]
    }

    /// Sets the controls that differ from `before`. Returns a message for each that can't be set.
    pub(super) fn apply(&self, before: &Self, device: &Device) -> Vec<String> {
        let mut errors = Vec::new();
        for (now, then) in self.settings().into_iter().zip(before.settings()) {
            if now.value == then.value {
                continue;
            }
            if let Err(error) = self.set(&now, device) {
                errors.push(error);
            }
        }
        errors
    }

    fn set(&self, setting: &Setting, device: &Device) -> Result<(), String> {
        let failed = |error: Error| format!("{}: {error}", setting.property);
        let sensors = device.sensors().map_err(failed)?;
        let sensor: &Arc<Sensor> = sensors
            .iter()
            .find(|sensor| sensor.has(setting.kind))
            .ok_or_else(|| format!("{}: the camera has no {}", setting.property, setting.kind.name()))?;
        let Some(value) = setting.value else { return self.reset(setting, sensor).map_err(failed) };
        let range = sensor
            .range(setting.control)
            .ok_or_else(|| format!("{} can't be set on {}", setting.property, open::title(device)))?;
        if !(range.min..=range.max).contains(&value) {
            return Err(format!(
                "{} is {value}: this camera accepts {} to {}",
                setting.property, range.min, range.max
            ));
        }
        if let Some(auto) = setting.auto.filter(|auto| sensor.range(*auto).is_some()) {
            sensor.set(auto, 0.0).map_err(failed)?;
        }
        sensor.set(setting.control, value).map_err(failed)
    }

    /// Returns a control to the camera: to its automatic mode or its default.
    fn reset(&self, setting: &Setting, sensor: &Sensor) -> Result<(), Error> {
        // Exposure and gain share one automatic mode, which must stay off while the other one is set.
        let shares = |other: &Setting| {
            other.kind == setting.kind && other.auto == setting.auto && other.value.is_some()
        };
        match setting.auto {
            Some(_) if self.settings().iter().any(shares) => Ok(()),
            Some(auto) if sensor.range(auto).is_some() => sensor.set(auto, 1.0),
            _ => match sensor.range(setting.control) {
                Some(range) => sensor.set(setting.control, range.default),
                None => Ok(()),
            },
        }
    }
}
