//! The memory that connections hold: outbound frames that are not written, inbound bytes that are not a whole message.
//! The sum is bounded. When it is exceeded, the connection that holds most has to go, never the one that needs a little
//! at that moment.

use bytes::Bytes;
use room_protocol::hub::ConnId;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::{Rc, Weak},
};

/// Connections that hold less are not ranked, so an ordinary message does not touch the ranking. 20,000 connections that
/// stay below hold 160 MiB.
const STEP: usize = 8 << 10;

/// The bounds, and what all connections hold together.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Bytes that one queue may hold.
    each: Cell<usize>,
    /// Bytes that all connections may hold.
    all: Cell<usize>,
    /// Bytes that all connections hold.
    held: Cell<usize>,
    /// The inbound part of that.
    inbound: Cell<usize>,
    /// Connections that hold at least a [`STEP`], by the number of steps.
    ranking: RefCell<BTreeSet<(usize, ConnId)>>,
    /// The payload that was charged last, because its recipients come one after the other.
    last: RefCell<Option<(usize, Weak<Charge>)>>,
}

impl Budget {
    /// Changes the bounds.
    pub(crate) fn set(&self, each: usize, all: usize) {
        self.each.set(each);
        self.all.set(all);
    }

    /// Bytes that one queue may hold.
    pub(crate) fn each(&self) -> usize {
        self.each.get()
    }

    /// Bytes that all connections hold.
    pub(crate) fn held(&self) -> usize {
        self.held.get()
    }

    /// Bytes that have arrived and are not a whole message yet.
    pub(crate) fn inbound(&self) -> usize {
        self.inbound.get()
    }

    /// Whether all connections hold more than they may.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.held.get() > self.all.get()
    }

    /// The connection that holds most, unless none holds much.
    pub(crate) fn largest(&self) -> Option<ConnId> {
        self.ranking.borrow().last().map(|(_, conn)| *conn)
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
        self.take(payload.len());
        let charge = Rc::new(Charge { budget: self.clone(), bytes: payload.len() });
        *last = Some((address, Rc::downgrade(&charge)));
        Some(charge)
    }

    fn take(&self, bytes: usize) {
        self.held.set(self.held.get() + bytes);
    }

    fn give_back(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_sub(bytes));
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
        self.budget.give_back(self.bytes);
    }
}

/// What one connection holds. Everything is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Rc<Budget>,
    conn: ConnId,
    /// Bytes that wait to be written, shared ones included.
    outbound: usize,
    /// Those of them that no other queue shares.
    own: usize,
    /// Bytes that have arrived and are not a whole message yet.
    inbound: usize,
    /// The place in the ranking; 0 is none.
    step: usize,
    /// Closed accounts take nothing inbound and are not ranked, because the connection is about to end.
    closed: bool,
}

impl Account {
    pub(crate) fn new(budget: Rc<Budget>, conn: ConnId) -> Self {
        Self { budget, conn, outbound: 0, own: 0, inbound: 0, step: 0, closed: false }
    }

    pub(crate) fn budget(&self) -> &Rc<Budget> {
        &self.budget
    }

    /// Bytes that wait to be written.
    pub(crate) fn outbound(&self) -> usize {
        self.outbound
    }

    /// Everything that the connection holds, or 0 if it is about to end.
    pub(crate) fn weight(&self) -> usize {
        if self.closed { 0 } else { self.outbound + self.inbound }
    }

    /// Counts a frame: `cost` bytes, `own` of which no other queue shares.
    pub(crate) fn add(&mut self, cost: usize, own: usize) {
        self.outbound += cost;
        self.own += own;
        self.budget.take(own);
        self.rank();
    }

    /// Gives a frame back.
    pub(crate) fn remove(&mut self, cost: usize, own: usize) {
        self.outbound = self.outbound.saturating_sub(cost);
        self.own = self.own.saturating_sub(own);
        self.budget.give_back(own);
        self.rank();
    }

    /// Says how many inbound bytes the connection holds now.
    pub(crate) fn set_inbound(&mut self, bytes: usize) {
        let bytes = if self.closed { 0 } else { bytes };
        if bytes != self.inbound {
            self.budget.take(bytes);
            self.budget.give_back(self.inbound);
            self.budget.inbound.set(self.budget.inbound.get() + bytes - self.inbound);
            self.inbound = bytes;
            self.rank();
        }
    }

    /// The connection is about to end: its inbound bytes are about to be dropped.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.set_inbound(0);
        self.rank();
    }

    fn rank(&mut self) {
        let step = self.weight() / STEP;
        if step != self.step {
            let mut ranking = self.budget.ranking.borrow_mut();
            ranking.remove(&(self.step, self.conn));
            if step > 0 {
                ranking.insert((step, self.conn));
            }
            self.step = step;
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.close();
        self.budget.give_back(self.own);
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
    fn two_payloads_are_two_charges_whatever_their_order() {
        let budget = budget(usize::MAX);
        let (one, two) = (Bytes::from(vec![1; 100]), Bytes::from(vec![2; 100]));
        let copies = [one.clone(), two.clone(), one.clone()];
        let charges: Vec<_> = copies.iter().map(|copy| budget.charge(copy)).collect();
        // Counting one of them twice is the safe side; it happens only where recipients alternate.
        assert_eq!(budget.held(), 300);
        drop(charges);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn the_largest_is_the_one_that_holds_most_of_both_directions() {
        let budget = budget(100_000);
        let mut accounts: Vec<_> = (0..4).map(|n| Account::new(budget.clone(), ConnId(n))).collect();
        accounts[0].add(20_000, 20_000);
        accounts[1].add(10_000, 10_000);
        accounts[1].set_inbound(30_000);
        accounts[2].add(STEP - 1, STEP - 1);
        assert_eq!(budget.largest(), Some(ConnId(1)));
        assert_eq!((budget.held(), budget.inbound()), (60_000 + STEP - 1, 30_000));
        accounts[1].set_inbound(0);
        assert_eq!(budget.largest(), Some(ConnId(0)));
        accounts[0].close();
        assert_eq!(budget.largest(), Some(ConnId(1)), "one that is about to end is not chosen again");
        assert!(!budget.is_exceeded());
        accounts[3].add(70_000, 70_000);
        assert!(budget.is_exceeded());
        accounts[3].remove(70_000, 70_000);
        drop(accounts);
        assert_eq!((budget.held(), budget.inbound(), budget.largest()), (0, 0, None));
    }
}
