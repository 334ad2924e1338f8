//! How pads and actions reach the conductor, which is there only while the element is running.

use super::conductor::Command;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

/// Cheap to clone; all clones reach the same conductor.
#[derive(Clone, Default)]
pub(crate) struct CommandSender(Arc<Mutex<Option<mpsc::Sender<Command>>>>);

impl CommandSender {
    /// False if no conductor is there; the command is dropped then.
    pub(crate) fn send(&self, command: Command) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_some_and(|sender| sender.send(command).is_ok())
    }

    /// From now on commands go there; returns whom they went to before.
    pub(crate) fn connect(&self, sender: Option<mpsc::Sender<Command>>) -> Option<mpsc::Sender<Command>> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), sender)
    }
}
