//! The link between nodes, ALPN `millrace/1`: how live media and its index get
//! from a parent (an origin, or an edge) to its children (edges). This text is
//! the protocol; another implementation needs nothing else.
//!
//! In: windows and a directory. Out: the same windows and directory in another
//! process. Who owns what: [`server`] reads the parent's windows, the edge's
//! `upstream` writes the child's. Invariant: a record that a child applied is
//! the record its origin appended, in the same order, or it is not applied.
//!
//! # Transport
//! QUIC with TLS 1.3, no 0-RTT. Both ends show a certificate of the private CA
//! that names one node id and one role ([`crate::tls`]); a child must have the
//! role edge. An endpoint without one is closed with code 3. Media flows from
//! parent to child only.
//!
//! # Encoding
//! `i` is a QUIC varint (RFC 9000, 16): 0 to 2^62 - 1 in 1, 2, 4 or 8 bytes;
//! any length is accepted, the shortest is sent. `s` is `i` bytes of UTF-8.
//! `o` is an optional number: 0 for none, else the number plus one. `x*` is a
//! count `i` and that many x. Every stream is a run of messages:
//!
//! ```text
//! type(i) length(i) body
//! ```
//!
//! A reader passes over a message whose type it does not know (at most 16 MiB),
//! ignores bytes behind the fields it knows, and ignores unknown bits of flags.
//! A length is held against the bound of its type before anything is allocated:
//! CHUNK 8 MiB + 64 KiB (+ 8), INIT 256 KiB (+ 32), INDEX 1 MiB, all others
//! 16 KiB. Any other change is a new ALPN. A parent closes the connection of a
//! child that breaks a rule with code 2, but on CHAT; a child subscribes again.
//!
//! Times are ticks of the track's timescale, programme time is milliseconds
//! since the Unix epoch. Names: channel `[a-z0-9_]{1,32}`, node `[a-z0-9-]{1,63}`,
//! track `v` or `a` and 0 to 255 without leading zeros.
//!
//! # Messages
//! ```text
//! 00 ERROR     code(i) retry_ms(i) reason(s) alternatives(s*)
//! 01 HELLO     node(s) role(i: 0 origin, 1 edge) region(s) location(s) cost(i) max_chunk_bytes(i)
//! 02 WATCH     prefix(s)
//! 03 LIVE      channel(s) broadcast(i) epoch(i) flags(i: 1 lost, 2 ended, 4 starting) cost(i) hops(s*)
//!              grace_ms(i, may be missing: 10,000)
//! 04 SNAPSHOT  channels(i)
//! 05 GONE      channel(s) broadcast(i) reason(i: 0 ended, else lost)
//! 06 GOAWAY    drain_ms(i) alternatives(s*)
//! 07 INGEST    hops(s*) region(s) city(s) latitude(o) longitude(i) rtmp(s) rtmps(s, may be empty)
//!              publishers(i) capacity(i) state(i: 0 available, 1 full, 2 draining, else unavailable)
//! 08 INGEST_GONE node(s)
//! 0a ABOUT     channel(s) broadcast(i) title(s) tags(s*)
//!              health(i: 0 none, 1: fps_tenths(o) gop_ms(o) dropped(i) jitter_ms(i) follow)
//! 0b AUDIENCE  { channel(s) viewers(i) chatters(i) }*
//! 0c HEARSAY   origin(s) linked(i: 0 no, else yes) { channel(s) viewers(i) chatters(i) }*
//! 10 SUBSCRIBE subscription(i) channel(s) broadcast(o) track(s) msn(o) chunk(i) priority(i) max_age_ms(i) hops(s*)
//! 11 OK        broadcast(i) epoch(i) target_duration_s(i) part_hold_back_ms(i) window_ms(i)
//!              first_msn(i) first_chunk(i) live_msn(i) live_chunk(i)
//! 12 TRACK     name(s) codec(s) timescale(i) part_target(i) bandwidth(i) average_bandwidth(i)
//!              width(i) height(i) rate_num(i) rate_den(i) channels(o) sample_rate_hz(o)
//! 13 INIT      track(s) id(i) bytes(length i)
//! 14 INDEX     next_msn(i) segments*: head parts*: { duration(i) flags(i) chunks(i) bytes(i) }
//!              crc32c(i) tail(i: 0 none, 1 hint and siblings follow)
//! 15 DROPPED   from(i) to(i) code(i)
//! 16 ENDED     last_msn(o)
//! 17 UPDATE    priority(i) max_age_ms(i) end_msn(o)
//! 18 STATE     state(i: 0 live, 1 lost, 2 ended) epoch(i)
//! 20 SEGMENT   subscription(i) head first_chunk(i)
//! 21 CHUNK     duration(i) payload: the rest
//! 22 PART      index(i) duration(i) flags(i) hint siblings
//! 23 END       chunks(i) bytes(i) crc32c(i)
//! 30 FETCH     channel(s) broadcast(i) track(s) msn(i) first_chunk(i)
//! 31 LIST      channel(s) broadcast(i) track(s) from(i) to(i)
//! 40 CHAT
//! 41 ENTER     room(s) epoch(o) offset(i)
//! 42 EXIT      room(s)
//! 43 COUNTS    room(s) readers(i) chatters(i) viewers(i)
//! 44 ASK       room(s) id(16 bytes) sender ask
//! 45 VERDICT   id(16 bytes) verdict(i: 0 said stamp, 1 done notice, 2 refused notice, 3 raids notice room(s) viewers(i))
//! 46 ROOM      room(s) epoch(i) next_offset(i) live_offset(i) settings
//! 47 EVENT     room(s) stamp event
//! 48 ORIGINS   nodes(s*)
//! 49 CLOSED    room(s) code(i)
//! 4c ROLES     room(s) flags(i: 1 beside those said before) { login(s) roles(i) }*
//! 4d MEMBERS   room(s) flags(i: 1 anew) came(s*) went(s*)
//! 4e PRESENT   room(s) readers(i) chatters(i) viewers(i) flags(i: 1 anew, 2 names are told) came(s*) went(s*)
//!
//! head     = epoch(i) msn(i) discontinuity_sequence(i) init_id(i) dts(i) programme_time(i)
//!            flags(i: 1 discontinuity, 2 gap)
//! hint     = msn(i) part(i)
//! siblings = { track(s) msn(i) part(i) }*
//! part flags: 1 independent, 2 gap; in INDEX also 4: this one sums up all parts
//!
//! user     = id(s) login(s) display(s) colour(o) badges(s*)
//! roles    = i: 1 broadcaster, 2 moderator, 4 vip, 8 subscriber
//! sender   = user roles follows_since(o) network(i: 0 none, 1 and 16 bytes)
//! ask      = 0 text(s) flags(i: 1 action, 2 reply) parent(16 bytes, if reply)
//!          | command(i: 1 ban 2 timeout 3 unban 4 untimeout 5 delete 6 clear 7 slow 8 followers
//!            9 subscribers 10 emote_only 11 unique 12 mod 13 unmod 14 vip 15 unvip 16 mods
//!            17 vips 18 announce) login, message or colour(s) number(o) flag(i) text(s)
//! notice   = msg_id(s) text(s)
//! settings = slow_s(i) followers_minutes(o) flags(i: 1 subscribers only, 2 emote only, 4 unique)
//! stamp    = epoch(i) offset(i) id(16 bytes) time(i) programme_time(i)
//! event    = 0 user roles text(s) flags(i: 1 action, 2 reply)
//!              { parent(16) thread(16) user_id(s) login(s) display(s) text(s) }, if reply
//!          | 1 cleared | 2 user_id(s) login(s) seconds(o) | 3 message(16) login(s) text(s)
//!          | 4 settings | 5 notice | 6 user_notice(i: 0 announcement colour(s), 1 raid viewers(i))
//!            user roles system(s) text(s)
//! ```
//! Types are hexadecimal. At most 64 tracks and siblings, 16 hops, 16
//! alternatives, 1,024 segments of an index, 256 channels of an AUDIENCE or HEARSAY; texts 256 bytes,
//! codecs 128, titles 140 characters, 10 tags of 25.
//! A size or rate of 0, 0 is unknown.
//!
//! # Streams
//! A stream is named by its first message.
//!
//! **HELLO** (unidirectional, both ends, neither waits) says who speaks; the
//! node id must be the certificate's. `cost` is added to what the node announces.
//!
//! **WATCH** (bidirectional, child) asks for channels that begin with `prefix`.
//! The answer: a LIVE for each channel, then SNAPSHOT ("that was all"), then for
//! ever a LIVE for each new or changed channel and a GONE for each that went.
//! `hops` leads from the origin to the sender, both included; a child passes
//! over a LIVE that contains itself, and with it what this parent said before. A
//! parent that is an edge sends SNAPSHOT once it has one itself. A channel that a new parent's SNAPSHOT lacks
//! is lost, not ended, and so are all channels of a link that is cut: a child keeps
//! them for as long as their origin waits for a publisher, `grace_ms` and 5 s more,
//! 15 s at least and 605 s at most. LIVE with flag starting: nothing can be played
//! yet. LIVE with flag ended: its last playlist is on show; GONE
//! with reason ended: not any more, or not at this parent. ABOUT follows a LIVE of the
//! same broadcast where there is something to say, and comes again when that is
//! another: title and tags empty and no health take it back. AUDIENCE tells how many watch and
//! may chat over all edges, channel by channel, live or not, as the homes of their
//! rooms add it up, and again where it is another; 0 and 0 is nobody. Both come
//! every two seconds at most.
//!
//! **HEARSAY** (bidirectional, child of an origin, once a link) says what AUDIENCE of
//! `origin`, another one that the child is linked to, tells of channels of this one; nothing
//! is answered. It comes again where that is another, at most every two seconds; 0 and 0 is
//! nobody, and not linked takes back all that was said of that origin. What a stream said is
//! forgotten with it. An origin tells nobody on: it is for who asks how many watch a
//! channel whose room's home is elsewhere.
//!
//! **INGEST** comes on WATCH streams too, whatever their prefix: an origin as a place to publish
//! to. `hops` are as in LIVE, the first names the origin. All that the parent knows come before
//! SNAPSHOT, then each that changed, at most once a second of one origin, and INGEST_GONE for
//! each that went; what a new SNAPSHOT's link did not tell again is forgotten. Latitude is
//! ten-thousandths of a degree from the south pole on, longitude from 180 degrees west on. A
//! child that loses the link counts what it was told there as unavailable, and forgets it 30 s
//! later. At most 256 ingests.
//!
//! **SUBSCRIBE** (bidirectional, child): `broadcast` none is whichever is on;
//! `track` empty is the manifest. The parent holds it until the channel can be
//! played (at most 3 s longer than the longest GOP that it takes, then ERROR 10); one that is an edge subscribes at its own
//! parent, with `hops` and itself behind them, and keeps that while children
//! follow. ERROR 9 answers hops that name the parent. The child ends it by closing or
//! resetting its half, and may send UPDATEs before; the parent ends it with
//! ENDED, STATE ended or ERROR, and a FIN.
//! - Manifest: OK (its msns are 0), TRACK for each track, INIT for each init
//!   segment, STATE. The first STATE says that all was told; later ones tell
//!   each change, after the INITs that came with it.
//! - Track: OK, INITs, INDEX, all as of one moment; then segment streams, and
//!   here an INIT before the first segment that needs it, DROPPED, ENDED.
//!   The subscription belongs to the broadcast's track and goes on across its
//!   epochs. `msn` none asks for the open segment from its first chunk; otherwise
//!   the child has everything before chunk `chunk` of segment `msn`, and the
//!   parent goes on there, or, where that is not held, older than `max_age_ms`
//!   or ahead of the parent, at a later or the live segment: `first_msn` and
//!   `first_chunk` say where. INDEX tells every listed complete segment before
//!   `next_msn` = `first_msn`; the tail stands on its last segment only, and is
//!   what its last part told. What the INDEX does not list the child lists no more.
//!
//! **SEGMENT** (unidirectional, parent): one segment of the subscription that
//! `subscription` names (chosen by the child, once a connection), from
//! `first_chunk` on, as it is made: CHUNK for each chunk, PART when a part
//! closes (its chunks are those since the PART before), END when the segment is
//! complete, FIN. A chunk's decode time is the head's plus the durations of the
//! chunks and gap parts before it. A stream that starts behind chunk 0 tells
//! the earlier PARTs again: a child ignores those whose `index` it has. END sums
//! the whole segment from chunk 0. **A FIN without END is a cut-off segment**,
//! as is a reset; the child subscribes again from where it stands. Records
//! apply in the order of msn however streams arrive: after END of n comes n + 1
//! unless DROPPED covers it.
//!
//! **DROPPED**: segments `from` to `to` (both included) are not sent, or not to
//! their end: older than the maximum age (8), not held (7), or never finished
//! (12). Only bytes are dropped: before it goes on the child LISTs up to `to` + 1
//! and applies the answer as it did INDEX.
//!
//! **FETCH** (bidirectional, child): one segment of the past; the answer is the
//! stream that SEGMENT describes, with subscription 0, or ERROR: 4 no such
//! channel or track, 5 known here by index only, 6 another broadcast, 7 not
//! held any more. A parent that is an edge asks its own parents first. What lies
//! in a parent's archive or cache is answered from its beginning whatever chunk
//! was asked for, with its bytes cut into CHUNKs anyhow, without PARTs, and with
//! an END that counts those CHUNKs; an ERROR may come in the middle. In INDEX the
//! parts of a complete segment that began more than eleven target durations ago
//! may be summed up in one. **LIST** asks for the INDEX of listed segments in `from` to
//! `to`, `to` excluded.
//!
//! **CHAT** (bidirectional, child, once a link): the rooms of [`crate::chat`].
//! The parent says ORIGINS, the nodes over which rooms are spread; a room's home
//! is the one that [`crate::chat::home`] finds. A child reads a room at its home, or at
//! an edge that relays towards it; where no parent names an origin all of them have
//! every room. A child that turns to another parent ENTERs there from where it stands
//! and ASKs again what has no VERDICT. ENTER asks for a room, from
//! `offset` of `epoch` on, or all that the parent remembers; the answer is ROOM,
//! then an EVENT for each event from `next_offset` on, in order, for ever, or
//! CLOSED: 5 the room's home is elsewhere, 10 too many rooms, 12 this relay can't
//! reach the home: the room stays entered, and ROOM says when it can again. ROOM comes again
//! where the numbers do not go on, too: a new epoch, or events that the parent no
//! longer has; what is before `live_offset` is the past. COUNTS tells how many read there, who
//! of them may write, and how many watch the channel, those behind the child included; it
//! is said again at least every 15 s and forgotten after 45 s. MEMBERS tells their logins,
//! and who came and went since; nobody, where they are more than 1,000. PRESENT is the
//! same of the whole room, over all edges, for the child; at most once a second, and again
//! every 15 s. ASK is a wish of
//! a user; its VERDICT comes in any order. ROLES says who is what in the room by
//! its own word, whatever tokens say: after ROOM and whenever it is another. A child that lost its link before the
//! VERDICT may ASK again with the same `id` for 60 s, and is told the same; the
//! `id` of a message is that of its ASK. Said things are EVENTs to all, the asker
//! too. A relay does all this towards the room's home for its own children. What is said
//! in CHAT never ends the link: an ASK without a meaning is refused by VERDICT, any other
//! message without one is passed over, both ways; where frames can't be told apart any
//! more, or on a message that is none of CHAT's, the parent ends the stream with ERROR.
//! Whoever reads a text cuts it: spaces at its ends and what is too long don't matter.
//! At most 4,096 rooms a stream, 64 origins, 8 badges, 256 names each that came and went; a text has 500 characters.
//!
//! **GOAWAY** (bidirectional, parent): this node leaves in `drain_ms` and serves
//! until then; the child turns to `alternatives` or its own list, and subscribes
//! there before it ends its subscriptions here.
//!
//! # Twins
//! Paths that lead to one broadcast of one origin (`broadcast` and the first of
//! `hops`) bring the same records. A child may hold subscriptions to a track at two
//! parents, take from each what it has not, and end either at any chunk.
//!
//! # Order on a narrow path
//! Control > init segments (they travel on control streams) > audio > video by
//! ascending bit rate > fetches; `priority` (0 to 255, higher first) decides
//! within a class. Segments of a track go oldest first, and a complete one is
//! dropped only past `max_age_ms`.
//!
//! # Codes, in ERROR, DROPPED, resets, stops and closes
//! ```text
//! 0 ok 1 internal 2 protocol 3 unauthorised 4 not_found 5 not_here 6 epoch_mismatch 7 expired
//! 8 too_far_behind 9 loop 10 overloaded 11 cancelled 12 origin_lost
//! ```

pub mod chat;
pub mod decode;
pub mod encode;
pub mod frame;
mod ingest;
pub mod message;
pub mod priority;
pub mod seen;
pub mod server;
pub mod stream;
pub mod wire;

pub use chat::Chat;
pub use frame::{Decoder, Frame, MAX_CHUNK_BYTES};
pub use message::*;
pub use seen::LinkSeen;
pub use server::{
    ChatPort, Children, Demand, Fetched, LinkServer, LinkServerMetrics, MAX_FETCHES, NodeConfig,
    OpenRoom, config, demands,
};
pub use stream::{Reader, StreamError, Writer};
pub use wire::WireError;

#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod wire_property_tests;
#[cfg(test)]
mod wire_tests;
