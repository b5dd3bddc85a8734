//! Rooms, messages, and what each capability changes of them.

use std::time::Duration;

use common::chat::{
    Body, Login, MessageId, Notice, NoticeId, Settings, UserId, Verdict, request::Ask,
};

use super::rig::{NOW, Rig, post};
use crate::chat::rooms::HOME_PATIENCE;

const ALL: &str = "twitch.tv/tags twitch.tv/commands";

fn tag<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (tags, _) = line.strip_prefix('@')?.split_once(' ')?;
    let tag = tags.split(';').find_map(|tag| tag.split_once('='));
    let _ = tag;
    tags.split(';')
        .filter_map(|tag| tag.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

fn without_tags(line: &str) -> &str {
    match line.strip_prefix('@') {
        Some(rest) => rest.split_once(' ').unwrap().1,
        None => line,
    }
}

#[test]
fn a_join_is_answered_as_twitch_does() {
    let rig = Rig::new(&[]);
    rig.stands("demo");
    let mut ann = rig.named("ann", "");
    ann.says("JOIN #Demo");
    ann.hears_only(&[
        ":ann!ann@ann.tmi.twitch.tv JOIN #demo",
        ":ann.tmi.twitch.tv 353 ann = #demo :ann",
        ":ann.tmi.twitch.tv 366 ann #demo :End of /NAMES list",
    ]);
    let mut bob = rig.named(
        "bob",
        "twitch.tv/tags twitch.tv/commands twitch.tv/membership",
    );
    bob.says("JOIN #demo");
    let lines = bob.hears();
    let plain: Vec<_> = lines.iter().map(|line| without_tags(line)).collect();
    assert_eq!(
        plain,
        [
            ":bob!bob@bob.tmi.twitch.tv JOIN #demo",
            ":bob.tmi.twitch.tv 353 bob = #demo :bob ann",
            ":bob.tmi.twitch.tv 366 bob #demo :End of /NAMES list",
            ":tmi.twitch.tv USERSTATE #demo",
            ":tmi.twitch.tv ROOMSTATE #demo",
        ]
    );
    assert_eq!(tag(&lines[4], "slow"), Some("0"));
    bob.says("JOIN #demo");
    bob.hears_only(&[]);
    bob.says("PART #demo");
    bob.hears_only(&[":bob!bob@bob.tmi.twitch.tv PART #demo"]);
    bob.says("PART #demo");
    bob.hears_only(&[":tmi.twitch.tv 442 bob #demo :You're not on that channel"]);
}

#[test]
fn the_owner_is_the_broadcaster() {
    let rig = Rig::new(&[]);
    rig.stands("demo");
    let mut demo = rig.named("demo", ALL);
    demo.says("JOIN #demo");
    let lines = demo.hears();
    let state = lines
        .iter()
        .find(|line| line.contains("USERSTATE"))
        .unwrap();
    assert_eq!(tag(state, "badges"), Some("broadcaster/1"));
}

#[test]
fn a_join_is_answered_once_the_home_was_heard_and_then_nothing_is_history() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.named("ann", ALL);
    ann.says("JOIN #demo");
    ann.hears_only(&[]);
    // The home remembers two messages, and a third is said now.
    let room = rig.room("demo");
    room.stands(
        common::chat::RoomEpoch(1),
        common::chat::Offset(0),
        common::chat::Offset(2),
        Settings::default(),
    );
    for (id, text) in [(1, "old"), (2, "older"), (3, "new")] {
        rig.tell("demo", MessageId(id), post("bob", text));
    }
    let lines = ann.hears();
    let plain: Vec<_> = lines.iter().map(|line| without_tags(line)).collect();
    assert_eq!(
        plain,
        [
            ":ann!ann@ann.tmi.twitch.tv JOIN #demo",
            ":ann.tmi.twitch.tv 353 ann = #demo :ann",
            ":ann.tmi.twitch.tv 366 ann #demo :End of /NAMES list",
            ":tmi.twitch.tv USERSTATE #demo",
            ":tmi.twitch.tv ROOMSTATE #demo",
            ":bob!bob@bob.tmi.twitch.tv PRIVMSG #demo :new",
        ]
    );
}

/// The first who joins a room is not woken for its past, only for what is said then.
#[test]
fn however_long_the_past_the_first_word_after_it_is_heard_at_once() {
    // As much as a ring holds.
    const PAST: u64 = 1_024;
    let mut rig = Rig::new(&[]);
    let mut ann = rig.named("ann", ALL);
    ann.says("JOIN #demo");
    let room = rig.room("demo");
    let (next, live) = (common::chat::Offset(0), common::chat::Offset(PAST));
    room.stands(common::chat::RoomEpoch(1), next, live, Settings::default());
    for id in 0..PAST {
        rig.tell("demo", MessageId(id.into()), post("bob", "old"));
    }
    let heard = rig.tell("demo", MessageId(PAST.into()), post("bob", "new"));
    assert_eq!(heard.offset, live);
    let lines = ann.hears();
    let said: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("PRIVMSG"))
        .collect();
    assert_eq!(said.len(), 1, "{lines:?}");
    assert!(said[0].ends_with(":new"), "{lines:?}");
}

/// Nor is anybody for what is not shown to everybody.
#[test]
fn what_stands_behind_hidden_events_is_heard_at_once() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", "");
    for id in 0..200 {
        rig.tell("demo", MessageId(id), Body::Cleared);
    }
    rig.tell("demo", MessageId(200), post("bob", "hello"));
    ann.hears_only(&[":bob!bob@bob.tmi.twitch.tv PRIVMSG #demo :hello"]);
}

/// A home that can't be reached keeps nobody out, and its state comes with it.
#[tokio::test(start_paused = true)]
async fn a_home_that_is_not_heard_in_time_is_not_waited_for() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.named("ann", ALL);
    ann.says("JOIN #demo");
    tokio::time::advance(HOME_PATIENCE - Duration::from_millis(1)).await;
    ann.hears_only(&[]);
    tokio::time::advance(Duration::from_millis(1)).await;
    let commands = |lines: &[String]| -> Vec<String> {
        let of = |line: &String| without_tags(line).split(' ').nth(1).unwrap().to_owned();
        lines.iter().map(of).collect()
    };
    let in_room = ["JOIN", "353", "366", "USERSTATE"];
    assert_eq!(commands(&ann.hears()), in_room);
    // Who comes later does not wait at all.
    let mut bob = rig.named("bob", ALL);
    bob.says("JOIN #demo");
    assert_eq!(commands(&bob.hears()), in_room);
    rig.stands("demo");
    rig.tell("demo", MessageId(1), post("cat", "hello"));
    for client in [&mut ann, &mut bob] {
        assert_eq!(commands(&client.hears()), ["ROOMSTATE", "PRIVMSG"]);
    }
}

#[test]
fn a_late_answer_to_join_bears_its_label_and_comes_before_part() {
    let rig = Rig::new(&[]);
    let caps = "labeled-response batch";
    let mut ann = rig.named("ann", caps);
    ann.says("@label=j1 JOIN #demo,#other");
    ann.hears_only(&[]);
    rig.stands("other");
    let lines = ann.hears();
    assert!(lines.iter().all(|line| !line.contains("j1")), "{lines:?}");
    assert!(lines[0].ends_with("JOIN #other"), "{lines:?}");
    rig.stands("demo");
    let lines = ann.hears();
    assert_eq!(
        lines[0],
        "@label=j1 :tmi.twitch.tv BATCH +l1 :labeled-response"
    );
    assert!(lines[1].ends_with("JOIN #demo"), "{lines:?}");
    assert_eq!(lines[4], ":tmi.twitch.tv BATCH -l1");
    // What was answered in part bears it there.
    ann.says("@label=j2 JOIN #third,bad");
    let lines = ann.hears();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("@label=j2 ") && lines[0].contains(" 403 "));
    ann.says("PART #third");
    let lines = ann.hears();
    assert!(lines[0].ends_with("JOIN #third"), "{lines:?}");
    assert!(lines[3].ends_with("PART #third"), "{lines:?}");
    rig.stands("third");
    ann.hears_only(&[]);
}

#[test]
fn a_message_reaches_all_but_its_author_who_is_told_that_it_was_sent() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", ALL);
    let mut bob = rig.in_room("bob", "");
    ann.says("@client-nonce=n1 PRIVMSG #demo :hello bob");
    assert_eq!(rig.say_all(), 1);
    let lines = ann.hears();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(without_tags(&lines[0]), ":tmi.twitch.tv USERSTATE #demo");
    assert_eq!(tag(&lines[0], "client-nonce"), Some("n1"));
    assert!(tag(&lines[0], "id").is_some());
    bob.hears_only(&[":ann!ann@ann.tmi.twitch.tv PRIVMSG #demo :hello bob"]);
    // The next of another is not taken for her own.
    bob.says("PRIVMSG #demo :hello ann");
    rig.say_all();
    let lines = ann.hears();
    assert_eq!(
        without_tags(&lines[0]),
        ":bob!bob@bob.tmi.twitch.tv PRIVMSG #demo :hello ann"
    );
    assert_eq!(tag(&lines[0], "user-id"), Some("bob"));
    bob.hears_only(&[]);
}

#[test]
fn the_verdict_may_come_before_the_event() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", ALL);
    ann.says("PRIVMSG #demo :one");
    let (_, request, reply) = rig.asked().unwrap();
    let stamp = common::chat::Stamp {
        epoch: common::chat::RoomEpoch(1),
        offset: common::chat::Offset(0),
        id: request.id,
        at: NOW,
        program: NOW,
    };
    reply.tell(request.id, Verdict::Said(stamp));
    assert_eq!(ann.hears().len(), 1);
    rig.tell("demo", request.id, post("ann", "one"));
    ann.hears_only(&[]);
}

#[test]
fn echoes_and_labels_are_ircv3_s() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", "echo-message labeled-response batch message-tags");
    ann.says("@label=a1 PRIVMSG #demo :hello");
    ann.hears_only(&[]);
    rig.say_all();
    let lines = ann.hears();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(tag(&lines[0], "label"), Some("a1"));
    assert!(lines[0].ends_with(":ann!ann@ann.tmi.twitch.tv PRIVMSG #demo :hello"));
    ann.says("@label=a2 PONG :x");
    ann.hears_only(&["@label=a2 :tmi.twitch.tv ACK"]);
    ann.says("@label=a3 PING x");
    ann.hears_only(&["@label=a3 :tmi.twitch.tv PONG tmi.twitch.tv :x"]);
    ann.says("@label=a4 NAMES #demo");
    ann.hears_only(&[
        "@label=a4 :tmi.twitch.tv BATCH +l1 :labeled-response",
        "@batch=l1 :ann.tmi.twitch.tv 353 ann = #demo :ann",
        "@batch=l1 :ann.tmi.twitch.tv 366 ann #demo :End of /NAMES list",
        ":tmi.twitch.tv BATCH -l1",
    ]);
    // A refusal bears the label too.
    ann.says("@label=a5 PRIVMSG #demo :hello");
    let (_, request, reply) = rig.asked().unwrap();
    let notice = Notice::new(NoticeId::MsgBanned, "no");
    reply.tell(request.id, Verdict::Refused(notice));
    ann.hears_only(&["@label=a5;msg-id=msg_banned :tmi.twitch.tv NOTICE #demo :no"]);
    // Without echoes the acknowledgement does.
    let mut bob = rig.in_room("bob", "labeled-response");
    bob.says("@label=b1 PRIVMSG #demo :hello");
    rig.say_all();
    bob.hears_only(&["@label=b1 :tmi.twitch.tv ACK"]);
}

#[test]
fn server_time_is_on_every_line() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", "server-time");
    rig.tell("demo", MessageId(1), post("bob", "x"));
    ann.says("PING x");
    let lines = ann.hears();
    let time = "@time=2026-11-25T20:50:13.250Z ";
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.starts_with(time)), "{lines:?}");
}

#[test]
fn moderation_is_for_those_that_ask_for_commands() {
    let mut rig = Rig::new(&[]);
    let mut plain = rig.in_room("ann", "");
    let mut full = rig.in_room("bob", ALL);
    rig.tell("demo", MessageId(1), Body::Cleared);
    let body = Body::UserCleared {
        user: UserId::parse("7").unwrap(),
        login: Login::parse("eve").unwrap(),
        seconds: Some(9),
    };
    rig.tell("demo", MessageId(2), body);
    rig.tell("demo", MessageId(3), Body::Settings(Settings::default()));
    let notice = Notice::new(NoticeId::SlowOff, "slow mode is off");
    rig.tell("demo", MessageId(4), Body::Notice(notice));
    plain.hears_only(&[":tmi.twitch.tv NOTICE #demo :slow mode is off"]);
    let lines = full.hears();
    let plain: Vec<_> = lines.iter().map(|line| without_tags(line)).collect();
    assert_eq!(
        plain,
        [
            ":tmi.twitch.tv CLEARCHAT #demo",
            ":tmi.twitch.tv CLEARCHAT #demo :eve",
            ":tmi.twitch.tv ROOMSTATE #demo",
            ":tmi.twitch.tv NOTICE #demo :slow mode is off",
        ]
    );
    assert_eq!(tag(&lines[1], "ban-duration"), Some("9"));
    assert_eq!(tag(&lines[3], "msg-id"), Some("slow_off"));
}

#[test]
fn commands_go_to_the_room_and_their_answer_comes_as_a_notice() {
    let mut rig = Rig::new(&[]);
    let mut demo = rig.in_room("demo", ALL);
    demo.says("PRIVMSG #demo :/timeout bob 60 spam");
    let (_, request, reply) = rig.asked().unwrap();
    assert!(matches!(request.ask, Ask::Do(_)) && request.sender.roles.broadcaster);
    let notice = Notice::new(NoticeId::TimeoutSuccess, "done");
    reply.tell(request.id, Verdict::Done(notice));
    demo.hears_only(&["@msg-id=timeout_success :tmi.twitch.tv NOTICE #demo :done"]);
    // The moderator sees what everybody sees.
    let stamp = rig.tell("demo", request.id, Body::Cleared);
    assert_eq!(demo.hears().len(), 1, "{stamp:?}");
    demo.says("PRIVMSG #demo :/dance");
    let lines = demo.hears();
    assert_eq!(tag(&lines[0], "msg-id"), Some("unrecognized_cmd"));
    demo.says("PRIVMSG #demo :/ban");
    assert_eq!(tag(&demo.hears()[0], "msg-id"), Some("usage_ban"));
    assert!(rig.asked().is_none());
}

#[test]
fn actions_and_replies_are_understood() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", "");
    for line in [
        "PRIVMSG #demo :\u{1}ACTION waves\u{1}",
        "PRIVMSG #demo :/me waves",
    ] {
        ann.says(line);
        let (_, request, _) = rig.asked().unwrap();
        let Ask::Say { text, action, .. } = request.ask else {
            panic!()
        };
        assert!(action && text.as_str() == "waves");
    }
    let id = MessageId(77);
    for name in ["reply-parent-msg-id", "+draft/reply", "+reply"] {
        ann.says(&format!("@{name}={id} PRIVMSG #demo :yes"));
        let (_, request, _) = rig.asked().unwrap();
        assert!(matches!(request.ask, Ask::Say { reply_to: Some(to), .. } if to == id));
    }
}

#[test]
fn a_room_may_be_talked_to_without_joining() {
    let mut rig = Rig::new(&[]);
    rig.stands("demo");
    let mut bot = rig.named("bot", ALL);
    bot.says("PRIVMSG #demo :announcement");
    assert_eq!(rig.say_all(), 1);
    let lines = bot.hears();
    assert_eq!(lines.len(), 1);
    assert_eq!(without_tags(&lines[0]), ":tmi.twitch.tv USERSTATE #demo");
}

#[test]
fn history_comes_in_a_batch() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", "draft/chathistory batch message-tags");
    for id in 1..=3 {
        rig.tell("demo", MessageId(id), post("bob", &format!("m{id}")));
    }
    ann.hears();
    ann.says("CHATHISTORY LATEST #demo * 2");
    let lines = ann.hears();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[0], ":tmi.twitch.tv BATCH +h1 chathistory :#demo");
    assert!(lines[1].starts_with("@batch=h1;") && lines[1].ends_with(":m2"));
    assert!(lines[2].ends_with(":m3"));
    assert_eq!(lines[3], ":tmi.twitch.tv BATCH -h1");
    ann.says("CHATHISTORY LATEST #other * 2");
    ann.hears_only(&[
        ":tmi.twitch.tv FAIL CHATHISTORY INVALID_TARGET LATEST :Join the channel first.",
    ]);
    ann.says("CHATHISTORY LATEST #demo soon 2");
    assert!(ann.hears()[0].contains("INVALID_PARAMS"));
}
