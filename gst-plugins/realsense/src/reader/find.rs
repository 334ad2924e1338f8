//! Which camera or recording is meant, and words where there is none.

use crate::camera::{Context, Device, Error, Shape};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What to read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// The camera with this serial number; the first one where there is none.
    pub(crate) serial: Option<String>,
    /// A recording instead of a camera.
    pub(crate) recording: Option<PathBuf>,
    pub(crate) looped: bool,
    /// At the pace at which it was recorded.
    pub(crate) real_time: bool,
    /// Wait for a camera that is unplugged.
    pub(crate) reconnect: bool,
    /// A preset to load, as JSON.
    pub(crate) preset: Option<PathBuf>,
}

impl Request {
    pub(crate) fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.is_recording() || self.real_time
    }
}

/// Why nothing can be read.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(
        "no RealSense camera is connected: plug one into a USB 3 port (or set recording-location to play a recording)"
    )]
    NoCamera,
    #[error(
        "no RealSense camera can be used: {0}; is it in use by another program, and may this user access it (udev rules)?"
    )]
    Unusable(String),
    #[error(
        "no RealSense camera with the serial number {serial} is connected: set serial to one of those that are there ({there}) or plug it into a USB 3 port"
    )]
    UnknownSerial { serial: String, there: String },
    #[error("recording-location is {}: {reason}", path.display())]
    NoFile { path: PathBuf, reason: String },
    #[error("recording-location is {}, which can't be played as a RealSense recording: {error}", path.display())]
    Damaged { path: PathBuf, error: Error },
    #[error("recording-location is {}, a recording of the camera {has}, and serial is {wanted}: unset serial, or choose another recording", path.display())]
    OtherCamera { path: PathBuf, has: String, wanted: String },
    #[error("json-preset is {}: {reason}", path.display())]
    Preset { path: PathBuf, reason: String },
    #[error(transparent)]
    Library(#[from] Error),
    #[error("no thread for the camera: {0}")]
    Thread(String),
}

/// Opens what is asked for.
pub(super) fn open(request: &Request) -> Result<Arc<Device>, OpenError> {
    let preset = request.preset.as_deref().map(read_preset).transpose()?;
    let device = match &request.recording {
        Some(path) => open_recording(path, request.serial.as_deref())?,
        None => open_camera(request.serial.as_deref())?,
    };
    // Before anything streams, so that pads choose from what is really there.
    shapes(&device)?;
    if let (Some(json), Some(path)) = (preset, &request.preset) {
        let refused = |error: Error| OpenError::Preset { path: path.clone(), reason: error.to_string() };
        device.load_preset(&json).map_err(refused)?;
    }
    Ok(Arc::new(device))
}

fn read_preset(path: &Path) -> Result<String, OpenError> {
    let no = |reason: String| OpenError::Preset { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| no(error.to_string()))?;
    if text.trim_start().starts_with('{') {
        Ok(text)
    } else {
        Err(no("this is no JSON object; save a preset with the RealSense Viewer".to_owned()))
    }
}

fn open_recording(path: &Path, serial: Option<&str>) -> Result<Device, OpenError> {
    let no = |reason: String| OpenError::NoFile { path: path.to_owned(), reason };
    let about = std::fs::metadata(path).map_err(|error| no(error.to_string()))?;
    if !about.is_file() {
        return Err(no("this is no file".to_owned()));
    }
    let damaged = |error| OpenError::Damaged { path: path.to_owned(), error };
    let device = Device::recording(path).map_err(damaged)?;
    device.sensors().map_err(damaged)?;
    match serial {
        Some(wanted) if wanted != device.serial() => Err(OpenError::OtherCamera {
            path: path.to_owned(),
            has: device.serial().to_owned(),
            wanted: wanted.to_owned(),
        }),
        _ => Ok(device),
    }
}

/// Looks which cameras are there now: asking the library for one that isn't would block for 15 s.
pub(super) fn open_camera(serial: Option<&str>) -> Result<Device, OpenError> {
    let mut there = Vec::new();
    let mut broken = None;
    for device in Context::shared()?.devices()? {
        match device {
            Ok(device) if serial.is_none_or(|serial| serial == device.serial()) => return Ok(device),
            Ok(device) => there.push(device.serial().to_owned()),
            Err(error) => broken = Some(error),
        }
    }
    match (serial, broken) {
        (Some(serial), _) if !there.is_empty() => {
            Err(OpenError::UnknownSerial { serial: serial.to_owned(), there: there.join(", ") })
        }
        (_, Some(error)) => Err(OpenError::Unusable(error.to_string())),
        (Some(serial), None) => {
            Err(OpenError::UnknownSerial { serial: serial.to_owned(), there: "none".to_owned() })
        }
        (None, None) => Err(OpenError::NoCamera),
    }
}

/// All that the device can stream.
pub(super) fn shapes(device: &Device) -> Result<Vec<Shape>, OpenError> {
    let sensors = device.sensors()?;
    Ok(sensors.iter().flat_map(|sensor| sensor.profiles().iter().map(|profile| profile.shape)).collect())
}

/// The camera, as users know it.
pub(crate) fn title(device: &Device) -> String {
    format!("{} (serial {})", device.name(), device.serial())
}
