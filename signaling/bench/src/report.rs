//! Evaluates the measurements: medians, ratios, and missed goals.

use crate::{
    rows::{Numbers, Row},
    servers::Kind,
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt::Write};

/// A goal of room-signaling.
#[derive(Debug, Clone, Copy)]
enum Goal {
    /// At most this share of the number of the Python server.
    ShareOfPython(f64),
    /// At least this multiple of the number of the Python server.
    TimesPython(f64),
    /// At most this number.
    AtMost(f64),
}

/// The goal of one number of a row. Less is better, except for rates.
struct Aim {
    row: Row,
    number: &'static str,
    goal: Goal,
}

/// Four deaf readers have queues of at most 1 MiB each; the rest is an allowance for the allocator.
const DEAF_READERS_MEMORY_MB: f64 = 6.0;

const AIMS: [Aim; 14] = [
    aim(Row::Relay, "cpu_us", Goal::ShareOfPython(0.25)),
    aim(Row::Paced, "p50_us", Goal::ShareOfPython(0.5)),
    aim(Row::Paced, "p99_us", Goal::ShareOfPython(0.4)),
    aim(Row::Connect, "per_s", Goal::TimesPython(6.0)),
    aim(Row::Memory, "fresh_kb", Goal::ShareOfPython(0.20)),
    aim(Row::Memory, "used_kb", Goal::ShareOfPython(0.30)),
    aim(Row::LargeRoom, "last_ms", Goal::ShareOfPython(0.3)),
    aim(Row::LargeRoom, "cpu_us", Goal::ShareOfPython(0.3)),
    aim(Row::DeafReader, "lost", Goal::AtMost(0.0)),
    aim(Row::DeafReader, "p99_growth", Goal::AtMost(2.0)),
    aim(Row::DeafReader, "memory_growth_mb", Goal::AtMost(DEAF_READERS_MEMORY_MB)),
    aim(Row::DeafReader, "p99_us", Goal::ShareOfPython(1.0)),
    aim(Row::Start, "ms", Goal::AtMost(20.0)),
    aim(Row::Size, "mb", Goal::AtMost(8.0)),
];

impl Aim {
    /// Whether it concerns room-signaling only, and not the comparison with gst-webrtc: a program with fewer features is
    /// smaller.
    fn is_promise(&self) -> bool {
        self.row == Row::Size || matches!(self.number, "lost" | "p99_growth" | "memory_growth_mb")
    }
}

const fn aim(row: Row, number: &'static str, goal: Goal) -> Aim {
    Aim { row, number, goal }
}

/// All measurements so far.
#[derive(Default)]
pub(crate) struct Report {
    rounds: BTreeMap<(&'static str, &'static str, Kind), Vec<f64>>,
}

/// The result of an aim.
struct Outcome {
    ours: f64,
    python: Option<f64>,
    gst: Option<f64>,
    bare: Option<f64>,
    /// Whether the goal is met, and room-signaling is better than gst-webrtc in each row that gst-webrtc can run.
    met: bool,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row, kind: Kind, numbers: Numbers) {
        for (name, value) in numbers {
            self.rounds.entry((row.name(), name, kind)).or_default().push(value);
        }
    }

    fn median(&self, row: Row, number: &'static str, kind: Kind) -> Option<f64> {
        let mut values = self.rounds.get(&(row.name(), number, kind))?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    fn outcome(&self, aim: &Aim) -> Option<Outcome> {
        let ours = self.median(aim.row, aim.number, Kind::Ours)?;
        let python = self.median(aim.row, aim.number, Kind::Python);
        let gst = self.median(aim.row, aim.number, Kind::Gst);
        let (met, more_is_better) = match aim.goal {
            Goal::ShareOfPython(share) => (python.is_some_and(|python| ours <= share * python), false),
            Goal::TimesPython(times) => (python.is_some_and(|python| ours >= times * python), true),
            Goal::AtMost(most) => (ours <= most, false),
        };
        let better = |gst: f64| if more_is_better { ours >= gst } else { ours <= gst };
        let behind_gst = !aim.is_promise() && gst.is_some_and(|gst| !better(gst));
        let bare = self.median(aim.row, aim.number, Kind::Bare);
        Some(Outcome { ours, python, gst, bare, met: met && !behind_gst })
    }

    /// A row as JSON: all numbers of all servers, and the goals.
    pub(crate) fn line(&self, row: Row) -> Value {
        let mut servers: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for (_, number, kind) in self.rounds.keys().filter(|(name, _, _)| *name == row.name()) {
            let median = self.median(row, number, *kind).map(rounded);
            servers.entry(kind.to_string()).or_default().insert((*number).to_owned(), json!(median));
        }
        let goals: Map<String, Value> = AIMS
            .iter()
            .filter(|aim| aim.row == row)
            .filter_map(|aim| Some((aim, self.outcome(aim)?)))
            .map(|(aim, outcome)| {
                let [ratio, floor] =
                    [Some(outcome.ours), outcome.bare].map(|it| outcome.of_python(it).map(rounded));
                let goal =
                    json!({"goal": aim.goal.description(), "ratio": ratio, "floor": floor, "met": outcome.met});
                (aim.number.to_owned(), goal)
            })
            .collect();
        json!({"row": row.name(), "servers": servers, "goals": goals})
    }

    /// A table of all numbers with goals. `floor` is the ratio of the bare loop, which no server can beat.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<30} {:>14} {:>10} {:>12} {:>10} {:>7} {:>7}  {}\n",
            "",
            Kind::Ours,
            Kind::Python,
            Kind::Gst,
            Kind::Bare,
            "ratio",
            "floor",
            "goal"
        );
        for aim in &AIMS {
            let Some(outcome) = self.outcome(aim) else { continue };
            let number =
                |value: Option<f64>| value.map_or("-".to_owned(), |value| rounded(value).to_string());
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "{:<30} {:>14} {:>10} {:>12} {:>10} {:>7} {:>7}  {}{}",
                format!("{} {}", aim.row.name(), aim.number),
                number(Some(outcome.ours)),
                number(outcome.python),
                number(outcome.gst),
                number(outcome.bare),
                number(outcome.of_python(Some(outcome.ours))),
                number(outcome.of_python(outcome.bare)),
                aim.goal.description(),
                if outcome.met { "" } else { "  MISSED" }
            );
        }
        text
    }

    /// Whether a goal is missed.
    pub(crate) fn is_missed(&self) -> bool {
        AIMS.iter().filter_map(|aim| self.outcome(aim)).any(|outcome| !outcome.met)
    }
}

impl Outcome {
    /// A number divided by that of the Python server.
    fn of_python(&self, number: Option<f64>) -> Option<f64> {
        let python = self.python.filter(|python| *python > 0.0)?;
        number.map(|number| number / python)
    }
}

impl Goal {
    fn description(self) -> String {
        match self {
            Self::ShareOfPython(share) => format!("at most {share} of python's"),
            Self::TimesPython(times) => format!("at least {times} times python's"),
            Self::AtMost(most) => format!("at most {most}"),
        }
    }
}

/// Rounds to about three significant digits.
fn rounded(value: f64) -> f64 {
    let scale = if value.abs() >= 100.0 {
        1.0
    } else if value.abs() >= 10.0 {
        10.0
    } else {
        1000.0
    };
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(numbers: &[(Kind, f64)], row: Row, name: &'static str) -> Report {
        let mut report = Report::default();
        for (kind, value) in numbers {
            report.add(row, *kind, vec![(name, *value)]);
        }
        report
    }

    #[test]
    fn the_median_of_the_rounds_counts() {
        let rounds = [1.0, 9.0, 2.0].map(|value| (Kind::Ours, value));
        let report = report(&rounds, Row::Size, "mb");
        assert_eq!(report.line(Row::Size)["servers"]["room-signaling"]["mb"], 2.0);
        assert!(!report.is_missed());
    }

    #[test]
    fn a_goal_is_missed_by_the_ratio_to_python_or_by_a_better_gst() {
        let missed = |ours, python, gst| {
            let numbers = [(Kind::Ours, ours), (Kind::Python, python), (Kind::Gst, gst)];
            report(&numbers, Row::Relay, "cpu_us").is_missed()
        };
        assert!(!missed(7.0, 30.0, 15.0));
        assert!(missed(8.0, 30.0, 15.0));
        assert!(missed(7.0, 30.0, 6.0));
        let rate = |ours, python| {
            report(&[(Kind::Ours, ours), (Kind::Python, python)], Row::Connect, "per_s").is_missed()
        };
        assert!(!rate(12_000.0, 2_000.0));
        assert!(rate(11_000.0, 2_000.0));
    }

    #[test]
    fn a_floor_is_reported_if_the_bare_loop_was_measured() {
        let numbers = [(Kind::Ours, 8.0), (Kind::Python, 20.0), (Kind::Bare, 5.0)];
        let goal =
            |numbers: &[_]| report(numbers, Row::Paced, "p99_us").line(Row::Paced)["goals"]["p99_us"].take();
        assert_eq!((&goal(&numbers)["ratio"], &goal(&numbers)["floor"]), (&json!(0.4), &json!(0.25)));
        assert!(goal(&numbers[..2])["floor"].is_null());
    }
}
