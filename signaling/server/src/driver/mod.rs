//! Drives the [`Hub`]: passes it inputs and the time, and performs its outputs, all in one place (`Driver::deliver`).
//!
//! `clock.rs` has the tasks that wait: timeouts, passwords, the shutdown. `operators.rs` has what operators ask for.
//! The memory budget is enforced here: after each input, `Driver::evict` closes the connections that hold most while the
//! budget (`net/budget.rs`) is exceeded.

mod clock;
mod operators;

use crate::{
    Config,
    auth::Passwords,
    context::ServerContext,
    log,
    net::{
        queue::{Kind, Queue},
        registry::{OpenConnection, Registry},
    },
};
use bytes::Bytes;
use clock::wall_clock;
use room_protocol::{
    Hub, HubConfig, RoomId,
    hub::{Claim, ConnId, DenyList, Event, Input, Output, PeerInfo, Verdict},
};
use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    net::SocketAddr,
    rc::Rc,
    time::Instant,
};
use tokio::sync::Notify;

/// The price of a verification, in deliveries: that of 20 messages.
const VERIFICATION: u64 = 80;

/// The Hub, and everything that it acts on.
#[derive(Debug)]
pub(crate) struct Driver {
    context: Rc<ServerContext>,
    hub: RefCell<Hub>,
    registry: Registry,
    passwords: Passwords,
    /// The users and tokens that operators have denied since the start, in addition to the configuration.
    denied: RefCell<DenyList>,
    /// The connection whose message is being handled.
    current: Cell<Option<ConnId>>,
    /// The time of the Hub's next timeout.
    alarm: Cell<Option<Instant>>,
    /// Notified when that timeout has to fire earlier.
    earlier: Notify,
}

impl Driver {
    /// `seed` must be a secret of this process.
    pub(crate) fn new(context: Rc<ServerContext>, seed: [u8; 32]) -> Self {
        let config = context.config();
        Self {
            hub: RefCell::new(Hub::new(hub_config(&config, &DenyList::default()), seed, wall_clock())),
            registry: Registry::new(config.limits.max_queue, config.limits.max_queues),
            passwords: Passwords::new(&seed),
            denied: RefCell::default(),
            current: Cell::new(None),
            alarm: Cell::new(None),
            earlier: Notify::new(),
            context,
        }
    }

    /// The open connections.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Replaces the settings. Open connections stay.
    pub(crate) fn reload(&self, config: Config) {
        let (old, new) = (self.hub_config(&self.context.config()), self.hub_config(&config));
        self.registry.queues().budget().set(config.limits.max_queue, config.limits.max_queues);
        // The renewal of a certificate concerns neither sessions nor passwords.
        if new != old {
            let used: HashSet<_> = new.room_rules.iter().filter_map(|rule| rule.password.as_ref()).collect();
            self.passwords.keep(|hash| used.contains(hash));
            self.hub.borrow_mut().reconfigure(self.now(), new.clone());
        }
        self.context.replace_config(config);
        self.deliver(Vec::new());
    }

    fn hub_config(&self, config: &Config) -> HubConfig {
        hub_config(config, &self.denied.borrow())
    }

    /// Registers a WebSocket that has been opened. `room` is the one that its URL names.
    pub(crate) fn connect(&self, address: SocketAddr, room: Option<RoomId>) -> (ConnId, Rc<Queue>) {
        let (id, queue) = self.registry.open(address);
        self.context.metrics().opened.add(1);
        self.context.log().connected(id, address);
        self.hub.borrow_mut().set_wall_clock(wall_clock());
        self.handle(Input::Connected(id, PeerInfo { ip: address.ip(), room }));
        (id, queue)
    }

    /// Removes a connection that has ended.
    pub(crate) fn disconnect(&self, id: ConnId) {
        self.handle(Input::Disconnected(id));
        if let Some(address) = self.registry.close(id) {
            self.context.log().disconnected(id, address);
        }
    }

    /// Closes a connection whose queue has overflowed.
    pub(crate) fn overflow(&self, id: ConnId) {
        self.deliver(vec![id]);
    }

    /// Enforces the memory budget after a connection has received bytes.
    pub(crate) fn keep_within_budget(&self) {
        if self.registry.queues().budget().is_exceeded() {
            self.deliver(Vec::new());
        }
    }

    /// Passes an input to the Hub, and performs the outputs.
    pub(crate) fn handle(&self, input: Input) {
        self.hub.borrow_mut().handle(self.now(), input);
        self.deliver(Vec::new());
    }

    /// The same for a message from a connection, which pays for its effects.
    pub(crate) fn handle_message(&self, id: ConnId, input: Input) {
        self.current.set(Some(id));
        self.handle(input);
        self.current.set(None);
    }

    /// The current time, which also stamps what is queued from now on.
    fn now(&self) -> Instant {
        let now = Instant::now();
        self.registry.queues().at(now);
        now
    }

    /// Performs the outputs of the Hub. A connection without room never keeps the others from their messages, because
    /// everything is delivered before the Hub learns of overflows.
    fn deliver(&self, mut overflowed: Vec<ConnId>) {
        let delivered = || self.context.metrics().delivered.get();
        let mut verdicts = Vec::new();
        // Deliveries before this count are charged to a connection already.
        let mut charged = delivered();
        loop {
            while let Some(output) = self.poll_output() {
                match output {
                    Output::Verify(id, claim) => verdicts.extend(self.verify(id, claim)),
                    Output::Release(id) => {
                        self.release(id, delivered() - charged);
                        charged = delivered();
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
            self.report_overflow(id);
        }
        self.set_alarm();
    }

    /// Lets a connection read again. The deliveries that its request has caused are charged to it, unless its own
    /// message is being handled: [`Driver::handle_message`] charges for them.
    fn release(&self, id: ConnId, deliveries: u64) {
        if let Some(entry) = self.registry.get(id) {
            entry.queue.release(if self.current.get() == Some(id) { 0 } else { deliveries });
        }
    }

    /// While all connections together hold more than the budget, closes those that hold most.
    fn evict(&self, overflowed: &mut Vec<ConnId>) {
        while let Some(id) = self.registry.evict_largest() {
            overflowed.push(id);
        }
    }

    /// Reports an overflow to the Hub, which sends the connection an error and closes it.
    fn report_overflow(&self, id: ConnId) {
        let is_known = self.hub.borrow().knows(id);
        if let Some(entry) = self.registry.get(id) {
            entry.queue.part();
            if !is_known {
                // The Hub would never close it.
                entry.queue.end();
            }
        }
        if is_known {
            self.context.metrics().slow_consumers.add(1);
            self.hub.borrow_mut().handle(self.now(), Input::Overflowed(id));
        }
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
        let Some(entry) = self.registry.get(id) else { return };
        let OpenConnection { queue, address } = &*entry;
        let had_room = !queue.is_overflowed();
        match output {
            Output::Send(_, text) => {
                self.context.metrics().delivered.add(1);
                log::sending(id, &text);
                queue.push_text(text.into_bytes());
            }
            Output::Ping(_) => queue.push(Kind::Ping, Bytes::new()),
            // `deliver` performs these.
            Output::Verify(..) | Output::Release(_) => {}
            Output::Hold(_) => queue.hold(),
            Output::Close(_, code, reason) => {
                self.context.log().closing(id, *address, code, reason);
                self.context.metrics().closed(code);
                queue.close(code, reason);
            }
            Output::Event(_, event) => {
                if let Event::Registered { protocol: 0, .. } = event {
                    queue.one_frame_a_write();
                }
                self.context.log().event(id, *address, &event);
            }
        }
        if had_room && queue.is_overflowed() {
            overflowed.push(id);
        }
    }

    /// Verifies a claim and charges the client for it. Returns the verdicts that are known immediately: a password takes
    /// a while, and may displace another one that waits.
    fn verify(&self, id: ConnId, claim: Claim) -> Option<(ConnId, Verdict)> {
        let entry = self.registry.get(id)?;
        entry.queue.owe(VERIFICATION);
        match claim {
            Claim::Token(token) => {
                let clock = wall_clock();
                self.hub.borrow_mut().set_wall_clock(clock);
                Some((id, self.context.config().keys.verify(clock.unix, token.expose())))
            }
            Claim::Password { hash, password } => {
                self.passwords.submit(id, entry.address.ip(), hash, password)
            }
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
}

/// The settings of the Hub. A list of peers has to fit into a queue together with other messages.
fn hub_config(config: &Config, denied_here: &DenyList) -> HubConfig {
    let mut denied = config.hub.denied.clone();
    denied.users.extend(denied_here.users.iter().cloned());
    denied.tokens.extend(denied_here.tokens.iter().cloned());
    HubConfig { denied, max_peers_bytes: config.limits.max_queue / 2, ..config.hub.clone() }
}
