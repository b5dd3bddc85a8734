//! Messages of chat that make no sense, from nodes that are trusted: what they cost.

use common::{
    chat::{Command, Login, Roles, Sender, Text, User, UserNotice, UserNoticeKind},
    link::{Chat as Said, Frame, Message, Reader, Writer, frame::kind, priority, stream},
    quic::client_endpoint,
};

use super::*;

/// A child by hand, which says what it likes: its CHAT, with the room entered.
async fn child(certs: &Certs, home: &Served) -> (common::quic::Connection, Writer, Reader) {
    let link = certs.config("edge-1");
    let dialer = client_endpoint(&link, &link.credentials().unwrap()).unwrap();
    let (connection, _) = within(dialer.connect(home.address)).await.unwrap();
    let open = Message::Chat(Said::Open);
    let asked = stream::request(&connection, &open, priority::CONTROL).await;
    let (mut writer, reader) = asked.unwrap();
    let enter = Said::Enter {
        room: channel(),
        after: None,
    };
    writer.send(&Message::Chat(enter)).await.unwrap();
    (connection, writer, reader)
}

fn ask(id: u128, ask: Ask) -> Message {
    let sender = Sender {
        user: User::named(Login::parse("ann").unwrap()),
        roles: Roles::default(),
        follows_since: None,
        network: None,
    };
    let id = MessageId(id);
    Message::Chat(Said::Ask {
        room: channel(),
        request: Box::new(Request { id, sender, ask }),
    })
}

/// A command of a later version.
fn of_tomorrow(id: u128) -> Bytes {
    let mut bytes = ask(id, Ask::Do(Command::Clear)).encode().to_vec();
    // Behind the number of the command: word, number, flag and text, all empty.
    let at = bytes.len() - 5;
    bytes[at] = 0x3f;
    bytes.into()
}

async fn verdict(reader: &mut Reader) -> (MessageId, Verdict) {
    loop {
        match within(reader.next()).await.unwrap() {
            Some(Message::Chat(Said::Verdict { id, verdict })) => return (id, verdict),
            Some(_) => {}
            None => panic!("the stream ended"),
        }
    }
}

#[tokio::test]
async fn an_ask_that_makes_no_sense_is_refused_and_the_next_is_asked() {
    let certs = Certs::new();
    let mut home = Home::new(Limits::default());
    let origin = Served::start(&certs, "origin", home.port.clone(), any());
    let (connection, mut writer, mut reader) = child(&certs, &origin).await;
    let without_a_room = Frame::encode(kind::ENTER, b"\x01#");
    let mut pieces = [of_tomorrow(1), without_a_room];
    writer.send_all(&mut pieces).await.unwrap();
    let (id, Verdict::Refused(notice)) = verdict(&mut reader).await else {
        panic!("not refused");
    };
    assert_eq!((id, notice.id), (MessageId(1), NoticeId::MsgRejected));
    let said = Ask::Say {
        text: Text::cut("hi").unwrap(),
        action: false,
        reply_to: None,
    };
    writer.send(&ask(2, said)).await.unwrap();
    home.say_next().await;
    let (id, said) = verdict(&mut reader).await;
    assert!(id == MessageId(2) && matches!(said, Verdict::Said(_)));
    assert!(connection.close_reason().is_none());
}

/// A frame that is longer than any leaves nothing to go on with; the pictures that the
/// same link carries go on.
#[tokio::test]
async fn a_chat_without_frames_ends_alone() {
    let certs = Certs::new();
    let home = Home::new(Limits::default());
    let origin = Served::start(&certs, "origin", home.port.clone(), any());
    let (connection, mut writer, mut reader) = child(&certs, &origin).await;
    let watch = Message::Watch {
        prefix: String::new(),
    };
    let watched = stream::request(&connection, &watch, priority::CONTROL).await;
    let (_watching, mut watched) = watched.unwrap();
    within(watched.next()).await.unwrap().unwrap();
    let endless = Bytes::from_static(b"\x40\x44\xbf\xff\xff\xff");
    writer.send_all(&mut [endless]).await.unwrap();
    let ended = loop {
        match within(reader.next()).await.unwrap() {
            Some(Message::Error(refusal)) => break refusal,
            Some(_) => {}
            None => panic!("no word why"),
        }
    };
    assert_eq!(ended.code, Code::Protocol);
    let again = stream::request(&connection, &watch, priority::CONTROL).await;
    let (_watching, mut again) = again.unwrap();
    within(again.next()).await.unwrap().unwrap();
    assert!(connection.close_reason().is_none());
}

/// What one room says that this edge can't read is a gap there, and the end of no other.
#[tokio::test]
async fn an_event_that_makes_no_sense_costs_itself() {
    let certs = Certs::new();
    let mut home = Home::new(Limits::default());
    let origin = Served::start(&certs, "origin", home.port.clone(), any());
    let edge = Edge::start(&certs, "edge-1", origin.address);
    let chat = start_chat(edge.upstream.clone());
    let mut ann = Client::join(&chat, "ann").await;
    let mut bob = Client::join(&chat, "bob").await;
    ann.says("PRIVMSG #demo :before").await;
    let (request, reply) = home.asked().await;
    let stamp = home.say(&request);
    reply.send((request.id, Verdict::Said(stamp)));
    bob.hears(":before").await;
    let body = Body::UserNotice(UserNotice {
        kind: UserNoticeKind::Raid { viewers: 1 },
        author: Author {
            user: request.sender.user.clone(),
            roles: Roles::default(),
        },
        system: "x".repeat(5_000),
        text: None,
    });
    let offset = Offset(home.next);
    home.next += 1;
    let stamp = Stamp { offset, ..stamp };
    home.feed.append(Event { stamp, body });
    is_heard(&mut home, "demo", &mut ann, &mut bob).await;
}

/// The 500th character may be a space: what stands behind it is not said, and the link
/// carries on.
#[tokio::test]
async fn a_line_that_is_cut_at_a_space_is_said() {
    let certs = Certs::new();
    let mut home = Home::new(Limits::default());
    let origin = Served::start(&certs, "origin", home.port.clone(), any());
    let edge = Edge::start(&certs, "edge-1", origin.address);
    let chat = start_chat(edge.upstream.clone());
    let mut ann = Client::join(&chat, "ann").await;
    let mut bob = Client::join(&chat, "bob").await;
    let kept = "a".repeat(Text::MAX_CHARS - 1);
    ann.says(&format!("PRIVMSG #demo :{kept} bbb")).await;
    home.say_next().await;
    bob.hears(&format!("PRIVMSG #demo :{kept}\r\n")).await;
}
