//! The measurements. Each row starts its own servers, and returns numbers by name.

use crate::{
    crowd::{Crowd, Event, Seat},
    dialect::{Dialect, Pair, offer_to_all},
    frames::{Frame, stamp},
    servers::{Kind, Programs, Server},
};
use anyhow::{Context, Result, ensure};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// The size of the SDP in a message, in bytes.
const SDP: usize = 2 << 10;
/// The messages of a pair that are in flight at a time, in the row that saturates the server.
const IN_FLIGHT: usize = 2;
/// In the row in which servers take turns, the length of a turn, and the time before it that is not measured, because a
/// server that was idle is slow for some messages.
const TURN: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_millis(50);

/// Numbers by name.
pub(crate) type Numbers = Vec<(&'static str, f64)>;

/// The extent of the measurements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// The duration of each timed measurement.
    pub(crate) time: Duration,
    /// The connections in the rows that count connections.
    pub(crate) connections: usize,
    /// The messages to the large room.
    pub(crate) broadcasts: u32,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    Relay,
    Paced,
    Connect,
    Memory,
    LargeRoom,
    DeafReader,
    Start,
    Size,
}

impl Row {
    pub(crate) const ALL: [Self; 8] = [
        Self::Relay,
        Self::Paced,
        Self::Connect,
        Self::Memory,
        Self::LargeRoom,
        Self::DeafReader,
        Self::Start,
        Self::Size,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Paced => "paced",
            Self::Connect => "connect",
            Self::Memory => "memory",
            Self::LargeRoom => "large_room",
            Self::DeafReader => "deaf_reader",
            Self::Start => "start",
            Self::Size => "size",
        }
    }

    /// Whether a kind of server can run the row.
    pub(crate) fn fits(self, kind: Kind) -> bool {
        match kind {
            Kind::Ours => true,
            // It is a script.
            Kind::Python => self != Self::Size,
            // It has no rooms.
            Kind::Gst => self != Self::LargeRoom,
            Kind::Bare => matches!(self, Self::Relay | Self::Paced | Self::Connect | Self::LargeRoom),
        }
    }

    /// Measures each of the servers once.
    pub(crate) fn round(
        self,
        programs: &Programs,
        servers: &[(Kind, Dialect)],
        effort: Effort,
    ) -> Result<Vec<(Kind, Numbers)>> {
        let servers: Vec<_> = servers.iter().filter(|(kind, _)| self.fits(*kind)).collect();
        if self == Self::Paced {
            return paced(programs, &servers, effort).context(self.name());
        }
        servers
            .into_iter()
            .map(|(kind, dialect)| {
                let numbers = self.run(programs, *kind, dialect, effort);
                Ok((*kind, numbers.with_context(|| format!("{} of {kind}", self.name()))?))
            })
            .collect()
    }

    fn run(self, programs: &Programs, kind: Kind, dialect: &Dialect, effort: Effort) -> Result<Numbers> {
        match self {
            Self::Size => return size(programs, kind),
            Self::Start => return start(programs, kind),
            _ => {}
        }
        let server = Server::start(programs, kind)?;
        let crowd = &mut Crowd::new(server.address())?;
        match self {
            Self::Relay => relay(&server, crowd, dialect, effort),
            Self::Connect => connect(&server, crowd, dialect, effort),
            Self::Memory => memory(&server, crowd, dialect, effort),
            Self::LargeRoom => large_room(&server, crowd, dialect, effort),
            _ => deaf_reader(&server, crowd, dialect, effort),
        }
    }
}

/// As many messages as the server can relay, in 50 rooms of 4.
fn relay(server: &Server, crowd: &mut Crowd, dialect: &Dialect, effort: Effort) -> Result<Numbers> {
    let pairs = dialect.fill(crowd, 0..50, 4, SDP)?;
    for _ in 0..IN_FLIGHT {
        for pair in &pairs {
            crowd.send(pair.sender, &pair.offer)?;
        }
    }
    let mut conversation = Conversation::new(&pairs);
    let warm = Instant::now() + effort.time / 4;
    while Instant::now() < warm {
        conversation.turn(crowd)?;
    }
    let (began, cpu, before) = (Instant::now(), server.cpu_us()?, conversation.heard);
    while began.elapsed() < effort.time {
        conversation.turn(crowd)?;
    }
    let (elapsed, cpu, messages) = (began.elapsed(), server.cpu_us()? - cpu, conversation.heard - before);
    ensure!(messages > 0, "no message arrived");
    Ok(vec![
        ("cpu_us", cpu / float(messages)),
        ("messages_per_s", float(messages) / elapsed.as_secs_f64()),
        ("busy", cpu / micros(elapsed)),
    ])
}

/// The conversation of pairs: receivers answer each offer, senders answer each answer with the next offer.
struct Conversation {
    /// The frames that each client sends in turn, by its number.
    frames: Vec<Vec<Frame>>,
    next: Vec<usize>,
    heard: u64,
}

impl Conversation {
    fn new(pairs: &[Pair]) -> Self {
        let seats = pairs.iter().map(|pair| pair.sender.max(pair.receiver) + 1).max().unwrap_or_default();
        let mut frames = vec![Vec::new(); seats];
        for pair in pairs {
            frames[pair.sender].push(pair.offer.clone());
            frames[pair.receiver].push(pair.answer.clone());
        }
        Self { frames, next: vec![0; seats], heard: 0 }
    }

    fn turn(&mut self, crowd: &mut Crowd) -> Result<()> {
        crowd.turn(Duration::from_millis(100), |replies, seat, event| {
            if let Event::Text(_) = event {
                self.heard += 1;
                let (frames, next) = (&self.frames[seat], &mut self.next[seat]);
                *next = (*next + 1) % frames.len();
                replies.send(seat, &frames[*next]);
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// 2,000 messages per second, in 50 rooms of 4. All servers run and take turns, and each turn returns numbers, so that other
/// work of the machine affects all servers alike, and only some turns.
fn paced(programs: &Programs, servers: &[&(Kind, Dialect)], effort: Effort) -> Result<Vec<(Kind, Numbers)>> {
    let mut loaded = Vec::new();
    for (kind, dialect) in servers {
        let server = Server::start(programs, *kind)?;
        let mut crowd = Crowd::new(server.address())?;
        let pairs = dialect.fill(&mut crowd, 0..50, 4, SDP)?;
        loaded.push((*kind, server, crowd, pairs));
    }
    let pacer = Pacer::new(2_000);
    let mut numbers = Vec::new();
    let mut measured = Duration::ZERO;
    while measured < effort.time {
        for (kind, _server, crowd, pairs) in &mut loaded {
            pacer.run(crowd, pairs, WARM_UP, |_| Ok(()))?;
            let latencies = pacer.run(crowd, pairs, TURN, |_| Ok(()))?;
            ensure!(latencies.lost == 0, "{kind}: {} messages were lost", latencies.lost);
            let [p50, p99] = [50, 99].map(|percent| latencies.percentile(percent));
            numbers.push((*kind, vec![("p50_us", p50), ("p99_us", p99)]));
        }
        measured += TURN;
    }
    Ok(numbers)
}

/// Sends messages at fixed times, independent of the server, and measures when they arrive.
struct Pacer {
    step: Duration,
}

struct Latencies {
    sorted: Vec<Duration>,
    lost: usize,
}

impl Latencies {
    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.sorted.len() * percent / 100).min(self.sorted.len().saturating_sub(1));
        self.sorted.get(index).copied().map(micros).unwrap_or_default()
    }
}

impl Pacer {
    fn new(per_second: u32) -> Self {
        Self { step: Duration::from_secs(1) / per_second }
    }

    /// `meanwhile` is called before each message.
    fn run(
        &self,
        crowd: &mut Crowd,
        pairs: &[Pair],
        time: Duration,
        mut meanwhile: impl FnMut(&mut Crowd) -> Result<()>,
    ) -> Result<Latencies> {
        const LAST: Duration = Duration::from_secs(2);
        let origin = Instant::now();
        let nanos = || u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (mut sent, mut latencies) = (0, Vec::new());
        let mut due = Duration::ZERO;
        let listening: HashSet<Seat> = pairs.iter().flat_map(|pair| [pair.sender, pair.receiver]).collect();
        loop {
            let now = origin.elapsed();
            if due < time && due <= now {
                meanwhile(crowd)?;
                let pair = &pairs[sent % pairs.len()];
                // The time at which it was due, not at which it was sent: a delayed message also delays the next one.
                let stamp = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
                let (author, frame) = if (sent / pairs.len()).is_multiple_of(2) {
                    (pair.sender, &pair.offer)
                } else {
                    (pair.receiver, &pair.answer)
                };
                crowd.send(author, &frame.stamped(stamp))?;
                sent += 1;
                due += self.step;
            } else if due >= time && (latencies.len() == sent || now > time + LAST) {
                break;
            }
            crowd.turn(Duration::ZERO, |_, seat, event| {
                if let Event::Text(text) = event
                    && let Some(stamp) = stamp(text)
                    && listening.contains(&seat)
                {
                    latencies.push(Duration::from_nanos(nanos().saturating_sub(stamp)));
                }
                Ok(())
            })?;
        }
        latencies.sort_unstable();
        Ok(Latencies { lost: sent - latencies.len(), sorted: latencies })
    }
}

/// Connecting, registering and joining a room.
fn connect(server: &Server, crowd: &mut Crowd, dialect: &Dialect, effort: Effort) -> Result<Numbers> {
    let entrance = dialect.entrance(crowd, 0..effort.connections / 4, 4)?;
    let (began, cpu) = (Instant::now(), server.cpu_us()?);
    entrance.open(crowd)?;
    let (elapsed, cpu) = (began.elapsed(), server.cpu_us()? - cpu);
    let connections = effort.connections as u64 / 4 * 4;
    Ok(vec![("per_s", float(connections) / elapsed.as_secs_f64()), ("cpu_us", cpu / float(connections))])
}

/// The memory of an idle connection: after it has joined its room, and after one message of 4 KB in each direction.
fn memory(server: &Server, crowd: &mut Crowd, dialect: &Dialect, effort: Effort) -> Result<Numbers> {
    let rooms = effort.connections / 2;
    // The first connections cause allocations that are made only once.
    dialect.enter(crowd, rooms..rooms + 4, 2)?;
    let before = server.memory()?;
    let pairs = dialect.fill(crowd, 0..rooms, 2, 4 << 10)?;
    let fresh = server.memory()?;
    for pair in &pairs {
        crowd.send(pair.sender, &pair.offer)?;
        crowd.send(pair.receiver, &pair.answer)?;
        crowd.count("an offer and an answer", 2, |_, _, event| {
            Ok(usize::from(matches!(event, Event::Text(_))))
        })?;
    }
    crowd.settle()?;
    let used = server.memory()?;
    let each = |bytes: u64| float(bytes.saturating_sub(before)) / 1024.0 / float(2 * rooms as u64);
    Ok(vec![("fresh_kb", each(fresh)), ("used_kb", each(used))])
}

/// One message to a room of 1,000.
fn large_room(server: &Server, crowd: &mut Crowd, dialect: &Dialect, effort: Effort) -> Result<Numbers> {
    const MEMBERS: usize = 1_000;
    let seats = dialect.enter(crowd, 0..1, MEMBERS)?;
    crowd.settle()?;
    let offer = offer_to_all(SDP);
    let mut times = Vec::new();
    let mut cpu = 0.0;
    for _ in 0..effort.broadcasts {
        let (began, before) = (Instant::now(), server.cpu_us()?);
        crowd.send(seats[0], &offer)?;
        crowd.count("all members receive the message", MEMBERS - 1, |_, _, event| {
            Ok(usize::from(matches!(event, Event::Text(_))))
        })?;
        times.push(began.elapsed());
        crowd.settle()?;
        cpu += server.cpu_us()? - before;
    }
    times.sort_unstable();
    let deliveries = u64::from(effort.broadcasts) * (MEMBERS as u64 - 1);
    let last = times.get(times.len() / 2).copied().context("no messages")?;
    Ok(vec![("last_ms", micros(last) / 1e3), ("cpu_us", cpu / float(deliveries))])
}

/// Clients in other rooms stop reading, one after the other, while they are flooded with messages.
fn deaf_reader(server: &Server, crowd: &mut Crowd, dialect: &Dialect, effort: Effort) -> Result<Numbers> {
    const DEAF: usize = 4;
    const FLOOD: usize = 16 << 10;
    /// The most frames that wait at a flooding client while the server does not read from it.
    const UNSENT: usize = 16;
    let pairs = dialect.fill(crowd, 0..10, 2, SDP)?;
    let floods = dialect.fill(crowd, 10..10 + DEAF, 2, FLOOD)?;
    let pacer = Pacer::new(1_000);
    let flood = |crowd: &mut Crowd, began: Instant| {
        let part = began.elapsed().as_nanos() * DEAF as u128 / effort.time.as_nanos();
        let flood = &floods[usize::try_from(part)?.min(DEAF - 1)];
        if crowd.unsent(flood.sender) < UNSENT {
            crowd.send(flood.sender, &flood.offer)?;
        }
        anyhow::Ok(flood.receiver)
    };

    let began = Instant::now();
    let before = pacer.run(crowd, &pairs, effort.time, |crowd| flood(crowd, began).map(drop))?;
    let (began, resident) = (Instant::now(), server.resident()?);
    let mut most = resident;
    let with = pacer.run(crowd, &pairs, effort.time, |crowd| {
        let receiver = flood(crowd, began)?;
        crowd.deafen(receiver)?;
        most = most.max(server.resident()?);
        Ok(())
    })?;
    Ok(vec![
        ("lost", float(with.lost as u64)),
        ("p99_us_before", before.percentile(99)),
        ("p99_us", with.percentile(99)),
        ("p99_growth", with.percentile(99) / before.percentile(99)),
        ("memory_growth_mb", float(most - resident) / 1_048_576.0),
    ])
}

/// From the start of the program to the first WebSocket.
fn start(programs: &Programs, kind: Kind) -> Result<Numbers> {
    let began = Instant::now();
    let server = Server::start(programs, kind)?;
    let mut crowd = Crowd::new(server.address())?;
    crowd.connect()?;
    crowd.count("the first WebSocket", 1, |_, _, event| Ok(usize::from(matches!(event, Event::Open))))?;
    Ok(vec![("ms", micros(began.elapsed()) / 1e3)])
}

/// The stripped program.
fn size(programs: &Programs, kind: Kind) -> Result<Numbers> {
    let bytes = programs.size(kind)?.context("no program")?;
    Ok(vec![("mb", float(bytes) / 1e6)])
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
