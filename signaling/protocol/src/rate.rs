//! How often something may happen: a token bucket on virtual time, one instant of memory each.
//!
//! A bucket fills with time, up to a burst; what happens takes from it. Instead of the level, which would have to be
//! brought up to date again and again, a [`Bucket`] knows the moment at which it would be full (the generic cell rate
//! algorithm). What fills it, the [`Rate`], is the same for many buckets and is kept outside of them: it may change
//! while they are in use.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// No bucket holds or owes more than comes in within a year, so that no sum of instants overflows.
const MAX_NANOS: u64 = 365 * 24 * 3_600 * 1_000_000_000;

/// How fast buckets fill, and what fits into them.
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
    /// So much a second, and at most `burst` at once.
    pub const fn per_second(amount: NonZeroU32, burst: NonZeroU32) -> Self {
        Self::new(amount, Duration::from_secs(1), burst)
    }

    /// `amount` in the time `per`, and at most `burst` at once.
    pub const fn new(amount: NonZeroU32, per: Duration, burst: NonZeroU32) -> Self {
        let per = at_most_max(per.as_nanos());
        let capacity = Duration::from_nanos(nanos_for(burst.get() as u64, per, amount));
        Self { amount, per, burst, capacity }
    }

    fn time_for(&self, amount: u64) -> Duration {
        Duration::from_nanos(nanos_for(amount, self.per, self.amount))
    }
}

/// How long it takes until `wanted` has come in, rounded up.
const fn nanos_for(wanted: u64, per: u64, amount: NonZeroU32) -> u64 {
    let amount = amount.get() as u64;
    match wanted.checked_mul(per) {
        // A division of 128 bits takes longer than everything else here.
        Some(product) => at_most_max(product.div_ceil(amount) as u128),
        None => at_most_max((wanted as u128 * per as u128).div_ceil(amount as u128)),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "MAX_NANOS fits into 64 bits")]
const fn at_most_max(nanos: u128) -> u64 {
    if nanos < MAX_NANOS as u128 { nanos as u64 } else { MAX_NANOS }
}

/// What is left of a [`Rate`] for one of those whom it is for. Use the same rate with it, or one that replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Full from then on.
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes `amount` if it is there; else takes nothing and tells when it will be. An amount over the burst counts
    /// as the burst, or it would never be there.
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

    /// Takes `amount` whether it is there or not: what is missing is owed, and [`Bucket::wait`] says how long.
    pub fn charge(&mut self, now: Instant, rate: &Rate, amount: u64) {
        let full_at = self.full_at.max(now) + rate.time_for(amount);
        self.full_at = full_at.min(now + rate.capacity + Duration::from_nanos(MAX_NANOS));
    }

    /// When there is `amount` again; nothing is taken. `None`: there is.
    pub fn wait(&self, now: Instant, rate: &Rate, amount: u32) -> Option<Instant> {
        let mut copy = *self;
        copy.take(now, rate, amount).err()
    }

    /// Whether it is full, and therefore as good as a new one.
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

    /// What comes in over a time, as a fraction.
    fn income(rate: &Rate, time: Duration) -> f64 {
        f64::from(rate.amount.get()) * time.as_secs_f64() / Duration::from_nanos(rate.per).as_secs_f64()
    }

    #[test]
    fn a_burst_at_once_then_the_rate() {
        let (rate, start) = (rate(10, Duration::from_secs(1), 3), Instant::now());
        let mut bucket = Bucket::new(start);
        let tenths = |count| start + Duration::from_millis(100) * count;
        assert_eq!([(); 3].map(|()| bucket.take(start, &rate, 1)), [Ok(()); 3]);
        assert_eq!(bucket.take(start, &rate, 1), Err(tenths(1)));
        assert_eq!(bucket.wait(start, &rate, 2), Some(tenths(2)));
        assert_eq!(bucket.take(tenths(1), &rate, 1), Ok(()));
        assert!(!bucket.is_full(tenths(3)) && bucket.is_full(tenths(4)));
        assert_eq!(bucket.wait(tenths(4), &rate, 3), None);
        // More than ever fits is asked for: all there is.
        assert_eq!(bucket.take(tenths(4), &rate, 1_000), Ok(()));
        assert_eq!(bucket.take(tenths(4), &rate, 1), Err(tenths(5)));
    }

    #[test]
    fn what_is_charged_over_what_is_there_is_owed() {
        let (rate, start) = (rate(1_000, Duration::from_secs(1), 100), Instant::now());
        let mut bucket = Bucket::new(start);
        bucket.charge(start, &rate, 600);
        assert_eq!(bucket.wait(start, &rate, 1), Some(start + Duration::from_millis(501)));
        // No charge is so large that it can't be added, nor so large that the bucket never fills again.
        bucket.charge(start, &rate, u64::MAX);
        bucket.charge(start, &rate, u64::MAX);
        assert!(bucket.is_full(start + Duration::from_nanos(2 * MAX_NANOS)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_in_any_window(
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
        fn who_waits_as_long_as_told_gets_it_and_not_a_moment_earlier(
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
        fn who_keeps_to_the_rate_is_never_refused(rate in rates(), count in 1..200_u32) {
            let start = Instant::now();
            let (mut bucket, mut now) = (Bucket::new(start), start);
            for _ in 0..count {
                prop_assert_eq!(bucket.take(now, &rate, 1), Ok(()));
                now += rate.time_for(1);
            }
        }

        #[test]
        fn a_clock_that_stands_or_steps_back_gives_nothing_away(rate in rates(), back in 0..10_000_u64) {
            let start = Instant::now() + Duration::from_secs(100);
            let mut bucket = Bucket::new(start);
            prop_assert_eq!(bucket.take(start, &rate, rate.burst.get()), Ok(()));
            let earlier = start.checked_sub(Duration::from_millis(back)).unwrap();
            prop_assert!(bucket.wait(earlier, &rate, 1).is_some());
        }
    }
}
