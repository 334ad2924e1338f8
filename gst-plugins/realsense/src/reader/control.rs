//! The thread that owns the camera: starts and stops it, follows a recording to its end, waits for a camera that was
//! unplugged.

use super::{
    Controls, Report, find,
    seat::Seat,
    shared::{Phase, Shared, State},
};
use crate::camera::{Context, Device, Error, OpenSensor, PlaybackStatus, Profile, Shape, Subscription};
use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often a recording is asked whether it is over: nothing tells. Less than a frame's time, so that a loop goes on in
/// its rhythm.
const PLAYBACK_POLL: Duration = Duration::from_millis(25);
/// How often while it plays in real time and its end is far. Not never: it may break off, and what is played of it may end
/// before the rest.
const PLAYBACK_GLANCE: Duration = Duration::from_secs(1);
/// How often to look for a camera that was unplugged.
const SEARCH: Duration = Duration::from_millis(500);
/// How long a recording may take to begin.
const PLAYBACK_START: Duration = Duration::from_secs(2);

/// Begins the thread. It ends when the state says `closing`.
pub(super) fn spawn(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    // It watches from now on.
    let driver = Driver::new(shared);
    thread::Builder::new().name("realsense".to_owned()).spawn(move || driver.run())
}

/// What is to be done next.
enum Step {
    Start(BTreeSet<Shape>),
    Stop,
    Pause(bool),
    Apply(Controls),
    Warn(Vec<String>),
    Follow,
    Unplugged,
    Search,
    Close,
}

struct Driver {
    shared: Arc<Shared>,
    open: Vec<OpenSensor>,
    running: BTreeSet<Shape>,
    paused: bool,
    applied: Controls,
    started: Instant,
    /// A frame has come since the start.
    begun: Arc<AtomicBool>,
    /// When to look again whether the recording is over.
    look_after: Duration,
    _watch: Option<Subscription>,
}

impl Driver {
    fn new(shared: Arc<Shared>) -> Self {
        let watch = if shared.request.is_recording() { None } else { watch(&shared) };
        Self {
            shared,
            open: Vec::new(),
            running: BTreeSet::new(),
            paused: false,
            applied: Controls::default(),
            started: Instant::now(),
            begun: Arc::default(),
            look_after: PLAYBACK_POLL,
            _watch: watch,
        }
    }

    fn run(mut self) {
        loop {
            match self.next_step() {
                Step::Start(wanted) => self.start(wanted),
                Step::Stop => {
                    self.stop();
                    self.shared.change(|state| state.phase = Phase::Waiting);
                }
                Step::Pause(pause) => self.pause(pause),
                Step::Apply(controls) => self.apply(controls),
                Step::Warn(warnings) => {
                    for warning in warnings {
                        (self.shared.report)(Report::Warning(warning));
                    }
                }
                Step::Follow => self.follow(),
                Step::Unplugged => self.unplugged(),
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
            let mut at_most = None;
            match &state.phase {
                Phase::Waiting | Phase::Running if state.unplugged => return Step::Unplugged,
                Phase::Waiting => {
                    let mut seats = state.seats.values();
                    if !state.seats.is_empty() && seats.all(|seat| seat.ready && !seat.chosen.is_empty()) {
                        return Step::Start(state.wanted());
                    }
                }
                Phase::Running if state.seats.is_empty() || !state.wanted().is_subset(&self.running) => {
                    return Step::Stop;
                }
                Phase::Running if recording && self.shared.live && self.paused == state.playing => {
                    return Step::Pause(!state.playing);
                }
                Phase::Running if state.controls != self.applied => return Step::Apply(state.controls),
                Phase::Running if recording => at_most = Some(self.look_after),
                Phase::Gone => at_most = Some(SEARCH),
                Phase::Running | Phase::Ended | Phase::Failed(_) => {}
            }
            let follow = matches!(state.phase, Phase::Running) && at_most.is_some();
            let search = matches!(state.phase, Phase::Gone);
            state = self.shared.wait_for_change(state, at_most);
            if state.closing {
                return Step::Close;
            }
            if !state.warnings.is_empty() {
                continue;
            }
            if follow {
                return Step::Follow;
            }
            if search {
                return Step::Search;
            }
        }
    }

    fn start(&mut self, wanted: BTreeSet<Shape>) {
        let (device, controls) = self.shared.change(|state| {
            state.epoch += 1;
            (state.device.clone(), state.controls)
        });
        self.apply_to(&device, controls);
        self.begun.store(false, Ordering::Relaxed);
        self.started = Instant::now();
        self.running = wanted;
        // Before the first frame comes.
        self.shared.change(|state| {
            state.phase = Phase::Running;
            state.restart_patience();
        });
        if let Err(error) = self.open_sensors(&device) {
            self.stop();
            let modes: Vec<_> = self.running.iter().map(describe).collect();
            self.fail(&format!(
                "{} doesn't start to stream {}: {error}; another program may use it, the port may be too slow (USB 2), \
                 or these modes don't go together",
                find::title(&device),
                modes.join(", ")
            ));
        }
    }

    fn open_sensors(&mut self, device: &Device) -> Result<(), Error> {
        if self.shared.request.is_recording() {
            device.set_real_time(self.shared.live)?;
            // Held until all sensors listen, so that all get their first frames.
            device.pause()?;
        }
        for sensor in device.sensors()?.iter() {
            let profiles = self.profiles_of(sensor.profiles());
            if !profiles.is_empty() {
                self.open.push(sensor.open(&profiles)?);
            }
        }
        let epoch = self.shared.lock().epoch;
        for sensor in &mut self.open {
            let (shared, begun) = (self.shared.clone(), self.begun.clone());
            sensor.start(move |frame| {
                begun.store(true, Ordering::Relaxed);
                shared.deliver(&frame, epoch);
            })?;
        }
        if self.shared.request.is_recording() {
            device.resume()?;
        }
        self.paused = false;
        Ok(())
    }

    /// Of each wanted mode the first profile: some cameras list a mode twice.
    fn profiles_of(&self, all: &[Profile]) -> Vec<Profile> {
        self.running
            .iter()
            .filter_map(|wanted| all.iter().find(|profile| profile.shape == *wanted).copied())
            .collect()
    }

    /// Frames that come now are dropped, and threads that wait to hand one over wait no more.
    fn stop(&mut self) {
        self.shared.change(|state| {
            state.epoch += 1;
            state.seats.values_mut().for_each(Seat::clear);
        });
        self.open.clear();
    }

    fn fail(&self, words: &str) {
        self.shared.change(|state| state.phase = Phase::Failed(words.into()));
    }

    fn pause(&mut self, pause: bool) {
        let device = self.shared.lock().device.clone();
        // A recording that is at its end can't be held; that it is over shows next.
        let _ = if pause {
            device.pause()
        } else {
            self.shared.timeline.lock().unwrap_or_else(PoisonError::into_inner).resume();
            device.resume()
        };
        self.paused = pause;
    }

    fn apply(&mut self, controls: Controls) {
        let device = self.shared.lock().device.clone();
        self.apply_to(&device, controls);
    }

    fn apply_to(&mut self, device: &Device, controls: Controls) {
        for trouble in controls.apply(&self.applied, device) {
            (self.shared.report)(Report::Warning(trouble));
        }
        self.applied = controls;
    }

    /// Looks how far the recording is.
    fn follow(&mut self) {
        // In this order: when a frame has come, "stopped" is the end, else it may be the state before the beginning.
        let begun = self.begun.load(Ordering::Relaxed) || self.started.elapsed() > PLAYBACK_START;
        let device = self.shared.lock().device.clone();
        match device.playback_status() {
            Ok(PlaybackStatus::Stopped) if begun => {}
            Ok(_) => {
                let is_far = |left| left > 2 * PLAYBACK_GLANCE;
                let at_ease = self.shared.live && device.playback_left().is_ok_and(is_far);
                self.look_after = if at_ease { PLAYBACK_GLANCE } else { PLAYBACK_POLL };
                return;
            }
            Err(error) => return self.fail(&format!("the recording can't be played any further: {error}")),
        }
        let empty = !self.begun.load(Ordering::Relaxed);
        self.open.clear();
        if self.shared.request.looped && !empty {
            let wanted = self.running.clone();
            self.start(wanted);
        } else {
            self.shared.change(|state| state.phase = Phase::Ended);
        }
    }

    fn unplugged(&mut self) {
        self.stop();
        let title = find::title(&self.shared.lock().device);
        let reconnect = self.shared.lock().reconnect.unwrap_or(self.shared.request.reconnect);
        if reconnect {
            (self.shared.report)(Report::Warning(format!(
                "{title} was unplugged: waiting for it to come back"
            )));
            self.shared.change(|state| state.phase = Phase::Gone);
        } else {
            self.fail(&format!(
                "{title} was unplugged: plug it in and start again (or set reconnect=true to wait for it)"
            ));
        }
    }

    fn search(&mut self) {
        let serial = self.shared.lock().device.serial().to_owned();
        // As long as it isn't there, or isn't ready, the search goes on.
        let Ok(device) = find::open_camera(Some(&serial)) else { return };
        let Ok(shapes) = find::shapes(&device) else { return };
        if let Some(missing) = self.running.iter().find(|wanted| !shapes.contains(wanted)) {
            return self.fail(&format!(
                "{} is back, but without {}: plug it into the port where it was",
                find::title(&device),
                describe(missing)
            ));
        }
        (self.shared.report)(Report::Info(format!("{} is back", find::title(&device))));
        // It knows nothing of what was set before.
        self.applied = Controls::default();
        self.shared.change(|state: &mut State| {
            state.device = Arc::new(device);
            state.unplugged = false;
            state.phase = Phase::Waiting;
        });
    }
}

/// Tells the state when the library says that the camera is gone, and wakes the search when one came.
fn watch(shared: &Arc<Shared>) -> Option<Subscription> {
    let weak = Arc::downgrade(shared);
    let context = Context::shared().ok()?;
    Some(context.watch(move |change| {
        let Some(shared) = weak.upgrade() else { return };
        let device = shared.lock().device.clone();
        let gone = change.removed.contains(&device);
        shared.change(|state| state.unplugged |= gone && Arc::ptr_eq(&state.device, &device));
    }))
}

fn describe(shape: &Shape) -> String {
    if shape.width == 0 {
        return format!("{} at {} Hz", shape.kind.name(), shape.rate);
    }
    format!("{} {}x{} at {}", shape.kind.name(), shape.width, shape.height, shape.rate)
}
