//! Tokens for development: whoever asks gets one for the name they say.
//!
//! In: the query of a request, and now. Out: a signed token, or why not. What may
//! be in a token is [`TokenKeys`]' business: each is verified before it is given.

use std::fmt;

use common::{
    chat::token::{Audience, Signer, TokenBody, TokenKeys},
    live::UnixMs,
};

/// A day of trying things out.
const LASTS_S: u64 = 12 * 3_600;

/// Values of a query are names, colours and words.
const MAX_VALUE_BYTES: usize = 256;

/// Signs what it is asked to.
pub struct Issuer {
    signer: Signer,
    audience: String,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").finish_non_exhaustive()
    }
}

/// The request asks for what no token can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoToken;

impl Issuer {
    /// Signs with the first HS256 key of a file of [`TokenKeys`].
    #[must_use]
    pub fn of_file(file: &str, audience: &str) -> Option<Self> {
        let signer = Signer::of_file(file)?;
        let audience = audience.to_owned();
        Some(Self { signer, audience })
    }

    /// Whether `keys` believe what this signs.
    #[must_use]
    pub fn is_believed(&self, keys: &TokenKeys, now: UnixMs) -> bool {
        self.issue("login=somebody", keys, now).is_ok()
    }

    /// A token by `login=ann&name=Ann&color=%231E90FF&channel=demo&role=moderator`, of
    /// which only the login must be there.
    ///
    /// # Errors
    /// [`NoToken`].
    pub fn issue(&self, query: &str, keys: &TokenKeys, now: UnixMs) -> Result<String, NoToken> {
        let mut body = TokenBody {
            aud: Audience::One(self.audience.clone()),
            exp: now.0 / 1_000 + LASTS_S,
            ..TokenBody::default()
        };
        let (mut channel, mut role) = (None, None);
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or(NoToken)?;
            match key {
                "login" => body.login = value.to_ascii_lowercase(),
                "name" if !value.is_empty() => body.name = Some(value),
                "color" if !value.is_empty() => body.color = Some(value),
                "channel" => channel = Some(value),
                "role" => role = Some(value),
                _ => {}
            }
        }
        if let (Some(channel), Some(role)) = (channel, role) {
            body.roles.insert(channel, vec![role]);
        }
        body.sub.clone_from(&body.login);
        let token = self.signer.sign(&body).map_err(|_| NoToken)?;
        keys.verify(&token, now).map_err(|_| NoToken)?;
        Ok(token)
    }
}

/// A value of a query as forms write it; `None` for what is none.
fn decoded(value: &str) -> Option<String> {
    if value.len() > MAX_VALUE_BYTES {
        return None;
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
                u8::try_from(high? * 16 + low?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_795_639_813_250);
    const KEYS: &str = "k HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n";
    const OTHERS: &str = "k HS256 HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n";

    fn rig() -> (Issuer, TokenKeys) {
        let issuer = Issuer::of_file(KEYS, "chat").unwrap();
        (issuer, TokenKeys::parse(KEYS, "chat").unwrap())
    }

    #[test]
    fn a_token_says_what_was_asked_and_no_more() {
        let (issuer, keys) = rig();
        let query = "login=Ann&name=%C3%84nn&color=%231E90FF&channel=demo&role=moderator&aud=x";
        let token = issuer.issue(query, &keys, NOW).unwrap();
        let claims = keys.verify(&token, NOW).unwrap();
        assert_eq!(claims.user.login.as_str(), "ann");
        assert_eq!(claims.user.display.as_str(), "\u{c4}nn");
        assert_eq!(claims.user.colour.unwrap().to_string(), "#1E90FF");
        let demo = common::names::ChannelName::parse("demo").unwrap();
        let other = common::names::ChannelName::parse("other").unwrap();
        assert!(claims.sender(&demo, None).roles.moderator);
        assert!(!claims.sender(&other, None).roles.moderates());
        let ends = UnixMs(NOW.0 + LASTS_S * 1_000 + 60_000);
        assert!(keys.verify(&token, ends).is_err());
    }

    #[test]
    fn what_no_token_can_say_is_refused() {
        let (issuer, keys) = rig();
        for query in [
            "",
            "login=",
            "login=an+n",
            "login=justinfan7",
            "login=ann&color=red",
            "login=ann&channel=De%20mo&role=moderator",
            "login=%zz",
            "login=%e",
            "login=%ff",
            "login=ann&name=a%0d%0ab",
            &format!("login=ann&name={}", "x".repeat(300)),
        ] {
            assert_eq!(issuer.issue(query, &keys, NOW), Err(NoToken), "{query}");
        }
    }

    #[test]
    fn keys_of_others_do_not_believe_it() {
        let (issuer, keys) = rig();
        assert!(issuer.is_believed(&keys, NOW));
        let others = TokenKeys::parse(OTHERS, "chat").unwrap();
        assert!(!issuer.is_believed(&others, NOW));
        let elsewhere = TokenKeys::parse(KEYS, "radio").unwrap();
        assert!(!issuer.is_believed(&elsewhere, NOW));
        assert!(Issuer::of_file("k EdDSA seed:AAAA\n", "chat").is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_query_panics(query in "(login|name|color|role|channel)?=[%+&=a-f0-9]{0,40}") {
            let (issuer, keys) = rig();
            let _ = issuer.issue(&query, &keys, NOW);
        }
    }
}
