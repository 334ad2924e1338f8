//! Checks passwords beside the server's thread: two at a time, in the order in which they came, and no more waiting
//! than can be done while clients still wait for it.

use super::password;
use ring::hmac;
use room_protocol::hub::{ConnId, PasswordHash, Secret, Verdict};
use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
};
use tokio::{sync::Notify, task::spawn_blocking};

/// How many are checked at a time. Each takes 19 MiB and a core meanwhile.
pub(crate) const AT_A_TIME: usize = 2;
/// How much the thread of such a check lets others go first (setpriority(2), of the calling thread).
const NICE: i32 = 10;
/// How many may wait: some seconds' work. Clients wait for ten.
const MAX_WAITING: usize = 256;

/// One password to be checked.
#[derive(Debug)]
pub(crate) struct Job {
    /// For whom.
    pub(crate) conn: ConnId,
    hash: PasswordHash,
    password: Secret,
}

/// The passwords that wait to be checked.
#[derive(Debug)]
pub(crate) struct Passwords {
    waiting: RefCell<VecDeque<Job>>,
    came: Notify,
    /// What is known to be right, by its hash, so that a room that comes back all at once does not wait for hundreds
    /// of hashes of one password. Kept as a code that is worth nothing outside of this process.
    right: RefCell<HashMap<PasswordHash, hmac::Tag>>,
    key: hmac::Key,
}

impl Passwords {
    /// With nothing to check. The seed has to be a secret of this process.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        // Not the seed itself: others make something of it as well.
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), b"passwords");
        Self {
            waiting: RefCell::default(),
            came: Notify::new(),
            right: RefCell::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
        }
    }

    /// Takes a password. `Some`: it is clear already.
    pub(crate) fn take(&self, conn: ConnId, hash: PasswordHash, password: Secret) -> Option<Verdict> {
        if self.right.borrow().get(&hash).is_some_and(|tag| self.is(tag, &password)) {
            return Some(Verdict::Passed);
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= MAX_WAITING {
            return Some(Verdict::Busy);
        }
        waiting.push_back(Job { conn, hash, password });
        self.came.notify_one();
        None
    }

    /// The next password, once there is one.
    pub(crate) async fn next(&self) -> Job {
        loop {
            let job = self.waiting.borrow_mut().pop_front();
            match job {
                Some(job) => return job,
                None => self.came.notified().await,
            }
        }
    }

    /// Checks a password.
    pub(crate) async fn check(&self, job: Job) -> Verdict {
        let Job { hash, password, .. } = job;
        let (copy, known) = ((hash.clone(), password.clone()), hash);
        // A panic in there would be a bug of the library's; nobody gets in by it.
        let right = spawn_blocking(move || {
            // On a machine with two cores, two of these would take both from the server. Where that can't be asked
            // for, it is no reason to check nothing.
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

    /// Forgets what is known to be right: the operator has changed something.
    pub(crate) fn forget(&self) {
        self.right.borrow_mut().clear();
    }

    fn code(&self, password: &Secret) -> hmac::Tag {
        hmac::sign(&self.key, password.expose().as_bytes())
    }

    fn is(&self, tag: &hmac::Tag, password: &Secret) -> bool {
        hmac::verify(&self.key, password.expose().as_bytes(), tag.as_ref()).is_ok()
    }
}
