//! Whatever a client's line makes this edge ask of a room, the room's home can read.

use common::{
    chat::{Text, request::Ask},
    link::{Chat, Decoder, Message},
};
use proptest::prelude::*;

use super::rig::{Client, Rig, token};

/// What the next wish is at the other end of the link, or `None` without one.
fn passed_on(rig: &mut Rig) -> Option<(Message, Message)> {
    let (room, request, _) = rig.asked()?;
    let asked = Message::Chat(Chat::Ask { room, request });
    let mut bytes = asked.encode();
    let frame = Decoder::default().next(&mut bytes).unwrap().unwrap();
    assert!(bytes.is_empty());
    Some((Message::decode(frame).unwrap(), asked))
}

fn named(rig: &Rig, nick: &str) -> Client {
    let mut client = rig.client();
    client.says(&format!("NICK {nick}"));
    client
}

#[test]
fn a_text_that_is_cut_at_a_blank_is_read() {
    let mut rig = Rig::new(&[]);
    let long = |blank: &str| {
        let kept = "a".repeat(Text::MAX_CHARS - blank.len());
        format!("{kept}{blank}bbb")
    };
    for text in [
        long(" "),
        long("\u{1}"),
        long(" \u{1} "),
        format!("\u{1}ACTION {}\u{1}", long(" ")),
        format!("/me {}", long(" ")),
        format!("/ban bob {}", long(" ")),
        format!("/timeout bob 10m {}", long("\u{1}")),
        format!("/announce {}", long(" ")),
    ] {
        let mut client = named(&rig, "demo");
        client.says(&format!("PRIVMSG #demo :{text}"));
        let (read, asked) = passed_on(&mut rig).unwrap();
        assert_eq!(read, asked);
        if let Message::Chat(Chat::Ask { request, .. }) = read
            && let Ask::Say { text, .. } = request.ask
        {
            assert!(text.as_str().ends_with('a'), "{text}");
        }
    }
}

/// Anything, and what is cut.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,60}",
        "[ -~ä안😀\u{1}]{0,60}",
        "[a ä\u{1}]{485,520}",
        // White space that is no blank, marks and what folds.
        "[a\u{a0}\u{2003}\u{200b}\u{301}ßİǅﬁＡ*. ]{0,80}",
    ]
}

fn said() -> impl Strategy<Value = String> {
    let verb = prop_oneof![
        Just("".to_owned()),
        Just("\u{1}ACTION ".to_owned()),
        "[./](me|ban|ban --network|unban|untimeout|mod|unmod|vip|unvip|permit) @?[A-Za-z0-9_]{1,26} ",
        "/timeout [a-z]{1,9} ([0-9]{1,3}(s|m|h|d|))? ?",
        "/(announce|announceblue|help|dance|raid|clear|mods|vips|blockedterms) ?",
        "/raid #?[A-Za-z0-9_]{1,33}",
        "/blockedterm (add|hold|remove|list) ",
        "/(delete|approve|deny) [0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
        "/(slow|followers|subscribers|emoteonly|uniquechat|nolinks)(off)? ?[0-9]{0,3}",
    ];
    (verb, prop_oneof![Just(String::new()), words()]).prop_map(|(verb, words)| verb + &words)
}

fn tags() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "@(client-nonce|reply-parent-msg-id|\\+reply|id)=[ -~&&[^ ]]{0,40} ",
        "@reply-parent-msg-id=[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12} ",
    ]
}

proptest! {
    #[test]
    fn whatever_a_line_asks_for_is_read_at_the_other_end(
        nick in "@?[A-Za-z0-9_]{1,25}", room in "[A-Za-z0-9_]{1,32}", tags in tags(), said in said(),
    ) {
        let mut rig = Rig::new(&[]);
        let mut client = named(&rig, &nick);
        client.says(&format!("{tags}PRIVMSG #{room} :{said}"));
        if let Some((read, asked)) = passed_on(&mut rig) {
            prop_assert_eq!(read, asked);
        }
    }

    /// What a token says of its bearer goes along.
    #[test]
    fn whoever_asks_is_read_at_the_other_end(
        sub in "[A-Za-z0-9_:-]{1,64}", name in prop::option::of(".{0,20}"),
        color in prop::option::of("#[0-9a-fA-F]{6}"),
        badges in prop::collection::vec("[a-z0-9_-]{1,32}/[a-z0-9_-]{1,32}", 0..9),
        follows in prop::option::of(0u64..1 << 50), role in "broadcaster|moderator|vip|subscriber|x",
    ) {
        let mut rig = Rig::signed();
        let mut client = rig.client();
        let token = token("ann", |body| {
            body.sub = sub;
            body.name = name;
            body.color = color;
            body.badges = badges;
            body.roles = [("demo".to_owned(), vec![role])].into();
            body.follows = follows.map(|since| ("demo".to_owned(), since)).into_iter().collect();
        });
        client.says(&format!("PASS oauth:{token}"));
        client.says("NICK ann");
        client.says("PRIVMSG #demo :hi");
        if let Some((read, asked)) = passed_on(&mut rig) {
            prop_assert_eq!(read, asked);
        } else {
            prop_assert!(client.0.ending().is_some(), "signed in and not asked");
        }
    }
}
