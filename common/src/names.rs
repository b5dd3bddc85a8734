//! Names and numbers that cross the link and appear in URLs, each a type of
//! its own so that none is mistaken for another.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a channel name is 1 to 32 characters of a-z, 0-9 and _, for example `demo`")]
    Channel,
    #[error("a node id is 1 to 63 characters of a-z, 0-9 and -, for example `edge-1`")]
    Node,
    #[error("a track name is v or a and a number below 256, for example `v0`")]
    Track,
}

/// The public name that viewers ask for: `[a-z0-9_]{1,32}`, which suits URLs,
/// IRC, NATS subjects and metric labels alike. Held in place, because every
/// request of a viewer makes one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelName {
    /// Zeros from `len` on, so that they are in the order of their texts.
    bytes: [u8; Self::MAX_LEN],
    len: u8,
}

impl ChannelName {
    pub const MAX_LEN: usize = 32;

    /// # Errors
    /// [`NameError::Channel`] for anything but 1 to 32 of `a-z0-9_`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let len = u8::try_from(text.len()).map_err(|_| NameError::Channel)?;
        let mut bytes = [0; Self::MAX_LEN];
        match bytes.get_mut(..text.len()) {
            Some(name) if len > 0 && text.bytes().all(plain) => {
                name.copy_from_slice(text.as_bytes());
                Ok(Self { len, bytes })
            }
            _ => Err(NameError::Channel),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        // Always text: it was made from one.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl Hash for ChannelName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of an origin or an edge, `[a-z0-9-]{1,63}`: one DNS label.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

impl NodeId {
    pub const MAX_LEN: usize = 63;

    /// # Errors
    /// [`NameError::Node`] for anything but 1 to 63 of `a-z0-9-`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if fits && text.bytes().all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Node)
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Video,
    Audio,
}

/// `v0`, `v1`, `a0`...: a track of a broadcast, stable across its epochs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackName {
    pub kind: Kind,
    pub index: u8,
}

impl TrackName {
    #[must_use]
    pub const fn video(index: u8) -> Self {
        Self {
            kind: Kind::Video,
            index,
        }
    }

    #[must_use]
    pub const fn audio(index: u8) -> Self {
        Self {
            kind: Kind::Audio,
            index,
        }
    }

    /// # Errors
    /// [`NameError::Track`] unless the text is exactly what [`fmt::Display`]
    /// prints: `v007` names nothing, so one track has one URL.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (kind, digits) = match text.split_at_checked(1) {
            Some(("v", digits)) => (Kind::Video, digits),
            Some(("a", digits)) => (Kind::Audio, digits),
            _ => return Err(NameError::Track),
        };
        let canonical = digits == "0" || !digits.starts_with(['0', '+']);
        match digits.parse() {
            Ok(index) if canonical => Ok(Self { kind, index }),
            _ => Err(NameError::Track),
        }
    }
}

impl fmt::Display for TrackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.kind {
            Kind::Video => 'v',
            Kind::Audio => 'a',
        };
        write!(f, "{letter}{}", self.index)
    }
}

/// One publish. Greater than every epoch before it on the same channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// One live event across republishes: the number of its first epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BroadcastId(pub u64);

/// The number of a segment: the same on the wire, in HLS and in DASH.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Msn(pub u64);

impl Msn {
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Which init segment of a track: `init-{n}.mp4`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InitId(pub u32);

/// Newtypes that are shown, to people and in logs, as what is in them.
macro_rules! shown_as_its_content {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
pub(crate) use shown_as_its_content;
shown_as_its_content!(NodeId Epoch BroadcastId Msn InitId);

impl fmt::Debug for TrackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_names_are_what_urls_and_irc_both_take() {
        assert!(ChannelName::parse("demo_2").is_ok());
        for bad in ["", "Demo", "a-b", "a b", "../x", "ä", &"x".repeat(33)] {
            assert_eq!(ChannelName::parse(bad), Err(NameError::Channel), "{bad}");
        }
    }

    #[test]
    fn channel_names_are_in_the_order_of_their_texts() {
        let longest = "z".repeat(ChannelName::MAX_LEN);
        let texts = ["a", "a_", "ab", "b", longest.as_str()];
        let names = texts.map(|text| ChannelName::parse(text).unwrap());
        assert!(names.is_sorted());
        assert_eq!(names.map(|name| name.to_string()), texts);
    }

    #[test]
    fn a_track_has_exactly_one_name() {
        for good in ["v0", "v1", "a0", "a255"] {
            assert_eq!(TrackName::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "v", "x0", "v00", "v01", "v+1", "a256", "v-1", "éa"] {
            assert_eq!(TrackName::parse(bad), Err(NameError::Track), "{bad}");
        }
    }
}
