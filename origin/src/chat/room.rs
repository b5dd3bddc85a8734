//! The task of one room whose decisions lie in this origin's file. It ends when
//! nobody holds its mailbox any more.

use common::chat::Asked;
use tokio::sync::mpsc;

use super::{
    counted::Counted,
    desk::{AT_ONCE, Desk, Wish},
};

pub(super) struct Room {
    pub(super) desk: Desk,
    pub(super) asks: mpsc::Receiver<Asked>,
    pub(super) counted: Counted,
}

impl Room {
    pub(super) async fn run(mut self) {
        let mut asked = Vec::with_capacity(AT_ONCE);
        loop {
            tokio::select! {
                count = self.asks.recv_many(&mut asked, AT_ONCE) => if count == 0 {
                    return;
                },
                () = self.counted.due() => drop(self.counted.recount()),
            }
            let wishes = asked.drain(..).map(Wish::from).collect();
            // A file's room is nobody else's.
            let _ = self.desk.decide(wishes).await;
        }
    }
}
