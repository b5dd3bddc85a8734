//! `/api/v1/channels/{channel}/chatters`: who is in a room, over all edges, a page
//! at a time. Names come where the room tells them and has few enough.
//!
//! `after` is a login, the names behind which are asked for; `limit` how many at
//! most, 1 to [`MOST`]. What can't be either is answered 400, other parameters are
//! ignored. A room is looked at that somebody reads here, or whose channel is on.

use std::time::Duration;

use common::{
    api::Problem,
    chat::{Login, presence::MAX_NAMES},
    names::ChannelName,
};

use super::{
    channels::unknown,
    response::{self, Answer, BRIEF},
    service::{Asked, Impatience, api_answer},
};
use crate::api;

/// Names of one page at most: all that a room tells.
const MOST: usize = MAX_NAMES;

/// Names of a page that asked for no number.
const USUAL: usize = 100;

/// A room that nobody read here is heard of within this, or not at all.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, PartialEq, Eq)]
struct Page {
    after: Option<Login>,
    limit: usize,
}

/// What is wrong with what is no page.
const NO_PAGE: &str = "after is a login, limit is 1 to 1000";

/// `None` for what is no page.
fn page(query: Option<&str>) -> Option<Page> {
    let mut page = Page {
        after: None,
        limit: USUAL,
    };
    for pair in query.unwrap_or_default().split('&') {
        match pair.split_once('=') {
            Some(("after", login)) => page.after = Some(Login::parse(login).ok()?),
            Some(("limit", count)) => {
                let count = count.parse().ok()?;
                page.limit = Some(count).filter(|count| (1..=MOST).contains(count))?;
            }
            _ => {}
        }
    }
    Some(page)
}

pub(super) async fn answer(asked: &Asked<'_>, channel: &ChannelName) -> Answer {
    let Some(page) = page(asked.query) else {
        return response::problem(&Problem::bad(NO_PAGE), BRIEF);
    };
    let not_found = || unknown(asked.server);
    let Some(chat) = &asked.server.chat else {
        return not_found();
    };
    let present = match chat.present(channel) {
        Some(present) => Some(present),
        None if asked.server.upstream.directory().get(channel).is_none() => None,
        None => match asked.patiently(PATIENCE, chat.present_soon(channel)).await {
            Ok(present) => present,
            Err(Impatience::TimedOut) => chat.present(channel),
            Err(why) => return why.problem(),
        },
    };
    let Some(present) = present else {
        return not_found();
    };
    let after = page.after.as_ref().map(Login::as_str);
    api_answer(api::chatters(channel, &present, after, page.limit).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_asked_for_by_name_and_number() {
        let ann = Login::parse("ann").ok();
        let usual = |after| {
            Some(Page {
                after,
                limit: USUAL,
            })
        };
        assert_eq!(page(None), usual(None));
        assert_eq!(page(Some("after=ann&x=y&")), usual(ann.clone()));
        let limit = 1_000;
        assert_eq!(
            page(Some("limit=1000&after=ann")),
            Some(Page { after: ann, limit })
        );
        for bad in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit=",
            "after=Ann",
            "after=",
            "limit=-1",
        ] {
            assert_eq!(page(Some(bad)), None, "{bad}");
        }
    }
}
