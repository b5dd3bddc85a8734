use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use proptest::prelude::*;

use super::*;

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const FILE: &str = "# one in use, one phased out\n\
    new HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n\
    old HS256 HxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4 # until May\n";

fn keys() -> TokenKeys {
    TokenKeys::parse(FILE, "chat").unwrap()
}

fn body() -> TokenBody {
    TokenBody {
        sub: "u-1".to_owned(),
        aud: Audience::One("chat".to_owned()),
        exp: NOW.0 / 1_000 + 3_600,
        login: "ann".to_owned(),
        name: Some("Ann".to_owned()),
        color: Some("#1E90FF".to_owned()),
        badges: vec!["subscriber/12".to_owned()],
        roles: [(
            "demo".to_owned(),
            vec!["moderator".to_owned(), "of_tomorrow".to_owned()],
        )]
        .into(),
        follows: [("demo".to_owned(), 1_700_000_000)].into(),
        nbf: None,
    }
}

fn signed(body: &TokenBody) -> String {
    Signer::of_file(FILE).unwrap().sign(body).unwrap()
}

fn verified(body: &TokenBody) -> Result<Claims, TokenError> {
    keys().verify(&signed(body), NOW)
}

#[test]
fn a_token_says_who_somebody_is_in_both_forms() {
    let jwt = signed(&body());
    let claims = keys().verify(&jwt, NOW).unwrap();
    assert_eq!(claims.user.display.as_str(), "Ann");
    let demo = ChannelName::parse("demo").unwrap();
    let sender = claims.sender(&demo, None);
    assert!(sender.roles.moderator && !sender.roles.broadcaster);
    assert_eq!(sender.follows_since, Some(UnixMs(1_700_000_000_000)));
    let lower = base32(jwt.as_bytes());
    assert_eq!(lower, lower.to_lowercase());
    assert_eq!(keys().verify(&lower, NOW), Ok(claims));
    // What tmi.js makes of the JWT itself.
    assert!(keys().verify(&jwt.to_lowercase(), NOW).is_err());
    // A PASS line holds it.
    assert!(lower.len() < MAX_TOKEN_BYTES, "{}", lower.len());
}

#[test]
fn time_and_audience_are_checked() {
    let with = |change: fn(&mut TokenBody)| {
        let mut body = body();
        change(&mut body);
        verified(&body)
    };
    assert_eq!(
        with(|b| b.exp = NOW.0 / 1_000 - 3_600),
        Err(TokenError::Expired)
    );
    assert!(with(|b| b.exp = NOW.0 / 1_000 - 4).is_ok());
    assert_eq!(
        with(|b| b.exp = NOW.0 / 1_000 - 6),
        Err(TokenError::Expired)
    );
    assert_eq!(
        with(|b| b.nbf = Some(NOW.0 / 1_000 + 3_600)),
        Err(TokenError::Expired)
    );
    assert_eq!(
        with(|b| b.aud = Audience::default()),
        Err(TokenError::Audience)
    );
    assert!(with(|b| b.aud = Audience::Several(vec!["x".to_owned(), "chat".to_owned()])).is_ok());
}

#[test]
fn claims_without_meaning_are_refused() {
    let with = |change: fn(&mut TokenBody)| {
        let mut body = body();
        change(&mut body);
        verified(&body)
    };
    for wrong in [
        with(|b| b.login = "Ann".to_owned()),
        with(|b| b.login = "justinfan1".to_owned()),
        with(|b| b.sub = "a b".to_owned()),
        with(|b| b.name = Some("a\nb".to_owned())),
        with(|b| b.color = Some("red".to_owned())),
        with(|b| b.badges = vec!["a;b/1".to_owned()]),
        with(|b| b.badges = vec!["a/1".to_owned(); 9]),
        with(|b| b.roles = [("De mo".to_owned(), vec![])].into()),
        with(|b| b.follows = (0..65).map(|n| (format!("c{n}"), 1)).collect()),
    ] {
        assert_eq!(wrong, Err(TokenError::Claims));
    }
}

#[test]
fn foreign_and_forged_tokens_are_refused() {
    let jwt = signed(&body());
    let foreign = FILE.replace("new HS256 AAEC", "new HS256 AAED");
    let foreign = Signer::of_file(&foreign).unwrap().sign(&body()).unwrap();
    assert_eq!(keys().verify(&foreign, NOW), Err(TokenError::Signature));
    let unknown = FILE.replace("new HS256", "other HS256");
    let unknown = Signer::of_file(&unknown).unwrap().sign(&body()).unwrap();
    assert_eq!(keys().verify(&unknown, NOW), Err(TokenError::Signature));
    // {"alg":"none","kid":"new"} in front of the same claims.
    let mut parts = jwt.split('.');
    let claims = parts.nth(1).unwrap();
    let none = format!("eyJhbGciOiJub25lIiwia2lkIjoibmV3In0.{claims}.");
    assert!(keys().verify(&none, NOW).is_err());
    // Another algorithm than the key's, by the right secret.
    let header = Header {
        kid: Some("new".to_owned()),
        ..Header::new(Algorithm::HS512)
    };
    let secret = URL_SAFE_NO_PAD.decode("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
    let secret = secret.unwrap();
    let other = jsonwebtoken::encode(&header, &body(), &EncodingKey::from_secret(&secret)).unwrap();
    assert_eq!(keys().verify(&other, NOW), Err(TokenError::Signature));
    for text in ["", "abc", "a.b.c", "...", &"a".repeat(5_000)] {
        assert_eq!(
            keys().verify(text, NOW),
            Err(TokenError::Malformed),
            "{text}"
        );
    }
}

#[test]
fn eddsa_keys_verify_what_their_owner_signed() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = pair.public_key().as_ref();
    let encoded = URL_SAFE_NO_PAD.encode(public);
    let keys = TokenKeys::parse(&format!("ed EdDSA {encoded}\n"), "chat").unwrap();
    let der = pair.to_pkcs8v1().unwrap();
    let header = Header {
        kid: Some("ed".to_owned()),
        ..Header::new(Algorithm::EdDSA)
    };
    let jwt = jsonwebtoken::encode(&header, &body(), &EncodingKey::from_ed_der(der.as_ref()));
    let jwt = jwt.unwrap();
    assert!(keys.verify(&jwt, NOW).is_ok());
    let seed = format!("ed EdDSA seed:{}", URL_SAFE_NO_PAD.encode([7; 32]));
    let by_seed = TokenKeys::parse(&seed, "chat").unwrap();
    let own = Signer::of_file(&seed).unwrap().sign(&body()).unwrap();
    assert!(keys.verify(&own, NOW).is_ok());
    assert!(by_seed.verify(&jwt, NOW).is_ok());
    assert!(keys.verify(&base32(jwt.as_bytes()), NOW).is_ok());
}

proptest! {
    #[test]
    fn base32_is_undone(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert_eq!(base32_decode(&base32(&bytes)), Some(bytes));
    }

    #[test]
    fn no_token_panics(token in ".{0,80}") {
        prop_assert!(keys().verify(&token, NOW).is_err());
    }
}
