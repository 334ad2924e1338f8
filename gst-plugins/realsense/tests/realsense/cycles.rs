//! Starting and stopping for ever leaves nothing behind.

use crate::bed::{Line, LiveCamera, Recording, color, depth, memory};
use gst::prelude::*;

/// Threads, open files, and memory in kilobytes of this process.
fn held() -> (usize, usize, usize) {
    let entries = |path: &str| std::fs::read_dir(path).unwrap().count();
    (entries("/proc/self/task"), entries("/proc/self/fd"), memory())
}

fn stays(line: &Line, sink: &str, cycles: usize) {
    let cycle = || {
        line.play().sample(sink).unwrap();
        line.0.set_state(gst::State::Null).unwrap();
    };
    // Pools and caches fill first.
    (0..cycles / 5).for_each(|_| cycle());
    let before = held();
    (0..cycles).for_each(|_| cycle());
    let after = held();
    // Threads of GStreamer's pool come and go.
    assert!(after.0 <= before.0 + 3, "threads: {before:?} to {after:?}");
    assert!(after.1 <= before.1 + 3, "descriptors: {before:?} to {after:?}");
    assert!(after.2 <= before.2 + 8192, "memory: {before:?} to {after:?}");
}

#[test]
fn of_a_camera() {
    let camera = LiveCamera::new("cycles", &[color(), depth()]);
    let _plug = camera.device.plug().unwrap();
    let line = Line::new(
        "realsensesrc name=camera serial=cycles align=color camera.depth ! queue ! appsink name=sink sync=false \
         camera.color ! queue ! fakesink",
    );
    stays(&line, "sink", 200);
}

#[test]
fn of_a_recording() {
    let recording = Recording::new("cycles", &[color(), depth()], 5);
    let line = Line::new(&format!("{} ! appsink name=sink sync=false", recording.source()));
    stays(&line, "sink", 50);
}
