//! What every node's ops port answers below `/api/`: the document, and for who has the
//! token of `--api-token` its links and the drain. An edge has no more than this.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::{
    OPENAPI, OPENAPI_PATH,
    links::Links,
    problem::{Problem, problem},
    token::TokenFile,
};
use crate::{
    names::NodeId,
    shutdown::Shutdown,
    telemetry::{Api, ApiAnswer, ApiRequest},
    tls::Role,
};

type SeeLinks = dyn Fn() -> Links + Send + Sync;

/// See the module's text.
pub struct NodeApi {
    node: NodeId,
    role: Role,
    token: Option<Arc<TokenFile>>,
    shutdown: Shutdown,
    links: Box<SeeLinks>,
}

impl fmt::Debug for NodeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeApi").finish_non_exhaustive()
    }
}

impl NodeApi {
    /// Of the node of that name. Without a token only what anybody may read is told.
    #[must_use]
    pub fn new(
        node: NodeId,
        role: Role,
        token: Option<Arc<TokenFile>>,
        shutdown: Shutdown,
        links: impl Fn() -> Links + Send + Sync + 'static,
    ) -> Self {
        Self {
            node,
            role,
            token,
            shutdown,
            links: Box::new(links),
        }
    }

    /// # Errors
    /// 401 for who does not show the token.
    pub fn admit(&self, request: &ApiRequest) -> Result<(), Problem> {
        let text = match &self.token {
            Some(token) if token.lets_in(request.authorization.as_deref()) => return Ok(()),
            Some(_) => "send the header Authorization: Bearer TOKEN, with the token of --api-token",
            None => "this node was started without --api-token, so nobody may do this",
        };
        Err(problem(StatusCode::UNAUTHORIZED, "unauthorized", text))
    }

    /// The answer, where the path is one of every node's.
    ///
    /// # Errors
    /// [`Problem`]s of such a path.
    pub fn answer(&self, request: &ApiRequest) -> Result<Option<ApiAnswer>, Problem> {
        let method = &request.method;
        let text = match request.path.as_str() {
            OPENAPI_PATH => {
                only(method, &[Method::GET])?;
                return Ok(Some((
                    StatusCode::OK,
                    Bytes::from_static(OPENAPI.as_bytes()),
                )));
            }
            "/api/v1/links" => {
                self.admit(request)?;
                only(method, &[Method::GET])?;
                (self.links)().json(&self.node, self.role)
            }
            "/api/v1/drain" => {
                self.admit(request)?;
                only(method, &[Method::POST])?;
                tracing::info!("told to drain over the ops port");
                self.shutdown.drain();
                let told = r#"{"draining":true}"#.into();
                return Ok(Some((StatusCode::ACCEPTED, told)));
            }
            _ => return Ok(None),
        };
        Ok(Some((StatusCode::OK, text.into())))
    }

    /// For a node that has no more than this.
    #[must_use]
    pub fn serve(self) -> Api {
        let api = Arc::new(self);
        Arc::new(move |request| {
            let api = api.clone();
            Box::pin(async move {
                let answer = api.answer(&request).transpose();
                let answer = answer.unwrap_or_else(|| Err(Problem::nothing()));
                answer.unwrap_or_else(|problem| (problem.status, problem.json().into()))
            })
        })
    }
}

/// # Errors
/// 405 for another method than these; HEAD is GET.
pub fn only(method: &Method, methods: &[Method]) -> Result<(), Problem> {
    let asked = match *method {
        Method::HEAD => Method::GET,
        _ => method.clone(),
    };
    if methods.contains(&asked) {
        return Ok(());
    }
    let names: Vec<_> = methods.iter().map(Method::as_str).collect();
    Err(Problem::method(&names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "sK8mVYJ0rT4cW1xQ7nZbEg";

    fn api(shutdown: &Shutdown, token: bool) -> Api {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, TOKEN).unwrap();
        let token = token.then(|| TokenFile::open("--api-token", file).unwrap());
        let node = NodeId::parse("edge-1").unwrap();
        NodeApi::new(node, Role::Edge, token, shutdown.clone(), Links::default).serve()
    }

    async fn call(api: &Api, method: Method, path: &str, token: Option<&str>) -> (u16, String) {
        let request = ApiRequest {
            method,
            path: path.to_owned(),
            query: None,
            authorization: token.map(|token| format!("Bearer {token}")),
            body: Bytes::new(),
        };
        let (status, body) = api(request).await;
        (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn who_has_no_token_learns_and_does_nothing() {
        let shutdown = Shutdown::new();
        for (api, shown) in [
            (api(&shutdown, true), Some("wrong")),
            (api(&shutdown, false), Some(TOKEN)),
        ] {
            for (method, path) in [
                (Method::GET, "/api/v1/links"),
                (Method::POST, "/api/v1/drain"),
            ] {
                for token in [None, shown] {
                    let (status, body) = call(&api, method.clone(), path, token).await;
                    assert_eq!(status, 401, "{path}");
                    assert!(body.contains("--api-token"), "{body}");
                }
            }
            let (status, document) = call(&api, Method::GET, OPENAPI_PATH, None).await;
            assert_eq!((status, &*document), (200, OPENAPI));
        }
        assert!(!shutdown.is_draining());
    }

    #[tokio::test]
    async fn an_operator_sees_links_and_drains() {
        let shutdown = Shutdown::new();
        let api = api(&shutdown, true);
        let (status, links) = call(&api, Method::GET, "/api/v1/links", Some(TOKEN)).await;
        let none = r#"{"node":"edge-1","role":"edge","parents":[],"children":[]}"#;
        assert_eq!((status, &*links), (200, none));
        let (status, error) = call(&api, Method::GET, "/api/v1/drain", Some(TOKEN)).await;
        assert_eq!(status, 405);
        assert!(error.contains("there is POST"), "{error}");
        assert_eq!(
            call(&api, Method::GET, "/api/v1/x", Some(TOKEN)).await.0,
            404
        );
        assert!(!shutdown.is_draining());
        let (status, _) = call(&api, Method::POST, "/api/v1/drain", Some(TOKEN)).await;
        assert_eq!((status, shutdown.is_draining()), (202, true));
    }
}
