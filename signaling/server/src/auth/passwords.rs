//! Verifies passwords beside the server's thread: two at a time, in turns between networks, and no more waiting than can
//! be done while clients still wait for the result.

use super::password;
use ring::hmac;
use room_protocol::{
    hub::{ConnId, PasswordHash, Secret, Verdict},
    network::Network,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
};
use tokio::{sync::Notify, task::spawn_blocking};

/// How many are verified at a time. Each takes 19 MiB and a core meanwhile.
pub(crate) const AT_A_TIME: usize = 2;
/// How far the thread of a verification yields to others (setpriority(2), of the calling thread).
const NICE: i32 = 10;
/// How many may wait: some seconds of work. Clients wait for ten.
const MAX_WAITING: usize = 256;

/// One password to be verified.
#[derive(Debug)]
pub(crate) struct Job {
    /// The connection that sent it.
    pub(crate) conn: ConnId,
    hash: PasswordHash,
    password: Secret,
}

/// The passwords that wait to be verified.
#[derive(Debug)]
pub(crate) struct Passwords {
    waiting: RefCell<Waiting>,
    arrived: Notify,
    /// The passwords that are known to be correct, by their hashes, so that a room that comes back all at once does not
    /// wait for hundreds of hashes of one password. They are kept as codes that are worth nothing outside this process.
    right: RefCell<HashMap<PasswordHash, hmac::Tag>>,
    key: hmac::Key,
}

/// A queue for each network, so that no network waits behind the crowd of another one.
#[derive(Debug, Default)]
struct Waiting {
    networks: BTreeMap<Network, VecDeque<Job>>,
    /// The networks in order of their turns.
    turns: VecDeque<Network>,
    count: usize,
}

impl Waiting {
    /// Adds a job. If that is one too many, returns the one that has to go: the last of the network that has most.
    fn push(&mut self, ip: IpAddr, job: Job) -> Option<Job> {
        // With IPv6 the largest network of an address, because a site has 65,536 of the smaller ones.
        let network = Network::of(ip).last().unwrap_or(Network::of_host(ip));
        let queue = self.networks.entry(network).or_default();
        if queue.is_empty() {
            self.turns.push_back(network);
        }
        queue.push_back(job);
        self.count += 1;
        if self.count <= MAX_WAITING {
            return None;
        }
        let most = self.networks.iter().max_by_key(|(_, queue)| queue.len()).map(|(network, _)| *network)?;
        let queue = self.networks.get_mut(&most)?;
        let job = queue.pop_back();
        if queue.is_empty() {
            self.networks.remove(&most);
            self.turns.retain(|network| *network != most);
        }
        self.count -= usize::from(job.is_some());
        job
    }

    fn pop(&mut self) -> Option<Job> {
        let network = self.turns.pop_front()?;
        let queue = self.networks.get_mut(&network)?;
        let job = queue.pop_front();
        if queue.is_empty() {
            self.networks.remove(&network);
        } else {
            self.turns.push_back(network);
        }
        self.count -= usize::from(job.is_some());
        job
    }
}

impl Passwords {
    /// Without anything to verify. The seed has to be a secret of this process.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        // Not the seed itself, because others derive secrets from it as well.
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), b"passwords");
        Self {
            waiting: RefCell::default(),
            arrived: Notify::new(),
            right: RefCell::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
        }
    }

    /// Takes a password that a connection from this address sent. Returns a verdict that is known at once: this one's, or
    /// that of the one which had to make way for it.
    pub(crate) fn take(
        &self,
        conn: ConnId,
        ip: IpAddr,
        hash: PasswordHash,
        password: Secret,
    ) -> Option<(ConnId, Verdict)> {
        if self.right.borrow().get(&hash).is_some_and(|tag| self.is(tag, &password)) {
            return Some((conn, Verdict::Passed));
        }
        let displaced = self.waiting.borrow_mut().push(ip, Job { conn, hash, password });
        self.arrived.notify_one();
        displaced.map(|job| (job.conn, Verdict::Busy))
    }

    /// How many wait to be checked.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.borrow().count
    }

    /// The next password, once there is one.
    pub(crate) async fn next(&self) -> Job {
        loop {
            let job = self.waiting.borrow_mut().pop();
            match job {
                Some(job) => return job,
                None => self.arrived.notified().await,
            }
        }
    }

    /// Verifies a password.
    pub(crate) async fn check(&self, job: Job) -> Verdict {
        let Job { hash, password, .. } = job;
        let (copy, known) = ((hash.clone(), password.clone()), hash);
        // A panic in there would be a bug of the library. It lets nobody in.
        let right = spawn_blocking(move || {
            // On a machine with two cores, two of these would take both from the server. If the system refuses, the
            // password is verified all the same.
            let _ = rustix::process::setpriority_process(None, NICE);
            password::is_right(copy.0.expose(), copy.1.expose())
        });
        let right = right.await;
        if !right.unwrap_or(false) {
            return Verdict::Refused(String::new());
        }
        self.right.borrow_mut().insert(known, self.code(&password));
        Verdict::Passed
    }

    /// Forgets which passwords are correct, except those of hashes that are still in use.
    pub(crate) fn keep(&self, is_used: impl Fn(&PasswordHash) -> bool) {
        self.right.borrow_mut().retain(|hash, _| is_used(hash));
    }

    fn code(&self, password: &Secret) -> hmac::Tag {
        hmac::sign(&self.key, password.expose().as_bytes())
    }

    fn is(&self, tag: &hmac::Tag, password: &Secret) -> bool {
        hmac::verify(&self.key, password.expose().as_bytes(), tag.as_ref()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(conn: u64) -> Job {
        Job { conn: ConnId(conn), hash: PasswordHash::new("hash"), password: Secret::new("password") }
    }

    #[test]
    fn networks_take_turns() {
        let mut waiting = Waiting::default();
        let (crowd, honest) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for conn in 0..100 {
            assert!(waiting.push(crowd, job(conn)).is_none());
        }
        for conn in 100..102 {
            assert!(waiting.push(honest, job(conn)).is_none());
        }
        let order: Vec<_> = (0..6).filter_map(|_| waiting.pop()).map(|job| job.conn.0).collect();
        assert_eq!(order, [0, 100, 1, 101, 2, 3], "of each network in order");
    }

    #[test]
    fn the_network_that_has_most_makes_way() {
        let mut waiting = Waiting::default();
        let crowd = |n: u64| IpAddr::from([10, 0, 0, u8::try_from(n % 52).unwrap()]);
        for conn in 0..MAX_WAITING as u64 {
            assert!(waiting.push(crowd(conn), job(conn)).is_none());
        }
        let honest = IpAddr::from([10, 0, 1, 1]);
        let displaced = waiting.push(honest, job(1_000)).expect("one too many");
        assert!(displaced.conn.0 >= 204, "{displaced:?} was not the last of its network");
        let place = (0..MAX_WAITING).find(|_| waiting.pop().is_some_and(|job| job.conn.0 == 1_000));
        assert!(place.is_some_and(|place| place <= 52), "{place:?}: it is behind one of each network");
        while waiting.pop().is_some() {}
        assert_eq!((waiting.count, waiting.networks.len(), waiting.turns.len()), (0, 0, 0));
    }

    #[test]
    fn a_site_of_ipv6_is_one_network_and_displaces_itself() {
        let mut waiting = Waiting::default();
        for conn in 0..2 * MAX_WAITING as u64 {
            let displaced = waiting.push(format!("2001:db8:1:{conn:x}::1").parse().unwrap(), job(conn));
            assert_eq!(displaced.map(|job| job.conn.0), (conn >= MAX_WAITING as u64).then_some(conn));
        }
        assert!(waiting.push("2001:db8:2::1".parse().unwrap(), job(9_999)).is_some());
        assert_eq!(
            [waiting.pop(), waiting.pop()].map(|job| job.map(|job| job.conn.0)),
            [Some(0), Some(9_999)]
        );
    }
}
