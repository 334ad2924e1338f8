//! Repeated starts and stops leak no threads, descriptors or memory.

use crate::bed::{LiveCamera, Recording, TestPipeline, color, depth, memory};
use gst::prelude::*;

/// The number of threads and of open files, and the resident memory in kB.
fn held() -> (usize, usize, usize) {
    let entries = |path: &str| std::fs::read_dir(path).unwrap().count();
    (entries("/proc/self/task"), entries("/proc/self/fd"), memory())
}

fn assert_no_leak(line: &TestPipeline, sink: &str, cycles: usize) {
    let cycle = || {
        line.play().sample(sink).unwrap();
        line.0.set_state(gst::State::Null).unwrap();
    };
    // The first cycles fill pools and caches.
    (0..cycles / 5).for_each(|_| cycle());
    let before = held();
    (0..cycles).for_each(|_| cycle());
    let after = held();
    // The number of threads in GStreamer's pool varies.
    assert!(after.0 <= before.0 + 3, "threads: {before:?} to {after:?}");
    assert!(after.1 <= before.1 + 3, "descriptors: {before:?} to {after:?}");
    assert!(after.2 <= before.2 + 8192, "memory: {before:?} to {after:?}");
}

#[test]
fn cycles_of_a_camera_leak_nothing() {
    let camera = LiveCamera::new("cycles", &[color(), depth()]);
    let _plug = camera.device.plug().unwrap();
    let line = TestPipeline::new(
        "realsensesrc name=camera serial=cycles align=color camera.depth ! queue ! appsink name=sink sync=false \
         camera.color ! queue ! fakesink",
    );
    assert_no_leak(&line, "sink", 200);
}

#[test]
fn cycles_of_a_recording_leak_nothing() {
    let recording = Recording::new("cycles", &[color(), depth()], 5);
    let line = TestPipeline::new(&format!("{} ! appsink name=sink sync=false", recording.source()));
    assert_no_leak(&line, "sink", 50);
}
