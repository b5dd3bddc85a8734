//! The origin's web API, on its ops port: what is on for anybody who reaches the port,
//! and for who has the token of `--api-token` everything else: titles, ends of
//! broadcasts, stream keys, links, the drain. Moderation is `chat`'s.
//!
//! In: requests below `/api/`. Out: JSON. `wanted` reads a request without I/O; deeds
//! are those of [`KeyRing`], [`Titles`] and [`Control`]. Invariant: who has no token
//! learns nothing but what edges tell everybody, and changes nothing.

mod wanted;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    api::{ChannelList, NodeApi, Problem, Renewed, Seen, problem},
    chat::home::home,
    live::{Abouts, Audience, Crowd, Directory, Hearsay},
    names::{ChannelName, NodeId},
    telemetry::{Api, ApiAnswer, ApiRequest, metrics::int_counter_vec},
};
use http::StatusCode;
use prometheus::{IntCounterVec, Registry};
use serde::Serialize;
use tokio::{sync::watch, time::timeout};

use crate::{
    broadcast::{Control, TitleError, Titles},
    keys::{EditError, KeyId, KeyRing},
};
use wanted::{KeyPage, Wanted, wanted};

/// How long a channel list is told before the next is made.
const LISTED_FOR: Duration = Duration::from_secs(1);

/// A deed takes this long at most, as far as who asked is concerned; the ops port's
/// connections end a little later.
const PATIENCE: Duration = Duration::from_secs(8);

/// What it looks at and what it does things with.
pub struct WebApi {
    pub node: NodeId,
    pub common: NodeApi,
    /// Answers what is below `/api/v1/chat/`.
    pub chat: Option<Api>,
    pub directory: Arc<Directory>,
    pub abouts: Arc<Abouts>,
    pub audience: Arc<Audience>,
    /// What edges say that other origins count.
    pub hearsay: Arc<Hearsay>,
    /// The nodes over which rooms are spread; none where each has every room.
    pub origins: watch::Receiver<Vec<NodeId>>,
    pub titles: Arc<Titles>,
    pub keys: Arc<KeyRing>,
    pub control: Control,
}

impl std::fmt::Debug for WebApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebApi").finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Titled<'a> {
    name: &'a str,
    title: &'a str,
    tags: &'a [String],
}

#[derive(Serialize)]
struct ListedKey<'a> {
    id: String,
    channel: &'a str,
    /// Told once, to who had it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

#[derive(Serialize)]
struct KeyList<'a> {
    keys: Vec<ListedKey<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl WebApi {
    /// What the ops port answers by.
    #[must_use]
    pub fn serve(self, registry: &Registry) -> Api {
        let counted = int_counter_vec(
            registry,
            "millrace_api_requests_total",
            "Requests to the web API on the ops port but for moderation, by status.",
            &["status"],
        );
        let (api, lists) = (Arc::new(self), Renewed::every(LISTED_FOR));
        Arc::new(move |request| {
            let (api, lists, counted) = (api.clone(), lists.clone(), counted.clone());
            Box::pin(async move {
                if let Some(chat) = &api.chat
                    && request.path.starts_with("/api/v1/chat/")
                {
                    return chat(request).await;
                }
                api.counted(&request, &lists, &counted).await
            })
        })
    }

    async fn counted(
        self: &Arc<Self>,
        request: &ApiRequest,
        lists: &Renewed<ChannelList>,
        counted: &IntCounterVec,
    ) -> ApiAnswer {
        let answer = timeout(PATIENCE, self.answer(request, lists)).await;
        let answer = answer.unwrap_or_else(|_| {
            let text = "this took too long; what was asked may be done";
            Err(problem(StatusCode::GATEWAY_TIMEOUT, "timeout", text))
        });
        let (status, body) =
            answer.unwrap_or_else(|problem| (problem.status, problem.json().into()));
        counted.with_label_values(&[status.as_str()]).inc();
        (status, body)
    }

    async fn answer(
        self: &Arc<Self>,
        request: &ApiRequest,
        lists: &Renewed<ChannelList>,
    ) -> Result<ApiAnswer, Problem> {
        if let Some(answer) = self.common.answer(request)? {
            return Ok(answer);
        }
        let ok = |body: Bytes| Ok((StatusCode::OK, body));
        match wanted(request, || self.common.admit(request))? {
            Wanted::Channels(page) => {
                let api = self.clone();
                ok(lists.get(move || api.list()).await.joined(&page))
            }
            Wanted::Channel(name) => ok(self.channel(&name)?),
            Wanted::Title { name, title, tags } => {
                let titles = self.titles.clone();
                let set = move || {
                    let about = titles.set(&name, title, tags)?;
                    Ok::<_, TitleError>(json(&Titled {
                        name: name.as_str(),
                        title: &about.title,
                        tags: &about.tags,
                    }))
                };
                ok(off_thread(set).await?)
            }
            Wanted::End(name) => {
                if self.control.end(name.clone()).await {
                    return ok(r#"{"ended":true}"#.into());
                }
                let text = format!("there is no broadcast of {name} to end");
                Err(problem(StatusCode::NOT_FOUND, "not_live", text))
            }
            Wanted::Keys(page) => ok(self.key_list(&page)),
            Wanted::AddKey { channel, key } => {
                let keys = self.keys.clone();
                let add = move || {
                    let added = keys.add(&channel, key)?;
                    Ok::<_, EditError>(json(&ListedKey {
                        id: added.id.to_string(),
                        channel: channel.as_str(),
                        key: Some(&added.key),
                    }))
                };
                Ok((StatusCode::CREATED, off_thread(add).await?))
            }
            Wanted::RevokeKey(id) => {
                let keys = self.keys.clone();
                let revoke = move || {
                    let channel = keys.revoke(id)?;
                    Ok::<_, EditError>(json(&listed_key(&channel, id)))
                };
                ok(off_thread(revoke).await?)
            }
        }
    }

    /// Everybody over all edges. Rooms whose home is another origin are counted there,
    /// and known here where an edge is linked to both.
    fn counts(&self, channel: &ChannelName) -> Option<Crowd> {
        let origins = self.origins.borrow();
        match home(channel, &origins) {
            Some(home) if *home != self.node => self.hearsay.get(home, channel),
            _ => Some(self.audience.get(channel)),
        }
    }

    fn list(&self) -> ChannelList {
        let (known, abouts) = (self.directory.snapshot(), self.abouts.snapshot());
        let seen = known.iter().map(|channel| {
            let name = &channel.announcement.channel;
            let counts = self.counts(name);
            Seen {
                channel,
                about: abouts.get(name).map(|about| &**about),
                viewers: counts.map(|crowd| crowd.viewers.into()),
                chatters: counts.map(|crowd| crowd.chatters.into()),
            }
        });
        ChannelList::of(seen)
    }

    fn channel(&self, name: &ChannelName) -> Result<Bytes, Problem> {
        let channel = self.directory.get(name).ok_or_else(Problem::no_channel)?;
        let (about, counts) = (self.abouts.get(name), self.counts(name));
        let seen = Seen {
            channel: &channel,
            about: about.as_deref(),
            viewers: counts.map(|crowd| crowd.viewers.into()),
            chatters: counts.map(|crowd| crowd.chatters.into()),
        };
        Ok(seen.detailed())
    }

    fn key_list(&self, page: &KeyPage) -> Bytes {
        let keys = self.keys.list();
        let from = page.after.as_ref().map_or(0, |after| {
            keys.partition_point(|(channel, id)| (channel, id) <= (&after.0, &after.1))
        });
        let rest = keys.get(from..).unwrap_or_default();
        let shown = rest.get(..page.limit).unwrap_or(rest);
        let next = shown.last().filter(|_| shown.len() < rest.len());
        json(&KeyList {
            keys: shown.iter().map(|(of, id)| listed_key(of, *id)).collect(),
            next: next.map(|(channel, id)| format!("{channel}.{id}")),
        })
    }
}

fn listed_key(channel: &ChannelName, id: KeyId) -> ListedKey<'_> {
    ListedKey {
        id: id.to_string(),
        channel: channel.as_str(),
        key: None,
    }
}

/// Strings and numbers always have a JSON form.
fn json(what: &impl Serialize) -> Bytes {
    serde_json::to_vec(what).unwrap_or_default().into()
}

/// Files may be on a slow disk.
async fn off_thread<E: Into<Problem> + Send + 'static>(
    deed: impl FnOnce() -> Result<Bytes, E> + Send + 'static,
) -> Result<Bytes, Problem> {
    let done = tokio::task::spawn_blocking(deed).await;
    let done = done.map_err(|error| {
        let (status, text) = (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        problem(status, "internal", text)
    })?;
    done.map_err(Into::into)
}

impl From<TitleError> for Problem {
    fn from(error: TitleError) -> Self {
        let (status, code) = match error {
            TitleError::Full => (StatusCode::CONFLICT, "full"),
            TitleError::Write(_) => (StatusCode::INTERNAL_SERVER_ERROR, "not_written"),
        };
        problem(status, code, error.to_string())
    }
}

impl From<EditError> for Problem {
    fn from(error: EditError) -> Self {
        let (status, code) = match error {
            EditError::NoFile => (StatusCode::CONFLICT, "no_keys_file"),
            EditError::Key => (StatusCode::BAD_REQUEST, "bad_request"),
            EditError::Known => (StatusCode::CONFLICT, "known"),
            EditError::Full => (StatusCode::CONFLICT, "full"),
            EditError::NoKey => (StatusCode::NOT_FOUND, "not_found"),
            EditError::File(_) => (StatusCode::CONFLICT, "keys_file"),
            EditError::Write(_) | EditError::Random => {
                (StatusCode::INTERNAL_SERVER_ERROR, "not_written")
            }
        };
        problem(status, code, error.to_string())
    }
}
