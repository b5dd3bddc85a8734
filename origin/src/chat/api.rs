//! Moderation for an operator's tools: JSON over HTTP on the ops port, for who has
//! the token. What is asked goes through the room's actor as a moderator's command
//! does, with the rights of the broadcaster.
//!
//! In: requests below `/api/v1/chat/ROOM`. Out: JSON, `{"error": {"code", "message"}}`
//! where something is wrong. `wanted` reads a request without I/O, `shown` is what
//! answers look like; the rest asks the room. Rooms whose home is another origin are
//! not here. The token is kept and compared as its SHA-256, in constant time.

mod shown;
mod wanted;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{self, SHA256},
    rand,
};
use clap::Args;
use common::{
    chat::{
        Asked, Command, Login, MessageId, Notice, NoticeId, Request, Roles, RoomHandle, Sender,
        User, Verdict,
        request::{Ask, Insight},
    },
    link::{ChatPort, Code, OpenRoom},
    names::{ChannelName, NodeId},
    reload::{self, Files, Reloads},
    telemetry::{Api, ApiRequest},
};
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::ChatMetrics;
use wanted::{Problem, Wanted, problem, wanted};

/// Bans in one answer.
const MOST_BANS: usize = 1_000;

/// A room that does not answer is told so before the connection ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// 22 characters of base64 hold 128 bits; fewer can be guessed.
const SAFE_TOKEN_CHARS: usize = 22;
const MAX_TOKEN_CHARS: usize = 512;

/// Flags of the interface.
#[derive(Debug, Clone, Default, Args)]
pub struct ChatApiConfig {
    /// File whose first line is the bearer token for moderation over the ops port (/api/v1/chat/ROOM), 22 characters or more; read again when it changes and on SIGHUP; without it there is no such interface
    #[arg(long, env = "MILLRACE_CHAT_API_TOKEN", value_name = "FILE")]
    pub chat_api_token: Option<PathBuf>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("--chat-api-token {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error(
        "--chat-api-token {path}: the first line is to be a token of 22 to 512 characters without white space"
    )]
    Form { path: String },
}

/// See the module's text.
#[derive(Debug)]
pub struct ChatApi {
    file: PathBuf,
    token: Mutex<Vec<u8>>,
}

impl ChatApi {
    /// `None` without the flag.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn from_config(config: &ChatApiConfig) -> Result<Option<Arc<Self>>, TokenError> {
        let Some(file) = config.chat_api_token.clone() else {
            return Ok(None);
        };
        let api = Self {
            file,
            token: Mutex::default(),
        };
        api.reload()?;
        Ok(Some(Arc::new(api)))
    }

    /// Has the token read again when its file changes.
    pub fn watched_by(self: &Arc<Self>, reloads: &mut Reloads) {
        let (api, files) = (self.clone(), Files::seen([self.file.clone()]));
        reloads.add("chat interface token", files, move || api.reload());
    }

    fn reload(&self) -> Result<(), TokenError> {
        let path = || self.file.display().to_string();
        let text = reload::read(&self.file).map_err(|source| TokenError::Read {
            path: path(),
            source,
        })?;
        let token = text.lines().next().unwrap_or_default().trim();
        let fits = (SAFE_TOKEN_CHARS..=MAX_TOKEN_CHARS).contains(&token.len());
        if !fits || token.contains(char::is_whitespace) {
            return Err(TokenError::Form { path: path() });
        }
        *self.token.lock() = hash(token);
        Ok(())
    }

    fn lets_in(&self, authorization: Option<&str>) -> bool {
        let token = authorization.and_then(|header| {
            let (scheme, token) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let known = self.token.lock().clone();
        token.is_some_and(|token| verify_slices_are_equal(&hash(token), &known).is_ok())
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
                let (status, json) = answer.unwrap_or_else(told);
                metrics.api.with_label_values(&[status.as_str()]).inc();
                (status, format!("{json}\n"))
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
            let text =
                "send the header Authorization: Bearer TOKEN, with the token of --chat-api-token";
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

fn told(problem: Problem) -> (StatusCode, Value) {
    let Problem {
        status,
        code,
        message,
    } = problem;
    (
        status,
        json!({ "error": { "code": code, "message": message } }),
    )
}

fn hash(token: &str) -> Vec<u8> {
    digest::digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

fn gone() -> Problem {
    let text = "the room is not to be had just now";
    problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
}

async fn open(port: &ChatPort, room: ChannelName) -> Result<RoomHandle, Problem> {
    let (reply, opened) = oneshot::channel();
    let asked = port.opens.send(OpenRoom { room, reply }).await;
    asked.map_err(|_| gone())?;
    match opened.await.unwrap_or(Err(Code::OriginLost)) {
        Ok(handle) => Ok(handle),
        Err(Code::NotHere) => {
            let text = "the home of this room is another origin; ask there";
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
