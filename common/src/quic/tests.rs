use std::path::Path;

use clap::Parser;

use super::*;
use crate::certs::{CertsArgs, run};
use crate::names::NodeId;
use crate::tls::{LINK_ALPN, Role};

fn made(dir: &Path) {
    run(&CertsArgs {
        out: dir.to_owned(),
        origin: NodeId::parse("origin").unwrap(),
        edges: vec![NodeId::parse("edge").unwrap()],
        web_names: Vec::new(),
        force: false,
    })
    .unwrap();
}

fn config(dir: &Path, stem: &str) -> LinkConfig {
    LinkConfig {
        link_ca: dir.join("ca.pem"),
        link_cert: dir.join(format!("{stem}.pem")),
        link_key: dir.join(format!("{stem}.key")),
        link_congestion: Congestion::Bbr,
        link_gso: Switch::On,
    }
}

fn listener(dir: &Path, registry: &Registry) -> Listener {
    let config = config(dir, "origin");
    let credentials = config.credentials().unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    server_endpoint(any, &config, &credentials, registry).unwrap()
}

fn dialer(config: &LinkConfig) -> Dialer {
    client_endpoint(config, &config.credentials().unwrap()).unwrap()
}

async fn accepted(listener: &Listener) -> Result<(Connection, Identity), HandshakeError> {
    listener.accept().await.unwrap().finish().await
}

#[tokio::test]
async fn two_nodes_connect_and_know_each_other() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let registry = Registry::new();
    let listener = listener(dir.path(), &registry);
    let parent = listener.local_addr().unwrap();
    for (congestion, gso) in [
        (Congestion::Bbr, Switch::On),
        (Congestion::Cubic, Switch::Off),
    ] {
        let dialer = dialer(&LinkConfig {
            link_congestion: congestion,
            link_gso: gso,
            ..config(dir.path(), "edge")
        });
        let (child, server) = tokio::join!(dialer.connect(parent), accepted(&listener));
        let ((child, origin), (server, edge)) = (child.unwrap(), server.unwrap());
        assert_eq!((origin.role, edge.role), (Role::Origin, Role::Edge));
        assert_eq!(origin.node.to_string(), "origin");
        assert_eq!(edge.node.to_string(), "edge");
        let data = child.handshake_data().unwrap();
        let data = data
            .downcast::<quinn::crypto::rustls::HandshakeData>()
            .unwrap();
        assert_eq!(data.protocol.as_deref(), Some(LINK_ALPN));

        // Media flows from parent to child, more than one window of credit.
        allow_tracks(&child, 40);
        let sent = vec![7u8; 9_000_000];
        let received = tokio::join!(
            async {
                let mut stream = server.open_uni().await.unwrap();
                stream.write_all(&sent).await.unwrap();
                stream.finish().unwrap();
            },
            async {
                let mut stream = child.accept_uni().await.unwrap();
                stream.read_to_end(10_000_000).await.unwrap()
            }
        )
        .1;
        assert!(received == sent);
        child.close(0u32.into(), b"");
        server.closed().await;
    }
}

#[tokio::test]
async fn strangers_are_refused() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    made(ours.path());
    made(theirs.path());
    let registry = Registry::new();
    let listener = listener(ours.path(), &registry);
    let parent = listener.local_addr().unwrap();

    // A whole other cluster: the child itself refuses the parent.
    let foreign = dialer(&config(theirs.path(), "edge"));
    let (child, server) = tokio::join!(foreign.connect(parent), accepted(&listener));
    assert!(matches!(child, Err(HandshakeError::Connection { .. })));
    assert!(matches!(server, Err(HandshakeError::Connection { .. })));

    // The right CA in the wrong hands: the parent refuses the child.
    let stolen_ca = NodeCredentials::load(
        &theirs.path().join("ca.pem"),
        &theirs.path().join("edge.pem"),
        &theirs.path().join("edge.key"),
    )
    .unwrap()
    .trusting(&config(ours.path(), "edge").credentials().unwrap());
    let forger = client_endpoint(&config(theirs.path(), "edge"), &stolen_ca).unwrap();
    let (child, server) = tokio::join!(forger.connect(parent), accepted(&listener));
    assert!(matches!(server, Err(HandshakeError::Connection { .. })));
    if let Ok((connection, _)) = child {
        connection.closed().await;
    }

    // And a good one still gets in.
    let good = dialer(&config(ours.path(), "edge"));
    let (child, server) = tokio::join!(good.connect(parent), accepted(&listener));
    assert!(child.is_ok() && server.is_ok());
}

#[tokio::test]
async fn crowded_listeners_ask_for_proof_of_address() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let registry = Registry::new();
    let mut listener = listener(dir.path(), &registry);
    listener.retry_above = 1;
    let parent = listener.local_addr().unwrap();
    let dialer = dialer(&config(dir.path(), "edge"));

    let first = dialer.clone();
    let first = tokio::spawn(async move { first.connect(parent).await });
    let under_way = listener.accept().await.unwrap();
    assert_eq!(listener.handshakes.with_label_values(&["retried"]).get(), 0);

    // With one handshake held up, the next comer proves its address and gets in.
    let (second, server) = tokio::join!(dialer.connect(parent), accepted(&listener));
    assert!(second.is_ok() && server.is_ok());
    assert_eq!(listener.handshakes.with_label_values(&["retried"]).get(), 1);
    under_way.finish().await.unwrap();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn full_listeners_refuse() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let registry = Registry::new();
    let listener = listener(dir.path(), &registry);
    let parent = listener.local_addr().unwrap();
    let all = u32::try_from(MAX_HANDSHAKES).unwrap();
    let taken = listener.places.clone().try_acquire_many_owned(all).unwrap();
    let dialer = dialer(&config(dir.path(), "edge"));
    let refused = tokio::select! {
        refused = dialer.connect(parent) => refused,
        _ = listener.accept() => unreachable!("no place is free"),
    };
    assert!(matches!(refused, Err(HandshakeError::Connection { .. })));
    assert_eq!(listener.handshakes.with_label_values(&["refused"]).get(), 1);
    drop(taken);
    let (child, server) = tokio::join!(dialer.connect(parent), accepted(&listener));
    assert!(child.is_ok() && server.is_ok());
}

#[tokio::test]
async fn a_closed_listener_ends() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let registry = Registry::new();
    let listener = listener(dir.path(), &registry);
    listener.close(0u32.into(), b"over");
    assert!(listener.accept().await.is_none());
    listener.wait_idle().await;
}

#[test]
fn windows_hold_twice_the_path() {
    assert_eq!(LINK_WINDOW_BYTES, 25_000_000);
    assert_eq!(STREAM_WINDOW_BYTES, 4_000_000);
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    link: LinkConfig,
    #[command(flatten)]
    listen: LinkListenConfig,
}

#[test]
fn flags() {
    let needed = [
        "node",
        "--link-ca",
        "a",
        "--link-cert",
        "b",
        "--link-key",
        "c",
    ];
    let cli = Cli::try_parse_from(needed).unwrap();
    assert_eq!(cli.link.link_congestion, Congestion::Bbr);
    assert_eq!(cli.link.link_gso, Switch::On);
    assert_eq!(cli.listen.link_listen.to_string(), "127.0.0.1:4443");
    let more = ["--link-congestion", "cubic", "--link-gso", "off"];
    let cli = Cli::try_parse_from(needed.iter().chain(&more)).unwrap();
    assert_eq!(cli.link.link_congestion, Congestion::Cubic);
    assert_eq!(cli.link.link_gso, Switch::Off);
    let error = Cli::try_parse_from(["node"]).err().unwrap().to_string();
    assert!(error.contains("--link-ca"), "{error}");
}
