//! What was seen of a channel: the checker's only input, so that a test can
//! plant a fault in it.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::HeaderMap;

use crate::{
    boxes::{BoxError, Fragment, FragmentReader, Init},
    m3u8::{MediaPlaylist, Multivariant},
};

#[derive(Debug, Default)]
pub struct Observed {
    pub multivariant: Option<Multivariant>,
    pub tracks: Vec<TrackSeen>,
    pub exchanges: Vec<Exchange>,
    /// Between the server's clock tick and our read of it.
    pub slack_us: i64,
}

/// One media playlist and its media.
#[derive(Debug, Default)]
pub struct TrackSeen {
    /// The playlist's URI as the multivariant names it.
    pub uri: String,
    pub lists: Vec<Snapshot>,
    pub inits: BTreeMap<String, Init>,
    /// Parts and whole segments by URI.
    pub media: BTreeMap<String, Media>,
}

/// A playlist as it was at a time.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub at_us: i64,
    pub list: MediaPlaylist,
}

#[derive(Debug)]
pub struct Media {
    pub bytes: Bytes,
    pub fragments: Result<Vec<Fragment>, BoxError>,
}

impl Media {
    #[must_use]
    pub fn read(bytes: Bytes, init: &Init) -> Self {
        let mut reader = FragmentReader::default();
        let fragments = reader.push(&bytes, init);
        let fragments = match fragments {
            Ok(fragments) if reader.pending() == 0 => Ok(fragments),
            Ok(_) => Err(BoxError::Short {
                name: "the last chunk".to_owned(),
                at: bytes.len(),
            }),
            Err(error) => Err(error),
        };
        Self { bytes, fragments }
    }

    #[must_use]
    pub fn fragments(&self) -> &[Fragment] {
        self.fragments.as_deref().unwrap_or_default()
    }
}

/// Why a request was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Playlist,
    /// A blocking reload.
    Blocking {
        msn: u64,
        part: u64,
    },
    Gzip,
    PartWithoutMsn,
    Unparsable,
    FarAhead,
    /// `_HLS_skip=YES`, with the full playlist of just before.
    Skip {
        full: Box<MediaPlaylist>,
    },
    Init,
    /// A listed part or segment.
    Media,
    Hinted,
    /// A part that nobody named yet.
    Future,
    /// A part that has left the list.
    Dropped,
    Range,
    /// A playlist that doesn't exist.
    Missing,
}

#[derive(Debug, Clone)]
pub struct Exchange {
    pub asked: Asked,
    pub track: usize,
    /// Path and query.
    pub path: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub asked_us: i64,
    pub first_byte_us: Option<i64>,
    pub done_us: i64,
    pub body: Bytes,
}

impl Exchange {
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }
}
