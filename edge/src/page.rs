//! The viewer's page: the assets that `build.rs` embeds, looked up by path.
//!
//! In: the path of a request. Out: a static asset with all that its answer
//! needs, gzip included. Nothing here is made at run time. Built without the
//! bundle, the same paths answer with a page that plays through the browser's
//! own HLS or names the command that builds the bundle.

/// One file of the page. The body and its gzipped form are different
/// representations and so carry different strong entity tags.
#[derive(Debug)]
pub struct Asset {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The file as it is.
    pub body: &'static [u8],
    /// The file gzipped, where that makes it smaller.
    pub gzip: Option<&'static [u8]>,
    /// `ETag` of `body`, quotes included.
    pub etag: &'static str,
    /// `ETag` of `gzip`, quotes included.
    pub gzip_etag: &'static str,
    /// `Cache-Control`: for ever where the name holds a hash, else revalidated.
    pub cache_control: &'static str,
    /// `Content-Security-Policy`. The worker of the player obeys that of its
    /// own answer, therefore every asset has one.
    pub csp: &'static str,
}

/// Further headers of every asset.
pub const HEADERS: [(&str, &str); 3] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Media Source needs `blob:` for the element's address; nothing is inline, and
/// the worker is a file of its own.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    media-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// The development sign-in page, which not every edge has.
pub const SIGN_IN: &str = "/sign-in";

/// The streamer's page: where to publish.
pub const GO_LIVE: &str = "/go-live";

/// The policy of a page that may also show images of other origins, and read from
/// and chat at other edges: URLs without a path. Each is checked where it comes in.
#[must_use]
pub fn policy<'a>(images: impl Iterator<Item = &'a str>, edges: &[String]) -> String {
    let images: String = images.map(|origin| format!(" {origin}")).collect();
    let media: String = edges.iter().map(|edge| format!(" {edge}")).collect();
    // `http` to `ws`, and so `https` to `wss`.
    let sockets = edges.iter().filter_map(|edge| edge.strip_prefix("http"));
    let sockets: String = sockets.map(|rest| format!(" ws{rest}")).collect();
    CSP.replace("img-src 'self'", &format!("img-src 'self'{images}"))
        .replace("blob:", &format!("blob:{media}"))
        .replace(
            "connect-src 'self'",
            &format!("connect-src 'self'{media}{sockets}"),
        )
}

/// The longest channel name.
const CHANNEL_BYTES: usize = 32;

include!(concat!(env!("OUT_DIR"), "/page_assets.rs"));

/// Whether hls.js is on board; without it, `deploy/web` has not run before the
/// build.
#[must_use]
pub const fn has_bundle() -> bool {
    HAS_BUNDLE
}

/// The asset of a path. `/` is the list of channels, `/go-live` the streamer's page and `/watch/{channel}` the
/// player, for every name that a channel may have, live or not.
#[must_use]
pub fn lookup(path: &str) -> Option<&'static Asset> {
    let file = match path {
        "/" => "/index.html",
        SIGN_IN => "/sign-in.html",
        GO_LIVE => "/go-live.html",
        "/index.html" | "/watch.html" | "/sign-in.html" | "/go-live.html" => return None,
        _ => match path.strip_prefix("/watch/") {
            Some(channel) if is_channel(channel) => "/watch.html",
            Some(_) => return None,
            None => path,
        },
    };
    let index = ASSETS
        .binary_search_by(|(name, _)| (*name).cmp(file))
        .ok()?;
    ASSETS.get(index).map(|(_, asset)| asset)
}

fn is_channel(name: &str) -> bool {
    (1..=CHANNEL_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Read;

    use super::*;

    /// The fallback has neither a sign-in page nor a streamer's.
    fn pages() -> impl Iterator<Item = (&'static str, &'static Asset)> {
        let all = ["/", "/watch/demo", SIGN_IN, GO_LIVE].into_iter();
        all.filter(|path| ![SIGN_IN, GO_LIVE].contains(path) || has_bundle())
            .map(|path| (path, lookup(path).unwrap()))
    }

    fn text(asset: &Asset) -> &str {
        std::str::from_utf8(asset.body).unwrap()
    }

    #[test]
    fn pages_have_their_paths() {
        let home = lookup("/").unwrap();
        let watch = lookup("/watch/demo").unwrap();
        for page in [home, watch] {
            assert_eq!(page.content_type, "text/html; charset=utf-8");
            assert_eq!(page.cache_control, "no-cache");
        }
        assert!(text(watch).contains("<video"));
        assert!(std::ptr::eq(
            watch,
            lookup(&format!("/watch/{}", "a".repeat(32))).unwrap()
        ));
    }

    #[test]
    fn strange_paths_have_no_asset() {
        let long = format!("/watch/{}", "a".repeat(33));
        for path in [
            "",
            "/watch",
            "/watch/",
            "/watch/Demo",
            "/watch/demo/",
            "/watch/../x",
            "/watch/a%2e",
            "/index.html",
            "/watch.html",
            "/sign-in.html",
            "/sign-in/",
            "/go-live.html",
            "/go-live/",
            "/assets",
            "/assets/",
            "/assets/../index.html",
            "//",
            &long,
        ] {
            assert!(lookup(path).is_none(), "{path}");
        }
    }

    #[test]
    fn what_a_page_names_is_embedded() {
        for (path, page) in pages() {
            let html = text(page);
            let named: Vec<&str> = html
                .split(['"', '\''])
                .filter(|part| part.starts_with("/assets/") || part.starts_with("/fallback/"))
                .collect();
            assert!(named.len() >= 2, "{path} names {named:?}");
            for name in named {
                assert!(lookup(name).is_some(), "{path} names {name}");
            }
        }
    }

    #[test]
    fn a_policy_is_widened_by_what_is_configured_and_no_further() {
        assert_eq!(policy([].into_iter(), &[]), CSP);
        let edges = ["https://e2.example.net".to_owned()];
        let wider = policy(["https://cdn.example.net"].into_iter(), &edges);
        let directives: Vec<_> = wider.split("; ").collect();
        for one in [
            "script-src 'self'",
            "img-src 'self' https://cdn.example.net",
            "media-src 'self' blob: https://e2.example.net",
            "connect-src 'self' https://e2.example.net wss://e2.example.net",
            "worker-src 'self'",
        ] {
            assert!(directives.contains(&one), "{one}: {wider}");
        }
    }

    // The policy forbids what is inline; a page that has it would be broken.
    #[test]
    fn pages_have_nothing_inline() {
        for (path, page) in pages() {
            let html = text(page);
            for forbidden in ["style=", "onclick=", "onload=", "<style", "javascript:"] {
                assert!(!html.contains(forbidden), "{path} has {forbidden}");
            }
            assert_eq!(
                html.matches("<script").count(),
                html.matches("<script type=\"module\" src=").count()
            );
        }
    }

    #[test]
    fn gzip_holds_the_same_bytes() {
        for (name, asset) in ASSETS {
            let Some(gzip) = asset.gzip else { continue };
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(gzip)
                .read_to_end(&mut unpacked)
                .unwrap();
            assert!(unpacked == asset.body, "{name}");
            assert!(gzip.len() < asset.body.len(), "{name}");
        }
    }

    #[test]
    fn entity_tags_are_strong_and_distinct() {
        let mut seen = HashSet::new();
        for (name, asset) in ASSETS {
            for tag in [asset.etag, asset.gzip_etag] {
                assert!(
                    tag.len() >= 34 && tag.starts_with('"') && tag.ends_with('"'),
                    "{name} {tag}"
                );
                assert!(seen.insert(tag), "{name} {tag}");
            }
        }
    }

    #[test]
    fn only_hashed_names_are_kept_for_ever() {
        for (name, asset) in ASSETS {
            assert_eq!(
                asset.cache_control.contains("immutable"),
                name.starts_with("/assets/"),
                "{name}"
            );
        }
        assert_eq!(
            has_bundle(),
            ASSETS
                .iter()
                .any(|(name, _)| name.starts_with("/assets/watch-"))
        );
    }

    #[test]
    fn the_page_says_which_player_it_has() {
        let html = text(lookup("/watch/demo").unwrap());
        assert_eq!(
            html.contains("name=\"millrace-bundle\" content=\"hls.js 1."),
            has_bundle()
        );
    }
}
