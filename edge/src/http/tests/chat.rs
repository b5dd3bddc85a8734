//! What pages ask about chat, and the policy that they come with.

use super::rig::Rig;

const KEYS: &str = "k HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n";

fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_page_learns_who_may_write_and_the_emotes() {
    let dir = tempfile::tempdir().unwrap();
    let keys = file(&dir, "keys", KEYS);
    let emotes = file(
        &dir,
        "emotes",
        "wave 7 \u{1f44b}\nKappa 25 https://cdn.example.net/k.png\n",
    );
    let open = Rig::chatting(&["--chat-emotes", &emotes]).await;
    let about = open.get("/api/v1/chat").await;
    assert_eq!(
        about.text(),
        "{\"sign_in\":\"name\",\"emotes\":{\"Kappa\":\"https://cdn.example.net/k.png\",\"wave\":\"\u{1f44b}\"}}"
    );
    assert_eq!(about.header("content-type"), "application/json");
    let signed = Rig::chatting(&["--chat-keys", &keys]).await;
    assert_eq!(
        signed.get("/api/v1/chat").await.text(),
        r#"{"sign_in":"token","emotes":{}}"#
    );
    for path in ["/api/v1/chat/token?login=ann", "/sign-in"] {
        assert_eq!(signed.get(path).await.status, 404, "{path}");
    }
    let none = Rig::live(&[]).await;
    for path in ["/api/v1/chat", "/api/v1/chat/token?login=ann", "/sign-in"] {
        assert_eq!(none.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_development_edge_signs_in_whoever_comes() {
    let dir = tempfile::tempdir().unwrap();
    let keys = file(&dir, "keys", KEYS);
    let rig = Rig::chatting(&["--chat-keys", &keys, "--chat-sign-in-key", &keys]).await;
    assert!(
        rig.get("/api/v1/chat")
            .await
            .text()
            .contains(r#""sign_in":"page""#)
    );
    let given = rig.get("/api/v1/chat/token?login=ann&name=Ann").await;
    assert_eq!(given.status, 200);
    assert!(
        given.text().starts_with(r#"{"token":"ey"#),
        "{}",
        given.text()
    );
    assert_eq!(given.header("cache-control"), "no-store");
    assert_eq!(given.header("access-control-allow-origin"), "");
    let refused = rig.get("/api/v1/chat/token?login=a%20b").await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text().contains("login is 1 to 25"),
        "{}",
        refused.text()
    );
    let page = rig.get("/sign-in").await.status;
    assert_eq!(page, if crate::page::has_bundle() { 200 } else { 404 });
}

#[tokio::test]
async fn a_page_may_go_where_it_is_configured_to_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let emotes = file(&dir, "emotes", "Kappa 25 https://cdn.example.net/k.png\n");
    let flags = [
        "--chat-emotes",
        &emotes,
        "--alternative",
        "http://127.0.0.1:8081",
    ];
    let rig = Rig::chatting(&flags).await;
    let page = rig.get("/watch/demo").await;
    let policy = page.header("content-security-policy");
    for part in [
        "script-src 'self';",
        "img-src 'self' https://cdn.example.net;",
        "connect-src 'self' http://127.0.0.1:8081 ws://127.0.0.1:8081;",
    ] {
        assert!(policy.contains(part), "{part}: {policy}");
    }
    let plain = Rig::live(&[]).await;
    let policy = plain.get("/watch/demo").await;
    let policy = policy.header("content-security-policy");
    assert!(policy.contains("connect-src 'self';"), "{policy}");
}
