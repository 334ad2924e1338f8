//! The camera reader: one for each element, shared by its pads.
//!
//! One thread ([`control`]) opens, starts, stops and reconnects the camera. The library's own threads hand each frame to
//! the [`seat`]s of the pads that want it, and each pad takes its frames in its own streaming thread. So no pad waits for
//! another, and none waits for the camera in a way that can't be interrupted.

mod anchors;
mod control;
mod controls;
mod find;
mod pairing;
mod seat;
mod shared;
mod together;

pub(crate) use controls::Controls;
pub(crate) use find::{OpenError, Request, title};
pub(crate) use seat::{Arrived, Interrupt, Member};

use crate::{
    camera::{Device, Shape, StreamKind},
    depth::Processing,
};
use shared::{Shared, State};
use std::{sync::Arc, thread::JoinHandle};

/// What the reader tells the element beside frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// Something doesn't work as asked, and the stream goes on.
    Warning(String),
    /// Something is as it should be again.
    Info(String),
}

/// A camera or recording that is open.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Finds and opens what is asked for; nothing streams yet. `report` is called in the reader's thread.
    pub(crate) fn open(
        request: Request,
        controls: Controls,
        processing: Processing,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let device = find::open(&request)?;
        let state = State::new(device, controls, processing);
        let shared = Arc::new(Shared::new(request, state, Box::new(report)));
        let thread = control::spawn(shared.clone()).map_err(|error| OpenError::Thread(error.to_string()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A place for a pad that wants frames of these streams; of several, `together` in sets of the same moment, else
    /// as they come.
    pub(crate) fn member(&self, kinds: &[StreamKind], together: bool) -> Result<Member, OpenError> {
        Member::join(self.shared.clone(), kinds, together)
    }

    /// The camera.
    pub(crate) fn device(&self) -> Arc<Device> {
        self.shared.lock().device.clone()
    }

    /// All that the camera can stream.
    pub(crate) fn shapes(&self) -> Result<Vec<Shape>, OpenError> {
        find::shapes(&self.device())
    }

    /// The element plays, or pauses.
    pub(crate) fn set_playing(&self, playing: bool) {
        self.shared.change(|state| {
            state.playing = playing;
            state.restart_patience();
        });
    }

    /// Changes what the camera is set to.
    pub(crate) fn set_controls(&self, controls: Controls) {
        self.shared.change(|state| state.controls = controls);
    }

    /// Changes what is done to depth, as far as sizes and formats stay as they are.
    pub(crate) fn set_processing(&self, processing: Processing) {
        self.shared.change(|state| {
            let Processing { decimation, align, colorize, .. } = *state.processing;
            state.processing = Arc::new(Processing { decimation, align, colorize, ..processing });
        });
    }

    /// Whether to wait for a camera that is unplugged.
    pub(crate) fn set_reconnect(&self, reconnect: bool) {
        self.shared.change(|state| state.reconnect = Some(reconnect));
    }

    /// From now on all members are told that the element shuts down.
    pub(crate) fn begin_to_close(&self) {
        self.shared.change(|state| state.closing = true);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.begin_to_close();
        let thread = self.thread.take();
        // A report may hold the last reference to the element, which drops this in that very thread.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // Joining fails only where the thread panicked.
            let _ = thread.join();
        }
    }
}
