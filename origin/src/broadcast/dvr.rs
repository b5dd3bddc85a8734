//! How far back viewers can go, and where the origin keeps what they find there.

use std::{io, path::PathBuf, str::FromStr, thread};

use clap::Args;
use common::live::{
    Archive, ArchiveError, ArchiveLimits, ArchiveMetrics, Disk, Place, TrackWindow,
};

/// Thirty minutes are 900 segments of two seconds; a window lists a thousand
/// at most, since one INDEX of the link tells them all.
const LONGEST_MS: u32 = 30 * 60_000;

/// Flags of the past.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Going back (DVR)")]
pub struct DvrConfig {
    /// How far back viewers can go, as 90s or 30m (the most); without it, and for less, eight target durations
    #[arg(long, env = "MILLRACE_DVR", value_name = "TIME")]
    pub dvr: Option<DvrWindow>,

    /// Memory for the past of all channels, in bytes; what does not fit goes to --dvr-dir, or answers 404
    #[arg(
        long,
        env = "MILLRACE_DVR_MEMORY_BYTES",
        value_name = "BYTES",
        default_value_t = 1 << 30,
        value_parser = clap::value_parser!(u64).range(1 << 20..)
    )]
    pub dvr_memory_bytes: u64,

    /// Directory for the past that memory has no room for; this origin's alone, emptied when it starts
    #[arg(long, env = "MILLRACE_DVR_DIR", value_name = "DIR")]
    pub dvr_dir: Option<PathBuf>,

    /// Bytes of files in --dvr-dir at most; beyond it, and on a full disk, the oldest go and answer 404
    #[arg(
        long,
        env = "MILLRACE_DVR_DISK_BYTES",
        value_name = "BYTES",
        default_value_t = 16 << 30
    )]
    pub dvr_disk_bytes: u64,
}

/// A length of the window, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DvrWindow(u32);

impl FromStr for DvrWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write seconds or minutes, for example 90s or 30m";
        let unit_at = text.len().saturating_sub(1);
        let (number, unit_ms) = match text.split_at_checked(unit_at) {
            Some((number, "s")) => (number, 1_000),
            Some((number, "m")) => (number, 60_000),
            _ => return Err(example.to_owned()),
        };
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| number.parse::<u32>().unwrap_or(u32::MAX));
        let ms = number.ok_or(example)?.saturating_mul(unit_ms);
        if ms > LONGEST_MS {
            return Err("the longest window is 30 minutes, for example 30m".to_owned());
        }
        Ok(Self(ms))
    }
}

impl DvrConfig {
    pub(super) fn window_ms(&self) -> u32 {
        self.dvr.map_or(0, |window| window.0)
    }

    /// Makes the archive and starts the thread that writes to its directory.
    ///
    /// # Errors
    /// [`ArchiveError`], and when no thread can be had.
    pub fn open(&self, metrics: ArchiveMetrics) -> Result<Archive, ArchiveError> {
        let limits = ArchiveLimits {
            memory_bytes: self.dvr_memory_bytes,
            disk: self.dvr_dir.clone().map(|dir| Disk {
                dir,
                budget_bytes: self.dvr_disk_bytes,
            }),
        };
        let (archive, writer) = Archive::open(limits, metrics)?;
        if let Some(writer) = writer {
            let thread = thread::Builder::new().name("past".to_owned());
            let started = thread.spawn(move || writer.run());
            started.map_err(|error: io::Error| ArchiveError::Io {
                dir: self.dvr_dir.clone().unwrap_or_default(),
                error,
            })?;
        }
        Ok(archive)
    }
}

/// Moves what is older than `age_ms` from a window to the archive. At no moment
/// is it in neither.
pub(super) fn archive_past(archive: &Archive, track: &TrackWindow, age_ms: u32) {
    for aged in track.window.aged(age_ms) {
        let kept = archive.keep(aged.parts);
        track.window.let_go(aged.msn, Place::Archive(kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_seconds_or_minutes_up_to_thirty() {
        for (text, ms) in [
            ("90s", 90_000),
            ("30m", 1_800_000),
            ("1800s", 1_800_000),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(DvrWindow(ms)), "{text}");
        }
        for text in [
            "", "m", "30", "1h", "-1s", "+1s", "1.5m", "30 m", "3\u{e9}", "\u{e9}",
        ] {
            let error = text.parse::<DvrWindow>().unwrap_err();
            assert!(error.contains("for example 90s or 30m"), "{text}: {error}");
        }
        for text in ["31m", "1801s", "4294967295m", "99999999999s"] {
            let error = text.parse::<DvrWindow>().unwrap_err();
            assert!(error.contains("30 minutes, for example 30m"), "{text}");
        }
    }
}
