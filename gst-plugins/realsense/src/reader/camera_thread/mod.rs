//! The camera thread owns the camera. It starts the camera when all pads have selected a mode and requested a frame, and
//! restarts it when that changes.
//!
//! [`playback`] pauses a recording and notices its end. [`reconnect`] notices that the camera was unplugged, and finds it
//! again.

mod playback;
mod reconnect;

use super::{
    Controls, Report,
    frame_queue::FrameQueue,
    open,
    shared::{Phase, Shared},
};
use crate::camera::{Device, Error, OpenSensor, Profile, StreamMode, Subscription};
use std::{
    collections::BTreeSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Starts the thread, which ends once [`super::shared::State::closing`] is set. If it panics, all pads fail; they would
/// otherwise wait for frames forever.
pub(super) fn spawn(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    // The watch for unplugged cameras begins here, so that no change is missed.
    let mut camera = CameraThread::new(shared);
    thread::Builder::new().name("realsense".to_owned()).spawn(move || {
        // After a panic, the camera is only stopped.
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| camera.run())) else { return };
        let text = panic.downcast_ref::<&str>().copied();
        let text =
            text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        camera.fail(&format!("the camera thread panicked: {text}; stop the element and start it again"));
        camera.stop();
    })
}

/// What to do next.
enum Step {
    Start(BTreeSet<StreamMode>),
    Stop,
    Pause(bool),
    Apply(Controls),
    Warn(Vec<String>),
    CheckPlayback,
    HandleUnplugged,
    Search,
    Close,
}

struct CameraThread {
    shared: Arc<Shared>,
    open: Vec<OpenSensor>,
    running: BTreeSet<StreamMode>,
    paused: bool,
    applied: Controls,
    started: Instant,
    /// A frame has arrived since the start.
    has_frames: Arc<AtomicBool>,
    /// The time until the recording is checked for its end again.
    playback_interval: Duration,
    _watch: Option<Subscription>,
}

impl CameraThread {
    fn new(shared: Arc<Shared>) -> Self {
        let watch = if shared.request.is_recording() { None } else { reconnect::watch(&shared) };
        Self {
            shared,
            open: Vec::new(),
            running: BTreeSet::new(),
            paused: false,
            applied: Controls::default(),
            started: Instant::now(),
            has_frames: Arc::default(),
            playback_interval: playback::INTERVAL,
            _watch: watch,
        }
    }

    fn run(&mut self) {
        loop {
            match self.next_step() {
                Step::Start(modes) => self.start(modes),
                Step::Stop => {
                    self.stop();
                    self.shared.change(|state| state.phase = Phase::Waiting);
                }
                Step::Pause(pause) => self.pause(pause),
                Step::Apply(controls) => {
                    let device = self.device();
                    self.apply(&device, controls);
                }
                Step::Warn(warnings) => {
                    for warning in warnings {
                        (self.shared.report)(Report::Warning(warning));
                    }
                }
                Step::CheckPlayback => self.check_playback(),
                Step::HandleUnplugged => self.handle_unplugged(),
                Step::Search => self.search(),
                Step::Close => {
                    self.stop();
                    return;
                }
            }
        }
    }

    fn next_step(&self) -> Step {
        let recording = self.shared.request.is_recording();
        let mut state = self.shared.lock();
        loop {
            if state.closing {
                return Step::Close;
            }
            if !state.warnings.is_empty() {
                return Step::Warn(std::mem::take(&mut state.warnings));
            }
            let mut timeout = None;
            match &state.phase {
                Phase::Waiting | Phase::Running if state.unplugged => return Step::HandleUnplugged,
                Phase::Waiting => {
                    let mut queues = state.queues.values();
                    if !state.queues.is_empty()
                        && queues.all(|queue| queue.requested && !queue.modes.is_empty())
                    {
                        return Step::Start(state.requested_modes());
                    }
                }
                Phase::Running
                    if state.queues.is_empty() || !state.requested_modes().is_subset(&self.running) =>
                {
                    return Step::Stop;
                }
                Phase::Running if recording && self.shared.live && self.paused == state.playing => {
                    return Step::Pause(!state.playing);
                }
                Phase::Running if state.controls != self.applied => return Step::Apply(state.controls),
                Phase::Running if recording => timeout = Some(self.playback_interval),
                Phase::Searching => timeout = Some(reconnect::SEARCH_INTERVAL),
                Phase::Running | Phase::Ended | Phase::Failed(_) => {}
            }
            let check_playback = matches!(state.phase, Phase::Running) && timeout.is_some();
            let search = matches!(state.phase, Phase::Searching);
            state = self.shared.wait_for_change(state, timeout);
            if state.closing {
                return Step::Close;
            }
            if !state.warnings.is_empty() {
                continue;
            }
            if check_playback {
                return Step::CheckPlayback;
            }
            if search {
                return Step::Search;
            }
        }
    }

    fn device(&self) -> Arc<Device> {
        self.shared.lock().device.clone()
    }

    fn start(&mut self, modes: BTreeSet<StreamMode>) {
        let (device, controls) = self.shared.change(|state| {
            state.epoch += 1;
            (state.device.clone(), state.controls)
        });
        self.apply(&device, controls);
        self.has_frames.store(false, Ordering::Relaxed);
        self.started = Instant::now();
        self.running = modes;
        // The phase changes before the first frame can arrive.
        self.shared.change(|state| {
            state.phase = Phase::Running;
            state.restart_frame_timeouts();
        });
        if let Err(error) = self.open_sensors(&device) {
            self.stop();
            let modes: Vec<_> = self.running.iter().map(describe).collect();
            self.fail(&format!(
                "{} can't stream {}: {error}; another program may be using it, the port may be too slow (USB 2), or \
                 these modes can't be combined",
                open::title(&device),
                modes.join(", ")
            ));
        }
    }

    fn open_sensors(&mut self, device: &Device) -> Result<(), Error> {
        if self.shared.request.is_recording() {
            device.set_real_time(self.shared.live)?;
            // The recording stays paused until all sensors are started, so that no stream loses its first frames.
            device.pause()?;
        }
        for sensor in device.sensors()?.iter() {
            let profiles = self.running_profiles(sensor.profiles());
            if !profiles.is_empty() {
                self.open.push(sensor.open(&profiles)?);
            }
        }
        let epoch = self.shared.lock().epoch;
        for sensor in &mut self.open {
            let (shared, has_frames) = (self.shared.clone(), self.has_frames.clone());
            sensor.start(move |frame| {
                has_frames.store(true, Ordering::Relaxed);
                shared.deliver(&frame, epoch);
            })?;
        }
        if self.shared.request.is_recording() {
            device.resume()?;
        }
        self.paused = false;
        Ok(())
    }

    /// The first profile of each mode, because some cameras list a mode twice.
    fn running_profiles(&self, all: &[Profile]) -> Vec<Profile> {
        let first = |mode: &StreamMode| all.iter().find(|profile| profile.mode == *mode).copied();
        self.running.iter().filter_map(first).collect()
    }

    /// Stops the camera. Frames that still arrive are dropped, and librealsense's threads that wait for space are released.
    fn stop(&mut self) {
        self.shared.change(|state| {
            state.epoch += 1;
            state.queues.values_mut().for_each(FrameQueue::clear);
        });
        self.open.clear();
    }

    fn fail(&self, message: &str) {
        self.shared.change(|state| state.phase = Phase::Failed(message.into()));
    }

    fn apply(&mut self, device: &Device, controls: Controls) {
        for error in controls.apply(&self.applied, device) {
            (self.shared.report)(Report::Warning(error));
        }
        self.applied = controls;
    }
}

fn describe(mode: &StreamMode) -> String {
    if mode.width == 0 {
        return format!("{} at {} Hz", mode.kind.name(), mode.rate);
    }
    format!("{} {}x{} at {}", mode.kind.name(), mode.width, mode.height, mode.rate)
}
