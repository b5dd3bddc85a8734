//! The rules that can be checked from outside, and how each one fared.
//!
//! In: single observations. Out: per rule how often it held and how it broke.
//! Pure. The ids are those of the conformance rules that name our tests.

use std::collections::BTreeMap;

use serde::Serialize;

/// Id and what it asks for, in the order in which they are printed.
pub const RULES: &[(&str, &str)] = &[
    (
        "H1",
        "TARGETDURATION covers every segment and never changes; EXTINF follows the media",
    ),
    (
        "H2",
        "six segments once that much was published; a hold-back of media in every playlist",
    ),
    (
        "H3",
        "segments within 1.5 target durations, parts within one part target of the last",
    ),
    (
        "H4",
        "parts within PART-TARGET, and 85 % of it unless something excuses them",
    ),
    (
        "H5",
        "INDEPENDENT=YES on each part with a sync sample; every segment starts with one",
    ),
    ("H6", "PART-HOLD-BACK at least three part targets"),
    (
        "H7",
        "HOLD-BACK >= 3 TD, CAN-SKIP-UNTIL >= 6 TD, SERVER-CONTROL equal everywhere and frozen",
    ),
    (
        "H8",
        "PART-TARGET never changes; TARGETDURATION equal in all renditions",
    ),
    (
        "H9",
        "parts older than 3 TD are dropped, their bytes stay fetchable",
    ),
    (
        "H10",
        "MEDIA-SEQUENCE and DISCONTINUITY-SEQUENCE follow what is removed",
    ),
    (
        "H11",
        "PROGRAM-DATE-TIME everywhere, from media time, equal across renditions",
    ),
    ("H12", "PRELOAD-HINT names the next part; none with ENDLIST"),
    ("H13", "a RENDITION-REPORT for every other playlist"),
    ("H14", "version 9 or higher, no PLAYLIST-TYPE while live"),
    (
        "H15",
        "the multivariant playlist describes its variants; no redirects",
    ),
    ("R1", "a blocked reload waits for what it names"),
    (
        "R2",
        "_HLS_part without _HLS_msn and unparsable numbers: 400",
    ),
    ("R3", "a reload too far ahead: 400 at once"),
    ("R4", "a reload held longer than 3 TD: 503"),
    ("R5", "_HLS_skip gives a delta update at the right boundary"),
    (
        "R6",
        "the hinted part blocks and comes whole; an unhinted future part is 404",
    ),
    ("T2", "playlists come gzipped to those who ask"),
    ("T3", "Cache-Control by kind of answer"),
    ("T4", "content types"),
    ("T5", "CORS on every status, Range on media"),
    ("C1", "one track in a CMAF init segment without mehd"),
    (
        "C2",
        "chunks of moof and mdat: default-base-is-moof, tfdt version 1, one traf",
    ),
    ("C3", "tfdt is the last tfdt and its durations, exactly"),
    (
        "C4",
        "a segment starts with a sync sample and is the sum of its parts",
    ),
    (
        "C5",
        "signed composition offsets, no edit list, DTS strictly increasing",
    ),
    ("C6", "CODECS by the real parameter sets"),
];

/// The same of a DASH manifest.
pub const DASH_RULES: &[(&str, &str)] = &[
    (
        "D1",
        "the low-latency profile, and a property or scope of it",
    ),
    ("D2", "a ServiceDescription with latency and speeds"),
    (
        "D3",
        "UTCTiming to the millisecond; availabilityStartTime never changes",
    ),
    (
        "D4",
        "ProducerReferenceTime in every set, by the manifest's own clock",
    ),
    (
        "D5",
        "availabilityTimeComplete=false, 0 < availabilityTimeOffset < segment, equal in a set",
    ),
    ("D6", "several chunks a segment, none overlapping; Resync"),
    (
        "D7",
        "a segment comes with its first chunk and as it is made; 404 before",
    ),
    (
        "D8",
        "a number is one time in every manifest and in the media; periods follow one another",
    ),
    ("T2", "manifests come gzipped to those who ask"),
    ("T4", "content types"),
    ("T5", "CORS"),
];

/// Enough evidence of one rule to see the pattern.
const MAX_EVIDENCE: usize = 5;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub held: u64,
    pub broken: u64,
    pub evidence: Vec<String>,
}

#[derive(Debug)]
pub struct Verdicts {
    rules: &'static [(&'static str, &'static str)],
    by_rule: BTreeMap<&'static str, Verdict>,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self {
            rules: RULES,
            by_rule: BTreeMap::new(),
        }
    }
}

impl Verdicts {
    #[must_use]
    pub fn of_dash() -> Self {
        Self {
            rules: DASH_RULES,
            ..Self::default()
        }
    }

    /// One observation of `rule`.
    pub fn hold(&mut self, rule: &'static str, held: bool, evidence: impl FnOnce() -> String) {
        let verdict = self.by_rule.entry(rule).or_default();
        if held {
            verdict.held += 1;
            return;
        }
        verdict.broken += 1;
        if verdict.evidence.len() < MAX_EVIDENCE {
            let text = evidence();
            if !verdict.evidence.contains(&text) {
                verdict.evidence.push(text);
            }
        }
    }

    /// Every rule with its verdict, `None` where it wasn't seen.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, Option<&Verdict>)> {
        self.rules
            .iter()
            .map(|(id, text)| (*id, *text, self.by_rule.get(id)))
    }

    /// The rules that broke.
    #[must_use]
    pub fn broken(&self) -> Vec<&'static str> {
        let all = self.all();
        all.filter(|(_, _, verdict)| verdict.is_some_and(|verdict| verdict.broken > 0))
            .map(|(id, _, _)| id)
            .collect()
    }
}
