//! Command line of `origin`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser};
use common::{
    api::{ApiConfig, Links, NodeApi},
    certs::{self, CertsArgs},
    ingest::Ingests,
    link::{LinkServer, LinkServerMetrics, NodeConfig},
    live::{Abouts, ArchiveMetrics, Audience, Directory, Hearsay},
    quic::{self, LinkConfig, LinkListenConfig, Port, Renewal},
    reload::Reloads,
    service::{Inherited, Manager},
    shutdown::{Shutdown, ShutdownConfig, Signals},
    telemetry::{self, LogConfig, OpsConfig, OpsServer, Readiness, metrics},
    tls::{Role, WebCertificate},
};
use origin::{
    api::WebApi,
    broadcast::{BroadcastConfig, BroadcastMetrics, Broadcasts, Titles},
    chat::{ChatApi, ChatConfig, ChatMetrics, Policies, Recorder, Rooms, Store},
    ingest::{self, IngestConfig},
    keys::{KeyRing, KeysConfig},
    rtmp::{HandOver, HandOverConfig, HandedOver, RtmpConfig, RtmpMetrics, RtmpServer},
    webhook::{WebhookConfig, WebhookMetrics, Webhooks},
};
use tokio::sync::mpsc;

/// Known where the build says it.
const COMMIT: Option<&str> = option_env!("MILLRACE_COMMIT");

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
        origin --dvr 30m --dvr-dir /var/lib/millrace/past ...    viewers can go back half an hour\n  \
        origin --public-rtmp rtmp://ingest-ams.example.net/live --region eu-ams --city Amsterdam \\\n    \
        --location 52.37,4.90 ...    listed on /ingests and /go-live of the edges\n\n\
        The keys file has a line for each key: KEY CHANNEL. It, the certificates, chat's files, tokens and secrets\n\
        are read again when they change and on SIGHUP; a file with a mistake changes nothing. A key that is taken\n\
        off the file ends its publish. The API on the ops port is described by /api/v1/openapi.json there.\n\
        SIGTERM drains: publishers are told, edges keep what they have. Under systemd the sockets rtmp, rtmps, link and ops\n\
        may be passed (LISTEN_FDNAMES), so that nobody who connects during a restart is refused; with --hand-over\n\
        rtmp:// publishers stay connected through it."
)]
struct Serve {
    #[command(flatten)]
    rtmp: RtmpConfig,
    #[command(flatten)]
    hand_over: HandOverConfig,
    #[command(flatten)]
    keys: KeysConfig,
    #[command(flatten)]
    ingest: IngestConfig,
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
    Serve::command()
        .version(version())
        .subcommand(health_command())
        .subcommand(CertsArgs::augment_args(Command::new("certs")))
}

fn version() -> &'static str {
    telemetry::version(COMMIT).leak()
}

fn health_command() -> Command {
    let about = "Ask the node on this machine whether it is ready; exit status 0 if it is";
    OpsConfig::augment_args(Command::new("health").about(about))
}

fn main() -> ExitCode {
    let matches = command().get_matches();
    let outcome = match matches.subcommand() {
        Some(("health", matches)) => parsed(OpsConfig::from_arg_matches(matches))
            .and_then(|ops| Ok(telemetry::health(ops.listen(OPS_PORT))?))
            .map(|words| print!("{words}")),
        Some(("certs", matches)) => {
            parsed(CertsArgs::from_arg_matches(matches)).and_then(|args| make_certs(&args))
        }
        _ => parsed(Serve::from_arg_matches(&matches))
            // Before any thread runs, since it changes the environment.
            .and_then(|serve| run(serve, Inherited::from_env().beside(&matches))),
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
async fn run(serve: Serve, mut inherited: Inherited) -> anyhow::Result<()> {
    serve.chat.check()?;
    telemetry::init(&serve.log)?;
    let manager = Arc::new(Manager::from_env().context("NOTIFY_SOCKET")?);
    let registry = metrics::registry_of("origin", COMMIT);
    let readiness = Readiness::new();
    let shutdown = Shutdown::new();
    let signals = Signals::install().context("can't listen to signals")?;

    let link_files = serve.link.files();
    let credentials = serve.link.credentials_as(Role::Origin)?;
    let node = credentials.identity().node.clone();
    let keys = KeyRing::from_config(&serve.keys)?;
    let directory = Arc::new(Directory::default());
    let ingests = Arc::new(Ingests::default());
    let (abouts, audience) = (Arc::<Abouts>::default(), Arc::<Audience>::default());
    let hearsay = Arc::<Hearsay>::default();

    // Every port is bound before any of them serves: a taken one ends the start
    // with one line and nothing half alive.
    let (publishes, arriving) = mpsc::channel(PUBLISHES_WAITING);
    let hand_over = HandOver::from_config(&serve.hand_over, &manager).context("--hand-over")?;
    let handed = HandedOver::from_config(&serve.hand_over, &mut inherited);
    let mut handed = handed.context("LISTEN_FDS")?;
    let rtmp = RtmpServer::bind(
        &serve.rtmp,
        &mut inherited,
        keys.clone(),
        RtmpMetrics::register(&registry),
        publishes,
    )
    .await?
    .handing_over(handed.publishers(), hand_over.clone());
    let link_listen = serve.link_listen.link_listen;
    let held = inherited.udp("link", link_listen).context("LISTEN_FDS")?;
    let link_port = held.map_or(Port::At(link_listen), Port::Held);
    let listener = quic::server_endpoint(link_port, &serve.link, &credentials, &registry)
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
    let ops_port = inherited
        .listener("ops", ops_listen)
        .await
        .with_context(|| format!("--ops-listen {ops_listen}"))?;
    let ops_address = ops_port.local_addr()?;
    let ops = OpsServer::on(ops_port, registry.clone(), readiness.clone()).listing(ingests.clone());
    inherited.all_taken()?;
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
    let rooms = rooms
        .shown_in(audience.clone())
        .preferring(directory.clone())
        .until(shutdown.clone());
    let link = LinkServer::new(
        serve.node.hello(node.clone(), Role::Origin),
        directory.clone(),
        LinkServerMetrics::register(&registry),
    )
    .telling_of(ingests.clone())
    .telling(abouts.clone(), audience.clone())
    .hearing(hearsay.clone())
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
        directory: directory.clone(),
        abouts,
        audience,
        hearsay,
        titles,
        keys,
        control: broadcasts.control(),
    };
    let ops = ops.with_api(api.serve(&registry), shutdown.clone());
    tracing::info!(%node, link = %listener.local_addr()?, ops = %ops_address, "origin is up");
    if let Some(own) = serve.ingest.ingest(node) {
        // Before the first edge can ask.
        ingests.set(vec![own.clone()]);
        tokio::spawn(ingest::tell(own, ingests, directory, shutdown.clone()));
    }
    let reloads = reloads.run().context("can't listen to SIGHUP")?;
    handed.arrived(&manager);
    tokio::spawn(ops.run());
    tokio::spawn(reloads);
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
    manager.tell("READY=1");
    let deadline = hand_over_deadline(&serve.shutdown);
    let leaving = async {
        manager.tell("STOPPING=1");
        if let Some(hand_over) = hand_over {
            shutdown.returns();
            if !hand_over.everybody(deadline).await {
                tracing::warn!("some publishers had no keyframe in time; they have to come again");
            }
        }
    };
    signals
        .drain_after(&shutdown, &serve.shutdown, leaving)
        .await;
    Ok(())
}

/// What publishers get to come to a keyframe: half of the drain's time.
fn hand_over_deadline(config: &ShutdownConfig) -> Duration {
    Duration::from_secs(config.drain_timeout) / 2
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
        // A node's own are found by the flag's name.
        for argument in command.get_arguments() {
            let (flag, variable) = (argument.get_long(), argument.get_env());
            if let (Some(flag), Some(variable)) = (flag, variable) {
                let named = format!("MILLRACE_{}", flag.to_uppercase().replace('-', "_"));
                assert_eq!(variable.to_str(), Some(&*named), "--{flag}");
            }
        }
    }
}
