//! The task of one endless stream: `stream.mp4` from its newest segment on.
//!
//! In: its URL. Out: as of a playlist's track. A stream that ends is asked for
//! again, as the watch page does: a publisher that returned may have brought
//! another init segment. One that isn't there before it began is over.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::media::{Event, Job, Watched};
use crate::{
    boxes::{Fragment, FragmentReader, Kind, box_at, parse_init},
    client::{Ask, FetchError, Lane},
    clock,
    follow::Want,
    playout::Arrival,
    stamp,
    track::Track,
};

/// Where fast mode of the watch page plays, and what it goes on with after a stall.
const HOLD_BACK_US: u64 = 350_000;
const RESUME_US: u64 = 100_000;

/// What was there before we came arrives in one go; where frames carry no
/// stamps, it is taken to be over after this.
const BURST_US: i64 = 1_000_000;

const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// ftyp and moov.
const MAX_INIT_BYTES: usize = 1 << 20;

pub async fn run(job: Job) -> Watched {
    let mut lane = Lane::new(job.net.clone());
    let mut viewer = Viewer {
        track: Track::new(job.digits),
        beginning: Vec::new(),
        reader: FragmentReader::default(),
        asked_us: 0,
        broken: false,
        job,
    };
    let terms = Event::Terms {
        hold_back_us: HOLD_BACK_US,
        part_us: RESUME_US,
    };
    let _ = viewer.job.events.send(terms).await;
    let mut ended = false;
    while Instant::now() < viewer.job.deadline {
        viewer.begin();
        let ask = Ask {
            gzip: false,
            range: None,
            timeout: viewer.job.deadline - Instant::now(),
            max_bytes: usize::MAX,
        };
        let url = viewer.job.url.clone();
        let head = lane.get(&url, ask, |data| viewer.take(data)).await;
        ended = false;
        match head {
            Ok(head) if head.status.is_success() => ended = true,
            Ok(head) if head.status == http::StatusCode::NOT_FOUND => {
                viewer.track.counts.offline_answers += 1;
                // Nothing to wait for a first frame of.
                if viewer.track.first_frame_us.is_none() {
                    ended = true;
                    break;
                }
            }
            Ok(head) => {
                let kind = format!("stream {}", head.status.as_u16());
                viewer.track.counts.error(kind);
            }
            // The deadline, as asked for.
            Err(FetchError::Timeout(_)) => break,
            Err(error) => viewer
                .track
                .counts
                .error(format!("stream {}", error.kind())),
        }
        sleep(RETRY_PAUSE).await;
    }
    Watched {
        track: viewer.track,
        ended,
    }
}

struct Viewer {
    job: Job,
    track: Track,
    /// What came before the init segment was whole.
    beginning: Vec<u8>,
    reader: FragmentReader,
    asked_us: i64,
    broken: bool,
}

impl Viewer {
    /// Asks (again): what comes does not follow what came.
    fn begin(&mut self) {
        self.track.init = None;
        self.track.forget();
        self.beginning.clear();
        self.reader = FragmentReader::default();
        self.asked_us = clock::unix_us();
        self.broken = false;
    }

    fn take(&mut self, data: &[u8]) {
        let at_us = clock::unix_us();
        self.track.counts.bytes += data.len() as u64;
        if self.broken {
            return;
        }
        if self.track.init.is_some() {
            self.media(data, at_us);
            return;
        }
        self.beginning.extend_from_slice(data);
        let Some(end) = end_of_init(&self.beginning) else {
            self.broken = self.beginning.len() > MAX_INIT_BYTES;
            if self.broken {
                self.track.counts.error("stream without an init segment");
            }
            return;
        };
        let rest = self.beginning.split_off(end);
        match parse_init(&self.beginning) {
            Ok(init) => self.track.init = Some(init),
            Err(_) => {
                self.broken = true;
                self.track.counts.error("init unreadable");
            }
        }
        self.media(&rest, at_us);
    }

    fn media(&mut self, data: &[u8], at_us: i64) {
        let Some(init) = self.track.init.clone() else {
            return;
        };
        let Ok(fragments) = self.reader.push(data, &init) else {
            self.broken = true;
            self.track.counts.error("media unreadable");
            return;
        };
        for fragment in fragments {
            self.track.counts.parts += 1;
            let want = Want {
                uri: String::new(),
                map: None,
                hinted: false,
                gap: false,
                duration_us: 0,
                discontinuity: false,
                date_time_us: None,
                fresh: is_fresh(&fragment, init.kind, init.nal_length, self.asked_us, at_us),
            };
            if let Some(gained) = self.track.fragment(&fragment, &want, false, at_us) {
                self.job.tell(vec![Arrival {
                    track: self.job.index,
                    at_us,
                    start_us: gained.start_us,
                    end_us: gained.end_us,
                    discontinuity: false,
                }]);
            }
        }
    }
}

/// Whether a frame came to be while we watched.
pub(super) fn is_fresh(
    fragment: &Fragment,
    kind: Kind,
    nal_length: usize,
    asked_us: i64,
    at_us: i64,
) -> bool {
    let first = fragment.samples.first().filter(|_| kind == Kind::Video);
    let stamp = first.and_then(|sample| stamp::find(fragment.sample_bytes(sample), nal_length));
    match stamp {
        Some(stamp) => i64::try_from(stamp.unix_us).is_ok_and(|sent_us| sent_us > asked_us),
        None => at_us.saturating_sub(asked_us) > BURST_US,
    }
}

/// Where moov ends, once it is whole.
fn end_of_init(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Ok(Some(found)) = box_at(bytes, at) {
        at = found.body.end;
        if &found.name == b"moov" {
            return (at <= bytes.len()).then_some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boxes::tests::{chunk, video_init},
        stamp::Stamp,
    };

    fn frame(unix_us: u64) -> Fragment {
        let sample = stamp::into_sample(
            &[0, 0, 0, 1, 0x65],
            4,
            Stamp {
                unix_us,
                counter: 0,
            },
        );
        let bytes = chunk(1, 0, 4000, true, &sample.unwrap());
        let init = parse_init(&video_init()).unwrap();
        let mut read = FragmentReader::default().push(&bytes, &init).unwrap();
        read.remove(0)
    }

    #[test]
    fn the_init_segment_ends_with_moov_in_any_split() {
        let init = video_init();
        let media = chunk(1, 0, 4000, true, &[0, 0, 0, 1, 0x65]);
        let all = [&init[..], &media].concat();
        for len in 0..init.len() {
            assert_eq!(end_of_init(&all[..len]), None, "{len}");
        }
        for len in init.len()..all.len() {
            assert_eq!(end_of_init(&all[..len]), Some(init.len()));
        }
        assert_eq!(end_of_init(&[0, 0, 0, 1, 0, 0, 0, 0]), None);
    }

    #[test]
    fn what_was_sent_before_we_asked_is_not_fresh() {
        let fresh = |sent, asked| is_fresh(&frame(sent), Kind::Video, 4, asked, asked + 10);
        assert!(!fresh(999, 1_000));
        assert!(fresh(1_001, 1_000));
        // Sound has no stamps.
        let sound = |asked, at| is_fresh(&frame(0), Kind::Audio, 4, asked, at);
        assert!(!sound(0, BURST_US));
        assert!(sound(0, BURST_US + 1));
    }
}
