//! How members come in: they connect at their times, sign in, and join at once.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::mpsc::TryRecvError,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mio::{Interest, Token, net::TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    super::member::{Name, Stage},
    Crowd, TICK,
};
use crate::clock;

/// Connections that are being made at once: fewer than a server's backlog.
const MAX_ARRIVING: u32 = 256;

/// Linux' EINPROGRESS: a socket that is being connected.
const IN_PROGRESS: i32 = 115;

impl Crowd<'_> {
    /// Waits for the other processes; when all go on, Unix time.
    pub(super) fn meet(&mut self) -> Result<i64> {
        let Some(gate) = self.share.gate() else {
            return Ok(clock::unix_us());
        };
        let start_us = loop {
            match gate.try_recv() {
                Ok(start_us) => break start_us,
                Err(TryRecvError::Empty) => self.turn(TICK)?,
                Err(TryRecvError::Disconnected) => bail!("the first process is gone"),
            }
        };
        loop {
            let left_us = start_us.saturating_sub(clock::unix_us());
            match u64::try_from(left_us) {
                Ok(left_us) if left_us > 0 => {
                    self.turn(Duration::from_micros(left_us).min(TICK))?;
                }
                _ => return Ok(start_us),
            }
        }
    }

    /// Connects everybody and signs them in; how long that took.
    pub(super) fn arrive(&mut self) -> Result<Duration> {
        std::thread::sleep(self.share.lead());
        self.began = Instant::now();
        let ramp = self.arrivals.length();
        let total = u32::try_from(self.mine.len())?;
        let mut next = 0;
        loop {
            let passed = self.began.elapsed();
            while let Some(index) = self.mine.get(next).copied()
                && self.arrivals.due(index) <= passed
                && self.arriving < MAX_ARRIVING
            {
                self.connect(index as usize)?;
                next += 1;
            }
            let settled = self.signed_in + self.gone_count();
            let all = next == self.mine.len() && settled >= total;
            if all || passed > ramp + self.args.patience() {
                return Ok(self.began.elapsed());
            }
            self.turn(TICK)?;
        }
    }

    fn gone_count(&self) -> u32 {
        let count: u64 = self.gone.values().sum();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn connect(&mut self, index: usize) -> Result<()> {
        let from = match self.args.from.len() {
            0 => None,
            count => self.args.from.get(index % count).copied(),
        };
        let Some(member) = self.members.get_mut(index) else {
            return Ok(());
        };
        let Some(server) = self.servers.get(member.server) else {
            return Ok(());
        };
        match open(server.address, from) {
            Ok(mut stream) => {
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut stream, Token(index), both)?;
                member.stream = Some(stream);
                self.arriving += 1;
                Ok(())
            }
            // Descriptors or ports ran out: nothing of this run would mean anything.
            Err(error) => Err(error).with_context(|| {
                format!("connection {index} to {server}: raise `ulimit -n`, or give more addresses to --from")
            }),
        }
    }

    /// The socket said that it is writable: it is connected, or never will be.
    pub(super) fn connected(&mut self, index: usize) -> bool {
        let Some(member) = self.members.get_mut(index) else {
            return false;
        };
        self.arriving = self.arriving.saturating_sub(1);
        let error = match &member.stream {
            Some(stream) => stream.take_error().unwrap_or_else(Some),
            None => None,
        };
        if let Some(error) = error {
            self.leave(index, &error.to_string());
            return false;
        }
        let name = match self.name(index) {
            Ok(name) => name,
            Err(error) => {
                self.leave(index, &error.to_string());
                return false;
            }
        };
        if let Some(member) = self.members.get_mut(index)
            && let Some(server) = self.servers.get(member.server)
        {
            member.greet(server, &name);
        }
        true
    }

    pub(super) fn name(&self, index: usize) -> Result<Name> {
        let speaks = index < self.args.speakers as usize;
        let tags = self.args.tags;
        if self.args.anonymous && !speaks {
            return Ok(Name {
                nick: format!("justinfan{index}"),
                pass: None,
                tags,
            });
        }
        let nick = format!("load{index}");
        let pass = match &self.tokens {
            Some(tokens) => Some(format!("oauth:{}", tokens.sign(&nick)?)),
            None => None,
        };
        Ok(Name { nick, pass, tags })
    }

    /// Counted from when it was due: who had to wait for its turn waited.
    pub(super) fn signed_in_after(&mut self, index: usize) {
        let due = self.arrivals.due(u32::try_from(index).unwrap_or(u32::MAX));
        let took = self.began.elapsed().saturating_sub(due);
        let us = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        self.sign_in.record(us);
    }

    /// Everybody joins at once; how long it took until all were in.
    pub(super) fn join(&mut self) -> Result<Duration> {
        let began = Instant::now();
        for index in 0..self.members.len() {
            if let (Some(member), servers) = (self.members.get_mut(index), &self.servers)
                && member.stage == Stage::SignedIn
                && let Some(server) = servers.get(member.server)
                && let Some(room) = self.rooms.get(member.room)
            {
                member.join(server, room);
                self.flush(index);
            }
        }
        let joining = self.members.iter();
        let joining = joining
            .filter(|member| member.stage == Stage::Joining)
            .count();
        let gone_before = self.gone_count();
        while ((self.joined + self.gone_count() - gone_before) as usize) < joining {
            if began.elapsed() > self.args.patience() {
                break;
            }
            self.turn(TICK)?;
        }
        Ok(began.elapsed())
    }
}

/// A socket that is being connected.
fn open(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}
