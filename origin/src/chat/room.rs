//! The task of one room whose decisions lie in this origin's file. It ends when
//! nobody holds its mailbox any more.

use common::chat::{Asked, presence::TELL_AGAIN};
use tokio::{sync::mpsc, time::interval};

use super::{
    counted::Counted,
    desk::{AT_ONCE, Desk},
};

pub(super) struct Room {
    pub(super) desk: Desk,
    pub(super) asks: mpsc::Receiver<Asked>,
    pub(super) counted: Counted,
}

impl Room {
    pub(super) async fn run(mut self) {
        let mut tick = interval(TELL_AGAIN);
        let mut asked = Vec::with_capacity(AT_ONCE);
        self.desk.begin();
        loop {
            // A file's room is nobody else's: nothing here deposes.
            tokio::select! {
                Ok(()) = self.desk.policy.changed() => drop(self.desk.govern().await),
                count = self.asks.recv_many(&mut asked, AT_ONCE) => if count == 0 {
                    // Before anything takes its time: whoever opens the room anew counts.
                    drop(self.counted);
                    self.desk.abandon().await;
                    return;
                },
                () = self.counted.due() => drop(self.counted.recount()),
                _ = tick.tick() => drop(self.desk.tick().await),
            }
            let wishes = self.desk.wishes(&mut asked);
            if !wishes.is_empty() {
                let _ = self.desk.decide(wishes).await;
            }
        }
    }
}
