//! The RTMP handshake, both roles.
//!
//! Comes in: the first 3,073 bytes of a connection; goes out: ours. The server
//! answers the plain handshake and the digest one that Flash-derived clients
//! send; the client speaks the plain one. At most one packet is buffered.
//! Nothing here is a secret: the "random" bytes come from a seed so that a
//! connection can be replayed.
//! Spec: RTMP 1.0, 5.2; the digest variant is known from its implementations.

use aws_lc_rs::hmac;
use bytes::{BufMut, BytesMut};

use super::error::ErrorKind;

const VERSION: u8 = 3;
const PACKET: usize = 1536;
const DIGEST: usize = 32;

const CLIENT_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001\
    \xf0\xee\xc2\x4a\x80\x68\xbe\xe8\x2e\x00\xd0\xd1\x02\x9e\x7e\x57\
    \x6e\xec\x5d\x2d\x29\x80\x6f\xab\x93\xb8\xe6\x36\xcf\xeb\x31\xae";
/// The readable part of the server's key signs S1, the whole of it S2.
const SERVER_KEY_TEXT: usize = 36;
/// Both places where a digest's offset may be written; clients use either.
const SCHEMES: [usize; 2] = [8, 772];

type Packet = [u8; PACKET];

/// Where the digest of a packet stands under a scheme.
fn digest_offset(packet: &Packet, scheme: usize) -> usize {
    let sum: usize = packet[scheme..scheme + 4]
        .iter()
        .map(|b| usize::from(*b))
        .sum();
    scheme + 4 + sum % 728
}

fn digest(packet: &Packet, offset: usize, key: &[u8]) -> [u8; DIGEST] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(&packet[..offset]);
    context.update(&packet[offset + DIGEST..]);
    first_32(context.sign().as_ref())
}

fn first_32(bytes: &[u8]) -> [u8; DIGEST] {
    let mut out = [0; DIGEST];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

/// The scheme and digest of a packet signed with `key`.
fn find_digest(packet: &Packet, key: &[u8]) -> Option<(usize, [u8; DIGEST])> {
    SCHEMES.into_iter().find_map(|scheme| {
        let offset = digest_offset(packet, scheme);
        let found = digest(packet, offset, key);
        (packet[offset..offset + DIGEST] == found).then_some((scheme, found))
    })
}

/// Fills a packet from a seed (splitmix64).
fn fill(packet: &mut [u8], mut seed: u64) {
    for block in packet.chunks_mut(8) {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        for (to, from) in block.iter_mut().zip(mixed.to_le_bytes()) {
            *to = from;
        }
    }
}

fn plain_packet(seed: u64) -> Packet {
    let mut packet = [0; PACKET];
    fill(&mut packet[8..], seed);
    packet
}

/// S1 and S2 for a C1.
fn answer(c1: &Packet, seed: u64) -> (Packet, Packet) {
    let mut s1 = plain_packet(seed);
    let signed = if c1[4..8] == [0; 4] {
        None
    } else {
        find_digest(c1, CLIENT_KEY)
    };
    let Some((scheme, client_digest)) = signed else {
        return (s1, *c1);
    };
    s1[4..8].copy_from_slice(&[4, 5, 0, 1]);
    let offset = digest_offset(&s1, scheme);
    let signature = digest(&s1, offset, &SERVER_KEY[..SERVER_KEY_TEXT]);
    s1[offset..offset + DIGEST].copy_from_slice(&signature);

    let mut s2 = [0; PACKET];
    fill(&mut s2, !seed);
    let key = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, SERVER_KEY),
        &client_digest,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
    let signature = first_32(hmac::sign(&key, &s2[..PACKET - DIGEST]).as_ref());
    s2[PACKET - DIGEST..].copy_from_slice(&signature);
    (s1, s2)
}

#[derive(Debug)]
enum Step {
    Version,
    Packet(Box<Packet>, usize),
    /// Bytes of the peer's last packet that are still to come. It only echoes
    /// ours, and senders get it wrong, so it is not looked at.
    Echo(usize),
    Done,
}

/// Which side we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// One side's handshake.
#[derive(Debug)]
pub(super) struct Handshake {
    role: Role,
    seed: u64,
    step: Step,
}

impl Handshake {
    /// A client's first bytes go to `out` at once.
    pub(super) fn new(role: Role, seed: u64, out: &mut BytesMut) -> Self {
        if role == Role::Client {
            out.put_u8(VERSION);
            out.put_slice(&plain_packet(seed));
        }
        Self {
            role,
            seed,
            step: Step::Version,
        }
    }

    /// Consumes what belongs to the handshake from `input`; true once it is over.
    pub(super) fn advance(
        &mut self,
        input: &mut &[u8],
        out: &mut BytesMut,
    ) -> Result<bool, ErrorKind> {
        loop {
            match &mut self.step {
                Step::Done => return Ok(true),
                Step::Version => {
                    let Some((version, rest)) = input.split_first() else {
                        return Ok(false);
                    };
                    if *version != VERSION {
                        return Err(ErrorKind::Version(*version));
                    }
                    *input = rest;
                    self.step = Step::Packet(Box::new([0; PACKET]), 0);
                }
                Step::Packet(packet, filled) => {
                    let count = input.len().min(PACKET - *filled);
                    let (now, rest) = input.split_at(count);
                    packet[*filled..*filled + count].copy_from_slice(now);
                    *filled += count;
                    *input = rest;
                    if *filled < PACKET {
                        return Ok(false);
                    }
                    match self.role {
                        Role::Server => {
                            let (s1, s2) = answer(packet, self.seed);
                            out.put_u8(VERSION);
                            out.put_slice(&s1);
                            out.put_slice(&s2);
                        }
                        Role::Client => out.put_slice(&packet[..]),
                    }
                    self.step = Step::Echo(PACKET);
                }
                Step::Echo(left) => {
                    let count = input.len().min(*left);
                    *input = &input[count..];
                    *left -= count;
                    if *left > 0 {
                        return Ok(false);
                    }
                    self.step = Step::Done;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(c1: &Packet) -> Vec<u8> {
        let mut out = BytesMut::new();
        let mut server = Handshake::new(Role::Server, 7, &mut out);
        let bytes = [&[3][..], c1, &[0; PACKET], b"next"].concat();
        let mut input = &bytes[..];
        assert_eq!(server.advance(&mut input, &mut out), Ok(true));
        assert_eq!(input, b"next");
        out.to_vec()
    }

    #[test]
    fn plain_handshake_echoes() {
        let c1 = plain_packet(99);
        let out = run(&c1);
        assert_eq!(out.len(), 1 + 2 * PACKET);
        assert_eq!(out[0], 3);
        assert_eq!(out[5..9], [0; 4]);
        assert_eq!(out[1 + PACKET..], c1);
    }

    #[test]
    fn digest_handshake_is_answered_in_the_clients_scheme() {
        for scheme in SCHEMES {
            let mut c1 = plain_packet(42);
            c1[4..8].copy_from_slice(&[128, 0, 7, 2]);
            let offset = digest_offset(&c1, scheme);
            let signature = digest(&c1, offset, CLIENT_KEY);
            c1[offset..offset + DIGEST].copy_from_slice(&signature);

            let out = run(&c1);
            let s1: &Packet = out[1..=PACKET].try_into().unwrap();
            let (found, _) = find_digest(s1, &SERVER_KEY[..SERVER_KEY_TEXT]).unwrap();
            assert_eq!(found, scheme);
            let s2 = &out[1 + PACKET..];
            let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SERVER_KEY), &signature);
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
            let (body, tail) = s2.split_at(PACKET - DIGEST);
            assert!(hmac::verify(&key, body, tail).is_ok());
        }
    }

    /// A version field without a digest (old librtmp) gets the plain answer.
    #[test]
    fn unsigned_version_field_gets_the_plain_answer() {
        let mut c1 = plain_packet(1);
        c1[4..8].copy_from_slice(&[9, 0, 124, 2]);
        assert_eq!(run(&c1)[1 + PACKET..], c1);
    }

    #[test]
    fn the_first_wrong_byte_is_refused() {
        let mut out = BytesMut::new();
        for version in [0, 2, 6, b'G', 0x16, 0xff] {
            let mut server = Handshake::new(Role::Server, 0, &mut out);
            let mut input = &[version][..];
            let result = server.advance(&mut input, &mut out);
            assert_eq!(result, Err(ErrorKind::Version(version)));
        }
        assert!(out.is_empty());
    }

    #[test]
    fn client_and_server_meet_byte_by_byte() {
        let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
        let mut client = Handshake::new(Role::Client, 1, &mut to_server);
        let mut server = Handshake::new(Role::Server, 2, &mut to_client);
        let (mut client_done, mut server_done) = (false, false);
        while !(client_done && server_done) {
            if !to_server.is_empty() {
                let byte = to_server.split_to(1);
                server_done = server.advance(&mut &byte[..], &mut to_client).unwrap();
            }
            if !to_client.is_empty() {
                let byte = to_client.split_to(1);
                client_done = client.advance(&mut &byte[..], &mut to_server).unwrap();
            }
        }
        assert!(to_server.is_empty() && to_client.is_empty());
    }
}
