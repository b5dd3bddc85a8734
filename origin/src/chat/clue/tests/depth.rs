//! What is looked at before it is said, whom the operator names, raids, and what a
//! room remembers of its earlier lives.

use common::chat::{Prefix, UserNoticeKind};

use super::*;
use crate::chat::{
    clue::{
        EmoteSet, Held,
        review::{HELD_FOR_MS, MAX_HELD, MAX_HELD_OF_ONE, MAX_PERMITS},
    },
    policy::{Policy, RoleTable},
};

fn refusal(decision: &Decision) -> &'static str {
    assert!(
        matches!(decision.verdict, Verdict::Refused(_)),
        "{decision:?}"
    );
    told(decision)
}

fn with_emotes(file: &str) -> Arc<Policy> {
    Arc::new(Policy {
        emotes: Arc::new(EmoteSet::parse(file).unwrap()),
        ..Policy::default()
    })
}

#[test]
fn blocked_terms_refuse_and_hold() {
    let mut rig = Rig::new();
    let (ann, max, demo) = (sender("ann"), moderator("max"), sender("demo"));
    assert_eq!(
        told(&rig.command(&max, "/blockedterm list")),
        "blocked_terms"
    );
    let added = rig.command(&max, "/blockedterm add very bad*");
    assert_eq!(told(&added), "blocked_term_added");
    assert!(
        matches!(&added.changes[..], [Change::Term(term, Some(TermAction::Refuse))] if term.as_str() == "very bad*")
    );
    rig.command(&demo, "/blockedterm hold hm");
    assert_eq!(
        refusal(&rig.say(&ann, "that's VERY badly said")),
        "msg_rejected_mandatory"
    );
    assert_eq!(told(&rig.say(&ann, "not bad at all")), "said");
    assert_eq!(told(&rig.say(&max, "very bad")), "said");
    let mut vip = sender("vip");
    vip.roles.vip = true;
    assert_eq!(
        refusal(&rig.say(&vip, "very bad")),
        "msg_rejected_mandatory"
    );
    let held = rig.say(&ann, "hm?");
    assert_eq!(refusal(&held), "msg_rejected");
    let id = held.events[0].stamp.id;
    assert!(matches!(&held.events[0].body, Body::Held { text, .. } if text.as_str() == "hm?"));
    let approved = rig.command(&max, &format!("/approve {id}"));
    assert_eq!(told(&approved), "held_approved");
    assert_eq!(approved.events[0].stamp.id, id);
    assert!(
        matches!(&approved.events[0].body, Body::Post(post) if post.author.user.login == login("ann"))
    );
    assert_eq!(
        refusal(&rig.command(&max, &format!("/approve {id}"))),
        "bad_held_message"
    );
    // It can be deleted as any other.
    assert_eq!(
        told(&rig.command(&max, &format!("/delete {id}"))),
        "delete_message_success"
    );
    assert_eq!(
        refusal(&rig.command(&ann, &format!("/approve {id}"))),
        "no_permission"
    );
    let removed = rig.command(&max, "/blockedterm remove hm");
    assert!(matches!(&removed.changes[..], [Change::Term(_, None)]));
    assert_eq!(
        refusal(&rig.command(&max, "/blockedterm remove hm")),
        "blocked_term_not_found"
    );
    assert_eq!(told(&rig.say(&ann, "hm?")), "said");
    assert_eq!(
        refusal(&rig.command(&ann, "/blockedterm list")),
        "no_permission"
    );
}

#[test]
fn a_denied_message_is_told_to_its_author() {
    let mut rig = Rig::new();
    let (ann, max) = (sender("ann"), moderator("max"));
    rig.command(&max, "/blockedterm hold hm");
    let held = rig.say(&ann, "hm");
    let id = held.events[0].stamp.id;
    let denied = rig.command(&max, &format!("/deny {id}"));
    assert_eq!(told(&denied), "held_denied");
    assert_eq!(
        denied.events[0].body,
        Body::Denied {
            message: id,
            login: login("ann"),
            by: login("max")
        }
    );
    assert_eq!(
        refusal(&rig.command(&max, &format!("/deny {id}"))),
        "bad_held_message"
    );
}

#[test]
fn what_is_held_is_bounded_expires_and_dies_with_its_author() {
    let mut rig = Rig::new();
    let max = moderator("max");
    rig.command(&max, "/blockedterm hold hm");
    let say = |rig: &mut Rig, user: usize| {
        rig.now += 10;
        let decision = rig.say(&sender(&format!("u{user}")), "hm");
        (
            told(&decision),
            decision.events.first().map(|event| event.stamp.id),
        )
    };
    // Nobody fills the queue alone.
    for _ in 0..MAX_HELD_OF_ONE {
        assert_eq!(say(&mut rig, 0).0, "msg_rejected");
    }
    assert_eq!(say(&mut rig, 0), ("msg_rejected_mandatory", None));
    let mut last = None;
    for user in 1..=MAX_HELD - MAX_HELD_OF_ONE {
        let (told, id) = say(&mut rig, user);
        assert_eq!(told, "msg_rejected");
        last = id;
    }
    assert_eq!(say(&mut rig, 999), ("msg_rejected_mandatory", None));
    let counts = rig.clue.held();
    assert_eq!(
        (counts.waiting, counts.expired, counts.turned_away),
        (MAX_HELD, 0, 2)
    );
    rig.command(&max, "/timeout u0 60");
    assert_eq!(rig.clue.held().waiting, MAX_HELD - MAX_HELD_OF_ONE);
    rig.now += HELD_FOR_MS;
    rig.clue.tick(UnixMs(rig.now));
    let counts = rig.clue.held();
    assert_eq!(
        (counts.waiting, counts.expired),
        (0, (MAX_HELD - MAX_HELD_OF_ONE) as u64)
    );
    let late = format!("/approve {}", last.unwrap());
    assert_eq!(refusal(&rig.command(&max, &late)), "bad_held_message");
}

/// What is kept of decisions, as a keeper would come to it.
fn keep(known: &mut Known, decision: &Decision) {
    for change in &decision.changes {
        match change {
            Change::Held(held) => drop(known.held.insert(held.id, Held::clone(held))),
            Change::LookedAt(id) => drop(known.held.remove(id)),
            _ => {}
        }
    }
}

#[test]
fn the_next_life_looks_at_what_was_held() {
    let mut rig = Rig::new();
    let max = moderator("max");
    let mut known = Known::default();
    rig.command(&max, "/blockedterm hold hm");
    let mut ids = Vec::new();
    for name in ["ann", "bob", "cat", "dog"] {
        rig.now += 10;
        let held = rig.say(&sender(name), "hm");
        ids.push(held.events[0].stamp.id);
        keep(&mut known, &held);
    }
    assert_eq!(known.held.len(), 4);
    for command in [
        format!("/approve {}", ids[0]),
        format!("/deny {}", ids[1]),
        "/timeout cat 60".to_owned(),
    ] {
        keep(&mut known, &rig.command(&max, &command));
    }
    assert_eq!(known.held.keys().collect::<Vec<_>>(), [&ids[3]]);
    let now = rig.now;
    let mut next = Rig::knowing(known.clone());
    next.now = now;
    assert_eq!(next.clue.held().waiting, 1);
    // Whoever asks again for want of a verdict is told the old one.
    next.requests = ids[3].0 - 1;
    let again = next.say(&sender("dog"), "hm");
    assert_eq!(refusal(&again), "msg_rejected");
    assert!(again.events.is_empty() && again.changes.is_empty());
    next.requests = 100;
    let approved = next.command(&max, &format!("/approve {}", ids[3]));
    assert_eq!(told(&approved), "held_approved");
    assert!(
        matches!(&approved.events[0].body, Body::Post(post) if post.author.user.login == login("dog"))
    );
    keep(&mut known, &approved);
    assert!(known.held.is_empty());
}

#[test]
fn what_waits_in_vain_is_not_kept() {
    let mut rig = Rig::new();
    let max = moderator("max");
    rig.command(&max, "/blockedterm hold hm");
    let id = |decision: &Decision| decision.events[0].stamp.id;
    let first = id(&rig.say(&sender("ann"), "hm"));
    assert!(rig.clue.tick(UnixMs(rig.now)).is_empty());
    rig.now += HELD_FOR_MS;
    assert_eq!(rig.clue.tick(UnixMs(rig.now)), [Change::LookedAt(first)]);
    assert!(rig.clue.tick(UnixMs(rig.now)).is_empty());
    // With whatever is written next; a refusal alone is nothing to write.
    let second = id(&rig.say(&sender("ann"), "hm"));
    rig.now += HELD_FOR_MS;
    assert!(rig.command(&sender("ann"), "/clear").changes.is_empty());
    let said = rig.say(&sender("ann"), "hello");
    assert_eq!(said.changes, [Change::LookedAt(second)]);
    let third = id(&rig.say(&sender("ann"), "hm"));
    assert_eq!(rig.clue.abandon(), [Change::LookedAt(third)]);
    assert_eq!(rig.clue.held().waiting, 0);
}

#[test]
fn slow_mode_holds_in_the_next_life() {
    let mut rig = Rig::new();
    let (ann, bob, eve) = (sender("ann"), sender("bob"), sender("eve"));
    let mut known = Known::default();
    let mut past = Vec::new();
    past.extend(rig.command(&sender("demo"), "/slow 30").events);
    rig.command(&sender("demo"), "/blockedterm hold hm");
    past.extend(rig.say(&ann, "hello").events);
    rig.later(10);
    past.extend(rig.say(&bob, "hello").events);
    past.extend(rig.say(&eve, "hm").events);
    rig.later(10);
    known.settings = rig.clue.settings();
    let life = |all: bool| {
        let mut next = Rig::knowing(known.clone());
        (next.now, next.requests) = (rig.now, 100);
        next.clue.spoke(UnixMs(next.now), &past, all);
        next
    };
    let wait = |decision: &Decision| match &decision.verdict {
        Verdict::Said(_) => 0,
        Verdict::Refused(notice) => {
            assert_eq!(notice.id, NoticeId::MsgSlowMode);
            let digits = |c: char| !c.is_ascii_digit();
            let mut words = notice.text.split(digits).filter(|word| !word.is_empty());
            words.next_back().unwrap().parse::<u64>().unwrap()
        }
        other => panic!("{other:?}"),
    };
    let mut next = life(true);
    for (user, seconds) in [(&ann, 10), (&bob, 20), (&eve, 20), (&sender("new"), 0)] {
        assert_eq!(wait(&next.say(user, "hi")), seconds);
    }
    assert_eq!(told(&next.say(&moderator("max"), "hi")), "said");
    // Where some is missing, whoever is not known may have spoken just before the rest.
    let mut next = life(false);
    for (user, seconds) in [(&ann, 10), (&bob, 20), (&sender("new"), 10)] {
        assert_eq!(wait(&next.say(user, "hi")), seconds);
    }
    next.later(10);
    assert_eq!(wait(&next.say(&sender("new"), "hi")), 0);
    // A clock that was ahead keeps nobody longer than slow mode does.
    rig.now -= 3_600_000;
    let mut next = Rig::knowing(known.clone());
    (next.now, next.requests) = (rig.now, 100);
    next.clue.spoke(UnixMs(next.now), &past, true);
    assert_eq!(wait(&next.say(&ann, "hi")), 30);
}

#[test]
fn whoever_was_banned_under_another_name_is_not_approved() {
    let mut rig = Rig::new();
    let (max, demo) = (moderator("max"), sender("demo"));
    rig.command(&max, "/blockedterm hold hm");
    rig.say(&sender("ann"), "hello");
    let mut renamed = sender("anna");
    renamed.user.id = sender("ann").user.id;
    let id = rig.say(&renamed, "hm").events[0].stamp.id;
    rig.command(&demo, "/ban ann");
    assert_eq!(
        refusal(&rig.command(&max, &format!("/approve {id}"))),
        "bad_held_message"
    );
}

#[test]
fn terms_are_bounded() {
    let mut rig = Rig::new();
    let demo = sender("demo");
    for number in 0..MAX_TERMS {
        // Slower than the limit of commands.
        rig.later(1);
        let added = rig.command(&demo, &format!("/blockedterm add word{number}"));
        assert_eq!(told(&added), "blocked_term_added");
    }
    assert_eq!(
        refusal(&rig.command(&demo, "/blockedterm add onemore")),
        "too_many"
    );
    // One that is there may change.
    assert_eq!(
        told(&rig.command(&demo, "/blockedterm hold word1")),
        "blocked_term_added"
    );
    let listed = rig.command(&demo, "/blockedterm list");
    let Verdict::Done(notice) = listed.verdict else {
        panic!()
    };
    assert!(
        notice.text.len() < 4_000 && notice.text.ends_with(" more"),
        "{}",
        notice.text
    );
}

#[test]
fn links_are_for_who_may() {
    let mut rig = Rig::new();
    let (ann, max) = (sender("ann"), moderator("max"));
    let mut vip = sender("vip");
    vip.roles.vip = true;
    let on = rig.command(&max, "/nolinks");
    assert_eq!(told(&on), "no_links_on");
    assert!(matches!(
        on.events[0].body,
        Body::Settings(Settings { no_links: true, .. })
    ));
    assert!(matches!(
        on.changes[..],
        [Change::Settings(Settings { no_links: true, .. })]
    ));
    assert_eq!(
        refusal(&rig.say(&ann, "see example.com")),
        "msg_rejected_mandatory"
    );
    for who in [&vip, &max] {
        assert_eq!(told(&rig.say(who, "see example.com")), "said");
    }
    assert_eq!(told(&rig.command(&max, "/permit ann 30")), "permit_success");
    assert_eq!(told(&rig.say(&ann, "see example.com")), "said");
    rig.later(30);
    assert_eq!(
        refusal(&rig.say(&ann, "see example.com")),
        "msg_rejected_mandatory"
    );
    for user in 0..MAX_PERMITS {
        rig.now += 200;
        assert_eq!(
            told(&rig.command(&max, &format!("/permit u{user} 1h"))),
            "permit_success"
        );
    }
    assert_eq!(refusal(&rig.command(&max, "/permit onemore")), "too_many");
    assert_eq!(told(&rig.command(&max, "/nolinksoff")), "no_links_off");
    assert_eq!(told(&rig.say(&ann, "see example.com")), "said");
}

#[test]
fn emotes_have_places_and_emote_only_rooms_take_them() {
    let mut rig = Rig::new();
    let (ann, demo) = (sender("ann"), sender("demo"));
    rig.clue.begin_under(with_emotes("Kappa 25\n"));
    let said = rig.say(&ann, "hi Kappa");
    assert!(matches!(&said.events[0].body, Body::Post(post) if post.emotes.as_str() == "25:3-7"));
    rig.command(&demo, "/emoteonly");
    assert_eq!(refusal(&rig.say(&ann, "hi Kappa")), "msg_emoteonly");
    assert_eq!(told(&rig.say(&ann, "Kappa  Kappa")), "said");
}

#[test]
fn unique_chat_knows_letters_of_all_scripts() {
    let mut rig = Rig::new();
    rig.command(&sender("demo"), "/uniquechat");
    assert_eq!(told(&rig.say(&sender("ann"), "Привет всем")), "said");
    assert_eq!(refusal(&rig.say(&sender("bob"), "ПРИВЕТ ВСЕМ")), "msg_r9k");
}

fn roles_file(rig: &mut Rig, file: &str) -> Vec<Event> {
    let policy = Policy {
        roles: Arc::new(RoleTable::parse(file).unwrap()),
        ..Policy::default()
    };
    rig.clue.govern(UnixMs(rig.now), Arc::new(policy))
}

#[test]
fn the_operator_names_roles_and_whom_it_concerns_is_told() {
    let mut rig = Rig::new();
    let (ann, demo) = (sender("ann"), sender("demo"));
    let events = roles_file(
        &mut rig,
        "demo ann moderator\nother bob moderator\n* vip vip\n",
    );
    let bodies: Vec<_> = events.iter().map(|event| event.body.clone()).collect();
    let roles = |name: &str, bits| Body::Roles {
        login: login(name),
        roles: Roles::from_bits(bits),
    };
    assert_eq!(bodies, [roles("ann", 2), roles("vip", 4)]);
    assert_eq!(
        told(&rig.command(&ann, "/timeout bob 5")),
        "timeout_success"
    );
    assert_eq!(
        refusal(&rig.command(&sender("bob"), "/timeout kim 5")),
        "no_permission"
    );
    assert_eq!(refusal(&rig.command(&demo, "/mod ann")), "bad_mod_mod");
    assert_eq!(refusal(&rig.command(&demo, "/unmod ann")), "bad_unmod_mod");
    assert_eq!(
        refusal(&rig.command(&moderator("max"), "/ban ann")),
        "bad_ban_mod"
    );
    // The same file says nothing new, and offsets go on.
    assert!(roles_file(&mut rig, "demo ann moderator\n* vip vip\n").is_empty());
    let gone = roles_file(&mut rig, "");
    assert_eq!(gone[0].body, roles("ann", 0));
    assert_eq!(
        refusal(&rig.command(&ann, "/timeout bob 5")),
        "no_permission"
    );
    let next = rig.say(&demo, "so");
    assert_eq!(
        next.events[0].stamp.offset,
        gone.last().unwrap().stamp.offset.next()
    );
}

#[test]
fn a_role_is_told_at_once_and_a_ban_takes_it() {
    let mut rig = Rig::new();
    let demo = sender("demo");
    let given = rig.command(&demo, "/mod ann");
    let told = |bits| Body::Roles {
        login: login("ann"),
        roles: Roles::from_bits(bits),
    };
    assert_eq!(given.events[0].body, told(2));
    assert_eq!(rig.command(&demo, "/vip ann").events[0].body, told(6));
    let banned = rig.command(&demo, "/ban ann");
    assert_eq!(banned.events.len(), 2);
    assert_eq!(banned.events[1].body, told(0));
}

#[test]
fn bans_reach_as_far_as_the_operator_says() {
    let mut rig = Rig::new();
    let demo = sender("demo");
    let at = |name: &str, address: &str| {
        let mut sender = sender(name);
        sender.network = Some(Network::of(address.parse().unwrap()));
        sender
    };
    rig.clue.begin_under(Arc::new(Policy {
        ban_networks: true,
        ban_prefix: Prefix {
            ipv4_bits: 24,
            ipv6_bits: 48,
        },
        ..Policy::default()
    }));
    rig.say(&at("ann", "10.0.0.1"), "bad");
    // A time-out is one person's.
    rig.command(&demo, "/timeout ann 5");
    assert_eq!(told(&rig.say(&at("bob", "10.0.0.1"), "hello")), "said");
    rig.command(&demo, "/ban ann");
    assert_eq!(
        refusal(&rig.say(&at("bob", "10.0.0.200"), "hello")),
        "msg_banned"
    );
    assert_eq!(told(&rig.say(&at("bob", "10.0.1.1"), "hello")), "said");
    // Another reach finds the same ban.
    roles_file(&mut rig, "");
    assert_eq!(told(&rig.say(&at("kim", "10.0.0.200"), "hello")), "said");
    assert_eq!(
        refusal(&rig.say(&at("kim", "10.0.0.1"), "hello")),
        "msg_banned"
    );
    rig.command(&demo, "/unban ann");
    assert_eq!(told(&rig.say(&at("kim", "10.0.0.1"), "hello")), "said");
}

#[test]
fn a_raid_leaves_one_room_and_arrives_in_another() {
    let mut rig = Rig::new();
    let (demo, max) = (sender("demo"), moderator("max"));
    rig.clue.watched_by(42);
    assert_eq!(
        refusal(&rig.command(&sender("ann"), "/raid other")),
        "no_permission"
    );
    assert_eq!(
        refusal(&rig.command(&demo, "/raid demo")),
        "raid_error_self"
    );
    let raid = rig.command(&max, "/raid other");
    let Verdict::Raids { to, viewers, .. } = &raid.verdict else {
        panic!("{raid:?}")
    };
    assert_eq!((to.as_str(), *viewers), ("other", 42));
    assert!(matches!(&raid.events[0].body, Body::Notice(notice) if notice.id == NoticeId::HostOn));
    rig.clue.watched_by(1);
    let alone = rig.command(&max, "/raid other");
    let Verdict::Raids { notice, .. } = &alone.verdict else {
        panic!("{alone:?}")
    };
    assert_eq!(notice.text, "You are raiding other with 1 viewer.");
    assert_eq!(
        refusal(&rig.command(&max, "/raid other")),
        "raid_error_already_raiding"
    );
    let from = |name: &str| Ask::Arrive {
        from: ChannelName::parse(name).unwrap(),
        viewers: 7,
    };
    let arrived = rig.ask(&sender("kim"), from("elsewhere"));
    assert_eq!(told(&arrived), "raid_success");
    let Body::UserNotice(notice) = &arrived.events[0].body else {
        panic!("{arrived:?}")
    };
    assert_eq!(notice.kind, UserNoticeKind::Raid { viewers: 7 });
    assert_eq!(notice.author.user.login, login("elsewhere"));
    assert_eq!(notice.system, "7 raiders from elsewhere have joined!");
    rig.command(&demo, "/ban bob");
    assert_eq!(
        refusal(&rig.ask(&sender("bob"), from("elsewhere"))),
        "msg_banned"
    );
    assert_eq!(
        refusal(&rig.ask(&sender("kim"), from("demo"))),
        "raid_error_self"
    );
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(
            told(&rig.ask(&sender("kim"), from("elsewhere"))) == "raid_error_forbidden",
        );
    }
    assert_eq!(refused, 11);
}

#[test]
fn commands_are_limited() {
    let mut rig = Rig::new();
    let demo = sender("demo");
    for _ in 0..COMMANDS.most {
        assert_eq!(told(&rig.command(&demo, "/clear")), "said");
    }
    assert_eq!(refusal(&rig.command(&demo, "/clear")), "msg_ratelimit");
    assert_eq!(told(&rig.say(&demo, "still here")), "said");
    rig.later(30);
    assert_eq!(told(&rig.command(&demo, "/clear")), "said");
}

#[test]
fn a_room_full_of_speakers_is_still_moderated() {
    let mut rig = Rig::new();
    for user in 0..MAX_SPEAKERS {
        rig.now += 10;
        rig.say(&sender(&format!("u{user}")), "x");
    }
    assert_eq!(refusal(&rig.say(&sender("late"), "x")), "msg_ratelimit");
    assert_eq!(told(&rig.command(&moderator("max"), "/clear")), "said");
}

#[test]
fn the_next_life_knows_what_was_said() {
    let mut rig = Rig::new();
    let (ann, max) = (sender("ann"), moderator("max"));
    let mut past = Vec::new();
    for text in ["one", "two", "three"] {
        past.extend(rig.say(&ann, text).events);
    }
    past.extend(
        rig.command(&max, &format!("/delete {}", MessageId(1)))
            .events,
    );
    let announced = rig.command(&max, "/announce hear");
    past.extend(announced.events.clone());
    let asked = rig.requests;
    let mut next = Rig::knowing(Known {
        past,
        ..Known::default()
    });
    next.clue.epoch = RoomEpoch(8);
    // Whoever asks again for want of a verdict is told the old one.
    next.requests = 1;
    let again = next.say(&ann, "two");
    assert!(
        matches!(again.verdict, Verdict::Said(stamp) if stamp.epoch == RoomEpoch(7) && stamp.offset == Offset(1))
    );
    assert!(again.events.is_empty());
    next.requests = asked - 1;
    assert_eq!(
        next.command(&max, "/announce hear").verdict,
        announced.verdict
    );
    next.requests = 100;
    assert_eq!(
        refusal(&next.command(&max, &format!("/delete {}", MessageId(1)))),
        "bad_delete_message_error"
    );
    assert_eq!(
        told(&next.command(&max, &format!("/delete {}", MessageId(3)))),
        "delete_message_success"
    );
    next.command(&sender("demo"), "/uniquechat");
    assert_eq!(refusal(&next.say(&ann, "TWO")), "msg_r9k");
    let fresh = next.say(&ann, "four");
    assert_eq!(fresh.events[0].stamp.epoch, RoomEpoch(8));
}

#[test]
fn moderators_see_the_room() {
    let mut rig = Rig::new();
    let demo = sender("demo");
    for command in [
        "/ban bob so",
        "/timeout ann 60",
        "/vip kim",
        "/blockedterm hold hm",
        "/slow 5",
    ] {
        rig.command(&demo, command);
    }
    let id = rig.say(&sender("eve"), "hm").events[0].stamp.id;
    let seen = rig.clue.insight(UnixMs(rig.now), None, 10);
    let bans: Vec<_> = seen
        .bans
        .iter()
        .map(|(login, ban)| (login.as_str(), ban.until.is_some()))
        .collect();
    assert_eq!(bans, [("ann", true), ("bob", false)]);
    assert_eq!(seen.roles, [(login("kim"), Roles::from_bits(4))]);
    assert_eq!(seen.terms.len(), 1);
    assert_eq!((seen.held[0].id, seen.held[0].login.as_str()), (id, "eve"));
    assert_eq!(seen.settings.slow_s, 5);
    let page = rig.clue.insight(UnixMs(rig.now), Some(&login("ann")), 1);
    assert_eq!((page.bans.len(), page.bans_in_all), (1, 2));
    rig.later(60);
    assert_eq!(rig.clue.insight(UnixMs(rig.now), None, 10).bans_in_all, 1);
}

/// Or whoever keeps them would keep them for ever.
#[test]
fn time_outs_that_are_over_are_told_to_the_keeper() {
    let mut rig = Rig::new();
    let demo = sender("demo");
    rig.command(&demo, "/timeout ann 10");
    rig.command(&demo, "/timeout bob 20");
    rig.command(&demo, "/ban cat");
    assert_eq!(rig.clue.tick(UnixMs(rig.now)), []);
    rig.later(10);
    assert_eq!(
        rig.clue.tick(UnixMs(rig.now)),
        [Change::Unban(login("ann"))]
    );
    assert_eq!(rig.clue.tick(UnixMs(rig.now)), []);
    rig.later(10);
    // With the next thing that is written at all, and before it.
    let refused = rig.command(&demo, "/unban bob");
    assert_eq!(
        (told(&refused), refused.changes),
        ("bad_unban_no_ban", vec![])
    );
    let again = rig.command(&demo, "/timeout bob 20");
    assert_eq!(again.changes[0], Change::Unban(login("bob")));
    assert!(matches!(&again.changes[1], Change::Ban(bob, _) if *bob == login("bob")));
    assert_eq!(again.changes.len(), 2);
}
