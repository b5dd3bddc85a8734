//! From an HTTP/1.1 request to a WebSocket (RFC 6455, 4.2): what is asked, who may,
//! and the answer's headers.

use common::shutdown::Shutdown;
use hyper::{
    HeaderMap, Request, StatusCode, Version,
    header::{
        CONNECTION, HOST, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};

use super::{Broken, Chat, form::Framing, negotiate, ws};

/// Why a request for a WebSocket is not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(pub StatusCode);

/// A WebSocket that is granted.
#[derive(Debug)]
pub struct Upgrade {
    pub framing: Framing,
    accept: HeaderValue,
    protocol: Option<&'static str>,
}

/// Whether a request wants another protocol than HTTP on this connection.
#[must_use]
pub fn asks_for_websocket<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    request.version() == Version::HTTP_11
        && matches!(path, "/chat" | "/")
        && has_token(request.headers(), &UPGRADE, "websocket")
}

impl Chat {
    /// Grants a WebSocket, or says with which status not.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn upgrade<B>(&self, request: &Request<B>) -> Result<Upgrade, Refusal> {
        let headers = request.headers();
        let is_get = request.method() == hyper::Method::GET;
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .and_then(|key| key.to_str().ok());
        // Sixteen bytes in base64.
        let key = key.filter(|key| key.len() == 24 && key.ends_with("=="));
        let (Some(key), true) = (key, is_get && has_token(headers, &CONNECTION, "upgrade")) else {
            return Err(Refusal(StatusCode::BAD_REQUEST));
        };
        if headers
            .get(SEC_WEBSOCKET_VERSION)
            .is_none_or(|version| version != "13")
        {
            return Err(Refusal(StatusCode::UPGRADE_REQUIRED));
        }
        if !self.may_chat(headers) {
            self.0.metrics.closed(Broken::Origin);
            return Err(Refusal(StatusCode::FORBIDDEN));
        }
        let shutdown: &Shutdown = &self.0.shutdown;
        if shutdown.is_draining() {
            return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE));
        }
        let offers = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim);
        let (framing, protocol) = negotiate(offers);
        let accept = HeaderValue::from_str(&ws::accept_value(key));
        Ok(Upgrade {
            framing,
            accept: accept.map_err(|_| Refusal(StatusCode::BAD_REQUEST))?,
            protocol,
        })
    }

    /// A page of another site must be allowed; what is no page says no origin.
    fn may_chat(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN) else {
            return true;
        };
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let own = origin.split_once("://").map(|(_, host)| host);
        if own.is_some() && own == host {
            return true;
        }
        let allowed = &self.0.config.chat_allow_origins;
        allowed.iter().any(|one| one == "*" || one == origin)
    }
}

impl Upgrade {
    /// The headers of 101.
    pub fn headers(self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}
