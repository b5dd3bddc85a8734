//! HEARSAY: what a child is told by other origins of channels that are this node's.

use super::{
    Peer,
    request::{Failure, refused},
};
use crate::{
    link::{
        message::{Code, Heard, Message},
        stream::Reader,
    },
    live::Teller,
};

impl Peer {
    /// Listens for as long as the child says something.
    pub(super) async fn hearsay(&self, first: Heard, reader: &mut Reader) -> Result<(), Failure> {
        let teller = self.shared.hearsay.teller();
        self.hear(&teller, first);
        while let Some(message) = reader.next().await? {
            let Message::Hearsay(heard) = message else {
                return Err(refused(Code::Protocol, "not HEARSAY"));
            };
            self.hear(&teller, heard);
        }
        Ok(())
    }

    /// Channels that this node does not have are none of its business.
    fn hear(&self, teller: &Teller, heard: Heard) {
        let Heard {
            origin,
            linked,
            mut crowds,
        } = heard;
        if !linked {
            return teller.unheard(&origin);
        }
        let directory = &self.shared.directory;
        crowds.retain(|(channel, crowd)| crowd.is_nobody() || directory.get(channel).is_some());
        teller.tell(origin, crowds);
    }
}
