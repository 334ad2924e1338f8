//! Detects encoders that do not answer keyframe requests with IDR pictures: intra refresh, open GOPs, cameras with non-IDR I
//! pictures. Receivers of such streams start at recovery points or I pictures. A value; time is an argument.

use crate::codec::access_unit::AccessUnitKind;
use std::time::{Duration, Instant};

/// How long a request may stay unanswered before receivers start at other random access points.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a request may stay unanswered before a warning is posted.
const WARN_AFTER: Duration = Duration::from_secs(5);
/// The maximum that a gap between two access units counts for, because a paused stream answers nothing.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// The detector for one stream.
#[derive(Debug, Default)]
pub(crate) struct RefreshWatch {
    requests: u64,
    last_unit: Option<Instant>,
    /// How long media has been flowing since the first unanswered request.
    unanswered: Option<Duration>,
    /// Whether the stream has recovery points or I pictures.
    has_other_points: bool,
    warned: bool,
}

/// The result for one access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refresh {
    /// Whether a waiting receiver starts at this unit.
    pub(crate) is_random_access_point: bool,
    /// Set once per stream.
    pub(crate) warning: Option<NoIdr>,
}

/// The encoder does not produce IDR pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoIdr {
    #[error(
        "upstream has sent no IDR picture for 5 s although one was requested: receivers that join now see nothing. \
         Configure the encoder for IDR pictures, for instance every 2 s (x264enc: intra-refresh=false key-int-max=60; \
         cameras: the interval of I frames, or GOP length)"
    )]
    NoRandomAccess,
    #[error(
        "upstream has sent no IDR picture for 5 s although one was requested: receivers that join start at a recovery \
         point or an I picture instead, which browsers cannot decode. Configure the encoder for IDR pictures, for instance \
         every 2 s (x264enc: intra-refresh=false key-int-max=60, no open-gop; cameras: no intra refresh, closed GOP)"
    )]
    OnlyOtherPoints,
}

impl RefreshWatch {
    /// Handles the next access unit. `requests` is the number of keyframe requests sent so far.
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
        let is_random_access_point = other && unanswered_for(ANSWER_TIMEOUT);
        let warns = unanswered_for(WARN_AFTER) && !self.warned;
        self.warned |= warns;
        let warning = if self.has_other_points { NoIdr::OnlyOtherPoints } else { NoIdr::NoRandomAccess };
        Refresh { is_random_access_point, warning: warns.then_some(warning) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AccessUnitKind::{Delta, Idr, Intra, RecoveryPoint};

    /// A stream with 10 units per second.
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

        /// Plays `seconds`, with each fifth unit of `kind`. Returns the number of random access points, and the warnings.
        fn play(&mut self, seconds: u32, kind: AccessUnitKind) -> (usize, Vec<NoIdr>) {
            let units: Vec<Refresh> =
                (0..seconds * 10).map(|n| self.unit(if n % 5 == 4 { kind } else { Delta })).collect();
            let warnings = units.iter().filter_map(|unit| unit.warning).collect();
            (units.iter().filter(|unit| unit.is_random_access_point).count(), warnings)
        }
    }

    #[test]
    fn an_idr_picture_is_a_random_access_point_and_answers_a_request() {
        let mut stream = Stream::new();
        for _ in 0..10 {
            stream.requests += 1;
            assert!(!stream.unit(Delta).is_random_access_point);
            assert_eq!(stream.unit(Idr), Refresh { is_random_access_point: true, warning: None });
            assert_eq!(stream.play(10, Delta), (0, vec![]), "no request is pending");
        }
    }

    #[test]
    fn only_idr_pictures_are_random_access_points_while_the_encoder_may_still_answer() {
        let mut stream = Stream::new();
        assert_eq!(stream.play(20, RecoveryPoint), (0, vec![]), "no receiver waits");
        stream.requests = 1;
        assert_eq!(stream.play(1, RecoveryPoint), (0, vec![]));
        assert!(stream.unit(Idr).is_random_access_point);
        assert_eq!(stream.play(20, RecoveryPoint), (0, vec![]));
    }

    #[test]
    fn other_random_access_points_are_used_after_an_unanswered_request_with_one_warning() {
        for kind in [RecoveryPoint, Intra] {
            let mut stream = Stream::new();
            stream.requests = 1;
            assert_eq!(stream.play(4, kind), (6, vec![]), "{kind:?}");
            let (points, warnings) = stream.play(4, kind);
            assert_eq!((points, warnings), (8, vec![NoIdr::OnlyOtherPoints]), "{kind:?}");
            stream.requests = 2;
            assert_eq!(stream.play(20, kind), (40, vec![]), "the next receiver does not wait: {kind:?}");
        }
    }

    #[test]
    fn a_stream_without_random_access_points_causes_one_warning() {
        let mut stream = Stream::new();
        stream.requests = 1;
        assert_eq!(stream.play(20, Delta), (0, vec![NoIdr::NoRandomAccess]));
        assert!(stream.unit(Idr).is_random_access_point);
        stream.requests = 2;
        assert_eq!(stream.play(20, Delta), (0, vec![]));
    }

    #[test]
    fn the_time_of_a_pause_does_not_count() {
        let mut stream = Stream::new();
        stream.requests = 1;
        stream.unit(Delta);
        for _ in 0..3 {
            stream.now += Duration::from_hours(1);
            assert_eq!(stream.unit(Delta).warning, None);
        }
    }
}
