//! Random events in random order: when they end, every client's view equals the Hub's, and media flows between every
//! sender and every receiver.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod pair_support;

use pair_support::*;
use proptest::prelude::*;
use room_protocol::wire::Role;
use std::time::Duration;

/// An event of a process or of the server.
#[derive(Debug, Clone)]
enum Happening {
    Start(usize),
    Shutdown(usize),
    Kill(usize),
    PowerOff(usize),
    Reset(usize),
    Cut(usize),
    HalfOpen(usize),
    KillHub,
    StartHub,
    RestartHub,
}

const NAMES: [(&str, Role); 5] = [
    ("camera-1", Role::Sender),
    ("camera-2", Role::Sender),
    ("viewer-1", Role::Receiver),
    ("viewer-2", Role::Receiver),
    ("门口", Role::Receiver),
];

fn happening() -> impl Strategy<Value = Happening> {
    let who = 0..NAMES.len();
    prop_oneof![
        6 => who.clone().prop_map(Happening::Start),
        1 => who.clone().prop_map(Happening::Shutdown),
        2 => who.clone().prop_map(Happening::Kill),
        1 => who.clone().prop_map(Happening::PowerOff),
        3 => who.clone().prop_map(Happening::Reset),
        2 => who.clone().prop_map(Happening::Cut),
        2 => who.prop_map(Happening::HalfOpen),
        1 => Just(Happening::KillHub),
        2 => Just(Happening::StartHub),
        1 => Just(Happening::RestartHub),
    ]
}

/// Pauses of about the latency of the network, so that messages are in flight, and some long ones.
fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        5 => (0u64..200).prop_map(Duration::from_millis),
        2 => (200u64..5_000).prop_map(Duration::from_millis),
        1 => (5u64..60).prop_map(Duration::from_secs),
    ]
}

#[derive(Default)]
struct Running([Option<usize>; NAMES.len()]);

impl Running {
    fn apply(&mut self, world: &mut World, happening: &Happening) {
        let running = |who: &usize| self.0[*who];
        match happening {
            Happening::Start(who) => {
                if running(who).is_none() {
                    let (name, role) = NAMES[*who];
                    self.0[*who] = Some(world.spawn(name, role));
                }
            }
            Happening::Shutdown(who) | Happening::Kill(who) | Happening::PowerOff(who) => {
                let Some(node) = self.0[*who].take() else { return };
                match happening {
                    Happening::Shutdown(_) => world.shutdown(node),
                    Happening::Kill(_) => world.kill(node),
                    _ => world.power_off(node),
                }
            }
            Happening::Reset(who) => running(who).into_iter().for_each(|node| world.reset(node)),
            Happening::Cut(who) => running(who).into_iter().for_each(|node| world.cut(node)),
            Happening::HalfOpen(who) => running(who).into_iter().for_each(|node| world.half_open(node)),
            Happening::KillHub => world.kill_hub(),
            Happening::StartHub => world.start_hub_if_none(),
            Happening::RestartHub => {
                world.kill_hub();
                world.start_hub_if_none();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_views_agree_once_it_is_quiet(schedule in prop::collection::vec((happening(), pause()), 1..40)) {
        let mut world = World::new();
        let mut running = Running::default();
        for (happening, pause) in &schedule {
            running.apply(&mut world, happening);
            world.run_for(*pause);
        }
        world.start_hub_if_none();
        world.run_for(Duration::from_mins(2));
        world.assert_agreed();
    }
}
