use clap::Parser;

use super::*;
use crate::chat::{mark::MARK_BYTES, report::Outcome};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    chat: ChatArgs,
}

/// What two speakers and two readers of one room came to, by what each of them read
/// of six messages.
fn after(reads: &[(usize, &[u32])]) -> Outcome {
    let flags = "x --url irc://127.0.0.1:1 --speakers 2 --readers 2 --rate 6 --seconds 1";
    let args = Flags::parse_from(flags.split(' ')).chat;
    let mut crowd = Crowd::new(&args, None, Share::whole(), Arc::default()).unwrap();
    let mark = |number| Mark { number, due_us: 0 };
    for number in 0..6 {
        crowd.post(mark(number));
    }
    for (member, numbers) in reads {
        for number in *numbers {
            let text = mark(*number).text(MARK_BYTES);
            crowd.lines(*member, format!(":x PRIVMSG #demo :{text}\r\n").as_bytes());
        }
    }
    let no_time = Duration::ZERO;
    let part = crowd.part(no_time, no_time, no_time, no_time);
    Outcome::of(vec![part], Vec::new())
}

/// Speakers are 0 and 1, readers 2 and 3.
const ALL: [(usize, &[u32]); 4] = [
    (0, &[1, 3, 5]),
    (1, &[0, 2, 4]),
    (2, &[0, 1, 2, 3, 4, 5]),
    (3, &[0, 1, 2, 3, 4, 5]),
];

#[test]
fn everybody_is_owed_what_others_say() {
    let all = after(&ALL);
    assert_eq!((all.expected, all.delivered), (18, 18));
    assert_eq!((all.lost, all.misplaced), (0, 0));
    assert_eq!(all.latency.unwrap().count, 18);
}

#[test]
fn a_double_makes_up_for_no_loss() {
    for (member, reads) in [
        (3, &[0, 1, 1, 3, 4, 5][..]),
        (3, &[0, 1, 5, 2, 3, 3]),
        (1, &[0, 2, 2]),
        // Its own words are nothing that it is owed.
        (0, &[0, 1, 3]),
        // Nor are those of another run.
        (0, &[1, 3, 6]),
    ] {
        let mut all = ALL;
        all[member].1 = reads;
        let seen = after(&all);
        assert_eq!((seen.delivered, seen.lost), (17, 1), "{member} {reads:?}");
        assert!(seen.misplaced > 0, "{member} {reads:?}");
    }
}

#[test]
fn a_late_message_is_misplaced_and_not_lost() {
    let mut all = ALL;
    all[3].1 = &[0, 2, 3, 4, 5, 1];
    let seen = after(&all);
    assert_eq!((seen.lost, seen.misplaced), (0, 1));
}
