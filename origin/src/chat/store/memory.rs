//! The facts of rooms where there is no file: a room that was let go, because nobody
//! read it for some minutes, is moderated as before when somebody comes back.

use std::collections::HashMap;

use common::names::ChannelName;

use super::StoreError;
use crate::chat::entries::Entry;

/// Of all rooms' facts: a few hundred thousand bans. Without tokens a stranger may be
/// the broadcaster of any room that nobody has.
pub const MAX_BYTES: usize = 64 << 20;

/// What one fact takes beside its texts, about.
const FACT_BYTES: usize = 128;

/// By kind and key.
type Facts = HashMap<(String, String), String>;

/// At most [`MAX_BYTES`]. What does not fit is not taken: nothing that was decided goes
/// for something newer.
#[derive(Debug, Default)]
pub(super) struct Memory {
    rooms: HashMap<ChannelName, Facts>,
    bytes: usize,
}

impl Memory {
    pub(super) fn read(&self, room: &ChannelName, mut learn: impl FnMut(&str, &str, &str)) {
        for ((kind, key), value) in self.rooms.get(room).into_iter().flatten() {
            learn(kind, key, value);
        }
    }

    /// All, or where that is too much only what is none any more.
    pub(super) fn write(
        &mut self,
        room: &ChannelName,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        let more: usize = entries.iter().map(added).sum();
        let full = more > 0 && self.bytes + more > MAX_BYTES;
        let facts = self.rooms.entry(room.clone()).or_default();
        for entry in entries {
            if full && entry.value.is_some() {
                continue;
            }
            let at = (entry.kind.clone(), entry.key.clone());
            let before = match &entry.value {
                Some(value) => facts.insert(at, value.clone()),
                None => facts.remove(&at),
            };
            let before = before.map_or(0, |value| weight(&entry.kind, &entry.key, &value));
            self.bytes = self.bytes + added(entry) - before;
        }
        if facts.is_empty() {
            self.rooms.remove(room);
        }
        if full { Err(StoreError::Full) } else { Ok(()) }
    }
}

fn added(entry: &Entry) -> usize {
    let value = entry.value.as_ref();
    value.map_or(0, |value| weight(&entry.kind, &entry.key, value))
}

const fn weight(kind: &str, key: &str, value: &str) -> usize {
    FACT_BYTES + kind.len() + key.len() + value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(key: &str, value: Option<&str>) -> Entry {
        Entry {
            kind: "ban".to_owned(),
            key: key.to_owned(),
            value: value.map(str::to_owned),
        }
    }

    fn told(memory: &Memory, room: &ChannelName) -> Vec<String> {
        let mut told = Vec::new();
        memory.read(room, |kind, key, value| {
            told.push(format!("{kind} {key} {value}"));
        });
        told.sort_unstable();
        told
    }

    #[test]
    fn facts_are_the_rooms_own_until_they_are_none() {
        let [demo, other] = ["demo", "other"].map(|name| ChannelName::parse(name).unwrap());
        let mut memory = Memory::default();
        let facts = [fact("ann", Some("1")), fact("bob", Some("2"))];
        memory.write(&demo, &facts).unwrap();
        memory.write(&demo, &[fact("ann", Some("3"))]).unwrap();
        assert_eq!(told(&memory, &demo), ["ban ann 3", "ban bob 2"]);
        assert!(told(&memory, &other).is_empty());
        let gone = ["ann", "bob", "cat"].map(|key| fact(key, None));
        memory.write(&demo, &gone).unwrap();
        assert!(memory.rooms.is_empty() && memory.bytes == 0);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_not_at_the_cost_of_what_was() {
        let mut memory = Memory::default();
        let value = "x".repeat(1 << 16);
        let room = |number: usize| ChannelName::parse(&format!("r{number}")).unwrap();
        let mut rooms = 0;
        while memory
            .write(&room(rooms), &[fact("ann", Some(&value))])
            .is_ok()
        {
            rooms += 1;
        }
        assert!(
            memory.bytes <= MAX_BYTES && (1_000..1_024).contains(&rooms),
            "{rooms}"
        );
        let both = [fact("bob", Some("1")), fact("cat", Some(&value))];
        assert!(memory.write(&room(0), &both).is_err());
        assert_eq!(told(&memory, &room(0)).len(), 1);
        // What makes way does so even where the rest finds none.
        let mixed = [fact("ann", None), fact("cat", Some(&value.repeat(3)))];
        assert!(memory.write(&room(1), &mixed).is_err());
        assert!(told(&memory, &room(1)).is_empty());
        memory.write(&room(0), &both).unwrap();
        assert_eq!(told(&memory, &room(0)).len(), 3);
    }
}
