//! Computes the delay before the next attempt to connect: exponential backoff with full jitter, so that the clients of a
//! restarted server do not reconnect at the same moment.

use std::time::Duration;

/// The ceiling of the first delay. It doubles with every attempt.
const FIRST: Duration = Duration::from_millis(100);
/// The highest ceiling.
const MOST: Duration = Duration::from_secs(10);

/// Draws delays from 0 to a ceiling that grows from [`FIRST`] to [`MOST`].
#[derive(Debug)]
pub(super) struct Backoff {
    random: u64,
    attempts: u32,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: seed, attempts: 0 }
    }

    /// The delay before the next attempt.
    pub(super) fn delay(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(2u32.saturating_pow(self.attempts));
        self.attempts = self.attempts.saturating_add(1);
        self.jitter(doubled.min(MOST))
    }

    /// A random time from 0 to `most`.
    pub(super) fn jitter(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.next() % (micros + 1))
    }

    /// Starts again with short delays, after a success.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014). It spreads clients well enough, with any seed.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest_of_many(attempts: u32) -> Duration {
        (0..2_000)
            .map(|seed| {
                let mut backoff = Backoff::new(seed);
                for _ in 0..attempts {
                    backoff.delay();
                }
                backoff.delay()
            })
            .max()
            .unwrap()
    }

    #[test]
    fn ceilings_double_from_100_ms_to_10_s_and_stay_there() {
        for (attempts, ceiling_ms) in [(0, 100), (1, 200), (2, 400), (6, 6_400), (7, 10_000), (50, 10_000)] {
            let longest = longest_of_many(attempts);
            let ceiling = Duration::from_millis(ceiling_ms);
            assert!(longest <= ceiling, "attempt {attempts}: {longest:?}");
            assert!(longest >= ceiling.mul_f32(0.99), "attempt {attempts}: {longest:?}");
        }
    }

    #[test]
    fn jitter_is_full_and_repeats_for_a_seed() {
        let mut delays: Vec<_> = (0..1_000).map(|seed| Backoff::new(seed).delay()).collect();
        let mean = delays.iter().sum::<Duration>() / 1_000;
        assert!((45..55).contains(&mean.as_millis()), "{mean:?}");
        delays.sort();
        assert!(delays[0] < Duration::from_millis(1));
        assert_eq!(Backoff::new(7).delay(), Backoff::new(7).delay());
    }

    #[test]
    fn never_overflows() {
        let mut backoff = Backoff { random: 1, attempts: u32::MAX };
        assert!(backoff.delay() <= MOST);
        assert!(backoff.jitter(Duration::MAX) <= Duration::MAX);
    }
}
