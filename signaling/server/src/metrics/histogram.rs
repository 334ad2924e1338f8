//! How long something took, in classes.

use std::{cell::Cell, time::Duration};

/// The upper bounds of the classes, in microseconds; what takes longer is in a class of its own.
const BOUNDS: [u32; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];

/// How long something took, in classes.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    classes: [Cell<u64>; BOUNDS.len() + 1],
    /// In microseconds.
    sum: Cell<u64>,
}

impl Histogram {
    /// Something took so many microseconds.
    pub(crate) fn observe(&self, micros: u32) {
        let class = &self.classes[BOUNDS.partition_point(|bound| *bound < micros)];
        class.set(class.get() + 1);
        self.sum.set(self.sum.get() + u64::from(micros));
    }

    /// Each bound in seconds, with how many took at most that long; infinity comes last.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.iter().map(|micros| f64::from(*micros) / 1e6).chain([f64::INFINITY]);
        bounds.zip(self.classes.iter().scan(0, |sum, class| {
            *sum += class.get();
            Some(*sum)
        }))
    }

    /// All of it together.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_micros(self.sum.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_class() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 1_000_000, 1_000_001, u32::MAX] {
            histogram.observe(micros);
        }
        let classes: Vec<_> = histogram.cumulative().collect();
        assert_eq!(classes[..2], [(0.000_05, 2), (0.000_1, 3)]);
        assert_eq!(classes[13..], [(1.0, 4), (f64::INFINITY, 6)]);
        assert_eq!(histogram.sum(), Duration::from_micros(2_000_102 + u64::from(u32::MAX)));
    }
}
