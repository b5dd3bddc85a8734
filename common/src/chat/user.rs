//! Who speaks: what a token says of a user, and what others may see of it.

use std::{fmt, net::IpAddr, sync::Arc};

use super::name::{ChatNameError, Display, Login, UserId};
use crate::live::UnixMs;

/// What a user may do in one room. A set, because a moderator may subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Roles {
    pub broadcaster: bool,
    pub moderator: bool,
    pub vip: bool,
    pub subscriber: bool,
}

impl Roles {
    /// Whether slow mode, filters and the like pass over this user.
    #[must_use]
    pub const fn moderates(self) -> bool {
        self.broadcaster || self.moderator
    }

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self {
            broadcaster: self.broadcaster || other.broadcaster,
            moderator: self.moderator || other.moderator,
            vip: self.vip || other.vip,
            subscriber: self.subscriber || other.subscriber,
        }
    }

    /// A role by the word that tokens and the roles file use for it.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let mut roles = Self::default();
        match word {
            "broadcaster" => roles.broadcaster = true,
            "moderator" => roles.moderator = true,
            "vip" => roles.vip = true,
            "subscriber" => roles.subscriber = true,
            _ => return None,
        }
        Some(roles)
    }

    /// The words that [`Self::parse`] takes.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let words = [
            (self.broadcaster, "broadcaster"),
            (self.moderator, "moderator"),
            (self.vip, "vip"),
            (self.subscriber, "subscriber"),
        ];
        words
            .into_iter()
            .filter_map(|(has, word)| has.then_some(word))
    }

    /// On the link and in the store.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.broadcaster as u8
            | (self.moderator as u8) << 1
            | (self.vip as u8) << 2
            | (self.subscriber as u8) << 3
    }

    /// Bits that this version does not know are ignored.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            broadcaster: bits & 1 != 0,
            moderator: bits & 2 != 0,
            vip: bits & 4 != 0,
            subscriber: bits & 8 != 0,
        }
    }
}

/// The colour of a name, 0xRRGGBB.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Colour(pub u32);

impl Colour {
    /// `#RRGGBB`, either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#')?;
        let plain = digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        plain
            .then(|| u32::from_str_radix(digits, 16).ok())
            .flatten()
            .map(Self)
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:06X}", self.0 & 0xff_ffff)
    }
}

impl fmt::Debug for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `set/version`, such as `subscriber/12`: each `[a-z0-9_-]{1,32}`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Badge(Arc<str>);

impl Badge {
    pub const MAX_LEN: usize = 65;

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let part = |part: &str| {
            let plain =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
            (1..=32).contains(&part.len()) && part.bytes().all(plain)
        };
        let (set, version) = text.split_once('/')?;
        (part(set) && part(version)).then(|| Self(text.into()))
    }

    #[must_use]
    pub fn set(&self) -> &str {
        self.0.split_once('/').map_or("", |(set, _)| set)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user as everybody may see one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub login: Login,
    pub display: Display,
    pub colour: Option<Colour>,
    /// At most [`User::MAX_BADGES`], beside those that roles give.
    pub badges: Vec<Badge>,
}

impl User {
    pub const MAX_BADGES: usize = 8;

    /// A user of whom nothing but the login is known.
    #[must_use]
    pub fn named(login: Login) -> Self {
        Self {
            id: UserId::from(&login),
            display: Display::from(&login),
            login,
            colour: None,
            badges: Vec::new(),
        }
    }
}

/// Who wrote something, and what they were in the room then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    pub user: User,
    pub roles: Roles,
}

impl Author {
    /// All badges: those of roles first, then the token's.
    pub fn badges(&self) -> impl Iterator<Item = &str> {
        let Roles {
            broadcaster,
            moderator,
            vip,
            subscriber,
        } = self.roles;
        let given = |set: &str| self.user.badges.iter().any(|badge| badge.set() == set);
        [
            (broadcaster, "broadcaster/1"),
            (moderator && !broadcaster, "moderator/1"),
            (vip && !moderator && !broadcaster, "vip/1"),
            // A token may tell for how many months.
            (subscriber && !given("subscriber"), "subscriber/0"),
        ]
        .into_iter()
        .filter_map(|(has, badge)| has.then_some(badge))
        .chain(self.user.badges.iter().map(Badge::as_str))
    }
}

/// What one subscriber of a network usually has, an IPv4 address or an IPv6 /64:
/// what an address ban covers. An IPv4 address is mapped into IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(pub [u8; 16]);

impl Network {
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => {
                let subnet = u128::from(address) & !u128::from(u64::MAX);
                Self(subnet.to_be_bytes())
            }
        }
    }

    /// The larger network around it: so many bits of an IPv4 address, or of an IPv6
    /// one.
    #[must_use]
    pub fn within(self, prefix: Prefix) -> Self {
        let address = u128::from_be_bytes(self.0);
        // ::ffff:0:0/96 are the IPv4 addresses.
        let bits = if address >> 32 == 0xffff {
            96 + u32::from(prefix.ipv4_bits.min(32))
        } else {
            u32::from(prefix.ipv6_bits.min(128))
        };
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        Self((address & mask).to_be_bytes())
    }
}

/// How much of an address one subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    pub ipv4_bits: u8,
    pub ipv6_bits: u8,
}

impl Default for Prefix {
    /// What [`Network::of`] keeps.
    fn default() -> Self {
        Self {
            ipv4_bits: 32,
            ipv6_bits: 64,
        }
    }
}

impl fmt::Debug for Network {
    /// Addresses don't belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

/// Who asks something of a room: a user with what the token says of it there,
/// and what no other user may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    pub user: User,
    /// By the token; the room's actor may know of more.
    pub roles: Roles,
    pub follows_since: Option<UnixMs>,
    /// Edges name it for each of their clients. `None` for an operator's tool.
    pub network: Option<Network>,
}

impl Sender {
    /// Whether an operator's tool asks it, in the name of somebody who may not even
    /// chat.
    #[must_use]
    pub const fn is_tool(&self) -> bool {
        self.network.is_none() && self.roles.broadcaster
    }
}

/// What a token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub user: User,
    /// At most [`Claims::MAX_ROOMS`], by room.
    pub rooms: Vec<RoomClaims>,
    /// When the token is worth nothing any more; `None` where nobody signs any.
    pub expires: Option<UnixMs>,
}

/// What a token says of its bearer in one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomClaims {
    pub room: crate::names::ChannelName,
    pub roles: Roles,
    pub follows_since: Option<UnixMs>,
}

impl Claims {
    pub const MAX_ROOMS: usize = 64;

    /// Development mode: whoever says so is that user, but for [`Login::operator`].
    ///
    /// # Errors
    /// [`ChatNameError::Login`].
    pub fn unsigned(nick: &str) -> Result<Self, ChatNameError> {
        let login = Login::typed(nick)?;
        if login == Login::operator() {
            return Err(ChatNameError::Login);
        }
        let mut user = User::named(login);
        if let Ok(display) = Display::parse(nick) {
            user.display = display;
        }
        Ok(Self {
            user,
            rooms: Vec::new(),
            expires: None,
        })
    }

    /// The bearer in one room. A channel's owner has its name for a login.
    #[must_use]
    pub fn sender(&self, room: &crate::names::ChannelName, network: Option<Network>) -> Sender {
        let claimed = self.rooms.iter().find(|claims| claims.room == *room);
        let mut roles = claimed.map_or(Roles::default(), |claims| claims.roles);
        roles.broadcaster |= self.user.login.as_str() == room.as_str();
        Sender {
            user: self.user.clone(),
            roles,
            follows_since: claimed.and_then(|claims| claims.follows_since),
            network,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ChannelName;

    #[test]
    fn colours_and_badges_are_checked() {
        assert_eq!(Colour::parse("#1e90FF").unwrap().to_string(), "#1E90FF");
        for bad in ["1E90FF", "#1E90F", "#1E90FFF", "#+E90FF", "#ä90FF"] {
            assert_eq!(Colour::parse(bad), None, "{bad}");
        }
        assert_eq!(Badge::parse("subscriber/12").unwrap().set(), "subscriber");
        for bad in ["", "a", "a/", "/1", "a/b/c", "a b/1", "a;b/1", "A/1"] {
            assert_eq!(Badge::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn roles_survive_their_bits_and_give_badges() {
        for bits in 0..16 {
            assert_eq!(u64::from(Roles::from_bits(bits).bits()), bits);
        }
        let mut author = Author {
            user: User::named(Login::parse("ann").unwrap()),
            roles: Roles::from_bits(0b1110),
        };
        let badges = |author: &Author| author.badges().collect::<Vec<_>>().join(",");
        assert_eq!(badges(&author), "moderator/1,subscriber/0");
        author.user.badges = vec![Badge::parse("subscriber/12").unwrap()];
        author.roles = Roles::from_bits(0b1111);
        assert_eq!(badges(&author), "broadcaster/1,subscriber/12");
    }

    #[test]
    fn the_owner_of_a_channel_has_its_name() {
        let claims = Claims::unsigned("Demo").unwrap();
        let own = ChannelName::parse("demo").unwrap();
        let other = ChannelName::parse("other").unwrap();
        assert!(claims.sender(&own, None).roles.broadcaster);
        assert_eq!(claims.sender(&other, None).roles, Roles::default());
        assert_eq!(claims.user.display.as_str(), "Demo");
    }

    #[test]
    fn nobody_is_the_operator_by_saying_so() {
        for nick in ["operator", "Operator", "@operator"] {
            assert_eq!(Claims::unsigned(nick), Err(ChatNameError::Login), "{nick}");
        }
        assert!(Claims::unsigned("operator_2").is_ok());
    }

    #[test]
    fn a_network_is_an_address_or_a_subnet() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        let wide = Prefix {
            ipv4_bits: 24,
            ipv6_bits: 48,
        };
        let within = |text: &str| of(text).within(wide);
        assert_eq!(within("10.0.0.1"), within("10.0.0.200"));
        assert_ne!(within("10.0.0.1"), within("10.0.1.1"));
        assert_eq!(within("2001:db8::1"), within("2001:db8:0:1::1"));
        assert_ne!(within("2001:db8::1"), within("2001:db8:1::1"));
        for address in ["10.0.0.1", "2001:db8::1"] {
            assert_eq!(of(address).within(Prefix::default()), of(address));
        }
    }
}
