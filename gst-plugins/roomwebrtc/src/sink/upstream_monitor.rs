//! Finds the element that produces the stream of a pad, configures an encoder for low latency, and reports what delays or
//! spoils the stream. The settings of each encoder are in `tuning.rs`, the search is in `upstream.rs`.

use super::{
    tuning::{self, TuningOutcome},
    upstream::{self, Producer, SizeWatch},
};
use crate::{h264_repair::H264Repair, log::CAT, sync::lock};
use gst::prelude::*;
use std::sync::{Mutex, MutexGuard};

/// An encoder that adds more latency than this is reported.
const MAX_ENCODER_LATENCY: gst::ClockTime = gst::ClockTime::from_mseconds(200);

/// The monitor of one pad.
#[derive(Default)]
pub(crate) struct UpstreamMonitor(Mutex<Option<Monitored>>);

/// The element that produces the stream.
struct Monitored {
    element: gst::Element,
    _probes: Option<Probes>,
    reported_latency: bool,
    reported_too_late: bool,
}

/// Probes in the element, which are removed with this value.
enum Probes {
    Repair { _repair: H264Repair },
    Size { _watch: SizeWatch },
}

impl UpstreamMonitor {
    fn lock(&self) -> MutexGuard<'_, Option<Monitored>> {
        lock(&self.0)
    }

    /// Searches for the element that feeds `pad`, and monitors it. If `tunes`, configures an encoder for low latency.
    pub(crate) fn update(&self, bin: &super::RoomWebRtcSink, pad: &gst::Pad, tunes: bool) {
        let producer = upstream::producer(pad);
        let mut monitored = self.lock();
        let Some(producer) = producer else {
            *monitored = None;
            return;
        };
        if monitored.as_ref().is_none_or(|monitored| monitored.element != *producer.element()) {
            *monitored = Some(Monitored::new(bin, &producer));
        }
        drop(monitored);
        if tunes && let Producer::Encoder(encoder) = producer {
            self.tune(bin, &encoder);
        }
    }

    /// Removes the probes.
    pub(crate) fn clear(&self) {
        *self.lock() = None;
    }

    /// Configures an encoder, and posts which properties were set.
    fn tune(&self, bin: &super::RoomWebRtcSink, encoder: &gst::Element) {
        match tuning::tune(encoder) {
            TuningOutcome::Set(set) if set.is_empty() => {}
            TuningOutcome::Set(set) => {
                let set = set.join(" ");
                gst::info!(CAT, obj = bin, "configured {} for low latency: {set}", encoder.name());
                let message = gst::Structure::builder("room-upstream-tuned")
                    .field("encoder", encoder.name().as_str())
                    .field("properties", set)
                    .build();
                // Fails only without a bus.
                let _ = bin.post_message(gst::message::Element::builder(message).src(bin).build());
            }
            TuningOutcome::TooLate(needed) => {
                if self.is_first_report(|monitored| &mut monitored.reported_too_late) {
                    gst::element_warning!(
                        bin,
                        gst::StreamError::Encode,
                        (
                            "{} is already encoding and cannot be configured for low latency: set {} before it starts",
                            encoder.name(),
                            needed.join(" ")
                        )
                    );
                }
            }
            TuningOutcome::Unknown => {
                gst::info!(CAT, obj = bin, "no low-latency settings are known for {}", encoder.name());
            }
        }
    }

    /// Reports an encoder that delays the stream. The latency of other elements, such as a jitter buffer, does not matter,
    /// because the sink does not wait for it.
    pub(crate) fn report_latency(&self, bin: &super::RoomWebRtcSink, pad: &gst::Pad) {
        let Some(Producer::Encoder(encoder)) = upstream::producer(pad) else { return };
        let latency = upstream::latency_of(&encoder);
        let Some(latency) = latency.filter(|latency| *latency > MAX_ENCODER_LATENCY) else { return };
        if self.is_first_report(|monitored| &mut monitored.reported_latency) {
            gst::element_warning!(
                bin,
                gst::StreamError::Encode,
                (
                    "{} delays the stream by {} ms: configure it for low latency (no B-frames, no lookahead; \
                     x264enc: tune=zerolatency)",
                    encoder.name(),
                    latency.mseconds()
                )
            );
        }
    }

    /// Sets a flag of the monitored element. Returns whether the flag was unset.
    fn is_first_report(&self, flag: impl FnOnce(&mut Monitored) -> &mut bool) -> bool {
        let mut monitored = self.lock();
        monitored.as_mut().is_none_or(|monitored| !std::mem::replace(flag(monitored), true))
    }
}

impl Monitored {
    fn new(bin: &super::RoomWebRtcSink, producer: &Producer) -> Self {
        let element = producer.element().clone();
        let probes = match producer {
            Producer::Encoder(encoder) => {
                SizeWatch::new(encoder, bin).map(|watch| Probes::Size { _watch: watch })
            }
            Producer::Depayloader(depayloader) => depayloader
                .factory()
                .filter(|factory| factory.name() == "rtph264depay")
                .map(|_| Probes::Repair { _repair: H264Repair::new(depayloader) }),
        };
        Self { element, _probes: probes, reported_latency: false, reported_too_late: false }
    }
}
