//! Which part a low-latency player fetches next.
//!
//! In: the newest playlist of one rendition and what became of the last fetch.
//! Out: a [`Want`], or nothing until the playlist changes. Owned by the track's
//! task. Invariant: every part from the start position on is wanted once, in
//! order; a hinted part is fetched as a hint or as listed, never as both.

use crate::m3u8::{MediaPlaylist, Segment};

/// One resource to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    pub uri: String,
    pub map: Option<String>,
    /// Named by EXT-X-PRELOAD-HINT only: the server holds the request.
    pub hinted: bool,
    /// The part is a hole; nothing is fetched.
    pub gap: bool,
    pub duration_us: u64,
    /// Media time starts anew here.
    pub discontinuity: bool,
    /// Programme time of the first byte.
    pub date_time_us: Option<i64>,
    /// It came to be while we watched, so its latency means something.
    pub fresh: bool,
}

/// What to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Parts, each as a whole, by hint.
    Parts,
    /// Whole segments, streamed while they are made.
    Segments,
}

#[derive(Debug)]
pub struct Follow {
    mode: Mode,
    /// The next listed part: msn, index.
    next: Option<(u64, u64)>,
    /// What was listed when we joined ends here.
    joined_at: (u64, u64),
    /// The hint fetched last, until it is seen in the list.
    fetched: Option<String>,
    /// A hint that the server took back.
    void: Option<String>,
    last_uri: Option<String>,
    /// Parts that left the list before they were fetched.
    pub skipped: u64,
    /// Hints that were fetched and never listed.
    pub unlisted: u64,
}

impl Follow {
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            next: None,
            joined_at: (0, 0),
            fetched: None,
            void: None,
            last_uri: None,
            skipped: 0,
            unlisted: 0,
        }
    }

    /// The next fetch that `list` allows.
    pub fn next(&mut self, list: &MediaPlaylist) -> Option<Want> {
        if self.next.is_none() {
            self.joined_at = list.position()?.next();
            self.next = Some(match self.mode {
                Mode::Parts => start(list)?,
                Mode::Segments => (list.segments.last()?.msn, 0),
            });
        }
        match self.mode {
            Mode::Parts => self.next_part(list),
            Mode::Segments => self.next_segment(list),
        }
    }

    /// `want` was fetched, or given up.
    pub fn took(&mut self, want: &Want) {
        self.last_uri = Some(want.uri.clone());
        if want.hinted && self.mode == Mode::Parts {
            if self.fetched.replace(want.uri.clone()).is_some() {
                self.unlisted += 1;
            }
        } else if let Some((msn, part)) = &mut self.next {
            match self.mode {
                Mode::Parts => *part += 1,
                Mode::Segments => *msn += 1,
            }
        }
    }

    /// The server answered the hint with 404: it won't exist.
    pub fn hint_gone(&mut self, want: &Want) {
        self.void = Some(want.uri.clone());
    }

    /// Whether a hint that is being fetched can no longer come true.
    #[must_use]
    pub fn is_stale(want: &Want, list: &MediaPlaylist) -> bool {
        let listed = |segment: &Segment| segment.parts.iter().any(|part| part.uri == want.uri);
        want.hinted
            && list.part_hint() != Some(&want.uri)
            && !list.segments.iter().rev().take(3).any(listed)
    }

    fn next_part(&mut self, list: &MediaPlaylist) -> Option<Want> {
        loop {
            let (msn, part) = self.next?;
            let Some(segment) = list.segments.iter().find(|segment| segment.msn == msn) else {
                let first = list
                    .segments
                    .iter()
                    .find(|segment| !segment.parts.is_empty());
                match first {
                    // The list moved on without us.
                    Some(first) if first.msn > msn => {
                        self.skipped += 1;
                        self.next = Some((first.msn, 0));
                        continue;
                    }
                    _ => return self.hint(list),
                }
            };
            let index = usize::try_from(part).ok()?;
            let Some(listed) = segment.parts.get(index) else {
                if segment.uri.is_none() {
                    return self.hint(list);
                }
                if segment.parts.is_empty() {
                    self.skipped += 1;
                }
                self.next = Some((msn.checked_add(1)?, 0));
                continue;
            };
            if self.fetched.as_ref() == Some(&listed.uri) {
                self.fetched = None;
                self.next = Some((msn, part + 1));
                continue;
            }
            return Some(Want {
                uri: listed.uri.clone(),
                map: segment.map.clone(),
                hinted: false,
                gap: listed.gap,
                duration_us: listed.duration_us,
                discontinuity: segment.discontinuity && part == 0,
                date_time_us: date_time(list, Some((msn, index))),
                fresh: (msn, part) >= self.joined_at,
            });
        }
    }

    fn hint(&self, list: &MediaPlaylist) -> Option<Want> {
        let uri = list.part_hint()?;
        let used = [&self.fetched, &self.void];
        if used.into_iter().flatten().any(|used| used == uri) {
            return None;
        }
        let map_hint = list.hints.iter().find(|hint| hint.kind == "MAP");
        let map = match map_hint {
            Some(hint) => Some(hint.uri.clone()),
            None => list.segments.last().and_then(|segment| segment.map.clone()),
        };
        // A hint carries no DISCONTINUITY; a new epoch shows in its folder.
        let moved = self
            .last_uri
            .as_ref()
            .is_some_and(|last| folder(last) != folder(uri));
        Some(Want {
            uri: uri.to_owned(),
            map,
            hinted: true,
            gap: false,
            duration_us: list.part_target_us.unwrap_or_default(),
            discontinuity: moved,
            date_time_us: if moved { None } else { date_time(list, None) },
            fresh: true,
        })
    }

    /// The segment being made, named after our own scheme: `{msn}.m4s` beside
    /// `{msn}.{part}.m4s`.
    fn next_segment(&mut self, list: &MediaPlaylist) -> Option<Want> {
        let (msn, _) = self.next?;
        let first = list.segments.first()?.msn;
        let end = list.segments.last()?.msn.checked_add(1)?;
        let msn = if msn < first { end - 1 } else { msn };
        self.skipped += u64::from(Some((msn, 0)) != self.next);
        self.next = Some((msn, 0));
        let segment = list.segments.iter().find(|segment| segment.msn == msn);
        let (uri, map) = match segment {
            Some(segment) => {
                let streamed = || segment_of(&segment.parts.first()?.uri, msn);
                let uri = segment.uri.clone().or_else(streamed)?;
                (uri, segment.map.clone())
            }
            None if msn == end => {
                let uri = segment_of(list.part_hint()?, msn)?;
                (uri, list.segments.last()?.map.clone())
            }
            None => return None,
        };
        Some(Want {
            uri,
            map,
            hinted: segment.is_none(),
            gap: segment.is_some_and(|segment| segment.gap),
            duration_us: segment
                .and_then(|segment| segment.duration_us)
                .unwrap_or_default(),
            discontinuity: segment.is_some_and(|segment| segment.discontinuity),
            date_time_us: date_time(list, segment.map(|segment| (segment.msn, 0))),
            fresh: msn > self.joined_at.0,
        })
    }
}

/// The last independent part that leaves the hold-back between it and the end.
fn start(list: &MediaPlaylist) -> Option<(u64, u64)> {
    let hold_back_us = list.hold_back_us();
    let mut behind_us = 0u64;
    let mut earliest = None;
    for segment in list.segments.iter().rev() {
        for (index, part) in segment.parts.iter().enumerate().rev() {
            behind_us = behind_us.saturating_add(part.duration_us);
            if part.independent || index == 0 {
                earliest = Some((segment.msn, index as u64));
                if behind_us >= hold_back_us {
                    return earliest;
                }
            }
        }
    }
    earliest
}

/// Programme time at the start of a listed part, or at the list's end.
fn date_time(list: &MediaPlaylist, at: Option<(u64, usize)>) -> Option<i64> {
    let mut now: Option<i64> = None;
    let add = |now: Option<i64>, us: u64| now?.checked_add(i64::try_from(us).ok()?);
    for segment in &list.segments {
        now = segment.date_time_us.or(now);
        let mut inside = now;
        for (index, part) in segment.parts.iter().enumerate() {
            if at == Some((segment.msn, index)) {
                return inside;
            }
            inside = add(inside, part.duration_us);
        }
        if at == Some((segment.msn, 0)) {
            return now;
        }
        now = match segment.duration_us {
            Some(us) => add(now, us),
            None => inside,
        };
    }
    at.is_none().then_some(now)?
}

fn folder(uri: &str) -> &str {
    uri.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `x/102.1.m4s` into `x/102.m4s`; `None` for anybody else's names.
fn segment_of(part_uri: &str, msn: u64) -> Option<String> {
    let (before, file) = match part_uri.rsplit_once('/') {
        Some((folder, file)) => (format!("{folder}/"), file),
        None => (String::new(), part_uri),
    };
    let mut pieces = file.split('.');
    let (number, part, kind) = (pieces.next()?, pieces.next()?, pieces.next()?);
    let ours = number.parse() == Ok(msn) && part.parse::<u64>().is_ok() && pieces.next().is_none();
    ours.then(|| format!("{before}{number}.{kind}"))
}

#[cfg(test)]
mod tests;
