//! Command line of `edge`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser};
use common::{
    api::{ApiConfig, Links, NodeApi},
    link::{Children, LinkServer, LinkServerMetrics, demands},
    live::{Directory, register_window_metrics},
    quic::{self, LinkConfig, Port, Renewal},
    reload::Reloads,
    service::{Inherited, Manager},
    shutdown::{Shutdown, ShutdownConfig, Signals},
    telemetry::{self, Condition, LogConfig, OpsConfig, OpsServer, Readiness, metrics},
    tls::{Role, WebCertificate},
};
use edge::{
    chat::{self, Chat, ChatConfig, ChatMetrics},
    geo::{Geo, GeoConfig},
    http::{self, HttpConfig, HttpMetrics},
    page,
    upstream::{ChildrenConfig, Roster, Upstream, UpstreamConfig, UpstreamMetrics},
    view::{self, NewKeyArgs, TokenArgs, ViewConfig, ViewMetrics, Viewing},
};

/// Known where the build says it.
const COMMIT: Option<&str> = option_env!("MILLRACE_COMMIT");

/// The ops port of an edge unless told otherwise.
const OPS_PORT: u16 = 9101;

/// What was followed before viewers were taken is kept until those of the process
/// before have come over, which is asked to drain by then.
const WARM_FOR: Duration = Duration::from_secs(60);

/// Pulls live video from its parents over QUIC and serves it to viewers.
///
/// Parents are origins or other edges; with --link-listen it is a parent itself.
/// Viewers open http://HOST/watch/CHANNEL; players read
/// http://HOST/live/CHANNEL/index.m3u8.
#[derive(Debug, Parser)]
#[command(
    name = "edge",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        edge --parent origin.example.net:4443 --link-ca certs/ca.pem \\\n    \
        --link-cert certs/edge-1.pem --link-key certs/edge-1.key \\\n    \
        --https-listen 0.0.0.0:443 --tls-cert web.pem --tls-key web.key\n  \
        edge view-key --kid 2026-11 > view-keys\n  \
        edge token --view-keys view-keys --kid 2026-11 --channel demo --ttl 1h\n\n\
        Certificates, view keys, chat keys, emotes, parents, the places of addresses and the links' files are read again when they change, and all of\n\
        them on SIGHUP. A file with a mistake changes nothing; the log and /metrics say so.\n\
        SIGTERM drains: requests under way are finished, connections are closed. Under systemd the sockets http, https,\n\
        irc, ircs, link and ops may be passed (LISTEN_FDNAMES); two processes may have the same viewers' sockets, so that\n\
        one starts, with --warm-channels, before the other drains."
)]
struct Cli {
    #[command(flatten)]
    http: HttpConfig,
    #[command(flatten)]
    chat: ChatConfig,
    #[command(flatten)]
    view: ViewConfig,
    #[command(flatten)]
    geo: GeoConfig,
    #[command(flatten)]
    upstream: UpstreamConfig,
    #[command(flatten)]
    children: ChildrenConfig,
    #[command(flatten)]
    link: LinkConfig,
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
    Cli::command()
        .version(version())
        .subcommand(health_command())
        .subcommand(TokenArgs::augment_args(Command::new("token")))
        .subcommand(NewKeyArgs::augment_args(Command::new("view-key")))
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
        Some(("token", matches)) => parsed(TokenArgs::from_arg_matches(matches))
            .and_then(|args| Ok(view::mint(&args)? + "\n"))
            .map(|token| print!("{token}")),
        Some(("view-key", matches)) => parsed(NewKeyArgs::from_arg_matches(matches))
            .and_then(|args| Ok(view::new_key(&args)?))
            .map(|lines| print!("{lines}")),
        _ => parsed(Cli::from_arg_matches(&matches))
            // Before any thread runs, since it changes the environment.
            .and_then(|cli| run(cli, Inherited::from_env().beside(&matches))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// clap prints its own errors best.
fn parsed<T>(arguments: Result<T, clap::Error>) -> anyhow::Result<T> {
    Ok(arguments.unwrap_or_else(|error| error.exit()))
}

#[tokio::main]
async fn run(cli: Cli, mut inherited: Inherited) -> anyhow::Result<()> {
    telemetry::init(&cli.log)?;
    let manager = Arc::new(Manager::from_env().context("NOTIFY_SOCKET")?);
    let registry = metrics::registry_of("edge", COMMIT);
    let readiness = Readiness::new();
    let shutdown = Shutdown::new();
    let signals = Signals::install().context("can't listen to signals")?;

    let roster = Roster::from_config(&cli.upstream)?;
    let link_files = cli.link.files();
    let credentials = cli.link.credentials_as(Role::Edge)?;
    let node = credentials.identity().node.clone();
    let viewing = Viewing::from_config(&cli.view, ViewMetrics::register(&registry))?;
    let geo = Geo::from_config(&cli.geo)?;
    let listeners = http::bind(&cli.http, &mut inherited).await?;
    let irc = chat::bind(&cli.chat, &mut inherited, listeners.certificate()).await?;
    let ops_listen = cli.ops.listen(OPS_PORT);
    let ops_outlives = inherited.has("ops");
    let token = cli.api.token()?;
    let ops_port = inherited
        .listener("ops", ops_listen)
        .await
        .with_context(|| format!("--ops-listen {ops_listen}"))?;
    let ops_address = ops_port.local_addr()?;
    let ops = OpsServer::on(ops_port, registry.clone(), readiness.clone());
    let dialer = quic::client_endpoint(&cli.link, &credentials)?;
    let mut reloads = Reloads::new(&registry);
    let mut renewal = Renewal::new(cli.link.clone(), credentials.identity().clone(), link_files)
        .of_dialer(&dialer);
    let children = match cli.children.link_listen {
        Some(listen) => {
            let held = inherited.udp("link", listen).context("LISTEN_FDS")?;
            let port = held.map_or(Port::At(listen), Port::Held);
            let listener = quic::server_endpoint(port, &cli.link, &credentials, &registry)
                .context("--link-listen")?;
            renewal = renewal.of_listener(&listener);
            Some(listener)
        }
        None => None,
    };
    inherited.all_taken()?;
    renewal.watched_by(&mut reloads);
    watch_files(&mut reloads, listeners.certificate(), viewing.clone());
    if let Some(geo) = geo.clone() {
        reloads.add("places of addresses", geo.files(), move || geo.reload());
    }
    let hello = cli.children.node.hello(node.clone(), Role::Edge);
    let directory = Arc::new(Directory::default());
    register_window_metrics(&registry, directory.clone());
    let upstream = Arc::new(Upstream::start(
        &cli.upstream,
        roster.parents(),
        hello.clone(),
        dialer,
        directory.clone(),
        UpstreamMetrics::register(&registry),
    ));
    // An edge that sends its viewers here sends their pages.
    let mut chat_config = cli.chat;
    let alternatives = cli.http.alternatives.iter().cloned();
    chat_config.chat_allow_origins.extend(alternatives);
    let chat = Chat::start(
        chat_config,
        upstream.clone(),
        ChatMetrics::register(&registry),
        shutdown.clone(),
    )?;
    if let Some(files) = chat.key_files() {
        let chat = chat.clone();
        reloads.add("chat keys", files, move || chat.reload_keys());
    }
    if let Some(files) = chat.emote_files() {
        let chat = chat.clone();
        reloads.add("emotes", files, move || chat.reload_emotes());
    }
    let mut links_down = None;
    if let Some(listener) = children {
        let (demands, demanded) = demands();
        let link = LinkServer::new(hello, directory, LinkServerMetrics::register(&registry))
            .telling_of(upstream.ingests().clone())
            .pulling(demands, upstream.sync())
            .leaving_to(cli.children.node.alternatives())
            .playable_within(cli.http.starting())
            .telling(upstream.abouts().clone(), upstream.audience().clone())
            .with_chat(chat.port());
        links_down = Some(link.children());
        tracing::info!(link = %listener.local_addr()?, "edge takes children");
        tokio::spawn(upstream.clone().serve(demanded));
        tokio::spawn(link.run(listener, shutdown.clone()));
    }

    reloads.add("parents", roster.files(), move || roster.reload());
    tracing::info!(%node, ops = %ops_address, "edge is up");
    if !page::has_bundle() {
        tracing::warn!("this binary carries no player: build it after deploy/web");
    }
    if let Some(token) = &token {
        token.watched_by("api token", &mut reloads);
    }
    let links_up = upstream.clone();
    let links = move || Links {
        parents: links_up.links(),
        children: links_down.as_ref().map(Children::seen).unwrap_or_default(),
    };
    let api = NodeApi::new(node.clone(), Role::Edge, token, shutdown.clone(), links);
    // Before anybody can ask.
    let parent = readiness.condition("parent", "no parent has answered yet");
    let viewers = readiness.condition("viewers", "what is live can't be played here yet");
    let mut ops = Some(ops.with_api(api.serve(), shutdown.clone()).run());
    // One port with the process before this one, which answers while this warms up:
    // who asks whether the node is ready is told that it is.
    if !ops_outlives && let Some(ops) = ops.take() {
        tokio::spawn(ops);
    }
    tokio::spawn(reloads.run().context("can't listen to SIGHUP")?);
    tokio::spawn(tell_readiness(
        readiness,
        parent,
        upstream.clone(),
        shutdown.clone(),
    ));
    let http_metrics = HttpMetrics::register(&registry);
    let (most, within) = (cli.http.warm_channels as usize, cli.http.starting());
    let serving = http::serve(
        cli.http,
        listeners.with_chat(chat.clone()).with_geo(geo),
        upstream.clone(),
        viewing,
        http_metrics,
        shutdown.clone(),
    );
    let (leaving, told) = (shutdown.clone(), manager.clone());
    tokio::spawn(async move {
        let _warm = tokio::select! {
            warm = http::warm(&upstream, most, within) => warm,
            () = leaving.draining() => return,
        };
        told.tell("READY=1");
        tokio::spawn(chat::serve(irc, chat));
        tokio::spawn(serving);
        viewers.met();
        if let Some(ops) = ops {
            tokio::spawn(ops);
        }
        tokio::time::sleep(WARM_FOR).await;
    });
    let leaving = async { manager.tell("STOPPING=1") };
    signals.drain_after(&shutdown, &cli.shutdown, leaving).await;
    Ok(())
}

/// What viewers are shown and what they have to show.
fn watch_files(
    reloads: &mut Reloads,
    certificate: Option<Arc<WebCertificate>>,
    viewing: Option<Arc<Viewing>>,
) {
    if let Some(web) = certificate {
        reloads.add("web certificate", web.files(), move || web.reload());
    }
    if let Some(viewing) = viewing {
        reloads.add("view keys", viewing.files(), move || viewing.reload());
    }
}

/// Ready once a parent has told what is live: before that, every channel would
/// be answered 503.
async fn tell_readiness(
    readiness: Readiness,
    parent: Condition,
    upstream: Arc<Upstream>,
    shutdown: Shutdown,
) {
    tokio::select! {
        () = upstream.until_synced() => parent.met(),
        () = shutdown.draining() => {}
    }
    shutdown.draining().await;
    readiness.set_draining();
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

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
        let mut reloads = Reloads::new(&metrics::registry("edge"));
        watch_files(&mut reloads, Some(web), None);
        tokio::spawn(reloads.run().unwrap());
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
        command().debug_assert();
    }

    /// Registering checks each name, unit and help text.
    #[test]
    fn all_metrics_fit_in_one_registry() {
        let registry = metrics::registry("edge");
        let _http = HttpMetrics::register(&registry);
        let _upstream = UpstreamMetrics::register(&registry);
        let _chat = ChatMetrics::register(&registry);
        let _link = LinkServerMetrics::register(&registry);
        register_window_metrics(&registry, Arc::default());
        let _view = ViewMetrics::register(&registry);
        let _reloads = Reloads::new(&registry);
        assert!(registry.gather().len() > 15);
    }

    #[test]
    fn every_flag_is_also_an_environment_variable() {
        let command = command();
        let of_subcommands = command
            .get_subcommands()
            .flat_map(clap::Command::get_arguments);
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
