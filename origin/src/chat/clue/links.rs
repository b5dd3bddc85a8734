//! Whether a text has a link in it: an address that a client would make clickable,
//! or that people would type into a browser. Rather a file name too many than an
//! advertisement too few; moderators, VIPs and who is permitted are not asked.

/// Ends of host names that advertisements use. Two-letter ones beyond these are
/// taken for addresses where a path follows, or every typo would be a link.
const TOP: &[&str] = &[
    "ai", "app", "at", "be", "biz", "br", "ca", "cc", "ch", "chat", "cloud", "club", "co", "com",
    "cz", "de", "dev", "edu", "es", "eu", "fi", "fm", "fr", "fun", "game", "games", "gg", "gl",
    "gov", "im", "in", "info", "io", "it", "jp", "ke", "kr", "life", "link", "live", "lol", "ly",
    "me", "media", "mobi", "mov", "net", "news", "nl", "no", "nu", "one", "online", "org", "pl",
    "pm", "pro", "pt", "pw", "ru", "se", "sh", "shop", "site", "social", "space", "store",
    "stream", "su", "tech", "tk", "to", "top", "tube", "tv", "uk", "us", "video", "vip", "watch",
    "website", "wiki", "work", "world", "ws", "xxx", "xyz", "zip", "zone",
];

pub(super) fn has_link(text: &str) -> bool {
    let folded = common::chat::term::folded(text);
    folded.split_whitespace().any(is_link)
}

fn is_link(word: &str) -> bool {
    // Brackets, quotes and what ends a sentence are not part of it.
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    if let Some((scheme, rest)) = word.split_once("://") {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if scheme.bytes().all(plain) && rest.starts_with(|c: char| c.is_alphanumeric() || c == '[')
        {
            return true;
        }
    }
    let host_ends = word.find([
        '/', '?', '#', ':', ',', ';', '!', ')', ']', '>', '"', '\'', '*',
    ]);
    let (host, rest) = word.split_at(host_ends.unwrap_or(word.len()));
    // Before an @ is who, not where.
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    is_address(host.trim_end_matches('.'), rest)
}

fn is_address(host: &str, rest: &str) -> bool {
    let Some((before, top)) = host.rsplit_once('.') else {
        return false;
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    if !before.split('.').all(label) {
        return false;
    }
    if before == "www" || before.starts_with("www.") {
        return label(top);
    }
    if top.bytes().all(|b| b.is_ascii_digit()) {
        let numbers: Vec<_> = host.split('.').map(str::parse::<u8>).collect();
        return numbers.len() == 4 && numbers.iter().all(Result::is_ok);
    }
    let path = rest.starts_with('/') && rest.len() > 1 && top.len() >= 2;
    TOP.binary_search(&top).is_ok() || path && top.chars().all(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_links() {
        for text in [
            "https://example.com",
            "see HTTP://x/y now",
            "steam://run/1",
            "www.example.museum",
            "example.com",
            "(Example.COM)",
            "go to example.co.uk/path?x#y!",
            "discord.gg/abc",
            "me@example.org",
            "10.0.0.1:8080",
            "ｅｘａｍｐｌｅ．ｃｏｍ",
            "exa\u{200b}mple.com",
            "bücher.de",
            "foo.museum/x",
            "1.example.com.",
        ] {
            assert!(has_link(text), "{text}");
        }
    }

    #[test]
    fn sentences_are_not() {
        for text in [
            "hello",
            "wait...what",
            "e.g. this, i.e. that",
            "3.14 or 1.2.3",
            "1.2.3.400",
            "no.Really",
            "a/b and/or c",
            "://",
            "http://",
            "@ann",
            ".com",
            "com.",
            "10:30",
            "gg.wp",
            "-.net-",
            "/ban",
        ] {
            assert!(!has_link(text), "{text}");
        }
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(TOP.is_sorted());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(?s).{0,60}", dotted in "[a-z./:@*]{0,30}") {
            let _ = (has_link(&text), has_link(&dotted));
        }
    }
}
