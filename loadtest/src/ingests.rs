//! `loadtest ingests`: which origin is nearest to this machine?
//!
//! In: the URL of a directory, a node's `/ingests` or anybody's in the form that OBS
//! reads from Twitch. Out: what a connection and RTMP's handshake take to each, the
//! nearest named. Bounds: [`MAX_BYTES`] of directory, [`MAX_INGESTS`] of it
//! measured, [`AT_ONCE`] at a time.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::{
    client::{Ask, Lane, Net, TlsArgs, text},
    output,
    progress::Progress,
    url::Url,
};

mod probe;

use probe::Taken;

const MAX_BYTES: usize = 1 << 20;
const MAX_INGESTS: usize = 1_024;

/// Few enough that they don't delay each other.
const AT_ONCE: usize = 8;

#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = "\
With --json one object in one line: command, passed, url, nearest (a name or null), ingests (nearest first; \
each with name, url, region, city, distance_km, load, state, connect_ms, handshake_ms and total_ms, medians \
over the tries, or error), failed.

Exit status: 0 an ingest answered, 1 none did or --max-ms was missed, 2 the URL gives no directory.")]
pub struct IngestsArgs {
    /// A node's directory, for example http://127.0.0.1:8080/ingests
    pub url: String,
    /// Connections to each
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub tries: u32,
    /// How long a connection and its handshake may take, in milliseconds
    #[arg(long, default_value_t = 3_000, value_name = "MS")]
    pub timeout_ms: u64,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// One line of JSON in place of the table
    #[arg(long)]
    pub json: bool,
    /// Fail if connection and handshake take longer with the nearest, in milliseconds
    #[arg(long, value_name = "MS")]
    pub max_ms: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Directory {
    ingests: Vec<Entry>,
}

/// What is ours beside Twitch's fields may be absent.
#[derive(Debug, Clone, Deserialize)]
struct Entry {
    name: String,
    url_template: String,
    availability: Option<f64>,
    region: Option<String>,
    city: Option<String>,
    distance_km: Option<f64>,
    load: Option<f64>,
    state: Option<String>,
}

impl Entry {
    /// Whether a streamer may be sent there.
    fn is_open(&self) -> bool {
        let offered = self.availability.is_none_or(|share| share > 0.0);
        let state = self.state.as_deref().unwrap_or("available");
        offered && !matches!(state, "full" | "draining" | "lost" | "unavailable")
    }
}

/// A directory's entry and the way to it.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    url: String,
    region: Option<String>,
    city: Option<String>,
    distance_km: Option<f64>,
    load: Option<f64>,
    state: Option<String>,
    #[serde(skip)]
    open: bool,
    connect_ms: Option<f64>,
    handshake_ms: Option<f64>,
    total_ms: Option<f64>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    url: String,
    nearest: Option<String>,
    ingests: Vec<Row>,
}

/// # Errors
/// One line, if the URL gives no directory or the directory names no origin.
pub async fn run(args: &IngestsArgs) -> Result<bool> {
    let url = Url::parse(&args.url)?;
    let entries = directory(args, &url).await?;
    let shown = format!("{} ingests, {} times each", entries.len(), args.tries);
    let progress = Progress::over(None, move || shown.clone());
    let rows = measure(args, entries).await?;
    drop(progress);
    let report = rank(&url, rows);
    let failed = failures(args, &report);
    output::leave("ingests", &report, &failed, args.json, || report.table())
}

async fn directory(args: &IngestsArgs, url: &Url) -> Result<Vec<Entry>> {
    let tls = match url.tls {
        true => Some(args.tls.config(false)?),
        false => None,
    };
    let ask = Ask {
        gzip: true,
        range: None,
        timeout: Duration::from_millis(args.timeout_ms),
        max_bytes: MAX_BYTES,
    };
    let mut body = Vec::new();
    let mut lane = Lane::new(Arc::new(Net::new(tls, false)));
    let head = lane
        .get(url, ask, |data| body.extend_from_slice(data))
        .await?;
    if head.status != http::StatusCode::OK {
        let status = head.status.as_u16();
        bail!("{url} answers {status}, no directory; {EXAMPLE}");
    }
    let text = text(&head, &body, MAX_BYTES).with_context(|| url.to_string())?;
    read(url, &text)
}

const EXAMPLE: &str = "a node's is at /ingests, for example http://127.0.0.1:8080/ingests";

fn read(url: &Url, text: &str) -> Result<Vec<Entry>> {
    let directory: Directory = match serde_json::from_str(text) {
        Ok(directory) => directory,
        Err(error) => bail!("{url} is no directory of ingests ({error}); {EXAMPLE}"),
    };
    if directory.ingests.is_empty() {
        bail!("{url} names no origin: none is linked to that node or none has --public-rtmp");
    }
    let mut ingests = directory.ingests;
    ingests.truncate(MAX_INGESTS);
    Ok(ingests)
}

async fn measure(args: &IngestsArgs, entries: Vec<Entry>) -> Result<Vec<Row>> {
    let (tries, timeout) = (args.tries, Duration::from_millis(args.timeout_ms));
    let (mut running, mut rows) = (JoinSet::new(), Vec::new());
    for (place, entry) in entries.into_iter().enumerate() {
        if running.len() >= AT_ONCE
            && let Some(row) = running.join_next().await
        {
            rows.push(row?);
        }
        running.spawn(async move {
            let taken = probe::measure(&entry.url_template, tries, timeout).await;
            (place, row(entry, taken))
        });
    }
    while let Some(row) = running.join_next().await {
        rows.push(row?);
    }
    // Equals keep the directory's order.
    rows.sort_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn row(entry: Entry, taken: Result<Taken>) -> Row {
    let open = entry.is_open();
    let (taken, error) = match taken {
        Ok(taken) => (Some(taken), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Row {
        name: entry.name,
        url: entry.url_template,
        region: entry.region,
        city: entry.city,
        distance_km: entry.distance_km,
        load: entry.load,
        state: entry.state,
        open,
        connect_ms: taken.map(|taken| taken.connect_ms),
        handshake_ms: taken.map(|taken| taken.handshake_ms),
        total_ms: taken.map(|taken| taken.total_ms),
        error,
    }
}

/// Nearest first, who did not answer last; the nearest is one that takes streamers.
fn rank(url: &Url, mut rows: Vec<Row>) -> Report {
    let total = |row: &Row| row.total_ms.unwrap_or(f64::INFINITY);
    rows.sort_by(|a, b| total(a).total_cmp(&total(b)));
    let nearest = rows
        .iter()
        .find(|row| row.open && row.total_ms.is_some())
        .map(|row| row.name.clone());
    Report {
        url: url.to_string(),
        nearest,
        ingests: rows,
    }
}

fn failures(args: &IngestsArgs, report: &Report) -> Vec<String> {
    let url = &report.url;
    let nearest = report.nearest.as_ref();
    let found = report.ingests.iter().find(|row| Some(&row.name) == nearest);
    let Some(row) = found else {
        let first = report.ingests.first();
        let why = match first.and_then(|row| Some((row, row.error.as_ref()?))) {
            Some((row, error)) => format!("{}: {error}", row.name),
            None => "those that answer are full or draining".to_owned(),
        };
        let count = report.ingests.len();
        return vec![format!(
            "{url}: none of {count} ingests takes a streamer; {why}"
        )];
    };
    let total_ms = row.total_ms.unwrap_or(f64::INFINITY);
    match args.max_ms {
        Some(most) if total_ms > most => vec![format!(
            "{}: {total_ms} ms to the nearest, more than --max-ms {most}",
            row.name
        )],
        _ => Vec::new(),
    }
}

impl Report {
    fn table(&self) -> String {
        let width = self
            .ingests
            .iter()
            .map(|row| row.name.chars().count())
            .max();
        let width = width.unwrap_or(0).max("ingest".len());
        let mut out = format!(
            "{:<width$}  connect  handshake  together, ms      km  load  state\n",
            "ingest"
        );
        for row in &self.ingests {
            out += &row.line(width);
        }
        let at = |name: &String| self.ingests.iter().find(|row| row.name == *name);
        if let Some(row) = self.nearest.as_ref().and_then(at) {
            let _ = writeln!(out, "nearest: {}, {}", row.name, row.url);
        }
        out
    }
}

impl Row {
    fn line(&self, width: usize) -> String {
        let name = &self.name;
        if let Some(error) = &self.error {
            return format!("{name:<width$}  {error}\n");
        }
        let ms = |ms: Option<f64>| ms.map_or(String::new(), |ms| format!("{ms:.1}"));
        let km = self
            .distance_km
            .map_or(String::new(), |km| format!("{km:.0}"));
        let load = self.load.map_or(String::new(), |load| format!("{load:.2}"));
        let (connect, handshake) = (ms(self.connect_ms), ms(self.handshake_ms));
        let (total, state) = (ms(self.total_ms), self.state.as_deref().unwrap_or_default());
        format!(
            "{name:<width$}  {connect:>7}  {handshake:>9}  {total:>12}  {km:>6}  {load:>4}  {state}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> Url {
        Url::parse("http://127.0.0.1:8080/ingests").unwrap()
    }

    fn args(max_ms: Option<f64>) -> IngestsArgs {
        IngestsArgs {
            url: url().to_string(),
            tries: 1,
            timeout_ms: 1_000,
            tls: TlsArgs::default(),
            json: false,
            max_ms,
        }
    }

    /// Amsterdam by our own fields, Hong Kong by Twitch's alone.
    const TEXT: &str = r#"{"ingests":[
        {"_id":0,"availability":1.0,"default":true,"name":"Europe: Amsterdam","priority":0,
         "url_template":"rtmp://127.0.0.1:1935/live/{stream_key}","url_template_secure":"rtmps://a/live/{stream_key}",
         "region":"eu-ams","city":"Amsterdam","distance_km":12.4,"load":0.25,"state":"available"},
        {"_id":24,"availability":1.0,"default":false,"name":"Asia: Hong Kong","priority":1,
         "url_template":"rtmp://127.0.0.1:1936/app/{stream_key}"}]}"#;

    fn rows(totals: [Option<f64>; 2]) -> Vec<Row> {
        let entries = read(&url(), TEXT).unwrap();
        let taken = totals.map(|total_ms| match total_ms {
            Some(total_ms) => Ok(Taken {
                connect_ms: total_ms / 2.0,
                handshake_ms: total_ms / 2.0,
                total_ms,
            }),
            None => Err(anyhow::anyhow!("refused")),
        });
        let both = entries.into_iter().zip(taken);
        both.map(|(entry, taken)| row(entry, taken)).collect()
    }

    #[test]
    fn the_nearest_is_the_one_that_answers_first_and_takes_streamers() {
        let report = rank(&url(), rows([Some(20.0), Some(10.0)]));
        assert_eq!(report.nearest.as_deref(), Some("Asia: Hong Kong"));
        assert_eq!(report.ingests[0].name, "Asia: Hong Kong");
        assert!(
            report
                .table()
                .ends_with("nearest: Asia: Hong Kong, rtmp://127.0.0.1:1936/app/{stream_key}\n")
        );
        let report = rank(&url(), rows([Some(20.0), None]));
        assert_eq!(report.nearest.as_deref(), Some("Europe: Amsterdam"));
        assert!(
            report.table().contains("Asia: Hong Kong    refused\n"),
            "{}",
            report.table()
        );
        let mut full = rows([Some(20.0), Some(30.0)]);
        full[0].open = false;
        let report = rank(&url(), full);
        assert_eq!(report.nearest.as_deref(), Some("Asia: Hong Kong"));
    }

    #[test]
    fn states_say_who_takes_streamers() {
        let mut entry = read(&url(), TEXT).unwrap().remove(0);
        assert!(entry.is_open());
        entry.state = Some("draining".to_owned());
        assert!(!entry.is_open());
        entry.state = None;
        entry.availability = Some(0.0);
        assert!(!entry.is_open());
    }

    #[test]
    fn nobody_near_is_a_failure_and_so_is_one_too_far() {
        let line = |totals, max_ms| {
            let failed = failures(&args(max_ms), &rank(&url(), rows(totals)));
            failed.first().cloned().unwrap_or_default()
        };
        assert_eq!(line([Some(20.0), None], None), "");
        assert_eq!(line([Some(20.0), None], Some(20.0)), "");
        assert!(line([Some(20.0), None], Some(19.9)).contains("--max-ms 19.9"));
        assert!(
            line([None, None], None)
                .contains("none of 2 ingests takes a streamer; Europe: Amsterdam: refused")
        );
    }

    #[test]
    fn what_is_no_directory_is_named_in_one_line() {
        for (text, expected) in [
            ("<html>", "is no directory of ingests"),
            ("{}", "is no directory of ingests"),
            (r#"{"ingests":[{"name":"x"}]}"#, "url_template"),
            (r#"{"ingests":[]}"#, "names no origin"),
        ] {
            let line = read(&url(), text).unwrap_err().to_string();
            assert!(line.contains(expected) && !line.contains('\n'), "{line}");
        }
    }
}
