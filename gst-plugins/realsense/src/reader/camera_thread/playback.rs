//! Recordings: pausing them with the pipeline, and noticing their end, which librealsense does not report.

use super::CameraThread;
use crate::{camera::PlaybackStatus, reader::shared::Phase, sync::lock};
use std::{sync::atomic::Ordering, time::Duration};

/// How often a recording is checked for its end. This is less than the time of a frame, so that a loop keeps its rhythm.
pub(super) const INTERVAL: Duration = Duration::from_millis(25);
/// How often it is checked while the end is far away in real time. The checks never stop, because a recording may be
/// truncated, and the selected streams may end before the others.
const FAR_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time until the first frame of a recording.
const START_LIMIT: Duration = Duration::from_secs(2);

impl CameraThread {
    /// Pauses the recording, or resumes it.
    pub(super) fn pause(&mut self, pause: bool) {
        let device = self.device();
        // Fails at the end of the recording, which the next check notices.
        let _ = if pause {
            device.pause()
        } else {
            lock(&self.shared.timeline).reset();
            device.resume()
        };
        self.paused = pause;
    }

    /// Checks whether the recording has ended.
    pub(super) fn check_playback(&mut self) {
        // The flag is read before the status: a recording is "stopped" at its end, but also before its first frame.
        let has_begun = self.has_frames.load(Ordering::Relaxed) || self.started.elapsed() > START_LIMIT;
        let device = self.device();
        match device.playback_status() {
            Ok(PlaybackStatus::Stopped) if has_begun => {}
            Ok(_) => {
                let is_far = |left| left > 2 * FAR_INTERVAL;
                let far = self.shared.live && device.playback_left().is_ok_and(is_far);
                self.playback_interval = if far { FAR_INTERVAL } else { INTERVAL };
                return;
            }
            Err(error) => return self.fail(&format!("the recording can't be played any further: {error}")),
        }
        let empty = !self.has_frames.load(Ordering::Relaxed);
        self.open.clear();
        if self.shared.request.looped && !empty {
            let modes = self.running.clone();
            self.start(modes);
        } else {
            self.shared.change(|state| state.phase = Phase::Ended);
        }
    }
}
