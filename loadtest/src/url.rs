//! Just enough of URLs for a viewer: where to connect, what to ask for, and
//! how a URI in a playlist resolves against the playlist's own (RFC 3986 5.2).

use std::fmt;

use anyhow::{Result, bail};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Path and query, starting with `/`.
    pub path: String,
}

impl Url {
    /// # Errors
    /// A line that names the URL and a valid example.
    pub fn parse(text: &str) -> Result<Self> {
        let uri: http::Uri = match text.parse() {
            Ok(uri) => uri,
            Err(error) => bail!("`{text}` isn't a URL ({error}); {EXAMPLE}"),
        };
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("`{text}` isn't an http or https URL; {EXAMPLE}"),
        };
        let Some(host) = uri.host().filter(|host| !host.is_empty()) else {
            bail!("`{text}` names no host; {EXAMPLE}");
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: path.to_owned(),
        })
    }

    /// What `reference`, as written in the document at this URL, points at.
    ///
    /// # Errors
    /// If the reference is absolute and not a URL.
    pub fn join(&self, reference: &str) -> Result<Self> {
        if reference.contains("://") {
            return Self::parse(reference);
        }
        let plain = self.path.split(['?', '#']).next().unwrap_or("/");
        let path = if reference.starts_with('/') {
            reference.to_owned()
        } else {
            let folder = plain.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{reference}")
        };
        Ok(Self {
            path: without_dots(&path),
            ..self.clone()
        })
    }

    /// This URL with `query` (without `?`) added to what it has.
    #[must_use]
    pub fn with_query(&self, query: &str) -> Self {
        let mark = if self.path.contains('?') { '&' } else { '?' };
        let path = if query.is_empty() {
            self.path.clone()
        } else {
            format!("{}{mark}{query}", self.path)
        };
        Self {
            path,
            ..self.clone()
        }
    }

    /// `host` or `host:port`, as the Host field and `:authority` want it.
    #[must_use]
    pub fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The name without the brackets of an IPv6 literal.
    #[must_use]
    pub fn connect_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

const EXAMPLE: &str = "a valid one is http://127.0.0.1:8080/live/demo/index.m3u8";

fn without_dots(path: &str) -> String {
    let (path, query) = match path.find('?') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let mut out: Vec<&str> = Vec::new();
    for step in path.split('/') {
        match step {
            "." => {}
            ".." if out.len() > 1 => {
                out.pop();
            }
            ".." => {}
            step => out.push(step),
        }
    }
    let mut text = out.join("/");
    if !text.starts_with('/') {
        text.insert(0, '/');
    }
    text + query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_resolve_against_the_playlist() {
        let base = Url::parse("http://127.0.0.1:8080/live/demo/index.m3u8?a=1").unwrap();
        for (reference, wanted) in [
            ("v0.m3u8", "http://127.0.0.1:8080/live/demo/v0.m3u8"),
            (
                "7/v0/1.0.m4s?x=../y",
                "http://127.0.0.1:8080/live/demo/7/v0/1.0.m4s?x=../y",
            ),
            ("../b/./c.mp4", "http://127.0.0.1:8080/live/b/c.mp4"),
            ("/root.m3u8", "http://127.0.0.1:8080/root.m3u8"),
            ("https://cdn.example/x", "https://cdn.example/x"),
            ("../../../../up", "http://127.0.0.1:8080/up"),
        ] {
            assert_eq!(base.join(reference).unwrap().to_string(), wanted);
        }
    }

    #[test]
    fn ports_and_queries() {
        let url = Url::parse("https://[::1]/a").unwrap();
        assert_eq!((url.port, url.connect_host()), (443, "::1"));
        let asked = url.with_query("_HLS_msn=1").with_query("_HLS_part=2");
        assert_eq!(asked.to_string(), "https://[::1]/a?_HLS_msn=1&_HLS_part=2");
    }

    #[test]
    fn what_is_no_url_is_named_with_an_example() {
        for text in ["demo", "rtmp://x/y", "http://", "/live/demo"] {
            let line = Url::parse(text).unwrap_err().to_string();
            assert!(line.contains(text) && line.contains("index.m3u8"), "{line}");
        }
    }
}
