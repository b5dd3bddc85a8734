//! What the interface shows of a room, as JSON.

use common::{
    chat::{
        Settings, Text,
        request::{BanSeen, Insight},
    },
    names::ChannelName,
};
use serde_json::{Value, json};

/// One view of a room.
pub(super) type Show = fn(&ChannelName, &Insight) -> Value;

pub(super) fn part(part: &str) -> Option<Show> {
    Some(match part {
        "settings" => |_, seen| settings(seen.settings),
        "bans" => |_, seen| bans(seen, |ban| ban.until.is_none(), "bans"),
        "timeouts" => |_, seen| bans(seen, |ban| ban.until.is_some(), "timeouts"),
        "terms" => |_, seen| json!({ "terms": terms(seen) }),
        "held" => |_, seen| json!({ "held": held(seen) }),
        "roles" => |_, seen| json!({ "roles": roles(seen) }),
        _ => return None,
    })
}

/// The room as a whole; its bans are too many for that.
pub(super) fn all(room: &ChannelName, seen: &Insight) -> Value {
    json!({
        "room": room.as_str(),
        "settings": settings(seen.settings),
        "bans_and_timeouts": seen.bans_in_all,
        "roles": roles(seen),
        "terms": terms(seen),
        "held": held(seen),
    })
}

fn settings(settings: Settings) -> Value {
    let Settings {
        slow_s,
        followers_min,
        subscribers_only,
        emote_only,
        unique,
        no_links,
    } = settings;
    json!({
        "slow_s": slow_s,
        "followers_min": followers_min,
        "subscribers_only": subscribers_only,
        "emote_only": emote_only,
        "unique": unique,
        "no_links": no_links,
    })
}

/// `next` is what to ask for `after` where there may be more.
fn bans(seen: &Insight, which: fn(&BanSeen) -> bool, name: &str) -> Value {
    let listed = seen
        .bans
        .iter()
        .filter(|(_, ban)| which(ban))
        .map(|(login, ban)| {
            json!({
                "login": login.as_str(),
                "until_ms": ban.until.map(|until| until.0),
                "network": ban.network,
                "by": ban.by.as_str(),
                "reason": ban.reason.as_ref().map(Text::as_str),
                "at_ms": ban.at.0,
            })
        });
    let last = seen
        .bans
        .last()
        .filter(|_| seen.bans.len() == super::MOST_BANS);
    json!({
        name: listed.collect::<Vec<_>>(),
        "next": last.map(|(login, _)| login.as_str()),
    })
}

fn terms(seen: &Insight) -> Vec<Value> {
    let terms = seen.terms.iter();
    terms
        .map(|(term, action)| json!({ "term": term.as_str(), "action": action.as_str() }))
        .collect()
}

fn roles(seen: &Insight) -> Vec<Value> {
    let roles = seen.roles.iter();
    roles
        .map(|(login, roles)| json!({ "login": login.as_str(), "roles": roles.words().collect::<Vec<_>>() }))
        .collect()
}

fn held(seen: &Insight) -> Vec<Value> {
    let held = seen.held.iter();
    held.map(|held| {
        json!({
            "id": held.id.to_string(),
            "login": held.login.as_str(),
            "text": held.text.as_str(),
            "at_ms": held.at.0,
        })
    })
    .collect()
}
