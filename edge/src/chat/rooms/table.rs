//! Which rooms an edge reads, and how many: names are anybody's, places are not.

use std::{collections::HashMap, sync::Arc};

use common::{chat::Network, live::Directory, names::ChannelName};
use parking_lot::Mutex;

use super::Room;

/// Rooms that one edge reads: as many as a parent lets a child have.
pub const MAX_ROOMS: usize = common::link::chat::MAX_ROOMS;

/// Past so many a room is opened only if its channel is on air: any stranger can name
/// a room, and no audience is to find its place taken by names that somebody made up.
pub const MOST_OFF_AIR: usize = MAX_ROOMS / 4 * 3;

/// Why a room is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// [`MAX_ROOMS`] are open.
    Full,
    /// [`MOST_OFF_AIR`] are, and its channel is off air.
    OffAir,
    /// As many as one address may open are open by this one.
    Address,
    /// The uplink has too much to do.
    Busy,
}

impl NoRoom {
    pub(in crate::chat) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::OffAir => "off_air",
            Self::Address => "address",
            Self::Busy => "busy",
        }
    }
}

/// All rooms of this edge.
#[derive(Debug)]
pub struct Rooms {
    /// What is on air.
    directory: Arc<Directory>,
    most_per_address: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    rooms: HashMap<ChannelName, Opened>,
    /// How many rooms of channels that were off air each address opened.
    opened_by: HashMap<Network, usize>,
}

#[derive(Debug)]
struct Opened {
    room: Arc<Room>,
    /// The address that it counts for.
    by: Option<Network>,
}

impl Rooms {
    /// Of the channels that are off air, one address opens at most so many rooms.
    #[must_use]
    pub fn new(directory: Arc<Directory>, most_per_address: usize) -> Self {
        Self {
            directory,
            most_per_address,
            table: Mutex::default(),
        }
    }

    /// The room, and whether it was made just now, for the address `by` unless that is
    /// a node's.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn open(
        &self,
        name: &ChannelName,
        by: Option<Network>,
    ) -> Result<(Arc<Room>, bool), NoRoom> {
        let mut table = self.table.lock();
        let Table { rooms, opened_by } = &mut *table;
        if let Some(Opened { room, .. }) = rooms.get(name) {
            return Ok((room.clone(), false));
        }
        if rooms.len() >= MAX_ROOMS {
            return Err(NoRoom::Full);
        }
        let on_air = self.directory.get(name).is_some();
        if !on_air && rooms.len() >= MOST_OFF_AIR {
            return Err(NoRoom::OffAir);
        }
        let by = by.filter(|_| !on_air);
        if let Some(address) = by {
            let opened = opened_by.get(&address).copied().unwrap_or(0);
            if opened >= self.most_per_address {
                return Err(NoRoom::Address);
            }
            opened_by.insert(address, opened + 1);
        }
        let room = Arc::new(Room::new(name.clone()));
        let opened = Opened {
            room: room.clone(),
            by,
        };
        rooms.insert(name.clone(), opened);
        Ok((room, true))
    }

    #[must_use]
    pub fn get(&self, name: &ChannelName) -> Option<Arc<Room>> {
        let table = self.table.lock();
        table.rooms.get(name).map(|opened| opened.room.clone())
    }

    /// Tells each room how many watch its channel here.
    pub fn set_viewers(&self, viewers: impl Fn(&ChannelName) -> u32) {
        for (name, opened) in &self.table.lock().rooms {
            opened.room.set_viewers(viewers(name));
        }
    }

    /// Forgets a room if nobody but the map and the caller hold it.
    pub fn close(&self, room: &Arc<Room>) -> bool {
        let mut table = self.table.lock();
        // Handles come from the map alone, whose lock is held.
        let unused = Arc::strong_count(room) <= 2;
        if unused
            && let Some(Opened { by: Some(by), .. }) = table.rooms.remove(room.name())
            && let Some(opened) = table.opened_by.get_mut(&by)
        {
            *opened -= 1;
            if *opened == 0 {
                table.opened_by.remove(&by);
            }
        }
        unused
    }
}

#[cfg(test)]
mod tests {
    use common::{
        live::{Announcement, Channel, Phase, Stage},
        names::{BroadcastId, Epoch},
    };

    use super::*;

    fn room(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn rooms() -> Rooms {
        Rooms::new(Arc::default(), 2)
    }

    fn on_air(rooms: &Rooms, name: &str) {
        rooms.directory.put(Channel {
            announcement: Announcement {
                channel: room(name),
                broadcast: BroadcastId(1),
                epoch: Epoch(1),
                phase: Phase::Live,
                grace_ms: 0,
                hops: Vec::new(),
                cost: 0,
            },
            stage: Stage::Starting,
        });
    }

    #[test]
    fn rooms_are_bounded_and_those_on_air_have_places_of_their_own() {
        let rooms = rooms();
        for number in 0..MOST_OFF_AIR {
            assert!(rooms.open(&room(&format!("r{number}")), None).is_ok());
        }
        let refused = |name: &str| rooms.open(&room(name), None).unwrap_err();
        assert_eq!(refused("one_more"), NoRoom::OffAir);
        assert!(rooms.open(&room("r1"), None).is_ok());
        for number in MOST_OFF_AIR..MAX_ROOMS {
            let name = format!("r{number}");
            on_air(&rooms, &name);
            assert!(rooms.open(&room(&name), None).is_ok());
        }
        on_air(&rooms, "one_more");
        assert_eq!(refused("one_more"), NoRoom::Full);
    }

    #[test]
    fn an_address_opens_so_many_rooms_that_are_off_air() {
        let rooms = rooms();
        let address = |last| Some(Network::of([10, 0, 0, last].into()));
        let open = |name: &str, by| rooms.open(&room(name), by).map(|(room, _)| room);
        let one = open("one", address(1)).unwrap();
        open("two", address(1)).unwrap();
        assert_eq!(open("three", address(1)).unwrap_err(), NoRoom::Address);
        // What is there already, what is on air, and what others open.
        open("one", address(1)).unwrap();
        on_air(&rooms, "demo");
        open("demo", address(1)).unwrap();
        open("three", address(2)).unwrap();
        open("four", None).unwrap();
        // Given back with the room, whoever else was in it.
        assert!(rooms.close(&one));
        drop(one);
        open("five", address(1)).unwrap();
        assert_eq!(open("six", address(1)).unwrap_err(), NoRoom::Address);
        for name in ["two", "three", "five", "demo", "four"] {
            assert!(rooms.close(&rooms.get(&room(name)).unwrap()));
        }
        assert!(rooms.table.lock().opened_by.is_empty());
    }
}
