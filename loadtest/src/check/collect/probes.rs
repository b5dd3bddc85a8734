//! Questions that a player never asks, and hints asked for side by side.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    super::observed::{Asked, Exchange},
    Question, media_list,
};
use crate::{
    client::{Lane, Net},
    m3u8::MediaPlaylist,
    url::Url,
};

/// Enough to see how hints and dropped parts are answered.
const HINTS: usize = 8;
const DROPPED: usize = 4;

/// The other questions are asked once the list has this many versions, so that
/// the first fetches don't delay them.
const SETTLED: usize = 3;

pub struct Probes {
    track: usize,
    net: Arc<Net>,
    hinted: mpsc::Sender<Exchange>,
    hints: Vec<String>,
    dropped: usize,
    versions: usize,
}

impl Probes {
    pub fn new(track: usize, net: Arc<Net>, hinted: mpsc::Sender<Exchange>) -> Self {
        Self {
            track,
            net,
            hinted,
            hints: Vec::new(),
            dropped: 0,
            versions: 0,
        }
    }

    /// Asks for the hint on a connection of its own; the answer comes later.
    pub fn hint(&mut self, base: &Url, list: &MediaPlaylist) {
        let Some(hint) = list.part_hint() else { return };
        let ranged = list
            .segments
            .iter()
            .flat_map(|segment| &segment.parts)
            .any(|part| part.byte_range.is_some());
        if ranged || self.hints.len() >= HINTS || self.hints.iter().any(|known| known == hint) {
            return;
        }
        self.hints.push(hint.to_owned());
        let Ok(url) = base.join(hint) else { return };
        let (mut lane, track, hinted) =
            (Lane::new(self.net.clone()), self.track, self.hinted.clone());
        tokio::spawn(async move {
            let mut question = Question::new(&mut lane, track);
            if let Ok(exchange) = question.ask(&url, Asked::Hinted).await {
                let _ = hinted.send(exchange).await;
            }
        });
    }

    pub async fn ask(
        &mut self,
        base: &Url,
        lane: &mut Lane,
        before: Option<&MediaPlaylist>,
        list: &MediaPlaylist,
    ) -> Vec<Exchange> {
        self.versions += 1;
        let settled = self.versions == SETTLED && list.part_target_us.is_some();
        let mut questions: Vec<(Url, Asked)> = Vec::new();
        if let Some(uri) = before.and_then(|before| left(before, list))
            && self.dropped < DROPPED
            && let Ok(url) = base.join(uri)
        {
            self.dropped += 1;
            questions.push((url, Asked::Dropped));
        }
        let mut out = Vec::new();
        let mut question = Question::new(lane, self.track);
        if settled {
            // Fetching media took its time: what lies ahead is read off a new list.
            let fresh = question.ask(base, Asked::Playlist).await.ok();
            if let Some(now) = fresh.and_then(|full| media_list(&full).ok()?) {
                questions.extend(strange(base, &now));
            }
        }
        for (url, asked) in questions {
            out.extend(question.ask(&url, asked).await.ok());
        }
        if settled {
            out.extend(skip(&mut question, base).await);
        }
        out
    }
}

/// A delta update, with the full playlist of just before.
async fn skip(question: &mut Question<'_>, base: &Url) -> Option<Exchange> {
    let full = question.ask(base, Asked::Playlist).await.ok()?;
    let list = media_list(&full).ok()??;
    let asked = Asked::Skip {
        full: Box::new(list),
    };
    question
        .ask(&base.with_query("_HLS_skip=YES"), asked)
        .await
        .ok()
}

fn strange(base: &Url, list: &MediaPlaylist) -> Vec<(Url, Asked)> {
    let last = list.position().map_or(0, |end| end.msn);
    let far = format!("_HLS_msn={}", last.saturating_add(10));
    let ahead = list.part_hint().and_then(future);
    let ahead = ahead.and_then(|uri| base.join(&uri).ok());
    let mut out: Vec<_> = ahead.map(|url| (url, Asked::Future)).into_iter().collect();
    out.extend([
        (base.clone(), Asked::Gzip),
        (base.with_query("_HLS_part=0"), Asked::PartWithoutMsn),
        (base.with_query("_HLS_msn=x"), Asked::Unparsable),
        (base.with_query("_HLS_msn=-1"), Asked::Unparsable),
        (
            base.with_query(&format!("_HLS_msn={last}&_HLS_part=-1")),
            Asked::Unparsable,
        ),
        (base.with_query(&far), Asked::FarAhead),
    ]);
    let media = list
        .segments
        .iter()
        .rev()
        .find_map(|segment| segment.uri.as_ref());
    let named = [
        (media.cloned(), Asked::Range),
        (Some("no-such-playlist.m3u8".to_owned()), Asked::Missing),
    ];
    for (uri, asked) in named {
        let url = uri.and_then(|uri| base.join(&uri).ok());
        out.extend(url.map(|url| (url, asked)));
    }
    out
}

/// A part well past the hint, where parts are named `{msn}.{part}.{kind}`.
fn future(hint: &str) -> Option<String> {
    let (before, kind) = hint.rsplit_once('.')?;
    let (before, part) = before.rsplit_once('.')?;
    let part: u64 = part.parse().ok()?;
    Some(format!("{before}.{}.{kind}", part.checked_add(7)?))
}

/// A part that `before` listed and `now` no longer does.
fn left<'a>(before: &'a MediaPlaylist, now: &MediaPlaylist) -> Option<&'a str> {
    let first = before
        .segments
        .iter()
        .find(|segment| !segment.parts.is_empty())?;
    let still = now.segments.iter().find(|segment| segment.msn == first.msn);
    let gone = still.is_none_or(|segment| segment.parts.is_empty());
    let part = first
        .parts
        .first()
        .filter(|part| !part.gap && part.byte_range.is_none())?;
    gone.then_some(part.uri.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_part_is_named_after_the_hint() {
        assert_eq!(future("1/v0/7.2.m4s").as_deref(), Some("1/v0/7.9.m4s"));
        assert_eq!(future("part17.mp4"), None);
    }
}
