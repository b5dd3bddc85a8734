//! All connections and the one loop that serves them: they arrive, join, talk, and
//! read what is left.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use mio::{Events, Poll, event::Event};

use super::{
    ChatArgs, Tokens,
    ledger::Ledger,
    mark::Mark,
    member::{Member, Stage, Told},
    process::Looks,
    report::Part,
    seen::Turns,
    server::Server,
    wire::Heard,
};
use crate::{arrivals::Arrivals, clock, figures::Latency, share::Share};

mod entrance;

/// What one read takes: hundreds of messages, of a reader that fell behind.
const READ_BYTES: usize = 64 * 1024;

/// Sockets that one look at the kernel tells of.
const EVENTS: usize = 1024;

/// How often the loop looks at its clock at least.
const TICK: Duration = Duration::from_millis(5);

/// How far the crowd is, for who looks on.
#[derive(Debug, Default)]
pub struct Gauge {
    pub joined: AtomicU64,
    pub delivered: AtomicU64,
}

/// See the module's text.
pub struct Crowd<'a> {
    args: &'a ChatArgs,
    share: Share,
    arrivals: Arrivals,
    gauge: Arc<Gauge>,
    tokens: Option<Tokens>,
    /// Where readers connect, then where speakers do.
    servers: Vec<Server>,
    rooms: Vec<String>,
    turns: Turns,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    /// Speakers first; those of other processes stay where they are.
    members: Vec<Member>,
    /// This process' own.
    mine: Vec<u32>,
    /// When the arrivals began.
    began: Instant,
    ledger: Ledger,
    latency: Latency,
    /// From due to signed in.
    sign_in: Latency,
    arriving: u32,
    signed_in: u32,
    joined: u32,
    /// Messages read, each once a member, of which so many were expected, and when the
    /// last was.
    delivered: u64,
    expected: u64,
    last_read: Instant,
    refused: u64,
    gone: BTreeMap<String, u64>,
    /// This process' members of each room.
    sizes: Vec<u32>,
}

impl<'a> Crowd<'a> {
    pub fn new(
        args: &'a ChatArgs,
        tokens: Option<Tokens>,
        share: Share,
        gauge: Arc<Gauge>,
    ) -> Result<Self> {
        let mut servers = args.url.clone();
        servers.extend(args.speak_url.clone());
        let readers_at = args.url.len();
        let count = args.rooms as usize;
        let rooms = match count {
            1 => vec![args.room.clone()],
            _ => (0..count)
                .map(|room| format!("{}{room}", args.room))
                .collect(),
        };
        let member = |index: usize| {
            let speaks = index < args.speakers as usize;
            let server = match &args.speak_url {
                Some(_) if speaks => readers_at,
                _ => index % readers_at,
            };
            Member::new(server, index % count, speaks)
        };
        let members: Vec<_> = (0..args.total() as usize).map(member).collect();
        let mine: Vec<_> = (0..args.total()).filter(|one| share.has(*one)).collect();
        let mut sizes = vec![0; count];
        for index in &mine {
            let room = *index as usize % count;
            if let Some(size) = sizes.get_mut(room) {
                *size += 1;
            }
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "checked flags"
        )]
        let total = (args.rate * args.seconds as f64).round() as u32;
        // All at once: another process' may be read before they are due by this clock.
        let mut ledger = Ledger::new(count);
        ledger.send(total);
        Ok(Self {
            args,
            share,
            arrivals: args.arrivals.of(args.total())?,
            gauge,
            mine,
            began: Instant::now(),
            sign_in: Latency::new(3),
            tokens,
            servers,
            rooms,
            turns: Turns::new(args.speakers, args.rooms),
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; READ_BYTES],
            members,
            ledger,
            latency: Latency::new(3),
            arriving: 0,
            signed_in: 0,
            joined: 0,
            delivered: 0,
            expected: 0,
            last_read: Instant::now(),
            refused: 0,
            gone: BTreeMap::new(),
            sizes,
        })
    }

    pub fn run(mut self, looks: &mut Looks) -> Result<Part> {
        let sign_in = self.arrive()?;
        self.meet()?;
        let join = self.join()?;
        let start_us = self.meet()?;
        looks.joined()?;
        let own_before = clock::cpu_used().unwrap_or_default();
        let talking = self.talk(start_us)?;
        let own = clock::cpu_used()
            .unwrap_or_default()
            .saturating_sub(own_before);
        looks.ended()?;
        Ok(self.part(sign_in, join, talking, own))
    }

    fn part(self, sign_in: Duration, join: Duration, talking: Duration, own: Duration) -> Part {
        let misplaced = |member: &Member| u64::from(member.reader.misplaced);
        let misplaced = self.members.iter().map(misplaced).sum();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Part {
            connections: u32::try_from(self.mine.len()).unwrap_or(u32::MAX),
            joined: self.joined,
            gone: self.gone,
            sign_in: self.sign_in,
            sign_in_ms: ms(sign_in),
            join_ms: ms(join),
            sent: self.ledger.total(),
            refused: self.refused,
            delivered: self.delivered,
            expected: self.expected,
            misplaced,
            latency: self.latency,
            talking_s: talking.as_secs_f64(),
            own_cpu_s: own.as_secs_f64(),
            orders: self.ledger.into_orders(),
        }
    }

    /// Sends on time until the time is over, then reads what is left.
    fn talk(&mut self, began_us: i64) -> Result<Duration> {
        let began = Instant::now();
        let length = Duration::from_secs(self.args.seconds);
        let total = self.ledger.total();
        let due =
            |number: u32| Duration::from_secs_f64(f64::from(number) / self.args.rate.max(1e-9));
        let mut number = 0;
        self.last_read = began;
        loop {
            let passed = began.elapsed();
            while number < total && due(number) <= passed {
                let due_us = i64::try_from(due(number).as_micros()).unwrap_or(i64::MAX);
                self.post(Mark {
                    number,
                    due_us: began_us.saturating_add(due_us),
                });
                number += 1;
            }
            let quiet = self.last_read.elapsed().min(passed.saturating_sub(length));
            let over = number == total && passed >= length;
            if over && (self.delivered >= self.expected || quiet > self.args.patience()) {
                return Ok(began.elapsed());
            }
            let wait = match number < total {
                true => due(number).saturating_sub(passed).min(TICK),
                false => TICK,
            };
            self.turn(wait)?;
        }
    }

    fn post(&mut self, mark: Mark) {
        let speaker = self.turns.speaker(mark.number);
        let index = speaker as usize;
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        let here = self.sizes.get(member.room).copied().unwrap_or(0);
        let itself = self.share.has(speaker);
        self.expected += u64::from(here.saturating_sub(u32::from(itself)));
        if itself && let Some(place) = self.turns.place(mark.number, member.room) {
            // A server does not tell it.
            member.seen.read(place);
        }
        if let Some(server) = self.servers.get(member.server)
            && let Some(room) = self.rooms.get(member.room)
            && member.stage == Stage::Joined
        {
            member.post(server, room, &mark.text(self.args.bytes));
            self.flush(index);
        }
    }

    /// Waits for sockets at most so long and serves those that have something.
    fn turn(&mut self, wait: Duration) -> Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, Some(wait));
        let outcome = match polled {
            Ok(()) => {
                for event in &events {
                    self.serve(event);
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
        };
        self.events = events;
        let joined = u64::from(self.joined);
        self.gauge.joined.store(joined, Ordering::Relaxed);
        self.gauge
            .delivered
            .store(self.delivered, Ordering::Relaxed);
        outcome
    }

    fn serve(&mut self, event: &Event) {
        let index = event.token().0;
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        if event.is_writable() {
            if member.stage == Stage::Connecting && !self.connected(index) {
                return;
            }
            self.flush(index);
        }
        if event.is_readable() {
            self.read(index);
        }
    }

    fn read(&mut self, index: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(member) = self.members.get_mut(index) {
            match member.read(&mut buffer) {
                Ok(0) => {
                    self.leave(index, "closed by the server");
                    break;
                }
                Ok(count) => {
                    self.heard(index, buffer.get(..count).unwrap_or_default());
                    // A stream that gave less than was asked for is empty, and says
                    // so again when it is not (epoll(7)).
                    if count < READ_BYTES {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.leave(index, &error.to_string());
                    break;
                }
            }
        }
        self.buffer = buffer;
        self.flush(index);
    }

    fn heard(&mut self, index: usize, bytes: &[u8]) {
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        if member.stage != Stage::Upgrading {
            self.lines(index, bytes);
            return;
        }
        match member.upgraded(bytes) {
            Ok(None) => {}
            Ok(Some(rest)) => {
                let name = self.name(index);
                if let Some(member) = self.members.get_mut(index)
                    && let Some(server) = self.servers.get(member.server)
                    && let Ok(name) = name
                {
                    member.sign_in(server, &name);
                }
                self.lines(index, &rest);
            }
            Err(why) => self.leave(index, &why),
        }
    }

    /// The hot path: half a million messages a second come through here.
    fn lines(&mut self, index: usize, bytes: &[u8]) {
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        let Some(server) = self.servers.get(member.server) else {
            return;
        };
        let now_us = clock::unix_us();
        let before = member.stage;
        let mut inbox = std::mem::take(&mut member.inbox);
        let mut ending = None;
        let mut refused = 0;
        let mut read = 0;
        let fed = inbox.feed(server.carrier, server.speech, bytes, |heard| match heard {
            Heard::Said(mark) => {
                if member.heard(mark.number, self.turns, &mut self.ledger) {
                    read += 1;
                    self.latency.record(now_us - mark.due_us);
                }
            }
            Heard::Line(line) => match member.told(server, line) {
                Told::Nothing => {}
                Told::Refused => refused += 1,
                Told::Ending(why) => ending = Some(why),
            },
            Heard::Ping(payload) => member.pong(payload),
            Heard::Close => {
                ending.get_or_insert_with(|| "closed by the server".to_owned());
            }
        });
        member.inbox = inbox;
        let stage = member.stage;
        if read > 0 {
            self.delivered += read;
            self.last_read = Instant::now();
        }
        self.refused += refused;
        if before != stage {
            if stage == Stage::SignedIn {
                self.signed_in += 1;
                self.signed_in_after(index);
            }
            self.joined += u32::from(stage == Stage::Joined);
        }
        match (fed, ending) {
            (Err(error), _) => self.leave(index, &error.to_string()),
            (Ok(()), Some(why)) => self.leave(index, &why),
            (Ok(()), None) => {}
        }
    }

    fn flush(&mut self, index: usize) {
        if let Some(member) = self.members.get_mut(index)
            && let Err(error) = member.flush()
        {
            self.leave(index, &error.to_string());
        }
    }

    fn leave(&mut self, index: usize, why: &str) {
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        if let Some(mut stream) = member.stream.take() {
            // Closing it does as much.
            let _ = self.poll.registry().deregister(&mut stream);
            member.stage = Stage::Gone;
            *self.gone.entry(why.to_owned()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests;
