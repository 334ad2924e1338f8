//! Finds the camera, or opens the recording, that the properties select. The errors tell the user what to change.

use crate::camera::{Context, Device, Error, StreamMode};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The properties that select what to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// The serial number of the camera; `None` selects the first one.
    pub(crate) serial: Option<String>,
    /// A recording to play instead of a camera.
    pub(crate) recording: Option<PathBuf>,
    /// Restart the recording at its end.
    pub(crate) looped: bool,
    /// Play the recording at the pace at which it was recorded.
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

/// Why the camera or recording can't be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(
        "no RealSense camera is connected: plug one into a USB 3 port (or set recording-location to play a recording)"
    )]
    NoCamera,
    #[error(
        "no RealSense camera can be used: {0}; is another program using it, and may this user access it (udev rules)?"
    )]
    Unusable(String),
    #[error(
        "no RealSense camera with the serial number {serial} is connected: set serial to that of a connected camera ({connected}), or plug the camera into a USB 3 port"
    )]
    UnknownSerial { serial: String, connected: String },
    #[error("recording-location is {}: {reason}", path.display())]
    NoFile { path: PathBuf, reason: String },
    #[error("recording-location is {}, which can't be played as a RealSense recording: {error}", path.display())]
    Damaged { path: PathBuf, error: Error },
    #[error("recording-location is {}, a recording of the camera {has}, but serial is {wanted}: unset serial, or choose another recording", path.display())]
    OtherCamera { path: PathBuf, has: String, wanted: String },
    #[error("json-preset is {}: {reason}", path.display())]
    Preset { path: PathBuf, reason: String },
    #[error(transparent)]
    Library(#[from] Error),
    #[error("the thread of the camera can't be started: {0}")]
    Thread(String),
}

/// Opens the requested camera or recording, and loads the preset.
pub(super) fn open(request: &Request) -> Result<Arc<Device>, OpenError> {
    let preset = request.preset.as_deref().map(read_preset).transpose()?;
    let device = match &request.recording {
        Some(path) => open_recording(path, request.serial.as_deref())?,
        None => open_camera(request.serial.as_deref())?,
    };
    // The modes are read before anything streams, because a camera that can't report them is not usable.
    modes(&device)?;
    if let (Some(json), Some(path)) = (preset, &request.preset) {
        let refused = |error: Error| OpenError::Preset { path: path.clone(), reason: error.to_string() };
        device.load_preset(&json).map_err(refused)?;
    }
    Ok(Arc::new(device))
}

fn read_preset(path: &Path) -> Result<String, OpenError> {
    let failed = |reason: String| OpenError::Preset { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    if text.trim_start().starts_with('{') {
        Ok(text)
    } else {
        Err(failed("this is not a JSON object; save a preset with the RealSense Viewer".to_owned()))
    }
}

fn open_recording(path: &Path, serial: Option<&str>) -> Result<Device, OpenError> {
    let failed = |reason: String| OpenError::NoFile { path: path.to_owned(), reason };
    let metadata = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("this is not a file".to_owned()));
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

/// Opens a camera that is connected now. The list of cameras is searched here, because librealsense blocks for 15 s when it
/// is asked for one that is not connected.
pub(super) fn open_camera(serial: Option<&str>) -> Result<Device, OpenError> {
    let mut connected = Vec::new();
    let mut broken = None;
    for device in Context::shared()?.devices()? {
        match device {
            Ok(device) if serial.is_none_or(|serial| serial == device.serial()) => return Ok(device),
            Ok(device) => connected.push(device.serial().to_owned()),
            Err(error) => broken = Some(error),
        }
    }
    match (serial, broken) {
        (Some(serial), _) if !connected.is_empty() => {
            Err(OpenError::UnknownSerial { serial: serial.to_owned(), connected: connected.join(", ") })
        }
        (_, Some(error)) => Err(OpenError::Unusable(error.to_string())),
        (Some(serial), None) => {
            Err(OpenError::UnknownSerial { serial: serial.to_owned(), connected: "none".to_owned() })
        }
        (None, None) => Err(OpenError::NoCamera),
    }
}

/// All modes of all streams of the device.
pub(super) fn modes(device: &Device) -> Result<Vec<StreamMode>, OpenError> {
    let sensors = device.sensors()?;
    Ok(sensors.iter().flat_map(|sensor| sensor.profiles().iter().map(|profile| profile.mode)).collect())
}

/// Model and serial number of the camera, for messages.
pub(crate) fn title(device: &Device) -> String {
    format!("{} (serial {})", device.name(), device.serial())
}
