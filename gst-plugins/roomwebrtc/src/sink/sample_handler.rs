//! Handles each access unit of one pad on its streaming thread: inspects the bitstream, stamps the unit with the time of
//! the media sessions, and pushes it into the fan-out.

use super::{
    bitstream::{Arrival, Bitstream, Warning},
    command_sender::CommandSender,
    conductor::Command,
    fanout::{self, Fanout, OutgoingUnit},
    timestamps::TimestampGenerator,
    timing::Timing,
};
use crate::stream_key::StreamKey;
use gst::glib;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// The handler of one appsink, owned by its streaming thread.
pub(super) struct SampleHandler {
    pub(super) bin: glib::WeakRef<super::RoomWebRtcSink>,
    pub(super) key: StreamKey,
    pub(super) fanout: Arc<Fanout>,
    pub(super) conductor: CommandSender,
    /// Set when the next unit does not follow the one before it.
    pub(super) discontinuity: Arc<AtomicBool>,
    pub(super) timing: Arc<Timing>,
    pub(super) timestamps: Arc<TimestampGenerator>,
    /// `None` if the stream ended before its codec was known.
    pub(super) bitstream: Option<Bitstream>,
}

impl SampleHandler {
    /// Handles the next sample of `sink`. A stream that cannot be sent is an error of the element.
    pub(super) fn handle(&mut self, sink: &gst_app::AppSink) -> Result<gst::FlowSuccess, gst::FlowError> {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        let Some(buffer) = sample.buffer() else { return Ok(gst::FlowSuccess::Ok) };
        let Some(bitstream) = &mut self.bitstream else { return Ok(gst::FlowSuccess::Ok) };
        if self.discontinuity.swap(false, Ordering::AcqRel) {
            bitstream.handle_discontinuity();
        }
        let arrival = Arrival {
            pts: buffer.pts().filter(|_| !self.timestamps.are_generated()),
            requests: self.fanout.keyframe_requests(),
            now: Instant::now(),
        };
        let inspected = {
            let bytes = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            bitstream.inspect(&bytes, arrival)
        };
        let inspected = inspected.map_err(|unsupported| {
            if let Some(bin) = self.bin.upgrade() {
                gst::element_error!(bin, gst::StreamError::WrongType, ("{unsupported}"));
            }
            gst::FlowError::Error
        })?;
        inspected.warnings.iter().for_each(|warning| self.warn(*warning));
        let time = self.bin.upgrade().and_then(|bin| self.timing.session_time(&bin, &sample));
        let Some(time) = time else { return Ok(gst::FlowSuccess::Ok) };
        let unit = OutgoingUnit {
            buffer: fanout::with_session_time(buffer, time),
            is_idr: inspected.is_idr,
            random_access: inspected.random_access,
        };
        if self.fanout.push(&unit) {
            self.conductor.send(Command::KeyframeNeeded(self.key));
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn warn(&self, warning: Warning) {
        if let Some(bin) = self.bin.upgrade() {
            gst::element_warning!(bin, gst::StreamError::Encode, ("{warning}"));
        }
    }
}
