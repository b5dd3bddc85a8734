//! What is known of a publish before and beside its samples: what it declares, its
//! codec configurations, and what a broadcast before it has learnt of its tracks.
//!
//! Bounded by [`MAX_TRACKS`].

use std::{collections::BTreeMap, sync::Arc};

use common::{
    live::Track,
    names::{Kind, TrackName},
};

use super::{
    Continuation,
    bandwidth::Bandwidth,
    plan::{self, PartShape, codec_family},
    rate::Rate,
};
use crate::sample::{CodecConfig, Declared};

/// More tracks than one publish names: beyond them samples are dropped.
pub(super) const MAX_TRACKS: usize = 16;

/// What is known of the publish beyond one broadcast.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub declared: Declared,
    pub configs: BTreeMap<TrackName, Arc<CodecConfig>>,
    pub keyints: BTreeMap<TrackName, u32>,
    pub rates: BTreeMap<TrackName, Rate>,
    pub bandwidths: BTreeMap<TrackName, Bandwidth>,
    /// The longest GOP that a predecessor's plan has to make room for.
    pub gop_ms: Option<u64>,
}

impl Known {
    /// Whether the configuration is another than before.
    pub(super) fn configure(&mut self, track: TrackName, config: Arc<CodecConfig>) -> bool {
        match self.configs.get(&track) {
            Some(old) if *old == config => false,
            None if self.configs.len() >= MAX_TRACKS => false,
            _ => {
                self.configs.insert(track, config);
                true
            }
        }
    }

    pub(super) fn is_configured(&self, track: TrackName) -> bool {
        self.configs.contains_key(&track)
    }

    pub(super) fn claims(&self, track: TrackName) -> Vec<Rate> {
        let config = self.configs.get(&track);
        let coded = config
            .and_then(|c| c.frame_rate)
            .and_then(|(n, d)| Rate::of(n, d));
        let declared = self.declared.frame_rate.and_then(Rate::declared);
        coded.into_iter().chain(declared).collect()
    }

    /// The track whose known configuration does not keep kind, codec family
    /// and clock, or whose audio frames no longer fill its parts.
    pub(super) fn misfit(&self, broadcast: &Continuation) -> Option<TrackName> {
        let fits = |track: &Track, config: &CodecConfig| {
            let shape = track.kind() == Kind::Video
                || PartShape::fitting(plan::audio_frame(config), track).is_some();
            shape
                && config.timescale == track.timescale
                && codec_family(&config.codec) == codec_family(&track.codec)
        };
        let mut tracks = broadcast.tracks.iter().map(|one| &one.track);
        let misfit = tracks.find(|track| {
            let config = self.configs.get(&track.name);
            config.is_some_and(|config| !fits(track, config))
        });
        misfit.map(|track| track.name)
    }
}
