//! Playlists read back with a parser that is not ours.

use quick_m3u8::{
    HlsLine, Reader,
    config::ParsingOptionsBuilder,
    tag::{KnownTag, hls::Tag},
};

/// A media playlist as a player understands it.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) version: u64,
    pub(super) target_duration: u64,
    /// CAN-SKIP-UNTIL, HOLD-BACK, PART-HOLD-BACK
    pub(super) control: (f64, f64, f64),
    pub(super) part_target: f64,
    pub(super) msn: u64,
    pub(super) discontinuities: u64,
    pub(super) skipped: Option<u64>,
    pub(super) segments: Vec<ReadSegment>,
    pub(super) hints: Vec<(String, String)>,
    pub(super) reports: Vec<(String, u64, Option<u64>)>,
    pub(super) ended: bool,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct ReadSegment {
    pub(super) discontinuity: bool,
    pub(super) map: Option<String>,
    pub(super) date: Option<String>,
    pub(super) gap: bool,
    pub(super) parts: Vec<ReadPart>,
    pub(super) duration: Option<f64>,
    pub(super) uri: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReadPart {
    pub(super) duration: f64,
    pub(super) uri: String,
    pub(super) independent: bool,
    pub(super) gap: bool,
}

impl Read {
    pub(super) fn of(text: &str) -> Self {
        let options = ParsingOptionsBuilder::new()
            .with_parsing_for_all_tags()
            .build();
        let mut reader = Reader::from_str(text, options);
        let mut read = Self::default();
        let mut next = ReadSegment::default();
        while let Some(line) = reader.read_line().unwrap() {
            match line {
                HlsLine::KnownTag(KnownTag::Hls(tag)) => read.tag(tag, &mut next),
                HlsLine::Uri(uri) => {
                    next.uri = Some(uri.into_owned());
                    read.segments.push(std::mem::take(&mut next));
                }
                other => panic!("{other:?}"),
            }
        }
        if next != ReadSegment::default() {
            read.segments.push(next);
        }
        read
    }

    fn tag(&mut self, tag: Tag<'_>, next: &mut ReadSegment) {
        match tag {
            Tag::M3u(_) | Tag::IndependentSegments(_) => {}
            Tag::Version(tag) => self.version = tag.version(),
            Tag::Targetduration(tag) => self.target_duration = tag.target_duration(),
            Tag::ServerControl(tag) => {
                assert!(tag.can_block_reload());
                self.control = (
                    tag.can_skip_until().unwrap(),
                    tag.hold_back().unwrap(),
                    tag.part_hold_back().unwrap(),
                );
            }
            Tag::PartInf(tag) => self.part_target = tag.part_target(),
            Tag::MediaSequence(tag) => self.msn = tag.media_sequence(),
            Tag::DiscontinuitySequence(tag) => self.discontinuities = tag.discontinuity_sequence(),
            Tag::Skip(tag) => self.skipped = Some(tag.skipped_segments()),
            // H11: these stand before the first PART of their segment.
            Tag::Discontinuity(_) => {
                assert!(next.parts.is_empty());
                next.discontinuity = true;
            }
            Tag::Map(tag) => {
                assert!(next.parts.is_empty());
                next.map = Some(tag.uri().to_owned());
            }
            Tag::ProgramDateTime(tag) => {
                assert!(next.parts.is_empty());
                next.date = Some(format!("{:?}", tag.program_date_time()));
            }
            Tag::Gap(_) => next.gap = true,
            Tag::Part(tag) => next.parts.push(ReadPart {
                duration: tag.duration(),
                uri: tag.uri().to_owned(),
                independent: tag.independent(),
                gap: tag.gap(),
            }),
            Tag::Inf(tag) => next.duration = Some(tag.duration()),
            Tag::PreloadHint(tag) => {
                let of = tag.hint_type().to_string();
                self.hints.push((of, tag.uri().to_owned()));
            }
            Tag::RenditionReport(tag) => {
                self.reports
                    .push((tag.uri().to_owned(), tag.last_msn(), tag.last_part()));
            }
            Tag::Endlist(_) => self.ended = true,
            other => panic!("not expected here: {other:?}"),
        }
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &ReadPart> {
        self.segments.iter().flat_map(|segment| &segment.parts)
    }
}
