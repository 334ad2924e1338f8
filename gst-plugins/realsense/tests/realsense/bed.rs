//! Shared by the tests: software cameras, their recordings, and pipelines that are always shut down.

use gst::prelude::*;
use gstrealsense::software::{FrameInfo, Imager, Pixels, Recorder, SoftwareDevice, Stream};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The limit of every wait, which a busy machine does not reach.
pub(crate) const LONG: Duration = Duration::from_mins(1);

pub(crate) fn init() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstrealsense::plugin_register_static().unwrap();
    });
}

pub(crate) const WIDTH: u16 = 64;
pub(crate) const HEIGHT: u16 = 48;

/// A video stream of 64x48 pixels at 30 frames per second.
pub(crate) fn video(imager: Imager, pixels: Pixels) -> Stream {
    Stream::Video { imager, pixels, width: WIDTH, height: HEIGHT, rate: 30 }
}

pub(crate) fn color() -> Stream {
    video(Imager::Color, Pixels::Yuyv)
}

pub(crate) fn depth() -> Stream {
    video(Imager::Depth, Pixels::Z16)
}

/// The bytes of frame `number` of a stream: gray that rises from row to row and from frame to frame; depth that does
/// the same, is a little rough, and has a hole in the middle.
pub(crate) fn bytes(stream: Stream, number: u8) -> Vec<u8> {
    // A debug build draws large frames too slowly.
    if let Stream::Video { imager: Imager::Depth, width: 1280, height, .. } = stream {
        return vec![number; 2 * 1280 * usize::from(height)];
    }
    let Stream::Video { pixels, width, height, .. } = stream else {
        let first = if matches!(stream, Stream::Gyro(_)) { f32::from(number) } else { 9.81 };
        return [first, f32::from(number), -1.5].into_iter().flat_map(f32::to_ne_bytes).collect();
    };
    let pixel = |x: u16, y: u16| {
        let gray = gray(y, number);
        match pixels {
            Pixels::Yuyv => vec![gray, 128],
            Pixels::Uyvy => vec![128, gray],
            Pixels::Rgb8 | Pixels::Bgr8 => vec![gray; 3],
            Pixels::Rgba8 | Pixels::Bgra8 => vec![gray, gray, gray, 255],
            Pixels::Y8 => vec![gray],
            Pixels::Y16 => (u16::from(gray) << 8).to_le_bytes().to_vec(),
            Pixels::Z16 => millimeters(x, y, number).to_le_bytes().to_vec(),
        }
    };
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

pub(crate) fn gray(y: u16, number: u8) -> u8 {
    u8::try_from(32 + (y * 4) % 160).unwrap() + number % 32
}

pub(crate) fn millimeters(x: u16, y: u16, number: u8) -> u16 {
    if (x, y) == (WIDTH / 2, HEIGHT / 2) { 0 } else { 500 + 40 * y + 6 * (x % 2) + u16::from(number) }
}

/// Pushes frame `number` of a stream, with timestamps of the camera's clock.
pub(crate) fn push(device: &SoftwareDevice, index: usize, stream: Stream, number: u32) {
    push_with(device, index, stream, number, false);
}

fn push_with(device: &SoftwareDevice, index: usize, stream: Stream, number: u32, host_time: bool) {
    let rate = match stream {
        Stream::Video { rate, .. } | Stream::Gyro(rate) | Stream::Accel(rate) => rate,
    };
    let info = FrameInfo {
        number: i32::try_from(number).unwrap() + 1,
        timestamp_ms: if host_time { 1.764e12 } else { 5000.0 }
            + f64::from(number) * 1000.0 / f64::from(rate),
        host_time,
        exposure: Some(8500),
        gain: Some(16),
    };
    device.push(index, &bytes(stream, u8::try_from(number % 256).unwrap()), &info).unwrap();
}

/// When the frames of a stream are recorded, in steps of 1/30 s. The default is every step.
#[derive(Clone)]
pub(crate) struct Schedule {
    /// The number of frames, including those that fall into the pause.
    pub(crate) frames: u32,
    /// The number of steps from one frame to the next.
    pub(crate) every: u32,
    /// The steps in which no frame is recorded.
    pub(crate) pause: Range<u32>,
    /// Whether the timestamps are the host's instead of the camera's.
    pub(crate) host_time: bool,
}

impl Schedule {
    pub(crate) fn frames(frames: u32) -> Self {
        Self { frames, every: 1, pause: 0..0, host_time: false }
    }

    fn steps(&self) -> u32 {
        self.frames * self.every
    }

    fn frame_at(&self, step: u32) -> Option<u32> {
        let due = step.is_multiple_of(self.every) && step < self.steps() && !self.pause.contains(&step);
        due.then_some(step / self.every)
    }
}

/// A recording, in a folder that is removed on drop.
pub(crate) struct Recording {
    pub(crate) path: PathBuf,
}

impl Recording {
    pub(crate) fn new(name: &str, streams: &[Stream], frames: u32) -> Self {
        Self::with(name, streams, &vec![Schedule::frames(frames); streams.len()])
    }

    /// Records each stream by its schedule.
    pub(crate) fn with(name: &str, streams: &[Stream], schedules: &[Schedule]) -> Self {
        let folder = std::env::temp_dir().join(format!("realsense-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("recording.bag");
        let device = SoftwareDevice::new(&format!("rec-{name}"), streams).unwrap();
        let recorder = Recorder::start(&device, &path, true).unwrap();
        // The recorder stores the arrival times, which determine the pace of the playback.
        let start = Instant::now();
        for step in 0..schedules.iter().map(Schedule::steps).max().unwrap() {
            for (index, (stream, schedule)) in streams.iter().zip(schedules).enumerate() {
                if let Some(number) = schedule.frame_at(step) {
                    push_with(&device, index, *stream, number, schedule.host_time);
                }
            }
            thread::sleep((start + (step + 1) * FRAME).saturating_duration_since(Instant::now()));
        }
        // The recorder writes on a thread of its own, and loses what it has not written when it is closed. It reports no
        // progress.
        thread::sleep(Duration::from_millis(200));
        recorder.finish().unwrap();
        Self { path }
    }

    /// A `realsensesrc` named `camera` that plays every frame of the recording.
    pub(crate) fn source(&self) -> String {
        format!("realsensesrc name=camera recording-location={} real-time=false", self.path.display())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.path.parent().unwrap());
    }
}

pub(crate) const FRAME: Duration = Duration::from_micros(33_333);

/// A software camera that streams until it is stopped.
pub(crate) struct LiveCamera {
    pub(crate) device: Arc<SoftwareDevice>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LiveCamera {
    pub(crate) fn new(serial: &str, streams: &[Stream]) -> Self {
        let device = Arc::new(SoftwareDevice::new(serial, streams).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (device, stop, streams) = (device.clone(), stop.clone(), streams.to_vec());
            thread::spawn(move || {
                let start = Instant::now();
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    for (index, stream) in streams.iter().enumerate() {
                        push(&device, index, *stream, number);
                    }
                    number += 1;
                    thread::sleep((start + number * FRAME).saturating_duration_since(Instant::now()));
                }
            })
        };
        Self { device, stop, thread: Some(thread) }
    }

    /// Stops pushing frames.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for LiveCamera {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A pipeline that is always shut down.
pub(crate) struct TestPipeline(pub(crate) gst::Pipeline);

impl TestPipeline {
    pub(crate) fn new(description: &str) -> Self {
        init();
        Self(gst::parse::launch(description).unwrap().downcast().unwrap())
    }

    pub(crate) fn play(&self) -> &Self {
        // A failure is posted on the bus.
        let _ = self.0.set_state(gst::State::Playing);
        self
    }

    /// Waits for the first message of these types.
    pub(crate) fn wait(&self, types: &[gst::MessageType]) -> gst::Message {
        let limit = gst::ClockTime::try_from(LONG).unwrap();
        self.0.bus().unwrap().timed_pop_filtered(limit, types).expect("no message in time")
    }

    /// Waits for an error and returns its text.
    pub(crate) fn error(&self) -> String {
        match self.wait(&[gst::MessageType::Error, gst::MessageType::Eos]).view() {
            gst::MessageView::Error(error) => error.error().to_string(),
            _ => panic!("the stream ended without an error"),
        }
    }

    /// Waits for the end of the stream.
    pub(crate) fn finish(&self) {
        let end = self.wait(&[gst::MessageType::Eos, gst::MessageType::Error]);
        assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    }

    pub(crate) fn camera(&self) -> gst::Element {
        self.0.by_name("camera").unwrap()
    }

    /// The next sample of the appsink with this name; `None` at the end of the stream.
    pub(crate) fn sample(&self, sink: &str) -> Option<gst::Sample> {
        let sink: gst_app::AppSink = self.0.by_name(sink).unwrap().downcast().unwrap();
        let sample = sink.try_pull_sample(gst::ClockTime::try_from(LONG).unwrap());
        assert!(sample.is_some() || sink.is_eos(), "neither a sample nor the end: {:?}", self.first_error());
        sample
    }

    /// All samples until the end of the stream.
    pub(crate) fn samples(&self, sink: &str) -> Vec<gst::Sample> {
        std::iter::from_fn(|| self.sample(sink)).collect()
    }

    fn first_error(&self) -> Option<gst::Message> {
        self.0.bus().unwrap().pop_filtered(&[gst::MessageType::Error])
    }
}

impl Drop for TestPipeline {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The resident memory of this process, in kB.
pub(crate) fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    memory.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The bytes of a sample.
pub(crate) fn content(sample: &gst::Sample) -> Vec<u8> {
    sample.buffer().unwrap().map_readable().unwrap().to_vec()
}

/// The content of the camera's custom meta.
pub(crate) fn meta(sample: &gst::Sample) -> gst::Structure {
    let meta = gst::meta::CustomMeta::from_buffer(sample.buffer().unwrap(), "GstRealSenseMeta").unwrap();
    meta.structure().to_owned()
}

/// Writes a file.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}
