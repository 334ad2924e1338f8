//! What users can set on a camera while it streams.

use crate::camera::{Control, Device, Error, Sensor, StreamKind};
use std::sync::Arc;

/// What the camera is to be set to; `None` leaves it to the camera.
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

/// One of them: the property's name, the stream whose sensor has it, what it sets, and what else sets that by itself.
struct Wish {
    property: &'static str,
    kind: StreamKind,
    control: Control,
    auto: Option<Control>,
    value: Option<f32>,
}

impl Controls {
    fn wishes(&self) -> [Wish; 7] {
        use Control::{AutoExposure, AutoWhiteBalance, Emitter, Exposure, Gain, LaserPower, WhiteBalance};
        let wish = |property, kind, control, auto, value| Wish { property, kind, control, auto, value };
        let (color, depth) = (StreamKind::Color, StreamKind::Depth);
        let emitter = self.emitter.map(|on| if on { 1.0 } else { 0.0 });
        [
            wish("exposure", color, Exposure, Some(AutoExposure), self.exposure),
            wish("gain", color, Gain, Some(AutoExposure), self.gain),
            wish("white-balance", color, WhiteBalance, Some(AutoWhiteBalance), self.white_balance),
            wish("depth-exposure", depth, Exposure, Some(AutoExposure), self.depth_exposure),
            wish("depth-gain", depth, Gain, Some(AutoExposure), self.depth_gain),
            wish("laser-power", depth, LaserPower, None, self.laser_power),
            wish("emitter", depth, Emitter, None, emitter),
        ]
    }

    /// Sets on the device what differs from `before`. Returns what doesn't work, in words.
    pub(super) fn apply(&self, before: &Self, device: &Device) -> Vec<String> {
        let mut troubles = Vec::new();
        for (now, then) in self.wishes().into_iter().zip(before.wishes()) {
            if now.value == then.value {
                continue;
            }
            if let Err(words) = self.grant(&now, device) {
                troubles.push(words);
            }
        }
        troubles
    }

    fn grant(&self, wish: &Wish, device: &Device) -> Result<(), String> {
        let said = |error: Error| format!("{}: {error}", wish.property);
        let sensors = device.sensors().map_err(said)?;
        let sensor: &Arc<Sensor> = sensors
            .iter()
            .find(|sensor| sensor.has(wish.kind))
            .ok_or_else(|| format!("{}: the camera has no {}", wish.property, wish.kind.name()))?;
        let Some(value) = wish.value else { return self.leave(wish, sensor).map_err(said) };
        let range = sensor
            .range(wish.control)
            .ok_or_else(|| format!("{}: {} can't be set to it", wish.property, super::find::title(device)))?;
        if !(range.min..=range.max).contains(&value) {
            return Err(format!(
                "{} is {value}: this camera takes {} to {}",
                wish.property, range.min, range.max
            ));
        }
        if let Some(auto) = wish.auto.filter(|auto| sensor.range(*auto).is_some()) {
            sensor.set(auto, 0.0).map_err(said)?;
        }
        sensor.set(wish.control, value).map_err(said)
    }

    /// Back to the camera.
    fn leave(&self, wish: &Wish, sensor: &Sensor) -> Result<(), Error> {
        // Exposure and gain are automatic together: not while the other is set.
        let shared =
            |other: &Wish| other.kind == wish.kind && other.auto == wish.auto && other.value.is_some();
        match wish.auto {
            Some(_) if self.wishes().iter().any(shared) => Ok(()),
            Some(auto) if sensor.range(auto).is_some() => sensor.set(auto, 1.0),
            _ => match sensor.range(wish.control) {
                Some(range) => sensor.set(wish.control, range.default),
                None => Ok(()),
            },
        }
    }
}
