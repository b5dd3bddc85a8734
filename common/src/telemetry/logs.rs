//! Logs on standard error, as text or as one JSON object a line.
//!
//! In: `tracing` events of all modules. Out: exactly one line an event.
//! Invariant: no byte that a stranger chose can end a line early or steer a
//! terminal. Names come from the network (stream keys' peers, user agents,
//! certificates), so every control character is escaped in one place, the
//! writer, whatever the event's fields looked like.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Time, level, module, message and fields, for people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Flags of the logs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogConfig {
    /// Shape of the log lines on standard error
    #[arg(
        long,
        env = "MILLRACE_LOG_FORMAT",
        value_enum,
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,

    /// What to log: a level, or levels by module, such as `info,common::link=debug`
    #[arg(
        long,
        env = "MILLRACE_LOG_FILTER",
        default_value = "info",
        value_name = "FILTER",
        value_parser = checked_filter
    )]
    pub log_filter: String,
}

/// Why logging did not start.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter can't be read.
    #[error("--log-filter: {0} (a valid one: info,common::link=debug)")]
    Filter(String),
    /// A subscriber is installed already.
    #[error("logging was started twice")]
    Twice,
}

fn checked_filter(text: &str) -> Result<String, LogError> {
    parse_filter(text).map(|_| text.to_owned())
}

fn parse_filter(text: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| LogError::Filter(error.to_string()))
}

/// Starts logging for the whole process. Called once, by `main`.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let filter = parse_filter(&config.log_filter)?;
    let subscriber = subscriber(config.log_format, filter, io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Colours would be control characters of our own among the escaped ones.
    let builder = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter(filter)
        .with_writer(Escaping(writer));
    match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

struct Escaping<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaping<W> {
    type Writer = EscapingWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapingWriter(self.0.make_writer())
    }
}

struct EscapingWriter<W>(W);

impl<W: Write> Write for EscapingWriter<W> {
    // The subscriber hands over a whole event at a time, its line feed included.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (line, end) = match text.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (&*text, ""),
        };
        let mut out = String::with_capacity(text.len());
        escape_into(&mut out, line);
        out.push_str(end);
        self.0.write_all(out.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes `\u00XX` for what ends a line, moves a cursor or reorders text. The
/// form is JSON's own, so that both formats stay what they are.
fn escape_into(out: &mut String, line: &str) {
    for c in line.chars() {
        let steers = c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c);
        if steers {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::Parser;
    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, name: &str) -> String {
        let captured = Captured::default();
        let sink = captured.clone();
        let filter = parse_filter("info").unwrap();
        let subscriber = subscriber(format, filter, move || sink.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(%name, debug = ?name, "publisher refused: {name}");
        });
        let bytes = captured.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    const HOSTILE: &str = "a\x1b[2J\x1b]0;t\x07b\r\nINFO forged\tc\x7f\u{9b}31m\u{2028}\u{202e}x\0";

    #[test]
    fn text_logs_escape_control_characters() {
        let line = logged(LogFormat::Text, HOSTILE);
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(line.ends_with('\n'));
        let body = line.trim_end_matches('\n');
        assert!(!body.chars().any(char::is_control), "{line:?}");
        assert!(!body.contains('\u{202e}') && !body.contains('\u{2028}'));
        assert!(body.contains("INFO forged"), "nothing is lost: {line:?}");
        assert!(body.contains("\\u000a"), "{line:?}");
    }

    #[test]
    fn json_logs_stay_one_object_a_line() {
        let line = logged(LogFormat::Json, HOSTILE);
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        let body = line.trim_end_matches('\n');
        assert!(!body.chars().any(char::is_control), "{line:?}");
        assert!(body.starts_with('{') && body.ends_with('}'), "{line:?}");
        assert!(body.contains(r#""level":"INFO""#), "{line:?}");
    }

    #[test]
    fn harmless_text_is_left_alone() {
        assert!(logged(LogFormat::Text, "Zoë \u{1f3ac}").contains("Zoë \u{1f3ac}"));
    }

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        log: LogConfig,
    }

    #[test]
    fn a_wrong_filter_names_the_flag_and_a_valid_one() {
        let error = Cli::try_parse_from(["node", "--log-filter", "common=loud"])
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("--log-filter"), "{error}");
        assert!(error.contains("info,common::link=debug"), "{error}");
        let cli = Cli::try_parse_from(["node", "--log-format", "json"]).unwrap();
        assert_eq!(cli.log.log_format, LogFormat::Json);
    }
}
