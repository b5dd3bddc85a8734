//! Where a chat server is and what it speaks.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
};

use super::wire::{Carrier, Speech};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub carrier: Carrier,
    pub speech: Speech,
    pub address: SocketAddr,
    /// What WebSocket's handshake names.
    pub authority: String,
    pub path: String,
    text: String,
}

const EXAMPLE: &str = "for example ws://127.0.0.1:8080/chat";

impl Server {
    /// # Errors
    /// A line that names the URL and a valid example.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: http::Uri = match text.parse() {
            Ok(uri) => uri,
            Err(error) => return Err(format!("not a URL ({error}); {EXAMPLE}")),
        };
        let (carrier, speech, port) = match uri.scheme_str() {
            Some("ws") => (Carrier::WebSocket, Speech::Irc, 80),
            Some("irc") => (Carrier::Tcp, Speech::Irc, 6667),
            Some("nats") => (Carrier::Tcp, Speech::Nats, 4222),
            Some("nats+ws") => (Carrier::WebSocket, Speech::Nats, 80),
            _ => return Err(format!("neither ws, irc, nats nor nats+ws; {EXAMPLE}")),
        };
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(port);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (bare, port)
            .to_socket_addrs()
            .map_err(|error| format!("{host} has no address: {error}"))?;
        let address = addresses
            .next()
            .ok_or_else(|| format!("{host} has no address"))?;
        Ok(Self {
            carrier,
            speech,
            address,
            authority: format!("{host}:{port}"),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_says_what_is_spoken() {
        let of = |text| Server::parse(text).map(|server| (server.carrier, server.speech));
        assert_eq!(
            of("ws://127.0.0.1:8080/chat"),
            Ok((Carrier::WebSocket, Speech::Irc))
        );
        assert_eq!(of("irc://127.0.0.1"), Ok((Carrier::Tcp, Speech::Irc)));
        assert_eq!(of("nats://127.0.0.1"), Ok((Carrier::Tcp, Speech::Nats)));
        assert_eq!(
            of("nats+ws://127.0.0.1"),
            Ok((Carrier::WebSocket, Speech::Nats))
        );
        let server = Server::parse("ws://127.0.0.1:81/chat?a=b").unwrap();
        assert_eq!(
            (server.address.port(), server.path.as_str()),
            (81, "/chat?a=b")
        );
        assert_eq!(
            Server::parse("irc://[::1]").unwrap().address.to_string(),
            "[::1]:6667"
        );
        for text in ["http://127.0.0.1", "wss://127.0.0.1", "127.0.0.1", "ws://"] {
            assert!(Server::parse(text).is_err(), "{text}");
        }
    }
}
