//! The reader of one camera or recording. Each `realsensesrc` has one, which all of its pads share.
//!
//! - [`open`] finds the camera, or opens the recording, that the properties select.
//! - [`camera_thread`] starts and stops it, follows a recording to its end, and finds a camera again that was unplugged.
//! - [`shared`] distributes each frame, on librealsense's threads, to the [`frame_queue`]s of the pads.
//! - [`consumer`] is the handle by which the streaming thread of a pad selects a mode and waits for frames.
//! - [`syncer`] and [`pairing`] combine depth and color of the same moment, so that one can be aligned to the other.
//! - [`controls`] sets exposure, gain and the like.
//!
//! Each pad waits for its frames in its own streaming thread. Therefore no pad waits for another one, and every wait can
//! be interrupted.

mod camera_thread;
mod consumer;
mod controls;
mod frame_pool_guard;
mod frame_queue;
mod open;
mod pairing;
mod shared;
mod syncer;

pub(crate) use consumer::{Consumer, Interrupt};
pub(crate) use controls::Controls;
pub(crate) use frame_queue::ReceivedFrame;
pub(crate) use open::{OpenError, Request, title};

use crate::{
    camera::{Device, StreamKind, StreamMode},
    depth::Processing,
};
use shared::{Shared, State};
use std::{sync::Arc, thread::JoinHandle};

/// What the reader reports to the element, apart from frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// Something does not work as requested, but the stream continues.
    Warning(String),
    /// A problem is over.
    Info(String),
}

/// An open camera or recording.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Opens the requested camera or recording. Nothing streams yet. `report` is called on the camera thread.
    pub(crate) fn open(
        request: Request,
        controls: Controls,
        processing: Processing,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let device = open::open(&request)?;
        let state = State::new(device, controls, processing);
        let shared = Arc::new(Shared::new(request, state, Box::new(report)));
        let thread =
            camera_thread::spawn(shared.clone()).map_err(|error| OpenError::Thread(error.to_string()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Adds a consumer of the frames of these streams. With `in_sets`, it receives framesets of the first stream and the
    /// frame of the second stream that was captured at the same moment; otherwise single frames as they arrive.
    pub(crate) fn consumer(&self, kinds: &[StreamKind], in_sets: bool) -> Result<Consumer, OpenError> {
        Consumer::new(self.shared.clone(), kinds, in_sets)
    }

    /// The camera or recording.
    pub(crate) fn device(&self) -> Arc<Device> {
        self.shared.lock().device.clone()
    }

    /// All modes of all streams of the camera.
    pub(crate) fn modes(&self) -> Result<Vec<StreamMode>, OpenError> {
        open::modes(&self.device())
    }

    /// Follows the element between PAUSED and PLAYING.
    pub(crate) fn set_playing(&self, playing: bool) {
        self.shared.change(|state| {
            state.playing = playing;
            state.restart_frame_timeouts();
        });
    }

    /// Changes the settings of the camera.
    pub(crate) fn set_controls(&self, controls: Controls) {
        self.shared.change(|state| state.controls = controls);
    }

    /// Changes the processing of depth, except for decimation, alignment and colors, which determine the caps.
    pub(crate) fn set_processing(&self, processing: Processing) {
        self.shared.change(|state| {
            let Processing { decimation, align, colorize, .. } = *state.processing;
            state.processing = Arc::new(Processing { decimation, align, colorize, ..processing });
        });
    }

    /// Whether to search for the camera when it is unplugged.
    pub(crate) fn set_reconnect(&self, reconnect: bool) {
        self.shared.change(|state| state.reconnect = Some(reconnect));
    }

    /// Interrupts all consumers, because the element shuts down.
    pub(crate) fn begin_to_close(&self) {
        self.shared.change(|state| state.closing = true);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.begin_to_close();
        let thread = self.thread.take();
        // A report may hold the last reference to the element. Then the camera thread itself drops the reader.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // Joining fails only if the thread panicked.
            let _ = thread.join();
        }
    }
}

#[cfg(all(test, feature = "software-device"))]
mod tests {
    use super::*;
    use crate::camera::software::{Imager, Pixels, SoftwareDevice, Stream};

    #[test]
    fn a_panic_of_the_camera_thread_fails_the_pads() {
        let color =
            Stream::Video { imager: Imager::Color, pixels: Pixels::Yuyv, width: 64, height: 48, rate: 30 };
        let device = SoftwareDevice::new("panics", &[color]).expect("a camera");
        let _plugged = device.plug().expect("plugged in");
        let request = Request { serial: Some("panics".to_owned()), ..Request::default() };
        // The camera has no projector, which is reported on the camera thread.
        let controls = Controls { laser_power: Some(1.0), ..Controls::default() };
        let reader =
            Reader::open(request, controls, Processing::default(), |report| panic!("unexpected {report:?}"));
        let reader = reader.expect("a reader");
        let consumer = reader.consumer(&[StreamKind::Color], false).expect("a consumer");
        consumer.select_modes(consumer.modes(StreamKind::Color));
        let Err(Interrupt::Failed(text)) = consumer.next() else { panic!("the pad does not fail") };
        assert!(text.contains("the camera thread panicked: unexpected Warning"), "{text}");
    }
}
