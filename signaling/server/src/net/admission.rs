//! Who may connect: so many in all, so many from one address and so many newcomers a second from there, and so many
//! who have not made their request yet.

use crate::limits::{Limits, OPERATORS, SPARE_PLACES};
use room_protocol::{network::Network, rate::Bucket};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    rc::Rc,
    time::Instant,
};
use tokio::task::AbortHandle;

/// Entries of addresses that nobody is connected from are looked for when there are this many, and then whenever
/// there are twice as many as were left.
const SWEEP_AT: usize = 1_024;

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// [`Limits::max_connections`].
    #[error("This server has as many connections as it takes. Try again later.")]
    Full,
    /// [`Limits::max_connections_per_ip`].
    #[error("This server has as many connections from your address as it takes.")]
    AddressFull,
    /// [`Limits::new_connections_per_second`].
    #[error("Too many connections from your address in a short time. Try again in a few seconds.")]
    AddressFast,
}

impl Refusal {
    /// What metrics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address_full",
            Self::AddressFast => "address_fast",
        }
    }

    /// The status that says so over HTTP.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Full => 503,
            Self::AddressFull | Self::AddressFast => 429,
        }
    }
}

/// Counts those who are connected.
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
    /// How many there were after the last look for those that can be forgotten.
    kept: usize,
}

#[derive(Debug)]
struct Host {
    connections: usize,
    arrivals: Bucket,
}

impl Admission {
    /// Takes a place among all connections, or a spare one. The address is still to be looked at: [`Place::of`].
    pub(crate) fn place(self: &Rc<Self>, limits: &Limits) -> Result<Place, Refusal> {
        self.take(limits.max_connections, SPARE_PLACES)
    }

    /// Takes a place among the connections of operators. Their addresses do not matter.
    pub(crate) fn operator(self: &Rc<Self>) -> Result<Place, Refusal> {
        self.take(OPERATORS, 0)
    }

    fn take(self: &Rc<Self>, most: usize, spare: usize) -> Result<Place, Refusal> {
        let taken = self.connections.get();
        if taken >= most.saturating_add(spare) {
            return Err(Refusal::Full);
        }
        self.connections.set(taken + 1);
        Ok(Place { admission: self.clone(), ip: None, is_spare: taken >= most })
    }

    /// How many connections have ended in a panic.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// How many connections there are.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// How many have not made their request yet, or are being answered.
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.borrow().len()
    }

    /// A handshake that lasts until this is dropped; [`Admission::run_handshake`] says which task it is.
    pub(crate) fn begin_handshake(self: &Rc<Self>) -> Handshake {
        let number = self.next_handshake.get();
        self.next_handshake.set(number + 1);
        Handshake { admission: self.clone(), number }
    }

    /// Remembers the task of a handshake. Where there are too many, the oldest is ended: an honest one takes a few
    /// round trips, so those who want to block the way are the oldest. Returns whether one was.
    pub(crate) fn run_handshake(&self, number: u64, task: AbortHandle, limits: &Limits) -> bool {
        let oldest = {
            let mut handshakes = self.handshakes.borrow_mut();
            handshakes.insert(number, task);
            if handshakes.len() > limits.max_handshakes { handshakes.pop_first() } else { None }
        };
        oldest.inspect(|(_, oldest)| oldest.abort()).is_some()
    }
}

impl Hosts {
    fn arrive(&mut self, now: Instant, ip: IpAddr, limits: &Limits) -> Result<(), Refusal> {
        if self.known.len() >= SWEEP_AT.max(2 * self.kept) {
            self.known.retain(|_, host| host.connections > 0 || !host.arrivals.is_full(now));
            self.kept = self.known.len();
        }
        for network in Network::of(ip) {
            let new = || Host { connections: 0, arrivals: Bucket::new(now) };
            let host = self.known.entry(network).or_insert_with(new);
            host.arrivals.take(now, &limits.arrivals(network), 1).map_err(|_| Refusal::AddressFast)?;
            if host.connections >= limits.max_connections_of(network) {
                return Err(Refusal::AddressFull);
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

/// A place among the connections that a server takes, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Rc<Admission>,
    ip: Option<IpAddr>,
    /// It was taken when there was no other.
    is_spare: bool,
}

impl Place {
    /// Whether the connection may become a WebSocket. A spare place may if another one has become free.
    pub(crate) fn may_stay(&self, limits: &Limits) -> Result<(), Refusal> {
        let is_over = self.admission.connections.get() > limits.max_connections;
        if self.is_spare && is_over { Err(Refusal::Full) } else { Ok(()) }
    }

    /// Counts it for the address that it is from.
    pub(crate) fn of(&mut self, now: Instant, ip: IpAddr, limits: &Limits) -> Result<(), Refusal> {
        self.admission.hosts.borrow_mut().arrive(now, ip, limits)?;
        self.ip = Some(ip);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.connections.set(self.admission.connections.get() - 1);
        // tokio drops the task of a connection while the panic unwinds it.
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

/// One who has not made its request yet, or is being answered.
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

    fn enter(admission: &Rc<Admission>, now: Instant, from: &str, limits: &Limits) -> Result<Place, Refusal> {
        let mut place = admission.place(limits)?;
        place.of(now, ip(from), limits).map(|()| place)
    }

    #[test]
    fn places_are_given_back() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { max_connections: 3, max_connections_per_ip: 2, ..Limits::default() };
        let now = Instant::now();
        let first = enter(&admission, now, "192.0.2.1", &limits).unwrap();
        let _second = enter(&admission, now, "::ffff:192.0.2.1", &limits).unwrap();
        assert_eq!(enter(&admission, now, "192.0.2.1", &limits).unwrap_err(), Refusal::AddressFull);
        let _third = enter(&admission, now, "192.0.2.2", &limits).unwrap();
        let spare = enter(&admission, now, "192.0.2.3", &limits).unwrap();
        assert_eq!(spare.may_stay(&limits), Err(Refusal::Full));
        drop(first);
        assert_eq!(spare.may_stay(&limits), Ok(()));
        drop(spare);
        assert_eq!(admission.connections(), 2);
        enter(&admission, now, "192.0.2.1", &limits).unwrap();
    }

    #[test]
    fn spare_places_end_too() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { max_connections: 2, ..Limits::default() };
        let mut places: Vec<_> = (0..2 + SPARE_PLACES).map(|_| admission.place(&limits).unwrap()).collect();
        assert_eq!(admission.place(&limits).unwrap_err(), Refusal::Full);
        // A connection that had a place keeps it while others are above the limit.
        assert_eq!(places[1].may_stay(&limits), Ok(()));
        assert!(places[2..].iter().all(|spare| spare.may_stay(&limits).is_err()));
        places.clear();
        assert_eq!(admission.connections(), 0);
    }

    #[test]
    fn operators_have_places_of_their_own() {
        let admission = Rc::<Admission>::default();
        let places: Vec<_> = (0..OPERATORS).map(|_| admission.operator().unwrap()).collect();
        assert_eq!(admission.operator().unwrap_err(), Refusal::Full);
        drop(places);
        admission.operator().unwrap();
    }

    #[tokio::test(flavor = "local")]
    async fn a_connection_that_panics_gives_its_place_back_and_is_counted() {
        let admission = Rc::<Admission>::default();
        let place = admission.operator().unwrap();
        let task = tokio::task::spawn_local(async move {
            let _place = place;
            tokio::task::yield_now().await;
            panic!("for a test");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!((admission.connections(), admission.panics()), (0, 1));
    }

    #[test]
    fn all_addresses_of_a_64_are_one() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { max_connections_per_ip: 1, ..Limits::default() };
        let now = Instant::now();
        let _place = enter(&admission, now, "2001:db8:1:2::1", &limits).unwrap();
        assert!(enter(&admission, now, "2001:db8:1:2:ffff:ffff:ffff:ffff", &limits).is_err());
        assert!(enter(&admission, now, "2001:db8:1:3::1", &limits).is_ok());
    }

    #[test]
    fn a_site_of_ipv6_has_the_connections_of_sixteen_hosts() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { max_connections_per_ip: 2, ..Limits::default() };
        let places: Vec<_> = (0..100)
            .map_while(|n| enter(&admission, Instant::now(), &format!("2001:db8:1:{n:x}::1"), &limits).ok())
            .collect();
        assert_eq!(places.len(), 32);
        assert!(enter(&admission, Instant::now(), "2001:db8:2::1", &limits).is_ok());
        drop(places);
        assert!(enter(&admission, Instant::now(), "2001:db8:1::1", &limits).is_ok());
    }

    #[test]
    fn a_site_of_ipv6_has_the_newcomers_of_sixteen_hosts() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { new_connections_per_second: 10.try_into().unwrap(), ..Limits::default() };
        let now = Instant::now();
        let come = |n: usize| enter(&admission, now, &format!("2001:db8:1:{n:x}::1"), &limits);
        assert_eq!((0..1_000).filter(|n| come(*n).is_ok()).count(), 320);
    }

    #[test]
    fn newcomers_have_a_rate_of_their_own_even_if_they_leave_at_once() {
        let admission = Rc::<Admission>::default();
        let limits = Limits { new_connections_per_second: 10.try_into().unwrap(), ..Limits::default() };
        let mut now = Instant::now();
        let count = |now| (0..100).filter(|_| enter(&admission, now, "192.0.2.1", &limits).is_ok()).count();
        assert_eq!(count(now), 20);
        now += Duration::from_secs(1);
        assert_eq!(count(now), 10);
    }

    #[test]
    fn addresses_that_nobody_is_connected_from_are_forgotten() {
        let admission = Rc::<Admission>::default();
        let limits = Limits::default();
        let mut now = Instant::now();
        let stays = enter(&admission, now, "192.0.2.1", &limits).unwrap();
        for n in 0..100_000_u32 {
            now += Duration::from_millis(1);
            let place =
                enter(&admission, now, &format!("2001:db8:{:x}:{:x}::", n & 0xffff, n >> 16), &limits);
            drop(place.unwrap());
        }
        assert!(admission.hosts.borrow().known.len() <= SWEEP_AT);
        drop(stays);
        assert_eq!(admission.connections(), 0);
    }

    #[tokio::test(flavor = "local")]
    async fn the_oldest_handshake_makes_way() {
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
            assert_eq!(admission.run_handshake(number, task.abort_handle(), &limits), expected);
            tasks.push(task);
        }
        assert!(tasks.remove(0).await.unwrap_err().is_cancelled());
        assert_eq!(admission.handshakes(), 2);
        assert!(tasks.iter().all(|task| !task.is_finished()));
    }
}
