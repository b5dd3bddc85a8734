//! Command line of `loadtest`: publishers and viewers that speak the public
//! protocols from outside, and say what they met.
//!
//! Exit status: 0 all was as asked for, 1 a threshold or a rule failed, 2 the
//! command could not be carried out.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod arrivals;
mod boxes;
mod chat;
mod check;
mod client;
mod clock;
mod compare;
mod figures;
mod follow;
mod impair;
mod ingests;
mod m3u8;
mod mpd;
mod output;
mod playout;
mod progress;
mod publish;
mod share;
mod stamp;
mod track;
mod url;
mod watch;

/// Publishes to Millrace and watches it, as many at once as asked for, and
/// measures what arrives.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish over RTMP in real time, each frame stamped with the time of its write
    Publish(Box<publish::PublishArgs>),
    /// Fill chat rooms over IRC or NATS, talk at a steady rate, and compare what everybody read
    Chat(Box<chat::ChatArgs>),
    /// Hold any vendor's low-latency HLS or DASH to the conformance rules
    Check(check::CheckArgs),
    /// Compare two edges' playlists byte for byte at equal versions
    CompareEdges(compare::CompareArgs),
    /// Measure the way to each origin of a node's directory and name the nearest
    Ingests(ingests::IngestsArgs),
    /// Forward UDP over a path with delay, jitter, loss, reordering, a rate and cuts
    Impair(impair::ImpairArgs),
    /// Watch low-latency HLS, DASH or endless streams as players do: latency, stalls, gaps, errors
    Watch(Box<watch::WatchArgs>),
}

fn main() -> ExitCode {
    let version: &str = common::telemetry::version(option_env!("MILLRACE_COMMIT")).leak();
    let matches = Cli::command().version(version).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match start(&cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(command: &Command) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            Command::Chat(args) => chat::run(args).await,
            Command::Publish(args) => publish::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::CompareEdges(args) => compare::run(args).await,
            Command::Impair(args) => impair::run(args).await,
            Command::Ingests(args) => ingests::run(args).await,
            Command::Watch(args) => watch::run(args).await,
        }
    })
}
