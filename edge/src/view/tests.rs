//! Tokens that are right, and every way in which they are not.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{mint::minted, *};

const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const OTHER: &str = "CAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const NOW: u64 = 1_795_000_000;
const HOUR: u64 = 3_600;

struct Rig {
    dir: tempfile::TempDir,
    viewing: Arc<Viewing>,
}

fn rig(keys: &str, leeway_s: u64) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("view");
    fs::write(&path, keys).unwrap();
    let config = ViewConfig {
        view_keys: Some(path),
        view_audience: "millrace".into(),
        view_leeway: leeway_s,
        view_max_ttl: 86_400,
    };
    let metrics = ViewMetrics::register(&Registry::new());
    let viewing = Viewing::from_config(&config, metrics).unwrap().unwrap();
    Rig { dir, viewing }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

impl Rig {
    fn keys(&self) -> std::path::PathBuf {
        self.dir.path().join("view")
    }

    fn ask_as(
        &self,
        shown: &Shown,
        token: &str,
        name: &str,
        peer: &str,
        now_s: u64,
    ) -> Result<(), Refusal> {
        let peer = peer.parse().unwrap();
        let until_s = self
            .viewing
            .check(shown, Some(token), &channel(name), peer, now_s)?;
        assert!(until_s > now_s);
        Ok(())
    }

    fn ask(&self, token: &str) -> Result<(), Refusal> {
        self.ask_as(&Shown::default(), token, "demo", "10.0.0.1", NOW)
    }
}

fn args(keys: &Path, kid: &str) -> TokenArgs {
    TokenArgs {
        view_keys: keys.to_owned(),
        kid: kid.into(),
        channel: channel("demo"),
        ttl: HOUR,
        address: None,
        audience: "millrace".into(),
    }
}

/// A token with these claims over good ones.
fn token(changes: Value) -> String {
    let mut claims = json!({ "aud": "millrace", "exp": NOW + HOUR, "channel": "demo" });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
    }
    signed("a", SECRET, &claims)
}

fn key(secret: &str) -> EncodingKey {
    EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(secret).unwrap())
}

fn signed(kid: &str, secret: &str, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(kid.into());
    encode(&header, claims, &key(secret)).unwrap()
}

#[test]
fn what_is_minted_is_good_until_it_expires() {
    let keys = format!("a HS256 {SECRET}\nb EdDSA seed:{SEED}");
    let rig = rig(&keys, 0);
    for kid in ["a", "b"] {
        let token = minted(&args(&rig.keys(), kid), NOW).unwrap();
        let at = |now_s| rig.ask_as(&Shown::default(), &token, "demo", "10.0.0.1", now_s);
        assert_eq!(at(NOW), Ok(()));
        assert_eq!(at(NOW + HOUR - 1), Ok(()));
        assert_eq!(at(NOW + HOUR), Err(Refusal::Expired));
        assert_eq!(at(NOW - 1), Err(Refusal::NotYet));
    }
    // An edge that has the public key alone verifies the same token.
    let token = minted(&args(&rig.keys(), "b"), NOW).unwrap();
    let edge = self::rig(&format!("b EdDSA {PUBLIC}"), 0);
    assert_eq!(edge.ask(&token), Ok(()));
    let error = minted(&args(&edge.keys(), "b"), NOW).unwrap_err();
    assert!(error.to_string().contains("public half"));
    let error = minted(&args(&edge.keys(), "c"), NOW).unwrap_err();
    assert!(error.to_string().contains("--kid c"));
}

/// A stream that begins under a token ends with it: the same moment at which
/// playlists are refused.
#[test]
fn a_token_says_until_when() {
    for leeway_s in [0, 30] {
        let rig = rig(&format!("a HS256 {SECRET}"), leeway_s);
        let (shown, token) = (Shown::default(), token(json!({})));
        let until = |now_s| {
            let peer = "10.0.0.1".parse().unwrap();
            rig.viewing
                .check(&shown, Some(&token), &channel("demo"), peer, now_s)
        };
        let expected = NOW + HOUR + leeway_s;
        for now_s in [NOW, expected - 1] {
            assert_eq!(until(now_s), Ok(expected));
        }
        assert_eq!(until(expected), Err(Refusal::Expired));
    }
}

/// Clocks an hour apart, either way: refused unless the leeway says otherwise.
#[test]
fn token_replay_is_bounded_whatever_the_clock() {
    let keys = format!("a HS256 {SECRET}");
    let (strict, lenient) = (rig(&keys, 30), rig(&keys, HOUR + 1));
    let token = minted(&args(&strict.keys(), "a"), NOW).unwrap();
    let at = |rig: &Rig, now_s| rig.ask_as(&Shown::default(), &token, "demo", "10.0.0.1", now_s);
    assert_eq!(at(&strict, NOW + HOUR + 29), Ok(()));
    assert_eq!(at(&strict, NOW + HOUR + 30), Err(Refusal::Expired));
    assert_eq!(at(&strict, NOW + 2 * HOUR), Err(Refusal::Expired));
    assert_eq!(at(&strict, NOW - HOUR), Err(Refusal::NotYet));
    assert_eq!(at(&lenient, NOW + 2 * HOUR), Ok(()));
    assert_eq!(at(&lenient, NOW - HOUR), Ok(()));
    assert_eq!(at(&lenient, NOW + 3 * HOUR), Err(Refusal::Expired));
}

#[test]
fn every_claim_counts() {
    let rig = rig(&format!("a HS256 {SECRET}"), 0);
    for (changes, expected) in [
        (json!({}), Ok(())),
        (json!({ "other": [1] }), Ok(())),
        (json!({ "aud": ["x", "millrace"] }), Ok(())),
        (json!({ "aud": "x" }), Err(Refusal::Audience)),
        (json!({ "aud": [] }), Err(Refusal::Audience)),
        (json!({ "aud": null }), Err(Refusal::Malformed)),
        (json!({ "exp": null }), Err(Refusal::Malformed)),
        (json!({ "exp": "1795003600" }), Err(Refusal::Malformed)),
        (json!({ "exp": -1 }), Err(Refusal::Malformed)),
        (json!({ "exp": NOW }), Err(Refusal::Expired)),
        (json!({ "exp": NOW + 86_400 }), Ok(())),
        (json!({ "exp": NOW + 86_401 }), Err(Refusal::LivesTooLong)),
        (json!({ "exp": u64::MAX }), Err(Refusal::LivesTooLong)),
        (json!({ "nbf": NOW + 1 }), Err(Refusal::NotYet)),
        (json!({ "channel": "other" }), Err(Refusal::Channel)),
        (json!({ "channel": null }), Err(Refusal::Malformed)),
        (json!({ "channel": ["demo"] }), Err(Refusal::Malformed)),
        (json!({ "addr": "10.0.0.1" }), Ok(())),
        (json!({ "addr": "::ffff:10.0.0.1" }), Ok(())),
        (json!({ "addr": "10.0.0.2" }), Err(Refusal::Address)),
        (json!({ "addr": "nobody" }), Err(Refusal::Malformed)),
    ] {
        assert_eq!(rig.ask(&token(changes.clone())), expected, "{changes}");
    }
    // An IPv6 client changes its address within its network.
    let six = token(json!({ "addr": "2001:db8::1" }));
    let from = |peer| rig.ask_as(&Shown::default(), &six, "demo", peer, NOW);
    assert_eq!(from("2001:db8::ffff"), Ok(()));
    assert_eq!(from("2001:db8:0:1::1"), Err(Refusal::Address));
}

#[test]
fn only_the_keys_signature_counts() {
    let rig = rig(&format!("a HS256 {SECRET}\nb EdDSA {PUBLIC}"), 0);
    let claims = json!({ "aud": "millrace", "exp": NOW + HOUR, "channel": "demo" });
    let good = signed("a", SECRET, &claims);
    let forged = signed("a", OTHER, &claims);
    assert_eq!(rig.ask(&forged), Err(Refusal::Signature));
    assert_eq!(
        rig.ask(&signed("c", SECRET, &claims)),
        Err(Refusal::UnknownKey)
    );
    // The public key of another algorithm used as a secret.
    assert_eq!(
        rig.ask(&signed("b", PUBLIC, &claims)),
        Err(Refusal::Signature)
    );
    // `none`, no kid, another's claims, and what is no token at all.
    let none = "eyJhbGciOiJub25lIiwia2lkIjoiYSJ9";
    let body = good.split('.').nth(1).unwrap();
    let mut no_kid = Header::new(Algorithm::HS256);
    no_kid.kid = None;
    let key = self::key(SECRET);
    for (token, expected) in [
        (format!("{none}.{body}."), Refusal::Malformed),
        (encode(&no_kid, &claims, &key).unwrap(), Refusal::UnknownKey),
        (
            good.replacen(body, &body[..body.len() - 4], 1),
            Refusal::Signature,
        ),
        (good[..good.len() - 2].to_owned(), Refusal::Signature),
        (format!("{good}."), Refusal::Malformed),
        (String::new(), Refusal::Malformed),
        ("a.b.c".into(), Refusal::Malformed),
        ("..".into(), Refusal::Malformed),
        ("x".repeat(1_025), Refusal::Malformed),
    ] {
        assert_eq!(rig.ask(&token), Err(expected), "{token}");
    }
    assert_eq!(rig.ask(&good), Ok(()));
    // What was shown before speaks for itself alone.
    let shown = Shown::default();
    let ask = |token: &str| rig.ask_as(&shown, token, "demo", "10.0.0.1", NOW);
    assert_eq!(
        (ask(&good), ask(&forged)),
        (Ok(()), Err(Refusal::Signature))
    );
}

/// However well signed: longer ones are not even read.
#[test]
fn a_tokens_length_is_bounded() {
    let rig = rig(&format!("a HS256 {SECRET}"), 0);
    let with = |len: usize| token(json!({ "other": "x".repeat(len) }));
    let (long, longer) = (with(600), with(700));
    assert!(long.len() <= 1_024 && longer.len() > 1_024);
    assert_eq!(rig.ask(&long), Ok(()));
    assert_eq!(rig.ask(&longer), Err(Refusal::Malformed));
}

#[test]
fn a_key_is_replaced_while_both_are_good() {
    let rig = rig(&format!("a HS256 {SECRET}"), 0);
    let claims = json!({ "aud": "millrace", "exp": NOW + HOUR, "channel": "demo" });
    let (old, new) = (signed("a", SECRET, &claims), signed("b", OTHER, &claims));
    let shown = Shown::default();
    let ask = |token: &str| rig.ask_as(&shown, token, "demo", "10.0.0.1", NOW);
    assert_eq!(ask(&new), Err(Refusal::UnknownKey));
    fs::write(rig.keys(), format!("a HS256 {SECRET}\nb HS256 {OTHER}")).unwrap();
    rig.viewing.reload().unwrap();
    assert_eq!((ask(&old), ask(&new)), (Ok(()), Ok(())));
    assert_eq!(ask(&old), Ok(()));
    // What the connection has shown does not outlive its key.
    fs::write(rig.keys(), format!("b HS256 {OTHER}")).unwrap();
    rig.viewing.reload().unwrap();
    assert_eq!((ask(&old), ask(&new)), (Err(Refusal::UnknownKey), Ok(())));
}

#[test]
fn a_token_is_verified_once_a_connection_and_checked_each_time() {
    let rig = rig(&format!("a HS256 {SECRET}"), 0);
    let shown = Shown::default();
    let token = token(json!({}));
    let ask = |name, now_s| rig.ask_as(&shown, &token, name, "10.0.0.1", now_s);
    for _ in 0..100 {
        assert_eq!(ask("demo", NOW), Ok(()));
    }
    assert_eq!(ask("other", NOW), Err(Refusal::Channel));
    assert_eq!(ask("demo", NOW + HOUR), Err(Refusal::Expired));
    assert_eq!(rig.viewing.metrics.verified.get(), 1);
}

#[test]
fn new_keys_sign_and_verify() {
    for algorithm in [mint::KeyKind::Hs256, mint::KeyKind::Eddsa] {
        let kid = "k".to_owned();
        let text = new_key(&NewKeyArgs { kid, algorithm }).unwrap();
        let rig = rig(&text, 0);
        let token = minted(&args(&rig.keys(), "k"), NOW).unwrap();
        assert_eq!(rig.ask(&token), Ok(()));
        if let Some((_, line)) = text.split_once("# for the edges: ") {
            assert_eq!(self::rig(line, 0).ask(&token), Ok(()));
        }
    }
}

#[test]
fn without_a_file_viewing_is_open() {
    let config = ViewConfig {
        view_keys: None,
        view_audience: String::new(),
        view_leeway: 0,
        view_max_ttl: 0,
    };
    let metrics = ViewMetrics::register(&Registry::new());
    assert!(Viewing::from_config(&config, metrics).unwrap().is_none());
}
