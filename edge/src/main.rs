//! Command line of `edge`.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Parser;
use common::{
    live::Directory,
    quic::{self, LinkConfig},
    shutdown::{Shutdown, ShutdownConfig, Signals},
    telemetry::{self, LogConfig, OpsConfig, OpsServer, Readiness, metrics},
    tls::Role,
};
use edge::{
    http::{self, HttpConfig, HttpMetrics},
    page,
    upstream::{Upstream, UpstreamConfig, UpstreamMetrics},
};

/// The ops port of an edge unless told otherwise.
const OPS_PORT: u16 = 9101;

/// Pulls live video from its parents over QUIC and serves it to viewers.
///
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
        SIGTERM drains: requests under way are finished, connections are closed."
)]
struct Cli {
    #[command(flatten)]
    http: HttpConfig,
    #[command(flatten)]
    upstream: UpstreamConfig,
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
    let upstream = Arc::new(Upstream::start(
        &cli.upstream,
        node.clone(),
        dialer,
        Arc::new(Directory::default()),
        UpstreamMetrics::register(&registry),
    ));

    tracing::info!(%node, ops = %ops_listen, "edge is up");
    if !page::has_bundle() {
        tracing::warn!("this binary carries no player: build it after deploy/web");
    }
    tokio::spawn(ops.run());
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
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
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
