//! Verifies passwords outside of the server's thread, two at a time. Networks take turns, and the queue is no longer than
//! can be verified while clients still wait for the result.

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

/// How many are verified at a time. Each takes 19 MiB and one core.
pub(crate) const AT_A_TIME: usize = 2;
/// How far the thread of a verification yields to others (setpriority(2), of the calling thread).
const NICE: i32 = 10;
/// How many may wait. They take some seconds to verify, and clients wait for ten.
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
    queue: RefCell<Queue>,
    arrived: Notify,
    /// The passwords that are known to be correct, by their hashes, so that a room whose members all reconnect does not
    /// wait for hundreds of hashes of one password. They are kept as codes that are useless outside of this process.
    right: RefCell<HashMap<PasswordHash, hmac::Tag>>,
    key: hmac::Key,
}

/// A queue for each network, so that no network waits for the jobs of another one.
#[derive(Debug, Default)]
struct Queue {
    networks: BTreeMap<Network, VecDeque<Job>>,
    /// The networks in order of their turns.
    turns: VecDeque<Network>,
    count: usize,
}

impl Queue {
    /// Adds a job. If the queue is full, removes and returns the last job of the network that has the most.
    fn push(&mut self, ip: IpAddr, job: Job) -> Option<Job> {
        // With IPv6, this is the site, because a site has 65,536 networks of hosts.
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
    /// An empty queue. The seed has to be a secret of this process.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        // Not the seed itself, because others derive secrets from it as well.
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), b"passwords");
        Self {
            queue: RefCell::default(),
            arrived: Notify::new(),
            right: RefCell::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
        }
    }

    /// Queues a password that a connection from this address sent. Returns a verdict that is known immediately: on this
    /// password, or on one that was removed from the queue for it.
    pub(crate) fn submit(
        &self,
        conn: ConnId,
        ip: IpAddr,
        hash: PasswordHash,
        password: Secret,
    ) -> Option<(ConnId, Verdict)> {
        if self.right.borrow().get(&hash).is_some_and(|tag| self.is(tag, &password)) {
            return Some((conn, Verdict::Passed));
        }
        let displaced = self.queue.borrow_mut().push(ip, Job { conn, hash, password });
        self.arrived.notify_one();
        displaced.map(|job| (job.conn, Verdict::Busy))
    }

    /// How many passwords wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.borrow().count
    }

    /// The next password, once there is one.
    pub(crate) async fn next(&self) -> Job {
        loop {
            let job = self.queue.borrow_mut().pop();
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
        // A panic would be a bug of the library. It counts as a wrong password.
        let right = spawn_blocking(move || {
            // On a machine with two cores, two verifications would take both from the server. If the system refuses the
            // lower priority, the password is verified anyway.
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
        let mut queue = Queue::default();
        let (crowd, honest) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for conn in 0..100 {
            assert!(queue.push(crowd, job(conn)).is_none());
        }
        for conn in 100..102 {
            assert!(queue.push(honest, job(conn)).is_none());
        }
        let order: Vec<_> = (0..6).filter_map(|_| queue.pop()).map(|job| job.conn.0).collect();
        assert_eq!(order, [0, 100, 1, 101, 2, 3], "of each network in order");
    }

    #[test]
    fn the_network_with_the_most_jobs_loses_one() {
        let mut queue = Queue::default();
        let crowd = |n: u64| IpAddr::from([10, 0, 0, u8::try_from(n % 52).unwrap()]);
        for conn in 0..MAX_WAITING as u64 {
            assert!(queue.push(crowd(conn), job(conn)).is_none());
        }
        let honest = IpAddr::from([10, 0, 1, 1]);
        let displaced = queue.push(honest, job(1_000)).expect("one too many");
        assert!(displaced.conn.0 >= 204, "{displaced:?} was not the last of its network");
        let place = (0..MAX_WAITING).find(|_| queue.pop().is_some_and(|job| job.conn.0 == 1_000));
        assert!(place.is_some_and(|place| place <= 52), "{place:?}: it is behind one of each network");
        while queue.pop().is_some() {}
        assert_eq!((queue.count, queue.networks.len(), queue.turns.len()), (0, 0, 0));
    }

    #[test]
    fn a_site_of_ipv6_is_one_network_and_displaces_itself() {
        let mut queue = Queue::default();
        for conn in 0..2 * MAX_WAITING as u64 {
            let displaced = queue.push(format!("2001:db8:1:{conn:x}::1").parse().unwrap(), job(conn));
            assert_eq!(displaced.map(|job| job.conn.0), (conn >= MAX_WAITING as u64).then_some(conn));
        }
        assert!(queue.push("2001:db8:2::1".parse().unwrap(), job(9_999)).is_some());
        assert_eq!([queue.pop(), queue.pop()].map(|job| job.map(|job| job.conn.0)), [Some(0), Some(9_999)]);
    }
}
