//! Unplugged cameras: noticing that the camera was unplugged, and finding it again by its serial number.

use super::{CameraThread, describe};
use crate::{
    camera::{Context, Subscription},
    reader::{
        Controls, Report, open,
        shared::{Phase, Shared, State},
    },
};
use std::{sync::Arc, time::Duration};

/// How often to search for a camera that was unplugged.
pub(super) const SEARCH_INTERVAL: Duration = Duration::from_millis(500);

/// Sets [`State::unplugged`] when librealsense reports that the camera was unplugged. Each change also wakes the camera
/// thread, which then searches immediately.
pub(super) fn watch(shared: &Arc<Shared>) -> Option<Subscription> {
    let weak = Arc::downgrade(shared);
    let context = Context::shared().ok()?;
    Some(context.watch(move |change| {
        let Some(shared) = weak.upgrade() else { return };
        let device = shared.lock().device.clone();
        let removed = change.removed.contains(&device);
        shared.change(|state| state.unplugged |= removed && Arc::ptr_eq(&state.device, &device));
    }))
}

impl CameraThread {
    /// Begins to search for the camera, or fails if the property `reconnect` is false.
    pub(super) fn handle_unplugged(&mut self) {
        self.stop();
        let title = open::title(&self.device());
        let reconnect = self.shared.lock().reconnect.unwrap_or(self.shared.request.reconnect);
        if reconnect {
            (self.shared.report)(Report::Warning(format!(
                "{title} was unplugged: waiting for it to be plugged in again"
            )));
            self.shared.change(|state| state.phase = Phase::Searching);
        } else {
            self.fail(&format!(
                "{title} was unplugged: plug it in and start again (or set reconnect=true to wait for it)"
            ));
        }
    }

    /// Continues with the camera if it is connected again. Otherwise the search continues.
    pub(super) fn search(&mut self) {
        let serial = self.device().serial().to_owned();
        let Ok(device) = open::open_camera(Some(&serial)) else { return };
        // A camera that was just plugged in may not be ready yet.
        let Ok(modes) = open::modes(&device) else { return };
        if let Some(missing) = self.running.iter().find(|mode| !modes.contains(mode)) {
            return self.fail(&format!(
                "{} is connected again, but without {}: plug it into its previous port",
                open::title(&device),
                describe(missing)
            ));
        }
        (self.shared.report)(Report::Info(format!("{} is connected again", open::title(&device))));
        // The camera has lost its settings.
        self.applied = Controls::default();
        self.shared.change(|state: &mut State| {
            state.device = Arc::new(device);
            state.unplugged = false;
            state.phase = Phase::Waiting;
        });
    }
}
