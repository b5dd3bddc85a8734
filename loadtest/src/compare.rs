//! `loadtest compare-edges`: do two edges give the same bytes?
//!
//! In: the same channel's multivariant playlist at two edges. Out: how many
//! equal versions were compared, plain, gzipped and as delta updates, and every
//! difference. Each edge's playlists are followed by tasks of their own; one
//! task owns the [`Ledger`].

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    client::{Ask, Lane, Net, TlsArgs, text},
    m3u8::{MediaPlaylist, Playlist, parse},
    output,
    progress::Progress,
    url::Url,
};

mod ledger;

use ledger::{Entry, Form, Ledger, Version};

#[derive(Debug, Clone, clap::Args)]
pub struct CompareArgs {
    /// The channel's multivariant playlist at one edge, and at the other
    #[arg(long, required = true, num_args = 1, value_name = "URL")]
    pub url: Vec<String>,
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub seconds: u64,
    /// Fail if fewer versions of a playlist were met at both edges
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub min_versions: u64,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// One line of JSON in place of words
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Summary {
    /// Equal versions, over all playlists and forms.
    compared: u64,
    playlists: Vec<String>,
    errors: u64,
    differences: Vec<String>,
}

const ASK: Ask = Ask {
    gzip: false,
    range: None,
    timeout: Duration::from_secs(60),
    max_bytes: 4 << 20,
};

const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Entries between the followers and the ledger; the ledger only compares, so
/// it is never behind for long.
const QUEUE: usize = 256;

enum Heard {
    Entry(Box<Entry>),
    Error,
}

/// # Errors
/// A flag that isn't what it should be, or an edge that gives no playlist.
pub async fn run(args: &CompareArgs) -> Result<bool> {
    let [a, b] = args.url.as_slice() else {
        bail!("compare-edges takes --url twice, once per edge");
    };
    let edges = [Url::parse(a)?, Url::parse(b)?];
    let tls = match edges.iter().any(|url| url.tls) {
        true => Some(args.tls.config(false)?),
        false => None,
    };
    let net = Arc::new(Net::new(tls, false));
    let deadline = Instant::now() + Duration::from_secs(args.seconds);
    let mut ledger = Ledger::default();
    let (heard, mut inbox) = mpsc::channel(QUEUE);
    let mut names = Vec::new();
    let mut followers = Vec::new();
    for (edge, url) in edges.iter().enumerate() {
        let (bodies, tracks) = multivariant(net.clone(), url).await?;
        for (form, bytes) in bodies {
            ledger.observe(Entry {
                edge,
                playlist: file_of(url),
                form,
                version: Version::default(),
                bytes,
            });
        }
        for track in tracks {
            names.push(file_of(&track));
            let follower = follow(edge, net.clone(), track, heard.clone());
            followers.push(tokio::spawn(follower));
        }
    }
    drop(heard);
    let progress = Progress::over(Some(Duration::from_secs(args.seconds)), || {
        "comparing".to_owned()
    });
    let mut errors = 0;
    loop {
        tokio::select! {
            heard = inbox.recv() => match heard {
                Some(Heard::Entry(entry)) => ledger.observe(*entry),
                Some(Heard::Error) => errors += 1,
                None => break,
            },
            () = sleep_until(deadline) => break,
        }
    }
    for follower in followers {
        follower.abort();
    }
    names.sort();
    names.dedup();
    drop(progress);
    let failed = judge(args, &ledger, &names);
    let summary = Summary {
        compared: ledger.total(),
        playlists: names,
        errors,
        differences: ledger.differences().to_vec(),
    };
    output::leave("compare-edges", &summary, &failed, args.json, || {
        summary.words()
    })
}

fn judge(args: &CompareArgs, ledger: &Ledger, playlists: &[String]) -> Vec<String> {
    let mut failed = Vec::new();
    let differences = ledger.differences();
    if !differences.is_empty() {
        failed.push(format!("{} differences", differences.len()));
    }
    for name in playlists {
        let compared = ledger.compared(name, Form::Plain);
        let least = args.min_versions;
        if compared < least {
            failed.push(format!(
                "{name}: {compared} equal versions, fewer than --min-versions {least}"
            ));
        }
    }
    failed
}

impl Summary {
    fn words(&self) -> String {
        let names = self.playlists.join(", ");
        let mut out = format!(
            "{} equal versions compared of {names}: {} differences, {} failed requests\n",
            self.compared,
            self.differences.len(),
            self.errors
        );
        out.extend(self.differences.iter().map(|line| format!("{line}\n")));
        out
    }
}

/// Tracks have the same file name at both edges; folders carry no name.
fn file_of(url: &Url) -> String {
    let path = url.path.split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

type Bodies = Vec<(Form, Vec<u8>)>;

async fn multivariant(net: Arc<Net>, url: &Url) -> Result<(Bodies, Vec<Url>)> {
    let mut lane = Lane::new(net);
    let mut bodies = Vec::new();
    let mut tracks = Vec::new();
    for form in [Form::Plain, Form::Gzip] {
        let (body, text) = get(&mut lane, url, form)
            .await
            .with_context(|| url.to_string())?;
        bodies.push((form, body));
        let Ok(Playlist::Multivariant(list)) = parse(&text) else {
            bail!("{url} isn't a multivariant playlist; for example {EXAMPLE}");
        };
        let renditions = list
            .renditions
            .iter()
            .filter_map(|rendition| rendition.uri.as_ref());
        let uris = list
            .variants
            .iter()
            .map(|variant| &variant.uri)
            .chain(renditions);
        tracks = uris.map(|uri| url.join(uri)).collect::<Result<Vec<_>>>()?;
        tracks.sort_by_key(ToString::to_string);
        tracks.dedup();
    }
    Ok((bodies, tracks))
}

const EXAMPLE: &str = "http://127.0.0.1:8080/live/demo/index.m3u8";

/// The body as it came over the wire, and as text.
async fn get(lane: &mut Lane, url: &Url, form: Form) -> Result<(Vec<u8>, String)> {
    let ask = Ask {
        gzip: form == Form::Gzip,
        ..ASK
    };
    let mut body = Vec::new();
    let head = lane
        .get(url, ask, |data| body.extend_from_slice(data))
        .await?;
    if head.status != http::StatusCode::OK {
        bail!("status {}", head.status.as_u16());
    }
    let text = text(&head, &body, ASK.max_bytes)?;
    Ok((body, text))
}

/// Asks for each version in each form. A form may meet a later version than the
/// one asked for; what counts is the version that its text shows.
async fn follow(edge: usize, net: Arc<Net>, url: Url, heard: mpsc::Sender<Heard>) {
    let mut lane = Lane::new(net);
    let mut query = String::new();
    loop {
        let mut next = None;
        for (form, extra) in [
            (Form::Plain, ""),
            (Form::Gzip, ""),
            (Form::Delta, "_HLS_skip=YES"),
        ] {
            let asked = url.with_query(&query).with_query(extra);
            let got = get(&mut lane, &asked, form).await;
            let entry = got.ok().and_then(|(bytes, text)| {
                let Ok(Playlist::Media(list)) = parse(&text) else {
                    return None;
                };
                if next.is_none() {
                    next = directive(&list);
                }
                Some(Heard::Entry(Box::new(Entry {
                    edge,
                    playlist: file_of(&url),
                    form,
                    version: Version::of(&list)?,
                    bytes,
                })))
            });
            let failed = entry.is_none();
            if heard.send(entry.unwrap_or(Heard::Error)).await.is_err() {
                return;
            }
            if failed {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
        match next {
            Some(next) => query = next,
            None => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}

fn directive(list: &MediaPlaylist) -> Option<String> {
    let (msn, part) = list.position()?.next();
    (!list.ended).then(|| format!("_HLS_msn={msn}&_HLS_part={part}"))
}
