use proptest::prelude::*;

use super::*;

/// What a line splits into: tags, prefix, command, parameters.
type Split<'a> = (
    &'a [(&'a str, &'a str)],
    Option<&'a str>,
    &'a str,
    &'a [&'a str],
);

/// Lines with odd spaces, colons, tags and escapes: the cases that the public
/// parser suites agree upon, written down as a table of our own.
const SPLITS: &[(&str, Split<'_>)] = &[
    (
        "foo bar baz asdf",
        (&[], None, "foo", &["bar", "baz", "asdf"]),
    ),
    (":coolguy foo bar", (&[], Some("coolguy"), "foo", &["bar"])),
    (
        "foo bar baz :asdf quux",
        (&[], None, "foo", &["bar", "baz", "asdf quux"]),
    ),
    ("foo bar baz :", (&[], None, "foo", &["bar", "baz", ""])),
    (
        "foo bar baz ::asdf",
        (&[], None, "foo", &["bar", "baz", ":asdf"]),
    ),
    (
        ":src foo bar baz :  asdf quux ",
        (&[], Some("src"), "foo", &["bar", "baz", "  asdf quux "]),
    ),
    (
        ":src PRIVMSG bar :lol :) ",
        (&[], Some("src"), "PRIVMSG", &["bar", "lol :) "]),
    ),
    (
        ":src foo  bar baz",
        (&[], Some("src"), "foo", &["bar", "baz"]),
    ),
    (
        ":src foo bar  :asdf",
        (&[], Some("src"), "foo", &["bar", "asdf"]),
    ),
    (":src AWAY", (&[], Some("src"), "AWAY", &[])),
    (":src AWAY ", (&[], Some("src"), "AWAY", &[])),
    (
        ":cool\tguy foo bar baz",
        (&[], Some("cool\tguy"), "foo", &["bar", "baz"]),
    ),
    (
        ":a!b@c\u{3}05d PRIVMSG x :y\u{2}z",
        (&[], Some("a!b@c\u{3}05d"), "PRIVMSG", &["x", "y\u{2}z"]),
    ),
    (
        ":srv 432  #momo :Bad: nick",
        (&[], Some("srv"), "432", &["#momo", "Bad: nick"]),
    ),
    (
        ":srv MODE #tckk +n ",
        (&[], Some("srv"), "MODE", &["#tckk", "+n"]),
    ),
    (
        ":srv MODE #a +o b  ",
        (&[], Some("srv"), "MODE", &["#a", "+o", "b"]),
    ),
    ("COMMAND :", (&[], None, "COMMAND", &[""])),
    (
        "@a=b;c=32;k;rt=ql7 foo",
        (
            &[("a", "b"), ("c", "32"), ("k", ""), ("rt", "ql7")],
            None,
            "foo",
            &[],
        ),
    ),
    (
        "@a=b\\\\and\\nk;c=72\\s45;d=gh\\:764 foo",
        (
            &[("a", "b\\and\nk"), ("c", "72 45"), ("d", "gh;764")],
            None,
            "foo",
            &[],
        ),
    ),
    (
        "@c;h=;a=b :quux ab cd",
        (
            &[("c", ""), ("h", ""), ("a", "b")],
            Some("quux"),
            "ab",
            &["cd"],
        ),
    ),
    (
        "@tag=val\\b\\ COMMAND",
        (&[("tag", "valb")], None, "COMMAND", &[]),
    ),
    (
        "@tag1=\\\\\\:\\s\\r\\n x",
        (&[("tag1", "\\; \r\n")], None, "x", &[]),
    ),
    ("@a=1=2 x", (&[("a", "1=2")], None, "x", &[])),
    ("@+v/x=1 x y", (&[("+v/x", "1")], None, "x", &["y"])),
];

#[test]
fn lines_split_as_everybody_splits_them() {
    for (line, (tags, prefix, command, params)) in SPLITS {
        let parsed = Line::parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let found: Vec<_> = parsed
            .tags
            .iter()
            .map(|(key, value)| (key, unescape(value)))
            .collect();
        let found: Vec<_> = found
            .iter()
            .map(|(key, value)| (*key, value.as_ref()))
            .collect();
        assert_eq!(found, *tags, "{line}");
        assert_eq!(parsed.prefix, *prefix, "{line}");
        assert_eq!(parsed.command, *command, "{line}");
        assert_eq!(parsed.params.as_slice(), *params, "{line}");
    }
}

#[test]
fn of_a_tag_that_comes_twice_the_last_counts() {
    let line = Line::parse("@a=1;b=2;a=3 x").unwrap();
    assert_eq!(line.tags.get("a").unwrap(), "3");
    assert_eq!(line.tags.get("c"), None);
}

#[test]
fn what_is_no_line_is_refused() {
    for (line, error) in [
        ("", LineError::Command),
        (" ", LineError::Command),
        ("@a=b", LineError::Command),
        ("@a=b ", LineError::Command),
        (":src", LineError::Command),
        (":src ", LineError::Command),
        ("föö bar", LineError::Command),
        ("PRIV\0MSG", LineError::Control),
        ("PRIVMSG #a :x\rQUIT", LineError::Control),
        ("PRIVMSG #a :x\nQUIT", LineError::Control),
    ] {
        assert_eq!(Line::parse(line), Err(error), "{line:?}");
    }
    let long = format!("PASS {}", "x".repeat(MAX_REST_BYTES - 5));
    assert!(Line::parse(&long).is_ok());
    assert_eq!(Line::parse(&format!("{long}x")), Err(LineError::Length));
    let tags = format!("@{} x", "t".repeat(MAX_TAGS_BYTES - 2));
    assert!(Line::parse(&tags).is_ok());
    assert_eq!(
        Line::parse(&tags.replacen('@', "@t", 1)),
        Err(LineError::Tags)
    );
}

#[test]
fn the_fifteenth_parameter_is_the_last() {
    let line = (1..=20)
        .map(|n| n.to_string())
        .collect::<Vec<_>>()
        .join(" ");
    let line = format!("x {line}");
    let parsed = Line::parse(&line).unwrap();
    assert_eq!(parsed.params.as_slice().len(), 15);
    assert_eq!(parsed.params.get(14), Some("15 16 17 18 19 20"));
    assert_eq!(parsed.params.get(15), None);
}

fn written(tags: &[(String, String)], prefix: &str, params: &[String], last: &str) -> String {
    let mut out = String::new();
    let mut line = LineWriter::new(&mut out);
    for (key, value) in tags {
        line.tag(key, value);
    }
    let mut line = line.command(prefix, "PRIVMSG");
    for param in params {
        line = line.param(param);
    }
    line.trailing(last);
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        tags in prop::collection::vec(("[a-z]{1,5}", "[^\0]{0,20}"), 0..5),
        params in prop::collection::vec("[^ \0\r\n:][^ \0\r\n]{0,9}", 0..5),
        last in "[^\0\r\n]{0,60}",
    ) {
        let line = written(&tags, "a!a@a.tmi", &params, &last);
        let parsed = Line::parse(&line).unwrap();
        let found: Vec<_> = parsed
            .tags
            .iter()
            .map(|(key, value)| (key.to_owned(), unescape(value).into_owned()))
            .collect();
        prop_assert_eq!(found, tags);
        prop_assert_eq!(parsed.prefix, Some("a!a@a.tmi"));
        let (end, middle) = parsed.params.as_slice().split_last().unwrap();
        prop_assert_eq!(*end, last);
        prop_assert_eq!(middle, params);
    }

    /// Whatever somebody calls themselves or writes: one line, in its place.
    #[test]
    fn nothing_leaves_its_place(
        value in "(?s).{0,30}",
        param in "(?s).{0,30}",
        last in "(?s).{0,30}",
    ) {
        let line = written(
            &[("k".to_owned(), value.clone())],
            "a",
            std::slice::from_ref(&param),
            &last,
        );
        let parsed = Line::parse(&line).unwrap();
        prop_assert_eq!(parsed.command, "PRIVMSG");
        prop_assert_eq!(parsed.params.as_slice().len(), 2);
        prop_assert_eq!(parsed.tags.iter().count(), 1);
        prop_assert_eq!(parsed.tags.get("k").unwrap(), value.replace('\0', ""));
    }

    #[test]
    fn no_line_panics(line in "(?s)[@:]?.{0,80}") {
        if let Ok(parsed) = Line::parse(&line) {
            for (_, value) in parsed.tags.iter() {
                let _ = unescape(value);
            }
        }
    }
}
