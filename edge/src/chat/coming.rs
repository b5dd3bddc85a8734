//! Who came to a room and who left it, over all edges: JOIN and PART for clients that
//! asked for membership, a batch at a time, encoded once per framing. A room with too
//! many chatters has none of it: N that come to N would cost N times N.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use bytes::{Bytes, BytesMut};
use common::{chat::Login, names::ChannelName};

use super::{form::Framing, show::Channel};

/// Batches that wait for slow clients: as many seconds. Who falls behind is not told.
const HELD: usize = 16;

/// One batch.
#[derive(Debug)]
pub struct Coming {
    came: Vec<Login>,
    went: Vec<Login>,
    forms: [OnceLock<Bytes>; 4],
}

impl Coming {
    /// As `reader` is to see it: of itself it was told.
    pub fn shown(
        &self,
        server: &str,
        room: &ChannelName,
        framing: Framing,
        reader: &Login,
    ) -> Bytes {
        let own = self.came.contains(reader) || self.went.contains(reader);
        match self.forms.get(framing as usize) {
            Some(form) if !own => form
                .get_or_init(|| self.encoded(server, room, framing, None))
                .clone(),
            _ => self.encoded(server, room, framing, Some(reader)),
        }
    }

    fn encoded(
        &self,
        server: &str,
        room: &ChannelName,
        framing: Framing,
        without: Option<&Login>,
    ) -> Bytes {
        let mut out = BytesMut::new();
        for (command, names) in [("JOIN", &self.came), ("PART", &self.went)] {
            for name in names.iter().filter(|name| Some(*name) != without) {
                let room = Channel(room);
                let line = format!(":{name}!{name}@{name}.{server} {command} {room}");
                out.extend_from_slice(&framing.frame(&line));
            }
        }
        out.freeze()
    }
}

/// The latest batches of a room.
#[derive(Debug, Default)]
pub struct Comings {
    /// The number of the first held.
    first: u64,
    held: VecDeque<Arc<Coming>>,
}

impl Comings {
    pub fn push(&mut self, came: Vec<Login>, went: Vec<Login>) {
        if self.held.len() == HELD {
            self.held.pop_front();
            self.first += 1;
        }
        self.held.push_back(Arc::new(Coming {
            came,
            went,
            forms: Default::default(),
        }));
    }

    /// The number of the next.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.held.len() as u64
    }

    /// What is here from number `from` on, and the number of the next.
    #[must_use]
    pub fn from(&self, from: u64) -> (Vec<Arc<Coming>>, u64) {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        (self.held.iter().skip(skip).cloned().collect(), self.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &str) -> Vec<Login> {
        let names = names.split_whitespace();
        names.map(|name| Login::parse(name).unwrap()).collect()
    }

    #[test]
    fn a_batch_is_encoded_once_and_nobody_is_told_of_itself() {
        let room = ChannelName::parse("demo").unwrap();
        let mut comings = Comings::default();
        comings.push(names("ann bob"), names("cat"));
        let [batch] = &comings.from(0).0[..] else {
            panic!();
        };
        let shown = |reader: &str| {
            let reader = Login::parse(reader).unwrap();
            batch.shown("tmi", &room, Framing::Tcp, &reader)
        };
        assert_eq!(
            shown("dog"),
            ":ann!ann@ann.tmi JOIN #demo\r\n:bob!bob@bob.tmi JOIN #demo\r\n\
             :cat!cat@cat.tmi PART #demo\r\n"
        );
        assert_eq!(shown("dog").as_ptr(), shown("eve").as_ptr());
        assert!(!shown("ann").starts_with(b":ann"));
        let frames = batch.shown("tmi", &room, Framing::Ircv3Text, &names("dog")[0]);
        assert_eq!(frames.iter().filter(|byte| **byte == 0x81).count(), 3);
    }

    #[test]
    fn batches_are_bounded() {
        let mut comings = Comings::default();
        let end = comings.end();
        for _ in 0..HELD + 3 {
            comings.push(names("ann"), Vec::new());
        }
        assert_eq!(comings.from(end).0.len(), HELD);
        assert_eq!(comings.from(comings.end() - 2).0.len(), 2);
        assert!(comings.from(comings.end()).0.is_empty());
    }
}
