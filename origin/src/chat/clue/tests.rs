use common::chat::{Command, Sender, User};
use proptest::prelude::*;

use super::*;

mod depth;

const T0: u64 = 1_800_000_000_000;

struct Rig {
    clue: Clue,
    now: u64,
    requests: u128,
}

fn login(name: &str) -> Login {
    Login::parse(name).unwrap()
}

fn sender(name: &str) -> Sender {
    Sender {
        user: User::named(login(name)),
        roles: Roles {
            broadcaster: name == "demo",
            ..Roles::default()
        },
        follows_since: None,
        network: None,
    }
}

fn moderator(name: &str) -> Sender {
    let mut sender = sender(name);
    sender.roles.moderator = true;
    sender
}

impl Rig {
    fn new() -> Self {
        Self::knowing(Known::default())
    }

    fn knowing(known: Known) -> Self {
        let room = ChannelName::parse("demo").unwrap();
        Self {
            clue: Clue::new(room, RoomEpoch(7), known),
            now: T0,
            requests: 0,
        }
    }

    fn ask(&mut self, sender: &Sender, ask: Ask) -> Decision {
        self.requests += 1;
        let request = Request {
            id: MessageId(self.requests),
            sender: sender.clone(),
            ask,
        };
        self.clue.decide(UnixMs(self.now), &request)
    }

    fn say(&mut self, sender: &Sender, text: &str) -> Decision {
        let text = Text::cut(text).unwrap();
        self.ask(
            sender,
            Ask::Say {
                text,
                action: false,
                reply_to: None,
            },
        )
    }

    /// A command as it is typed.
    fn command(&mut self, sender: &Sender, text: &str) -> Decision {
        let command = Command::parse(text).unwrap().unwrap();
        self.ask(sender, Ask::Do(command))
    }

    fn later(&mut self, seconds: u64) {
        self.now += seconds * 1_000;
    }
}

fn told(decision: &Decision) -> &'static str {
    match &decision.verdict {
        Verdict::Said(_) => "said",
        Verdict::Done(notice) | Verdict::Refused(notice) | Verdict::Raids { notice, .. } => {
            notice.id.as_str()
        }
    }
}

#[test]
fn messages_are_numbered_without_gaps_and_refusals_take_no_number() {
    let mut rig = Rig::new();
    let ann = sender("ann");
    let mut offsets = Vec::new();
    for turn in 0..3 {
        let decision = rig.say(&ann, "hello");
        assert_eq!(told(&decision), "said");
        offsets.extend(decision.events.iter().map(|event| event.stamp.offset.0));
        let refused = rig.command(&ann, "/clear");
        assert_eq!(told(&refused), "no_permission", "{turn}");
        assert!(refused.events.is_empty() && refused.changes.is_empty());
    }
    assert_eq!(offsets, [0, 1, 2]);
}

#[test]
fn a_request_that_comes_again_is_decided_once() {
    let mut rig = Rig::new();
    let ann = sender("ann");
    let first = rig.say(&ann, "hello");
    rig.requests -= 1;
    let again = rig.say(&ann, "hello");
    assert_eq!(again.verdict, first.verdict);
    assert!(again.events.is_empty());
    let Verdict::Said(stamp) = first.verdict else {
        panic!("{first:?}");
    };
    // The message bears the asker's id.
    assert_eq!(stamp.id, MessageId(1));
}

/// An operator's tool asks in somebody's name, who need not be here, nor be what the
/// tool is.
#[test]
fn an_operators_tool_makes_nobody_of_its_name() {
    let mut rig = Rig::new();
    let network = |last| Some(Network::of([10, 0, 0, last].into()));
    let max = Sender {
        network: network(1),
        ..moderator("max")
    };
    for by in ["operator", "ann"] {
        let mut tool = sender(by);
        tool.roles.broadcaster = true;
        let mut ann = sender(by);
        ann.user.id = UserId::parse("u-7").unwrap();
        ann.network = network(2);
        assert_eq!(told(&rig.say(&ann, &format!("hi from {by}"))), "said");
        assert_eq!(told(&rig.command(&tool, "/slowoff")), "slow_off");
        // Whoever has that login is banned as who they are.
        let ban = rig.command(&max, &format!("/ban --network {by}"));
        assert_eq!(told(&ban), "ban_success", "{by}");
        let Change::Ban(_, ban) = &ban.changes[0] else {
            panic!("{ban:?}");
        };
        assert_eq!(
            (&ban.user, ban.network),
            (&Some(ann.user.id.clone()), ann.network)
        );
        assert_eq!(
            told(&rig.command(&tool, &format!("/unban {by}"))),
            "unban_success"
        );
        // By the tool as well, for which nobody is itself.
        assert_eq!(
            told(&rig.command(&tool, &format!("/ban {by}"))),
            "ban_success"
        );
        assert_eq!(
            told(&rig.command(&tool, &format!("/unban {by}"))),
            "unban_success"
        );
    }
    assert_eq!(told(&rig.command(&max, "/ban max")), "bad_ban_self");
}

#[test]
fn a_timeout_silences_for_its_time() {
    let mut rig = Rig::new();
    let (ann, moderator) = (sender("ann"), moderator("max"));
    rig.say(&ann, "bad");
    let out = rig.command(&moderator, "/timeout ann 60 spam");
    assert_eq!(told(&out), "timeout_success");
    assert!(
        matches!(&out.changes[..], [Change::Ban(who, ban)] if *who == login("ann") && ban.until.is_some())
    );
    assert!(matches!(
        &out.events[0].body,
        Body::UserCleared { seconds: Some(60), login: who, .. } if *who == login("ann")
    ));
    rig.later(59);
    let refused = rig.say(&ann, "but");
    assert_eq!(told(&refused), "msg_timedout");
    let Verdict::Refused(notice) = refused.verdict else {
        panic!()
    };
    assert_eq!(notice.text, "You are timed out for 1 more seconds.");
    rig.later(1);
    assert_eq!(told(&rig.say(&ann, "sorry")), "said");
    assert_eq!(
        told(&rig.command(&moderator, "/unban ann")),
        "bad_unban_no_ban"
    );
}

#[test]
fn a_ban_lasts_until_it_is_lifted() {
    let mut rig = Rig::new();
    let (ann, demo) = (sender("ann"), sender("demo"));
    rig.say(&ann, "bad");
    assert_eq!(told(&rig.command(&demo, "/ban ann")), "ban_success");
    assert_eq!(told(&rig.command(&demo, "/ban ann")), "already_banned");
    rig.later(1_000_000);
    assert_eq!(told(&rig.say(&ann, "still")), "msg_banned");
    // The same user under another login.
    let mut renamed = sender("anna");
    renamed.user.id = ann.user.id.clone();
    assert_eq!(told(&rig.say(&renamed, "me again")), "msg_banned");
    let lifted = rig.command(&demo, "/unban ann");
    assert_eq!(told(&lifted), "unban_success");
    assert_eq!(lifted.changes, [Change::Unban(login("ann"))]);
    assert_eq!(told(&rig.say(&ann, "hello")), "said");
    assert_eq!(told(&rig.say(&renamed, "hello")), "said");
}

#[test]
fn a_ban_may_cover_a_network() {
    let mut rig = Rig::new();
    let demo = sender("demo");
    let home = Some(Network([1; 16]));
    let mut ann = sender("ann");
    ann.network = home;
    let mut other = sender("other");
    other.network = home;
    rig.say(&ann, "bad");
    rig.command(&demo, "/ban ann");
    assert_eq!(told(&rig.say(&other, "hello")), "said");
    assert_eq!(
        told(&rig.command(&demo, "/ban --network ann")),
        "ban_success"
    );
    assert_eq!(told(&rig.say(&other, "hello")), "msg_banned");
    rig.command(&demo, "/unban ann");
    assert_eq!(told(&rig.say(&other, "hello")), "said");
}

#[test]
fn who_may_not_be_banned_is_not() {
    let mut rig = Rig::new();
    let (max, kim, demo) = (moderator("max"), moderator("kim"), sender("demo"));
    rig.say(&kim, "hello");
    for (command, id) in [
        ("/ban max", "bad_ban_self"),
        ("/ban demo", "bad_ban_broadcaster"),
        ("/ban kim", "bad_ban_mod"),
        ("/ban justinfan1", "bad_ban_anon"),
        ("/timeout max", "bad_timeout_self"),
        ("/timeout demo", "bad_timeout_broadcaster"),
        ("/timeout kim 1", "bad_timeout_mod"),
        ("/timeout justinfan1", "bad_timeout_anon"),
    ] {
        assert_eq!(told(&rig.command(&max, command)), id, "{command}");
    }
    assert_eq!(
        told(&rig.command(&demo, "/timeout kim 1")),
        "timeout_success"
    );
    assert_eq!(
        told(&rig.command(&sender("ann"), "/ban max")),
        "no_permission"
    );
}

#[test]
fn roles_are_granted_by_the_broadcaster_alone() {
    let mut rig = Rig::new();
    let (ann, demo) = (sender("ann"), sender("demo"));
    assert_eq!(
        told(&rig.command(&moderator("max"), "/mod ann")),
        "no_permission"
    );
    let given = rig.command(&demo, "/mod ann");
    assert_eq!(told(&given), "mod_success");
    assert_eq!(given.changes.len(), 1);
    assert_eq!(told(&rig.command(&demo, "/mod ann")), "bad_mod_mod");
    assert_eq!(
        told(&rig.command(&ann, "/timeout bob 5")),
        "timeout_success"
    );
    assert_eq!(told(&rig.command(&ann, "/mods")), "room_mods");
    assert_eq!(told(&rig.command(&demo, "/unmod ann")), "unmod_success");
    assert_eq!(told(&rig.command(&ann, "/timeout bob 5")), "no_permission");
    assert_eq!(told(&rig.command(&demo, "/mods")), "no_mods");
    assert_eq!(told(&rig.command(&demo, "/mod bob")), "bad_mod_banned");
}

#[test]
fn a_message_is_deleted_once_and_not_a_moderator_s_by_another() {
    let mut rig = Rig::new();
    let (ann, max, demo) = (sender("ann"), moderator("max"), sender("demo"));
    rig.say(&ann, "bad");
    let delete = |id: u128| format!("/delete {}", MessageId(id));
    let deleted = rig.command(&max, &delete(1));
    assert_eq!(told(&deleted), "delete_message_success");
    assert!(matches!(
        &deleted.events[0].body,
        Body::Deleted {
            message: MessageId(1),
            ..
        }
    ));
    assert_eq!(
        told(&rig.command(&max, &delete(1))),
        "bad_delete_message_error"
    );
    rig.say(&demo, "mine");
    let id = rig.requests;
    assert_eq!(
        told(&rig.command(&max, &delete(id))),
        "bad_delete_message_broadcaster"
    );
    rig.say(&moderator("kim"), "mine");
    let id = rig.requests;
    assert_eq!(
        told(&rig.command(&max, &delete(id))),
        "bad_delete_message_mod"
    );
    assert_eq!(
        told(&rig.command(&demo, &delete(id))),
        "delete_message_success"
    );
}

#[test]
fn a_reply_quotes_what_is_still_shown() {
    let mut rig = Rig::new();
    let (ann, bob) = (sender("ann"), sender("bob"));
    rig.say(&ann, "question");
    let reply = |rig: &mut Rig, to: u128| {
        let text = Text::cut("answer").unwrap();
        let decision = rig.ask(
            &bob,
            Ask::Say {
                text,
                action: false,
                reply_to: Some(MessageId(to)),
            },
        );
        match &decision.events[0].body {
            Body::Post(post) => post.reply.clone(),
            body => panic!("{body:?}"),
        }
    };
    let first = reply(&mut rig, 1).unwrap();
    assert_eq!((first.parent, first.thread), (MessageId(1), MessageId(1)));
    let second = reply(&mut rig, 2).unwrap();
    assert_eq!((second.parent, second.thread), (MessageId(2), MessageId(1)));
    rig.command(&sender("demo"), "/clear");
    assert_eq!(reply(&mut rig, 1), None);
}

#[test]
fn slow_mode_holds_everybody_but_those_who_moderate() {
    let mut rig = Rig::new();
    let (ann, demo) = (sender("ann"), sender("demo"));
    rig.say(&ann, "one");
    let slow = rig.command(&demo, "/slow 10");
    assert_eq!(told(&slow), "slow_on");
    assert!(matches!(
        slow.events[0].body,
        Body::Settings(Settings { slow_s: 10, .. })
    ));
    assert!(matches!(slow.changes[..], [Change::Settings(_)]));
    rig.later(9);
    assert_eq!(told(&rig.say(&ann, "two")), "msg_slowmode");
    rig.later(1);
    assert_eq!(told(&rig.say(&ann, "two")), "said");
    assert_eq!(told(&rig.say(&demo, "a")), "said");
    assert_eq!(told(&rig.say(&demo, "b")), "said");
    assert_eq!(told(&rig.command(&demo, "/slowoff")), "slow_off");
    assert_eq!(told(&rig.say(&ann, "three")), "said");
}

#[test]
fn rooms_may_be_for_some_or_for_new_words() {
    let mut rig = Rig::new();
    let (demo, mut ann) = (sender("demo"), sender("ann"));
    for (on, refusal, off) in [
        ("/subscribers", "msg_subsonly", "/subscribersoff"),
        ("/emoteonly", "msg_emoteonly", "/emoteonlyoff"),
        ("/followers", "msg_followersonly_zero", "/followersoff"),
        ("/followers 10", "msg_followersonly", "/followersoff"),
    ] {
        rig.command(&demo, on);
        assert_eq!(told(&rig.say(&ann, "hello")), refusal, "{on}");
        assert_eq!(told(&rig.say(&demo, "hello")), "said", "{on}");
        rig.command(&demo, off);
        assert_eq!(told(&rig.say(&ann, "hello")), "said", "{off}");
    }
    rig.command(&demo, "/followers 10");
    ann.follows_since = Some(UnixMs(T0 - 9 * 60_000));
    assert_eq!(told(&rig.say(&ann, "hello")), "msg_followersonly_followed");
    rig.later(60);
    assert_eq!(told(&rig.say(&ann, "hello")), "said");
    rig.command(&demo, "/uniquechat");
    assert_eq!(told(&rig.say(&ann, "HELLO")), "msg_r9k");
    assert_eq!(told(&rig.say(&ann, "something new")), "said");
    assert_eq!(told(&rig.command(&demo, "/uniquechat")), "already_r9k_on");
}

#[test]
fn users_and_rooms_have_their_limits() {
    let mut rig = Rig::new();
    let ann = sender("ann");
    for _ in 0..20 {
        assert_eq!(told(&rig.say(&ann, "x")), "said");
    }
    assert_eq!(told(&rig.say(&ann, "x")), "msg_ratelimit");
    let max = moderator("max");
    for _ in 0..100 {
        assert_eq!(told(&rig.say(&max, "x")), "said");
    }
    assert_eq!(told(&rig.say(&max, "x")), "msg_ratelimit");
    rig.later(30);
    assert_eq!(told(&rig.say(&ann, "x")), "said");
    let mut said = 0;
    for user in 0..300 {
        said += usize::from(told(&rig.say(&sender(&format!("u{user}")), "x")) == "said");
    }
    assert_eq!(said, ROOM_MESSAGES.most - 1);
}

#[test]
fn what_was_known_holds_in_the_next_life() {
    let mut rig = Rig::new();
    let (ann, demo) = (sender("ann"), sender("demo"));
    let mut known = Known::default();
    for command in ["/ban ann", "/mod bob", "/slow 5", "/blockedterm add bad"] {
        for change in rig.command(&demo, command).changes {
            match change {
                Change::Ban(login, ban) => drop(known.bans.insert(login, ban)),
                Change::Roles(login, roles) => drop(known.roles.insert(login, roles)),
                Change::Settings(settings) => known.settings = settings,
                Change::Term(term, action) => drop(known.terms.insert(term, action.unwrap())),
                Change::Unban(_) => panic!("none was lifted"),
                Change::Held(_) | Change::LookedAt(_) => panic!("none was held"),
            }
        }
    }
    let mut rig = Rig::knowing(known);
    assert_eq!(told(&rig.say(&ann, "hello")), "msg_banned");
    assert_eq!(
        told(&rig.command(&sender("bob"), "/unban ann")),
        "unban_success"
    );
    assert_eq!(rig.clue.settings().slow_s, 5);
    assert_eq!(
        told(&rig.say(&sender("kim"), "so bad")),
        "msg_rejected_mandatory"
    );
}

#[test]
fn what_a_room_remembers_is_bounded() {
    let mut rig = Rig::new();
    for user in 0..u32::try_from(MAX_SPEAKERS).unwrap() + 10 {
        rig.now += 10;
        rig.say(&sender(&format!("u{user}")), "x");
    }
    assert_eq!(rig.clue.recent.len(), RECENT);
    assert_eq!(rig.clue.verdicts.len(), VERDICTS);
    assert_eq!(rig.clue.decided.len(), VERDICTS);
    // All spoke within the time that limits look back.
    assert_eq!(told(&rig.say(&sender("late"), "x")), "msg_ratelimit");
    rig.later(600);
    assert_eq!(told(&rig.say(&sender("late"), "x")), "said");
}

fn anything() -> impl Strategy<Value = (u8, &'static str, u16)> {
    let commands = prop::sample::select(vec![
        "",
        "/ban u1",
        "/timeout u2 5",
        "/unban u1",
        "/clear",
        "/slow 3",
        "/slowoff",
        "/mod u3",
        "/unmod u3",
        "/vip u4",
        "/announce hear",
        "/mods",
        "/uniquechat",
        "/uniquechatoff",
        "/blockedterm hold x",
        "/blockedterm remove x",
        "/approve 00000000-0000-0000-0000-000000000003",
        "/deny 00000000-0000-0000-0000-000000000004",
        "/nolinks",
        "/permit u2",
        "/raid other",
    ]);
    (0u8..6, commands, 0u16..3_000)
}

proptest! {
    /// Whatever is asked by whomever: one total order without holes, and nothing
    /// changes that the verdict denies.
    #[test]
    fn offsets_rise_by_one(asks in prop::collection::vec(anything(), 1..60)) {
        let mut rig = Rig::new();
        let mut next = 0;
        for (who, text, pause) in asks {
            rig.now += u64::from(pause);
            let from = if who == 0 { sender("demo") } else { sender(&format!("u{who}")) };
            let decision = if text.is_empty() { rig.say(&from, "x") } else { rig.command(&from, text) };
            for event in &decision.events {
                prop_assert_eq!(event.stamp.offset, Offset(next));
                prop_assert_eq!(event.stamp.epoch, RoomEpoch(7));
                next += 1;
            }
            if matches!(decision.verdict, Verdict::Refused(_)) {
                let held = told(&decision) == "msg_rejected";
                prop_assert_eq!(decision.events.len(), usize::from(held));
                prop_assert_eq!(decision.changes.is_empty(), !held);
            }
            // A ban may take a role as well.
            prop_assert!(decision.events.len() <= 2);
        }
    }
}
