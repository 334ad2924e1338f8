//! Limits the wrong passwords of an address. Attempts are counted per password, not per room; otherwise every room that
//! shares a password would grant more attempts.

use super::{ConnId, rights::PasswordHash};
use crate::{
    network::{Network, SITE_FACTOR},
    rate::{Bucket, Rate},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// How many wrong passwords in a row a host may try. Every twelve seconds, one is forgiven.
const ATTEMPTS: NonZeroU32 = NonZeroU32::new(5).expect("not zero");
const FORGIVEN: Duration = Duration::from_secs(12);
/// The most records that are kept. Only an attacker with very many addresses causes more.
const MAX_RECORDS: usize = 16_384;

/// The failed attempts at passwords, by network.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    records: BTreeMap<(Network, PasswordHash), Record>,
    /// The passwords that are being verified. An entry outlives its connection; otherwise hanging up in time would make
    /// a wrong password free.
    under_way: BTreeMap<ConnId, (IpAddr, PasswordHash)>,
}

#[derive(Debug)]
struct Record {
    /// Each failure takes one.
    failures: Bucket,
    /// How many are being verified now.
    under_way: u32,
}

impl Attempts {
    /// Whether a password may be verified. If so, it counts as under way until [`Attempts::end`].
    pub(super) fn begin(&mut self, now: Instant, conn: ConnId, ip: IpAddr, hash: &PasswordHash) -> bool {
        let networks = || Network::of(ip).map(|network| (network, hash.clone()));
        if networks().any(|key| !self.records.contains_key(&key)) {
            self.make_space(now);
        }
        let is_allowed =
            networks().all(|key| self.records.get(&key).is_none_or(|record| record.has_left(now, key.0)));
        if is_allowed {
            for key in networks() {
                let new = Record { failures: Bucket::new(now), under_way: 0 };
                self.records.entry(key).or_insert(new).under_way += 1;
            }
            self.under_way.insert(conn, (ip, hash.clone()));
        }
        is_allowed
    }

    /// Ends the verification that is under way for a connection, if there is one.
    pub(super) fn end(&mut self, now: Instant, conn: ConnId, wrong: bool) {
        let Some((ip, hash)) = self.under_way.remove(&conn) else { return };
        for network in Network::of(ip) {
            let key = (network, hash.clone());
            let Some(record) = self.records.get_mut(&key) else { continue };
            record.under_way = record.under_way.saturating_sub(1);
            if wrong {
                record.failures.charge(now, &rate(network), 1);
            } else if record.is_forgiven(now) {
                self.records.remove(&key);
            }
        }
    }

    /// Drops the records that are forgiven and, if that isn't enough, those that will be forgiven soon. The failures of
    /// one network lock out no other network.
    fn make_space(&mut self, now: Instant) {
        for early in 0..=ATTEMPTS.get() {
            if self.records.len() < MAX_RECORDS {
                return;
            }
            self.records.retain(|_, record| !record.is_forgiven(now + FORGIVEN * early));
        }
    }
}

impl Record {
    /// Whether another attempt is left, even if all those under way turn out to be wrong.
    fn has_left(&self, now: Instant, network: Network) -> bool {
        self.under_way < attempts(network).get()
            && self.failures.wait(now, &rate(network), self.under_way + 1).is_none()
    }

    fn is_forgiven(&self, now: Instant) -> bool {
        self.under_way == 0 && self.failures.is_full(now)
    }
}

fn attempts(network: Network) -> NonZeroU32 {
    if network.is_site() { ATTEMPTS.saturating_mul(SITE_FACTOR) } else { ATTEMPTS }
}

fn rate(network: Network) -> Rate {
    let forgiven = if network.is_site() { SITE_FACTOR } else { NonZeroU32::MIN };
    Rate::new(forgiven, FORGIVEN, attempts(network))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(attempts: &mut Attempts, now: Instant, ip: IpAddr, hash: &PasswordHash) -> bool {
        let begun = attempts.begin(now, ConnId(1), ip, hash);
        attempts.end(now, ConnId(1), true);
        begun
    }

    #[test]
    fn memory_is_bounded_and_the_latest_offenders_are_remembered() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let hash = PasswordHash::new("hash");
        let address = |number: usize| IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
        for number in 0..MAX_RECORDS {
            assert!(fail(&mut attempts, start, address(number), &hash));
        }
        let late = start + FORGIVEN / 2;
        let mut worst = || fail(&mut attempts, late, address(MAX_RECORDS), &hash);
        assert_eq!([(); 7].map(|()| worst()), [true, true, true, true, true, false, false]);
        assert!(attempts.records.len() < MAX_RECORDS);
    }

    #[test]
    fn the_networks_of_a_site_share_sixteen_times_the_attempts_of_a_host() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let hash = PasswordHash::new("hash");
        let site = (0..0xffff).map(|n| format!("2001:db8:1:{n:x}::1").parse().unwrap());
        let tried = site.take_while(|ip| fail(&mut attempts, now, *ip, &hash)).count();
        assert_eq!(tried, 80);
        assert!(fail(&mut attempts, now, "2001:db8:2::1".parse().unwrap(), &hash));
        assert!(fail(&mut attempts, now + FORGIVEN, "2001:db8:1::1".parse().unwrap(), &hash));
    }
}
