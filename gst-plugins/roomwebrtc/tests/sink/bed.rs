//! What all tests share: pipelines that are always torn down, waiting, and files.

use gst::prelude::*;
use std::time::{Duration, Instant};

pub(crate) fn init() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstroomwebrtc::plugin_register_static().unwrap();
    });
}

/// A pipeline that is always torn down.
pub(crate) struct Line(pub(crate) gst::Pipeline);

impl Line {
    pub(crate) fn new(description: &str) -> Self {
        init();
        Self(gst::parse::launch(description).unwrap().downcast().unwrap())
    }

    pub(crate) fn play(&self) -> &Self {
        // A failure is an error on the bus.
        let _ = self.0.set_state(gst::State::Playing);
        self
    }

    /// The first message of these types, within 20 s.
    pub(crate) fn wait(&self, types: &[gst::MessageType]) -> gst::Message {
        let bus = self.0.bus().unwrap();
        bus.timed_pop_filtered(gst::ClockTime::from_seconds(20), types).expect("a message within 20 s")
    }

    /// The text of the error that must be the first message.
    pub(crate) fn error(&self) -> String {
        match self.wait(&[gst::MessageType::Error, gst::MessageType::Eos]).view() {
            gst::MessageView::Error(error) => error.error().to_string(),
            _ => panic!("the stream ended without an error"),
        }
    }

    pub(crate) fn sink(&self) -> gst::Element {
        self.0.by_name("s").unwrap()
    }

    /// How many access units the sink has received.
    pub(crate) fn frames(&self) -> u64 {
        self.sink().property::<gst::Structure>("stats").get("frames").unwrap_or_default()
    }

    /// The appsink behind the first pad.
    pub(crate) fn input(&self) -> gst::Element {
        self.0.by_name("input-video_0").expect("the pad has its chain")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// A sink with an embedded signaling server.
pub(crate) const SERVER: &str =
    "roomwebrtcsink name=s run-signaling-server=true signaling-server-listen=127.0.0.1:0";

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A temporary file, which is removed on drop.
pub(crate) struct Temporary(pub(crate) std::path::PathBuf);

impl Temporary {
    pub(crate) fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("room-{}-{name}", std::process::id())))
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes a byte stream of this many pictures, without timestamps.
pub(crate) fn byte_stream(file: &Temporary, encoder: &str, pictures: u32) {
    let writer = Line::new(&format!(
        "videotestsrc num-buffers={pictures} ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! {encoder} ! \
         video/x-h264,stream-format=byte-stream ! filesink location={}",
        file.path()
    ));
    writer.play().wait(&[gst::MessageType::Eos]);
    assert!(std::fs::metadata(&file.0).unwrap().len() > 0, "{encoder}");
}
