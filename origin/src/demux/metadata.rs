//! onMetaData, as far as anything here acts on it.

use crate::sample::Declared;

/// Above this a declared rate is noise: 1 Gbit/s.
const MAX_KBPS: f64 = 1_000_000.0;

/// Reads the declaration from onMetaData's numbers, unknown names ignored. A
/// value that is text (an old encoder's `videocodecid` of "avc1") counts as
/// present when the caller passes any non-zero number for it.
pub fn declared<'a>(values: impl IntoIterator<Item = (&'a str, f64)>) -> Declared {
    let (mut video, mut audio) = (false, false);
    let mut found = Declared::default();
    for (name, value) in values {
        // NaN too: it names the property without giving it a value.
        let present = value != 0.0;
        match name {
            "videocodecid" | "width" | "height" => video |= present,
            "audiocodecid" | "audiosamplerate" | "audiochannels" => audio |= present,
            "framerate" | "videoframerate" => {
                let plausible = (0.1..=1_000.0).contains(&value);
                found.frame_rate = plausible.then_some(value).or(found.frame_rate);
            }
            "videodatarate" => {
                found.video_bps = bps(value);
                video |= found.video_bps.is_some();
            }
            "audiodatarate" => {
                found.audio_bps = bps(value);
                audio |= found.audio_bps.is_some();
            }
            _ => {}
        }
    }
    // Who names neither says nothing; who names one says the other is absent.
    if video || audio {
        found.has_video = Some(video);
        found.has_audio = Some(audio);
    }
    found
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that fits no u32 is cast to its end, and then not believed"
)]
fn bps(kbps: f64) -> Option<u32> {
    (1.0..=MAX_KBPS)
        .contains(&kbps)
        .then_some((kbps * 1_000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_names_tracks_rates_and_frame_rate() {
        let ffmpeg = [
            ("duration", 0.0),
            ("width", 1280.0),
            ("videodatarate", 2929.6875),
            ("framerate", 29.97),
            ("videocodecid", 7.0),
            ("audiodatarate", 125.0),
            ("audiocodecid", 10.0),
        ];
        let expected = Declared {
            has_video: Some(true),
            has_audio: Some(true),
            frame_rate: Some(29.97),
            video_bps: Some(2_929_687),
            audio_bps: Some(125_000),
        };
        assert_eq!(declared(ffmpeg), expected);
        let audio_only = declared([("audiocodecid", 10.0)]);
        assert_eq!(audio_only.has_video, Some(false));
        assert_eq!(declared([("encoder", 1.0)]), Declared::default());
        let absurd = declared([("framerate", f64::NAN), ("videodatarate", f64::INFINITY)]);
        assert_eq!(absurd, Declared::default());
    }
}
