//! The memory budget: a sum, in bytes, of outbound frames that are not written, inbound bytes that are not handled, and
//! requests over HTTP with their responses. When it is exceeded, the holder of most memory has to go, never the one that
//! needs a little at that moment. `Driver::evict` (`driver/mod.rs`) enforces it,
//! through `Registry::evict_largest` (`net/registry.rs`).

use bytes::Bytes;
use room_protocol::hub::ConnId;
use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    rc::{Rc, Weak},
};
use tokio::sync::Notify;

/// Connections that hold less are not ranked, so that an ordinary message does not change the ranking. 20,000 connections
/// that stay below hold 160 MiB.
const STEP: usize = 8 << 10;

/// A holder of memory. Of holders that hold equally much, the greatest has to go first: the oldest request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// A WebSocket connection.
    Connection(ConnId),
    /// A request over HTTP, by its number.
    Request(Reverse<u64>),
}

/// The bounds, and the memory of all holders.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Bytes that one queue may hold.
    each: Cell<usize>,
    /// Bytes that all together may hold.
    all: Cell<usize>,
    /// Bytes that all together hold.
    held: Cell<usize>,
    /// The inbound part of `held`.
    inbound: Cell<usize>,
    /// The part of `held` that belongs to requests over HTTP.
    http: Cell<usize>,
    /// Connections that hold at least one [`STEP`], and all requests, by the number of steps.
    ranking: RefCell<BTreeSet<(usize, Holder)>>,
    requests: RefCell<HashMap<u64, Rc<Request>>>,
    next_request: Cell<u64>,
    /// The payload that was charged last, because its recipients are served one after the other.
    last: RefCell<Option<(usize, Weak<Charge>)>>,
}

impl Budget {
    /// Changes the bounds.
    pub(crate) fn set(&self, each: usize, all: usize) {
        self.each.set(each);
        self.all.set(all);
    }

    /// The bytes that one queue may hold.
    pub(crate) fn each(&self) -> usize {
        self.each.get()
    }

    /// The bytes that all together hold.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.get()
    }

    /// The bytes of frames that wait to be written.
    pub(crate) fn outbound(&self) -> usize {
        self.held.get().saturating_sub(self.inbound.get()).saturating_sub(self.http.get())
    }

    /// The bytes that have arrived at WebSockets and are not handled yet.
    pub(crate) fn inbound(&self) -> usize {
        self.inbound.get()
    }

    /// The bytes of requests over HTTP and their responses.
    pub(crate) fn http(&self) -> usize {
        self.http.get()
    }

    /// Whether all together hold more than they may.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.held.get() > self.all.get()
    }

    /// The holder of most memory, unless none holds much.
    pub(crate) fn largest(&self) -> Option<Holder> {
        self.ranking.borrow().last().map(|(_, holder)| *holder)
    }

    /// A charge for a payload that several queues share. `None`: the caller has the only reference.
    pub(crate) fn charge(self: &Rc<Self>, payload: &Bytes) -> Option<Rc<Charge>> {
        if payload.is_unique() {
            return None;
        }
        let mut last = self.last.borrow_mut();
        // An address is used again only after the charge for its bytes is gone.
        let address = payload.as_ptr().addr();
        let known = last.as_ref().filter(|(known, _)| *known == address);
        if let Some(charge) = known.and_then(|(_, charge)| charge.upgrade()) {
            return Some(charge);
        }
        self.add(payload.len());
        let charge = Rc::new(Charge { budget: self.clone(), bytes: payload.len() });
        *last = Some((address, Rc::downgrade(&charge)));
        Some(charge)
    }

    /// An account for a request over HTTP, which holds nothing yet.
    pub(crate) fn request(self: &Rc<Self>) -> RequestAccount {
        let number = self.next_request.get();
        self.next_request.set(number + 1);
        let request = Rc::new(Request::default());
        self.requests.borrow_mut().insert(number, request.clone());
        RequestAccount { budget: self.clone(), number, request }
    }

    /// Makes a request give its memory back: [`RequestAccount::evicted`] completes.
    pub(crate) fn evict_request(&self, number: u64) {
        let request = self.requests.borrow().get(&number).cloned();
        if let Some(request) = request {
            self.set_request(number, &request, 0);
            request.is_evicted.set(true);
            request.changed.notify_one();
        }
    }

    fn set_request(&self, number: u64, request: &Request, bytes: usize) {
        if request.is_evicted.get() {
            return;
        }
        let before = request.bytes.replace(bytes);
        self.add(bytes);
        self.subtract(before);
        self.http.set((self.http.get() + bytes).saturating_sub(before));
        let mut ranking = self.ranking.borrow_mut();
        ranking.remove(&(before / STEP, Holder::Request(Reverse(number))));
        if bytes > 0 {
            ranking.insert((bytes / STEP, Holder::Request(Reverse(number))));
        }
    }

    fn add(&self, bytes: usize) {
        self.held.set(self.held.get() + bytes);
    }

    fn subtract(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_sub(bytes));
    }
}

#[derive(Debug, Default)]
struct Request {
    bytes: Cell<usize>,
    is_evicted: Cell<bool>,
    changed: Notify,
}

/// The memory of one request over HTTP, given back when dropped.
#[derive(Debug)]
pub(crate) struct RequestAccount {
    budget: Rc<Budget>,
    number: u64,
    request: Rc<Request>,
}

impl RequestAccount {
    /// Sets the number of bytes that the request and its response hold now.
    pub(crate) fn set(&self, bytes: usize) {
        self.budget.set_request(self.number, &self.request, bytes);
    }

    /// Completes when the request has to give its memory back, because it holds most.
    pub(crate) async fn evicted(&self) {
        while !self.request.is_evicted.get() {
            self.request.changed.notified().await;
        }
    }
}

impl Drop for RequestAccount {
    fn drop(&mut self) {
        self.set(0);
        self.budget.requests.borrow_mut().remove(&self.number);
    }
}

/// Bytes that several queues share. They count once, until the last of these queues has written them.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.subtract(self.bytes);
    }
}

/// The memory of one WebSocket connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Rc<Budget>,
    conn: ConnId,
    /// Bytes that wait to be written, including those that other queues share.
    outbound: usize,
    /// The part of `outbound` that no other queue shares.
    own: usize,
    /// Bytes that have arrived and are not handled yet.
    inbound: usize,
    /// The step at which the connection is ranked; 0 if it is not.
    step: usize,
    /// A closed account counts no inbound bytes and is not ranked, because the connection is about to end.
    closed: bool,
}

impl Account {
    pub(crate) fn new(budget: Rc<Budget>, conn: ConnId) -> Self {
        Self { budget, conn, outbound: 0, own: 0, inbound: 0, step: 0, closed: false }
    }

    pub(crate) fn budget(&self) -> &Rc<Budget> {
        &self.budget
    }

    /// The bytes that wait to be written.
    pub(crate) fn outbound(&self) -> usize {
        self.outbound
    }

    /// All bytes that the connection holds, or 0 if it is about to end.
    pub(crate) fn weight(&self) -> usize {
        if self.closed { 0 } else { self.outbound + self.inbound }
    }

    /// Adds a frame of `cost` bytes. No other queue shares `own` of them.
    pub(crate) fn add(&mut self, cost: usize, own: usize) {
        self.outbound += cost;
        self.own += own;
        self.budget.add(own);
        self.rank();
    }

    /// Removes a frame.
    pub(crate) fn remove(&mut self, cost: usize, own: usize) {
        self.outbound = self.outbound.saturating_sub(cost);
        self.own = self.own.saturating_sub(own);
        self.budget.subtract(own);
        self.rank();
    }

    /// Sets the number of inbound bytes that the connection holds now.
    pub(crate) fn set_inbound(&mut self, bytes: usize) {
        let bytes = if self.closed { 0 } else { bytes };
        if bytes != self.inbound {
            self.budget.add(bytes);
            self.budget.subtract(self.inbound);
            self.budget.inbound.set((self.budget.inbound.get() + bytes).saturating_sub(self.inbound));
            self.inbound = bytes;
            self.rank();
        }
    }

    /// Closes the account, because the connection is about to end and to drop its inbound bytes.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.set_inbound(0);
        self.rank();
    }

    fn rank(&mut self) {
        let step = self.weight() / STEP;
        if step != self.step {
            let holder = Holder::Connection(self.conn);
            let mut ranking = self.budget.ranking.borrow_mut();
            ranking.remove(&(self.step, holder));
            if step > 0 {
                ranking.insert((step, holder));
            }
            self.step = step;
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.close();
        self.budget.subtract(self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(all: usize) -> Rc<Budget> {
        let budget = Rc::new(Budget::default());
        budget.set(usize::MAX, all);
        budget
    }

    fn connection(id: u64) -> Holder {
        Holder::Connection(ConnId(id))
    }

    #[test]
    fn shared_bytes_count_once_until_the_last_queue_has_written_them() {
        let budget = budget(1_000);
        let payload = Bytes::from(vec![b'x'; 600]);
        let copies = vec![payload.clone(); 100];
        let mut charges: Vec<_> = copies.iter().map(|copy| budget.charge(copy)).collect();
        assert!(charges.iter().all(Option::is_some));
        assert_eq!(budget.held(), 600);
        charges.truncate(1);
        assert_eq!(budget.held(), 600);
        charges.clear();
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_payload_with_one_recipient_needs_no_charge() {
        assert!(budget(1_000).charge(&Bytes::from(vec![b'x'; 600])).is_none());
    }

    #[test]
    fn two_payloads_are_two_charges_in_any_order() {
        let budget = budget(usize::MAX);
        let (one, two) = (Bytes::from(vec![1; 100]), Bytes::from(vec![2; 100]));
        let copies = [one.clone(), two.clone(), one.clone()];
        let charges: Vec<_> = copies.iter().map(|copy| budget.charge(copy)).collect();
        // One of them is counted twice, which is safe and happens only if recipients alternate.
        assert_eq!(budget.held(), 300);
        drop(charges);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn the_largest_connection_is_the_one_that_holds_most_in_both_directions() {
        let budget = budget(100_000);
        let mut accounts: Vec<_> = (0..4).map(|n| Account::new(budget.clone(), ConnId(n))).collect();
        accounts[0].add(20_000, 20_000);
        accounts[1].add(10_000, 10_000);
        accounts[1].set_inbound(30_000);
        accounts[2].add(STEP - 1, STEP - 1);
        assert_eq!(budget.largest(), Some(connection(1)));
        assert_eq!((budget.held(), budget.inbound()), (60_000 + STEP - 1, 30_000));
        accounts[1].set_inbound(0);
        assert_eq!(budget.largest(), Some(connection(0)));
        accounts[0].close();
        assert_eq!(
            budget.largest(),
            Some(connection(1)),
            "a connection that is about to end is not chosen again"
        );
        assert!(!budget.is_exceeded());
        accounts[3].add(70_000, 70_000);
        assert!(budget.is_exceeded());
        accounts[3].remove(70_000, 70_000);
        drop(accounts);
        assert_eq!((budget.held(), budget.inbound(), budget.largest()), (0, 0, None));
    }

    #[tokio::test]
    async fn requests_are_ranked_with_connections_and_give_their_memory_back_when_evicted() {
        let budget = budget(20_000);
        let mut account = Account::new(budget.clone(), ConnId(0));
        account.add(9_000, 9_000);
        let requests: Vec<_> = (0..3).map(|_| budget.request()).collect();
        requests[1].set(1_000);
        requests[2].set(1_000);
        assert_eq!((budget.largest(), budget.http()), (Some(connection(0)), 2_000));
        requests[0].set(30_000);
        assert!(budget.is_exceeded());
        assert_eq!(budget.largest(), Some(Holder::Request(Reverse(0))));
        budget.evict_request(0);
        requests[0].evicted().await;
        requests[0].set(30_000);
        assert_eq!((budget.held(), budget.http()), (11_000, 2_000), "an evicted request holds nothing");
        account.remove(9_000, 9_000);
        assert_eq!(budget.largest(), Some(Holder::Request(Reverse(1))), "the oldest of equal requests");
        drop((requests, account));
        assert_eq!((budget.held(), budget.http(), budget.largest()), (0, 0, None));
    }
}
