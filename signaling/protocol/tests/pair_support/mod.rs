//! One Hub and some Clients on virtual time, with a network between them that can be cut.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of this")]

use room_protocol::{
    ByteString, Client, ClientId, Hub, Instance, RoomId, SessionId,
    client::{self, ClientConfig, Event, Media, State},
    hub::{self, ConnId, HubConfig, PeerInfo},
    turn::WallClock,
    wire::{Body, PeerEntry, Role, Signal},
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

/// How long a frame takes from one end to the other.
const LATENCY: Duration = Duration::from_millis(20);
/// How often owners check their media, and the silence after which they end it.
const LOOK: Duration = Duration::from_secs(1);
const MEDIA_TIMEOUT: Duration = Duration::from_secs(15);

/// A message on a connection.
#[derive(Debug, Clone)]
enum Packet {
    Text(ByteString),
    Ping,
    Pong,
    Close(Option<u16>),
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is independent of the others")]
struct Wire {
    node: usize,
    to_hub: VecDeque<(Instant, Packet)>,
    to_client: VecDeque<(Instant, Packet)>,
    /// Nothing passes any more, and neither end is informed.
    cut: bool,
    /// The Hub holds the connection.
    held: bool,
    client_open: bool,
    hub_open: bool,
}

/// One process: a Client and its owner, which reacts to every `PeerReady` as the elements do.
#[derive(Debug)]
pub struct Node {
    client: Option<Client>,
    config: ClientConfig,
    conn: Option<ConnId>,
    /// When an attempt to connect will end.
    connecting: Option<Instant>,
    /// The peers that are known to the owner, and the media session with each.
    pub sessions: BTreeMap<ClientId, MediaSession>,
    pub state: State,
    pub events: Vec<Event>,
    made: u32,
}

/// A media session as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MediaSession {
    pub id: Option<SessionId>,
    pub connected: bool,
    /// The time since which the other end of connected media is silent.
    silent_since: Option<Instant>,
}

#[derive(Debug)]
pub struct World {
    pub now: Instant,
    hub: Option<Hub>,
    hubs: u8,
    wires: BTreeMap<ConnId, Wire>,
    conns: u64,
    pub nodes: Vec<Node>,
    /// Whether owners report media as connected after offer and answer.
    pub media_works: bool,
    /// Media sessions that will be connected, at the end of this node.
    connects: BTreeMap<(Instant, usize, ClientId), SessionId>,
    next_look: Instant,
}

pub fn room() -> RoomId {
    RoomId::new("living_room").unwrap()
}

pub fn id(text: &str) -> ClientId {
    ClientId::new(text).unwrap()
}

impl World {
    pub fn new() -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            hub: None,
            hubs: 0,
            wires: BTreeMap::new(),
            conns: 0,
            nodes: Vec::new(),
            media_works: true,
            connects: BTreeMap::new(),
            next_look: now,
        };
        world.start_hub();
        world
    }

    pub fn start_hub(&mut self) {
        self.hubs += 1;
        let wall_clock = WallClock { at: self.now, unix: Duration::ZERO };
        self.hub = Some(Hub::new(HubConfig::default(), [self.hubs; 32], wall_clock));
    }

    pub fn start_hub_if_none(&mut self) {
        if self.hub.is_none() {
            self.start_hub();
        }
    }

    /// Kills the server. The system closes its sockets.
    pub fn kill_hub(&mut self) {
        self.hub = None;
        for wire in self.wires.values_mut() {
            wire.hub_open = false;
        }
        for wire in self.wires.values_mut().filter(|wire| !wire.cut) {
            wire.to_client.push_back((self.now + LATENCY, Packet::Close(None)));
        }
    }

    /// Adds a process. With an id that is in use, it is the successor of that process.
    pub fn spawn(&mut self, name: &str, role: Role) -> usize {
        let node = self.nodes.len();
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&(node as u64 + 1).to_be_bytes());
        let config = ClientConfig {
            client_id: Some(id(name)),
            ..ClientConfig::new(room(), role, Instance::from_random(secret))
        };
        self.nodes.push(Node {
            client: Some(Client::new(config.clone(), node as u64, self.now)),
            config,
            conn: None,
            connecting: None,
            sessions: BTreeMap::new(),
            state: State::Connecting,
            events: Vec::new(),
            made: 0,
        });
        node
    }

    /// Kills a process. The system closes its socket.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].client = None;
        self.nodes[node].sessions.clear();
        self.close_client_side(node);
    }

    /// Switches off the machine of a process. No other machine is informed.
    pub fn power_off(&mut self, node: usize) {
        self.cut(node);
        self.nodes[node].client = None;
        self.nodes[node].sessions.clear();
    }

    pub fn shutdown(&mut self, node: usize) {
        self.input(node, client::Input::Shutdown);
    }

    /// Makes the network drop everything on this connection.
    pub fn cut(&mut self, node: usize) {
        if let Some(wire) = self.nodes[node].conn.and_then(|conn| self.wires.get_mut(&conn)) {
            wire.cut = true;
            wire.to_hub.clear();
            wire.to_client.clear();
        }
    }

    /// Resets a connection. Messages in flight are lost, and both ends are informed.
    pub fn reset(&mut self, node: usize) {
        let Some(conn) = self.nodes[node].conn else { return };
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        wire.to_hub = VecDeque::from([(self.now + LATENCY, Packet::Close(None))]);
        wire.to_client = VecDeque::from([(self.now + LATENCY, Packet::Close(None))]);
    }

    /// Ends a connection for this node only. Messages in flight are lost; the Hub considers the connection alive.
    pub fn half_open(&mut self, node: usize) {
        self.cut(node);
        if self.nodes[node].conn.take().is_some() {
            self.input(node, client::Input::Disconnected(None));
        }
    }

    /// Whether a process and its client are alive.
    pub fn is_alive(&self, node: usize) -> bool {
        self.nodes[node].client.is_some() && self.nodes[node].state != State::Closed
    }

    /// The members as the Hub sees them.
    pub fn members(&self) -> Vec<PeerEntry> {
        self.hub.as_ref().map(|hub| hub.members_of(&room())).unwrap_or_default()
    }

    /// The peers in the view of a node's client.
    pub fn view(&self, node: usize) -> Vec<PeerEntry> {
        self.nodes[node].client.iter().flat_map(Client::peers).cloned().collect()
    }

    pub fn take_events(&mut self, node: usize) -> Vec<Event> {
        std::mem::take(&mut self.nodes[node].events)
    }

    pub fn report(&mut self, node: usize, peer: &str, media: Media) {
        let session = self.nodes[node].sessions.get(&id(peer)).and_then(|media| media.id.clone());
        self.input(node, client::Input::Media { peer: id(peer), session, media });
    }

    /// Advances the time, with every event at its time.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(next) = self.next_time().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.step();
            self.settle();
        }
        self.now = end;
    }

    /// Checks that every client's view equals the Hub's, and that every pair has one session that both ends agree on.
    pub fn assert_agreed(&self) {
        let members = self.members();
        for (node, state) in self.nodes.iter().enumerate().filter(|(node, _)| self.is_alive(*node)) {
            assert_eq!(state.state, State::Joined, "{:?}", state.config.client_id);
            let opposite = state.config.role.opposite();
            let expected: Vec<_> = members.iter().filter(|member| member.role == opposite).cloned().collect();
            assert_eq!(self.view(node), expected, "seen by {:?}", state.config.client_id);
            let sessions: Vec<_> = state.sessions.keys().collect();
            let ids: Vec<_> = expected.iter().map(|member| &member.client_id).collect();
            assert_eq!(sessions, ids, "sessions of {:?}", state.config.client_id);
        }
        let alive = (0..self.nodes.len()).filter(|node| self.is_alive(*node)).count();
        assert_eq!(members.len(), alive);
        if self.media_works {
            self.assert_media();
        }
    }

    fn assert_media(&self) {
        let alive = |role| {
            let nodes = self.nodes.iter().enumerate();
            nodes.filter(move |(node, state)| self.is_alive(*node) && state.config.role == role)
        };
        for (_, sender) in alive(Role::Sender) {
            for (_, receiver) in alive(Role::Receiver) {
                let (sender_id, receiver_id) =
                    (sender.config.client_id.as_ref().unwrap(), receiver.config.client_id.as_ref().unwrap());
                let (sends, receives) = (&sender.sessions[receiver_id], &receiver.sessions[sender_id]);
                assert!(sends.connected, "{sender_id} to {receiver_id}: {sends:?}, {receives:?}");
                assert!(receives.connected, "{sender_id} to {receiver_id}: {sends:?}, {receives:?}");
                assert_eq!(sends.id, receives.id, "{sender_id} to {receiver_id}");
            }
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let wires = self.wires.values().filter(|wire| !wire.cut).flat_map(|wire| {
            let to_hub = wire.to_hub.front().filter(|_| !wire.held);
            [to_hub, wire.to_client.front()].into_iter().flatten().map(|(at, _)| *at)
        });
        let nodes = self
            .nodes
            .iter()
            .flat_map(|node| [node.connecting, node.client.as_ref().and_then(Client::poll_timeout)])
            .flatten();
        let connects = self.connects.keys().map(|(at, ..)| *at);
        let hub = self.hub.as_ref().and_then(Hub::poll_timeout);
        wires.chain(nodes).chain(connects).chain(hub).chain([self.next_look]).min()
    }

    /// Performs everything that is due now, in a fixed order.
    fn step(&mut self) {
        for conn in self.wires.keys().copied().collect::<Vec<_>>() {
            self.deliver_to_hub(conn);
            self.deliver_to_client(conn);
        }
        if let Some(hub) = &mut self.hub {
            hub.handle_timeout(self.now);
        }
        self.connect_media();
        self.look_after_media();
        for node in 0..self.nodes.len() {
            if self.nodes[node].connecting.is_some_and(|at| at <= self.now) {
                self.nodes[node].connecting = None;
                self.open(node);
            }
            if let Some(client) = &mut self.nodes[node].client {
                client.handle_timeout(self.now);
            }
        }
        self.wires.retain(|_, wire| wire.client_open || wire.hub_open);
    }

    fn deliver_to_hub(&mut self, conn: ConnId) {
        while let Some(packet) = self.wires.get_mut(&conn).and_then(|wire| wire.due(self.now, true)) {
            let open = self.wires.get(&conn).is_some_and(|wire| wire.hub_open);
            let Some(hub) = self.hub.as_mut().filter(|_| open) else { continue };
            match packet {
                Packet::Text(text) => hub.handle(self.now, hub::Input::Frame(conn, text)),
                Packet::Ping => {
                    hub.handle(self.now, hub::Input::Alive(conn));
                    self.push_to_client(conn, Packet::Pong);
                }
                Packet::Pong => hub.handle(self.now, hub::Input::Alive(conn)),
                Packet::Close(_) => {
                    hub.handle(self.now, hub::Input::Disconnected(conn));
                    if let Some(wire) = self.wires.get_mut(&conn) {
                        wire.hub_open = false;
                    }
                }
            }
            self.settle();
        }
    }

    fn deliver_to_client(&mut self, conn: ConnId) {
        while let Some(packet) = self.wires.get_mut(&conn).and_then(|wire| wire.due(self.now, false)) {
            let Some(wire) = self.wires.get_mut(&conn).filter(|wire| wire.client_open) else { continue };
            let node = wire.node;
            match packet {
                Packet::Text(text) => self.input(node, client::Input::Frame(text)),
                Packet::Ping => {
                    self.push_to_hub(conn, Packet::Pong);
                    self.input(node, client::Input::Alive);
                }
                Packet::Pong => self.input(node, client::Input::Alive),
                Packet::Close(code) => {
                    wire.client_open = false;
                    self.nodes[node].conn = None;
                    self.push_to_hub(conn, Packet::Close(None));
                    self.input(node, client::Input::Disconnected(code));
                }
            }
        }
    }

    fn open(&mut self, node: usize) {
        let Some(hub) = &mut self.hub else {
            return self.input(node, client::Input::Disconnected(None));
        };
        self.conns += 1;
        let conn = ConnId(self.conns);
        hub.handle(
            self.now,
            hub::Input::Connected(conn, PeerInfo { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), room: None }),
        );
        self.wires.insert(conn, Wire::new(node));
        self.nodes[node].conn = Some(conn);
        self.input(node, client::Input::Connected);
    }

    fn input(&mut self, node: usize, input: client::Input) {
        if let Some(client) = &mut self.nodes[node].client {
            client.handle(self.now, input);
        }
        self.settle();
    }

    /// Performs the outputs of the Hub and the Clients.
    fn settle(&mut self) {
        loop {
            if let Some(output) = self.hub.as_mut().and_then(Hub::poll_output) {
                self.perform_for_hub(output);
                continue;
            }
            let next = self
                .nodes
                .iter_mut()
                .enumerate()
                .find_map(|(node, state)| Some((node, state.client.as_mut()?.poll_output()?)));
            let Some((node, output)) = next else { return };
            self.perform_for_client(node, output);
        }
    }

    fn perform_for_hub(&mut self, output: hub::Output) {
        match output {
            hub::Output::Send(conn, text) => self.push_to_client(conn, Packet::Text(text)),
            hub::Output::Ping(conn) => self.push_to_client(conn, Packet::Ping),
            hub::Output::Close(conn, code, _) => {
                self.push_to_client(conn, Packet::Close(Some(code)));
                if let Some(wire) = self.wires.get_mut(&conn) {
                    wire.hub_open = false;
                }
            }
            hub::Output::Verify(..) => unreachable!("nobody needs a token or a password here"),
            hub::Output::Hold(conn) => self.hold(conn, true),
            hub::Output::Release(conn) => self.hold(conn, false),
            hub::Output::Event(..) => {}
        }
    }

    /// Stops or resumes reading from a client's socket.
    fn hold(&mut self, conn: ConnId, held: bool) {
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.held = held;
        }
    }

    fn perform_for_client(&mut self, node: usize, output: client::Output) {
        let conn = self.nodes[node].conn;
        match (output, conn) {
            (client::Output::Connect, _) => self.nodes[node].connecting = Some(self.now + LATENCY),
            (client::Output::Send(text), Some(conn)) => self.push_to_hub(conn, Packet::Text(text)),
            (client::Output::Ping, Some(conn)) => self.push_to_hub(conn, Packet::Ping),
            (client::Output::Disconnect, _) => {
                self.nodes[node].connecting = None;
                self.close_client_side(node);
            }
            (client::Output::Event(event), _) => self.own(node, event),
            (output, None) => panic!("{output:?} without a connection"),
        }
    }

    fn close_client_side(&mut self, node: usize) {
        let Some(conn) = self.nodes[node].conn.take() else { return };
        self.push_to_hub(conn, Packet::Close(None));
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.client_open = false;
        }
    }

    fn push_to_hub(&mut self, conn: ConnId, packet: Packet) {
        if let Some(wire) = self.wires.get_mut(&conn).filter(|wire| !wire.cut) {
            wire.to_hub.push_back((self.now + LATENCY, packet));
        }
    }

    fn push_to_client(&mut self, conn: ConnId, packet: Packet) {
        if let Some(wire) = self.wires.get_mut(&conn).filter(|wire| !wire.cut) {
            wire.to_client.push_back((self.now + LATENCY, packet));
        }
    }

    /// Reacts to an event as the elements do: senders offer, receivers answer, and media connects a little later.
    fn own(&mut self, node: usize, event: Event) {
        let state = &mut self.nodes[node];
        state.events.push(event.clone());
        match event {
            Event::State(now) => state.state = now,
            Event::PeerReady(peer) => {
                let before = state.sessions.insert(peer.client_id.clone(), MediaSession::default());
                assert_eq!(before, None, "PeerReady while there is a session");
                if state.config.role == Role::Sender {
                    state.made += 1;
                    let session = SessionId::new(format!("{node}-{}", state.made)).unwrap();
                    let media = MediaSession { id: Some(session.clone()), ..Default::default() };
                    state.sessions.insert(peer.client_id.clone(), media);
                    self.say(node, peer.client_id, Some(session), Body::Offer { sdp: "v=0".to_owned() });
                }
            }
            Event::PeerGone(peer, _) => {
                assert!(state.sessions.remove(&peer).is_some(), "PeerGone of an unknown peer");
            }
            Event::Signal(signal) => self.on_signal(node, signal),
            Event::Failed(failure) => panic!("node {node}: {failure}"),
            Event::Joined { .. }
            | Event::PeerChanged(_)
            | Event::Refused { .. }
            | Event::Disconnected(_)
            | Event::Unreachable(_) => {}
        }
    }

    fn on_signal(&mut self, node: usize, signal: Signal) {
        let Some(from) = signal.from else { panic!("a signal from nobody") };
        let state = &mut self.nodes[node];
        match signal.body {
            Body::Offer { .. } => {
                assert_eq!(state.config.role, Role::Receiver);
                let Some(media) = state.sessions.get_mut(&from) else { panic!("an offer before PeerReady") };
                *media = MediaSession { id: signal.session_id.clone(), ..Default::default() };
                self.say(node, from, signal.session_id, Body::Answer { sdp: "v=0".to_owned() });
            }
            Body::Answer { .. } => {
                let Some(session) = signal.session_id else { panic!("an answer without session") };
                self.connect_media_soon(node, from, session);
            }
            Body::Bye | Body::Candidate { .. } => {}
        }
    }

    /// Connects the media after the answer. The two ends notice it at different times.
    fn connect_media_soon(&mut self, sender: usize, receiver_id: ClientId, session: SessionId) {
        let (sender_at, receiver_at) = (self.now + 3 * LATENCY, self.now + 5 * LATENCY);
        let sender_id = self.id_of(sender);
        if let Some(receiver) = self.media_works.then(|| self.node_of(&receiver_id)).flatten() {
            self.connects.insert((sender_at, sender, receiver_id), session.clone());
            self.connects.insert((receiver_at, receiver, sender_id), session);
        }
    }

    fn connect_media(&mut self) {
        while let Some(entry) = self.connects.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let ((_, node, peer), session) = entry.remove_entry();
            if !self.other_end_has(node, &peer, &session) {
                continue;
            }
            if let Some(media) =
                self.nodes[node].sessions.get_mut(&peer).filter(|media| media.id.as_ref() == Some(&session))
            {
                media.connected = true;
                self.input(
                    node,
                    client::Input::Media { peer, session: Some(session), media: Media::Connected },
                );
            }
        }
    }

    /// Checks the liveness of media: a session whose other end is gone ends after a while.
    fn look_after_media(&mut self) {
        if self.now < self.next_look {
            return;
        }
        self.next_look = self.now + LOOK;
        let connected: Vec<(usize, ClientId, SessionId)> = self
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(node, state)| state.sessions.iter().map(move |(peer, media)| (node, peer, media)))
            .filter(|(_, _, media)| media.connected)
            .filter_map(|(node, peer, media)| Some((node, peer.clone(), media.id.clone()?)))
            .collect();
        for (node, peer, session) in connected {
            let flows = self.other_end_has(node, &peer, &session);
            let Some(media) = self.nodes[node].sessions.get_mut(&peer) else { continue };
            let since = *media.silent_since.get_or_insert(self.now);
            if flows {
                media.silent_since = None;
            } else if self.now - since >= MEDIA_TIMEOUT {
                *media = MediaSession::default();
                self.input(node, client::Input::Media { peer, session: Some(session), media: Media::Ended });
            }
        }
    }

    fn other_end_has(&self, node: usize, peer: &ClientId, session: &SessionId) -> bool {
        let me = self.id_of(node);
        let other = self.node_of(peer).and_then(|other| self.nodes[other].sessions.get(&me));
        other.is_some_and(|media| media.id.as_ref() == Some(session))
    }

    fn id_of(&self, node: usize) -> ClientId {
        self.nodes[node].config.client_id.clone().expect("every node has an id")
    }

    /// The process with this id that is alive.
    fn node_of(&self, id: &ClientId) -> Option<usize> {
        (0..self.nodes.len()).find(|node| self.is_alive(*node) && self.id_of(*node) == *id)
    }

    fn say(&mut self, node: usize, to: ClientId, session_id: Option<SessionId>, body: Body) {
        if let Some(client) = &mut self.nodes[node].client {
            let signal = Signal { body, target_id: Some(to), session_id, from: None };
            client.handle(self.now, client::Input::Send(signal));
        }
    }
}

impl Wire {
    fn new(node: usize) -> Self {
        Self {
            node,
            to_hub: VecDeque::new(),
            to_client: VecDeque::new(),
            cut: false,
            held: false,
            client_open: true,
            hub_open: true,
        }
    }

    fn due(&mut self, now: Instant, to_hub: bool) -> Option<Packet> {
        let queue = match to_hub {
            true if self.held => return None,
            true => &mut self.to_hub,
            false => &mut self.to_client,
        };
        queue.pop_front_if(|(at, _)| *at <= now).map(|(_, packet)| packet)
    }
}
