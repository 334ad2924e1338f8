//! The pads of one run of the element: which stream leaves which pad. New pads are named and exposed here, and pads
//! whose stream resumed in another codec are ended and removed.

use super::output::{Output, OutputContext, OutputEvent};
use crate::{codec::MediaKind, log::CAT, stream_key::StreamKey, sync::lock};
use gst::glib;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// The outputs of one run of the element.
pub(super) struct Outputs {
    context: OutputContext,
    /// `None` once the element has removed its pads.
    pads: Mutex<Option<Pads>>,
}

#[derive(Default)]
struct Pads {
    current: BTreeMap<StreamKey, Arc<Output>>,
    /// Pads whose stream resumed in another codec. Each is removed when its EOS has passed.
    ending: Vec<Arc<Output>>,
}

impl Pads {
    fn all(&self) -> impl Iterator<Item = &Arc<Output>> {
        self.current.values().chain(&self.ending)
    }

    /// The name of a new pad: that of the stream, or the next one that no pad has.
    fn free_name(&self, key: StreamKey) -> StreamKey {
        let taken = |name| self.all().any(|output| output.name() == name);
        (key.index..=u32::MAX)
            .map(|index| StreamKey { index, ..key })
            .find(|name| !taken(*name))
            .unwrap_or(key)
    }
}

impl Outputs {
    /// Creates the outputs of an element without pads.
    pub(super) fn new(context: OutputContext) -> Self {
        Self { context, pads: Mutex::new(Some(Pads::default())) }
    }

    /// Returns the output of a stream with these caps. Adds a pad to the element if there is none; if the stream had
    /// another codec, the old pad is ended. Called on the conductor only.
    pub(super) fn get_or_add(
        &self,
        key: StreamKey,
        caps: &gst::Caps,
    ) -> Result<Arc<Output>, glib::BoolError> {
        let closed = || glib::bool_error!("the element has stopped");
        let (name, replaced) = {
            let mut pads = self.lock();
            let pads = pads.as_mut().ok_or_else(closed)?;
            if let Some(output) = pads.current.get(&key).filter(|output| output.accepts(caps)) {
                return Ok(output.clone());
            }
            let replaced = pads.current.remove(&key);
            pads.ending.extend(replaced.clone());
            (pads.free_name(key), replaced)
        };
        // This calls the application, so the lock is not held.
        if let Some(replaced) = replaced {
            replaced.send_eos();
        }
        let output = Arc::new(Output::new(&self.context, (key, name), Some(caps))?);
        if let Some(pads) = self.lock().as_mut() {
            pads.current.insert(key, output.clone());
            return Ok(output);
        }
        output.remove();
        Err(closed())
    }

    /// Returns an output that another one has replaced, once EOS has passed its pad. The caller removes the pad.
    pub(super) fn remove_ended(&self, name: StreamKey) -> Option<Arc<Output>> {
        let mut pads = self.lock();
        let pads = pads.as_mut()?;
        let at = pads.ending.iter().position(|output| output.name() == name)?;
        Some(pads.ending.remove(at))
    }

    /// Sends EOS on all pads. Returns false if there are none.
    pub(super) fn send_eos(&self) -> bool {
        let outputs = self.all();
        for output in &outputs {
            output.send_eos();
        }
        !outputs.is_empty()
    }

    /// Handles an EOS event that the application sends while there are no pads. Returns false if there are pads.
    /// Downstream would wait for EOS forever, so a pad is added only to carry it, unless the caller ends the whole
    /// pipeline (`pipeline_ends`).
    pub(super) fn end_without_pads(&self, pipeline_ends: bool) -> bool {
        let mut pads = self.lock();
        if pads.as_ref().is_none_or(|pads| pads.all().next().is_some()) {
            return false;
        }
        // From now on no sender can add a pad.
        *pads = None;
        drop(pads);
        if !pipeline_ends {
            let key = StreamKey { kind: MediaKind::Video, index: 0 };
            match Output::new(&self.context, (key, key), None) {
                Ok(output) => {
                    output.send_eos();
                    *self.lock() =
                        Some(Pads { current: [(key, Arc::new(output))].into(), ending: Vec::new() });
                }
                Err(error) => gst::warning!(CAT, "no pad can be added for EOS: {error}"),
            }
        }
        (self.context.events)(OutputEvent::EndOfStream);
        true
    }

    /// Removes all pads for good. The element must be in READY.
    pub(super) fn close(&self) {
        let pads = self.lock().take();
        pads.iter().flat_map(Pads::all).for_each(|output| output.remove());
    }

    /// All outputs, ordered by stream, with those that are ending last.
    pub(super) fn all(&self) -> Vec<Arc<Output>> {
        self.lock().iter().flat_map(Pads::all).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pads>> {
        lock(&self.pads)
    }
}
