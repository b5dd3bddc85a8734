//! Who is in a room, as JSON. Pure. What is on is `common`'s to tell.

use common::{
    chat::{Counts, Login, Present},
    names::ChannelName,
};
use serde::Serialize;

#[derive(Serialize)]
struct Chatters<'a> {
    channel: &'a str,
    viewers: u32,
    readers: u32,
    chatters: u32,
    /// Missing where the room does not tell names, or has too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<Vec<&'a str>>,
    /// Where the next page begins; missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

/// A page of `/api/v1/channels/{name}/chatters`: the names after `after`.
#[must_use]
pub fn chatters(
    channel: &ChannelName,
    present: &Present,
    after: Option<&str>,
    most: usize,
) -> Vec<u8> {
    let names = present.names.as_deref().map(|names| {
        let from = |after: &str| names.partition_point(|name| name.as_str() <= after);
        let rest = names.get(after.map_or(0, from)..).unwrap_or_default();
        (rest.len() > most, rest.iter().take(most))
    });
    let more = names.as_ref().is_some_and(|(more, _)| *more);
    let names: Option<Vec<_>> = names.map(|(_, names)| names.map(Login::as_str).collect());
    let last = names.as_ref().and_then(|names| names.last().copied());
    let Counts {
        readers,
        chatters,
        viewers,
    } = present.counts;
    let page = Chatters {
        channel: channel.as_str(),
        viewers,
        readers,
        chatters,
        names,
        next: last.filter(|_| more),
    };
    serde_json::to_vec(&page).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatters_come_in_pages() {
        let channel = ChannelName::parse("demo").unwrap();
        let names = ["ann", "bob", "cat"].map(|name| Login::parse(name).unwrap());
        let present = Present {
            counts: Counts {
                readers: 5,
                chatters: 3,
                viewers: 9,
            },
            names: Some(names.into()),
        };
        let page = |present: &Present, after, most| {
            String::from_utf8(chatters(&channel, present, after, most)).unwrap()
        };
        let counts = r#"{"channel":"demo","viewers":9,"readers":5,"chatters":3"#;
        for (after, most, expected) in [
            (None, 2, r#","names":["ann","bob"],"next":"bob"}"#),
            (Some("bob"), 2, r#","names":["cat"]}"#),
            (Some("azure"), 1, r#","names":["bob"],"next":"bob"}"#),
            (Some("dog"), 2, r#","names":[]}"#),
        ] {
            let expected = format!("{counts}{expected}");
            assert_eq!(page(&present, after, most), expected, "{after:?}");
        }
        let hidden = Present {
            names: None,
            ..present
        };
        assert_eq!(page(&hidden, None, 2), format!("{counts}}}"));
    }
}
