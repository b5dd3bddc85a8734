//! An origin without sockets, and encoders that send to it in virtual time.

use std::{cell::Cell, net::SocketAddr, path::Path};

use bytes::Bytes;
use common::{
    live::{ArchiveMetrics, Broadcast, BroadcastState, Channel, Listing, SegmentState, Stage},
    names::TrackName,
    rtmp::MediaKind,
};
use prometheus::{IntGauge, Registry};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::super::*;
use crate::{
    cmaf::tests::{PPS, SPS},
    rtmp::{CloseHandle, EndReason, EventSender, PublishEvent, queue},
    webhook::Heard,
};

/// The wall clock when a test begins.
pub const START_MS: u64 = 1_795_000_000_000;
pub const MAX_WINDOW_BYTES: u64 = 16 << 20;
pub const V0: TrackName = TrackName::video(0);
pub const A0: TrackName = TrackName::audio(0);

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static SET_BACK_MS: Cell<u64> = const { Cell::new(0) };
}

/// The wall clock follows tokio's, which is paused.
pub fn clock() -> UnixMs {
    let began = BEGAN.get().unwrap_or_else(|| {
        BEGAN.set(Some(Instant::now()));
        Instant::now()
    });
    let since = u64::try_from(began.elapsed().as_millis()).unwrap();
    UnixMs(START_MS + since - SET_BACK_MS.get())
}

pub fn set_clock_back(ms: u64) {
    SET_BACK_MS.set(SET_BACK_MS.get() + ms);
}

pub async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

pub async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

pub struct Origin {
    pub publishes: mpsc::Sender<Publish>,
    pub directory: Arc<Directory>,
    pub metrics: BroadcastMetrics,
    pub registry: Registry,
    pub shutdown: Shutdown,
    pub abouts: Arc<Abouts>,
    pub control: Control,
    pub heard: Heard,
    task: JoinHandle<()>,
}

impl Origin {
    pub fn start() -> Self {
        Self::with(None)
    }

    pub fn with(journal: Option<&Path>) -> Self {
        Self::with_dvr(journal, None, 1 << 30)
    }

    pub fn with_dvr(journal: Option<&Path>, dvr: Option<&str>, memory_bytes: u64) -> Self {
        clock();
        let config = BroadcastConfig {
            grace: 10,
            max_gop: 12,
            max_window_bytes: MAX_WINDOW_BYTES,
            journal: journal.map(Path::to_owned),
            dvr: DvrConfig {
                dvr: dvr.map(|window| window.parse().unwrap()),
                dvr_memory_bytes: memory_bytes,
                dvr_dir: None,
                dvr_disk_bytes: 0,
            },
        };
        let registry = Registry::new();
        let archive = config.dvr.open(ArchiveMetrics::register(&registry));
        let metrics = BroadcastMetrics::register(&registry);
        let (directory, shutdown) = (Arc::new(Directory::default()), Shutdown::new());
        let node = NodeId::parse("origin").unwrap();
        let broadcasts = Broadcasts::new(
            config,
            node,
            directory.clone(),
            archive.unwrap(),
            metrics.clone(),
            shutdown.clone(),
        );
        let abouts = Arc::new(Abouts::default());
        let (hooks, heard) = Hooks::heard();
        let mut broadcasts = broadcasts.unwrap().telling(abouts.clone(), hooks);
        let control = broadcasts.control();
        Arc::get_mut(&mut broadcasts.shared).unwrap().clock = clock;
        let (publishes, arriving) = mpsc::channel(4);
        Self {
            publishes,
            directory,
            metrics,
            registry,
            shutdown,
            abouts,
            control,
            heard,
            task: tokio::spawn(broadcasts.run(arriving)),
        }
    }

    /// kill -9: nothing is told or written any more. Its tasks end with the
    /// set that they are in.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// SIGTERM, to the end.
    pub async fn drain(self) {
        self.shutdown.drain();
        self.task.await.unwrap();
        assert_eq!(self.shutdown.drained(Duration::from_secs(1)).await, Ok(()));
        for gauge in [
            &self.metrics.live,
            &self.metrics.lost,
            &self.metrics.channels,
            &self.metrics.window_bytes,
            &self.metrics.plan_waiting_bytes,
        ] {
            assert_eq!(gauge.get(), 0);
        }
    }

    pub async fn publish(&self) -> Encoder {
        self.publish_from([10, 0, 0, 1], "demo").await
    }

    pub async fn publish_from(&self, host: [u8; 4], channel: &str) -> Encoder {
        let gauge = IntGauge::new("queued_bytes", "Queued.").unwrap();
        let (sender, events) = queue(&gauge);
        let (close, closed) = CloseHandle::channel();
        let publish = Publish {
            channel: ChannelName::parse(channel).unwrap(),
            peer: SocketAddr::from((host, 4_000)),
            events,
            close,
        };
        assert!(self.publishes.send(publish).await.is_ok());
        Encoder::new(sender, closed)
    }

    pub fn shown(&self) -> Option<Channel> {
        self.directory.get(&ChannelName::parse("demo").unwrap())
    }

    /// The broadcast on offer, which must be one.
    pub fn offered(&self) -> Arc<Broadcast> {
        match self.shown().expect("is announced").stage {
            Stage::Ready(broadcast) => broadcast,
            Stage::Starting => panic!("nothing is offered yet"),
        }
    }

    /// What a gauge or a counter says now.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole numbers of this test"
    )]
    pub fn metric(&self, name: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let values = family.into_iter().flat_map(|family| family.get_metric());
        let value = |of: &prometheus::proto::Metric| {
            of.get_gauge().get_value() + of.get_counter().get_value()
        };
        values.map(value).sum::<f64>() as u64
    }

    pub fn refused(&self, label: &str) -> u64 {
        self.metrics.refused.with_label_values(&[label]).get()
    }
}

/// Sends 30 frames a second (or as told) and 48 kHz sound, in real time.
pub struct Encoder {
    sender: EventSender,
    closed: mpsc::Receiver<String>,
    began: Instant,
    pub fps: u64,
    pub gop_frames: u64,
    pub video: bool,
    pub audio: bool,
    /// Of one picture.
    pub bytes: usize,
    frame: u64,
    sound: u64,
    said: (bool, bool),
}

impl Encoder {
    fn new(sender: EventSender, closed: mpsc::Receiver<String>) -> Self {
        Self {
            sender,
            closed,
            began: Instant::now(),
            fps: 30,
            gop_frames: 60,
            video: true,
            audio: true,
            bytes: 3,
            frame: 0,
            sound: 0,
            said: (false, false),
        }
    }

    /// Sends until `ms` after it began; `false` once nobody reads it.
    pub async fn until_ms(&mut self, ms: u64) -> bool {
        loop {
            let video_ms = self.frame * 1_000 / self.fps;
            let audio_ms = self.sound * 1_024 / 48;
            let next_ms = video_ms.min(audio_ms);
            if next_ms >= ms {
                break;
            }
            sleep_until(self.began + Duration::from_millis(next_ms)).await;
            let sent = if video_ms <= audio_ms {
                self.frame += 1;
                !self.video || self.send_picture(video_ms).await
            } else {
                self.sound += 1;
                !self.audio || self.send_sound(audio_ms).await
            };
            if !sent {
                return false;
            }
        }
        sleep_until(self.began + Duration::from_millis(ms)).await;
        settle().await;
        true
    }

    pub async fn seconds(&mut self, seconds: u64) -> bool {
        let so_far = u64::try_from(self.began.elapsed().as_millis()).unwrap();
        self.until_ms(so_far + seconds * 1_000).await
    }

    async fn send_picture(&mut self, at_ms: u64) -> bool {
        if !std::mem::replace(&mut self.said.0, true) {
            self.send(MediaKind::Video, at_ms, sequence_header()).await;
        }
        let sync = (self.frame - 1).is_multiple_of(self.gop_frames);
        self.send(MediaKind::Video, at_ms, picture(sync, self.bytes))
            .await
    }

    async fn send_sound(&mut self, at_ms: u64) -> bool {
        if !std::mem::replace(&mut self.said.1, true) {
            let config = Bytes::from_static(&[0xaf, 0, 0x11, 0x90]);
            self.send(MediaKind::Audio, at_ms, config).await;
        }
        let frame = Bytes::from_static(&[0xaf, 1, 0x21, 0x10, 0x04]);
        self.send(MediaKind::Audio, at_ms, frame).await
    }

    pub async fn send(&self, kind: MediaKind, at_ms: u64, payload: Bytes) -> bool {
        let event = PublishEvent::Media {
            kind,
            timestamp_ms: u32::try_from(at_ms).unwrap(),
            payload,
            received: Instant::now(),
        };
        self.sender.send(event).await.is_ok()
    }

    /// Ends by deleteStream.
    pub async fn stop(self) {
        let ended = PublishEvent::Ended(EndReason::Unpublished);
        assert!(self.sender.send(ended).await.is_ok());
        settle().await;
    }

    /// The connection is gone without a word.
    pub async fn vanish(self) {
        drop(self);
        settle().await;
    }

    /// What it was told when it was closed, if it was.
    pub fn last_words(&mut self) -> Option<String> {
        self.closed.try_recv().ok()
    }
}

fn sequence_header() -> Bytes {
    let mut out = vec![0x17, 0, 0, 0, 0, 1, SPS[1], SPS[2], SPS[3], 0xff, 0xe1];
    out.extend(u16::try_from(SPS.len()).unwrap().to_be_bytes());
    out.extend(SPS);
    out.push(1);
    out.extend(u16::try_from(PPS.len()).unwrap().to_be_bytes());
    out.extend(PPS);
    out.into()
}

fn picture(sync: bool, bytes: usize) -> Bytes {
    let (frame_type, nal) = if sync { (0x17, 0x65) } else { (0x27, 0x41) };
    let mut out = vec![frame_type, 1, 0, 0, 0];
    out.extend(u32::try_from(bytes).unwrap().to_be_bytes());
    out.push(nal);
    out.resize(9 + bytes, 9);
    out.into()
}

pub fn listing(broadcast: &Broadcast, track: TrackName) -> Arc<Listing> {
    let track = broadcast.track(track).expect("is a track");
    track.window.listing().expect("lists something")
}

pub fn all_complete(broadcast: &Broadcast) -> bool {
    let complete = |log: &common::live::Log| matches!(log.newest(), Some(last) if matches!(last.state, SegmentState::Complete(_)));
    let mut tracks = broadcast.tracks.iter();
    tracks.all(|track| track.window.look(complete))
}

pub fn is_ended(broadcast: &Broadcast) -> bool {
    let mut tracks = broadcast.tracks.iter();
    tracks.all(|track| track.window.look(common::live::Log::is_ended))
        && broadcast.state() == BroadcastState::Ended
}
