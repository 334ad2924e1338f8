//! Limits how often events may happen: token buckets on virtual time.
//!
//! A bucket fills with time, up to a burst, and events take from it. A [`Bucket`] stores one instant: the moment at which
//! it will be full (the generic cell rate algorithm). The [`Rate`] at which it fills is the same for many buckets, so it
//! is kept outside of them, and may change while they are in use.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// No bucket holds or owes more than the income of a year, so that no sum of instants overflows.
const MAX_NANOS: u64 = 365 * 24 * 3_600 * 1_000_000_000;

/// How fast buckets fill, and how much they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    amount: NonZeroU32,
    /// The time in which that amount comes in, in nanoseconds.
    per: u64,
    burst: NonZeroU32,
    /// How long an empty bucket takes to be full.
    capacity: Duration,
}

impl Rate {
    /// A rate of `amount` per second, and of at most `burst` at the same moment.
    pub const fn per_second(amount: NonZeroU32, burst: NonZeroU32) -> Self {
        Self::new(amount, Duration::from_secs(1), burst)
    }

    /// A rate of `amount` in the time `per`, and of at most `burst` at the same moment.
    pub const fn new(amount: NonZeroU32, per: Duration, burst: NonZeroU32) -> Self {
        let per = at_most_max(per.as_nanos());
        let capacity = Duration::from_nanos(nanos_for(burst.get() as u64, per, amount));
        Self { amount, per, burst, capacity }
    }

    fn time_for(&self, amount: u64) -> Duration {
        Duration::from_nanos(nanos_for(amount, self.per, self.amount))
    }
}

/// The time in nanoseconds in which `wanted` comes in, rounded up.
const fn nanos_for(wanted: u64, per: u64, amount: NonZeroU32) -> u64 {
    let amount = amount.get() as u64;
    match wanted.checked_mul(per) {
        // A division of 128 bits takes longer than all other steps together.
        Some(product) => at_most_max(product.div_ceil(amount) as u128),
        None => at_most_max((wanted as u128 * per as u128).div_ceil(amount as u128)),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "MAX_NANOS fits into 64 bits")]
const fn at_most_max(nanos: u128) -> u64 {
    if nanos < MAX_NANOS as u128 { nanos as u64 } else { MAX_NANOS }
}

/// The state of one user of a [`Rate`]. Use it with the same rate always, or with one that replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The time from which it is full.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes `amount` if the bucket holds that much. Otherwise takes nothing and returns the time from which it will. An
    /// amount over the burst counts as the burst, because the bucket would never hold more.
    pub fn take(&mut self, now: Instant, rate: &Rate, amount: u32) -> Result<(), Instant> {
        let time = rate.time_for(amount.min(rate.burst.get()).into());
        let full_at = self.full_at.max(now) + time;
        let allowed = now + rate.capacity;
        if full_at > allowed {
            return Err(now + (full_at - allowed));
        }
        self.full_at = full_at;
        Ok(())
    }

    /// Takes `amount` even if the bucket holds less. The bucket owes the rest, and [`Bucket::wait`] returns for how long.
    pub fn charge(&mut self, now: Instant, rate: &Rate, amount: u64) {
        let full_at = self.full_at.max(now) + rate.time_for(amount);
        self.full_at = full_at.min(now + rate.capacity + Duration::from_nanos(MAX_NANOS));
    }

    /// The time from which the bucket holds `amount`; nothing is taken. `None`: it does already.
    pub fn wait(&self, now: Instant, rate: &Rate, amount: u32) -> Option<Instant> {
        let mut copy = *self;
        copy.take(now, rate, amount).err()
    }

    /// Whether it is full, and so equivalent to a new one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(amount: u32, per: Duration, burst: u32) -> Rate {
        Rate::new(amount.try_into().unwrap(), per, burst.try_into().unwrap())
    }

    fn rates() -> impl Strategy<Value = Rate> {
        (1..2_000_000_u32, 1..100_000_u64, 1..2_000_000_u32)
            .prop_map(|(amount, per, burst)| rate(amount, Duration::from_millis(per), burst))
    }

    /// The income of a time, as a fraction.
    fn income(rate: &Rate, time: Duration) -> f64 {
        f64::from(rate.amount.get()) * time.as_secs_f64() / Duration::from_nanos(rate.per).as_secs_f64()
    }

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let (rate, start) = (rate(10, Duration::from_secs(1), 3), Instant::now());
        let mut bucket = Bucket::new(start);
        let tenths = |count| start + Duration::from_millis(100) * count;
        assert_eq!([(); 3].map(|()| bucket.take(start, &rate, 1)), [Ok(()); 3]);
        assert_eq!(bucket.take(start, &rate, 1), Err(tenths(1)));
        assert_eq!(bucket.wait(start, &rate, 2), Some(tenths(2)));
        assert_eq!(bucket.take(tenths(1), &rate, 1), Ok(()));
        assert!(!bucket.is_full(tenths(3)) && bucket.is_full(tenths(4)));
        assert_eq!(bucket.wait(tenths(4), &rate, 3), None);
        // An amount over the burst takes the burst.
        assert_eq!(bucket.take(tenths(4), &rate, 1_000), Ok(()));
        assert_eq!(bucket.take(tenths(4), &rate, 1), Err(tenths(5)));
    }

    #[test]
    fn a_charge_over_the_contents_is_owed() {
        let (rate, start) = (rate(1_000, Duration::from_secs(1), 100), Instant::now());
        let mut bucket = Bucket::new(start);
        bucket.charge(start, &rate, 600);
        assert_eq!(bucket.wait(start, &rate, 1), Some(start + Duration::from_millis(501)));
        // The largest charges neither overflow nor keep the bucket empty for ever.
        bucket.charge(start, &rate, u64::MAX);
        bucket.charge(start, &rate, u64::MAX);
        assert!(bucket.is_full(start + Duration::from_nanos(2 * MAX_NANOS)));
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_burst_and_rate(
            rate in rates(),
            steps in prop::collection::vec((0..500_u64, 1..3_000_u32), 1..60),
        ) {
            let start = Instant::now();
            let (mut bucket, mut now, mut taken) = (Bucket::new(start), start, Vec::new());
            for (pause, amount) in steps {
                now += Duration::from_millis(pause);
                let amount = amount.min(rate.burst.get());
                if bucket.take(now, &rate, amount).is_ok() {
                    taken.push((now, amount));
                }
            }
            for (index, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0.0;
                for (until, amount) in &taken[index..] {
                    sum += f64::from(*amount);
                    let allowed = f64::from(rate.burst.get()) + income(&rate, *until - *from);
                    prop_assert!(sum <= allowed * (1.0 + 1e-9) + 1e-3, "{sum} of {allowed}");
                }
            }
        }

        #[test]
        fn an_amount_is_there_at_the_returned_time_and_not_earlier(
            rate in rates(),
            charged in 0..10_000_000_u64,
            amount in 1..3_000_u32,
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(start);
            bucket.charge(start, &rate, charged);
            if let Some(when) = bucket.wait(start, &rate, amount) {
                prop_assert!(when > start);
                prop_assert_eq!(bucket.wait(when.checked_sub(Duration::from_nanos(1)).unwrap(), &rate, amount), Some(when));
                prop_assert_eq!(bucket.take(when, &rate, amount), Ok(()));
            }
        }

        #[test]
        fn events_at_the_rate_are_never_refused(rate in rates(), count in 1..200_u32) {
            let start = Instant::now();
            let (mut bucket, mut now) = (Bucket::new(start), start);
            for _ in 0..count {
                prop_assert_eq!(bucket.take(now, &rate, 1), Ok(()));
                now += rate.time_for(1);
            }
        }

        #[test]
        fn a_clock_that_stands_or_steps_back_adds_nothing(rate in rates(), back in 0..10_000_u64) {
            let start = Instant::now() + Duration::from_secs(100);
            let mut bucket = Bucket::new(start);
            prop_assert_eq!(bucket.take(start, &rate, rate.burst.get()), Ok(()));
            let earlier = start.checked_sub(Duration::from_millis(back)).unwrap();
            prop_assert!(bucket.wait(earlier, &rate, 1).is_some());
        }
    }
}
