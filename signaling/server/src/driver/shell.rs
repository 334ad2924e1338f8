//! Drives the Hub: hands it what happens and the time, and does what it asks for, at one place.

use super::log::{self, Log};
use crate::{
    Config, Tls,
    auth::Passwords,
    http::metrics::{self, Metrics},
    net::{
        admission::Admission,
        door::Door,
        io::Scratch,
        lane::Lane,
        queue::{Kind, Queue, Shared},
    },
};
use bytes::Bytes;
use room_protocol::{
    ClientId, Hub, HubConfig, RoomId,
    hub::{Claim, ConnId, DenyList, Event, Input, MemberInfo, Output, PeerInfo, RoomInfo, Verdict},
    turn::WallClock,
};
use std::{
    cell::{Cell, RefCell, RefMut},
    collections::{HashMap, HashSet},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{sync::Notify, time};

/// The price of a verification, in deliveries: that of 20 messages.
const VERIFICATION: u64 = 80;
/// How long the last words of all connections may take at the end, beside [`Config::drain`].
const FAREWELL: Duration = Duration::from_secs(2);

/// How often the lag of this thread is measured.
const LAG_EVERY: Duration = Duration::from_millis(250);

/// The Hub and the queues of its connections.
#[derive(Debug)]
pub(crate) struct Shell {
    config: RefCell<Rc<Config>>,
    hub: RefCell<Hub>,
    peers: RefCell<HashMap<ConnId, Peer>>,
    queues: Rc<Shared>,
    scratch: RefCell<Scratch>,
    next_id: Cell<u64>,
    /// The connection whose message is being handled.
    turn: Cell<Option<ConnId>>,
    admission: Rc<Admission>,
    /// Those who come in by [`Door::Operators`].
    operators: Rc<Admission>,
    lane: Lane,
    /// One reference for each that is told that it is not taken, and this one.
    told: Rc<()>,
    log: Log,
    metrics: Metrics,
    passwords: Passwords,
    /// What operators have denied since the server started, in addition to the configuration.
    denied: RefCell<DenyList>,
    /// When the alarm is set to go off.
    alarm: Cell<Option<Instant>>,
    /// It has to go off earlier.
    earlier: Notify,
    /// A connection has ended.
    ended: Notify,
}

#[derive(Debug)]
struct Peer {
    queue: Rc<Queue>,
    address: SocketAddr,
}

impl Shell {
    pub(crate) fn new(config: Config, seed: [u8; 32]) -> Self {
        let queues = Shared::new();
        queues.budget().set(config.limits.max_queue, config.limits.max_queues);
        let first = hub_config(&config, &DenyList::default());
        Self {
            hub: RefCell::new(Hub::new(first, seed, wall_clock())),
            peers: RefCell::default(),
            queues: Rc::new(queues),
            scratch: RefCell::new(Scratch::new()),
            next_id: Cell::new(0),
            turn: Cell::new(None),
            admission: Rc::default(),
            operators: Rc::default(),
            lane: Lane::default(),
            told: Rc::default(),
            log: Log::new(),
            metrics: Metrics::new(),
            passwords: Passwords::new(&seed),
            denied: RefCell::default(),
            alarm: Cell::new(None),
            earlier: Notify::new(),
            ended: Notify::new(),
            config: RefCell::new(Rc::new(config)),
        }
    }

    pub(crate) fn config(&self) -> Rc<Config> {
        self.config.borrow().clone()
    }

    /// Replaces the configuration; open connections stay.
    pub(crate) fn reload(&self, config: Config) {
        let (old, new) = (self.hub_config(&self.config()), self.hub_config(&config));
        self.queues.budget().set(config.limits.max_queue, config.limits.max_queues);
        // The renewal of a certificate concerns neither sessions nor passwords.
        if new != old {
            let used: HashSet<_> = new.room_rules.iter().filter_map(|rule| rule.password.as_ref()).collect();
            self.passwords.keep(|hash| used.contains(hash));
            self.hub.borrow_mut().reconfigure(self.now(), new.clone());
        }
        *self.config.borrow_mut() = Rc::new(config);
        self.deliver(Vec::new());
    }

    fn hub_config(&self, config: &Config) -> HubConfig {
        hub_config(config, &self.denied.borrow())
    }

    /// Removes a member from a room. Returns whether there was one.
    pub(crate) fn kick(&self, room_id: &RoomId, client_id: &ClientId) -> bool {
        let is_member = self.hub.borrow_mut().kick(self.now(), room_id, client_id);
        self.deliver(Vec::new());
        is_member
    }

    /// Removes all members from a room. Returns how many there were.
    pub(crate) fn close_room(&self, room_id: &RoomId) -> usize {
        let removed = self.hub.borrow_mut().close_room(self.now(), room_id);
        self.deliver(Vec::new());
        removed
    }

    /// The users and tokens that are denied, by the configuration or by operators since the start.
    pub(crate) fn denied(&self) -> DenyList {
        self.hub_config(&self.config()).denied
    }

    /// Changes what operators deny in addition to the configuration. Returns what `change` returns.
    pub(crate) fn change_denied(&self, change: impl FnOnce(&mut DenyList) -> bool) -> bool {
        let is_changed = change(&mut self.denied.borrow_mut());
        if is_changed {
            let config = self.hub_config(&self.config());
            self.hub.borrow_mut().reconfigure(self.now(), config);
            self.deliver(Vec::new());
        }
        is_changed
    }

    /// The buffer that connections read through, for the time of a turn.
    pub(crate) fn scratch(&self) -> RefMut<'_, Scratch> {
        self.scratch.borrow_mut()
    }

    /// Counts those who came in by this door.
    pub(crate) fn admission(&self, door: Door) -> &Rc<Admission> {
        match door {
            Door::Public => &self.admission,
            Door::Operators => &self.operators,
        }
    }

    /// Where those wait who can.
    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    /// To be cloned for as long as one who is not taken is told so.
    pub(crate) fn told(&self) -> &Rc<()> {
        &self.told
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Everything that is measured, in the text format of Prometheus.
    pub(crate) fn metrics_text(&self) -> String {
        self.metrics.text(&metrics::Now {
            hub: &self.hub.borrow(),
            open: self.peers.borrow().len(),
            handshakes: self.admission.handshakes() + self.operators.handshakes(),
            panics: self.admission.panics() + self.operators.panics(),
            received_bytes: self.scratch.borrow().received(),
            sent_bytes: self.queues.sent(),
            queued_bytes: self.queues.budget().held() - self.queues.budget().inbound(),
            inbound_bytes: self.queues.budget().inbound(),
            latency: self.queues.latency(),
            largest_queue: self.peers.borrow().values().map(|peer| peer.queue.weight()).max().unwrap_or(0),
            passwords: self.passwords.waiting(),
            lane: self.lane.waiting(),
            certificate_end: self.config().tls.as_ref().and_then(Tls::not_after),
        })
    }

    /// Shows rooms with who is in them, in order, those behind `after` first; where each member is, the second
    /// argument tells. When that was enough for now, returns the last one that was shown.
    pub(crate) fn look_at_rooms(
        &self,
        after: Option<&RoomId>,
        mut look: impl FnMut(RoomInfo<'_>, &dyn Fn(&MemberInfo<'_>) -> Option<SocketAddr>) -> bool,
    ) -> Option<RoomId> {
        let (hub, peers) = (self.hub.borrow(), self.peers.borrow());
        let address = |member: &MemberInfo<'_>| peers.get(&member.conn).map(|peer| peer.address);
        let mut rooms = hub.rooms_after(after);
        rooms.find_map(|room| {
            let room_id = room.room_id;
            (!look(room, &address)).then(|| room_id.clone())
        })
    }

    /// How many messages went out, to whomever.
    pub(crate) fn delivered(&self) -> u64 {
        self.metrics.delivered.get()
    }

    /// A connection is not read for a while, although there is more of it: it is not silent.
    pub(crate) fn paused(&self, id: ConnId) {
        self.metrics.pauses.add(1);
        self.handle(Input::Alive(id));
    }

    /// Whether the end is near.
    pub(crate) fn is_draining(&self) -> bool {
        self.hub.borrow().is_draining()
    }

    /// What has to be done every now and then. Never ends.
    pub(crate) async fn keep_house(&self) {
        loop {
            time::sleep(log::SUMMARY_EVERY).await;
            self.log.summarize();
        }
    }

    /// Measures how late tasks are run. Never ends.
    pub(crate) async fn measure_lag(&self) {
        loop {
            let due = time::Instant::now() + LAG_EVERY;
            time::sleep_until(due).await;
            self.metrics.lag.observe(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// A WebSocket is open.
    /// `room` is the one that its URL names.
    pub(crate) fn connect(&self, address: SocketAddr, room: Option<RoomId>) -> (ConnId, Rc<Queue>) {
        let id = ConnId(self.next_id.replace(self.next_id.get() + 1));
        let queue = Rc::new(Queue::new(id, self.queues.clone()));
        self.peers.borrow_mut().insert(id, Peer { queue: queue.clone(), address });
        self.metrics.opened.add(1);
        self.log.connected(id, address);
        self.hub.borrow_mut().set_wall_clock(wall_clock());
        self.handle(Input::Connected(id, PeerInfo { ip: address.ip(), room }));
        (id, queue)
    }

    /// A connection has ended.
    pub(crate) fn disconnect(&self, id: ConnId) {
        self.handle(Input::Disconnected(id));
        if let Some(peer) = self.peers.borrow_mut().remove(&id) {
            self.log.disconnected(id, peer.address);
        }
        self.ended.notify_one();
    }

    /// The queue of a connection has overflowed.
    pub(crate) fn overflow(&self, id: ConnId) {
        self.deliver(vec![id]);
    }

    /// Sees to it that all connections together hold no more than they may.
    pub(crate) fn keep_within_budget(&self) {
        if self.queues.budget().is_exceeded() {
            self.deliver(Vec::new());
        }
    }

    /// The time, and what is queued from here on is of it.
    fn now(&self) -> Instant {
        let now = Instant::now();
        self.queues.at(now);
        now
    }

    /// Tells the Hub and does what it asks for.
    pub(crate) fn handle(&self, input: Input) {
        self.hub.borrow_mut().handle(self.now(), input);
        self.deliver(Vec::new());
    }

    /// Performs what the Hub puts out. A connection without room never keeps the others from their messages: first
    /// everything is handed out, then the Hub hears of the overflows.
    fn deliver(&self, mut overflowed: Vec<ConnId>) {
        let mut verdicts = Vec::new();
        // Deliveries before this count are paid for by somebody.
        let mut paid = self.delivered();
        loop {
            while let Some(output) = self.poll_output() {
                match output {
                    Output::Verify(id, claim) => verdicts.extend(self.verify(id, claim)),
                    Output::Release(id) => {
                        self.release(id, self.delivered() - paid);
                        paid = self.delivered();
                    }
                    output => self.perform(output, &mut overflowed),
                }
            }
            if let Some((id, verdict)) = verdicts.pop() {
                self.hub.borrow_mut().handle(self.now(), Input::Verified(id, verdict));
                continue;
            }
            self.evict(&mut overflowed);
            let Some(id) = overflowed.pop() else { break };
            self.answer_overflow(id);
        }
        self.set_alarm();
    }

    /// Lets a connection read again. The deliveries that its request has caused are charged to it, unless this happens
    /// within its own turn, which charges them itself.
    fn release(&self, id: ConnId, deliveries: u64) {
        if let Some(Peer { queue, .. }) = self.peers.borrow().get(&id) {
            queue.release(if self.turn.get() == Some(id) { 0 } else { deliveries });
        }
    }

    /// While all connections together hold more than they may, those that hold most have to go.
    fn evict(&self, overflowed: &mut Vec<ConnId>) {
        let peers = self.peers.borrow();
        while self.queues.budget().is_exceeded() {
            let largest = self.queues.budget().largest();
            // With tiny limits, nobody may be large enough to be ranked.
            let by_weight = || peers.iter().max_by_key(|(_, peer)| peer.queue.weight()).map(|(id, _)| *id);
            let Some(id) = largest.or_else(by_weight) else { return };
            let Some(Peer { queue, .. }) = peers.get(&id).filter(|peer| peer.queue.weight() > 0) else {
                return;
            };
            queue.overflow();
            queue.part();
            overflowed.push(id);
        }
    }

    /// Tells the Hub about an overflow, so that the connection gets its last words.
    fn answer_overflow(&self, id: ConnId) {
        let is_known = self.hub.borrow().knows(id);
        if let Some(Peer { queue, .. }) = self.peers.borrow().get(&id) {
            queue.part();
            if !is_known {
                // Nobody else would ever close it.
                queue.end();
            }
        }
        if is_known {
            self.metrics.slow_consumers.add(1);
            self.hub.borrow_mut().handle(self.now(), Input::Overflowed(id));
        }
    }

    /// Hands a message to the Hub in the turn of its connection, which pays for what follows from it.
    pub(crate) fn handle_in_turn(&self, id: ConnId, input: Input) {
        self.turn.set(Some(id));
        self.handle(input);
        self.turn.set(None);
    }

    fn poll_output(&self) -> Option<Output> {
        self.hub.borrow_mut().poll_output()
    }

    fn perform(&self, output: Output, overflowed: &mut Vec<ConnId>) {
        let (Output::Send(id, _)
        | Output::Ping(id)
        | Output::Verify(id, _)
        | Output::Hold(id)
        | Output::Release(id)
        | Output::Close(id, ..)
        | Output::Event(id, _)) = output;
        let peers = self.peers.borrow();
        let Some(Peer { queue, address }) = peers.get(&id) else { return };
        let had_room = !queue.is_overflowed();
        match output {
            Output::Send(_, text) => {
                self.metrics.delivered.add(1);
                log::sending(id, &text);
                queue.push_text(text.into_bytes());
            }
            Output::Ping(_) => queue.push(Kind::Ping, Bytes::new()),
            // `deliver` performs these.
            Output::Verify(..) | Output::Release(_) => {}
            Output::Hold(_) => queue.hold(),
            Output::Close(_, code, reason) => {
                self.log.closing(id, *address, code, reason);
                self.metrics.closed(code);
                queue.close(code, reason);
            }
            Output::Event(_, event) => {
                if let Event::Registered { protocol: 0, .. } = event {
                    queue.one_frame_a_write();
                }
                self.log.event(id, *address, &event);
            }
        }
        if had_room && queue.is_overflowed() {
            overflowed.push(id);
        }
    }

    /// Verifies a claim, for which the client pays. Returns the verdicts that are known at once: verifying a password
    /// takes a while, and may displace another one.
    fn verify(&self, id: ConnId, claim: Claim) -> Option<(ConnId, Verdict)> {
        let peers = self.peers.borrow();
        let Peer { queue, address } = peers.get(&id)?;
        queue.owe(VERIFICATION);
        match claim {
            Claim::Token(token) => {
                let clock = wall_clock();
                self.hub.borrow_mut().set_wall_clock(clock);
                Some((id, self.config().keys.verify(clock.unix, token.expose())))
            }
            Claim::Password { hash, password } => self.passwords.take(id, address.ip(), hash, password),
        }
    }

    /// Verifies the passwords that take a while, one after the other. Never ends.
    pub(crate) async fn check_passwords(&self) {
        loop {
            let job = self.passwords.next().await;
            let id = job.conn;
            let is_there = self.peers.borrow().contains_key(&id);
            // Without a client that waits for it, it counts as wrong, and costs nothing.
            let verdict =
                if is_there { self.passwords.check(job).await } else { Verdict::Refused(String::new()) };
            self.handle(Input::Verified(id, verdict));
        }
    }

    fn set_alarm(&self) {
        let next = self.hub.borrow().poll_timeout();
        if let Some(next) = next
            && self.alarm.get().is_none_or(|alarm| next < alarm)
        {
            self.earlier.notify_one();
        }
    }

    /// Tells the Hub the time whenever it wants to know. Never ends.
    pub(crate) async fn keep_time(&self) {
        loop {
            let next = self.hub.borrow().poll_timeout();
            self.alarm.set(next);
            let Some(next) = next else {
                self.earlier.notified().await;
                continue;
            };
            if time::timeout_at(next.into(), self.earlier.notified()).await.is_err() {
                self.hub.borrow_mut().set_wall_clock(wall_clock());
                self.hub.borrow_mut().handle_timeout(self.now());
                self.deliver(Vec::new());
            }
        }
    }

    /// Announces the end, lets members go on for [`Config::drain`], then closes all. Ends early when all are gone.
    pub(crate) async fn drain(&self) {
        let config = self.config();
        self.hub.borrow_mut().drain(config.retry_after);
        self.deliver(Vec::new());
        let _ = time::timeout(config.drain, self.all_gone()).await;
        self.hub.borrow_mut().close_all();
        self.deliver(Vec::new());
        let _ = time::timeout(FAREWELL, self.all_gone()).await;
        self.log.summarize();
    }

    async fn all_gone(&self) {
        while !self.peers.borrow().is_empty() {
            self.ended.notified().await;
        }
    }
}

/// The settings of the Hub. A list of peers has to fit into a queue, together with other messages.
fn hub_config(config: &Config, denied_here: &DenyList) -> HubConfig {
    let mut denied = config.hub.denied.clone();
    denied.users.extend(denied_here.users.iter().cloned());
    denied.tokens.extend(denied_here.tokens.iter().cloned());
    HubConfig { denied, max_peers_bytes: config.limits.max_queue / 2, ..config.hub.clone() }
}

/// To be looked at again and again: it may be set at any time, a robot's long after boot.
fn wall_clock() -> WallClock {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallClock { at: Instant::now(), unix }
}
