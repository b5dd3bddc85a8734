//! One publisher: connect, publish, send every frame when it is due.
//!
//! In: a [`Job`]. Out: [`Sent`], and a line if it failed. The task owns its
//! socket and its RTMP session; the session is sans-I/O, so all waiting is
//! here.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use common::rtmp::{ClientConfig, ClientEvent, ClientSession, MediaKind, enhanced::Capabilities};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    flv::{Kind, Tag},
    tape::Tape,
    target::Target,
};
use crate::{
    clock,
    figures::Latency,
    stamp::{self, Stamp},
};

/// Connect, handshake and the five commands.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What OBS and ffmpeg send with, within a frame.
const CHUNK_BYTES: u32 = 4096;

/// A write this long means that the server isn't reading.
const BLOCKED: Duration = Duration::from_millis(5);

pub struct Job {
    pub start: Instant,
    pub target: Target,
    pub tape: Arc<Tape>,
    pub stamps: bool,
    pub abrupt: bool,
    pub seed: u64,
    pub stop: watch::Receiver<bool>,
}

#[derive(Debug)]
pub struct Sent {
    pub video_frames: u64,
    pub audio_frames: u64,
    pub bytes: u64,
    /// From due to written.
    pub late: Latency,
}

pub async fn run(mut job: Job) -> (Sent, Option<String>) {
    let mut sent = Sent {
        video_frames: 0,
        audio_frames: 0,
        bytes: 0,
        late: Latency::new(2),
    };
    let key = job.target.key.clone();
    let outcome = publish(&mut job, &mut sent).await;
    let line = outcome.err().map(|error| format!("{key}: {error:#}"));
    (sent, line)
}

async fn publish(job: &mut Job, sent: &mut Sent) -> Result<()> {
    tokio::select! {
        () = sleep_until(job.start) => {}
        _ = job.stop.wait_for(|stop| *stop) => return Ok(()),
    }
    let mut link = match timeout(START_TIMEOUT, Link::open(job)).await {
        Ok(link) => link?,
        Err(_) => bail!("no Publish.Start within {} s", START_TIMEOUT.as_secs()),
    };
    link.begin(&job.tape).await?;
    let started = Instant::now();
    // Frames due before this went late because the server did not read.
    let mut blocked_until = started;
    for position in 0.. {
        let Some((due_ms, tag)) = job.tape.at(position) else {
            continue;
        };
        let due = started + Duration::from_millis(due_ms);
        tokio::select! {
            () = sleep_until(due) => {}
            _ = job.stop.wait_for(|stop| *stop) => break,
            error = link.listen() => return Err(error),
        }
        let now = Instant::now();
        let mut stamp_us = clock::unix_us();
        if due < blocked_until {
            // When it should have gone: the wait is the server's (no
            // coordinated omission).
            let over = i64::try_from((now - due).as_micros()).unwrap_or(0);
            stamp_us = stamp_us.saturating_sub(over);
        }
        let body = match job.tape.nal_length {
            Some(nal_length) if job.stamps && tag.is_avc() => {
                let stamp = Stamp {
                    unix_us: u64::try_from(stamp_us).unwrap_or_default(),
                    counter: sent.video_frames,
                };
                stamped(tag, nal_length, stamp)
            }
            _ => tag.body.clone(),
        };
        // RTMP's clock is 32 bits of milliseconds and wraps.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "wraps as RTMP's clock does"
        )]
        let timestamp_ms = due_ms as u32;
        sent.bytes += body.len() as u64;
        link.session.send_media(kind(tag.kind), timestamp_ms, body);
        link.flush().await?;
        let written = Instant::now();
        if written - now > BLOCKED {
            blocked_until = written;
        }
        match tag.kind {
            Kind::Video => sent.video_frames += 1,
            _ => sent.audio_frames += 1,
        }
        let late = (written - due).as_micros();
        sent.late.record(i64::try_from(late).unwrap_or(i64::MAX));
    }
    link.end(job.abrupt).await
}

fn kind(kind: Kind) -> MediaKind {
    match kind {
        Kind::Audio => MediaKind::Audio,
        Kind::Video => MediaKind::Video,
        Kind::Script => MediaKind::Data,
    }
}

/// The tag with the stamp in front of its picture; as it is, should its NAL
/// units not be readable.
fn stamped(tag: &Tag, nal_length: usize, stamp: Stamp) -> Bytes {
    let Some((head, sample)) = tag.body.split_at_checked(5) else {
        return tag.body.clone();
    };
    match stamp::into_sample(sample, nal_length, stamp) {
        Some(sample) => [head, &sample].concat().into(),
        None => tag.body.clone(),
    }
}

struct Link {
    socket: TcpStream,
    session: ClientSession,
    inbox: Vec<u8>,
}

impl Link {
    /// Up to `NetStream.Publish.Start`.
    async fn open(job: &Job) -> Result<Self> {
        let target = &job.target;
        let address = (target.host.as_str(), target.port);
        let socket = TcpStream::connect(address).await;
        let shown = || format!("can't connect to {}:{}", target.host, target.port);
        let socket = socket.with_context(shown)?;
        socket.set_nodelay(true)?;
        let session = ClientSession::new(ClientConfig {
            app: target.app.clone(),
            tc_url: target.tc_url(),
            key: target.key.clone(),
            chunk_size: CHUNK_BYTES,
            capabilities: Capabilities::default(),
            seed: job.seed,
        });
        let mut link = Self {
            socket,
            session,
            inbox: vec![0; 4096],
        };
        link.flush().await?;
        loop {
            if link.receive().await? {
                return Ok(link);
            }
            link.flush().await?;
        }
    }

    /// Metadata and configurations, before the first frame.
    async fn begin(&mut self, tape: &Tape) -> Result<()> {
        if let Some(metadata) = &tape.metadata {
            // What every publisher puts before onMetaData: an AMF0 string.
            let payload = [b"\x02\0\x0d@setDataFrame", &metadata[..]].concat();
            self.session.send_media(MediaKind::Data, 0, payload.into());
        }
        for tag in &tape.configs {
            self.session.send_media(kind(tag.kind), 0, tag.body.clone());
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<()> {
        if self.session.has_output() {
            let bytes = self.session.take_output();
            self.socket
                .write_all(&bytes)
                .await
                .context("the server closed")?;
        }
        Ok(())
    }

    /// Reads once. True when publishing began.
    async fn receive(&mut self) -> Result<bool> {
        let len = self.socket.read(&mut self.inbox).await?;
        if len == 0 {
            bail!("the server closed");
        }
        let mut input = self.inbox.get(..len).unwrap_or_default();
        let mut began = false;
        while let Some(event) = self.session.next_event(&mut input)? {
            match event {
                ClientEvent::Connected(_) => {}
                ClientEvent::Publishing => began = true,
                ClientEvent::Rejected { code, description } => {
                    bail!("the server refused: {code} {description}");
                }
            }
        }
        Ok(began)
    }

    /// Reads what the server says while frames go out; only ends in an error.
    /// Cancelled at each frame, which loses nothing: a read is whole or not.
    async fn listen(&mut self) -> anyhow::Error {
        loop {
            if let Err(error) = self.receive().await {
                return error;
            }
        }
    }

    async fn end(mut self, abrupt: bool) -> Result<()> {
        if !abrupt {
            self.session.unpublish();
            self.flush().await?;
            self.socket.shutdown().await?;
            // The server's last words; closing over them would reset the
            // connection and lose ours.
            let rest = async {
                while !matches!(self.socket.read(&mut self.inbox).await, Ok(0) | Err(_)) {}
            };
            let _ = timeout(Duration::from_secs(1), rest).await;
        }
        Ok(())
    }
}
