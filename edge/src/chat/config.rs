//! Flags of chat at an edge, and what a stranger can hold there.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

/// Who may chat, and where.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Chat")]
pub struct ChatConfig {
    /// Address for IRC over TCP, without TLS
    #[arg(long, env = "MILLRACE_IRC_LISTEN", value_name = "ADDRESS")]
    pub irc_listen: Option<SocketAddr>,

    /// Address for IRC over TLS, by the certificate of --tls-cert
    #[arg(long, env = "MILLRACE_IRCS_LISTEN", value_name = "ADDRESS")]
    pub ircs_listen: Option<SocketAddr>,

    /// Allow plain IRC on addresses that other machines reach
    #[arg(long, env = "MILLRACE_PLAIN_IRC_ANYWHERE")]
    pub plain_irc_anywhere: bool,

    /// File of keys that sign users' tokens: lines KID HS256 SECRET or KID EdDSA KEY in base64url, read again when it changes and on SIGHUP; without it anybody is who they say (for development)
    #[arg(long, env = "MILLRACE_CHAT_KEYS", value_name = "FILE")]
    pub chat_keys: Option<PathBuf>,

    /// What the aud of a token must name
    #[arg(
        long,
        env = "MILLRACE_CHAT_AUDIENCE",
        value_name = "TEXT",
        default_value = "chat"
    )]
    pub chat_audience: String,

    /// Development: serve /sign-in, where anybody gets a token for any name and role, signed with the first HS256 key of this file; one of --chat-keys, and the same file serves both
    #[arg(
        long,
        env = "MILLRACE_CHAT_SIGN_IN_KEY",
        value_name = "FILE",
        requires = "chat_keys"
    )]
    pub chat_sign_in_key: Option<PathBuf>,

    /// File of the emotes that the watch page shows: lines NAME ID PICTURE, a picture being an https:// URL, a path on this edge or an emoji; read again when it changes and on SIGHUP
    #[arg(long, env = "MILLRACE_CHAT_EMOTES", value_name = "FILE")]
    pub chat_emotes: Option<PathBuf>,

    /// Scheme and host of a web page that may chat here beside this edge's own; repeat it for more, * allows all
    #[arg(
        long = "chat-allow-origin",
        env = "MILLRACE_CHAT_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub chat_allow_origins: Vec<String>,

    /// The name that the server goes by in IRC; libraries made for Twitch look for its own
    #[arg(
        long,
        env = "MILLRACE_CHAT_SERVER_NAME",
        value_name = "NAME",
        default_value = "tmi.twitch.tv",
        value_parser = server_name
    )]
    pub chat_server_name: String,

    /// Chat connections at once, of all kinds; more are refused
    #[arg(
        long,
        env = "MILLRACE_MAX_CHAT_CONNECTIONS",
        value_name = "N",
        default_value_t = 32_768
    )]
    pub max_chat_connections: usize,

    /// Chat connections of one IPv4 address or IPv6 /64; more are refused
    #[arg(
        long,
        env = "MILLRACE_MAX_CHAT_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        default_value_t = 256
    )]
    pub max_chat_connections_per_address: usize,

    /// Messages of one address in 30 seconds, of all its users together; more are refused
    #[arg(
        long,
        env = "MILLRACE_MAX_CHAT_MESSAGES_PER_ADDRESS",
        value_name = "N",
        default_value_t = 1_000
    )]
    pub max_chat_messages_per_address: usize,

    /// Rooms joined from one address in 10 seconds, and as many sign-ins; more are refused
    #[arg(
        long,
        env = "MILLRACE_MAX_CHAT_JOINS_PER_ADDRESS",
        value_name = "N",
        default_value_t = 2_000
    )]
    pub max_chat_joins_per_address: usize,

    /// Rooms open at once of those that one address was the first to enter here while their channels were off air; more are refused
    #[arg(
        long,
        env = "MILLRACE_MAX_CHAT_ROOMS_PER_ADDRESS",
        value_name = "N",
        default_value_t = 256
    )]
    pub max_chat_rooms_per_address: usize,

    /// Rooms that one connection may be in
    #[arg(
        long,
        env = "MILLRACE_MAX_ROOMS_PER_CONNECTION",
        value_name = "N",
        default_value_t = 100
    )]
    pub max_rooms_per_connection: usize,

    /// Seconds that a chat connection has to sign in
    #[arg(
        long,
        env = "MILLRACE_CHAT_SIGN_IN_DEADLINE",
        value_name = "SECONDS",
        default_value_t = 15
    )]
    pub chat_sign_in_deadline: u64,

    /// Seconds after which a chat client that stops reading is dropped
    #[arg(
        long,
        env = "MILLRACE_CHAT_WRITE_DEADLINE",
        value_name = "SECONDS",
        default_value_t = 20
    )]
    pub chat_write_deadline: u64,

    /// Seconds over which a draining edge spreads its RECONNECTs, so that clients don't all come back at once; less than --drain-timeout
    #[arg(
        long,
        env = "MILLRACE_CHAT_DRAIN_WINDOW",
        value_name = "SECONDS",
        default_value_t = 5
    )]
    pub chat_drain_window: u64,
}

fn server_name(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    if (1..=63).contains(&text.len()) && text.bytes().all(plain) && text.contains('.') {
        Ok(text.to_owned())
    } else {
        Err("write a host name, for example tmi.twitch.tv".to_owned())
    }
}
