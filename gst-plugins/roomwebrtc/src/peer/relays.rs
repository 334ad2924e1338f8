//! Releases the allocations at TURN servers when a session ends.
//!
//! webrtcbin drops its ICE agent without releasing them (GStreamer 1.22 to 1.26), so a relay keeps a port of each
//! session for ten more minutes. libnice can end these allocations, by a function that no binding covers. It is looked up in
//! the library that webrtcbin has loaded.

use crate::log::CAT;
use gst::{glib, prelude::*};
use gst_webrtc::WebRTCICE;
use std::{
    ffi::c_void,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

/// The library by the name that programs are linked to.
const LIBNICE: &str = "libnice.so.10";
/// How long the end of a session waits for the servers to confirm. Their answers take one round trip.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long libnice may repeat its requests to a server that does not answer. Its own limit is shorter.
const LIMIT: Duration = Duration::from_secs(30);

/// `nice_agent_close_async(agent, callback, callback_data)`
type CloseAsync = unsafe extern "C" fn(*mut glib::gobject_ffi::GObject, Option<Closed>, *mut c_void);
/// `GAsyncReadyCallback`: agent, result, `callback_data`.
type Closed = unsafe extern "C" fn(*mut glib::gobject_ffi::GObject, *mut c_void, *mut c_void);

/// libnice has had it since 0.1.16.
static CLOSE: LazyLock<Option<CloseAsync>> = LazyLock::new(|| {
    // SAFETY: webrtcbin is linked to this library, so its initializers have run before.
    let library = unsafe { libloading::Library::new(LIBNICE) };
    let library = library.inspect_err(|error| gst::warning!(CAT, "relays keep their ports: {error}")).ok()?;
    // SAFETY: the type is that of the function in libnice's header nice/agent.h.
    let close = unsafe { library.get::<CloseAsync>("nice_agent_close_async") }.ok().map(|symbol| *symbol);
    // It stays loaded as long as the function may be called.
    std::mem::forget(library);
    close
});

/// Releases the allocations of this webrtcbin at TURN servers. Must be called after the webrtcbin has stopped. Blocks for a
/// round trip to the servers, at most for a second.
pub(super) fn release(webrtcbin: &gst::Element) {
    let Some(close) = *CLOSE else { return };
    let Some(ice) = webrtcbin.property::<Option<WebRTCICE>>("ice-agent") else { return };
    let (done, confirmed) = mpsc::channel::<()>();
    let work = move || {
        // A thread of `ice`, which ends with it, sends the requests and reads the answers.
        let agent = ice.find_property("agent").and_then(|_| ice.property::<Option<glib::Object>>("agent"));
        if let Some(agent) = agent {
            close_agent(close, &agent);
        }
        drop(ice);
        drop(done);
    };
    match std::thread::Builder::new().name("room-relay-end".into()).spawn(work) {
        // An error means that the time is up, or that the thread is done.
        Ok(_) => drop(confirmed.recv_timeout(PATIENCE)),
        Err(error) => gst::warning!(CAT, "relays keep their ports, as there is no thread: {error}"),
    }
}

/// Calls the function and runs the main loop that its callback needs.
fn close_agent(close: CloseAsync, agent: &glib::Object) {
    let context = glib::MainContext::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let expired = is_over.clone();
    let limit = glib::timeout_source_new(LIMIT, None, glib::Priority::DEFAULT, move || {
        expired.store(true, Ordering::Relaxed);
        glib::ControlFlow::Break
    });
    limit.attach(Some(&context));
    let run = context.with_thread_default(|| {
        let data = Arc::into_raw(is_over.clone()).cast_mut().cast();
        // SAFETY: the agent is a NiceAgent that lives meanwhile; `on_closed` gets `data` once, which owns a reference.
        unsafe { close(agent.as_ptr(), Some(on_closed), data) };
        while !is_over.load(Ordering::Relaxed) {
            context.iteration(true);
        }
    });
    if let Err(error) = run {
        gst::warning!(CAT, "relays keep their ports: {error}");
    }
    limit.destroy();
}

/// All allocations have ended.
///
/// # Safety
///
/// `data` must be an `Arc<AtomicBool>` turned into a pointer.
unsafe extern "C" fn on_closed(_: *mut glib::gobject_ffi::GObject, _: *mut c_void, data: *mut c_void) {
    // SAFETY: as above; called once for each pointer.
    let is_over = unsafe { Arc::from_raw(data.cast_const().cast::<AtomicBool>()) };
    is_over.store(true, Ordering::Relaxed);
}
