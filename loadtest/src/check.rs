//! `loadtest check`: holds a low-latency HLS or DASH URL, anybody's, to our rules.
//!
//! In: a playlist's or a manifest's URL. Out: each rule by id as pass, fail with evidence, or
//! not seen. [`collect`] watches and asks; everything else is a pure function
//! from what was [`Observed`] to [`Verdicts`].

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    client::{Net, TlsArgs},
    url::Url,
};

mod answers;
mod collect;
mod dash;
mod lists;
mod media;
mod observed;
mod verdicts;

use observed::Observed;
use verdicts::Verdicts;

#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// A multivariant or media playlist, or a DASH manifest (.mpd)
    pub url: String,
    /// How long to watch; a rule needs its case to occur
    #[arg(long, default_value_t = 30, value_name = "N")]
    pub seconds: u64,
    /// How late a part, segment or first byte may come for the machine's sake (H3, D7), in
    /// milliseconds
    #[arg(long, default_value_t = 150, value_name = "MS")]
    pub slack_ms: u32,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// One line of JSON in place of the table
    #[arg(long)]
    pub json: bool,
}

/// # Errors
/// A URL that isn't one, or that isn't a playlist.
pub async fn run(args: &CheckArgs) -> Result<bool> {
    let url = Url::parse(&args.url)?;
    let tls = if url.tls {
        Some(args.tls.config(false)?)
    } else {
        None
    };
    let net = Arc::new(Net::new(tls, false));
    let deadline = Instant::now() + Duration::from_secs(args.seconds);
    let slack_us = i64::from(args.slack_ms) * 1_000;
    let is_manifest = url
        .path
        .split('?')
        .next()
        .is_some_and(|path| path.ends_with(".mpd"));
    let verdicts = if is_manifest {
        dash::check(net, &url, deadline, slack_us).await?
    } else {
        let mut observed = collect::collect(net, &url, deadline).await?;
        observed.slack_us = slack_us;
        judge(&observed)
    };
    if args.json {
        println!("{}", as_json(&verdicts));
    } else {
        print(&verdicts);
    }
    let broken = verdicts.broken();
    if !broken.is_empty() {
        eprintln!("loadtest: {url} breaks {}", broken.join(", "));
    }
    Ok(broken.is_empty())
}

fn judge(observed: &Observed) -> Verdicts {
    let mut verdicts = Verdicts::default();
    lists::check(observed, &mut verdicts);
    media::check(observed, &mut verdicts);
    answers::check(observed, &mut verdicts);
    verdicts
}

fn print(verdicts: &Verdicts) {
    for (id, text, verdict) in verdicts.all() {
        match verdict {
            None => println!("{id:<4} not seen  {text}"),
            Some(verdict) if verdict.broken == 0 => {
                println!("{id:<4} pass      {text} ({} times)", verdict.held);
            }
            Some(verdict) => {
                let all = verdict.held + verdict.broken;
                println!(
                    "{id:<4} FAIL      {text} ({} of {all} times)",
                    verdict.broken
                );
                for line in &verdict.evidence {
                    println!("               {line}");
                }
            }
        }
    }
}

fn as_json(verdicts: &Verdicts) -> serde_json::Value {
    let rules = verdicts.all().map(|(id, text, verdict)| {
        let word = match verdict {
            None => "not seen",
            Some(verdict) if verdict.broken == 0 => "pass",
            Some(_) => "fail",
        };
        json!({"rule": id, "text": text, "verdict": word, "seen": verdict})
    });
    json!({"rules": rules.collect::<Vec<_>>(), "broken": verdicts.broken()})
}

#[cfg(test)]
mod tests;
