//! Converts a panic of a thread into an error of the element that the thread belongs to.

use gst::{glib, prelude::*};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`, whose name for users is `what`. If it panics, the element posts an ERROR, so that the application stops or
/// restarts the pipeline. Otherwise, media that still flows would hide that nothing else works.
pub(crate) fn run(element: &glib::WeakRef<impl IsA<gst::Element>>, what: &str, work: impl FnOnce()) {
    // Unwind safety: the state that `work` leaves behind is only torn down afterwards.
    let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else { return };
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    if let Some(element) = element.upgrade() {
        gst::element_error!(
            element,
            gst::CoreError::Failed,
            ("{what} panicked: {text}; stop the element and start it again"),
            ["please report this with the log (GST_DEBUG=roomwebrtc:6)"]
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_on_the_bus() {
        gst::init().expect("GStreamer");
        let pipeline = gst::Pipeline::new();
        let element = gst::ElementFactory::make("fakesink").build().expect("an element");
        pipeline.add(&element).expect("added");
        let bus = pipeline.bus().expect("a bus");
        let error = || match bus.pop_filtered(&[gst::MessageType::Error])?.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        };
        run(&element.downgrade(), "the conductor", || ());
        assert_eq!(error(), None);
        let parse = |text: &str| text.parse::<u32>().expect("a number");
        run(&element.downgrade(), "the conductor", || assert_eq!(parse("none"), 0));
        assert!(error().is_some_and(|text| text.contains("the conductor panicked: a number")));
        run(&element.downgrade(), "the conductor", || panic!("{} of {}", 1, 2));
        assert!(error().is_some_and(|text| text.contains("panicked: 1 of 2")));
    }
}
