//! What strangers send that no client would, and the answer each has.

use std::collections::VecDeque;

use common::{
    chat::{Body, Counts, Limits, Login, MessageId},
    link::chat::Changes,
    live::{Announcement, Channel, Phase, Stage},
    names::{BroadcastId, Epoch},
};
use proptest::prelude::*;

use crate::chat::{
    input::Input,
    rooms::NoRoom,
    session::{MAX_OUT_BYTES, MAX_WAITING_BYTES, MAX_WISHES},
    uplink::Wish,
};

use super::rig::{Client, NOW, Rig, channel, post};

fn fed(client: &mut Client, input: &mut Input, bytes: &[u8]) -> Vec<String> {
    input.feed(NOW, &mut bytes.to_vec(), &mut client.0).unwrap();
    client.hears()
}

#[test]
fn oversized_lines_nuls_and_what_is_no_text_have_answers() {
    let rig = Rig::new(&[]);
    let mut ann = rig.named("ann", "");
    let mut input = Input::new(crate::chat::Framing::Tcp);
    let too_long = [":tmi.twitch.tv 417 ann :Input line was too long"];
    let long = format!("PRIVMSG #demo :{}\r\nPING a\r\n", "x".repeat(13_000));
    let lines = fed(&mut ann, &mut input, long.as_bytes());
    assert_eq!(lines, [too_long[0], ":tmi.twitch.tv PONG tmi.twitch.tv :a"]);
    let middling = format!("PRIVMSG #demo :{}\r\n", "x".repeat(5_000));
    assert_eq!(fed(&mut ann, &mut input, middling.as_bytes()), too_long);
    for bytes in [
        &b"PRIVMSG #demo :a\0b\r\n"[..],
        b"\x01\x02\r\n",
        b"@a=b\r\n",
        b":x\r\n",
    ] {
        let lines = fed(&mut ann, &mut input, bytes);
        assert_eq!(
            lines,
            [":tmi.twitch.tv 421 ann :Unknown command"],
            "{bytes:?}"
        );
    }
    let lines = fed(&mut ann, &mut input, b"PRIVMSG #demo :\xff\xfe\r\n");
    assert_eq!(
        lines,
        [":tmi.twitch.tv FAIL * INVALID_UTF8 :Lines are to be UTF-8."]
    );
    assert_eq!(fed(&mut ann, &mut input, b"\r\n\r\n\n"), [""; 0]);
    assert_eq!(input.held_bytes(), 0);
}

#[test]
fn forged_tags_and_sources_are_of_no_use() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", "");
    ann.says(
        "@mod=1;badges=broadcaster/1;user-id=7;display-name=demo :demo!demo@x PRIVMSG #demo :hi",
    );
    let (_, request, _) = rig.asked().unwrap();
    assert_eq!(request.sender.user.login.as_str(), "ann");
    assert_eq!(request.sender.roles, common::chat::Roles::default());
    let label = "l".repeat(65);
    let mut bob = rig.in_room("bob", "labeled-response");
    bob.says(&format!("@label={label} PING x"));
    bob.hears_only(&[":tmi.twitch.tv PONG tmi.twitch.tv :x"]);
}

#[test]
fn ten_thousand_joins_end_at_the_limits() {
    let rig = Rig::new(&[]);
    let mut ann = rig.named("ann", "");
    let rooms: Vec<_> = (0..10_000).map(|n| format!("#r{n}")).collect();
    for some in rooms.chunks(400) {
        ann.says(&format!("JOIN {}", some.join(",")));
    }
    for number in 0..100 {
        rig.stands(&format!("r{number}"));
    }
    let lines = ann.hears();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains(".tv JOIN #"))
            .count(),
        20
    );
    let again = lines.iter().filter(|line| line.contains(" 263 ann JOIN "));
    assert_eq!(again.count(), 25);
    // Anonymous ones are limited by their address and by the connection.
    let mut many = rig.named("justinfan1", "");
    for some in rooms.chunks(400) {
        many.says(&format!("JOIN {}", some.join(",")));
    }
    let lines = many.hears();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains(".tv JOIN #"))
            .count(),
        100
    );
    assert_eq!(
        lines.iter().filter(|line| line.contains(" 405 ")).count(),
        25
    );
    for (line, number) in [
        ("JOIN demo", "403"),
        ("JOIN #", "403"),
        ("JOIN #a-b", "403"),
        ("JOIN", "461"),
        ("PRIVMSG demo :x", "401"),
        ("PRIVMSG #demo", "461"),
        ("PRIVMSG #demo :", "412"),
        ("PRIVMSG #demo :   ", "412"),
        ("CAP NONSENSE", "410"),
        ("OPER a b", "421"),
    ] {
        let mut client = rig.named("bob", "");
        client.says(line);
        let lines = client.hears();
        assert!(
            lines[0].starts_with(&format!(":tmi.twitch.tv {number} bob ")),
            "{line}: {lines:?}"
        );
    }
}

/// Each connection within its limits: what an address opens of rooms that nobody is in
/// has one too, and is no audience's loss.
#[test]
fn one_address_opens_so_many_made_up_rooms() {
    let rig = Rig::new(&["--max-chat-rooms-per-address", "150"]);
    on_air(&rig, "demo");
    let no_room = |lines: &[String]| lines.iter().filter(|line| line.contains(" 437 ")).count();
    let mut clients = Vec::new();
    let mut refused = 0;
    for connection in 0..2 {
        let mut client = rig.named("justinfan1", "");
        let rooms: Vec<_> = (0..99).map(|n| format!("#r{connection}_{n}")).collect();
        client.says(&format!("JOIN {},#demo", rooms.join(",")));
        refused += no_room(&client.hears());
        clients.push(client);
    }
    assert_eq!(refused, 2 * 99 - 150);
    let metrics = &rig.chat.0.metrics;
    assert_eq!(metrics.no_rooms(NoRoom::Address), refused as u64);
    assert!(rig.chat.0.rooms.get(&channel("demo")).is_some());
    // Nor by talking there.
    let mut ann = rig.named("ann", "");
    ann.says("PRIVMSG #made_up :hello");
    assert!(ann.hears()[0].ends_with("chat is too busy."));
    // Others have theirs.
    let mut other = rig.client_at([10, 0, 0, 1].into());
    other.says("NICK justinfan1");
    other.says("JOIN #made_up");
    assert_eq!(no_room(&other.hears()), 0);
    // Rooms of channels that are on air are opened by anybody, and count for nobody.
    on_air(&rig, "live");
    ann.says("JOIN #live");
    assert_eq!(no_room(&ann.hears()), 0);
}

/// An uplink with too much to do opens no further rooms, and those that there are stay.
#[test]
fn a_room_that_the_uplink_has_no_ear_for_is_not_opened() {
    let mut rig = Rig::new(&[]);
    let room = rig.room("demo");
    while rig.chat.0.wishes.try_send(Wish::Read(room.clone())).is_ok() {}
    let mut ann = rig.named("justinfan1", "");
    ann.says("JOIN #other,#demo");
    assert!(ann.hears()[0].ends_with(" 437 justinfan1 #other :Chat is too busy"));
    assert!(rig.chat.0.rooms.get(&channel("other")).is_none());
    assert_eq!(rig.chat.0.metrics.no_rooms(NoRoom::Busy), 1);
    // Nobody asked for this one, so nobody was refused.
    rig.chat.watched(&[(channel("third"), 1)].into());
    assert_eq!(rig.chat.0.metrics.no_rooms(NoRoom::Busy), 1);
    assert!(rig.asked().is_none());
    ann.says("JOIN #other");
    assert_eq!(rig.chat.0.metrics.no_rooms(NoRoom::Busy), 1);
    assert!(rig.chat.0.rooms.get(&channel("other")).is_some());
}

fn on_air(rig: &Rig, name: &str) {
    rig.directory.put(Channel {
        announcement: Announcement {
            channel: channel(name),
            broadcast: BroadcastId(1),
            epoch: Epoch(1),
            phase: Phase::Live,
            grace_ms: 0,
            hops: Vec::new(),
            cost: 0,
        },
        stage: Stage::Starting,
    });
}

#[test]
fn messages_are_limited_before_they_cost_the_room_anything() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", "twitch.tv/tags");
    let mut answers = Vec::new();
    for _ in 0..25 {
        ann.says("PRIVMSG #demo :x");
        rig.say_all();
        answers.extend(ann.hears());
    }
    assert_eq!(answers.len(), 5, "{answers:?}");
    assert!(
        answers
            .iter()
            .all(|line| line.starts_with("@msg-id=msg_ratelimit "))
    );
    // Nor may more wait than a few.
    let mut demo = rig.in_room("demo", "twitch.tv/tags");
    for _ in 0..MAX_WISHES + 3 {
        demo.says("PRIVMSG #demo :x");
    }
    assert_eq!(demo.hears().len(), 3);
    assert_eq!(rig.say_all(), MAX_WISHES);
}

#[test]
fn a_flood_ends_the_connection() {
    let rig = Rig::new(&[]);
    let mut ann = rig.named("ann", "");
    for _ in 0..2_000 {
        ann.says("PONG");
    }
    ann.hears_only(&["ERROR :Closing link: Excess flood"]);
}

#[test]
fn who_does_not_read_is_not_read_from() {
    let rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", "");
    let ping = format!("PING {}", "x".repeat(500));
    let mut sent = 0;
    while ann.0.takes_more() && sent < 500 {
        ann.says(&ping);
        sent += 1;
    }
    assert!(sent < 200, "{sent}");
    let mut queue = VecDeque::new();
    ann.0.take_out(&mut queue);
    let bytes: usize = queue.iter().map(bytes::Bytes::len).sum();
    assert!((MAX_OUT_BYTES..MAX_OUT_BYTES + 1_000).contains(&bytes));
    assert!(ann.0.takes_more());
}

/// A client whose room has so much to tell that an answer is as long as any.
fn with_history(rig: &mut Rig) -> Client {
    let client = rig.in_room("justinfan1", "batch draft/chathistory");
    for id in 0..99 {
        rig.tell("demo", MessageId(id), post("bob", &"x".repeat(480)));
    }
    client
}

fn taken(client: &mut Client) -> usize {
    let mut queue = VecDeque::new();
    client.0.take_out(&mut queue);
    queue.iter().map(bytes::Bytes::len).sum()
}

/// What a client asks in one piece is answered as it reads, and all of it.
#[test]
fn a_burst_of_questions_is_answered_as_it_is_read() {
    let mut rig = Rig::new(&[]);
    let mut client = with_history(&mut rig);
    client.hears();
    let mut input = Input::new(crate::chat::Framing::Tcp);
    let asked = 140;
    let burst = "CHATHISTORY LATEST #demo * 99\n".repeat(asked) + "PING done\n";
    let mut burst = burst.into_bytes();
    input.feed(NOW, &mut burst, &mut client.0).unwrap();
    assert!(!client.0.takes_more());
    let own = taken(&mut client);
    assert!((MAX_OUT_BYTES..2 * MAX_OUT_BYTES).contains(&own), "{own}");
    assert!(!client.0.takes_more());
    // One that reads gets the rest, in order.
    let lines = client.hears();
    let batches = lines.iter().filter(|line| line.contains(" BATCH +"));
    assert!(batches.count() > asked - 3);
    assert!(lines.last().unwrap().ends_with(":done"));
    assert!(client.0.takes_more());
}

#[test]
fn who_says_more_than_waits_is_gone() {
    let mut rig = Rig::new(&[]);
    let mut client = with_history(&mut rig);
    client.hears();
    let line = format!("PING {}", "x".repeat(494));
    while client.0.takes_more() {
        client.says("CHATHISTORY LATEST #demo * 99");
    }
    let mut held = 0;
    while client.0.ending().is_none() {
        client.says(&line);
        held += line.len() + 1;
    }
    assert!(held <= MAX_WAITING_BYTES + line.len() + 1);
    assert!(client.hears().last().unwrap().ends_with("Excess flood"));
}

/// Each looks through all that a room holds.
#[test]
fn dear_questions_count_for_several_lines() {
    let mut rig = Rig::new(&[]);
    for question in ["CHATHISTORY LATEST #demo * 1", "NAMES #demo"] {
        let mut client = rig.in_room("justinfan1", "batch draft/chathistory");
        rig.tell("demo", MessageId(1), post("bob", "x"));
        let mut asked = 0;
        while client.0.ending().is_none() && asked < 1_000 {
            client.says(question);
            client.hears();
            asked += 1;
        }
        // The cap, the name and the join came first.
        assert_eq!(asked, 200, "{question}");
    }
}

#[test]
fn lines_that_are_no_text_count_as_lines() {
    let rig = Rig::new(&[]);
    let mut ann = rig.named("ann", "");
    let mut input = Input::new(crate::chat::Framing::Tcp);
    for _ in 0..2 {
        input
            .feed(NOW, &mut b"\xff\n".repeat(1_000), &mut ann.0)
            .unwrap();
    }
    assert!(ann.hears().last().unwrap().ends_with("Excess flood"));
}

/// A hundred rooms of a thousand names each are three megabytes.
#[test]
fn a_join_of_many_rooms_names_as_many_as_have_room() {
    let rig = Rig::new(&[]);
    let mut client = rig.named("justinfan1", "twitch.tv/membership");
    let rooms: Vec<_> = (0..100).map(|number| format!("r{number}")).collect();
    for room in &rooms {
        let names = (0..1_000).map(|number| format!("somebody_with_a_name_{number:04}"));
        let changes = Changes {
            anew: true,
            came: names.map(|name| Login::parse(&name).unwrap()).collect(),
            went: Vec::new(),
        };
        rig.stands(room);
        rig.room(room)
            .hears_present(Counts::default(), true, changes);
    }
    client.says(&format!("JOIN #{}", rooms.join(",#")));
    let mut queue = VecDeque::new();
    while client.0.pump(NOW, &mut queue) {}
    let bytes: usize = queue.iter().map(bytes::Bytes::len).sum();
    assert!(
        (4 * MAX_OUT_BYTES..6 * MAX_OUT_BYTES).contains(&bytes),
        "{bytes}"
    );
    let text: Vec<u8> = queue.iter().flatten().copied().collect();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches(" 366 ").count(), 100);
    // Who reads may ask for each.
    client.says("NAMES #r99");
    assert!(client.hears().len() > 50);
}

#[test]
fn who_falls_behind_learns_it() {
    let mut rig = Rig::new(&[]);
    let mut plain = rig.in_room("ann", "twitch.tv/commands");
    let mut modern = rig.in_room("bob", "twitch.tv/tags twitch.tv/commands draft/chathistory");
    rig.tell("demo", MessageId(1), Body::Cleared);
    let count = u128::try_from(Limits::default().events).unwrap();
    for id in 2..count + 10 {
        rig.tell("demo", MessageId(id), post("eve", "x"));
    }
    plain.hears_only(&["ERROR :Closing link: Too slow to follow the chat"]);
    assert!(plain.0.ending().is_some());
    let lines = modern.hears();
    assert!(lines[0].starts_with("@msg-id=gap "), "{}", lines[0]);
    assert!(lines[1].ends_with(" CLEARCHAT #demo"), "{}", lines[1]);
    assert_eq!(lines.len(), 2 + Limits::default().events);
}

proptest! {
    #[test]
    fn no_bytes_panic_in_any_framing(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..5),
        framing in 0usize..4,
    ) {
        use crate::chat::Framing;
        let framings = [Framing::Tcp, Framing::Text, Framing::Ircv3Text, Framing::Ircv3Binary];
        let rig = Rig::new(&[]);
        let mut client = rig.client();
        let mut input = Input::new(framings[framing]);
        for mut piece in pieces {
            let _ = input.feed(NOW, &mut piece, &mut client.0);
        }
    }

    #[test]
    fn no_line_panics(lines in prop::collection::vec(
        "(@label=[a-z]{0,3} )?(CAP|JOIN|PART|PRIVMSG|NAMES|CHATHISTORY|MODE|NICK|PASS|WHO) ?([#:,*=a-z/. 0-9-]{0,20} ?){0,4}", 0..12,
    )) {
        let rig = Rig::new(&[]);
        let mut client = rig.in_room("ann", "labeled-response batch echo-message draft/chathistory");
        for line in lines {
            client.says(&line);
        }
        let _ = client.hears();
    }
}
