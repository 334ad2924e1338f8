//! The safe interface to librealsense, and the only module that calls it.
//!
//! Each object of the library has one owner here and is freed with it ([`handle`]). Each failure is an [`Error`] with
//! the library's message. Streams, formats and clocks that this crate does not know, because a later version of the
//! library added them, are left out where they are read and never reach an enum.

mod block;
mod context;
mod device;
mod error;
mod frame;
mod frameset;
mod handle;
mod profile;
mod recording;
mod sensor;
#[cfg(feature = "software-device")]
pub mod software;

pub(crate) use block::{Block, Filter, HoleFilling};
pub(crate) use context::{Context, Subscription};
pub(crate) use device::Device;
pub(crate) use error::Error;
pub(crate) use frame::{Frame, TimeDomain};
pub(crate) use frameset::FramesetBuilder;
pub(crate) use profile::{PixelFormat, Profile, StreamKind, StreamMode};
pub(crate) use recording::PlaybackStatus;
pub(crate) use sensor::{Control, OpenSensor, Sensor};
