//! Shared by the tests: a server in this process, senders, and a pipeline that records what roomwebrtcsrc delivers.

use gst::prelude::*;
use gst_webrtc::{WebRTCSDPType, WebRTCSessionDescription};
use room_signaling_client::{
    ClientConfig, Event, Handle, Options, new_instance,
    protocol::{ClientId, RoomId, SessionId},
    wire::{Body, IceCandidate, Role, Signal},
};
use std::{
    process::{Child, Command},
    sync::{Arc, Mutex, Once},
    time::{Duration, Instant},
};

/// The limit of every wait, which a busy machine does not reach.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);
const CHILD_ROOM: &str = "ROOM_SOURCE_TEST_CHILD";

pub(crate) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstroomwebrtc::plugin_register_static().unwrap();
    });
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A signaling server for one test.
pub(crate) struct Server(room_signaling_server::Running);

impl Server {
    pub(crate) fn start() -> Self {
        Self::on(([127, 0, 0, 1], 0).into())
    }

    fn on(listen: std::net::SocketAddr) -> Self {
        let config = room_signaling_server::Config { listen: vec![listen], ..Default::default() };
        Self(room_signaling_server::spawn_thread(config).unwrap())
    }

    /// Stops the server and starts it again after `away`, with an empty state like that of a new process.
    pub(crate) fn restart(self, away: Duration) -> Self {
        let address = self.0.local_addr();
        self.0.stop().unwrap();
        std::thread::sleep(away);
        Self::on(address)
    }

    pub(crate) fn uri(&self) -> String {
        format!("ws://{}", self.0.local_addr())
    }

    pub(crate) fn address(&self) -> String {
        self.0.local_addr().to_string()
    }

    /// The properties with which an element joins the room `living_room` of this server.
    pub(crate) fn room(&self) -> String {
        format!("signaling-uri={} room=living_room", self.uri())
    }

    /// A sender of video with this width, by which a receiver can distinguish senders.
    pub(crate) fn sender(&self, id: &str, width: u32) -> TestPipeline {
        TestPipeline::play(&sender(&self.room(), id, width))
    }

    /// The same sender in a process of its own, which can be killed.
    pub(crate) fn sender_process(&self, id: &str, width: u32) -> Process {
        let program = std::env::current_exe().unwrap();
        let child = Command::new(program)
            .args(["--exact", "child_process", "--nocapture"])
            .env(CHILD_ROOM, sender(&self.room(), id, width))
            .stdout(std::process::Stdio::null())
            .spawn();
        Process(child.unwrap())
    }
}

/// Sends a keyframe at the start, and others on request only.
fn sender(room: &str, id: &str, width: u32) -> String {
    format!(
        "videotestsrc is-live=true ! video/x-raw,width={width},height=120,framerate=30/1 ! \
         x264enc tune=zerolatency speed-preset=ultrafast key-int-max=1000 ! \
         roomwebrtcsink name=s client-id={id} {room}"
    )
}

/// The body of the test `child_process`: if [`Server::sender_process`] started it, sends until it is killed.
pub(crate) fn be_child_process() {
    let Ok(description) = std::env::var(CHILD_ROOM) else { return };
    let line = TestPipeline::play(&description);
    line.wait(&[gst::MessageType::Error, gst::MessageType::Eos]);
}

/// A process that is killed on drop.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A pipeline that is always shut down.
pub(crate) struct TestPipeline(pub(crate) gst::Pipeline);

impl TestPipeline {
    pub(crate) fn new(description: &str) -> Self {
        init();
        // `parse::launch` does not put a single element into a pipeline.
        Self(gst::parse::launch(description).unwrap().downcast().unwrap_or_else(|element| {
            let pipeline = gst::Pipeline::new();
            pipeline.add(&element).unwrap();
            pipeline
        }))
    }

    pub(crate) fn play(description: &str) -> Self {
        let line = Self::new(description);
        // A failure is posted on the bus.
        let _ = line.0.set_state(gst::State::Playing);
        line
    }

    pub(crate) fn stop(&self) {
        self.0.set_state(gst::State::Null).unwrap();
    }

    /// The element under test, or the roomwebrtcsink of a sender.
    pub(crate) fn element(&self) -> gst::Element {
        self.0.by_name("s").unwrap()
    }

    pub(crate) fn signaling_state(&self) -> String {
        self.element().property_value("signaling-state").serialize().unwrap().into()
    }

    /// Waits for the first message of these types.
    pub(crate) fn wait(&self, types: &[gst::MessageType]) -> gst::Message {
        let patience = gst::ClockTime::from_seconds(PATIENCE.as_secs());
        self.0.bus().unwrap().timed_pop_filtered(patience, types).expect("a message in time")
    }

    /// Waits for an error and returns its text.
    pub(crate) fn error(&self) -> String {
        match self.wait(&[gst::MessageType::Error, gst::MessageType::Eos]).view() {
            gst::MessageView::Error(error) => error.error().to_string(),
            _ => panic!("the stream ended without an error"),
        }
    }

    /// Asserts that no error has been posted.
    pub(crate) fn assert_no_error(&self) {
        let error = self.0.bus().unwrap().pop_filtered(&[gst::MessageType::Error]);
        assert!(error.is_none(), "{error:?}");
    }
}

impl Drop for TestPipeline {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// A buffer that left a pad.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) pad: String,
    pub(crate) pts: gst::ClockTime,
    pub(crate) key: bool,
    pub(crate) discont: bool,
    pub(crate) media: String,
    pub(crate) width: i32,
    /// The capture time on the sender's clock.
    pub(crate) captured: Option<gst::ClockTime>,
    /// The delay from its running time to its arrival.
    pub(crate) age: Duration,
}

/// A pipeline with a roomwebrtcsrc and an appsink at each of its pads.
pub(crate) struct Watcher {
    pub(crate) line: TestPipeline,
    pub(crate) frames: Arc<Mutex<Vec<Frame>>>,
    pub(crate) pads: Arc<Mutex<Vec<String>>>,
}

impl Watcher {
    pub(crate) fn new(properties: &str) -> Self {
        init();
        let line = TestPipeline::new(&format!("roomwebrtcsrc name=s {properties}"));
        let (frames, pads) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (list, names, pipeline) = (frames.clone(), pads.clone(), line.0.downgrade());
        line.element().connect_pad_added(move |_, pad| {
            let Some(pipeline) = pipeline.upgrade() else { return };
            names.lock().unwrap().push(pad.name().to_string());
            let sink = sink(pad.name().to_string(), list.clone());
            pipeline.add(&sink).unwrap();
            sink.sync_state_with_parent().unwrap();
            pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        });
        let names = pads.clone();
        line.element().connect_no_more_pads(move |_| names.lock().unwrap().push("no more".to_owned()));
        Self { line, frames, pads }
    }

    pub(crate) fn play(properties: &str) -> Self {
        let watcher = Self::new(properties);
        watcher.line.0.set_state(gst::State::Playing).unwrap();
        watcher
    }

    /// A flag that is set when EOS passes the pad with this name.
    pub(crate) fn expect_eos(&self, pad: &str) -> Arc<std::sync::atomic::AtomicBool> {
        let passed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = passed.clone();
        let pad = self.line.element().static_pad(pad).unwrap();
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if info.event().is_some_and(|event| event.type_() == gst::EventType::Eos) {
                seen.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
        passed
    }

    /// Removes the element messages from the bus and returns those with this name.
    pub(crate) fn element_messages(&self, name: &str) -> Vec<gst::Message> {
        let bus = self.line.0.bus().unwrap();
        let all = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element]));
        all.filter(|message| message.structure().is_some_and(|fields| fields.name() == name)).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.frames.lock().unwrap().len()
    }

    pub(crate) fn all(&self) -> Vec<Frame> {
        self.frames.lock().unwrap().clone()
    }

    /// Waits for this many further frames and returns them.
    pub(crate) fn next(&self, count: usize) -> Vec<Frame> {
        let before = self.count();
        wait_until("frames arrive", || self.count() >= before + count);
        self.all().split_off(before)
    }

    /// Waits for the first frame with this width.
    pub(crate) fn first_of(&self, width: i32) -> Frame {
        let found = || self.all().into_iter().find(|frame| frame.width == width);
        wait_until(&format!("a frame of width {width}"), || found().is_some());
        found().unwrap()
    }
}

fn sink(pad: String, list: Arc<Mutex<Vec<Frame>>>) -> gst_app::AppSink {
    let sink = gst_app::AppSink::builder().sync(false).async_(false).build();
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let (buffer, caps) = (sample.buffer().unwrap(), sample.caps().unwrap());
        let caps = caps.structure(0).unwrap();
        let pts = buffer.pts().unwrap();
        let now = sink.current_running_time().unwrap_or_default();
        list.lock().unwrap().push(Frame {
            pad: pad.clone(),
            pts,
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            discont: buffer.flags().contains(gst::BufferFlags::DISCONT),
            media: caps.name().to_string(),
            width: caps.get("width").unwrap_or_default(),
            captured: buffer.meta::<gst::ReferenceTimestampMeta>().map(|meta| meta.timestamp()),
            age: Duration::from_nanos(now.saturating_sub(pts).nseconds()),
        });
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    sink
}

/// A sender made of a plain webrtcbin named `s`, which shares only the signaling client with this project. It makes one
/// offer, to the first receiver.
pub(crate) fn plain_sender(server: &Server, description: &str) -> TestPipeline {
    let line = TestPipeline::play(description);
    let webrtcbin = line.element();
    let uri = server.uri();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = ClientConfig::new(RoomId::new("living_room").unwrap(), Role::Sender, new_instance());
            let (handle, mut events) = room_signaling_client::spawn(Options::new(uri, config)).unwrap();
            while let Some(event) = events.recv().await {
                match event {
                    Event::PeerReady(peer) => offer(&webrtcbin, &handle, &peer.client_id),
                    Event::Signal(Signal { body: Body::Answer { sdp }, .. }) => {
                        let sdp = gst_sdp::SDPMessage::parse_buffer(sdp.as_bytes()).unwrap();
                        let answer = WebRTCSessionDescription::new(WebRTCSDPType::Answer, sdp);
                        webrtcbin
                            .emit_by_name::<()>("set-remote-description", &[&answer, &None::<gst::Promise>]);
                    }
                    Event::Signal(Signal { body: Body::Candidate { candidate }, .. }) => {
                        let line = candidate.sdp_m_line_index.unwrap();
                        webrtcbin.emit_by_name::<()>("add-ice-candidate", &[&line, &candidate.candidate]);
                    }
                    Event::PeerGone(..) => break,
                    _ => {}
                }
            }
        });
    });
    line
}

fn offer(webrtcbin: &gst::Element, handle: &Handle, to: &ClientId) {
    let signal = |to: &ClientId, body| Signal {
        body,
        target_id: Some(to.clone()),
        session_id: SessionId::new("plain").ok(),
        from: None,
    };
    let (candidates, id) = (handle.clone(), to.clone());
    webrtcbin.connect("on-ice-candidate", false, move |values| {
        let candidate = IceCandidate {
            candidate: values[2].get().unwrap(),
            sdp_mid: None,
            sdp_m_line_index: Some(values[1].get().unwrap()),
        };
        candidates.send(signal(&id, Body::Candidate { candidate }));
        None
    });
    // The offer needs the caps of all streams.
    wait_until("caps of what is sent", || {
        webrtcbin.sink_pads().iter().all(|pad| pad.current_caps().is_some())
    });
    let promise = gst::Promise::new();
    webrtcbin.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &promise]);
    assert_eq!(promise.wait(), gst::PromiseResult::Replied);
    let offer = promise.get_reply().unwrap().get::<WebRTCSessionDescription>("offer").unwrap();
    handle.send(signal(to, Body::Offer { sdp: offer.sdp().as_text().unwrap() }));
    webrtcbin.emit_by_name::<()>("set-local-description", &[&offer, &None::<gst::Promise>]);
}

/// Asserts that times never step back.
pub(crate) fn assert_rising(frames: &[Frame]) {
    for pair in frames.windows(2) {
        assert!(pair[0].pts < pair[1].pts, "{pair:?}");
    }
}
