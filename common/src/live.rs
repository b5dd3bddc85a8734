//! Live media at rest in a node: what a broadcast is, the window of each of
//! its tracks, and the directory of all channels. The origin's packager and
//! the edge's link client write here; the link server and HTTP wait here.

mod about;
mod archive;
mod arrivals;
mod audience;
mod broadcast;
mod directory;
mod hearsay;
mod log;
mod metrics;
mod plan;
mod record;
mod segment;
mod window;

pub use about::{About, AboutError, Abouts, Health, MAX_TAG_CHARS, MAX_TAGS, MAX_TITLE_CHARS};
pub use archive::{
    Archive, ArchiveError, ArchiveLimits, ArchiveMetrics, ArchiveReader, ArchiveWriter, Archived,
    Disk,
};
pub use audience::{Audience, Crowd, MAX_CROWDS};
pub use broadcast::{Broadcast, BroadcastState, TrackWindow};
pub use directory::{Announcement, Channel, Directory, Phase, Stage};
pub use hearsay::{Hearsay, Teller};
pub use log::{
    Aged, Gone, ListedPart, ListedSegment, Listing, Log, LogError, MAX_LISTED_SEGMENTS, PartLookup,
    Version,
};
pub use metrics::register_window_metrics;
pub use plan::{Plan, Track};
pub use record::{
    Chunk, Hint, PartEnd, PartFlags, Position, Record, SegmentEnd, SegmentFlags, SegmentHead,
    UnixMs,
};
pub use segment::{Part, Place, Segment, SegmentState};
pub use window::{Cursor, Step, Window};
