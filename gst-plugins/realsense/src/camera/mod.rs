//! librealsense, made safe: the only place that calls it.
//!
//! Every object of the library is owned by one value here and freed with it ([`handle`]), every failure is an [`Error`]
//! with the library's own words, and numbers of the library that this crate doesn't know (formats, streams, domains of a
//! later version) are left out where they come in and never reach an enum.

mod block;
mod bundle;
mod context;
mod device;
mod error;
mod frame;
mod handle;
mod profile;
mod sensor;
#[cfg(feature = "software-device")]
pub mod software;

pub(crate) use block::{Block, Filter, HoleFilling};
pub(crate) use bundle::Bundler;
pub(crate) use context::{Context, Subscription};
pub(crate) use device::{Device, PlaybackStatus};
pub(crate) use error::Error;
pub(crate) use frame::{Frame, TimeDomain};
pub(crate) use profile::{PixelFormat, Profile, Shape, StreamKind};
pub(crate) use sensor::{Control, OpenSensor, Sensor};
