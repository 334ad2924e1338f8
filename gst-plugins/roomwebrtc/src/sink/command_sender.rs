//! Sends commands to the conductor, which exists only while the element is in PAUSED or PLAYING.

use super::conductor::Command;
use crate::sync::lock;
use std::sync::{Arc, Mutex, mpsc};

/// All clones send to the same conductor.
#[derive(Clone, Default)]
pub(crate) struct CommandSender(Arc<Mutex<Option<mpsc::Sender<Command>>>>);

impl CommandSender {
    /// Sends a command. Returns false and drops the command if there is no conductor.
    pub(crate) fn send(&self, command: Command) -> bool {
        let sender = lock(&self.0);
        sender.as_ref().is_some_and(|sender| sender.send(command).is_ok())
    }

    /// Blocks every `send` while the guard exists.
    #[cfg(test)]
    pub(crate) fn block(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Command>>> {
        lock(&self.0)
    }

    /// Connects all clones to a conductor, or to none. Returns the sender that was connected before.
    pub(crate) fn connect(&self, sender: Option<mpsc::Sender<Command>>) -> Option<mpsc::Sender<Command>> {
        std::mem::replace(&mut *lock(&self.0), sender)
    }
}
