//! Senders whose encoder makes no IDR picture after the first one.

use crate::bed::{Server, TestPipeline, Watcher, assert_rising, wait_until};
use gst::prelude::*;

fn warnings(line: &TestPipeline) -> Vec<String> {
    let bus = line.0.bus().unwrap();
    std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Warning]))
        .filter_map(|message| match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        })
        .collect()
}

#[test]
fn late_receivers_start_at_a_recovery_point_and_one_warning_is_posted() {
    let server = Server::start();
    let sender = TestPipeline::play(&format!(
        "videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=30/1 ! \
         x264enc tune=zerolatency intra-refresh=true key-int-max=30 ! roomwebrtcsink name=s client-id=camera {}",
        server.room()
    ));
    let stats = |name: &str| {
        sender.element().property::<gst::Structure>("stats").get::<u64>(name).unwrap_or_default()
    };
    wait_until("the only IDR picture is long gone", || stats("frames") > 40);
    let first = Watcher::play(&server.room());
    assert_rising(&first.next(60));
    wait_until("the warning", || !warnings(&sender).is_empty());

    let second = Watcher::play(&server.room());
    second.next(200);
    first.next(60);
    assert_eq!(warnings(&sender), [""; 0], "one warning");
    assert_eq!(stats("keyframes"), 1, "recovery points are no IDR pictures");
    first.line.assert_no_error();
}
