//! A histogram of durations.

use std::{cell::Cell, time::Duration};

/// The upper bounds of the buckets, in microseconds. Longer durations are in one more bucket.
const BOUNDS: [u32; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Cell<u64>; BOUNDS.len() + 1],
    /// In microseconds.
    sum: Cell<u64>,
}

impl Histogram {
    /// Counts a duration in microseconds.
    pub(crate) fn observe(&self, micros: u32) {
        let bucket = &self.buckets[BOUNDS.partition_point(|bound| *bound < micros)];
        bucket.set(bucket.get() + 1);
        self.sum.set(self.sum.get() + u64::from(micros));
    }

    /// Each bound in seconds, with the number of durations up to it. Infinity is the last bound.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.iter().map(|micros| f64::from(*micros) / 1e6).chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().scan(0, |sum, bucket| {
            *sum += bucket.get();
            Some(*sum)
        }))
    }

    /// The sum of all durations.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_micros(self.sum.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 1_000_000, 1_000_001, u32::MAX] {
            histogram.observe(micros);
        }
        let buckets: Vec<_> = histogram.cumulative().collect();
        assert_eq!(buckets[..2], [(0.000_05, 2), (0.000_1, 3)]);
        assert_eq!(buckets[13..], [(1.0, 4), (f64::INFINITY, 6)]);
        assert_eq!(histogram.sum(), Duration::from_micros(2_000_102 + u64::from(u32::MAX)));
    }
}
