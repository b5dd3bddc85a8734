//! What moderators and those they look after see: held messages, roles that come
//! and go, raids, emotes, and what history leaves out.

use common::chat::{
    Author, Body, EmoteSpans, Login, MessageId, Notice, NoticeId, Roles, Settings, Text, User,
    UserId, UserNotice, UserNoticeKind, Verdict, request::Ask,
};

use super::rig::{Client, Rig, post};

const ALL: &str = "twitch.tv/tags twitch.tv/commands";

fn login(name: &str) -> Login {
    Login::parse(name).unwrap()
}

fn is_moderator(name: &str, moderator: bool) -> Body {
    Body::Roles {
        login: login(name),
        roles: Roles {
            moderator,
            ..Roles::default()
        },
    }
}

fn held(name: &str, text: &str) -> Body {
    Body::Held {
        author: Author {
            user: User::named(login(name)),
            roles: Roles::default(),
        },
        text: Text::cut(text).unwrap(),
    }
}

#[track_caller]
fn hears_one(client: &mut Client, holds: &[&str]) {
    let lines = client.hears();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for word in holds {
        assert!(lines[0].contains(word), "{word} in {}", lines[0]);
    }
}

#[test]
fn whoever_becomes_a_moderator_is_told_at_once() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", ALL);
    let mut bob = rig.in_room("bob", ALL);
    rig.tell("demo", MessageId(1), is_moderator("ann", true));
    hears_one(
        &mut ann,
        &[
            "badges=moderator/1;",
            "mod=1;",
            ":tmi.twitch.tv USERSTATE #demo",
        ],
    );
    bob.hears_only(&[]);
    // The same word again is no news.
    rig.tell("demo", MessageId(2), is_moderator("ann", true));
    ann.hears_only(&[]);
    // Another client of the same user, and who joins later, know it too.
    let late = rig.in_room("ann", ALL);
    drop(late);
    let mut late = rig.named("ann", ALL);
    late.says("JOIN #demo");
    assert!(
        late.hears()
            .iter()
            .any(|line| line.contains("mod=1;") && line.contains("USERSTATE"))
    );
    rig.tell("demo", MessageId(3), is_moderator("ann", false));
    hears_one(&mut ann, &["badges=;", "mod=0;", "USERSTATE"]);
}

#[test]
fn roles_that_come_with_a_list_are_told_too() {
    let rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", ALL);
    let room = rig.room("demo");
    let moderator = Roles::from_bits(2);
    room.feed.set_roles(false, [(login("ann"), moderator)]);
    hears_one(&mut ann, &["mod=1;", "USERSTATE"]);
    // Said anew after a lost link.
    room.feed.set_roles(
        false,
        [(login("ann"), moderator), (login("bob"), moderator)],
    );
    ann.hears_only(&[]);
    room.feed.set_roles(false, []);
    hears_one(&mut ann, &["mod=0;", "USERSTATE"]);
}

#[test]
fn an_anonymous_reader_is_nobody() {
    let mut rig = Rig::new(&[]);
    let mut reader = rig.in_room("justinfan7", ALL);
    rig.tell("demo", MessageId(1), is_moderator("justinfan7", true));
    rig.tell("demo", MessageId(2), held("ann", "hm"));
    reader.hears_only(&[]);
}

#[test]
fn held_messages_are_for_moderators() {
    let mut rig = Rig::new(&[]);
    let mut demo = rig.in_room("demo", ALL);
    // A client of plain IRC moderates as well.
    let mut max = rig.in_room("max", "");
    let mut ann = rig.in_room("ann", ALL);
    rig.tell("demo", MessageId(1), is_moderator("max", true));
    demo.hears_only(&[]);
    max.hears_only(&[]);
    rig.tell("demo", MessageId(2), held("ann", "hm"));
    let id = MessageId(2);
    let text = format!(
        ":tmi.twitch.tv NOTICE #demo :Held for review: ann: hm (/approve {id} or /deny {id})"
    );
    hears_one(
        &mut demo,
        &[
            &text,
            "msg-id=held_for_review;",
            &format!("target-msg-id={id};"),
            "login=ann;",
        ],
    );
    max.hears_only(&[&text]);
    ann.hears_only(&[]);
    let denied = Body::Denied {
        message: id,
        login: login("ann"),
        by: login("max"),
    };
    rig.tell("demo", MessageId(3), denied);
    hears_one(
        &mut demo,
        &[
            "msg-id=held_denied;",
            ":max denied the held message of ann.",
        ],
    );
    max.hears_only(&[":tmi.twitch.tv NOTICE #demo :max denied the held message of ann."]);
    hears_one(
        &mut ann,
        &["msg-id=msg_rejected_mandatory ", "NOTICE #demo :"],
    );
}

#[test]
fn who_was_held_hears_the_message_when_it_is_said() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", ALL);
    ann.says("PRIVMSG #demo :hm");
    let (_, request, reply) = rig.asked().unwrap();
    rig.tell("demo", request.id, held("ann", "hm"));
    let notice = Notice::new(NoticeId::MsgRejected, "looked at");
    reply.tell(request.id, Verdict::Refused(notice));
    hears_one(
        &mut ann,
        &["@msg-id=msg_rejected :tmi.twitch.tv NOTICE #demo :looked at"],
    );
    rig.tell("demo", request.id, post("ann", "hm"));
    hears_one(&mut ann, &[":ann!ann@ann.tmi.twitch.tv PRIVMSG #demo :hm"]);
}

#[test]
fn a_raid_goes_on_to_the_other_room() {
    let mut rig = Rig::new(&[]);
    let mut demo = rig.in_room("demo", ALL);
    demo.says("PRIVMSG #demo :/raid Other");
    let (room, request, reply) = rig.asked().unwrap();
    assert_eq!(room.as_str(), "demo");
    let verdict = Verdict::Raids {
        notice: Notice::new(NoticeId::RaidSuccess, "go"),
        to: super::rig::channel("other"),
        viewers: 9,
    };
    reply.tell(request.id, verdict);
    hears_one(
        &mut demo,
        &["@msg-id=raid_success :tmi.twitch.tv NOTICE #demo :go"],
    );
    let (room, request, reply) = rig.asked().unwrap();
    assert_eq!(room.as_str(), "other");
    assert!(matches!(&request.ask, Ask::Arrive { from, viewers: 9 } if from.as_str() == "demo"));
    // Whoever owns one room is nobody in the other.
    assert_eq!(request.sender.roles, Roles::default());
    let notice = Notice::new(NoticeId::MsgBanned, "not here");
    reply.tell(request.id, Verdict::Refused(notice));
    hears_one(
        &mut demo,
        &["@msg-id=msg_banned :tmi.twitch.tv NOTICE #demo :not here"],
    );
    let arrived = Body::UserNotice(UserNotice {
        kind: UserNoticeKind::Raid { viewers: 9 },
        author: Author {
            user: User::named(login("other")),
            roles: Roles::default(),
        },
        system: "9 raiders from other have joined!".to_owned(),
        text: None,
    });
    rig.tell("demo", MessageId(8), arrived);
    hears_one(
        &mut demo,
        &[
            "msg-id=raid;",
            "msg-param-login=other;",
            "msg-param-viewerCount=9;",
            "USERNOTICE #demo",
        ],
    );
}

#[test]
fn emotes_and_flags_are_in_their_tags() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", ALL);
    let Body::Post(mut said) = post("bob", "hi Kappa") else {
        panic!()
    };
    said.emotes = EmoteSpans::parse("25:3-7").unwrap();
    rig.tell("demo", MessageId(1), Body::Post(said));
    hears_one(&mut ann, &[";emotes=25:3-7;", "PRIVMSG #demo :hi Kappa"]);
    let settings = Settings {
        no_links: true,
        emote_only: true,
        ..Settings::default()
    };
    rig.tell("demo", MessageId(2), Body::Settings(settings));
    hears_one(
        &mut ann,
        &["emote-only=1;", ";millrace/no-links=1;", "ROOMSTATE #demo"],
    );
}

#[test]
fn moderators_by_the_room_s_word_may_say_more() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", ALL);
    for _ in 0..20 {
        ann.says("PRIVMSG #demo :x");
        rig.say_all();
        ann.hears();
    }
    ann.says("PRIVMSG #demo :x");
    hears_one(&mut ann, &["msg-id=msg_ratelimit"]);
    rig.tell("demo", MessageId(1), is_moderator("ann", true));
    ann.hears();
    ann.says("PRIVMSG #demo :x");
    assert_eq!(rig.say_all(), 1);
}

#[test]
fn history_leaves_out_what_moderators_hid() {
    let mut rig = Rig::new(&[]);
    let mut ann = rig.in_room("ann", "draft/chathistory");
    for (id, who) in [(1, "bob"), (2, "eve"), (3, "bob"), (4, "eve"), (5, "kim")] {
        rig.tell("demo", MessageId(id), post(who, &format!("m{id}")));
    }
    let texts = |ann: &mut Client| {
        ann.hears();
        ann.says("CHATHISTORY LATEST #demo * 100");
        let lines = ann.hears();
        lines
            .iter()
            .map(|line| line.rsplit_once(':').unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(&mut ann), ["m1", "m2", "m3", "m4", "m5"]);
    let deleted = Body::Deleted {
        message: MessageId(1),
        login: login("bob"),
        text: Text::cut("m1").unwrap(),
    };
    rig.tell("demo", MessageId(6), deleted);
    let silenced = Body::UserCleared {
        user: UserId::from(&login("eve")),
        login: login("eve"),
        seconds: Some(1),
    };
    rig.tell("demo", MessageId(7), silenced);
    rig.tell("demo", MessageId(8), post("eve", "m8"));
    assert_eq!(texts(&mut ann), ["m3", "m5", "m8"]);
    rig.tell("demo", MessageId(9), Body::Cleared);
    rig.tell("demo", MessageId(10), post("bob", "m10"));
    assert_eq!(texts(&mut ann), ["m10"]);
}
