use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    chat::{
        Author, Badge, Body, Colour, Command, Display, EmoteSpans, Login, Network, Notice,
        NoticeId, Post, Reply, Roles, Sender, Stamp, Term, TermAction, Text, User, UserId,
        UserNotice, UserNoticeKind, request::Ask,
    },
    link::{Decoder, Frame, Message, WireError, frame::kind},
    live::UnixMs,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decoded(mut bytes: Bytes) -> Result<Message, WireError> {
    let frame = Decoder::default().next(&mut bytes)?.unwrap();
    assert!(bytes.is_empty());
    Message::decode(frame)
}

fn demo() -> ChannelName {
    ChannelName::parse("demo").unwrap()
}

fn ann() -> User {
    User {
        id: UserId::parse("7").unwrap(),
        login: Login::parse("ann").unwrap(),
        display: Display::parse("Ann").unwrap(),
        colour: Some(Colour(0xff)),
        badges: vec![Badge::parse("a/1").unwrap()],
    }
}

fn stamp() -> Stamp {
    Stamp {
        epoch: RoomEpoch(5),
        offset: Offset(9),
        id: MessageId(1),
        at: UnixMs(70),
        program: UnixMs(71),
    }
}

const ID: &str = "00000000000000000000000000000001";

/// The protocol's bytes, which no change of this code may move.
#[test]
fn golden_bytes() {
    let ann_hex = "0137 03616e6e 03416e6e 4100 01 03612f31";
    let settings = Settings {
        slow_s: 30,
        followers_min: Some(0),
        subscribers_only: true,
        emote_only: false,
        unique: true,
        no_links: false,
    };
    let cases = [
        (Chat::Open, "4040 00".to_owned()),
        (
            Chat::Enter {
                room: demo(),
                after: Some((RoomEpoch(5), Offset(9))),
            },
            "4041 07 0464656d6f 06 09".to_owned(),
        ),
        (Chat::Exit { room: demo() }, "4042 05 0464656d6f".to_owned()),
        (
            Chat::Counts {
                room: demo(),
                counts: Counts {
                    readers: 3,
                    chatters: 2,
                    viewers: 4,
                },
            },
            "4043 08 0464656d6f 03 02 04".to_owned(),
        ),
        (
            Chat::Members {
                room: demo(),
                changes: Changes {
                    anew: true,
                    came: vec![Login::parse("ann").unwrap()],
                    went: Vec::new(),
                },
            },
            "404d 0c 0464656d6f 01 01 03616e6e 00".to_owned(),
        ),
        (
            Chat::Present {
                room: demo(),
                counts: Counts {
                    readers: 3,
                    chatters: 2,
                    viewers: 4,
                },
                named: true,
                changes: Changes {
                    anew: false,
                    came: Vec::new(),
                    went: vec![Login::parse("ann").unwrap()],
                },
            },
            "404e 0f 0464656d6f 03 02 04 02 00 01 03616e6e".to_owned(),
        ),
        (
            Chat::Ask {
                room: demo(),
                request: Box::new(Request {
                    id: MessageId(1),
                    sender: Sender {
                        user: ann(),
                        roles: Roles::from_bits(2),
                        follows_since: None,
                        network: None,
                    },
                    ask: Ask::Say {
                        text: Text::cut("hi").unwrap(),
                        action: false,
                        reply_to: None,
                    },
                }),
            },
            format!("4044 2e 0464656d6f {ID} {ann_hex} 02 00 00 00 026869 00"),
        ),
        (
            Chat::Verdict {
                id: MessageId(1),
                verdict: Verdict::Refused(Notice::new(NoticeId::MsgBanned, "no")),
            },
            format!("4045 1f {ID} 02 0a6d73675f62616e6e6564 026e6f"),
        ),
        (
            Chat::Room {
                room: demo(),
                epoch: RoomEpoch(5),
                next: Offset(9),
                live: Offset(10),
                settings,
            },
            "4046 0b 0464656d6f 05 09 0a 1e 01 05".to_owned(),
        ),
        (
            Chat::Event {
                room: demo(),
                event: Box::new(Event {
                    stamp: stamp(),
                    body: Body::Post(Post {
                        author: Author {
                            user: ann(),
                            roles: Roles::from_bits(2),
                        },
                        text: Text::cut("hi").unwrap(),
                        action: true,
                        reply: None,
                        emotes: EmoteSpans::default(),
                    }),
                }),
            },
            format!("4047 32 0464656d6f 05 09 {ID} 4046 4047 00 {ann_hex} 02 026869 01"),
        ),
        (
            Chat::Origins {
                nodes: vec![NodeId::parse("o-1").unwrap()],
            },
            "4048 05 01 036f2d31".to_owned(),
        ),
        (
            Chat::Closed {
                room: demo(),
                code: Code::NotHere,
            },
            "4049 06 0464656d6f 05".to_owned(),
        ),
        (
            Chat::Roles {
                room: demo(),
                more: true,
                roles: vec![(Login::parse("ann").unwrap(), Roles::from_bits(2))],
            },
            "404c 0c 0464656d6f 01 01 03616e6e 02".to_owned(),
        ),
        (
            Chat::Verdict {
                id: MessageId(1),
                verdict: Verdict::Raids {
                    notice: Notice::new(NoticeId::RaidSuccess, "go"),
                    to: demo(),
                    viewers: 9,
                },
            },
            format!("4045 27 {ID} 03 0c726169645f73756363657373 02676f 0464656d6f 09"),
        ),
        (
            Chat::Event {
                room: demo(),
                event: Box::new(Event {
                    stamp: stamp(),
                    body: Body::Denied {
                        message: MessageId(1),
                        login: Login::parse("ann").unwrap(),
                        by: Login::parse("max").unwrap(),
                    },
                }),
            },
            format!("4047 34 0464656d6f 05 09 {ID} 4046 4047 09 {ID} 03616e6e 036d6178"),
        ),
    ];
    for (chat, golden) in cases {
        let message = Message::Chat(chat);
        let bytes = message.encode();
        assert_eq!(hex(&bytes), golden.replace(' ', ""), "{message:?}");
        assert_eq!(decoded(bytes).unwrap(), message);
    }
}

#[test]
fn what_could_not_be_printed_is_refused() {
    let event = Event {
        stamp: stamp(),
        body: Body::UserCleared {
            user: UserId::parse("7").unwrap(),
            login: Login::parse("ann").unwrap(),
            seconds: Some(1),
        },
    };
    let good = encode_event(&demo(), &event);
    assert!(decoded(good.clone()).is_ok());
    let mut bad = good.to_vec();
    let at = bad.windows(3).position(|three| three == b"ann").unwrap();
    bad[at] = b'\n';
    assert!(matches!(
        decoded(bad.into()),
        Err(WireError::Invalid { .. })
    ));
}

fn channel() -> impl Strategy<Value = ChannelName> {
    "[a-z0-9_]{1,32}".prop_map(|name| ChannelName::parse(&name).unwrap())
}

fn login() -> impl Strategy<Value = Login> {
    "[a-z0-9_]{1,25}".prop_map(|name| Login::parse(&name).unwrap())
}

/// As people write it: some of it is cut, wherever the 500th character falls.
fn text() -> impl Strategy<Value = Text> {
    let written = prop_oneof![8 => "[ -~ä안😀]{1,80}", 1 => "[a ä😀\r\u{1}]{490,520}"];
    written.prop_filter_map("nothing to read", |text| Text::cut(&text))
}

prop_compose! {
    fn user()(
        id in "[A-Za-z0-9_:-]{1,64}", login in login(), display in "[!-~ä안]{1,12}",
        colour in option::of(0u32..0x100_0000), badges in vec("[a-z0-9_-]{1,32}/[a-z0-9_-]{1,32}", 0..8),
    ) -> User {
        User {
            id: UserId::parse(&id).unwrap(),
            login,
            display: Display::parse(&display).unwrap(),
            colour: colour.map(Colour),
            badges: badges.iter().map(|badge| Badge::parse(badge).unwrap()).collect(),
        }
    }
}

prop_compose! {
    fn author()(user in user(), bits in 0u64..16) -> Author {
        Author { user, roles: Roles::from_bits(bits) }
    }
}

prop_compose! {
    fn any_stamp()(numbers in [0u64..1 << 60, 0..1 << 60, 0..1 << 60, 0..1 << 60], id in any::<u128>()) -> Stamp {
        Stamp {
            epoch: RoomEpoch(numbers[0]),
            offset: Offset(numbers[1]),
            id: MessageId(id),
            at: UnixMs(numbers[2]),
            program: UnixMs(numbers[3]),
        }
    }
}

prop_compose! {
    fn settings()(slow_s in any::<u32>(), followers_min in option::of(0..u32::MAX), flags in any::<[bool; 4]>()) -> Settings {
        let [subscribers_only, emote_only, unique, no_links] = flags;
        Settings { slow_s, followers_min, subscribers_only, emote_only, unique, no_links }
    }
}

prop_compose! {
    fn notice()(at in 0..NoticeId::ALL.len(), text in "[ -~]{0,40}") -> Notice {
        Notice::new(NoticeId::ALL[at], text)
    }
}

prop_compose! {
    fn reply()(ids in any::<[u128; 2]>(), user in user(), text in text()) -> Reply {
        Reply {
            parent: MessageId(ids[0]),
            thread: MessageId(ids[1]),
            user: user.id,
            login: user.login,
            display: user.display,
            text,
        }
    }
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (
            author(),
            text(),
            any::<bool>(),
            option::of(reply()),
            "([0-9]{1,3}:[0-9]-[0-9])?"
        )
            .prop_map(|(author, text, action, reply, emotes)| Body::Post(Post {
                author,
                text,
                action,
                reply,
                emotes: EmoteSpans::parse(&emotes).unwrap(),
            })),
        (author(), text()).prop_map(|(author, text)| Body::Held { author, text }),
        (any::<u128>(), login(), login()).prop_map(|(id, login, by)| Body::Denied {
            message: MessageId(id),
            login,
            by
        }),
        (login(), 0u64..16).prop_map(|(login, bits)| Body::Roles {
            login,
            roles: Roles::from_bits(bits)
        }),
        Just(Body::Cleared),
        Just(Body::Gap),
        (user(), option::of(0..u32::MAX)).prop_map(|(user, seconds)| Body::UserCleared {
            user: user.id,
            login: user.login,
            seconds
        }),
        (any::<u128>(), login(), text()).prop_map(|(id, login, text)| Body::Deleted {
            message: MessageId(id),
            login,
            text
        }),
        settings().prop_map(Body::Settings),
        notice().prop_map(Body::Notice),
        (
            author(),
            "[ -~]{0,30}",
            option::of(text()),
            any::<u32>(),
            any::<bool>()
        )
            .prop_map(|(author, system, text, viewers, raid)| Body::UserNotice(
                UserNotice {
                    kind: if raid {
                        UserNoticeKind::Raid { viewers }
                    } else {
                        UserNoticeKind::Announcement {
                            colour: "BLUE".to_owned(),
                        }
                    },
                    author,
                    system,
                    text,
                }
            )),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    use Command as C;
    let parts = (
        login(),
        any::<u32>(),
        any::<bool>(),
        option::of(text()),
        any::<u128>(),
    );
    (0..26, parts).prop_map(|(op, (login, number, on, reason, id))| match op {
        0 => C::Ban {
            login,
            network: on,
            reason,
        },
        1 => C::Timeout {
            login,
            seconds: number & 0x7fff_ffff,
            reason,
        },
        2 => C::Unban { login },
        3 => C::Untimeout { login },
        4 => C::Delete {
            message: MessageId(id),
        },
        5 => C::Clear,
        6 => C::Slow {
            seconds: number & 0x7fff_ffff,
        },
        7 => C::Followers {
            minutes: on.then_some(number & 0x7fff_ffff),
        },
        8 => C::Subscribers { on },
        9 => C::EmoteOnly { on },
        10 => C::Unique { on },
        11 => C::Mod { login },
        12 => C::Unmod { login },
        13 => C::Vip { login },
        14 => C::Unvip { login },
        15 => C::Mods,
        16 => C::Vips,
        17 => C::AddTerm {
            term: Term::parse(&format!("*bad{number} x*")).unwrap(),
            action: if on {
                TermAction::Hold
            } else {
                TermAction::Refuse
            },
        },
        18 => C::RemoveTerm {
            term: Term::parse(&format!("bad{number}")).unwrap(),
        },
        19 => C::Terms,
        20 => C::NoLinks { on },
        21 => C::Permit {
            login,
            seconds: number & 0x7fff_ffff,
        },
        22 => C::Approve {
            message: MessageId(id),
        },
        23 => C::Deny {
            message: MessageId(id),
        },
        24 => C::Raid {
            to: ChannelName::parse(login.as_str()).unwrap(),
        },
        _ => C::Announce {
            colour: "GREEN".to_owned(),
            text: reason.unwrap_or_else(|| Text::cut("x").unwrap()),
        },
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        (text(), any::<bool>(), option::of(any::<u128>())).prop_map(|(text, action, reply)| {
            Ask::Say {
                text,
                action,
                reply_to: reply.map(MessageId),
            }
        }),
        command().prop_map(Ask::Do),
        (channel(), 0..u32::MAX).prop_map(|(from, viewers)| Ask::Arrive { from, viewers }),
    ]
}

fn chat() -> impl Strategy<Value = Chat> {
    let sender = (
        user(),
        0u64..16,
        option::of(0u64..1 << 60),
        option::of(any::<[u8; 16]>()),
    );
    let sender = sender.prop_map(|(user, bits, since, network)| Sender {
        user,
        roles: Roles::from_bits(bits),
        follows_since: since.map(UnixMs),
        network: network.map(Network),
    });
    let verdict = prop_oneof![
        any_stamp().prop_map(Verdict::Said),
        notice().prop_map(Verdict::Done),
        notice().prop_map(Verdict::Refused),
        (notice(), channel(), 0..u32::MAX).prop_map(|(notice, to, viewers)| Verdict::Raids {
            notice,
            to,
            viewers
        }),
    ];
    prop_oneof![
        Just(Chat::Open),
        (channel(), option::of((0u64..1 << 60, 0u64..1 << 60))).prop_map(|(room, after)| {
            let after = after.map(|(epoch, offset)| (RoomEpoch(epoch), Offset(offset)));
            Chat::Enter { room, after }
        }),
        (channel(), any::<(u32, u32, u32)>()).prop_map(|(room, (readers, chatters, viewers))| {
            Chat::Counts {
                room,
                counts: Counts {
                    readers,
                    chatters,
                    viewers,
                },
            }
        }),
        (channel(), any::<u128>(), sender, ask()).prop_map(|(room, id, sender, ask)| {
            let id = MessageId(id);
            let request = Box::new(Request { id, sender, ask });
            Chat::Ask { room, request }
        }),
        (any::<u128>(), verdict).prop_map(|(id, verdict)| Chat::Verdict {
            id: MessageId(id),
            verdict
        }),
        (channel(), any_stamp(), settings()).prop_map(|(room, stamp, settings)| Chat::Room {
            room,
            epoch: stamp.epoch,
            next: stamp.offset,
            live: Offset(stamp.at.0),
            settings
        }),
        (channel(), any_stamp(), body()).prop_map(|(room, stamp, body)| Chat::Event {
            room,
            event: Box::new(Event { stamp, body })
        }),
        (
            channel(),
            any::<bool>(),
            vec((login(), 0u64..16), 0..ROLES_AT_ONCE)
        )
            .prop_map(|(room, more, roles)| Chat::Roles {
                room,
                more,
                roles: roles
                    .into_iter()
                    .map(|(login, bits)| (login, Roles::from_bits(bits)))
                    .collect()
            }),
        vec("[a-z0-9-]{1,63}", 0..8).prop_map(|names| Chat::Origins {
            nodes: names
                .iter()
                .map(|name| NodeId::parse(name).unwrap())
                .collect()
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(chat in chat()) {
        let message = Message::Chat(chat);
        prop_assert_eq!(decoded(message.encode()).unwrap(), message);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), kind in kind::CHAT..=kind::ROLES) {
        let _ = Message::decode(Frame { kind, body: bytes.into() });
    }

    #[test]
    fn a_message_cut_short_is_an_error_and_no_panic(chat in chat()) {
        let mut bytes = Message::Chat(chat).encode();
        let frame = Decoder::default().next(&mut bytes).unwrap().unwrap();
        for len in 0..frame.body.len() {
            let body = frame.body.slice(..len);
            let _ = Message::decode(Frame { kind: frame.kind, body });
        }
    }
}

#[test]
fn names_go_in_pieces_that_lead_from_one_list_to_the_other() {
    let names = |range: std::ops::Range<usize>| {
        let names = range.map(|number| Login::parse(&format!("u{number:04}")).unwrap());
        names.collect::<Vec<_>>()
    };
    let (before, after) = (names(0..700), names(100..300));
    let pieces = Changes::between(Some(&before), &after);
    assert_eq!(pieces.len(), 2);
    assert!(pieces.iter().all(|piece| piece.went.len() <= NAMES_AT_ONCE));
    let went: usize = pieces.iter().map(|piece| piece.went.len()).sum();
    assert_eq!(went, 500);
    let anew = Changes::between(None, &after);
    assert_eq!(
        (anew.len(), anew[0].anew, anew[0].came.len()),
        (1, true, 200)
    );
    assert!(Changes::between(Some(&after), &after)[0].is_empty());
    for changes in [Changes::between(None, &before), pieces].concat() {
        let message = Message::Chat(Chat::Members {
            room: demo(),
            changes,
        });
        assert_eq!(decoded(message.encode()).unwrap(), message);
    }
}
