//! From a request to a chat connection: the answer that switches protocols, and the
//! task that takes the socket over from hyper once it is sent.

use bytes::Bytes;
use hyper::{
    HeaderMap, Request, StatusCode,
    body::{Body as _, Incoming},
    header::{HeaderValue, SEC_WEBSOCKET_VERSION},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::{
    body::Body,
    connection::Connection,
    http1::Rewound,
    response::{self, Answer, NO_STORE},
    socket::Socket,
};
use crate::chat::{Admitted, Chat, Framing, Refusal};

pub(super) fn answer(
    chat: &Chat,
    connection: &Connection,
    request: &mut Request<Incoming>,
) -> Answer {
    let refused = |status| {
        let mut answer = response::closing(response::error(status, NO_STORE));
        if status == StatusCode::UPGRADE_REQUIRED {
            let version = HeaderValue::from_static("13");
            answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
        }
        answer
    };
    if !request.body().is_end_stream() {
        return refused(StatusCode::BAD_REQUEST);
    }
    let upgrade = match chat.upgrade(request) {
        Ok(upgrade) => upgrade,
        Err(Refusal(status)) => return refused(status),
    };
    let Ok(admitted) = chat.admit(connection.peer) else {
        return refused(StatusCode::SERVICE_UNAVAILABLE);
    };
    let upgraded = hyper::upgrade::on(request);
    let (chat, framing) = (chat.clone(), upgrade.framing);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => serve(&chat, upgraded, admitted, framing),
            Err(error) => debug!(%error, "no WebSocket after all"),
        }
    });
    let mut headers = HeaderMap::new();
    upgrade.headers(&mut headers);
    Answer::new(StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty())
}

/// Takes the socket out of hyper's buffers, so that none of them stay, into a task
/// that is as small as a chat connection.
fn serve(chat: &Chat, upgraded: Upgraded, admitted: Admitted, framing: Framing) {
    match taken::<Socket>(upgraded) {
        Ok((socket, early)) => {
            tokio::spawn(chat.serve(socket, admitted, framing, early));
        }
        Err(upgraded) => {
            // Listeners make no third kind.
            if let Ok((socket, early)) = taken::<TlsStream<Socket>>(upgraded) {
                tokio::spawn(chat.serve(socket, admitted, framing, early));
            }
        }
    }
}

/// The socket and what was read ahead of it.
fn taken<I>(upgraded: Upgraded) -> Result<(I, Bytes), Upgraded>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let parts = upgraded.downcast::<TokioIo<Rewound<I>>>()?;
    let (io, unread) = parts.io.into_inner().into_parts();
    Ok((io, Bytes::from([parts.read_buf, unread].concat())))
}
