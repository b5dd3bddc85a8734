//! Moderation for an operator's tools: JSON over HTTP on the ops port, for who has
//! the token. What is asked goes through the room's actor as a moderator's command
//! does, with the rights of the broadcaster.
//!
//! In: requests below `/api/v1/chat/ROOM`. Out: JSON, `{"error": {"code", "message"}}`
//! where something is wrong. `wanted` reads a request without I/O, `shown` is what
//! answers look like; the rest asks the room. Where origins share rooms over a bus any
//! of them answers; where rooms are spread over origins, those of another one are not
//! here, and the answer names it. The token is that of `--chat-api-token`, or `--api-token`'s, which opens all.

mod shown;
mod wanted;

use std::{path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::rand;
use clap::Args;
use common::{
    api::{Problem, TokenError, TokenFile, problem},
    chat::{
        Asked, Command, Login, MessageId, Notice, NoticeId, Request, Roles, RoomHandle, Sender,
        User, Verdict,
        home::home,
        request::{Ask, Insight},
    },
    link::{ChatPort, Code, OpenRoom},
    names::{ChannelName, NodeId},
    reload::Reloads,
    telemetry::{Api, ApiRequest},
};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::ChatMetrics;
use wanted::{Wanted, wanted};

/// Bans in one answer.
const MOST_BANS: usize = 1_000;

/// A room that does not answer is told so before the connection ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// Flags of the interface.
#[derive(Debug, Clone, Default, Args)]
pub struct ChatApiConfig {
    /// File whose first line is a bearer token for moderation over the ops port (/api/v1/chat/ROOM) and nothing else, 22 characters or more; read again when it changes and on SIGHUP; --api-token moderates too
    #[arg(long, env = "MILLRACE_CHAT_API_TOKEN", value_name = "FILE")]
    pub chat_api_token: Option<PathBuf>,
}

/// See the module's text.
#[derive(Debug)]
pub struct ChatApi {
    /// Of moderators' tools, which may do nothing else.
    moderators: Option<Arc<TokenFile>>,
    /// Of the operator's, which may do everything.
    operators: Option<Arc<TokenFile>>,
}

impl ChatApi {
    /// `None` without the flag and without `operators`, the token of `--api-token`.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn from_config(
        config: &ChatApiConfig,
        operators: Option<Arc<TokenFile>>,
    ) -> Result<Option<Arc<Self>>, TokenError> {
        let file = config.chat_api_token.clone();
        let moderators = file.map(|file| TokenFile::open("--chat-api-token", file));
        let moderators = moderators.transpose()?;
        if moderators.is_none() && operators.is_none() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self {
            moderators,
            operators,
        })))
    }

    /// Has the moderators' token read again when its file changes.
    pub fn watched_by(&self, reloads: &mut Reloads) {
        if let Some(token) = &self.moderators {
            token.watched_by("chat interface token", reloads);
        }
    }

    fn lets_in(&self, authorization: Option<&str>) -> bool {
        let mut tokens = self.moderators.iter().chain(&self.operators);
        tokens.any(|token| token.lets_in(authorization))
    }

    /// What the ops port answers by: rooms are asked for at `port`, in `node`'s name.
    #[must_use]
    pub fn serve(self: Arc<Self>, port: ChatPort, node: NodeId, metrics: ChatMetrics) -> Api {
        Arc::new(move |request| {
            let (api, port, node) = (self.clone(), port.clone(), node.clone());
            let metrics = metrics.clone();
            Box::pin(async move {
                let answer = timeout(PATIENCE, api.answer(request, &port, node)).await;
                let answer = answer.unwrap_or_else(|_| {
                    let text = "the room did not answer in time; what was asked may be done";
                    Err(problem(StatusCode::GATEWAY_TIMEOUT, "timeout", text))
                });
                let (status, json) = match answer {
                    Ok((status, json)) => (status, format!("{json}\n")),
                    Err(problem) => (problem.status, problem.json()),
                };
                metrics.api.with_label_values(&[status.as_str()]).inc();
                (status, json.into())
            })
        })
    }

    async fn answer(
        &self,
        request: ApiRequest,
        port: &ChatPort,
        node: NodeId,
    ) -> Result<(StatusCode, Value), Problem> {
        if !self.lets_in(request.authorization.as_deref()) {
            let text = "send the header Authorization: Bearer TOKEN, with the token of --chat-api-token or --api-token";
            return Err(problem(StatusCode::UNAUTHORIZED, "unauthorized", text));
        }
        let (room, wanted) = wanted(
            &request.method,
            &request.path,
            request.query.as_deref(),
            &request.body,
        )?;
        let handle = open(port, room.clone()).await?;
        match wanted {
            Wanted::Look { after, show } => {
                let insight = look(&handle, after).await?;
                Ok((StatusCode::OK, show(&room, &insight)))
            }
            Wanted::Do { commands, by } => {
                let mut told = Value::Null;
                for command in commands {
                    told = command_told(&asked(&handle, &node, &by, command).await?)?;
                }
                Ok((StatusCode::OK, told))
            }
        }
    }
}

fn gone() -> Problem {
    let text = "the room is not to be had just now";
    problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
}

async fn open(port: &ChatPort, room: ChannelName) -> Result<RoomHandle, Problem> {
    let elsewhere = home(&room, &port.origins.borrow()).cloned();
    let (reply, opened) = oneshot::channel();
    let asked = port.opens.send(OpenRoom { room, reply }).await;
    asked.map_err(|_| gone())?;
    match opened.await.unwrap_or(Err(Code::OriginLost)) {
        Ok(handle) => Ok(handle),
        Err(Code::NotHere) => {
            let home =
                elsewhere.map_or_else(|| "another origin".to_owned(), |home| home.to_string());
            let text = format!("the home of this room is {home}; ask there");
            Err(problem(StatusCode::MISDIRECTED_REQUEST, "not_here", text))
        }
        Err(_) => Err(gone()),
    }
}

async fn look(handle: &RoomHandle, bans_after: Option<Login>) -> Result<Box<Insight>, Problem> {
    let (reply, insight) = oneshot::channel();
    let asked = Asked::Look {
        bans_after,
        most_bans: MOST_BANS,
        reply,
    };
    handle.asks.send(asked).await.map_err(|_| gone())?;
    insight.await.map_err(|_| gone())
}

async fn asked(
    handle: &RoomHandle,
    node: &NodeId,
    by: &Login,
    command: Command,
) -> Result<Verdict, Problem> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| gone())?;
    let request = Request {
        id: MessageId::random(bytes),
        sender: Sender {
            user: User::named(by.clone()),
            roles: Roles {
                broadcaster: true,
                ..Roles::default()
            },
            follows_since: None,
            // Which is what makes it a tool.
            network: None,
        },
        ask: Ask::Do(command),
    };
    let (sender, mut verdict) = mpsc::channel(1);
    let reply = sender.reserve_owned().await.map_err(|_| gone())?;
    let asked = Asked::Request {
        from: node.clone(),
        request: Box::new(request),
        reply,
    };
    handle.asks.send(asked).await.map_err(|_| gone())?;
    let told = verdict.recv().await;
    told.map(|(_, verdict)| verdict).ok_or_else(gone)
}

fn command_told(verdict: &Verdict) -> Result<Value, Problem> {
    let done = |notice: &Notice| json!({ "ok": true, "msg_id": notice.id.as_str(), "message": notice.text });
    match verdict {
        Verdict::Said(stamp) => Ok(json!({ "ok": true, "id": stamp.id.to_string() })),
        Verdict::Done(notice) | Verdict::Raids { notice, .. } => Ok(done(notice)),
        Verdict::Refused(notice) => Err(Problem {
            status: refusal_status(notice.id),
            code: notice.id.as_str(),
            message: notice.text.clone(),
        }),
    }
}

const fn refusal_status(id: NoticeId) -> StatusCode {
    use NoticeId as N;
    match id {
        N::MsgRateLimit => StatusCode::TOO_MANY_REQUESTS,
        N::NoPermission => StatusCode::FORBIDDEN,
        N::BadUnbanNoBan
        | N::BadHeldMessage
        | N::BlockedTermNotFound
        | N::BadDeleteMessageError
        | N::BadUnmodMod
        | N::BadUnvipGranteeNotVip => StatusCode::NOT_FOUND,
        _ => StatusCode::CONFLICT,
    }
}

#[cfg(test)]
mod tests;
