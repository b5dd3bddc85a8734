//! Paths and queries of strangers: whatever they are, parsing neither panics
//! nor takes one resource for another.
#![no_main]

use edge::http::route::{Directives, Resource, Route};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|target: &str| {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let printed = match Route::parse(path) {
        Route::Multivariant { channel } => format!("/live/{channel}/index.m3u8"),
        Route::Media { channel, track } => format!("/live/{channel}/{track}.m3u8"),
        Route::Resource {
            channel,
            epoch,
            track,
            resource,
        } => {
            let file = match resource {
                Resource::Part { msn, part } => format!("{msn}.{part}.m4s"),
                Resource::Segment { msn } => format!("{msn}.m4s"),
                Resource::Init { id } => format!("init-{id}.mp4"),
            };
            format!("/live/{channel}/{epoch}/{track}/{file}")
        }
        Route::Manifest { channel } => format!("/live/{channel}/manifest.mpd"),
        Route::Stream { channel, track } => format!("/live/{channel}/{track}/stream.mp4"),
        Route::Channels => "/api/v1/channels".to_owned(),
        Route::Channel { channel } => format!("/api/v1/channels/{channel}"),
        Route::Chatters { channel } => format!("/api/v1/channels/{channel}/chatters"),
        Route::Alternatives => "/api/v1/alternatives".to_owned(),
        Route::Chat => "/api/v1/chat".to_owned(),
        Route::ChatToken => "/api/v1/chat/token".to_owned(),
        Route::Time => "/api/v1/time".to_owned(),
        Route::OpenApi => "/api/v1/openapi.json".to_owned(),
        Route::Ingests => "/ingests".to_owned(),
        Route::Other { path } => {
            let _ = edge::page::lookup(path);
            path.to_owned()
        }
    };
    // One resource has one path.
    assert_eq!(printed, path);
    let _ = Directives::parse(query);
});
