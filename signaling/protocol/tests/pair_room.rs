//! A Hub and its Clients together: joins, departures, restarts, and the media sessions that survive them.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod pair_support;

use pair_support::*;
use room_protocol::{
    client::{Event, GoneReason, Media, State},
    wire::Role::{Receiver, Sender},
};
use std::time::Duration;

const S: Duration = Duration::from_secs(1);

/// A camera and two viewers whose media flows.
fn streaming() -> (World, usize, [usize; 2]) {
    let mut world = World::new();
    let camera = world.spawn("camera", Sender);
    let viewers = [world.spawn("viewer-1", Receiver), world.spawn("viewer-2", Receiver)];
    world.run_for(S);
    world.assert_agreed();
    world.take_events(camera);
    for viewer in viewers {
        world.take_events(viewer);
    }
    (world, camera, viewers)
}

fn peer_events(world: &mut World, node: usize) -> Vec<String> {
    world
        .take_events(node)
        .into_iter()
        .filter_map(|event| match event {
            Event::PeerReady(peer) => Some(format!("{} ready", peer.client_id)),
            Event::PeerGone(peer, reason) => Some(format!("{peer} gone {reason:?}")),
            Event::PeerChanged(peer) => Some(format!("{} changed", peer.client_id)),
            _ => None,
        })
        .collect()
}

fn ids_of(world: &World, node: usize) -> Vec<String> {
    world.nodes[node].sessions.values().map(|media| media.id.as_ref().unwrap().to_string()).collect()
}

#[test]
fn media_connects_in_any_order_of_arrival() {
    for order in [["camera", "viewer"], ["viewer", "camera"]] {
        let mut world = World::new();
        for name in order {
            world.spawn(name, if name == "camera" { Sender } else { Receiver });
            world.run_for(S);
        }
        world.assert_agreed();
        assert_eq!(world.members().len(), 2);
    }
}

#[test]
fn leaving_ends_media_at_once() {
    let (mut world, camera, [viewer, _]) = streaming();
    world.shutdown(viewer);
    world.run_for(S / 10);
    assert_eq!(peer_events(&mut world, camera), ["viewer-1 gone Left"]);
    world.assert_agreed();

    world.shutdown(camera);
    world.run_for(S / 10);
    world.assert_agreed();
    assert_eq!(world.nodes[camera].state, State::Closed);
}

#[test]
fn the_servers_death_ends_no_media() {
    let (mut world, camera, viewers) = streaming();
    let before = ids_of(&world, camera);
    world.kill_hub();
    world.run_for(60 * S);
    for node in [camera, viewers[0], viewers[1]] {
        assert_eq!(world.nodes[node].state, State::Reconnecting);
    }
    world.start_hub();
    world.run_for(11 * S);
    world.assert_agreed();
    world.run_for(60 * S);
    world.assert_agreed();
    for node in [camera, viewers[0], viewers[1]] {
        assert_eq!(peer_events(&mut world, node), Vec::<String>::new());
    }
    assert_eq!(ids_of(&world, camera), before);
}

#[test]
fn a_negotiation_interrupted_by_the_servers_end_is_restarted() {
    let mut world = World::new();
    world.media_works = false;
    let camera = world.spawn("camera", Sender);
    let viewer = world.spawn("viewer", Receiver);
    world.run_for(S);
    world.kill_hub();
    world.run_for(S);
    world.media_works = true;
    world.start_hub();
    world.run_for(11 * S);
    world.assert_agreed();
    assert_ne!(ids_of(&world, camera), ["0-1"]);
    assert_eq!(ids_of(&world, camera), ids_of(&world, viewer));
}

#[test]
fn a_killed_process_is_replaced_by_its_successor() {
    for name in ["camera", "viewer-1"] {
        let (mut world, camera, [viewer, _]) = streaming();
        let (killed, other, role) =
            if name == "camera" { (camera, viewer, Sender) } else { (viewer, camera, Receiver) };
        world.kill(killed);
        world.run_for(2 * S);
        assert_eq!(peer_events(&mut world, other), Vec::<String>::new(), "media may still flow");
        world.spawn(name, role);
        world.run_for(S);
        assert_eq!(
            peer_events(&mut world, other),
            [format!("{name} gone Replaced"), format!("{name} ready")]
        );
        world.assert_agreed();
    }
}

#[test]
fn a_machine_gets_its_id_back_after_a_power_failure() {
    let (mut world, camera, [viewer, _]) = streaming();
    world.power_off(camera);
    world.run_for(S);
    world.spawn("camera", Sender);
    world.run_for(4 * S);
    world.assert_agreed();
    assert_eq!(peer_events(&mut world, viewer), ["camera gone Replaced", "camera ready"]);
}

#[test]
fn a_killed_process_is_gone_when_its_media_ends() {
    let (mut world, camera, [viewer, _]) = streaming();
    world.kill(viewer);
    world.run_for(10 * S);
    assert_eq!(peer_events(&mut world, camera), Vec::<String>::new());
    world.run_for(10 * S);
    assert_eq!(peer_events(&mut world, camera), ["viewer-1 gone Absent"]);
    world.assert_agreed();
}

#[test]
fn a_reset_connection_is_repaired_silently() {
    let (mut world, camera, [viewer, other]) = streaming();
    for node in [camera, viewer] {
        world.reset(node);
        world.run_for(S);
        world.assert_agreed();
        for node in [camera, viewer, other] {
            assert_eq!(peer_events(&mut world, node), Vec::<String>::new());
        }
    }
}

#[test]
fn a_silent_loss_of_the_connection_is_noticed_and_repaired() {
    let (mut world, camera, [viewer, other]) = streaming();
    world.cut(viewer);
    world.run_for(60 * S);
    world.assert_agreed();
    for node in [camera, viewer, other] {
        assert_eq!(peer_events(&mut world, node), Vec::<String>::new());
    }
}

#[test]
fn a_half_connected_session_is_repaired() {
    for (cut, receiver_first) in [("camera", false), ("viewer", false), ("camera", true), ("viewer", true)] {
        let mut world = World::new();
        world.media_works = false;
        let camera = world.spawn("camera", Sender);
        let viewer = world.spawn("viewer", Receiver);
        world.run_for(S);
        // One end knows that media flows. Before the other end knows, a connection breaks.
        if receiver_first {
            world.report(viewer, "camera", Media::Connected);
        } else {
            world.report(camera, "viewer", Media::Connected);
        }
        let session = ids_of(&world, viewer);
        world.reset(if cut == "camera" { camera } else { viewer });
        world.run_for(S);
        assert_eq!(
            ids_of(&world, camera),
            ids_of(&world, viewer),
            "cut at {cut}, receiver first {receiver_first}"
        );
        assert_eq!(ids_of(&world, viewer) == session, !receiver_first);
    }
}

#[test]
fn a_takeover_ends_no_media() {
    let (mut world, camera, [viewer, other]) = streaming();
    for node in [camera, viewer] {
        world.half_open(node);
        world.run_for(S);
        world.assert_agreed();
        for node in [camera, viewer, other] {
            assert_eq!(peer_events(&mut world, node), Vec::<String>::new());
        }
    }
}

#[test]
fn a_takeover_starts_a_negotiation_anew() {
    for name in ["camera", "viewer"] {
        let mut world = World::new();
        world.media_works = false;
        let camera = world.spawn("camera", Sender);
        let viewer = world.spawn("viewer", Receiver);
        world.run_for(S);
        world.half_open(if name == "camera" { camera } else { viewer });
        world.media_works = true;
        world.run_for(S);
        world.assert_agreed();
        assert_ne!(ids_of(&world, camera), ["0-1"], "{name} came back");
    }
}

#[test]
fn absent_for_good_after_the_servers_restart_means_30_s() {
    let (mut world, camera, [viewer, _]) = streaming();
    world.media_works = false;
    world.kill_hub();
    world.power_off(viewer);
    world.start_hub();
    world.run_for(5 * S);
    assert_eq!(peer_events(&mut world, camera), Vec::<String>::new());
    world.run_for(26 * S);
    let gone = format!("viewer-1 gone {:?}", GoneReason::Absent);
    assert_eq!(peer_events(&mut world, camera), [gone]);
}
