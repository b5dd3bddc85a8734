//! Command line of `edge`.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Parser;
use common::{
    link::{LinkServer, LinkServerMetrics, demands},
    live::{Directory, register_window_metrics},
    quic::{self, LinkConfig},
    shutdown::{Shutdown, ShutdownConfig, Signals},
    telemetry::{self, LogConfig, OpsConfig, OpsServer, Readiness, metrics},
    tls::{Role, WebCertificate},
};
use edge::{
    http::{self, HttpConfig, HttpMetrics},
    page,
    upstream::{ChildrenConfig, Upstream, UpstreamConfig, UpstreamMetrics},
};
use tokio::signal::unix::{SignalKind, signal};

/// The ops port of an edge unless told otherwise.
const OPS_PORT: u16 = 9101;

/// Pulls live video from its parents over QUIC and serves it to viewers.
///
/// Parents are origins or other edges; with --link-listen it is a parent itself.
/// Viewers open http://HOST/watch/CHANNEL; players read
/// http://HOST/live/CHANNEL/index.m3u8.
#[derive(Debug, Parser)]
#[command(
    name = "edge",
    version,
    after_help = "Example:\n  \
        edge --parent origin.example.net:4443 --link-ca certs/ca.pem \\\n    \
        --link-cert certs/edge-1.pem --link-key certs/edge-1.key \\\n    \
        --https-listen 0.0.0.0:443 --tls-cert web.pem --tls-key web.key\n\n\
        SIGHUP reads the certificate of --tls-cert and --tls-key again.\n\
        SIGTERM drains: requests under way are finished, connections are closed."
)]
struct Cli {
    #[command(flatten)]
    http: HttpConfig,
    #[command(flatten)]
    upstream: UpstreamConfig,
    #[command(flatten)]
    children: ChildrenConfig,
    #[command(flatten)]
    link: LinkConfig,
    #[command(flatten)]
    ops: OpsConfig,
    #[command(flatten)]
    shutdown: ShutdownConfig,
    #[command(flatten)]
    log: LogConfig,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(cli: Cli) -> anyhow::Result<()> {
    telemetry::init(&cli.log)?;
    let registry = metrics::registry("edge");
    let readiness = Readiness::new();
    let shutdown = Shutdown::new();
    let signals = Signals::install().context("can't listen to signals")?;

    let credentials = cli.link.credentials_as(Role::Edge)?;
    let node = credentials.identity().node.clone();
    let listeners = http::bind(&cli.http).await?;
    let ops_listen = cli.ops.listen(OPS_PORT);
    let ops = OpsServer::bind(ops_listen, registry.clone(), readiness.clone())
        .await
        .with_context(|| format!("--ops-listen {ops_listen}"))?;
    let dialer = quic::client_endpoint(&cli.link, &credentials)?;
    let children = match cli.children.link_listen {
        Some(listen) => Some(
            quic::server_endpoint(listen, &cli.link, &credentials, &registry)
                .context("--link-listen")?,
        ),
        None => None,
    };
    let hello = cli.children.node.hello(node.clone(), Role::Edge);
    let directory = Arc::new(Directory::default());
    register_window_metrics(&registry, directory.clone());
    let upstream = Arc::new(Upstream::start(
        &cli.upstream,
        hello.clone(),
        dialer,
        directory.clone(),
        UpstreamMetrics::register(&registry),
    ));
    if let Some(listener) = children {
        let (demands, demanded) = demands();
        let link = LinkServer::new(hello, directory, LinkServerMetrics::register(&registry))
            .pulling(demands, upstream.sync())
            .leaving_to(cli.children.node.alternatives());
        tracing::info!(link = %listener.local_addr()?, "edge takes children");
        tokio::spawn(upstream.clone().serve(demanded));
        tokio::spawn(link.run(listener, shutdown.clone()));
    }

    tracing::info!(%node, ops = %ops_listen, "edge is up");
    if !page::has_bundle() {
        tracing::warn!("this binary carries no player: build it after deploy/web");
    }
    tokio::spawn(ops.run());
    tokio::spawn(reload_on_hangup(listeners.certificate())?);
    tokio::spawn(tell_readiness(
        readiness,
        upstream.clone(),
        shutdown.clone(),
    ));
    let http_metrics = HttpMetrics::register(&registry);
    tokio::spawn(http::serve(
        cli.http,
        listeners,
        upstream,
        http_metrics,
        shutdown.clone(),
    ));
    signals.drain_on_signal(&shutdown, &cli.shutdown).await;
    Ok(())
}

/// SIGHUP reads the viewers' certificate again; without one it does nothing,
/// and does not end the process either.
fn reload_on_hangup(
    certificate: Option<Arc<WebCertificate>>,
) -> anyhow::Result<impl Future<Output = ()>> {
    let mut hangups = signal(SignalKind::hangup()).context("can't listen to SIGHUP")?;
    Ok(async move {
        while hangups.recv().await.is_some() {
            match certificate.as_ref().map(|web| web.reload()) {
                Some(Ok(())) => tracing::info!("the certificate was read again"),
                Some(Err(error)) => {
                    tracing::error!("{error}; the certificate before it stays in use");
                }
                None => {}
            }
        }
    })
}

/// Ready once a parent has told what is live: before that, every channel would
/// be answered 503.
async fn tell_readiness(readiness: Readiness, upstream: Arc<Upstream>, shutdown: Shutdown) {
    let parent = readiness.condition("parent", "no parent has answered yet");
    tokio::select! {
        () = upstream.until_synced() => parent.met(),
        () = shutdown.draining() => {}
    }
    shutdown.draining().await;
    readiness.set_draining();
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command, time::Duration};

    use clap::CommandFactory;
    use common::tls::web_server_config;
    use rcgen::generate_simple_self_signed;
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
        crypto::aws_lc_rs, pki_types::CertificateDer,
    };

    use super::*;

    fn make(cert: &Path, key: &Path) -> CertificateDer<'static> {
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(key, made.signing_key.serialize_pem()).unwrap();
        fs::write(cert, made.cert.pem()).unwrap();
        made.cert.der().clone()
    }

    /// Whether a viewer that trusts this certificate alone is served.
    fn shows(server: &Arc<ServerConfig>, only: &CertificateDer<'static>) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(only.clone()).unwrap();
        let client = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client =
            ClientConnection::new(client.into(), "localhost".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(server.clone()).unwrap();
        while client.is_handshaking() {
            let mut flight = Vec::new();
            client.write_tls(&mut flight).unwrap();
            server.read_tls(&mut &flight[..]).unwrap();
            server.process_new_packets().unwrap();
            flight.clear();
            server.write_tls(&mut flight).unwrap();
            client.read_tls(&mut &flight[..]).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        true
    }

    #[tokio::test]
    async fn a_hangup_reads_the_certificate_again() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let first = make(&cert, &key);
        let web = WebCertificate::load(&cert, &key).unwrap();
        let server = web_server_config(web.clone()).unwrap();
        tokio::spawn(reload_on_hangup(Some(web)).unwrap());
        let second = make(&cert, &key);
        assert!(shows(&server, &first) && !shows(&server, &second));
        let itself = std::process::id().to_string();
        let sent = Command::new("kill").args(["-HUP", &itself]).status();
        assert!(sent.unwrap().success());
        let reloaded = async {
            while !shows(&server, &second) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reloaded)
            .await
            .unwrap();
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Registering checks each name, unit and help text.
    #[test]
    fn all_metrics_fit_in_one_registry() {
        let registry = metrics::registry("edge");
        let _http = HttpMetrics::register(&registry);
        let _upstream = UpstreamMetrics::register(&registry);
        let _link = LinkServerMetrics::register(&registry);
        register_window_metrics(&registry, Arc::default());
        assert!(registry.gather().len() > 15);
    }

    #[test]
    fn every_flag_is_also_an_environment_variable() {
        for argument in Cli::command().get_arguments() {
            let id = argument.get_id().as_str();
            if !["help", "version"].contains(&id) {
                assert!(argument.get_env().is_some(), "--{id} has no variable");
            }
        }
    }
}
