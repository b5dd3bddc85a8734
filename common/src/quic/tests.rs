use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::Path;

use clap::Parser;
use prometheus::Registry;
use quinn::ClientConfig;
use rcgen::ExtendedKeyUsagePurpose;

use super::*;
use crate::certs::{Authority, CertsArgs, Validity, run};
use crate::names::NodeId;
use crate::tls::{LINK_ALPN, NODE_NAME};

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
        link_budget: LinkBudget::default(),
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
async fn a_child_may_open_requests_for_hundreds_of_channels_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let listener = listener(dir.path(), &Registry::new());
    let address = listener.local_addr().unwrap();
    let dialer = dialer(&config(dir.path(), "edge"));
    let (parent, child) = tokio::join!(accepted(&listener), dialer.connect(address));
    let (parent, child) = (parent.unwrap().0, child.unwrap().0);
    let accepts = tokio::spawn(async move {
        let (mut limit, mut open) = (RequestLimit::default(), Vec::new());
        while open.len() < MAX_REQUEST_STREAMS as usize {
            let request = parent.accept_bi().await.unwrap();
            limit.keep_ahead(&parent, open.len());
            open.push(request);
        }
        (parent, open)
    });
    let mut open = Vec::new();
    for _ in 0..MAX_REQUEST_STREAMS {
        let (mut send, receive) = child.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        open.push((send, receive));
    }
    let _held = accepts.await.unwrap();
    // The next one waits until another has ended.
    let waits = std::future::poll_fn(|cx| {
        let mut one_more = std::pin::pin!(child.open_bi());
        std::task::Poll::Ready(one_more.as_mut().poll(cx).is_pending())
    });
    assert!(waits.await);
}

/// As a killed process: its socket is gone, and nobody was told.
fn accept_once_and_die(dir: &Path) -> (std::thread::JoinHandle<()>, SocketAddr) {
    let (told, listens) = std::sync::mpsc::channel();
    let dir = dir.to_owned();
    let parent = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        // What the runtime no longer drives can say no good-bye.
        let left = runtime.block_on(async {
            let listener = listener(&dir, &Registry::new());
            told.send(listener.local_addr().unwrap()).unwrap();
            let connection = accepted(&listener).await.unwrap();
            connection.0.accept_uni().await.unwrap();
            (listener, connection)
        });
        drop(runtime);
        drop(left);
    });
    (parent, listens.recv().unwrap())
}

#[tokio::test]
async fn a_parent_that_was_killed_and_is_back_resets_its_children() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let (parent, address) = accept_once_and_die(dir.path());
    let dialer = dialer(&config(dir.path(), "edge"));
    let (child, _) = dialer.connect(address).await.unwrap();
    // Tells that this side has all of the handshake.
    let mut last = child.open_uni().await.unwrap();
    last.write_all(b"x").await.unwrap();
    last.finish().unwrap();
    tokio::task::spawn_blocking(|| parent.join().unwrap())
        .await
        .unwrap();
    let config = config(dir.path(), "origin");
    let credentials = config.credentials().unwrap();
    let _again = server_endpoint(address, &config, &credentials, &Registry::new()).unwrap();
    // A link that is only silent ends as TimedOut.
    assert_eq!(child.closed().await, ConnectionError::Reset);
}

#[test]
fn a_certificate_makes_one_kind_of_node() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let edge = config(dir.path(), "edge");
    assert!(edge.credentials_as(Role::Edge).is_ok());
    let posing = edge.credentials_as(Role::Origin).unwrap_err().to_string();
    assert!(
        posing.ends_with("edge.pem: a certificate for an edge; this node needs one for an origin"),
        "{posing}"
    );
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
async fn a_certificate_of_the_ca_without_a_role_opens_no_link() {
    let authority = Authority::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, pem: &str| std::fs::write(dir.path().join(name), pem).unwrap();
    put("ca.pem", &authority.pem());
    for (role, id) in [(Role::Origin, "origin"), (Role::Edge, "edge")] {
        let issued = authority
            .node(role, &NodeId::parse(id).unwrap(), Validity::from_now())
            .unwrap();
        put(&format!("{id}.pem"), &issued.cert_pem);
        put(&format!("{id}.key"), &issued.key_pem);
    }
    let usages = [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let names = vec![NODE_NAME.to_owned(), "chat.millrace".to_owned()];
    let uris = vec!["millrace://node/guest".to_owned()];
    let issued = authority
        .issue("guest", names, uris, &usages, Validity::from_now())
        .unwrap();
    put("guest.pem", &issued.cert_pem);
    put("guest.key", &issued.key_pem);
    let edge = config(dir.path(), "edge");
    let guest = NodeCredentials::load_unchecked(
        &dir.path().join("ca.pem"),
        &dir.path().join("guest.pem"),
        &dir.path().join("guest.key"),
    );

    // As a child: TLS lets it in, its certificate does not make it a node.
    let registry = Registry::new();
    let listener = listener(dir.path(), &registry);
    let parent = listener.local_addr().unwrap();
    let child = client_endpoint(&edge, &guest).unwrap();
    let (child, server) = tokio::join!(child.connect(parent), accepted(&listener));
    assert!(matches!(
        server,
        Err(HandshakeError::Identity {
            source: IdentityError::NoRole,
            ..
        })
    ));
    let closed = child.unwrap().0.closed().await;
    assert!(
        matches!(&closed, ConnectionError::ApplicationClosed(close) if close.error_code == UNAUTHORISED.into()),
        "{closed}"
    );

    // As a parent: likewise.
    let registry = Registry::new();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = server_endpoint(any, &edge, &guest, &registry).unwrap();
    let parent = listener.local_addr().unwrap();
    let dialer = dialer(&edge);
    let (child, _server) = tokio::join!(dialer.connect(parent), accepted(&listener));
    assert!(matches!(child, Err(HandshakeError::Identity { .. })));
}

/// First datagrams of as many clients, caught by a socket that never answers.
async fn first_datagrams(dialer: &Dialer, count: usize) -> Vec<Vec<u8>> {
    let silent = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let address = silent.local_addr().unwrap();
    let mut clients = Vec::with_capacity(count);
    let mut seen = HashSet::new();
    let mut caught = Vec::with_capacity(count);
    let mut buffer = vec![0; 2048];
    while caught.len() < count {
        clients.push(
            dialer
                .endpoint
                .connect_with(
                    ClientConfig::clone(&dialer.client.load()),
                    address,
                    NODE_NAME,
                )
                .unwrap(),
        );
        let length = silent.recv(&mut buffer).await.unwrap();
        // RFC 9000, 17.2: flags, version, then the length of the destination's
        // id and the id. A client's further datagrams repeat it.
        let id_end = 6 + usize::from(buffer[5]);
        if seen.insert(buffer[6..id_end].to_vec()) {
            caught.push(buffer[..length].to_vec());
        }
    }
    caught
}

#[tokio::test]
async fn a_flood_of_first_datagrams_costs_places_and_bytes_that_are_bounded() {
    const FLOOD: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let registry = Registry::new();
    let listener = listener(dir.path(), &registry);
    let parent = listener.local_addr().unwrap();
    let flood = first_datagrams(&dialer(&config(dir.path(), "edge")), FLOOD).await;

    // The attacker's address is not its own: it never answers what comes back.
    let attacker = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let mut under_way = Vec::new();
    let mut sent = 0;
    let mut returned = 0;
    let mut buffer = vec![0; 65536];
    let dialer = dialer(&config(dir.path(), "edge"));
    let retried = || listener.handshakes.with_label_values(&["retried"]).get();
    for (index, datagram) in flood.iter().enumerate() {
        sent += attacker.send_to(datagram, parent).await.unwrap();
        if index < RETRY_ABOVE {
            under_way.push(listener.accept().await.unwrap());
            continue;
        }
        // Whatever comes back, the others get no place.
        tokio::select! {
            _ = listener.accept() => unreachable!("an unproven address got a place"),
            length = attacker.recv(&mut buffer) => returned += length.unwrap(),
        }
    }
    assert_eq!(under_way.len(), RETRY_ABOVE);
    let handshakes: Vec<_> = under_way
        .into_iter()
        .map(|handshake| tokio::spawn(handshake.finish()))
        .collect();
    let (good, server) = tokio::join!(dialer.connect(parent), accepted(&listener));
    assert!(good.is_ok() && server.is_ok(), "a good node still gets in");
    while let Ok(length) = attacker.try_recv(&mut buffer) {
        returned += length;
    }
    assert!(returned <= 3 * sent, "{returned} bytes for {sent}");
    assert!(retried() > 0 && retried() <= u64::try_from(FLOOD).unwrap());
    for handshake in handshakes {
        handshake.abort();
    }
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

/// A child that reads nothing is sent no more than its window, whatever its
/// parent has to send, and the parent buffers no more than that beside it.
#[tokio::test]
async fn a_link_holds_no_more_than_its_budget() {
    const WINDOW: u64 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let small = |stem| LinkConfig {
        link_budget: LinkBudget {
            link_window_bytes: WINDOW,
            ..LinkBudget::default()
        },
        ..config(dir.path(), stem)
    };
    let (origin, registry) = (small("origin"), Registry::new());
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let credentials = origin.credentials().unwrap();
    let listener = server_endpoint(any, &origin, &credentials, &registry).unwrap();
    let parent = listener.local_addr().unwrap();
    let dialer = dialer(&small("edge"));
    let (child, server) = tokio::join!(dialer.connect(parent), accepted(&listener));
    let (child, server) = (child.unwrap().0, server.unwrap().0);
    let written = Arc::new(std::sync::atomic::AtomicU64::new(0));
    for _ in 0..8 {
        let (server, written) = (server.clone(), written.clone());
        tokio::spawn(async move {
            let mut stream = server.open_uni().await.unwrap();
            for _ in 0..1_000 {
                stream.write_all(&[7; 1_000]).await.unwrap();
                written.fetch_add(1_000, std::sync::atomic::Ordering::Relaxed);
            }
        });
    }
    let received = || child.stats().udp_rx.bytes;
    while received() < WINDOW {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Time for more to come, were there any: what the other direction carries.
    for _ in 0..20 {
        let mut up = child.open_uni().await.unwrap();
        up.write_all(b"up").await.unwrap();
        up.finish().unwrap();
        let mut up = server.accept_uni().await.unwrap();
        assert_eq!(up.read_to_end(8).await.unwrap(), b"up");
    }
    let (received, written) = (
        received(),
        written.load(std::sync::atomic::Ordering::Relaxed),
    );
    assert!(received < WINDOW * 5 / 4, "{received} bytes at the child");
    assert!(written <= 2 * WINDOW, "{written} bytes taken by the parent");
}

/// As [`a_link_holds_no_more_than_its_budget`], for their number.
#[tokio::test]
async fn links_are_bounded_in_number() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let registry = Registry::new();
    let mut listener = listener(dir.path(), &registry);
    listener.max_links = 1;
    let parent = listener.local_addr().unwrap();
    let dialer = dialer(&config(dir.path(), "edge"));
    let (child, server) = tokio::join!(dialer.connect(parent), accepted(&listener));
    let (child, server) = (child.unwrap(), server.unwrap());
    let refused = tokio::select! {
        refused = dialer.connect(parent) => refused,
        _ = listener.accept() => unreachable!("one is all"),
    };
    assert!(matches!(refused, Err(HandshakeError::Connection { .. })));
    assert_eq!(listener.handshakes.with_label_values(&["refused"]).get(), 1);
    drop((child, server));
}

/// A new CA and new certificates for both ends, one after the other: links of
/// before go on, and new ones need both.
#[tokio::test]
async fn certificates_are_renewed_while_links_go_on() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let registry = Registry::new();
    let (origin, edge) = (config(dir.path(), "origin"), config(dir.path(), "edge"));
    let listener = listener(dir.path(), &registry);
    let dialer = dialer(&edge);
    let renewal = |config: &LinkConfig| {
        let identity = config.credentials().unwrap().identity().clone();
        Renewal::new(config.clone(), identity, config.files())
    };
    let of_listener = renewal(&origin).of_listener(&listener);
    let of_dialer = renewal(&edge).of_dialer(&dialer);
    let parent = listener.local_addr().unwrap();
    let (child, server) = tokio::join!(dialer.connect(parent), accepted(&listener));
    let (child, server) = (child.unwrap().0, server.unwrap().0);

    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    of_listener.renew().unwrap_err();
    of_dialer.renew().unwrap_err();
    run(&CertsArgs {
        out: dir.path().to_owned(),
        origin: NodeId::parse("origin").unwrap(),
        edges: vec![NodeId::parse("edge").unwrap()],
        web_names: Vec::new(),
        force: true,
    })
    .unwrap();
    // Not yet read: both still are of the old CA.
    let (again, _server) = tokio::join!(dialer.connect(parent), accepted(&listener));
    again.unwrap();
    of_listener.renew().unwrap();
    let (refused, _server) = tokio::join!(dialer.connect(parent), accepted(&listener));
    assert!(refused.is_err());
    of_dialer.renew().unwrap();
    let (again, met) = tokio::join!(dialer.connect(parent), accepted(&listener));
    assert!(again.is_ok() && met.is_ok());
    let mut stream = server.open_uni().await.unwrap();
    stream.write_all(b"on").await.unwrap();
    stream.finish().unwrap();
    let mut stream = child.accept_uni().await.unwrap();
    assert_eq!(stream.read_to_end(8).await.unwrap(), b"on");

    // Another node's certificate is no renewal of this one's.
    let swapped = LinkConfig {
        link_cert: origin.link_cert.clone(),
        link_key: origin.link_key.clone(),
        ..edge.clone()
    };
    let identity = edge.credentials().unwrap().identity().clone();
    let other = Renewal::new(swapped, identity, edge.files()).of_dialer(&dialer);
    let error = other.renew().unwrap_err().to_string();
    assert!(
        error.contains("origin.pem: a certificate for origin"),
        "{error}"
    );

    // A renewal does not open again what a drain has closed.
    listener.stop_accepting();
    of_listener.renew().unwrap();
    assert!(dialer.connect(parent).await.is_err());
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
