//! Any grid and any history of a track make a playlist.

use proptest::prelude::*;

use super::*;

proptest! {
    /// H4 on any grid: no printed part is above the printed target, whatever the
    /// frame rate, the sample rate and the history before it.
    #[test]
    fn h4_part_durations(
        hz in 8_000_u32..200_000,
        frame in 1_u64..6_000,
        frames in 1_u64..60,
        start in 0_u64..1 << 50,
        parts in 1_u32..40,
    ) {
        let mut track = audio();
        track.timescale = Timescale::new(hz).unwrap();
        track.part_target = Ticks(frame * frames);
        let mut studio = Studio::new(plan(60), vec![track]);
        studio.open(A, 99);
        studio.close(A, Ticks(start), GAP, (99, 1));
        studio.complete(A);
        studio.open(A, 100);
        for part in 0..parts {
            studio.close(A, Ticks(frame * frames), DEPENDENT, (100, part + 1));
        }
        let read = read(&studio, A);
        let exact = (frame * frames) as f64 / f64::from(hz);
        for part in read.parts().filter(|part| part.uri.contains("/100.")) {
            prop_assert!(part.duration <= read.part_target);
            prop_assert!(part.duration >= 0.85 * read.part_target - 0.000_001);
            prop_assert!((part.duration - exact).abs() <= 0.000_001_1);
        }
    }

    /// Any run of parts, holes and republishes gives a text that parses, the
    /// same for two windows that were written alike.
    #[test]
    fn any_history_is_a_playlist(
        steps in prop::collection::vec((0_u8..5, 1_u64..60), 1..120),
    ) {
        let write = || {
            let mut studio = Studio::new(plan(2), vec![video(), audio()]);
            let (mut msn, mut part) = (100, 0);
            studio.open(V, msn);
            for (kind, frames) in &steps {
                match kind {
                    0 => {
                        studio.complete(V);
                        (msn, part) = (msn + 1, 0);
                        studio.open(V, msn);
                    }
                    1 => {
                        studio.track(V).window.abort();
                        studio.epoch = Epoch(studio.epoch.0 + 1);
                        studio.discontinuities += 1;
                        (msn, part) = (msn + 1, 0);
                        let discontinuity = true;
                        studio.open_with(V, msn, SegmentFlags { discontinuity, gap: false });
                    }
                    2 => {
                        studio.close(V, Ticks(frames * FRAME), GAP, (msn, part + 1));
                        part += 1;
                    }
                    _ => {
                        studio.chunk(V, Bytes::from_static(b"x"));
                        studio.close(V, Ticks(frames * FRAME), INDEPENDENT, (msn, part + 1));
                        part += 1;
                    }
                }
            }
            studio
        };
        let (one, two) = (write(), write());
        if one.track(V).window.listing().is_some() {
            for skip in [Skip::No, Skip::Yes] {
                let printed = text(&one, V, skip);
                prop_assert_eq!(&printed, &text(&two, V, skip));
                let read = Read::of(&printed);
                prop_assert!(!read.segments.is_empty());
                prop_assert_eq!(read.segments.iter().filter(|s| s.uri.is_none()).count() <= 1, true);
            }
        }
        prop_assert_eq!(one.track(V).track.kind(), Kind::Video);
    }
}
