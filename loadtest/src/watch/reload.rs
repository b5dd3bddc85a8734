//! The task that keeps one media playlist fresh by blocking reloads.
//!
//! In: the playlist's URL. Out: each new version, or the kind of failure, to
//! the track's task, which also ends this one by closing the channel.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;

use crate::{
    client::{Ask, Head, Lane, Net, text},
    m3u8::{MediaPlaylist, Playlist, parse},
    url::Url,
};

/// A playlist of a day of parts is smaller.
const MAX_PLAYLIST_BYTES: usize = 4 << 20;

/// Longer than three target durations, after which a server answers 503.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Between tries after an error.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Versions that wait for the track's task: it reads each one before it fetches
/// on, so more would be old news.
const QUEUE: usize = 8;

pub enum Reload {
    List(Arc<MediaPlaylist>),
    Failed(String),
}

/// Playlists read lately, by the bytes they came as: a thousand viewers of one
/// channel get the same ones, and reading them costs more than fetching them.
#[derive(Debug, Default)]
pub struct Known(Mutex<VecDeque<(Vec<u8>, Arc<MediaPlaylist>)>>);

/// Two tracks of some channels, a version or two each.
const KNOWN: usize = 16;

impl Known {
    fn get(&self, body: &[u8]) -> Option<Arc<MediaPlaylist>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().rev().find(|(bytes, _)| bytes == body);
        found.map(|(_, list)| list.clone())
    }

    fn keep(&self, body: Vec<u8>, list: Arc<MediaPlaylist>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.pop_front();
        }
        known.push_back((body, list));
    }
}

/// One GET of a playlist.
///
/// # Errors
/// The kind of failure, in a word: a status, `timeout`, `syntax`.
pub async fn load(lane: &mut Lane, url: &Url) -> Result<Playlist, String> {
    let (head, body) = fetch(lane, url).await?;
    read(&head, &body)
}

/// One GET of a media playlist.
async fn load_media(
    lane: &mut Lane,
    url: &Url,
    known: &Known,
) -> Result<Arc<MediaPlaylist>, String> {
    let (head, body) = fetch(lane, url).await?;
    if let Some(list) = known.get(&body) {
        return Ok(list);
    }
    match read(&head, &body)? {
        Playlist::Media(list) => {
            let list = Arc::new(*list);
            known.keep(body, list.clone());
            Ok(list)
        }
        Playlist::Multivariant(_) => Err("not a media playlist".to_owned()),
    }
}

fn read(head: &Head, body: &[u8]) -> Result<Playlist, String> {
    let text = text(head, body, MAX_PLAYLIST_BYTES).map_err(|_| "encoding".to_owned())?;
    parse(&text).map_err(|_| "syntax".to_owned())
}

async fn fetch(lane: &mut Lane, url: &Url) -> Result<(Head, Vec<u8>), String> {
    let ask = Ask {
        gzip: true,
        range: None,
        timeout: RELOAD_TIMEOUT,
        max_bytes: MAX_PLAYLIST_BYTES,
    };
    let mut body = Vec::new();
    let head = lane
        .get(url, ask, |data| body.extend_from_slice(data))
        .await;
    let head: Head = head.map_err(|error| error.kind().to_owned())?;
    if head.status != http::StatusCode::OK {
        return Err(head.status.as_u16().to_string());
    }
    Ok((head, body))
}

/// Starts the task.
pub fn follow(net: Arc<Net>, url: Url, known: Arc<Known>) -> mpsc::Receiver<Reload> {
    let (versions, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        tokio::select! {
            () = versions.closed() => {}
            () = keep_fresh(net, url, &known, &versions) => {}
        }
    });
    receiver
}

async fn keep_fresh(net: Arc<Net>, url: Url, known: &Known, versions: &mpsc::Sender<Reload>) {
    let mut lane = Lane::new(net);
    let mut query = String::new();
    loop {
        let (message, pause, done) =
            match load_media(&mut lane, &url.with_query(&query), known).await {
                Ok(list) => {
                    let pause = after(&list, &mut query);
                    let done = list.ended;
                    (Reload::List(list), pause, done)
                }
                Err(kind) => {
                    // Too far ahead or unheard of: ask afresh.
                    if kind == "400" {
                        query.clear();
                    }
                    (Reload::Failed(kind), RETRY_PAUSE, false)
                }
            };
        if versions.send(message).await.is_err() || done {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// What to ask for next, and how long to wait before that.
fn after(list: &MediaPlaylist, query: &mut String) -> Duration {
    let blocks = list
        .control
        .as_ref()
        .is_some_and(|control| control.can_block_reload);
    query.clear();
    match list.position() {
        Some(position) if blocks => {
            let (msn, part) = position.next();
            *query = if list.part_target_us.is_some() {
                format!("_HLS_msn={msn}&_HLS_part={part}")
            } else {
                format!("_HLS_msn={msn}")
            };
            Duration::ZERO
        }
        _ => Duration::from_micros(list.target_us() / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::m3u8::parse_media;

    #[test]
    fn equal_bytes_are_read_once_and_old_ones_forgotten() {
        let known = Known::default();
        let list = || Arc::new(parse_media("#EXTM3U\n#EXT-X-TARGETDURATION:4\n").unwrap());
        let first = list();
        known.keep(b"a".to_vec(), first.clone());
        assert!(Arc::ptr_eq(&known.get(b"a").unwrap(), &first));
        assert!(known.get(b"b").is_none());
        for byte in 0..KNOWN {
            known.keep(vec![0, u8::try_from(byte).unwrap()], list());
        }
        assert!(known.get(b"a").is_none());
    }

    #[test]
    fn the_next_reload_names_the_next_part() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART-INF:PART-TARGET=0.5\n\
            #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-MEDIA-SEQUENCE:7\n\
            #EXT-X-PART:DURATION=0.5,URI=\"a\"\n";
        let mut query = String::new();
        let open = parse_media(text).unwrap();
        assert_eq!(after(&open, &mut query), Duration::ZERO);
        assert_eq!(query, "_HLS_msn=7&_HLS_part=1");
        let complete = parse_media(&format!("{text}#EXTINF:0.5,\nb\n")).unwrap();
        after(&complete, &mut query);
        assert_eq!(query, "_HLS_msn=8&_HLS_part=0");
        let plain = parse_media("#EXTM3U\n#EXT-X-TARGETDURATION:4\n").unwrap();
        assert_eq!(after(&plain, &mut query), Duration::from_secs(2));
        assert_eq!(query, "");
    }
}
