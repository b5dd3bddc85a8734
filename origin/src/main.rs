//! Command line of `origin`.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser};
use common::{
    api::{ApiConfig, Links, NodeApi},
    certs::{self, CertsArgs},
    link::{LinkServer, LinkServerMetrics, NodeConfig},
    live::{Abouts, ArchiveMetrics, Audience, Directory},
    quic::{self, LinkConfig, LinkListenConfig, Renewal},
    reload::Reloads,
    shutdown::{Shutdown, ShutdownConfig, Signals},
    telemetry::{self, LogConfig, OpsConfig, OpsServer, Readiness, metrics},
    tls::{Role, WebCertificate},
};
use origin::{
    api::WebApi,
    broadcast::{BroadcastConfig, BroadcastMetrics, Broadcasts, Titles},
    chat::{ChatApi, ChatConfig, ChatMetrics, Policies, Recorder, Rooms, Store},
    keys::{KeyRing, KeysConfig},
    rtmp::{RtmpConfig, RtmpMetrics, RtmpServer},
    webhook::{WebhookConfig, WebhookMetrics, Webhooks},
};
use tokio::sync::mpsc;

/// The ops port of an origin unless told otherwise.
const OPS_PORT: u16 = 9100;

/// Authorised publishes that the broadcasts have not looked at yet: a burst of
/// reconnects. Further ones wait in their own connections.
const PUBLISHES_WAITING: usize = 64;

/// Takes live video in over RTMP and hands it to edges as low-latency CMAF.
///
/// Streamers publish to rtmp://HOST/live/KEY; the keys file says which channel
/// a key owns. Edges connect to --link-listen with certificates of the same CA.
#[derive(Debug, Parser)]
#[command(
    name = "origin",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        origin certs --out certs --edge edge-1 --edge edge-2\n  \
        origin --keys keys.txt --journal journal --link-ca certs/ca.pem \\\n    \
        --link-cert certs/origin.pem --link-key certs/origin.key\n  \
        origin --dvr 30m --dvr-dir /var/lib/millrace/past ...    viewers can go back half an hour\n\n\
        The keys file has a line for each key: KEY CHANNEL. It, the certificates, chat's files, tokens and secrets\n\
        are read again when they change and on SIGHUP; a file with a mistake changes nothing. A key that is taken\n\
        off the file ends its publish. The API on the ops port is described by /api/v1/openapi.json there.\n\
        SIGTERM drains: publishers are told, edges keep what they have."
)]
struct Serve {
    #[command(flatten)]
    rtmp: RtmpConfig,
    #[command(flatten)]
    keys: KeysConfig,
    #[command(flatten)]
    broadcast: BroadcastConfig,
    #[command(flatten)]
    chat: ChatConfig,
    #[command(flatten)]
    link_listen: LinkListenConfig,
    #[command(flatten)]
    node: NodeConfig,
    #[command(flatten)]
    link: LinkConfig,
    #[command(flatten)]
    webhook: WebhookConfig,
    #[command(flatten)]
    ops: OpsConfig,
    #[command(flatten)]
    api: ApiConfig,
    #[command(flatten)]
    shutdown: ShutdownConfig,
    #[command(flatten)]
    log: LogConfig,
}

fn command() -> Command {
    Serve::command().subcommand(CertsArgs::augment_args(Command::new("certs")))
}

fn main() -> ExitCode {
    let matches = command().get_matches();
    let outcome = match matches.subcommand() {
        Some(("certs", matches)) => {
            parsed(CertsArgs::from_arg_matches(matches)).and_then(|args| make_certs(&args))
        }
        _ => parsed(Serve::from_arg_matches(&matches)).and_then(run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("origin: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// clap prints its own errors best.
fn parsed<T>(arguments: Result<T, clap::Error>) -> anyhow::Result<T> {
    Ok(arguments.unwrap_or_else(|error| error.exit()))
}

fn make_certs(args: &CertsArgs) -> anyhow::Result<()> {
    for path in certs::run(args)? {
        println!("{}", path.display());
    }
    Ok(())
}

#[tokio::main]
async fn run(serve: Serve) -> anyhow::Result<()> {
    telemetry::init(&serve.log)?;
    let registry = metrics::registry("origin");
    let readiness = Readiness::new();
    let shutdown = Shutdown::new();
    let signals = Signals::install().context("can't listen to signals")?;

    let link_files = serve.link.files();
    let credentials = serve.link.credentials_as(Role::Origin)?;
    let node = credentials.identity().node.clone();
    let keys = KeyRing::from_config(&serve.keys)?;
    let directory = Arc::new(Directory::default());
    let (abouts, audience) = (Arc::<Abouts>::default(), Arc::<Audience>::default());

    // Every port is bound before any of them serves: a taken one ends the start
    // with one line and nothing half alive.
    let (publishes, arriving) = mpsc::channel(PUBLISHES_WAITING);
    let rtmp = RtmpServer::bind(
        &serve.rtmp,
        keys.clone(),
        RtmpMetrics::register(&registry),
        publishes,
    )
    .await?;
    let listener = quic::server_endpoint(
        serve.link_listen.link_listen,
        &serve.link,
        &credentials,
        &registry,
    )
    .context("--link-listen")?;
    let mut reloads = Reloads::new(&registry);
    Renewal::new(
        serve.link.clone(),
        credentials.identity().clone(),
        link_files,
    )
    .of_listener(&listener)
    .watched_by(&mut reloads);
    watch_files(&mut reloads, keys.clone(), rtmp.certificate());
    let policies = Policies::from_config(&serve.chat.policy)?;
    policies.watched_by(&mut reloads);
    let token = serve.api.token()?;
    if let Some(token) = &token {
        token.watched_by("api token", &mut reloads);
    }
    let chat_api = ChatApi::from_config(&serve.chat.api, token.clone())?;
    if let Some(api) = &chat_api {
        api.watched_by(&mut reloads);
    }
    let webhooks = Webhooks::from_config(
        &serve.webhook,
        node.clone(),
        WebhookMetrics::register(&registry),
        &mut reloads,
    )?;
    let ops_listen = serve.ops.listen(OPS_PORT);
    let ops = OpsServer::bind(ops_listen, registry.clone(), readiness.clone())
        .await
        .with_context(|| format!("--ops-listen {ops_listen}"))?;
    let archive = serve
        .broadcast
        .dvr
        .open(ArchiveMetrics::register(&registry));
    let playable_within = serve.broadcast.playable_within();
    let titles = Titles::open(serve.broadcast.journal.as_deref(), abouts.clone());
    let titles = Arc::new(titles.context("--journal")?);
    let broadcasts = Broadcasts::new(
        serve.broadcast,
        node.clone(),
        directory.clone(),
        archive.context("--dvr-dir")?,
        BroadcastMetrics::register(&registry),
        shutdown.clone(),
    )
    .context("--journal")?
    .telling(abouts.clone(), webhooks.hooks());

    let store = Store::open(serve.chat.chat_store.as_deref()).context("--chat-store")?;
    let metrics = ChatMetrics::register(&registry);
    let recorder = Recorder::open(&serve.chat.record, directory.clone(), &metrics);
    let recorder = recorder.context("--chat-log")?;
    let (rooms, chat) = Rooms::new(&serve.chat, node.clone(), store, metrics.clone());
    let rooms = rooms.under(policies.follow()).recorded_by(recorder);
    let rooms = rooms.shown_in(audience.clone());
    let link = LinkServer::new(
        serve.node.hello(node.clone(), Role::Origin),
        directory.clone(),
        LinkServerMetrics::register(&registry),
    )
    .telling(abouts.clone(), audience.clone())
    .leaving_to(serve.node.alternatives())
    .playable_within(playable_within)
    .with_chat(chat.clone());
    let children = link.children();
    let links = move || Links {
        parents: Vec::new(),
        children: children.seen(),
    };
    let api = WebApi {
        node: node.clone(),
        common: NodeApi::new(node.clone(), Role::Origin, token, shutdown.clone(), links),
        origins: chat.origins.clone(),
        chat: chat_api.map(|api| api.serve(chat, node.clone(), metrics)),
        directory,
        abouts,
        audience,
        titles,
        keys,
        control: broadcasts.control(),
    };
    let ops = ops.with_api(api.serve(&registry), shutdown.clone());
    tracing::info!(%node, link = %listener.local_addr()?, ops = %ops_listen, "origin is up");
    tokio::spawn(ops.run());
    tokio::spawn(reloads.run().context("can't listen to SIGHUP")?);
    tokio::spawn(link.run(listener, shutdown.clone()));
    tokio::spawn(broadcasts.run(arriving));
    tokio::spawn(rooms.run());
    tokio::spawn(rtmp.run(shutdown.clone()));
    tokio::spawn(webhooks.run(shutdown.clone()));

    let draining = shutdown.clone();
    tokio::spawn(async move {
        draining.draining().await;
        readiness.set_draining();
    });
    signals.drain_on_signal(&shutdown, &serve.shutdown).await;
    Ok(())
}

/// Stream keys, and the certificate of rtmps://.
fn watch_files(
    reloads: &mut Reloads,
    keys: Arc<KeyRing>,
    certificate: Option<Arc<WebCertificate>>,
) {
    reloads.add("stream keys", keys.files(), move || keys.reload());
    if let Some(web) = certificate {
        reloads.add("web certificate", web.files(), move || web.reload());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    /// Registering checks each name, unit and help text.
    #[test]
    fn all_metrics_fit_in_one_registry() {
        let registry = metrics::registry("origin");
        let _rtmp = RtmpMetrics::register(&registry);
        let _broadcasts = BroadcastMetrics::register(&registry);
        let _link = LinkServerMetrics::register(&registry);
        let _chat = ChatMetrics::register(&registry);
        let _past = ArchiveMetrics::register(&registry);
        let _webhooks = WebhookMetrics::register(&registry);
        let _reloads = Reloads::new(&registry);
        assert!(registry.gather().len() > 20);
    }

    #[test]
    fn every_flag_is_also_an_environment_variable() {
        let command = command();
        let of_subcommands = command.get_subcommands().flat_map(Command::get_arguments);
        for argument in command.get_arguments().chain(of_subcommands) {
            let id = argument.get_id().as_str();
            if !["help", "version"].contains(&id) {
                assert!(argument.get_env().is_some(), "--{id} has no variable");
            }
        }
    }
}
