//! Limits the connections of one door ([`super::door`]): how many in all, how many from one address, how many new ones
//! a second from one address, and how many that have not completed their request.
//!
//! A connection holds a [`Seat`] for as long as it is open, and a [`Handshake`] until its request is answered.

use crate::limits::{Limits, OPERATORS, SPARE_SEATS};
use room_protocol::{network::Network, rate::Bucket};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    rc::Rc,
    time::Instant,
};
use tokio::task::AbortHandle;

/// Addresses without a connection are removed from the table when it has this many entries, and then whenever it has
/// twice as many as were left.
const SWEEP_AT: usize = 1_024;

/// The limit that a connection was turned away for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TurnedAway {
    /// [`Limits::max_connections`].
    #[error("The server has reached its limit of connections. Try again later.")]
    Full,
    /// [`Limits::max_connections_per_ip`].
    #[error("The server has reached its limit of connections from your address.")]
    AddressFull,
    /// [`Limits::new_connections_per_second`].
    #[error("Too many new connections from your address. Try again in a few seconds.")]
    AddressFast,
}

impl TurnedAway {
    /// Its label in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address_full",
            Self::AddressFast => "address_fast",
        }
    }

    /// The HTTP status of the answer.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Full => 503,
            Self::AddressFull | Self::AddressFast => 429,
        }
    }
}

/// Counts the connections of one door.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    connections: Cell<usize>,
    hosts: RefCell<Hosts>,
    handshakes: RefCell<BTreeMap<u64, AbortHandle>>,
    next_handshake: Cell<u64>,
    panics: Cell<u64>,
}

#[derive(Debug, Default)]
struct Hosts {
    known: HashMap<Network, Host>,
    /// The number of entries after the last sweep.
    kept: usize,
}

#[derive(Debug)]
struct Host {
    connections: usize,
    arrivals: Bucket,
}

impl Admission {
    /// Takes a seat at the public door, a spare one if there is no other. [`Seat::assign`] then counts it for an address.
    pub(crate) fn public_seat(self: &Rc<Self>, limits: &Limits) -> Result<Seat, TurnedAway> {
        self.seat(limits.max_connections, SPARE_SEATS)
    }

    /// Takes a seat at the operators' door. It counts for no address.
    pub(crate) fn operator_seat(self: &Rc<Self>) -> Result<Seat, TurnedAway> {
        self.seat(OPERATORS, 0)
    }

    fn seat(self: &Rc<Self>, most: usize, spare: usize) -> Result<Seat, TurnedAway> {
        let taken = self.connections.get();
        if taken >= most.saturating_add(spare) {
            return Err(TurnedAway::Full);
        }
        self.connections.set(taken + 1);
        Ok(Seat { admission: self.clone(), ip: None, is_spare: taken >= most })
    }

    /// The number of connections that have ended in a panic.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.get()
    }

    #[cfg(test)]
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// The number of connections whose request is not answered yet.
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.borrow().len()
    }

    /// Begins a handshake, which lasts until the result is dropped. [`Admission::limit_handshakes`] names its task.
    pub(crate) fn begin_handshake(self: &Rc<Self>) -> Handshake {
        let number = self.next_handshake.get();
        self.next_handshake.set(number + 1);
        Handshake { admission: self.clone(), number }
    }

    /// Remembers the task of a handshake. If there are too many, aborts the oldest, because an honest handshake takes a
    /// few round trips and the old ones are likely to be there to block others. Returns whether one was aborted.
    pub(crate) fn limit_handshakes(&self, number: u64, task: AbortHandle, limits: &Limits) -> bool {
        let oldest = {
            let mut handshakes = self.handshakes.borrow_mut();
            handshakes.insert(number, task);
            if handshakes.len() > limits.max_handshakes { handshakes.pop_first() } else { None }
        };
        oldest.inspect(|(_, oldest)| oldest.abort()).is_some()
    }
}

impl Hosts {
    fn arrive(&mut self, now: Instant, ip: IpAddr, limits: &Limits) -> Result<(), TurnedAway> {
        if self.known.len() >= SWEEP_AT.max(2 * self.kept) {
            self.known.retain(|_, host| host.connections > 0 || !host.arrivals.is_full(now));
            self.kept = self.known.len();
        }
        for network in Network::of(ip) {
            let new = || Host { connections: 0, arrivals: Bucket::new(now) };
            let host = self.known.entry(network).or_insert_with(new);
            host.arrivals.take(now, &limits.arrivals(network), 1).map_err(|_| TurnedAway::AddressFast)?;
            if host.connections >= limits.max_connections_of(network) {
                return Err(TurnedAway::AddressFull);
            }
        }
        for network in Network::of(ip) {
            if let Some(host) = self.known.get_mut(&network) {
                host.connections += 1;
            }
        }
        Ok(())
    }
}

/// A seat among the connections of a door, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    admission: Rc<Admission>,
    ip: Option<IpAddr>,
    /// It was taken when all others were.
    is_spare: bool,
}

impl Seat {
    /// Whether the connection may become a WebSocket. One on a spare seat may if another seat has become free.
    pub(crate) fn may_stay(&self, limits: &Limits) -> Result<(), TurnedAway> {
        let is_over = self.admission.connections.get() > limits.max_connections;
        if self.is_spare && is_over { Err(TurnedAway::Full) } else { Ok(()) }
    }

    /// Counts the seat for the address of the client.
    pub(crate) fn assign(&mut self, now: Instant, ip: IpAddr, limits: &Limits) -> Result<(), TurnedAway> {
        self.admission.hosts.borrow_mut().arrive(now, ip, limits)?;
        self.ip = Some(ip);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.admission.connections.set(self.admission.connections.get() - 1);
        // When a connection panics, tokio drops its task during the unwinding.
        if std::thread::panicking() {
            self.admission.panics.set(self.admission.panics.get() + 1);
        }
        for network in self.ip.into_iter().flat_map(Network::of) {
            if let Some(host) = self.admission.hosts.borrow_mut().known.get_mut(&network) {
                host.connections -= 1;
            }
        }
    }
}

/// A connection whose request is not answered yet.
#[derive(Debug)]
pub(crate) struct Handshake {
    admission: Rc<Admission>,
    number: u64,
}

impl Handshake {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.admission.handshakes.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn enter(
        admission: &Rc<Admission>,
        now: Instant,
        from: &str,
        limits: &Limits,
    ) -> Result<Seat, TurnedAway> {
        let mut seat = admission.public_seat(limits)?;
        seat.assign(now, ip(from), limits).map(|()| seat)
    }

    #[test]
    fn seats_are_given_back() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { max_connections: 3, max_connections_per_ip: 2, ..Limits::default() };
        let now = Instant::now();
        let first = enter(&admission, now, "192.0.2.1", &limits).unwrap();
        let _second = enter(&admission, now, "::ffff:192.0.2.1", &limits).unwrap();
        assert_eq!(enter(&admission, now, "192.0.2.1", &limits).unwrap_err(), TurnedAway::AddressFull);
        let _third = enter(&admission, now, "192.0.2.2", &limits).unwrap();
        let spare = enter(&admission, now, "192.0.2.3", &limits).unwrap();
        assert_eq!(spare.may_stay(&limits), Err(TurnedAway::Full));
        drop(first);
        assert_eq!(spare.may_stay(&limits), Ok(()));
        drop(spare);
        assert_eq!(admission.connections(), 2);
        enter(&admission, now, "192.0.2.1", &limits).unwrap();
    }

    #[test]
    fn spare_seats_are_limited() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { max_connections: 2, ..Limits::default() };
        let mut seats: Vec<_> =
            (0..2 + SPARE_SEATS).map(|_| admission.public_seat(&limits).unwrap()).collect();
        assert_eq!(admission.public_seat(&limits).unwrap_err(), TurnedAway::Full);
        // A connection that had a regular seat keeps it while others exceed the limit.
        assert_eq!(seats[1].may_stay(&limits), Ok(()));
        assert!(seats[2..].iter().all(|spare| spare.may_stay(&limits).is_err()));
        seats.clear();
        assert_eq!(admission.connections(), 0);
    }

    #[test]
    fn operators_have_their_own_seats() {
        let admission = Rc::<Admission>::default();
        let seats: Vec<_> = (0..OPERATORS).map(|_| admission.operator_seat().unwrap()).collect();
        assert_eq!(admission.operator_seat().unwrap_err(), TurnedAway::Full);
        drop(seats);
        admission.operator_seat().unwrap();
    }

    #[tokio::test(flavor = "local")]
    async fn a_connection_that_panics_gives_its_seat_back_and_is_counted() {
        let admission = Rc::<Admission>::default();
        let seat = admission.operator_seat().unwrap();
        let task = tokio::task::spawn_local(async move {
            let _seat = seat;
            tokio::task::yield_now().await;
            panic!("for a test");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!((admission.connections(), admission.panics()), (0, 1));
    }

    #[test]
    fn all_addresses_of_a_slash_64_count_as_one() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { max_connections_per_ip: 1, ..Limits::default() };
        let now = Instant::now();
        let _seat = enter(&admission, now, "2001:db8:1:2::1", &limits).unwrap();
        assert!(enter(&admission, now, "2001:db8:1:2:ffff:ffff:ffff:ffff", &limits).is_err());
        assert!(enter(&admission, now, "2001:db8:1:3::1", &limits).is_ok());
    }

    #[test]
    fn an_ipv6_site_may_have_the_connections_of_sixteen_hosts() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { max_connections_per_ip: 2, ..Limits::default() };
        let seats: Vec<_> = (0..100)
            .map_while(|n| enter(&admission, Instant::now(), &format!("2001:db8:1:{n:x}::1"), &limits).ok())
            .collect();
        assert_eq!(seats.len(), 32);
        assert!(enter(&admission, Instant::now(), "2001:db8:2::1", &limits).is_ok());
        drop(seats);
        assert!(enter(&admission, Instant::now(), "2001:db8:1::1", &limits).is_ok());
    }

    #[test]
    fn an_ipv6_site_may_have_the_new_connections_of_sixteen_hosts() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { new_connections_per_second: 10.try_into().unwrap(), ..Limits::default() };
        let now = Instant::now();
        let come = |n: usize| enter(&admission, now, &format!("2001:db8:1:{n:x}::1"), &limits);
        assert_eq!((0..1_000).filter(|n| come(*n).is_ok()).count(), 320);
    }

    #[test]
    fn new_connections_are_limited_even_if_they_close_immediately() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { new_connections_per_second: 10.try_into().unwrap(), ..Limits::default() };
        let mut now = Instant::now();
        let count = |now| (0..100).filter(|_| enter(&admission, now, "192.0.2.1", &limits).is_ok()).count();
        assert_eq!(count(now), 20);
        now += Duration::from_secs(1);
        assert_eq!(count(now), 10);
    }

    #[test]
    fn addresses_without_a_connection_are_forgotten() {
        let admission = Rc::<Admission>::default();
        let limits = Limits::default();
        let mut now = Instant::now();
        let stays = enter(&admission, now, "192.0.2.1", &limits).unwrap();
        for n in 0..100_000_u32 {
            now += Duration::from_millis(1);
            let seat = enter(&admission, now, &format!("2001:db8:{:x}:{:x}::", n & 0xffff, n >> 16), &limits);
            drop(seat.unwrap());
        }
        assert!(admission.hosts.borrow().known.len() <= SWEEP_AT);
        drop(stays);
        assert_eq!(admission.connections(), 0);
    }

    #[tokio::test(flavor = "local")]
    async fn the_oldest_handshake_is_aborted() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { max_handshakes: 2, ..Limits::default() };
        let mut tasks = Vec::new();
        for expected in [false, false, true] {
            let handshake = admission.begin_handshake();
            let number = handshake.number();
            let task = tokio::task::spawn_local(async move {
                std::future::pending::<()>().await;
                drop(handshake);
            });
            assert_eq!(admission.limit_handshakes(number, task.abort_handle(), &limits), expected);
            tasks.push(task);
        }
        assert!(tasks.remove(0).await.unwrap_err().is_cancelled());
        assert_eq!(admission.handshakes(), 2);
        assert!(tasks.iter().all(|task| !task.is_finished()));
    }
}
