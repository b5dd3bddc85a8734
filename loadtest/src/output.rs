//! What a subcommand leaves behind.
//!
//! On standard output one JSON object in one line, or a table. On standard error a
//! line for each threshold that was missed. The object's first fields are the same
//! for all: `command`, `passed` and, last, `failed`, the lines of standard error.

use anyhow::Result;
use serde::Serialize;

#[derive(Serialize)]
struct Shown<'a, T> {
    command: &'static str,
    /// As the exit status says.
    passed: bool,
    #[serde(flatten)]
    figures: &'a T,
    failed: &'a [String],
}

fn json_line<T: Serialize>(
    command: &'static str,
    figures: &T,
    failed: &[String],
) -> Result<String> {
    Ok(serde_json::to_string(&Shown {
        command,
        passed: failed.is_empty(),
        figures,
        failed,
    })?)
}

/// Prints; whether nothing failed.
///
/// # Errors
/// If the figures can't be written as JSON.
pub fn leave<T: Serialize>(
    command: &'static str,
    figures: &T,
    failed: &[String],
    json: bool,
    table: impl FnOnce() -> String,
) -> Result<bool> {
    if json {
        println!("{}", json_line(command, figures, failed)?);
    } else {
        print!("{}", table());
    }
    for line in failed {
        eprintln!("loadtest: {line}");
    }
    Ok(failed.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_says_first_what_it_is_and_last_what_failed() {
        #[derive(Serialize)]
        struct Figures {
            parts: u64,
        }
        let line = json_line("watch", &Figures { parts: 3 }, &[]).unwrap();
        assert_eq!(
            line,
            r#"{"command":"watch","passed":true,"parts":3,"failed":[]}"#
        );
        let line = json_line("watch", &Figures { parts: 3 }, &["too few".to_owned()]).unwrap();
        assert!(line.contains(r#""passed":false"#) && line.ends_with(r#""failed":["too few"]}"#));
    }
}
