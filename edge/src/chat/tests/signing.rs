//! Who gets in, and in which order it may be said.

use common::chat::token::{Audience, base32};

use super::rig::{KEYS, NOW, Rig, token, token_by};

const WELCOME: [&str; 7] = ["001", "002", "003", "004", "375", "372", "376"];

fn numerics(lines: &[String]) -> Vec<&str> {
    let words = lines.iter().filter_map(|line| line.split(' ').nth(1));
    words.filter(|word| word.parse::<u16>().is_ok()).collect()
}

#[test]
fn registration_takes_pass_nick_user_and_cap_in_any_order() {
    let rig = Rig::signed();
    let pass = format!("PASS oauth:{}", token("ann", |_| {}));
    let (nick, user) = ("NICK ann", "USER ann 0 * :Ann");
    let orders: [&[&str]; 8] = [
        &[&pass, nick],
        &[nick, &pass],
        &[nick, user, &pass],
        &[&pass, user, nick],
        &[
            "CAP LS 302",
            &pass,
            nick,
            user,
            "CAP REQ :twitch.tv/tags",
            "CAP END",
        ],
        &["CAP LS 302", nick, user, "CAP END", &pass],
        &["CAP REQ :twitch.tv/tags twitch.tv/commands", &pass, nick],
        &["CAP LS", nick, "CAP END", user, &pass],
    ];
    for order in orders {
        let mut client = rig.client();
        for line in order {
            client.says(line);
        }
        let lines = client.hears();
        assert_eq!(numerics(&lines), WELCOME, "{order:?}: {lines:?}");
        assert!(lines.iter().any(|line| line.contains(" 001 ann ")));
        // What comes late is no mistake.
        client.says(user);
        client.says(&pass);
        client.hears_only(&[]);
    }
}

#[test]
fn nobody_is_in_before_cap_end() {
    let rig = Rig::new(&[]);
    let mut client = rig.client();
    client.says("CAP LS 302");
    client.says("NICK ann");
    let lines = client.hears();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with(":tmi.twitch.tv CAP * LS :twitch.tv/tags "),
        "{lines:?}"
    );
    client.says("CAP REQ :batch nonsense");
    client.hears_only(&[":tmi.twitch.tv CAP * NAK :batch nonsense"]);
    client.says("JOIN #demo");
    client.hears_only(&[":tmi.twitch.tv 451 * :You have not registered"]);
    client.says("CAP END");
    assert_eq!(numerics(&client.hears()), WELCOME);
    client.says("CAP LIST");
    client.hears_only(&[":tmi.twitch.tv CAP ann LIST :"]);
}

#[test]
fn a_token_is_taken_in_both_forms_and_says_the_name() {
    let rig = Rig::signed();
    let jwt = token("ann", |body| body.name = Some("Ann".to_owned()));
    for pass in [jwt.clone(), base32(jwt.as_bytes())] {
        let mut client = rig.client();
        client.says(&format!("PASS oauth:{pass}"));
        client.says("NICK somebody_else");
        assert!(client.hears()[0].starts_with(":tmi.twitch.tv 001 ann "));
    }
}

#[test]
fn bad_tokens_are_all_told_the_same() {
    let rig = Rig::signed();
    let good = token("ann", |_| {});
    for pass in [
        "oauth:".to_owned(),
        "oauth:abc".to_owned(),
        format!("oauth:{}", good.to_lowercase()),
        format!("oauth:{}x", good),
        format!(
            "oauth:{}",
            token("ann", |body| body.exp = NOW.0 / 1_000 - 60)
        ),
        format!(
            "oauth:{}",
            token("ann", |body| body.aud = Audience::One("x".to_owned()))
        ),
        format!("oauth:{}", token("justinfan1", |_| {})),
        // Signed with other keys, under a kid of ours and under none of ours.
        format!(
            "oauth:{}",
            token_by(&KEYS.replace("AAEC", "AAED"), "ann", |_| {})
        ),
        format!(
            "oauth:{}",
            token_by(&KEYS.replace("k ", "x "), "ann", |_| {})
        ),
    ] {
        let mut client = rig.client();
        client.says(&format!("PASS {pass}"));
        client.says("NICK ann");
        client.hears_only(&[
            ":tmi.twitch.tv NOTICE * :Login authentication failed",
            "ERROR :Closing link: Login authentication failed",
        ]);
        assert!(client.0.ending().is_some());
        client.says("JOIN #demo");
        client.hears_only(&[]);
    }
    let mut client = rig.client();
    client.says(&format!("PASS {good}"));
    client.says("NICK ann");
    assert!(client.hears()[0].ends_with(":Improperly formatted auth"));
}

/// What somebody is told who comes from this address with a name and a token.
fn signs_in(rig: &Rig, last: u8, nick: &str, token: &str) -> String {
    let mut client = rig.client_at([10, 0, 0, last].into());
    client.says(&format!("PASS oauth:{token}"));
    client.says(&format!("NICK {nick}"));
    client.hears().swap_remove(0)
}

const TOO_MANY: &str = ":tmi.twitch.tv NOTICE * :Too many sign-ins, try again later";

#[test]
fn sign_ins_of_a_user_are_limited() {
    let rig = Rig::signed();
    let ann = token("ann", |_| {});
    for _ in 0..20 {
        assert!(signs_in(&rig, 1, "ann", &ann).contains(" 001 ann "));
    }
    // Under another name and from elsewhere it is the same user.
    assert_eq!(signs_in(&rig, 2, "not_ann", &ann), TOO_MANY);
    assert!(signs_in(&rig, 1, "bob", &token("bob", |_| {})).contains(" 001 bob "));
}

/// Who has no token of a user can't keep that user out, nor anybody else, from one
/// address or from many.
#[test]
fn strangers_lock_nobody_out() {
    let rig = Rig::signed();
    let failed = ":tmi.twitch.tv NOTICE * :Login authentication failed";
    for number in 0..2_000 {
        // The victim's name, and others' for a table to fill with.
        let name = if number % 2 == 0 {
            "ann".to_owned()
        } else {
            format!("u{number}")
        };
        assert_eq!(signs_in(&rig, 1, &name, "guess"), failed);
    }
    assert_eq!(signs_in(&rig, 1, "ann", "guess"), TOO_MANY);
    for last in 2..=255 {
        assert_eq!(signs_in(&rig, last, "ann", "guess"), failed);
    }
    assert!(signs_in(&rig, 2, "ann", &token("ann", |_| {})).contains(" 001 ann "));
    assert!(signs_in(&rig, 3, "bob", &token("bob", |_| {})).contains(" 001 bob "));
}

#[test]
fn anonymous_users_read_and_do_not_write() {
    let mut rig = Rig::signed();
    rig.stands("demo");
    for pass in ["", "PASS SCHMOOPIIE"] {
        let mut client = rig.client();
        client.says(pass);
        client.says("NICK justinfan12345");
        client.says("JOIN #demo");
        assert!(
            client
                .hears()
                .iter()
                .any(|line| line.contains("JOIN #demo"))
        );
        client.says("PRIVMSG #demo :hello");
        client.hears_only(&[":tmi.twitch.tv NOTICE #demo :Sign in to talk."]);
    }
    assert!(rig.asked().is_none());
}

#[test]
fn a_token_that_runs_out_ends_talking() {
    let mut rig = Rig::signed();
    rig.stands("demo");
    let mut client = rig.client();
    client.says(&format!(
        "PASS oauth:{}",
        token("ann", |body| body.exp = NOW.0 / 1_000)
    ));
    client.says("NICK ann");
    client.says("JOIN #demo");
    client.hears();
    client.says("PRIVMSG #demo :hello");
    assert!(client.hears()[0].ends_with(":Login authentication failed"));
    assert!(client.0.ending().is_some() && rig.asked().is_none());
}

#[test]
fn names_that_are_none_are_refused() {
    let rig = Rig::new(&[]);
    let mut client = rig.client();
    client.says("NICK a-b");
    client.hears_only(&[":tmi.twitch.tv 432 * a-b :Erroneous nickname"]);
    // Who moderates over the ops port goes by it.
    client.says("NICK Operator");
    client.hears_only(&[":tmi.twitch.tv 432 * Operator :Erroneous nickname"]);
    client.says("NICK");
    client.hears_only(&[":tmi.twitch.tv 461 * NICK :Not enough parameters"]);
    client.says("NICK Ann");
    assert!(client.hears()[0].starts_with(":tmi.twitch.tv 001 ann "));
    client.says("NICK bob");
    client.hears_only(&[":tmi.twitch.tv 437 ann bob :Your name is that of your token"]);
}
