//! The lines of a long window, kept from one version of a playlist to the next.
//!
//! A segment whose parts are not listed any more never changes its lines. Whole
//! blocks of such segments, [`BLOCK`] numbers each, are rendered once and
//! compressed once; a version costs what is in front of them, behind them, and a
//! copy. In: listings of one track, each newer than the one before. Out: the
//! text and its [`Sections`]. Invariant: the text is what [`super::media()`] renders, and where
//! its sections lie is a function of the listing alone, so that two edges
//! compress equal texts to equal bytes.

use std::{
    collections::VecDeque,
    fmt::{self, Write},
    sync::{Arc, OnceLock},
};

use common::{
    live::{ListedSegment, Listing, Plan, Track},
    names::{Epoch, InitId, Msn},
};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::media::{self, write_segment};

/// Segments of a block: about 4 kB of text. Smaller ones compress worse, larger
/// ones leave more to do for each version.
const BLOCK: u64 = 32;

type Init = Option<(Epoch, InitId)>;

/// The blocks of one track's playlist, oldest first.
#[derive(Debug, Default)]
pub struct Lines {
    blocks: VecDeque<Arc<Block>>,
}

#[derive(Debug)]
struct Block {
    msns: (Msn, Msn),
    count: usize,
    /// The init segment that was in force before it and behind it.
    init: (Init, Init),
    text: String,
    packed: OnceLock<Packed>,
}

/// How a playlist's text is put together.
#[derive(Debug, Default)]
pub struct Sections(Vec<Section>);

#[derive(Debug)]
struct Section {
    /// Where it ends in the text.
    end: usize,
    block: Option<Arc<Block>>,
}

/// Raw deflate of some text, and its checksum.
#[derive(Debug)]
struct Packed {
    deflated: Vec<u8>,
    crc: Crc,
}

impl Lines {
    /// Renders the whole playlist.
    #[must_use]
    pub fn media(
        &mut self,
        listing: &Listing,
        plan: &Plan,
        track: &Track,
        all: &[&Track],
    ) -> (String, Sections) {
        let kept: usize = self.blocks.iter().map(|block| block.text.len()).sum();
        let mut text = String::with_capacity(kept + 32 * 1024);
        let mut sections = Sections::default();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text, &mut sections, listing, plan, track, all);
        text.shrink_to_fit();
        (text, sections)
    }

    fn write(
        &mut self,
        out: &mut String,
        sections: &mut Sections,
        listing: &Listing,
        plan: &Plan,
        track: &Track,
        all: &[&Track],
    ) -> fmt::Result {
        media::header(out, listing, plan, track)?;
        let mut init = None;
        let (front, blocks, rest) = split(&listing.segments);
        for segment in front {
            write_segment(out, track, segment, &mut init)?;
        }
        if !blocks.is_empty() {
            sections.close(out, None);
        }
        let oldest = blocks.first().map(|first| first.head.msn);
        self.forget_before(oldest);
        for segments in blocks.chunk_by(|a, b| block_of(a) == block_of(b)) {
            let block = self.block(track, segments, init)?;
            init = block.init.1;
            out.write_str(&block.text)?;
            sections.close(out, Some(block));
        }
        for segment in rest {
            write_segment(out, track, segment, &mut init)?;
        }
        media::end(out, listing, track.name, all, init)?;
        sections.close(out, None);
        Ok(())
    }

    fn forget_before(&mut self, oldest: Option<Msn>) {
        let gone = |block: &Arc<Block>| oldest.is_none_or(|oldest| block.msns.0 < oldest);
        while self.blocks.front().is_some_and(gone) {
            self.blocks.pop_front();
        }
    }

    fn block(
        &mut self,
        track: &Track,
        segments: &[ListedSegment],
        init: Init,
    ) -> Result<Arc<Block>, fmt::Error> {
        let msn = |segment: Option<&ListedSegment>| segment.map_or(Msn(0), |one| one.head.msn);
        let msns = (msn(segments.first()), msn(segments.last()));
        let at = self.blocks.partition_point(|block| block.msns.0 < msns.0);
        if let Some(known) = self.blocks.get(at)
            && (known.msns, known.count, known.init.0) == (msns, segments.len(), init)
        {
            return Ok(known.clone());
        }
        let mut text = String::with_capacity(segments.len() * 160);
        let mut behind = init;
        for segment in segments {
            write_segment(&mut text, track, segment, &mut behind)?;
        }
        let block = Arc::new(Block {
            msns,
            count: segments.len(),
            init: (init, behind),
            text,
            packed: OnceLock::new(),
        });
        // What was known from here on was of another log.
        self.blocks.truncate(at);
        self.blocks.push_back(block.clone());
        Ok(block)
    }
}

fn block_of(segment: &ListedSegment) -> u64 {
    segment.head.msn.0 / BLOCK
}

/// What may still lose segments in front, whole blocks of what never changes,
/// and the rest. A block is whole where a segment is listed before it and one
/// without parts behind it.
fn split(segments: &[ListedSegment]) -> (&[ListedSegment], &[ListedSegment], &[ListedSegment]) {
    let settled = |one: &ListedSegment| one.complete && one.parts.is_empty();
    let old = segments.iter().take_while(|one| settled(one)).count();
    let (Some(first), Some(last)) = (segments.first(), segments[..old].last()) else {
        return (&[], &[], segments);
    };
    let (first, last) = (block_of(first), block_of(last));
    let from = segments.partition_point(|one| block_of(one) <= first);
    let to = segments.partition_point(|one| block_of(one) < last);
    if from >= to {
        return (&[], &[], segments);
    }
    let (front, rest) = segments.split_at(from);
    let (blocks, rest) = rest.split_at(to - from);
    (front, blocks, rest)
}

impl Sections {
    fn close(&mut self, text: &str, block: Option<Arc<Block>>) {
        let end = text.len();
        self.0.push(Section { end, block });
    }

    /// The `text` that they are of in gzip's form (RFC 1952), without time or
    /// name: equal texts compress to equal bytes on every edge.
    #[must_use]
    pub fn gzip(&self, text: &[u8]) -> Vec<u8> {
        const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
        let mut out = Vec::with_capacity(text.len() / 4);
        out.extend_from_slice(&HEADER);
        let mut crc = Crc::new();
        let mut from = 0;
        for (at, section) in self.0.iter().enumerate() {
            let own = text.get(from..section.end).unwrap_or_default();
            from = section.end;
            let last = at + 1 == self.0.len();
            let made;
            let packed = match &section.block {
                Some(block) => block
                    .packed
                    .get_or_init(|| pack(block.text.as_bytes(), false)),
                None => {
                    made = pack(own, last);
                    &made
                }
            };
            out.extend_from_slice(&packed.deflated);
            crc.combine(&packed.crc);
        }
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&crc.amount().to_le_bytes());
        out
    }
}

/// A run of deflate blocks that ends on a byte and refers to nothing before it,
/// so that runs can be joined; the last one ends the stream.
fn pack(text: &[u8], last: bool) -> Packed {
    let mut crc = Crc::new();
    crc.update(text);
    let mut deflate = Compress::new(Compression::default(), false);
    let flush = if last {
        FlushCompress::Finish
    } else {
        FlushCompress::Full
    };
    let mut deflated = Vec::with_capacity(text.len() / 3 + 128);
    loop {
        let read = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = text.get(read..).unwrap_or_default();
        let status = deflate.compress_vec(rest, &mut deflated, flush);
        // Only where there was room to spare is everything out.
        let room = deflated.len() < deflated.capacity();
        match status {
            Ok(Status::StreamEnd) => break,
            Ok(_) if !last && room => break,
            Ok(_) => deflated.reserve(text.len() / 4 + 1024),
            // Compressing memory into memory cannot fail.
            Err(_) => break,
        }
    }
    Packed { deflated, crc }
}
