//! `loadtest check`: holds a low-latency HLS or DASH URL, anybody's, to our rules.
//!
//! In: a playlist's or a manifest's URL. Out: each rule by id as pass, fail with evidence, or
//! not seen. [`collect`] watches and asks; everything else is a pure function
//! from what was [`Observed`] to [`Verdicts`].

use std::{fmt::Write as _, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    client::{Net, TlsArgs},
    output,
    progress::Progress,
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
use verdicts::{Verdict, Verdicts};

#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = "\
With --json one object in one line: command, passed, url, seconds, rules, broken, failed. Each of rules has \
rule (its id), text, verdict (pass, fail or not seen) and seen (held and broken, how often; evidence, a few \
lines of it); broken lists the ids that failed.

Exit status: 0 no rule failed, 1 a rule failed or --must-see was not met, 2 the URL gives no playlist.")]
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
    /// Fail also if one of these rules had no case, for example --must-see H4,R1
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub must_see: Vec<String>,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// One line of JSON in place of the table
    #[arg(long)]
    pub json: bool,
}

/// What `--json` shows.
#[derive(Debug, Serialize)]
struct Report<'a> {
    url: String,
    seconds: u64,
    rules: Vec<Rule<'a>>,
    broken: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Rule<'a> {
    rule: &'static str,
    text: &'static str,
    verdict: &'static str,
    seen: Option<&'a Verdict>,
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
    let is_manifest = url
        .path
        .split('?')
        .next()
        .is_some_and(|path| path.ends_with(".mpd"));
    known(&args.must_see, is_manifest)?;
    let net = Arc::new(Net::new(tls, false));
    let length = Duration::from_secs(args.seconds);
    let deadline = Instant::now() + length;
    let slack_us = i64::from(args.slack_ms) * 1_000;
    let shown = url.to_string();
    let progress = Progress::over(Some(length), move || shown.clone());
    let verdicts = if is_manifest {
        dash::check(net, &url, deadline, slack_us).await?
    } else {
        let mut observed = collect::collect(net, &url, deadline).await?;
        observed.slack_us = slack_us;
        judge(&observed)
    };
    drop(progress);
    let report = report(&url, args.seconds, &verdicts);
    let failed = failures(&report, &args.must_see);
    output::leave("check", &report, &failed, args.json, || table(&verdicts))
}

/// # Errors
/// The rule that there is none of.
fn known(rules: &[String], is_manifest: bool) -> Result<()> {
    let none = if is_manifest {
        Verdicts::of_dash()
    } else {
        Verdicts::default()
    };
    for rule in rules {
        if !none.all().any(|(id, _, _)| id == rule) {
            let ids: Vec<_> = none.all().map(|(id, _, _)| id).collect();
            bail!(
                "--must-see {rule}: no such rule, for example --must-see {}; all are {}",
                ids.first().unwrap_or(&"H1"),
                ids.join(",")
            );
        }
    }
    Ok(())
}

fn report<'a>(url: &Url, seconds: u64, verdicts: &'a Verdicts) -> Report<'a> {
    let rules = verdicts.all().map(|(rule, text, seen)| Rule {
        rule,
        text,
        verdict: match seen {
            None => "not seen",
            Some(verdict) if verdict.broken == 0 => "pass",
            Some(_) => "fail",
        },
        seen,
    });
    Report {
        url: url.to_string(),
        seconds,
        rules: rules.collect(),
        broken: verdicts.broken(),
    }
}

fn failures(report: &Report<'_>, must_see: &[String]) -> Vec<String> {
    let mut failed = Vec::new();
    let url = &report.url;
    if !report.broken.is_empty() {
        failed.push(format!("{url} breaks {}", report.broken.join(", ")));
    }
    let unseen = |rule: &&Rule<'_>| {
        rule.verdict == "not seen" && must_see.iter().any(|must| must == rule.rule)
    };
    let unseen: Vec<_> = report
        .rules
        .iter()
        .filter(unseen)
        .map(|rule| rule.rule)
        .collect();
    if !unseen.is_empty() {
        failed.push(format!("{url} had no case of {}", unseen.join(", ")));
    }
    failed
}

fn judge(observed: &Observed) -> Verdicts {
    let mut verdicts = Verdicts::default();
    lists::check(observed, &mut verdicts);
    media::check(observed, &mut verdicts);
    answers::check(observed, &mut verdicts);
    verdicts
}

fn table(verdicts: &Verdicts) -> String {
    let mut out = String::new();
    for (id, text, verdict) in verdicts.all() {
        // Writing to a string succeeds.
        let _ = match verdict {
            None => writeln!(out, "{id:<4} not seen  {text}"),
            Some(Verdict {
                held, broken: 0, ..
            }) => writeln!(out, "{id:<4} pass      {text} ({held} times)"),
            Some(Verdict {
                held,
                broken,
                evidence,
            }) => {
                let all = held + broken;
                let _ = writeln!(out, "{id:<4} FAIL      {text} ({broken} of {all} times)");
                let lines = evidence
                    .iter()
                    .map(|line| format!("               {line}\n"));
                out.extend(lines);
                Ok(())
            }
        };
    }
    out
}

#[cfg(test)]
mod tests;
