//! R1 to R5 and T2 to T5 on playlists, over a socket.

use super::rig::Rig;
use crate::fixture::{PARTS, V};

#[tokio::test]
async fn a_playlist_and_what_it_names() {
    let rig = Rig::live(&[]).await;
    let top = rig.get("/live/demo/index.m3u8").await;
    assert_eq!(top.status, 200);
    assert!(top.text().contains("\nv0.m3u8\n"), "{}", top.text());
    let list = rig.get("/live/demo/v0.m3u8").await;
    assert_eq!(list.status, 200);
    let mut named = 0;
    for line in list.text().lines() {
        let quoted = line
            .split_once("URI=\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        let uri = match quoted {
            Some((uri, _)) if !line.contains("PRELOAD-HINT") => uri,
            None if !line.starts_with('#') => line,
            _ => continue,
        };
        let reply = rig.get(&format!("/live/demo/{uri}")).await;
        assert_eq!(reply.status, 200, "{uri}");
        named += 1;
    }
    assert!(named > 20);
    let part = rig.get("/live/demo/7/v0/106.1.m4s").await;
    assert_eq!(part.text(), "v0 106.1;");
    let segment = rig.get("/live/demo/7/v0/105.m4s").await;
    let whole: String = (0..PARTS).map(|part| format!("v0 105.{part};")).collect();
    assert_eq!(segment.text(), whole);
}

#[tokio::test]
async fn r1_a_reload_is_held_until_its_part_exists() {
    let mut rig = Rig::live(&[]).await;
    let mut waits = rig.connect().await;
    waits
        .ask("GET", "/live/demo/v0.m3u8?_HLS_msn=106&_HLS_part=2", &[])
        .await;
    rig.until_held(1).await;
    rig.studio.part(V, 106, 2);
    let reply = waits.reply(false).await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("106.2.m4s\"\n"), "{}", reply.text());
}
