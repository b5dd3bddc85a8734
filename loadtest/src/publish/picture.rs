//! A test picture with sound, made once per run with ffmpeg.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::{flv, tape::Tape};

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "The made picture")]
pub struct PictureArgs {
    /// Frames a second, or a fraction such as 30000/1001
    #[arg(long, default_value = "30")]
    pub fps: String,
    /// Width and height
    #[arg(long, default_value = "1280x720", value_name = "WxH")]
    pub size: String,
    /// Frames from one IDR to the next
    #[arg(long, default_value_t = 60, value_name = "FRAMES")]
    pub gop: u32,
    /// B-frames between two others
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub bframes: u32,
    /// Of the video, as ffmpeg writes it
    #[arg(long, default_value = "3M")]
    pub bitrate: String,
    /// Hertz of the sound; 0 for none
    #[arg(long, default_value_t = 48_000, value_name = "HZ")]
    pub audio_rate: u32,
    /// Length of the loop in seconds; it should be a multiple of the GOP
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub loop_seconds: u32,
}

/// # Errors
/// If ffmpeg is absent or can't make that picture.
pub async fn make(args: &PictureArgs) -> Result<Tape> {
    let mut command = Command::new("ffmpeg");
    command
        .args(arguments(args))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match command.output().await {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!(
                "ffmpeg isn't installed: `apt-get install ffmpeg`, or give a recording with --file"
            );
        }
        Err(error) => return Err(error).context("ffmpeg doesn't start"),
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().last().unwrap_or("no message");
        bail!("ffmpeg can't make that picture: {last}");
    }
    Tape::new(flv::tags(output.stdout.into())?)
}

fn arguments(args: &PictureArgs) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| out.extend(words.iter().map(|word| (*word).to_owned()));
    let picture = format!("testsrc2=size={}:rate={}", args.size, args.fps);
    let sound = format!(
        "sine=frequency=440:beep_factor=4:sample_rate={}",
        args.audio_rate
    );
    let gop = args.gop.to_string();
    add(&["-hide_banner", "-loglevel", "error", "-nostdin"]);
    let seconds = args.loop_seconds.to_string();
    add(&["-f", "lavfi", "-t", &seconds, "-i", &picture]);
    if args.audio_rate > 0 {
        // A little longer than the picture, whose last frame may pass the end.
        let longer = args.loop_seconds.saturating_add(1).to_string();
        add(&["-f", "lavfi", "-t", &longer, "-i", &sound]);
        add(&["-c:a", "aac", "-b:a", "128k", "-ac", "2"]);
    }
    add(&[
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-profile:v",
        "high",
    ]);
    add(&["-pix_fmt", "yuv420p", "-g", &gop, "-keyint_min", &gop]);
    add(&["-sc_threshold", "0", "-bf", &args.bframes.to_string()]);
    // A steady rate, as streaming services ask for.
    add(&["-b:v", &args.bitrate, "-minrate", &args.bitrate]);
    add(&["-maxrate", &args.bitrate, "-bufsize", &args.bitrate]);
    add(&["-x264-params", "nal-hrd=cbr"]);
    add(&["-flvflags", "no_duration_filesize", "-f", "flv", "-"]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_reach_ffmpeg() {
        let args = PictureArgs {
            fps: "30000/1001".to_owned(),
            size: "640x360".to_owned(),
            gop: 75,
            bframes: 2,
            bitrate: "1M".to_owned(),
            audio_rate: 0,
            loop_seconds: 5,
        };
        let line = arguments(&args).join(" ");
        for words in [
            "rate=30000/1001",
            "size=640x360",
            "-g 75",
            "-bf 2",
            "-b:v 1M",
            "-t 5",
        ] {
            assert!(line.contains(words), "{line}");
        }
        assert!(!line.contains("sine"));
    }
}
