//! Whatever a chat client writes on a line: parsing never panics, what a line
//! splits into lies in it, and what is written from its parts is one line that
//! splits into the same.

#![no_main]

use common::chat::{
    Command, Text,
    irc::{Line, LineWriter, unescape},
    token::TokenKeys,
};
use common::live::UnixMs;
use libfuzzer_sys::fuzz_target;

const KEYS: &str = "k HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fuzz_target!(|line: &str| {
    let _ = Command::parse(line);
    if let Some(text) = Text::cut(line) {
        assert!(text.as_str().chars().count() <= Text::MAX_CHARS);
        assert_eq!(Text::cut(text.as_str()), Some(text));
    }
    let keys = TokenKeys::parse(KEYS, "chat").expect("the keys are well formed");
    assert!(keys.verify(line, UnixMs(0)).is_err());
    let Ok(parsed) = Line::parse(line) else {
        return;
    };
    // Writing adds a colon, which the longest line has no room for.
    if line.len() > 4_000 {
        return;
    }
    let mut written = String::new();
    let mut writer = LineWriter::new(&mut written);
    let tags: Vec<_> = parsed.tags.iter().map(|(key, value)| (key, unescape(value))).collect();
    for (key, value) in &tags {
        writer.tag(key, value);
    }
    let mut writer = writer.bare_command(parsed.command);
    let Some((last, middle)) = parsed.params.as_slice().split_last() else {
        return;
    };
    for param in middle {
        writer = writer.param(param);
    }
    writer.trailing(last);
    // Escapes that stand for nothing make a value shorter, never longer.
    let again = Line::parse(&written).expect("what was written is a line");
    assert_eq!(again.command, parsed.command);
    assert_eq!(again.params, parsed.params);
    let unescaped: Vec<_> = again.tags.iter().map(|(key, value)| (key, unescape(value))).collect();
    assert_eq!(unescaped, tags);
});
