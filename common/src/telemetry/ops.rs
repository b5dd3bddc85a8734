//! The ops port: `/metrics`, `/healthz`, `/readyz` over HTTP/1.1, on an origin
//! `/ingests` ([`OpsServer::listing`]), and below `/api/`
//! what a binary brings along ([`OpsServer::with_api`]).
//!
//! In: requests of operators and scrapers, on loopback unless told otherwise.
//! Out: small texts. Owned by `main`, which spawns [`OpsServer::run`].
//! Invariant: it holds at most [`MAX_CONNECTIONS`] connections, each for at most
//! `CONNECTION_LIFE`, and reads no request body but the interface's, of at most
//! [`MAX_API_BODY_BYTES`], so that an exposed ops port costs a node bounded memory. Metrics tell about viewers in sums only and
//! hold no keys.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::Readiness;
use crate::api::problem;
use crate::ingest::{Ingests, list};
use crate::shutdown::{Guard, Shutdown};

/// Scrapers and health checks come a few at a time; more wait in the kernel's
/// accept queue.
pub const MAX_CONNECTIONS: usize = 32;

/// A request's headers arrive within this time or the connection is closed.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);

/// One connection carries one request; a peer that reads its answer more slowly
/// than this gives its place to the next.
const CONNECTION_LIFE: Duration = Duration::from_secs(10);

/// Request line and headers together: ours need a hundred bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// A request to the interface: a command, not a file.
pub const MAX_API_BODY_BYTES: usize = 16 * 1024;

/// Everything below this path goes to the interface, where there is one.
const API_PREFIX: &str = "/api/";

/// After a failed accept (no descriptors left) the next try waits this long,
/// so that the failure does not take a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Flags of the ops port.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Operations")]
pub struct OpsConfig {
    /// Where to serve /metrics, /healthz and /readyz [default: 127.0.0.1, port 9100 on an origin, 9101 on an edge]
    #[arg(long, env = "MILLRACE_OPS_LISTEN", value_name = "ADDRESS:PORT")]
    pub ops_listen: Option<SocketAddr>,
}

impl OpsConfig {
    /// The address to listen on; `default_port` is the binary's.
    #[must_use]
    pub fn listen(&self, default_port: u16) -> SocketAddr {
        self.ops_listen
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], default_port)))
    }
}

/// A request to a binary's own interface.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    pub method: Method,
    /// As it was sent, percent signs and all.
    pub path: String,
    pub query: Option<String>,
    /// The header, which holds a secret.
    pub authorization: Option<String>,
    pub body: Bytes,
}

/// A status and JSON.
pub type ApiAnswer = (StatusCode, Bytes);

/// Answers requests; whom it answers is its own business.
pub type Api =
    Arc<dyn Fn(ApiRequest) -> Pin<Box<dyn Future<Output = ApiAnswer> + Send>> + Send + Sync>;

/// The ops port, bound.
#[derive(Debug)]
pub struct OpsServer {
    listener: TcpListener,
    routes: Routes,
}

#[derive(Clone)]
struct Routes {
    registry: Registry,
    readiness: Readiness,
    ingests: Option<Arc<Ingests>>,
    api: Option<Api>,
    shutdown: Option<Shutdown>,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes").finish_non_exhaustive()
    }
}

impl OpsServer {
    /// Binds the port, so that a taken one is known before the node starts.
    pub async fn bind(
        listen: SocketAddr,
        registry: Registry,
        readiness: Readiness,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        Ok(Self::on(listener, registry, readiness))
    }

    /// On a port that is bound already.
    #[must_use]
    pub fn on(listener: TcpListener, registry: Registry, readiness: Readiness) -> Self {
        Self {
            listener,
            routes: Routes {
                registry,
                readiness,
                ingests: None,
                api: None,
                shutdown: None,
            },
        }
    }

    /// Answers what comes below `/api/` by `api`. The process waits for these answers
    /// to be read when it drains, so that who has it drain is told.
    #[must_use]
    pub fn with_api(mut self, api: Api, shutdown: Shutdown) -> Self {
        self.routes.api = Some(api);
        self.routes.shutdown = Some(shutdown);
        self
    }

    /// Answers `/ingests` with these places to publish to.
    #[must_use]
    pub fn listing(mut self, ingests: Arc<Ingests>) -> Self {
        self.routes.ingests = Some(ingests);
        self
    }

    /// Where it listens; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the future is dropped: health stays visible through a drain.
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((socket, peer)) => {
                    let routes = self.routes.clone();
                    tokio::spawn(async move {
                        serve(socket, peer, routes).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "ops port can't accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(socket: TcpStream, peer: SocketAddr, routes: Routes) {
    // Held until the answer has left.
    let asked: Arc<Mutex<Option<Guard>>> = Arc::default();
    let asking = asked.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let routes = routes.clone();
        let asking = asking.clone();
        async move {
            let response = match &routes.api {
                Some(api) if request.uri().path().starts_with(API_PREFIX) => {
                    *asking.lock() = routes.shutdown.as_ref().map(Shutdown::guard);
                    call(api, request).await
                }
                _ => routes.answer(&request),
            };
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_header_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    match tokio::time::timeout(CONNECTION_LIFE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%peer, %error, "ops connection failed"),
        Err(_) => debug!(%peer, "ops connection outlived its time"),
    }
    drop(asked);
}

async fn call(api: &Api, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_API_BODY_BYTES).collect().await else {
        let why = "a body has at most 16 KiB";
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return json(status, problem(status, "too_large", why).json());
    };
    let authorization = head.headers.get(AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok());
    let (status, body) = api(ApiRequest {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        authorization: authorization.map(str::to_owned),
        body: body.to_bytes(),
    })
    .await;
    json(status, body)
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = text(status, body);
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

impl Routes {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        // A body has no meaning here, and reading it would be work for nothing.
        if !request.body().is_end_stream() {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "no request body, please\n");
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => {
                let (ready, words) = self.readiness.report();
                let status = if ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                text(status, words)
            }
            "/ingests" if self.ingests.is_some() => self.list(request.uri().query()),
            _ => text(
                StatusCode::NOT_FOUND,
                "there is /metrics, /healthz and /readyz\n",
            ),
        }
    }

    fn list(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        let all = self.ingests.as_ref().map(|ingests| ingests.all());
        match list::asker(query) {
            Ok(asker) => json(
                StatusCode::OK,
                list::json(all.as_deref().unwrap_or_default(), asker),
            ),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(body) => {
                let mut response = text(StatusCode::OK, body);
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
                response
            }
            Err(error) => {
                warn!(%error, "metrics can't be written");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "metrics can't be written; the log says why\n",
                )
            }
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::telemetry::metrics;

    async fn started() -> (SocketAddr, Readiness) {
        let readiness = Readiness::new();
        let server = OpsServer::bind(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics::registry("edge"),
            readiness.clone(),
        )
        .await
        .unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(server.run());
        (address, readiness)
    }

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is as good an end as a FIN here.
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    }

    #[tokio::test]
    async fn routes_answer() {
        let (address, readiness) = started().await;
        let metrics = get(address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
        assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.contains("millrace_build_info{"), "{metrics}");
        assert!(
            get(address, "/healthz")
                .await
                .starts_with("HTTP/1.1 200 OK")
        );
        assert!(get(address, "/readyz?x").await.ends_with("\r\n\r\nready\n"));
        readiness.set_draining();
        let draining = get(address, "/readyz").await;
        assert!(draining.starts_with("HTTP/1.1 503 "), "{draining}");
        assert!(draining.contains("draining: "), "{draining}");
        assert!(
            get(address, "/healthz")
                .await
                .starts_with("HTTP/1.1 200 OK")
        );
        assert!(get(address, "/admin").await.starts_with("HTTP/1.1 404 "));
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn other_methods_and_bodies_are_refused() {
        let (address, _readiness) = started().await;
        let head = exchange(address, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
        let refused = exchange(address, post).await;
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        assert!(refused.contains("allow: GET, HEAD"), "{refused}");
        let bodied = "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000\r\n\r\n";
        assert!(exchange(address, bodied).await.starts_with("HTTP/1.1 413 "));
        let long = format!(
            "GET /healthz HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
            "a".repeat(MAX_HEADER_BYTES)
        );
        assert!(!exchange(address, &long).await.contains(" 200 "));
    }

    #[tokio::test]
    async fn an_origin_lists_itself() {
        let server = OpsServer::bind(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics::registry("origin"),
            Readiness::new(),
        );
        let server = server.await.unwrap();
        let address = server.local_addr().unwrap();
        let ingests = Arc::new(Ingests::default());
        tokio::spawn(server.listing(ingests.clone()).run());
        let empty = get(address, "/ingests").await;
        assert!(empty.starts_with("HTTP/1.1 200 "), "{empty}");
        assert!(empty.contains("application/json"), "{empty}");
        assert!(empty.ends_with("{\"ingests\":[]}"), "{empty}");
        ingests.set(vec![crate::ingest::tests::ingest(
            "ams",
            Some((52.37, 4.9)),
        )]);
        let near = get(address, "/ingests?lat=52.37&lon=4.90").await;
        assert!(near.contains("\"distance_km\":0"), "{near}");
        let wrong = get(address, "/ingests?lat=x").await;
        assert!(wrong.starts_with("HTTP/1.1 400 "), "{wrong}");
        assert!(wrong.contains("for example /ingests?lat="), "{wrong}");
        let (elsewhere, _readiness) = started().await;
        assert!(
            get(elsewhere, "/ingests")
                .await
                .starts_with("HTTP/1.1 404 ")
        );
    }

    #[tokio::test]
    async fn an_interface_gets_what_is_below_its_path() {
        let server = OpsServer::bind(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics::registry("origin"),
            Readiness::new(),
        )
        .await
        .unwrap();
        let address = server.local_addr().unwrap();
        let api: Api = Arc::new(|request| {
            Box::pin(async move {
                let told = request.authorization == Some("Bearer x".to_owned());
                let status = if told {
                    StatusCode::OK
                } else {
                    StatusCode::UNAUTHORIZED
                };
                let ApiRequest {
                    method,
                    path,
                    query,
                    body,
                    ..
                } = request;
                let told = format!("{method} {path} {query:?} {}", body.len());
                (status, told.into())
            })
        });
        let server = server.with_api(api, Shutdown::new());
        tokio::spawn(server.run());
        let post = "POST /api/a%20b?c=d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: 2\r\n\r\nhi";
        let answer = exchange(address, post).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("application/json"), "{answer}");
        assert!(
            answer.ends_with("POST /api/a%20b Some(\"c=d\") 2"),
            "{answer}"
        );
        let denied = get(address, "/api/x").await;
        assert!(denied.contains("www-authenticate: Bearer"), "{denied}");
        let long = MAX_API_BODY_BYTES + 1;
        let long = format!(
            "POST /api/x HTTP/1.1\r\nHost: x\r\nContent-Length: {long}\r\n\r\n{}",
            "a".repeat(long)
        );
        assert!(exchange(address, &long).await.starts_with("HTTP/1.1 413 "));
        assert!(get(address, "/healthz").await.ends_with("ok\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_give_their_places_back() {
        let (address, _readiness) = started().await;
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS + 8 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // All places are taken by peers that say nothing; the header deadline
        // frees them, and the queued request is served after all.
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(silent);
    }

    #[test]
    fn the_default_is_loopback() {
        let config = OpsConfig { ops_listen: None };
        assert_eq!(config.listen(9101).to_string(), "127.0.0.1:9101");
    }
}
