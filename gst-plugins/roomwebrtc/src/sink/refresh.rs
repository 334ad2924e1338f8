//! Watches whether an encoder answers requests for a keyframe. Streams exist that have no IDR pictures after the first:
//! intra refresh, open GOPs, cameras with non-IDR I pictures. Time is an argument.

use crate::codec::access_unit::AccessUnitKind;
use std::time::{Duration, Instant};

/// How long a request may stay unanswered before decoding may start at something less than an IDR picture.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a request may stay unanswered before the operator is told.
const WARN_AFTER: Duration = Duration::from_secs(5);
/// A gap between two access units that is longer counts as this much: a paused stream answers nothing.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// How a stream refreshes.
#[derive(Debug, Default)]
pub(crate) struct RefreshWatch {
    requests: u64,
    last_unit: Option<Instant>,
    /// How long media has been flowing since the first unanswered request.
    unanswered: Option<Duration>,
    /// Something other than an IDR picture came at which a decoder can start.
    has_other_points: bool,
    warned: bool,
}

/// What an access unit means to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refresh {
    /// A receiver that waits can start here.
    pub(crate) is_random_access_point: bool,
    /// The encoder makes no IDR pictures. Given once.
    pub(crate) warning: Option<NoIdr>,
}

/// An encoder makes no IDR pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoIdr {
    #[error(
        "upstream has sent no IDR picture for 5 s although one was requested: receivers that join now see nothing. \
         Let the encoder make IDR pictures, for instance every 2 s (x264enc: intra-refresh=false key-int-max=60; \
         cameras: the interval of I frames, or GOP length)"
    )]
    AtAll,
    #[error(
        "upstream has sent no IDR picture for 5 s although one was requested: receivers that join start at a recovery \
         point or an I picture instead, which browsers cannot decode. Let the encoder make IDR pictures, for instance \
         every 2 s (x264enc: intra-refresh=false key-int-max=60, no open-gop; cameras: no intra refresh, closed GOP)"
    )]
    OnlyOtherPoints,
}

impl RefreshWatch {
    /// Looks at the next access unit. `requests` counts all requests for a keyframe so far.
    pub(crate) fn unit(&mut self, kind: AccessUnitKind, requests: u64, now: Instant) -> Refresh {
        let gap =
            self.last_unit.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let requested = std::mem::replace(&mut self.requests, requests) != requests;
        if kind == AccessUnitKind::Idr {
            self.unanswered = None;
            return Refresh { is_random_access_point: true, warning: None };
        }
        match &mut self.unanswered {
            Some(time) => *time = time.saturating_add(gap.min(LONGEST_GAP)),
            None if requested => self.unanswered = Some(Duration::ZERO),
            None => {}
        }
        let other = matches!(kind, AccessUnitKind::RecoveryPoint | AccessUnitKind::Intra);
        self.has_other_points |= other;
        let unanswered_for = |limit| self.unanswered.is_some_and(|time| time >= limit);
        let is_random_access_point = other && unanswered_for(PATIENCE);
        let warns = unanswered_for(WARN_AFTER) && !self.warned;
        self.warned |= warns;
        let warning = if self.has_other_points { NoIdr::OnlyOtherPoints } else { NoIdr::AtAll };
        Refresh { is_random_access_point, warning: warns.then_some(warning) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AccessUnitKind::{Delta, Idr, Intra, RecoveryPoint};

    /// A stream of 10 units a second, and what became of them.
    struct Stream {
        watch: RefreshWatch,
        now: Instant,
        requests: u64,
    }

    impl Stream {
        fn new() -> Self {
            Self { watch: RefreshWatch::default(), now: Instant::now(), requests: 0 }
        }

        fn unit(&mut self, kind: AccessUnitKind) -> Refresh {
            self.now += Duration::from_millis(100);
            self.watch.unit(kind, self.requests, self.now)
        }

        /// The units of `seconds`, each fifth of `kind`. How many of them were entries, and the warnings.
        fn play(&mut self, seconds: u32, kind: AccessUnitKind) -> (usize, Vec<NoIdr>) {
            let units: Vec<Refresh> =
                (0..seconds * 10).map(|n| self.unit(if n % 5 == 4 { kind } else { Delta })).collect();
            let warnings = units.iter().filter_map(|unit| unit.warning).collect();
            (units.iter().filter(|unit| unit.is_random_access_point).count(), warnings)
        }
    }

    #[test]
    fn an_idr_picture_is_an_entry_and_answers_a_request() {
        let mut stream = Stream::new();
        for _ in 0..10 {
            stream.requests += 1;
            assert!(!stream.unit(Delta).is_random_access_point);
            assert_eq!(stream.unit(Idr), Refresh { is_random_access_point: true, warning: None });
            assert_eq!(stream.play(10, Delta), (0, vec![]), "nobody has asked for another one");
        }
    }

    #[test]
    fn nothing_less_than_an_idr_is_an_entry_before_the_encoder_had_time_to_answer() {
        let mut stream = Stream::new();
        assert_eq!(stream.play(20, RecoveryPoint), (0, vec![]), "no receiver waits");
        stream.requests = 1;
        assert_eq!(stream.play(1, RecoveryPoint), (0, vec![]));
        assert!(stream.unit(Idr).is_random_access_point);
        assert_eq!(stream.play(20, RecoveryPoint), (0, vec![]));
    }

    #[test]
    fn a_stream_of_recovery_points_or_i_pictures_has_entries_and_one_warning() {
        for kind in [RecoveryPoint, Intra] {
            let mut stream = Stream::new();
            stream.requests = 1;
            assert_eq!(stream.play(4, kind), (6, vec![]), "{kind:?}");
            let (entries, warnings) = stream.play(4, kind);
            assert_eq!((entries, warnings), (8, vec![NoIdr::OnlyOtherPoints]), "{kind:?}");
            stream.requests = 2;
            assert_eq!(stream.play(20, kind), (40, vec![]), "the next receiver needs no patience: {kind:?}");
        }
    }

    #[test]
    fn a_stream_without_any_entry_is_warned_of_once() {
        let mut stream = Stream::new();
        stream.requests = 1;
        assert_eq!(stream.play(20, Delta), (0, vec![NoIdr::AtAll]));
        assert!(stream.unit(Idr).is_random_access_point);
        stream.requests = 2;
        assert_eq!(stream.play(20, Delta), (0, vec![]));
    }

    #[test]
    fn time_in_which_nothing_flows_does_not_count() {
        let mut stream = Stream::new();
        stream.requests = 1;
        stream.unit(Delta);
        for _ in 0..3 {
            stream.now += Duration::from_hours(1);
            assert_eq!(stream.unit(Delta).warning, None);
        }
    }
}
