//! What an edge is ahead with never shows: a version is one text.

use common::{live::PartFlags, media::Ticks};
use proptest::prelude::*;

use super::*;
use crate::fixture::{FRAME, PART};

/// What a track's log gets next, so that two edges can get it at different times.
#[derive(Debug, Clone, Copy)]
enum Act {
    Open(u64),
    Part(u64, u32, bool),
    Complete,
}

fn script(lengths: &[u32]) -> Vec<Act> {
    let mut acts = Vec::new();
    for (msn, parts) in (100..).zip(lengths) {
        acts.push(Act::Open(msn));
        acts.extend((0..*parts).map(|part| Act::Part(msn, part, part + 1 == *parts)));
        acts.push(Act::Complete);
    }
    acts
}

fn perform(studio: &mut Studio, name: TrackName, act: Act) {
    match act {
        Act::Open(msn) => studio.open(name, msn),
        Act::Part(msn, part, last) => {
            let flags = PartFlags {
                independent: part == 0,
                gap: false,
            };
            let next = if last { (msn + 1, 0) } else { (msn, part + 1) };
            studio.chunk(name, "x");
            let duration = if name == V { PART } else { Ticks(16_000) };
            studio.close(name, duration, flags, next);
        }
        Act::Complete => studio.complete(name),
    }
}

proptest! {
    /// The property that playlists have: at equal versions equal bytes, whichever
    /// track an edge is ahead with.
    #[test]
    fn equal_versions_are_equal_bytes(
        lengths in proptest::collection::vec(1u32..9, 8..24),
        order in proptest::collection::vec(0u8..4, 64),
    ) {
        let acts = script(&lengths);
        let mut seen = std::collections::HashMap::new();
        // Edges that are ahead by so many records with video, audio or neither.
        for lead in [-9i64, -3, 0, 3, 9] {
            let mut studio = studio();
            let mut at = [0usize; 2];
            let mut turn = order.iter().cycle();
            while at.iter().any(|at| *at < acts.len()) {
                let wish = usize::from(*turn.next().unwrap() % 2);
                let ahead = at[0].cast_signed() as i64 - at[1].cast_signed() as i64;
                let which = match wish {
                    0 if ahead > lead + 3 => 1,
                    1 if ahead < lead - 3 => 0,
                    wish => wish,
                };
                let which = if at[which] < acts.len() { which } else { 1 - which };
                perform(&mut studio, [V, A][which], acts[at[which]]);
                at[which] += 1;
                if let Some(now) = shows(&studio) {
                    let mpd = text(&studio);
                    let known = seen.entry(now.version).or_insert_with(|| mpd.clone());
                    prop_assert_eq!(known, &mpd);
                }
            }
        }
        prop_assert!(seen.len() >= lengths.len());
    }

    #[test]
    fn no_lengths_make_a_manifest_that_is_no_xml(lengths in proptest::collection::vec(1u32..40, 1..12)) {
        let mut studio = studio();
        for act in script(&lengths) {
            for name in [V, A] {
                perform(&mut studio, name, act);
            }
            if shows(&studio).is_some() {
                let mpd = text(&studio);
                prop_assert!(Document::parse(&mpd).is_ok());
                let listed = segments(&mpd, "v0");
                assert_goes_on(&listed);
                prop_assert!(listed.iter().all(|at| at.end_us - at.start_us >= FRAME * 1_000 / 120));
            }
        }
    }
}
