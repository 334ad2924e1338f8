//! How often an address may get a password wrong. What counts is the password, not the room: else rooms that share one
//! would be as many more attempts.

use super::{ConnId, rights::PasswordHash};
use crate::rate::{Bucket, Rate};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// How often an address may get a password wrong in a row; one is forgiven each twelve seconds.
const ATTEMPTS: NonZeroU32 = NonZeroU32::new(5).expect("not zero");
const FORGIVEN: Duration = Duration::from_secs(12);
const RATE: Rate = Rate::new(NonZeroU32::MIN, FORGIVEN, ATTEMPTS);
/// Whom to remember at most. More only come by way of very many addresses.
const MAX_REMEMBERED: usize = 16_384;

/// Who failed at what.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    records: BTreeMap<(IpAddr, PasswordHash), Record>,
    /// For whom a password is being checked, whether the connection lives on or not: else hanging up in time would
    /// make a wrong one free.
    under_way: BTreeMap<ConnId, (IpAddr, PasswordHash)>,
}

#[derive(Debug)]
struct Record {
    /// What failures take from.
    failures: Bucket,
    /// How many are being checked now.
    under_way: u32,
}

impl Attempts {
    /// Whether a password may be checked; that this is under way is remembered until [`Attempts::end`].
    pub(super) fn begin(&mut self, now: Instant, conn: ConnId, ip: IpAddr, hash: &PasswordHash) -> bool {
        let key = (source(ip), hash.clone());
        if !self.records.contains_key(&key) {
            self.make_space(now);
        }
        let new = Record { failures: Bucket::new(now), under_way: 0 };
        let record = self.records.entry(key.clone()).or_insert(new);
        // All of those under way may turn out to be wrong.
        let allowed = record.under_way < ATTEMPTS.get()
            && record.failures.wait(now, &RATE, record.under_way + 1).is_none();
        if allowed {
            record.under_way += 1;
            self.under_way.insert(conn, key);
        }
        allowed
    }

    /// The check that is under way for this connection, if there is one, has ended.
    pub(super) fn end(&mut self, now: Instant, conn: ConnId, wrong: bool) {
        let Some(key) = self.under_way.remove(&conn) else { return };
        let Some(record) = self.records.get_mut(&key) else { return };
        record.under_way = record.under_way.saturating_sub(1);
        if wrong {
            record.failures.charge(now, &RATE, 1);
        } else if record.is_forgiven(now) {
            self.records.remove(&key);
        }
    }

    /// Forgets those who are forgiven, and if that isn't enough, those who will be soon: nobody is locked out by the
    /// failures of others.
    fn make_space(&mut self, now: Instant) {
        for early in 0..=ATTEMPTS.get() {
            if self.records.len() < MAX_REMEMBERED {
                return;
            }
            self.records.retain(|_, record| !record.is_forgiven(now + FORGIVEN * early));
        }
    }
}

impl Record {
    fn is_forgiven(&self, now: Instant) -> bool {
        self.under_way == 0 && self.failures.is_full(now)
    }
}

/// Whom an address stands for: with IPv6, whoever has one address has all of its /64.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
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
        for number in 0..MAX_REMEMBERED {
            assert!(fail(&mut attempts, start, address(number), &hash));
        }
        let late = start + FORGIVEN / 2;
        let mut worst = || fail(&mut attempts, late, address(MAX_REMEMBERED), &hash);
        assert_eq!([(); 7].map(|()| worst()), [true, true, true, true, true, false, false]);
        assert!(attempts.records.len() < MAX_REMEMBERED);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_mapped_ipv4_is_ipv4() {
        let same = |one: &str, other: &str| source(one.parse().unwrap()) == source(other.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1") && !same("192.0.2.2", "192.0.2.1"));
    }
}
