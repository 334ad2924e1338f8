//! The open WebSocket connections: the queue and the address of each, and the memory budget that they share.

use super::{
    budget::{Holder, RequestAccount},
    queue::{Queue, Shared},
};
use room_protocol::hub::ConnId;
use std::{
    cell::{Cell, Ref, RefCell},
    cmp::Reverse,
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
};
use tokio::sync::Notify;

/// All open WebSocket connections.
#[derive(Debug)]
pub(crate) struct Registry {
    entries: RefCell<HashMap<ConnId, OpenConnection>>,
    queues: Rc<Shared>,
    next_id: Cell<u64>,
    /// Notified when a connection has ended.
    closed: Notify,
}

/// One open WebSocket connection.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    pub(crate) queue: Rc<Queue>,
    /// The client's address, behind trusted proxies too.
    pub(crate) address: SocketAddr,
}

impl Registry {
    /// `max_queue` and `max_queues`: the bounds of the memory budget, in bytes.
    pub(crate) fn new(max_queue: usize, max_queues: usize) -> Self {
        let queues = Shared::new();
        queues.budget().set(max_queue, max_queues);
        Self {
            entries: RefCell::default(),
            queues: Rc::new(queues),
            next_id: Cell::new(0),
            closed: Notify::new(),
        }
    }

    /// The state that all queues share: the memory budget and the measurements.
    pub(crate) fn queues(&self) -> &Shared {
        &self.queues
    }

    /// Adds a connection. Ids are never used again.
    pub(crate) fn open(&self, address: SocketAddr) -> (ConnId, Rc<Queue>) {
        let id = ConnId(self.next_id.replace(self.next_id.get() + 1));
        let queue = Rc::new(Queue::new(id, self.queues.clone()));
        self.entries.borrow_mut().insert(id, OpenConnection { queue: queue.clone(), address });
        (id, queue)
    }

    /// Removes a connection, and returns its address.
    pub(crate) fn close(&self, id: ConnId) -> Option<SocketAddr> {
        let entry = self.entries.borrow_mut().remove(&id);
        self.closed.notify_one();
        entry.map(|entry| entry.address)
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<Ref<'_, OpenConnection>> {
        Ref::filter_map(self.entries.borrow(), |entries| entries.get(&id)).ok()
    }

    /// The number of open connections.
    pub(crate) fn count(&self) -> usize {
        self.entries.borrow().len()
    }

    /// The bytes that the connection which holds most holds.
    pub(crate) fn largest(&self) -> usize {
        self.entries.borrow().values().map(|entry| entry.queue.weight()).max().unwrap_or(0)
    }

    /// An account for the memory of a request over HTTP.
    pub(crate) fn request_account(&self) -> RequestAccount {
        self.queues.budget().request()
    }

    /// While the budget is exceeded: makes the requests that hold most give their memory back, until a connection holds
    /// most. Overflows the queue of that connection and returns its id, so that the driver closes it.
    pub(crate) fn evict_largest(&self) -> Option<ConnId> {
        let budget = self.queues.budget();
        let entries = self.entries.borrow();
        let id = loop {
            if !budget.is_exceeded() {
                return None;
            }
            match budget.largest() {
                Some(Holder::Request(Reverse(number))) => budget.evict_request(number),
                Some(Holder::Connection(id)) => break id,
                // With tiny limits, no connection may be large enough to be ranked.
                None => break *entries.iter().max_by_key(|(_, entry)| entry.queue.weight())?.0,
            }
        };
        let OpenConnection { queue, .. } = entries.get(&id).filter(|entry| entry.queue.weight() > 0)?;
        queue.overflow();
        queue.part();
        Some(id)
    }

    /// Waits until no connection is open.
    pub(crate) async fn all_closed(&self) {
        while self.count() > 0 {
            self.closed.notified().await;
        }
    }
}
