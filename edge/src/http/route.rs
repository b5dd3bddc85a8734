//! What a request asks for, by hand from the bytes of its path and query. One
//! resource has exactly one path: no escapes, no leading zeros, no `//`.
//! Nothing here allocates and nothing here fails otherwise than by `None`.

use common::{
    api::OPENAPI_PATH,
    names::{Epoch, InitId, Msn, TrackName},
};

use crate::playlist::{Skip, Want};

/// A path that names something, or might.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/live/{channel}/index.m3u8`
    Multivariant { channel: &'a str },
    /// `/live/{channel}/manifest.mpd`
    Manifest { channel: &'a str },
    /// `/live/{channel}/{track}/stream.mp4`
    Stream { channel: &'a str, track: TrackName },
    /// `/live/{channel}/{track}.m3u8`
    Media { channel: &'a str, track: TrackName },
    /// `/live/{channel}/{epoch}/{track}/...`
    Resource {
        channel: &'a str,
        epoch: Epoch,
        track: TrackName,
        resource: Resource,
    },
    /// `/api/v1/channels`
    Channels,
    /// `/api/v1/channels/{channel}`
    Channel { channel: &'a str },
    /// `/api/v1/channels/{channel}/chatters`
    Chatters { channel: &'a str },
    /// `/api/v1/alternatives`
    Alternatives,
    /// `/api/v1/chat`
    Chat,
    /// `/api/v1/chat/token`
    ChatToken,
    /// `/api/v1/time`
    Time,
    /// `/ingests`
    Ingests,
    /// `/api/v1/openapi.json`
    OpenApi,
    /// Perhaps a file of the watch page.
    Other { path: &'a str },
}

/// Media behind an immutable path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `{msn}.{part}.m4s`
    Part { msn: Msn, part: u32 },
    /// `{msn}.m4s`
    Segment { msn: Msn },
    /// `init-{n}.mp4`
    Init { id: InitId },
}

impl<'a> Route<'a> {
    #[must_use]
    pub fn parse(path: &'a str) -> Self {
        let found = match path.strip_prefix("/live/") {
            Some(rest) => live(rest),
            None if path == "/api/v1/channels" => Some(Self::Channels),
            None if path == "/api/v1/alternatives" => Some(Self::Alternatives),
            None if path == "/api/v1/chat" => Some(Self::Chat),
            None if path == "/api/v1/chat/token" => Some(Self::ChatToken),
            None if path == crate::dash::TIME_PATH => Some(Self::Time),
            None if path == OPENAPI_PATH => Some(Self::OpenApi),
            None if path == "/ingests" => Some(Self::Ingests),
            None => path.strip_prefix("/api/v1/channels/").and_then(channel),
        };
        found.unwrap_or(Self::Other { path })
    }
}

/// A viewer's token, where one stands before the path, and the path that it
/// stands before: `/s/{token}/live/...`. It is no part of any cache's key.
#[must_use]
pub fn signed(path: &str) -> (Option<&str>, &str) {
    let split = path.strip_prefix("/s/").and_then(|rest| {
        let at = rest.find('/')?;
        Some(rest.split_at(at))
    });
    match split {
        Some((token, rest)) if rest.starts_with("/live/") => (Some(token), rest),
        _ => (None, path),
    }
}

/// A viewer's token in a query.
#[must_use]
pub fn query_token(query: Option<&str>) -> Option<&str> {
    let mut pairs = query.unwrap_or_default().split('&');
    pairs.find_map(|pair| pair.strip_prefix("token="))
}

fn channel(rest: &str) -> Option<Route<'_>> {
    match split(rest, b'/') {
        Some((channel, "chatters")) => Some(Route::Chatters { channel }),
        None if !rest.is_empty() => Some(Route::Channel { channel: rest }),
        _ => None,
    }
}

fn live(rest: &str) -> Option<Route<'_>> {
    let (channel, rest) = split(rest, b'/')?;
    if rest == "index.m3u8" {
        return Some(Route::Multivariant { channel });
    }
    if rest == "manifest.mpd" {
        return Some(Route::Manifest { channel });
    }
    if let Some(track) = rest.strip_suffix("/stream.mp4")
        && !track.contains('/')
    {
        let track = TrackName::parse(track).ok()?;
        return Some(Route::Stream { channel, track });
    }
    let Some((epoch, rest)) = split(rest, b'/') else {
        let track = TrackName::parse(rest.strip_suffix(".m3u8")?).ok()?;
        return Some(Route::Media { channel, track });
    };
    let epoch = Epoch(number(epoch)?);
    let (track, file) = split(rest, b'/')?;
    let track = TrackName::parse(track).ok()?;
    let resource = resource(file)?;
    Some(Route::Resource {
        channel,
        epoch,
        track,
        resource,
    })
}

fn resource(file: &str) -> Option<Resource> {
    if let Some(id) = file.strip_prefix("init-") {
        let id = number(id.strip_suffix(".mp4")?)?;
        let id = InitId(u32::try_from(id).ok()?);
        return Some(Resource::Init { id });
    }
    let numbers = file.strip_suffix(".m4s")?;
    match split(numbers, b'.') {
        Some((msn, part)) => {
            let part = u32::try_from(number(part)?).ok()?;
            let msn = Msn(number(msn)?);
            Some(Resource::Part { msn, part })
        }
        None => {
            let msn = Msn(number(numbers)?);
            Some(Resource::Segment { msn })
        }
    }
}

/// `split_once`, which for texts as short as these costs more in setting out
/// than in searching.
fn split(text: &str, at: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|b| b == at)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Digits as Rust would print them, below 2^64.
fn number(digits: &str) -> Option<u64> {
    let canonical = digits == "0" || !digits.starts_with('0');
    canonical.then(|| integer(digits)).flatten()
}

/// One or more digits and nothing else, below 2^64.
fn integer(digits: &str) -> Option<u64> {
    // With so many at most there is nothing to overflow; more are rare.
    if digits.len() > 19 || digits.is_empty() {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        return plain.then(|| digits.parse().ok()).flatten();
    }
    let mut number = 0_u64;
    for b in digits.bytes() {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.wrapping_mul(10).wrapping_add(digit.into());
    }
    Some(number)
}

/// The delivery directives of a playlist request. Every other parameter is
/// ignored and is no part of any cache's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directives<'a> {
    pub want: Option<Want>,
    pub skip: Skip,
    /// The page's own id, which tells two viewers behind one address apart.
    pub viewer: Option<&'a str>,
}

/// R2: a directive that is unparsable, negative, repeated, or `_HLS_part` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadDirective;

impl<'a> Directives<'a> {
    /// # Errors
    /// [`BadDirective`], which answers 400.
    pub fn parse(query: Option<&'a str>) -> Result<Self, BadDirective> {
        let (mut msn, mut part, mut skip) = (None, None, Skip::No);
        let mut viewer = None;
        let mut left = query.unwrap_or_default();
        while !left.is_empty() {
            let (pair, after) = split(left, b'&').unwrap_or((left, ""));
            left = after;
            let (key, value) = split(pair, b'=').unwrap_or((pair, ""));
            match key {
                "_HLS_msn" => once(&mut msn, value)?,
                "_HLS_part" => once(&mut part, value)?,
                "_HLS_skip" if matches!(value, "YES" | "v2") => skip = Skip::Yes,
                "viewer" if value.len() <= 64 => viewer = Some(value),
                _ => {}
            }
        }
        let want = match (msn, part) {
            (None, Some(_)) => return Err(BadDirective),
            (None, None) => None,
            // A part that no index can have is beyond every limit all the same.
            (Some(msn), part) => Some(Want {
                msn: Msn(msn),
                part: part.map(|part| u32::try_from(part).unwrap_or(u32::MAX)),
            }),
        };
        Ok(Self { want, skip, viewer })
    }
}

fn once(place: &mut Option<u64>, value: &str) -> Result<(), BadDirective> {
    let value = integer(value).ok_or(BadDirective)?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadDirective),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(msn: u64, part: Option<u32>) -> Option<Want> {
        let msn = Msn(msn);
        Some(Want { msn, part })
    }

    #[test]
    fn every_kind_of_path_is_known() {
        let (channel, epoch, track) = ("demo", Epoch(7), TrackName::video(0));
        let resource = |resource| Route::Resource {
            channel,
            epoch,
            track,
            resource,
        };
        let msn = Msn(41);
        for (path, route) in [
            ("/live/demo/index.m3u8", Route::Multivariant { channel }),
            ("/live/demo/v0.m3u8", Route::Media { channel, track }),
            ("/live/demo/manifest.mpd", Route::Manifest { channel }),
            ("/live/demo/v0/stream.mp4", Route::Stream { channel, track }),
            ("/api/v1/time", Route::Time),
            (
                "/live/demo/7/v0/41.3.m4s",
                resource(Resource::Part { msn, part: 3 }),
            ),
            (
                "/live/demo/7/v0/41.m4s",
                resource(Resource::Segment { msn }),
            ),
            (
                "/live/demo/7/v0/init-2.mp4",
                resource(Resource::Init { id: InitId(2) }),
            ),
            ("/api/v1/channels", Route::Channels),
            (
                "/api/v1/channels/demo/chatters",
                Route::Chatters { channel },
            ),
            ("/api/v1/channels/demo", Route::Channel { channel }),
            ("/api/v1/openapi.json", Route::OpenApi),
            ("/api/v1/alternatives", Route::Alternatives),
            ("/api/v1/chat", Route::Chat),
            ("/api/v1/chat/token", Route::ChatToken),
            ("/", Route::Other { path: "/" }),
        ] {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }

    #[test]
    fn one_resource_has_one_path() {
        for path in [
            "/live//index.m3u8x",
            "/live/demo/7/v0/041.m4s",
            "/live/demo/07/v0/41.m4s",
            "/live/demo/7/v00/41.m4s",
            "/live/demo/7/v0/41.03.m4s",
            "/live/demo/7/v0/41.3.4.m4s",
            "/live/demo/7/v0/+41.m4s",
            "/live/demo/7/v0/-1.m4s",
            "/live/demo/7/v0/.m4s",
            "/live/demo/7/v0/..m4s",
            "/live/demo/7/v0/41.m4s/",
            "/live/demo/7/v0/init-.mp4",
            "/live/demo/7/v0/init-4294967296.mp4",
            "/live/demo/7/v0/18446744073709551616.m4s",
            "/live/demo/7//v0/41.m4s",
            "/live/demo/../demo/v0.m3u8",
            "/live/demo/%76%30.m3u8",
            "/LIVE/demo/v0.m3u8",
            "/api/v1/channels/",
            "/api/v1/channels/demo/",
            "/api/v1/channels/demo/chatters/",
            "/api/v1/channels/demo/x",
            "/api/v1/time/",
            "/api/v1/chat/",
            "/live/demo/manifest.mpd/",
            "/live/demo/v00/stream.mp4",
            "/live/demo/v0//stream.mp4",
            "/live/demo/7/v0/stream.mp4",
            "/live/demo/stream.mp4",
        ] {
            assert_eq!(Route::parse(path), Route::Other { path }, "{path}");
        }
    }

    #[test]
    fn a_token_stands_before_the_path_or_in_the_query() {
        for (path, token, rest) in [
            (
                "/s/a.b.c/live/demo/v0.m3u8",
                Some("a.b.c"),
                "/live/demo/v0.m3u8",
            ),
            ("/s//live/demo/v0.m3u8", Some(""), "/live/demo/v0.m3u8"),
            (
                "/s/a/s/b/live/demo/v0.m3u8",
                None,
                "/s/a/s/b/live/demo/v0.m3u8",
            ),
            ("/s/a/api/v1/channels", None, "/s/a/api/v1/channels"),
            ("/s/a", None, "/s/a"),
            ("/live/demo/v0.m3u8", None, "/live/demo/v0.m3u8"),
        ] {
            assert_eq!(signed(path), (token, rest), "{path}");
        }
        for (query, token) in [
            ("token=a.b.c", Some("a.b.c")),
            ("viewer=x&token=a.b.c&y", Some("a.b.c")),
            ("Token=a", None),
            ("xtoken=a", None),
            ("", None),
        ] {
            assert_eq!(query_token(Some(query)), token, "{query}");
        }
    }

    #[test]
    fn r2_directives() {
        let directives = |query| Directives::parse(Some(query));
        for (query, expected) in [
            ("", None),
            ("_HLS_msn=5", want(5, None)),
            ("_HLS_msn=05", want(5, None)),
            ("_HLS_part=2&_HLS_msn=5", want(5, Some(2))),
            ("_HLS_msn=5&_HLS_part=99999999999", want(5, Some(u32::MAX))),
            ("a=b&&=&_HLS_msn=5&_HLS_x=1", want(5, None)),
            ("_hls_msn=5", None),
            ("%5fHLS_msn=5", None),
        ] {
            assert_eq!(directives(query).unwrap().want, expected, "{query}");
        }
        for query in [
            "_HLS_part=2",
            "_HLS_msn",
            "_HLS_msn=",
            "_HLS_msn=-1",
            "_HLS_msn=+1",
            "_HLS_msn=1.5",
            "_HLS_msn= 1",
            "_HLS_msn=1%20",
            "_HLS_msn=18446744073709551616",
            "_HLS_msn=1&_HLS_msn=1",
            "_HLS_msn=1&_HLS_part=x",
        ] {
            assert_eq!(directives(query), Err(BadDirective), "{query}");
        }
    }

    #[test]
    fn r5_skip_is_asked_for_by_its_two_names() {
        for (query, skip) in [
            ("_HLS_skip=YES", Skip::Yes),
            ("_HLS_skip=v2", Skip::Yes),
            ("_HLS_skip=no", Skip::No),
            ("_HLS_skip", Skip::No),
        ] {
            let parsed = Directives::parse(Some(query)).unwrap();
            assert_eq!(parsed.skip, skip, "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_a_stranger_sends_panics(path in ".{0,60}", query in "[_HLSmsnpartki=&0-9+-]{0,60}") {
            let _ = Route::parse(&path);
            let _ = Route::parse(&format!("/live/{path}"));
            let _ = signed(&format!("/s/{path}"));
            let _ = query_token(Some(&path));
            let _ = Route::parse(&format!("/live/a/1/v0/{path}"));
            let _ = Directives::parse(Some(&path));
            let _ = Directives::parse(Some(&query));
        }
    }
}
