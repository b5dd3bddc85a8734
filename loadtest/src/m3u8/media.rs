//! Media playlists.

use super::{
    Attributes, Hint, M3u8Error, MediaPlaylist, Part, RenditionReport, Segment, ServerControl,
    attributes, fault, lines, tag, time,
};

/// # Errors
/// The first line that breaks the syntax.
pub fn parse_media(text: &str) -> Result<MediaPlaylist, M3u8Error> {
    let mut reader = Reader::default();
    for (at, line) in lines(text) {
        if line.starts_with('#') {
            reader.tag(at, line)?;
        } else {
            reader.segment(at, line)?;
        }
    }
    reader.finish()
}

/// The playlist so far and the segment that is being gathered.
#[derive(Default)]
struct Reader {
    out: MediaPlaylist,
    open: Segment,
    /// Tags of a segment were seen since the last URI.
    begun: bool,
    map: Option<String>,
}

impl Reader {
    fn tag(&mut self, at: usize, line: &str) -> Result<(), M3u8Error> {
        let (name, value) = tag(line);
        match name {
            "#EXT-X-VERSION" => self.out.version = Some(attributes::integer(at, value)?),
            "#EXT-X-TARGETDURATION" => {
                self.out.target_duration_s = Some(attributes::integer(at, value)?);
            }
            "#EXT-X-MEDIA-SEQUENCE" => {
                if !self.out.segments.is_empty() || self.begun {
                    return Err(fault(at, "EXT-X-MEDIA-SEQUENCE behind the first segment"));
                }
                self.out.media_sequence = attributes::integer(at, value)?;
            }
            "#EXT-X-DISCONTINUITY-SEQUENCE" => {
                self.out.discontinuity_sequence = Some(attributes::integer(at, value)?);
            }
            "#EXT-X-PLAYLIST-TYPE" => self.out.playlist_type = Some(value.to_owned()),
            "#EXT-X-ENDLIST" => self.out.ended = true,
            "#EXT-X-PART-INF" => {
                let list = attributes::parse(at, value)?;
                self.out.part_target_us = micros_of(at, &list, "PART-TARGET")?;
            }
            "#EXT-X-SERVER-CONTROL" => self.out.control = Some(control(at, value)?),
            "#EXT-X-SKIP" => {
                let list = attributes::parse(at, value)?;
                let count = list.get("SKIPPED-SEGMENTS");
                let count = count.ok_or_else(|| fault(at, "EXT-X-SKIP without a count"))?;
                self.out.skipped = attributes::integer(at, count)?;
            }
            "#EXT-X-PRELOAD-HINT" => self.hint(at, value)?,
            "#EXT-X-RENDITION-REPORT" => self.report(at, value)?,
            _ => self.segment_tag(at, name, value)?,
        }
        Ok(())
    }

    fn segment_tag(&mut self, at: usize, name: &str, value: &str) -> Result<(), M3u8Error> {
        let late = !self.open.parts.is_empty();
        match name {
            "#EXTINF" => {
                let seconds = value.split(',').next().unwrap_or_default();
                self.open.duration_us = Some(attributes::micros(at, seconds)?);
            }
            "#EXT-X-BYTERANGE" => self.open.byte_range = Some(value.to_owned()),
            "#EXT-X-GAP" => self.open.gap = true,
            "#EXT-X-DISCONTINUITY" => {
                self.open.discontinuity = true;
                self.open.late_tags |= late;
            }
            "#EXT-X-PROGRAM-DATE-TIME" => {
                self.open.date_time_us = Some(time::unix_us(at, value)?);
                self.open.late_tags |= late;
            }
            "#EXT-X-MAP" => {
                let list = attributes::parse(at, value)?;
                let uri = list.get("URI").cloned();
                self.map = Some(uri.ok_or_else(|| fault(at, "EXT-X-MAP without URI"))?);
                self.open.late_tags |= late;
            }
            "#EXT-X-PART" => {
                let list = attributes::parse(at, value)?;
                let uri = list.get("URI").cloned();
                let duration_us = micros_of(at, &list, "DURATION")?;
                self.open.parts.push(Part {
                    uri: uri.ok_or_else(|| fault(at, "EXT-X-PART without URI"))?,
                    duration_us: duration_us
                        .ok_or_else(|| fault(at, "EXT-X-PART without DURATION"))?,
                    independent: attributes::yes(at, list.get("INDEPENDENT"))?,
                    gap: attributes::yes(at, list.get("GAP"))?,
                    byte_range: list.get("BYTERANGE").cloned(),
                });
            }
            _ => return Ok(()),
        }
        self.begun = true;
        Ok(())
    }

    fn hint(&mut self, at: usize, value: &str) -> Result<(), M3u8Error> {
        let list = attributes::parse(at, value)?;
        let take = |name: &str| {
            let found = list.get(name).cloned();
            found.ok_or_else(|| fault(at, format!("EXT-X-PRELOAD-HINT without {name}")))
        };
        self.out.hints.push(Hint {
            kind: take("TYPE")?,
            uri: take("URI")?,
        });
        Ok(())
    }

    fn report(&mut self, at: usize, value: &str) -> Result<(), M3u8Error> {
        let list = attributes::parse(at, value)?;
        let uri = list.get("URI").cloned();
        let number = |name: &str| {
            let text = list.get(name);
            text.map(|text| attributes::integer(at, text)).transpose()
        };
        self.out.reports.push(RenditionReport {
            uri: uri.ok_or_else(|| fault(at, "EXT-X-RENDITION-REPORT without URI"))?,
            last_msn: number("LAST-MSN")?,
            last_part: number("LAST-PART")?,
        });
        Ok(())
    }

    fn segment(&mut self, at: usize, uri: &str) -> Result<(), M3u8Error> {
        if self.open.duration_us.is_none() {
            return Err(fault(at, format!("the segment `{uri}` has no EXTINF")));
        }
        self.open.uri = Some(uri.to_owned());
        self.close()
    }

    fn close(&mut self) -> Result<(), M3u8Error> {
        let listed = self.out.segments.len() as u64;
        let before = self.out.media_sequence.checked_add(self.out.skipped);
        let mut done = std::mem::take(&mut self.open);
        done.msn = before
            .and_then(|before| before.checked_add(listed))
            .ok_or_else(|| fault(0, "media sequence numbers past 64 bits"))?;
        done.map = self.map.clone();
        self.out.segments.push(done);
        self.begun = false;
        Ok(())
    }

    fn finish(mut self) -> Result<MediaPlaylist, M3u8Error> {
        if self.open.duration_us.is_some() {
            return Err(fault(0, "the last EXTINF has no URI"));
        }
        // Tags alone (a PDT ahead of the first part) are no segment yet.
        if !self.open.parts.is_empty() {
            self.close()?;
        }
        Ok(self.out)
    }
}

fn control(at: usize, value: &str) -> Result<ServerControl, M3u8Error> {
    let list = attributes::parse(at, value)?;
    Ok(ServerControl {
        hold_back_us: micros_of(at, &list, "HOLD-BACK")?,
        part_hold_back_us: micros_of(at, &list, "PART-HOLD-BACK")?,
        can_skip_until_us: micros_of(at, &list, "CAN-SKIP-UNTIL")?,
        can_block_reload: attributes::yes(at, list.get("CAN-BLOCK-RELOAD"))?,
    })
}

fn micros_of(at: usize, list: &Attributes, name: &str) -> Result<Option<u64>, M3u8Error> {
    let text = list.get(name);
    text.map(|text| attributes::micros(at, text)).transpose()
}
