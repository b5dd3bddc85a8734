//! RTMP URLs: `rtmp://host[:port]/app/key`.

use anyhow::{Result, bail};

use super::need;

const EXAMPLE: &str = "a valid one is rtmp://127.0.0.1:1935/live/demo";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub app: String,
    pub key: String,
}

impl Target {
    /// # Errors
    /// A line that names the URL and a valid example.
    pub fn parse(text: &str) -> Result<Self> {
        let Some(rest) = text.strip_prefix("rtmp://") else {
            bail!("`{text}` isn't an rtmp:// URL; {EXAMPLE}");
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (app, key) = path.split_once('/').unwrap_or((path, ""));
        let whole = !authority.is_empty() && !app.is_empty() && !key.is_empty();
        need(
            whole,
            &format!("`{text}` lacks host, app or key; {EXAMPLE}"),
        )?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => match port.parse() {
                Ok(port) => (host, port),
                Err(_) => bail!("`{port}` in `{text}` isn't a port; {EXAMPLE}"),
            },
            _ => (authority, 1935),
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            app: app.to_owned(),
            key: key.to_owned(),
        })
    }

    /// One target per publisher: `{n}` becomes 1 to `count`.
    ///
    /// # Errors
    /// As [`Self::parse`], and several publishers on one key.
    pub fn spread(text: &str, count: u32) -> Result<Vec<Self>> {
        let distinct = count <= 1 || text.contains("{n}");
        need(
            distinct,
            "--publishers needs {n} in the key, for example rtmp://127.0.0.1:1935/live/load_{n}",
        )?;
        (1..=count.max(1))
            .map(|n| Self::parse(&text.replace("{n}", &n.to_string())))
            .collect()
    }

    #[must_use]
    pub fn tc_url(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        format!("rtmp://{host}:{}/{}", self.port, self.app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_url() {
        let target = Target::parse("rtmp://[::1]:1936/live/key?x=1").unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 1936));
        assert_eq!(
            (target.app.as_str(), target.key.as_str()),
            ("live", "key?x=1")
        );
        assert_eq!(target.tc_url(), "rtmp://[::1]:1936/live");
        assert_eq!(Target::parse("rtmp://h/a/b").unwrap().port, 1935);
    }

    #[test]
    fn wrong_ones_are_named_with_an_example() {
        for text in [
            "http://a/b/c",
            "rtmp://a",
            "rtmp://a/live",
            "rtmp://a:x/live/k",
            "rtmp:///live/k",
        ] {
            let line = Target::parse(text).unwrap_err().to_string();
            assert!(line.contains(EXAMPLE), "{line}");
        }
    }

    #[test]
    fn publishers_get_keys_of_their_own() {
        let keys: Vec<_> = Target::spread("rtmp://a/live/l_{n}", 2).unwrap();
        assert_eq!((keys[0].key.as_str(), keys[1].key.as_str()), ("l_1", "l_2"));
        assert!(Target::spread("rtmp://a/live/l", 2).is_err());
    }
}
