//! Publishers' connections handed from one process to the next, so that an
//! upgrade of the origin is nothing that a streamer notices.
//!
//! In the old process: connections that publish, each of which leaves at its next
//! keyframe; its socket goes to the service manager, what the next process must
//! know beside it into a file. In the new one: both again, as [`HandedOver`]. Media
//! that a publisher sends meanwhile waits in the socket. Invariants: an epoch
//! ends behind a frame and the next begins with a keyframe, none is missing
//! between; a stream key is never written.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use bytes::Bytes;
use common::{
    names::ChannelName,
    rtmp::{
        MediaKind, Suspended,
        amf0::{self, Properties, Value},
    },
    service::{Inherited, Manager},
    shutdown::Shutdown,
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::spawn_blocking,
    time::{Instant, timeout},
};
use tracing::warn;

use super::PublishEvent;

/// Sockets of publishers begin with this at the manager, and their files.
const PREFIX: &str = "publisher-";

/// Flags of the handing over.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "RTMP")]
pub struct HandOverConfig {
    /// Directory through which rtmp:// publishers go over to the next process at a restart, where a service manager keeps their sockets (systemd: FileDescriptorStoreMax=); they are not disconnected
    #[arg(long, env = "MILLRACE_HAND_OVER", value_name = "DIR")]
    pub hand_over: Option<PathBuf>,
}

/// The old process's side.
#[derive(Debug)]
pub struct HandOver {
    dir: PathBuf,
    manager: Arc<Manager>,
    begun: Shutdown,
    names: AtomicU32,
    /// Publishers that will leave by themselves.
    publishing: watch::Sender<usize>,
}

/// A publisher that is to leave; counted while it lives.
#[derive(Debug)]
pub(super) struct Leaver(Arc<HandOver>);

impl Drop for Leaver {
    fn drop(&mut self) {
        self.0.publishing.send_modify(|count| *count -= 1);
    }
}

impl HandOver {
    /// `None` without the flag or a manager: then publishers are told to come again.
    ///
    /// # Errors
    /// The directory can't be made.
    pub fn from_config(
        config: &HandOverConfig,
        manager: &Arc<Manager>,
    ) -> io::Result<Option<Arc<Self>>> {
        let Some(dir) = &config.hand_over else {
            return Ok(None);
        };
        fs::create_dir_all(dir)?;
        if !manager.is_there() {
            warn!("--hand-over is of no use without a service manager (NOTIFY_SOCKET is not set)");
            return Ok(None);
        }
        Ok(Some(Arc::new(Self {
            dir: dir.clone(),
            manager: manager.clone(),
            begun: Shutdown::new(),
            names: AtomicU32::new(0),
            publishing: watch::Sender::new(0),
        })))
    }

    /// Has all publishers leave, each at its next keyframe; `false` if some had
    /// none within the deadline.
    pub async fn everybody(&self, deadline: Duration) -> bool {
        self.begun.drain();
        let mut publishing = self.publishing.subscribe();
        let none = publishing.wait_for(|count| *count == 0);
        timeout(deadline, none).await.is_ok()
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_draining()
    }

    pub(super) async fn begins(&self) {
        self.begun.draining().await;
    }

    pub(super) fn enter(self: &Arc<Self>) -> Leaver {
        self.publishing.send_modify(|count| *count += 1);
        Leaver(self.clone())
    }

    pub(super) async fn store(&self, place: &Place, socket: BorrowedFd<'_>) -> io::Result<()> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let path = self.dir.join(&name);
        tokio::fs::write(&path, serde_json::to_vec(place)?).await?;
        let (manager, socket) = (self.manager.clone(), socket.try_clone_to_owned()?);
        // The manager may be slow to take it, and others' last frames are under way.
        spawn_blocking(move || manager.keep(&name, socket.as_fd()))
            .await
            .map_err(io::Error::other)?
    }
}

/// A message as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    video: bool,
    timestamp_ms: u32,
    payload: String,
}

impl Kept {
    pub(super) fn of(kind: MediaKind, timestamp_ms: u32, payload: &[u8]) -> Self {
        Self {
            video: kind == MediaKind::Video,
            timestamp_ms,
            payload: BASE64.encode(payload),
        }
    }

    /// `None` for what is not base64.
    fn event(&self, received: Instant) -> Option<PublishEvent> {
        let kind = if self.video {
            MediaKind::Video
        } else {
            MediaKind::Audio
        };
        Some(PublishEvent::Media {
            kind,
            timestamp_ms: self.timestamp_ms,
            payload: BASE64.decode(&self.payload).ok()?.into(),
            received,
        })
    }
}

/// Where a publisher stood: all that its socket does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) channel: String,
    /// By which it publishes: [`Grant::place`](crate::keys::Grant::place).
    pub(super) grant: String,
    pub(super) sender: String,
    pub(super) session: Suspended,
    pub(super) opening: Vec<Kept>,
    /// As AMF0, in base64.
    pub(super) metadata: Option<String>,
    /// The keyframe that was read already.
    pub(super) next: Kept,
    /// Bytes behind it that were, in base64.
    pub(super) unread: String,
}

impl Place {
    pub(super) fn channel(&self) -> Option<ChannelName> {
        ChannelName::parse(&self.channel).ok()
    }

    /// What a publish begins with, and the frame that was under way.
    pub(super) fn events(&self, received: Instant) -> Vec<PublishEvent> {
        let metadata = self.metadata.as_ref().and_then(|text| {
            let values = amf0::decode_all(&BASE64.decode(text).ok()?).ok()?;
            match values.into_iter().next() {
                Some(Value::Object(properties)) => Some(PublishEvent::Metadata(properties)),
                _ => None,
            }
        });
        let media = self.opening.iter().chain([&self.next]);
        let media = media.filter_map(|kept| kept.event(received));
        metadata.into_iter().chain(media).collect()
    }

    pub(super) fn unread(&self) -> Vec<u8> {
        BASE64.decode(&self.unread).unwrap_or_default()
    }
}

/// A publisher of the process before this one.
#[derive(Debug)]
pub struct Handed {
    pub(super) stream: TcpStream,
    pub(super) place: Place,
}

/// All publishers of the process before this one. Until [`Self::arrived`] the manager
/// keeps their sockets and the directory their places: a process that does not get
/// so far leaves them to the next.
#[derive(Debug)]
pub struct HandedOver {
    dir: Option<PathBuf>,
    names: Vec<String>,
    publishers: Vec<Handed>,
}

impl HandedOver {
    /// What the manager passed and the old process wrote. A publisher of which the half
    /// is missing is closed. Needs a tokio runtime.
    ///
    /// # Errors
    /// The manager passed something under a publisher's name that is none.
    pub fn from_config(config: &HandOverConfig, inherited: &mut Inherited) -> io::Result<Self> {
        let mut all = Self {
            dir: config.hand_over.clone(),
            names: Vec::new(),
            publishers: Vec::new(),
        };
        while let Some((name, stream)) = inherited.connection(PREFIX)? {
            all.take(name, stream)?;
        }
        Ok(all)
    }

    pub(super) fn take(&mut self, name: String, stream: std::net::TcpStream) -> io::Result<()> {
        if let Some(dir) = &self.dir {
            match read(&dir.join(&name)) {
                Ok(place) => {
                    stream.set_nonblocking(true)?;
                    let stream = TcpStream::from_std(stream)?;
                    self.publishers.push(Handed { stream, place });
                }
                Err(error) => {
                    warn!(name, %error, "a publisher's place is lost; it has to come again")
                }
            }
        }
        self.names.push(name);
        Ok(())
    }

    pub fn publishers(&mut self) -> Vec<Handed> {
        std::mem::take(&mut self.publishers)
    }

    /// From now on they are this process's: nothing that can fail stands before it, and
    /// none of them was read from yet.
    pub fn arrived(self, manager: &Manager) {
        for name in self.names {
            // It has passed its own on, and would keep it open after our end.
            manager.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        }
        if let Some(dir) = &self.dir {
            forget(dir);
        }
    }
}

fn read(path: &Path) -> io::Result<Place> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// What is left belongs to nobody.
fn forget(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What a publish began with: metadata and decoders' configurations, the last of
/// each kind.
#[derive(Debug, Default)]
pub(super) struct Opening {
    metadata: Option<Properties>,
    headers: Vec<(MediaKind, u32, Bytes)>,
    video: bool,
}

/// Configurations of one publish: as many as it may have message streams.
const MAX_HEADERS: usize = 16;

impl Opening {
    pub(super) fn note(&mut self, event: &PublishEvent) {
        match event {
            PublishEvent::Metadata(properties) => self.metadata = Some(properties.clone()),
            PublishEvent::Media {
                kind,
                timestamp_ms,
                payload,
                ..
            } => {
                self.video |= *kind == MediaKind::Video;
                if is_header(*kind, payload) {
                    let name = |payload: &Bytes| payload.slice(..payload.len().min(7));
                    self.headers.retain(|(other, _, header)| {
                        other != kind || name(header) != name(payload)
                    });
                    if self.headers.len() < MAX_HEADERS {
                        self.headers.push((*kind, *timestamp_ms, payload.clone()));
                    }
                }
            }
            PublishEvent::Ended(_) => {}
        }
    }

    /// Whether the next epoch may begin with this message.
    pub(super) fn may_begin(&self, kind: MediaKind, payload: &[u8]) -> bool {
        match kind {
            MediaKind::Video => is_keyframe(payload),
            MediaKind::Audio => !self.video && !is_header(kind, payload),
            MediaKind::Data => false,
        }
    }

    pub(super) fn kept(&self) -> Vec<Kept> {
        let headers = self.headers.iter();
        headers
            .map(|(kind, at, payload)| Kept::of(*kind, *at, payload))
            .collect()
    }

    pub(super) fn metadata(&self) -> Option<String> {
        let properties = self.metadata.clone()?;
        Some(BASE64.encode(amf0::encode_all(&[Value::Object(properties)])))
    }
}

/// Enhanced RTMP's bit of a video tag.
const ENHANCED: u8 = 0x80;
/// The sound format that stands for Enhanced RTMP, and AAC's.
const ENHANCED_AUDIO: u8 = 9;
const AAC: u8 = 10;

/// A decoder's configuration (AVCPacketType 0, AACPacketType 0, SequenceStart).
fn is_header(kind: MediaKind, payload: &[u8]) -> bool {
    let [first, second, ..] = payload else {
        return false;
    };
    match kind {
        MediaKind::Video if first & ENHANCED == 0 => *second == 0,
        MediaKind::Video => packet_type(*first, *second, 6) == 0,
        MediaKind::Audio if first >> 4 == ENHANCED_AUDIO => packet_type(*first, *second, 5) == 0,
        MediaKind::Audio => first >> 4 == AAC && *second == 0,
        MediaKind::Data => false,
    }
}

fn is_keyframe(payload: &[u8]) -> bool {
    let [first, second, ..] = payload else {
        return false;
    };
    let is_key = (first >> 4) & 7 == 1;
    if first & ENHANCED == 0 {
        return is_key && *second == 1;
    }
    // CodedFrames and CodedFramesX.
    is_key && [1, 3].contains(&packet_type(*first, *second, 6))
}

/// Enhanced RTMP's packet type, which several tracks have in the second byte.
const fn packet_type(first: u8, second: u8, multitrack: u8) -> u8 {
    if first & 0x0f == multitrack {
        second & 0x0f
    } else {
        first & 0x0f
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(bytes: &[u8]) -> PublishEvent {
        media(MediaKind::Video, bytes)
    }

    fn media(kind: MediaKind, bytes: &[u8]) -> PublishEvent {
        PublishEvent::Media {
            kind,
            timestamp_ms: 7,
            payload: Bytes::copy_from_slice(bytes),
            received: Instant::now(),
        }
    }

    #[test]
    fn an_epoch_begins_with_a_keyframe_or_any_sound_without_picture() {
        let mut opening = Opening::default();
        let sound = [0xaf, 1, 0x21];
        assert!(opening.may_begin(MediaKind::Audio, &sound));
        assert!(!opening.may_begin(MediaKind::Audio, &[0xaf, 0, 0x12]));
        opening.note(&video(&[0x17, 0, 0, 0, 0, 1]));
        assert!(!opening.may_begin(MediaKind::Audio, &sound));
        // Legacy: keyframe, configuration, inter frame.
        assert!(opening.may_begin(MediaKind::Video, &[0x17, 1, 0, 0, 0]));
        assert!(!opening.may_begin(MediaKind::Video, &[0x17, 0, 0, 0, 0]));
        assert!(!opening.may_begin(MediaKind::Video, &[0x27, 1, 0, 0, 0]));
        // Enhanced: CodedFrames, CodedFramesX, SequenceStart, an inter frame, and
        // CodedFrames of one track.
        for (bytes, begins) in [
            ([0x91, b'a'], true),
            ([0x93, b'a'], true),
            ([0x90, b'a'], false),
            ([0xa1, b'a'], false),
            ([0x96, 0x01], true),
            ([0x96, 0x00], false),
        ] {
            assert_eq!(
                opening.may_begin(MediaKind::Video, &bytes),
                begins,
                "{bytes:?}"
            );
        }
        assert!(!opening.may_begin(MediaKind::Video, &[]));
        assert!(!opening.may_begin(MediaKind::Data, &sound));
    }

    #[test]
    fn the_last_configuration_of_each_kind_is_kept() {
        let mut opening = Opening::default();
        let metadata = vec![("width".to_owned(), 1280.0.into())];
        opening.note(&PublishEvent::Metadata(metadata.clone()));
        opening.note(&video(&[0x17, 0, 0, 0, 0, 1, 1, 1]));
        opening.note(&media(MediaKind::Audio, &[0xaf, 0, 0x12, 0x10]));
        opening.note(&video(&[0x17, 0, 0, 0, 0, 1, 1, 2]));
        opening.note(&video(&[0x17, 1, 0, 0, 0, 9]));
        let session = serde_json::json!({
            "app": "live", "streams": 1, "fc_publish": false, "publishing": 1, "ack_every_bytes": 1,
            "acked_bytes": 0, "offset": 0, "chunk_size": 128, "chunk_streams": []
        });
        let place = Place {
            channel: "demo".to_owned(),
            grant: String::new(),
            sender: String::new(),
            session: serde_json::from_value(session).unwrap(),
            opening: opening.kept(),
            metadata: opening.metadata(),
            next: Kept::of(MediaKind::Video, 9, &[0x17, 1, 5]),
            unread: BASE64.encode([1, 2, 3]),
        };
        let text = serde_json::to_string(&place).unwrap();
        let place: Place = serde_json::from_str(&text).unwrap();
        let now = Instant::now();
        let events = place.events(now);
        let payloads: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                PublishEvent::Media { payload, .. } => Some(payload[payload.len() - 1]),
                _ => None,
            })
            .collect();
        assert_eq!(events[0], PublishEvent::Metadata(metadata));
        assert_eq!(payloads, [0x10, 2, 5]);
        assert_eq!(place.unread(), [1, 2, 3]);
        assert_eq!(place.channel().unwrap().to_string(), "demo");
    }

    #[test]
    fn configurations_are_bounded() {
        let mut opening = Opening::default();
        for track in 0..=u8::MAX {
            opening.note(&video(&[0x96, 0x00, b'a', b'v', b'c', b'1', track, 1]));
        }
        assert_eq!(opening.kept().len(), MAX_HEADERS);
    }
}
